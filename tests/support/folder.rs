//! Folders for files of a test, and one test at a time: a child forked by another would inherit this one's files, and
//! keep them in use.
#![allow(dead_code)] // each test uses some of it

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

pub fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// A new folder, removed when dropped by the process that made it.
pub struct Folder(PathBuf, u32);

impl Folder {
    /// On a disk, if there is one for temporary files.
    pub fn new() -> Folder {
        Self::under(&std::env::temp_dir())
    }

    pub fn on_tmpfs() -> Folder {
        Self::under(Path::new("/dev/shm"))
    }

    pub fn under(root: &Path) -> Folder {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let pid = std::process::id();
        let path = root.join(format!("process_shared-{pid}-{}", NUMBER.fetch_add(1, Relaxed)));
        fs::create_dir(&path).expect("a folder");
        Folder(path, pid)
    }

    pub fn root(&self) -> &Path {
        &self.0
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The names in it, sorted, those that begin with a dot among them.
    pub fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.0).expect("the folder");
        let mut names: Vec<_> = entries
            .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.1 == std::process::id() {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}
