//! A path, taken apart once: the file, and the directory that a new one is made in.

use crate::error::{Error, Result};
use libc::{EISDIR, ELOOP, ENOENT, ENXIO};
use std::ffi::{CString, OsStr};
use std::fs::{self, FileType, Metadata, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Device and inode: a file, whatever its name.
pub type Id = (u64, u64);

/// What the system says of a file.
#[derive(Debug)]
pub struct Status {
    pub id: Id,
    pub owner: u32,
    pub mode: u32,
    pub size: u64,
    /// Bytes of the disk that it occupies.
    pub allocated: u64,
    kind: FileType,
}

impl Status {
    pub fn of(file: &fs::File) -> Result<Status> {
        file.metadata()
            .map(|metadata| Self::from(&metadata))
            .map_err(|error| Error::io("look at a file", &error))
    }

    /// What it is, in words, if it is no regular file.
    pub fn other_than_file(&self) -> Option<&'static str> {
        let kind = self.kind;
        match () {
            () if kind.is_file() => None,
            () if kind.is_symlink() => Some("symbolic link"),
            () if kind.is_dir() => Some("directory"),
            () if kind.is_fifo() => Some("named pipe"),
            () if kind.is_socket() => Some("socket"),
            () => Some("device"),
        }
    }
}

impl From<&Metadata> for Status {
    fn from(metadata: &Metadata) -> Self {
        Status {
            id: (metadata.dev(), metadata.ino()),
            owner: metadata.uid(),
            mode: metadata.mode(),
            size: metadata.size(),
            allocated: metadata.blocks().saturating_mul(512),
            kind: metadata.file_type(),
        }
    }
}

/// Where an object is to be found.
#[derive(Debug)]
pub struct Place<'a> {
    path: &'a Path,
    directory: &'a Path,
    name: CString,
}

impl<'a> Place<'a> {
    pub fn new(path: &'a Path) -> Result<Self> {
        let bytes = path.as_os_str().as_bytes();
        let (directory, name) = match bytes.iter().rposition(|&byte| byte == b'/') {
            Some(0) => (Path::new("/"), &bytes[1..]),
            Some(slash) => (Path::new(OsStr::from_bytes(&bytes[..slash])), &bytes[slash + 1..]),
            None => (Path::new("."), bytes),
        };
        let refuse = || Error::Invalid(format!("{path:?} cannot be the path of a file"));
        if matches!(name, b"" | b"." | b"..") || bytes.contains(&0) {
            return Err(refuse());
        }
        Ok(Place { path, directory, name: CString::new(name).map_err(|_| refuse())? })
    }

    pub fn path(&self) -> &'a Path {
        self.path
    }

    pub fn name(&self) -> &CString {
        &self.name
    }

    /// What is there now. A symbolic link is not followed.
    pub fn look(&self) -> Result<Option<Status>> {
        match fs::symlink_metadata(self.path) {
            Ok(metadata) => Ok(Some(Status::from(&metadata))),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("look for a shared object", &error)),
        }
    }

    /// Whether the path leads to the file `id` now.
    pub fn leads_to(&self, id: Id) -> Result<bool> {
        Ok(self.look()?.is_some_and(|status| status.id == id))
    }

    /// The file that is there now, if any. Links are refused, and nothing blocks or becomes a terminal.
    pub fn open(&self) -> Result<Option<fs::File>> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY;
        match OpenOptions::new().read(true).write(true).custom_flags(flags).open(self.path) {
            Ok(file) => Ok(Some(file)),
            // Something else has taken the file's place since it was looked at: look again.
            Err(error) if matches!(error.raw_os_error(), Some(ENOENT | ELOOP | ENXIO | EISDIR)) => Ok(None),
            Err(error) => Err(Error::io("open the file of a shared object", &error)),
        }
    }

    /// The directory, by a descriptor: whatever happens to its name, a file is made and named in this one.
    pub fn directory(&self) -> Result<fs::File> {
        #[cfg(target_os = "linux")]
        let flags = libc::O_DIRECTORY | libc::O_PATH;
        #[cfg(not(target_os = "linux"))]
        let flags = libc::O_DIRECTORY;
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(self.directory);
        opened.map_err(|error| Error::io("open the directory of a shared object", &error))
    }
}
