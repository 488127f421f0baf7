//! A process is killed at each system call of making or opening a file, on each kind of file system and with each way to
//! make one. The next opener has a whole object then, and nothing else is left in the directory. (Killed at each
//! instruction: tests/crash/path.rs.)

#![cfg(all(target_os = "linux", not(feature = "simulated-mach")))] // whose forks are others
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/calls.rs"]
mod calls;
#[path = "support/filter.rs"]
mod filter;
#[path = "support/folder.rs"]
mod folder;
mod support;

use calls::{End, kill_at};
use filter::{Denied, NO_LINK, NO_TMPFILE, deny};
use folder::{Folder, turn};
use process_shared_core::Error;
use process_shared_core::file::{self, Bytes, File, Shape};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

const SHAPE: Shape = Shape { class: "Pair", details: "", size: 4096 };

/// An object is whole if both halves of its first 16 bytes say the same.
fn halves(bytes: Bytes) -> [&'static AtomicU64; 2] {
    let first = bytes.cast::<u64>();
    // SAFETY: the tests keep the file while they use this; both are inside, and aligned.
    unsafe { [AtomicU64::from_ptr(first.as_ptr()), AtomicU64::from_ptr(first.as_ptr().add(1))] }
}

fn fill(bytes: Bytes) -> Result<(), Error> {
    halves(bytes).into_iter().for_each(|half| half.store(1, SeqCst));
    Ok(())
}

fn recover(bytes: Bytes) -> Result<(), Error> {
    let [one, other] = halves(bytes);
    let next = one.load(SeqCst).max(other.load(SeqCst)) + 1;
    one.store(next, SeqCst);
    other.store(next, SeqCst);
    Ok(())
}

fn open(path: &Path) -> Arc<File> {
    file::open(path, 0o600, &SHAPE, fill, recover).unwrap()
}

/// What the next opener finds, in a process of its own.
#[track_caller]
fn assert_whole(folder: &Folder, path: &Path, denied: &[Denied]) {
    let child = support::fork(|| {
        if !denied.is_empty() {
            deny(denied);
        }
        let file = open(path);
        let [one, other] = halves(file.bytes());
        i32::from(one.load(SeqCst) == 0 || one.load(SeqCst) != other.load(SeqCst))
    });
    assert_eq!(child.reap(), 0);
    assert_eq!(folder.entries(), ["pair"]);
}

/// How the file is before the operation.
type Before = fn(&Path);

fn absent(path: &Path) {
    let _ = fs::remove_file(path);
}

fn left(path: &Path) {
    drop(open(path));
}

fn of_another_boot(path: &Path) {
    drop(open(path));
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"before", 48).unwrap();
}

const SCENES: [(&str, Before); 3] = [("made", absent), ("put in order", left), ("made new", of_another_boot)];

fn at_each_call(folder: &Folder, denied: &[Denied]) {
    let path = folder.path("pair");
    for (name, before) in SCENES {
        let mut stop = 0;
        loop {
            before(&path);
            let end = kill_at(stop, || {
                if !denied.is_empty() {
                    deny(denied);
                }
                drop(open(&path));
            });
            assert_whole(folder, &path, denied);
            if end == End::Done {
                break;
            }
            stop += 1;
        }
        println!("{name}: killed at {stop} beginnings and ends of calls");
        assert!(stop > 20, "{name}: {stop}");
    }
}

#[test]
fn at_each_system_call() {
    let _turn = turn();
    at_each_call(&Folder::on_tmpfs(), &[]);
    at_each_call(&Folder::new(), &[]);
}

#[test]
fn at_each_system_call_without_unnamed_files() {
    let _turn = turn();
    at_each_call(&Folder::on_tmpfs(), &[NO_TMPFILE]);
    at_each_call(&Folder::on_tmpfs(), &[NO_LINK]);
    at_each_call(&Folder::new(), &[NO_TMPFILE]);
}
