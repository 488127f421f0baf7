//! What Linux has for files.

use std::ffi::CStr;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::MetadataExt;

/// File systems, by `f_type` of statfs(2), that have other machines or programs behind them, or pages that cannot be
/// had one by one.
const UNSHAREABLE: [(u32, &str); 24] = [
    (0x6969, "NFS"),
    (0x517B, "SMB"),
    (0xFF53_4D42, "CIFS"),
    (0xFE53_4D42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x5346_414F, "AFS"),
    (0x6B41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x00C3_6400, "Ceph"),
    (0x0BD0_0BD0, "Lustre"),
    (0x0116_1970, "GFS2"),
    (0x7461_636F, "OCFS2"),
    (0x564C, "NCP"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0xAAD7_AAEA, "PanFS"),
    (0x2003_0528, "OrangeFS"),
    (0x6163_6673, "ACFS"),
    (0xBEEF_DEAD, "SNFS"),
    (0x786F_4256, "a folder shared by VirtualBox"),
    (0xBACB_ACBC, "a folder shared by VMware"),
    (0x7C7C_6673, "a folder shared by Parallels"),
    (0x9584_58F6, "hugetlbfs"),
];

/// The name of the file system that `file` is on, if processes cannot share it.
pub fn unshareable(file: &fs::File) -> io::Result<Option<&'static str>> {
    let mut status = std::mem::MaybeUninit::<libc::statfs>::uninit();
    // SAFETY: a descriptor that is open, and room for the answer.
    if unsafe { libc::fstatfs(file.as_raw_fd(), status.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: filled in by the call, which succeeded.
    let kind = unsafe { status.assume_init() }.f_type as u32;
    Ok(name_of(kind))
}

fn name_of(kind: u32) -> Option<&'static str> {
    UNSHAREABLE.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

/// A new file without a name in `directory`.
pub fn unnamed(directory: &fs::File) -> io::Result<fs::File> {
    let flags = libc::O_TMPFILE | libc::O_RDWR | libc::O_CLOEXEC;
    let owner_only: libc::c_uint = 0o600;
    // SAFETY: a C string, and a descriptor that is open; the result is checked.
    let fd = unsafe { libc::openat(directory.as_raw_fd(), c".".as_ptr(), flags, owner_only) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh descriptor that nothing else owns.
    Ok(unsafe { fs::File::from_raw_fd(fd) })
}

/// Whether that is what `unnamed` says where there is no such thing: EISDIR comes from a kernel that does not know of it.
pub fn has_no_unnamed_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::EISDIR | libc::EINVAL | libc::ENOSYS))
}

/// Gives a file without a name one that nothing has.
pub fn link(file: &fs::File, directory: &fs::File, name: &CStr) -> io::Result<()> {
    // The other way, AT_EMPTY_PATH, asks for a privilege.
    let there = std::ffi::CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    let to = directory.as_raw_fd();
    // SAFETY: two C strings, and descriptors that are open.
    let failed = unsafe {
        libc::linkat(libc::AT_FDCWD, there.as_ptr(), to, name.as_ptr(), libc::AT_SYMLINK_FOLLOW) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Renames a file in `directory` to a name that nothing has.
pub fn rename_new(directory: &fs::File, from: &CStr, to: &CStr) -> io::Result<()> {
    const RENAME_NOREPLACE: libc::c_uint = 1;
    let fd = directory.as_raw_fd();
    // SAFETY: two C strings, and a descriptor that is open. The wrapper is not in every C library.
    let failed = unsafe {
        libc::syscall(libc::SYS_renameat2, fd, from.as_ptr(), fd, to.as_ptr(), RENAME_NOREPLACE) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Removes what the directory's default access list has given a new file, beside its mode.
pub fn drop_access_list(file: &fs::File) {
    // SAFETY: a C string, and a descriptor that is open. It fails where there is none.
    unsafe { libc::fremovexattr(file.as_raw_fd(), c"system.posix_acl_access".as_ptr()) };
}

/// Takes the room for `length` bytes from `offset`, and makes the file as long.
pub fn allocate(file: &fs::File, offset: u64, length: u64) -> io::Result<()> {
    // SAFETY: a descriptor that is open.
    let failed = unsafe { libc::fallocate(file.as_raw_fd(), 0, offset as i64, length as i64) } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Another text for each boot.
pub fn boot_id() -> io::Result<String> {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
}

/// A number for the PID namespace of this process.
pub fn pid_namespace() -> io::Result<u64> {
    fs::metadata("/proc/self/ns/pid").map(|metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::name_of;

    #[test]
    fn knows_file_systems_by_number() {
        let there = [0x6969, 0xFF53_4D42, 0x6573_5546, 0x0102_1997, 0x00C3_6400].map(name_of);
        assert_eq!(there, [Some("NFS"), Some("CIFS"), Some("FUSE"), Some("9p"), Some("Ceph")]);
        let ext4_tmpfs_overlayfs_xfs_btrfs = [0xEF53, 0x0102_1994, 0x794C_7630, 0x5846_5342, 0x9123_683E];
        assert_eq!(ext4_tmpfs_overlayfs_xfs_btrfs.map(name_of), [None; 5]);
    }
}
