//! What macOS has for files.

use std::ffi::{CStr, c_char};
use std::fs;
use std::io;
use std::os::fd::AsRawFd;

/// File systems, by name, that have other machines or programs behind them.
const UNSHAREABLE: [(&str, &str); 8] = [
    ("nfs", "NFS"),
    ("smbfs", "SMB"),
    ("afpfs", "AFP"),
    ("webdav", "WebDAV"),
    ("ftp", "FTP"),
    ("macfuse", "FUSE"),
    ("osxfuse", "FUSE"),
    ("virtiofs", "virtiofs"),
];

/// The name of the file system that `file` is on, if processes cannot share it.
pub fn unshareable(file: &fs::File) -> io::Result<Option<&'static str>> {
    let mut status = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a descriptor that is open, and room for the answer.
    if unsafe { libc::fstatfs(file.as_raw_fd(), status.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled in by the call, which succeeded, with a name that ends.
    let name = unsafe { CStr::from_ptr((&raw const (*status.as_ptr()).f_fstypename).cast::<c_char>()) };
    let known = UNSHAREABLE.iter().find(|(there, _)| name.to_bytes() == there.as_bytes());
    Ok(known.map(|(_, name)| *name))
}

/// There are none on macOS.
pub fn unnamed(_directory: &fs::File) -> io::Result<fs::File> {
    Err(io::Error::from_raw_os_error(libc::ENOTSUP))
}

/// Always so.
pub fn has_no_unnamed_files(_error: &io::Error) -> bool {
    true
}

/// Never called, without `unnamed`.
pub fn link(_file: &fs::File, _directory: &fs::File, _name: &CStr) -> io::Result<()> {
    Err(io::Error::from_raw_os_error(libc::ENOTSUP))
}

/// Renames a file in `directory` to a name that nothing has.
pub fn rename_new(directory: &fs::File, from: &CStr, to: &CStr) -> io::Result<()> {
    let fd = directory.as_raw_fd();
    // SAFETY: two C strings, and a descriptor that is open.
    let failed = unsafe { libc::renameatx_np(fd, from.as_ptr(), fd, to.as_ptr(), libc::RENAME_EXCL) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Lists are not inherited into a file's mode here.
pub fn drop_access_list(_file: &fs::File) {}

/// Takes the room for `length` bytes from `offset`, and makes the file as long.
pub fn allocate(file: &fs::File, offset: u64, length: u64) -> io::Result<()> {
    let end = offset + length;
    let missing =
        end.saturating_sub(std::os::unix::fs::MetadataExt::blocks(&file.metadata()?).saturating_mul(512));
    if missing > 0 {
        let mut request = libc::fstore_t {
            fst_flags: libc::F_ALLOCATEALL,
            fst_posmode: libc::F_PEOFPOSMODE,
            fst_offset: 0,
            fst_length: missing as libc::off_t,
            fst_bytesalloc: 0,
        };
        // SAFETY: a descriptor that is open, and a whole request.
        if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PREALLOCATE, &raw mut request) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    if file.metadata()?.len() < end { file.set_len(end) } else { Ok(()) }
}

/// Another text for each boot.
pub fn boot_id() -> io::Result<String> {
    let mut text = [0_u8; 64];
    let mut size = text.len();
    let name = c"kern.bootsessionuuid";
    // SAFETY: the name is a C string, and `size` is that of the room for the answer.
    let failed = unsafe {
        libc::sysctlbyname(name.as_ptr(), text.as_mut_ptr().cast(), &raw mut size, std::ptr::null_mut(), 0)
            != 0
    };
    if failed {
        return Err(io::Error::last_os_error());
    }
    let end = text.iter().position(|&byte| byte == 0).unwrap_or(text.len());
    Ok(String::from_utf8_lossy(&text[..end]).into_owned())
}

/// There is one for all.
pub fn pid_namespace() -> io::Result<u64> {
    Ok(0)
}
