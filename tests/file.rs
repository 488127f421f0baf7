//! Files that processes share, as their users meet them: made once, found again, in order when they are found, and
//! refused where they cannot be trusted.

#![cfg(all(target_os = "linux", not(feature = "simulated-mach")))] // whose forks are others
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/filter.rs"]
mod filter;
#[path = "support/folder.rs"]
mod folder;
mod support;

use filter::{NO_FALLOCATE, NO_LINK, NO_TMPFILE, deny};
use folder::{Folder, turn};
use process_shared_core::Error;
use process_shared_core::file::{self, Bytes, File, HEADER, Shape};
use std::ffi::CString;
use std::fs::{self, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Barrier};
use support::{fork, shared, until};

const SHAPE: Shape = Shape { class: "Counter", details: "64 bits", size: 8192 };

/// Where the header has these.
const VERSION: u64 = 20;
const WORD_BITS: u64 = 24;
const FUTEX_OFFSET: u64 = 28;
const STATE: u64 = 32;
const SIZE: u64 = 40;
const BOOT: u64 = 48;
const NAMESPACE: u64 = 88;

/// The value that a new object starts with, and what each recovery adds.
const STARTED: u64 = 1_000_000;
const RECOVERED: u64 = 1000;

fn cell(bytes: Bytes) -> &'static AtomicU64 {
    // SAFETY: the tests keep the file while they use this; it is aligned.
    unsafe { AtomicU64::from_ptr(bytes.cast().as_ptr()) }
}

fn open_as(path: &Path, mode: u32, shape: &Shape) -> Result<Arc<File>, Error> {
    let start = |bytes| {
        cell(bytes).store(STARTED, SeqCst);
        Ok(())
    };
    let recover = |bytes| {
        cell(bytes).fetch_add(RECOVERED, SeqCst);
        Ok(())
    };
    file::open(path, mode, shape, start, recover)
}

fn open(path: &Path) -> Result<Arc<File>, Error> {
    open_as(path, 0o600, &SHAPE)
}

fn value(file: &File) -> u64 {
    cell(file.bytes()).load(SeqCst)
}

/// A process that has the file open, until it is killed.
fn holder(path: &Path) -> support::Child {
    let ready: &AtomicU32 = shared();
    let child = fork(|| {
        let _file = open(path).unwrap();
        ready.store(1, SeqCst);
        loop {
            // SAFETY: no precondition.
            unsafe { libc::pause() };
        }
    });
    until("a holder has the file", || ready.load(SeqCst) == 1 || child.is_over());
    assert!(!child.is_over());
    child
}

/// Processes that outlive their parent, by where their numbers are: killed when the test ends, however it does.
struct Orphans<'a>(&'a [AtomicU32]);

impl Drop for Orphans<'_> {
    fn drop(&mut self) {
        for pid in self.0.iter().map(|pid| pid.load(SeqCst)).filter(|&pid| pid != 0) {
            // SAFETY: a process that this test has made.
            unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
        }
    }
}

/// Runs `life` in a child; returns what it made of it.
fn elsewhere(life: impl FnOnce()) {
    let child = fork(|| {
        life();
        0
    });
    assert_eq!(child.reap(), 0);
}

fn put(path: &Path, offset: u64, bytes: &[u8]) {
    OpenOptions::new().write(true).open(path).unwrap().write_all_at(bytes, offset).unwrap();
}

#[track_caller]
fn refused(result: Result<Arc<File>, Error>, words: &[&str]) {
    match result {
        Err(Error::Refused(text)) => contains(&text, words),
        other => panic!("{other:?} is no refusal"),
    }
}

#[track_caller]
fn incompatible(result: Result<Arc<File>, Error>, words: &[&str]) {
    match result {
        Err(Error::Incompatible(text)) => contains(&text, words),
        other => panic!("{other:?} is not incompatible"),
    }
}

#[track_caller]
fn contains(text: &str, words: &[&str]) {
    assert!(words.iter().all(|word| text.contains(word)), "{text:?} has not all of {words:?}");
}

#[track_caller]
fn errno(result: Result<Arc<File>, Error>) -> i32 {
    match result {
        Err(Error::System { errno, .. }) => errno,
        other => panic!("{other:?} is no system error"),
    }
}

mod life {
    use super::*;

    #[test]
    fn is_made_once_and_kept_for_the_next() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        let file = open(&path).unwrap();
        assert_eq!(value(&file), STARTED);
        cell(file.bytes()).fetch_add(7, SeqCst);
        drop(file);
        // Nobody had it open: it is put in order, and what is stored stays.
        assert_eq!(value(&open(&path).unwrap()), STARTED + 7 + RECOVERED);
        assert_eq!(folder.entries(), ["counter"]);
    }

    #[test]
    fn is_not_touched_while_another_process_has_it() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        let holder = holder(&path);
        let file = open(&path).unwrap();
        assert_eq!(value(&file), STARTED);
        holder.kill();
        assert_eq!(value(&open(&path).unwrap()), STARTED);
        drop(file);
        assert_eq!(value(&open(&path).unwrap()), STARTED + RECOVERED);
    }

    #[test]
    fn is_in_use_as_long_as_a_forked_child_lives() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        let (grandchild, freed): (&AtomicU32, &AtomicU32) = (shared(), shared());
        let parent = fork(|| {
            let _file = open(&path).unwrap();
            // SAFETY: the child leaves by _exit.
            let pid = unsafe { libc::fork() };
            if pid == 0 {
                grandchild.store(std::process::id(), SeqCst);
                until("the test is done", || freed.load(SeqCst) == 1);
                // SAFETY: ends this process at once.
                unsafe { libc::_exit(0) };
            }
            0
        });
        until("the grandchild lives", || grandchild.load(SeqCst) != 0);
        assert_eq!(parent.reap(), 0);
        assert_eq!(value(&open(&path).unwrap()), STARTED);
        freed.store(1, SeqCst);
        let pid = grandchild.load(SeqCst) as libc::pid_t;
        until("the grandchild is gone", || matches!(support::state(pid), 'Z' | 'X'));
        assert_eq!(value(&open(&path).unwrap()), STARTED + RECOVERED);
    }

    #[test]
    fn is_not_in_use_after_exec() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        let ready: &AtomicU32 = shared();
        let child = fork(|| {
            let _file = open(&path).unwrap();
            ready.store(1, SeqCst);
            let sleep = CString::new("/bin/sleep").unwrap();
            // SAFETY: strings that end, and a list that ends.
            unsafe { libc::execl(sleep.as_ptr(), sleep.as_ptr(), c"60".as_ptr(), std::ptr::null::<i8>()) };
            1
        });
        until("it is open", || ready.load(SeqCst) == 1);
        // What is closed by exec is closed when the program has begun.
        until("another program sleeps", || {
            let call = fs::read_to_string(format!("/proc/{}/syscall", child.pid)).unwrap_or_default();
            call.starts_with(&format!("{} ", libc::SYS_clock_nanosleep))
        });
        assert_eq!(value(&open(&path).unwrap()), STARTED + RECOVERED);
        child.kill();
    }

    #[test]
    fn goes_on_without_its_name_while_the_next_gets_a_new_one() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        let old = open(&path).unwrap();
        cell(old.bytes()).fetch_add(1, SeqCst);
        fs::remove_file(&path).unwrap();
        let new = open(&path).unwrap();
        assert!(!Arc::ptr_eq(&old, &new));
        assert_eq!((value(&old), value(&new)), (STARTED + 1, STARTED));
        elsewhere(|| assert_eq!(value(&open(&path).unwrap()), STARTED));
    }

    #[test]
    fn is_new_after_a_reboot() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        drop(open(&path).unwrap());
        put(&path, BOOT, b"00000000-0000-0000-0000-000000000000");
        put(&path, HEADER as u64 + 100, b"left");
        let file = open(&path).unwrap();
        assert_eq!(value(&file), STARTED);
        // SAFETY: inside the object.
        assert_eq!(unsafe { file.bytes().cast::<u8>().add(100).read() }, 0);
        drop(file);
        assert_eq!(value(&open(&path).unwrap()), STARTED + RECOVERED);
    }

    #[test]
    fn is_made_new_if_that_was_not_finished() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        drop(open(&path).unwrap());
        put(&path, BOOT, b"00000000-0000-0000-0000-000000000000");
        let child = fork(|| {
            let die = |_| support::die();
            file::open(&path, 0o600, &SHAPE, die, die).unwrap();
            0
        });
        assert_eq!(child.reap(), -libc::SIGKILL);
        assert_eq!(value(&open(&path).unwrap()), STARTED);
    }

    #[test]
    fn is_put_in_order_again_if_that_was_not_finished() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        drop(open(&path).unwrap());
        let child = fork(|| {
            let die = |_| support::die();
            file::open(&path, 0o600, &SHAPE, die, die).unwrap();
            0
        });
        assert_eq!(child.reap(), -libc::SIGKILL);
        assert_eq!(value(&open(&path).unwrap()), STARTED + RECOVERED);
    }

    #[test]
    fn waits_for_an_opener_but_not_over_a_signal() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        drop(open(&path).unwrap());
        let inside: &AtomicU32 = shared();
        let slow = fork(|| {
            let stay = |_| {
                inside.store(1, SeqCst);
                loop {
                    // SAFETY: no precondition.
                    unsafe { libc::pause() };
                }
            };
            file::open(&path, 0o600, &SHAPE, stay, stay).unwrap();
            0
        });
        until("an opener is on its way in", || inside.load(SeqCst) == 1);
        extern "C" fn nothing(_: libc::c_int) {}
        let waiter = fork(|| {
            // SAFETY: a handler that does nothing; no SA_RESTART.
            unsafe {
                let mut action: libc::sigaction = std::mem::zeroed();
                action.sa_sigaction = nothing as *const () as usize;
                libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
            }
            errno(open(&path))
        });
        until("the waiter sleeps", || {
            let call = fs::read_to_string(format!("/proc/{}/syscall", waiter.pid)).unwrap_or_default();
            call.starts_with(&format!("{} ", libc::SYS_fcntl))
        });
        waiter.signal(libc::SIGUSR1);
        assert_eq!(waiter.reap(), libc::EINTR);
        slow.kill();
        assert_eq!(value(&open(&path).unwrap()), STARTED + RECOVERED);
    }
}

mod together {
    use super::*;

    /// Fifty processes open one path at once.
    fn fifty(folder: &Folder, denied: &'static [filter::Denied]) {
        let path = folder.path("counter");
        let (waiting, go, opened): (&AtomicU32, &AtomicU32, &AtomicU32) = (shared(), shared(), shared());
        let children: Vec<_> = (0..50)
            .map(|_| {
                fork(|| {
                    if !denied.is_empty() {
                        deny(denied);
                    }
                    waiting.fetch_add(1, SeqCst);
                    until("all are there", || go.load(SeqCst) == 1);
                    let file = open(&path).unwrap();
                    cell(file.bytes()).fetch_add(1, SeqCst);
                    opened.fetch_add(1, SeqCst);
                    until("all have it open", || opened.load(SeqCst) == 50);
                    i32::from(value(&file) != STARTED + 50)
                })
            })
            .collect();
        until("all wait", || waiting.load(SeqCst) == 50);
        go.store(1, SeqCst);
        assert!(children.into_iter().all(|child| child.reap() == 0));
        assert_eq!(folder.entries(), ["counter"]);
    }

    #[test]
    fn fifty_processes_have_one_object() {
        let _turn = turn();
        for folder in [Folder::new(), Folder::on_tmpfs()] {
            fifty(&folder, &[]);
        }
    }

    #[test]
    fn fifty_processes_have_one_object_without_unnamed_files() {
        let _turn = turn();
        fifty(&Folder::new(), &[NO_TMPFILE]);
        fifty(&Folder::on_tmpfs(), &[NO_TMPFILE]);
        fifty(&Folder::new(), &[NO_LINK]);
    }

    /// Fifty processes find a file that nobody has open: one of them puts it in order, before any uses it.
    #[test]
    fn fifty_processes_put_it_in_order_once() {
        let _turn = turn();
        let folder = Folder::on_tmpfs();
        let path = folder.path("counter");
        drop(open(&path).unwrap());
        let (waiting, go, opened): (&AtomicU32, &AtomicU32, &AtomicU32) = (shared(), shared(), shared());
        let recover = |bytes: Bytes| {
            let before = cell(bytes).load(SeqCst);
            std::thread::yield_now();
            cell(bytes).store(before + RECOVERED, SeqCst);
            Ok(())
        };
        let children: Vec<_> = (0..50)
            .map(|_| {
                fork(|| {
                    waiting.fetch_add(1, SeqCst);
                    until("all are there", || go.load(SeqCst) == 1);
                    let file = file::open(&path, 0o600, &SHAPE, |_| panic!("not new"), recover).unwrap();
                    cell(file.bytes()).fetch_add(1, SeqCst);
                    opened.fetch_add(1, SeqCst);
                    until("all have it open", || opened.load(SeqCst) == 50);
                    i32::from(value(&file) != STARTED + RECOVERED + 50)
                })
            })
            .collect();
        until("all wait", || waiting.load(SeqCst) == 50);
        go.store(1, SeqCst);
        assert!(children.into_iter().all(|child| child.reap() == 0));
    }

    #[test]
    fn two_threads_find_one_object() {
        let _turn = turn();
        let folder = Folder::on_tmpfs();
        let path = folder.path("counter");
        drop(open(&path).unwrap());
        for round in 1..300 {
            let barrier = Barrier::new(4);
            let meet = || {
                barrier.wait();
                open(&path).unwrap()
            };
            let files: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(meet)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(files.iter().all(|file| Arc::ptr_eq(file, &files[0])));
            assert_eq!(value(&files[0]), STARTED + round * RECOVERED);
        }
    }

    #[test]
    fn two_threads_have_one_object() {
        let _turn = turn();
        let folder = Folder::on_tmpfs();
        for round in 0..200 {
            let path = folder.path(&format!("counter{round}"));
            let barrier = Barrier::new(4);
            let meet = || {
                barrier.wait();
                open(&path).unwrap()
            };
            let files: Vec<_> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(meet)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(files.iter().all(|file| Arc::ptr_eq(file, &files[0])));
            assert_eq!(value(&files[0]), STARTED);
        }
    }

    #[test]
    fn two_paths_to_a_file_are_one_object() {
        let _turn = turn();
        let folder = Folder::new();
        symlink(folder.root(), folder.path("again")).unwrap();
        let one = open(&folder.path("counter")).unwrap();
        assert!(Arc::ptr_eq(&one, &open(&folder.path("again/counter")).unwrap()));
        assert!(matches!(
            open_as(&folder.path("again/counter"), 0o600, &Shape { class: "Other", ..SHAPE }),
            Err(Error::Invalid(_))
        ));
    }

    #[test]
    fn a_forked_child_finds_what_it_inherited() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        let file = open(&path).unwrap();
        let start = file.bytes();
        elsewhere(|| {
            let again = open(&path).unwrap();
            assert!(Arc::ptr_eq(&file, &again));
            assert_eq!(again.bytes(), start);
        });
    }

    #[test]
    fn a_fork_while_another_thread_opens_leaves_the_door_free() {
        let _turn = turn();
        let folder = Folder::on_tmpfs();
        let path = folder.path("counter");
        drop(open(&path).unwrap());
        let survivors: &[AtomicU32; 40] = shared();
        let orphans = Orphans(survivors);
        let parent = fork(|| {
            let again = path.clone();
            std::thread::spawn(move || {
                loop {
                    drop(open(&again).unwrap());
                }
            });
            for survivor in survivors {
                // SAFETY: the child leaves by a signal.
                match unsafe { libc::fork() } {
                    0 => loop {
                        drop(open(&path).unwrap()); // nor is it shut for the child itself
                        survivor.store(std::process::id(), SeqCst);
                        // SAFETY: no precondition.
                        unsafe { libc::pause() };
                    },
                    pid => assert!(pid > 0),
                }
            }
            until("all children are through", || survivors.iter().all(|pid| pid.load(SeqCst) != 0));
            support::die()
        });
        assert_eq!(parent.reap(), -libc::SIGKILL);
        let open_elsewhere = fork(|| {
            drop(open(&path).unwrap());
            0
        });
        assert_eq!(open_elsewhere.reap(), 0);
        drop(orphans);
        let gone = |pid: &AtomicU32| matches!(support::state(pid.load(SeqCst) as i32), 'Z' | 'X');
        until("all are gone", || survivors.iter().all(gone));
    }

    #[test]
    fn a_child_does_not_pass_for_a_user_of_what_another_thread_was_opening() {
        let _turn = turn();
        let folder = Folder::on_tmpfs();
        let path = folder.path("counter");
        drop(open(&path).unwrap());
        let pid: &AtomicU32 = shared();
        let _orphan = Orphans(std::slice::from_ref(pid));
        let parent = fork(|| {
            let inside: &AtomicU32 = shared();
            let again = path.clone();
            std::thread::spawn(move || {
                let stay = |_| {
                    inside.store(1, SeqCst);
                    loop {
                        std::thread::park();
                    }
                };
                file::open(&again, 0o600, &SHAPE, stay, stay)
            });
            until("it is on its way in", || inside.load(SeqCst) == 1);
            // SAFETY: the child leaves by a signal.
            if unsafe { libc::fork() } == 0 {
                pid.store(std::process::id(), SeqCst);
                // SAFETY: no precondition.
                unsafe { libc::pause() };
            }
            until("the child lives", || pid.load(SeqCst) != 0);
            support::die()
        });
        assert_eq!(parent.reap(), -libc::SIGKILL);
        let file = fork(|| i32::from(value(&open(&path).unwrap()) != STARTED + RECOVERED));
        assert_eq!(file.reap(), 0);
    }

    #[test]
    fn a_descriptor_that_somebody_else_closed_is_not_closed_again() {
        let _turn = turn();
        let folder = Folder::new();
        elsewhere(|| {
            let file = open(&folder.path("counter")).unwrap();
            // SAFETY: what a program does that closes all it finds. Nothing here needs those above 2.
            unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) };
            let others: Vec<_> = (0..8).map(|_| fs::File::open("/dev/null").unwrap()).collect();
            drop(file);
            assert!(others.iter().all(|other| other.metadata().is_ok()));
        });
    }
}

mod refusals {
    use super::*;

    #[test]
    fn another_class_or_shape() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        let differences = [
            (Shape { class: "Mutex", ..SHAPE }, "Counter (64 bits), not a Mutex (64 bits)"),
            (Shape { details: "32 bits", ..SHAPE }, "Counter (64 bits), not a Counter (32 bits)"),
            (Shape { class: "Mutex", details: "", ..SHAPE }, "Counter (64 bits), not a Mutex"),
        ];
        let check = || {
            for (shape, words) in differences {
                match open_as(&path, 0o600, &shape) {
                    Err(Error::Invalid(text)) => contains(&text, &[words, "counter"]),
                    other => panic!("{other:?}"),
                }
            }
        };
        let file = open(&path).unwrap();
        check();
        drop(file);
        check();
        let holder = holder(&path);
        check();
        holder.kill();
        let larger = Shape { size: SHAPE.size * 2, ..SHAPE };
        incompatible(open_as(&path, 0o600, &larger), &["damaged", "12288", "20480"]);
    }

    #[test]
    fn another_layout() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        drop(open(&path).unwrap());
        let good = fs::read(&path).unwrap();
        let check = |offset: usize, bytes: &[u8], words: &[&str]| {
            put(&path, offset as u64, bytes);
            incompatible(open(&path), words);
            put(&path, 0, &good);
        };
        check(
            VERSION as usize,
            &77_u32.to_ne_bytes(),
            &["layout version (77, here it is 1)", "no process has it open"],
        );
        check(WORD_BITS as usize, &32_u32.to_ne_bytes(), &["word size (32, here it is 64)"]);
        check(FUTEX_OFFSET as usize, &(-1_i32).to_ne_bytes(), &["futex offset", "(-1, "]);
        let swapped: Vec<u8> = good[16..32].chunks(4).flat_map(|word| word.iter().rev().copied()).collect();
        check(16, &swapped, &["another byte order"]);
        check(0, b"#!/bin/sh", &["no object of process_shared"]);
        check(SIZE as usize, &1_u64.to_ne_bytes(), &["damaged"]);
        let holder = holder(&path);
        put(&path, VERSION, &77_u32.to_ne_bytes());
        incompatible(open(&path), &["delete the file when no process has it open any more"]);
        put(&path, 0, &good);
        put(&path, BOOT, b"another boot");
        incompatible(open(&path), &["not from this boot"]);
        put(&path, 0, &good);
        put(&path, STATE, &0_u32.to_ne_bytes());
        incompatible(open(&path), &["not complete"]);
        drop(holder);
    }

    #[test]
    fn files_that_are_too_short_or_long() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        drop(open(&path).unwrap());
        for size in [0, 1, 100, 4096, 12287, 12289, 1 << 20] {
            OpenOptions::new().write(true).open(&path).unwrap().set_len(size).unwrap();
            match open(&path) {
                Err(Error::Incompatible(_)) => {}
                other => panic!("{size}: {other:?}"),
            }
        }
    }

    #[test]
    fn what_is_no_regular_file() {
        let _turn = turn();
        let folder = Folder::new();
        let path = |name: &str| folder.path(name);
        drop(open(&path("counter")).unwrap());
        symlink(path("counter"), path("link")).unwrap();
        symlink(path("nothing"), path("dangling")).unwrap();
        fs::create_dir(path("directory")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
        let pipe = CString::new(path("pipe").to_str().unwrap()).unwrap();
        // SAFETY: a string that ends.
        assert_eq!(unsafe { libc::mkfifo(pipe.as_ptr(), 0o600) }, 0);
        for (name, words) in [
            ("link", "symbolic link"),
            ("dangling", "symbolic link"),
            ("directory", "directory"),
            ("socket", "socket"),
            ("pipe", "named pipe"),
        ] {
            refused(open(&path(name)), &[name, words, "use another path"]);
        }
        refused(open(Path::new("/dev/null")), &["device"]);
        assert!(!path("nothing").exists());
    }

    #[test]
    fn paths_and_modes_that_cannot_be() {
        let _turn = turn();
        let folder = Folder::new();
        for name in ["", "x/", "x/.", "..", "/", "x\0y"] {
            let path = if name.is_empty() { Path::new("").to_owned() } else { folder.path(name) };
            assert!(matches!(open(&path), Err(Error::Invalid(_))), "{name:?}");
        }
        for mode in [0, 0o400, 0o60, 0o1600, 0o4700, u32::MAX] {
            assert!(matches!(open_as(&folder.path("x"), mode, &SHAPE), Err(Error::Invalid(_))));
        }
        for size in [0, usize::MAX, isize::MAX as usize] {
            let shape = Shape { size, ..SHAPE };
            assert!(matches!(open_as(&folder.path("x"), 0o600, &shape), Err(Error::Invalid(_))));
        }
        assert_eq!(errno(open(&folder.path("missing/x"))), libc::ENOENT);
        assert_eq!(errno(open(&folder.path(&"x".repeat(300)))), libc::ENAMETOOLONG);
        let longest = folder.path(&"x".repeat(255));
        assert_eq!(value(&open(&longest).unwrap()), STARTED);
        fs::remove_file(&longest).unwrap();
        elsewhere(|| {
            deny(&[NO_TMPFILE]);
            assert_eq!(value(&open(&longest).unwrap()), STARTED);
        });
    }

    #[test]
    fn what_more_can_write_than_the_mode_says() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        let file = open(&path).unwrap();
        let chmod = |mode| fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        for (mode, words) in
            [(0o620, "by its group,"), (0o602, "by everybody,"), (0o666, "its group and everybody")]
        {
            chmod(mode);
            refused(open(&path), &[words, "chmod"]);
            elsewhere(|| refused(open(&path), &[words, "chmod"]));
            assert!(Arc::ptr_eq(&open_as(&path, mode, &SHAPE).unwrap(), &file));
        }
        chmod(0o644);
        open(&path).unwrap();
    }

    #[test]
    fn another_owner() {
        let _turn = turn();
        // SAFETY: no precondition.
        if unsafe { libc::geteuid() } != 0 {
            return println!("LEFT OUT: only root can give files away");
        }
        let folder = Folder::new();
        let path = folder.path("counter");
        drop(open(&path).unwrap());
        let give = |user| std::os::unix::fs::chown(&path, Some(user), None).unwrap();
        give(12345);
        refused(open(&path), &["belongs to user 12345", "runs as user 0"]);
        give(0);
        fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        fs::set_permissions(folder.root(), Permissions::from_mode(0o777)).unwrap();
        elsewhere(|| {
            // SAFETY: no precondition.
            assert_eq!(unsafe { libc::setuid(12345) }, 0);
            assert_eq!(value(&open_as(&path, 0o666, &SHAPE).unwrap()), STARTED + RECOVERED);
        });
    }

    #[test]
    fn another_pid_namespace_while_it_is_in_use() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        let holder = holder(&path);
        put(&path, NAMESPACE, &1_u64.to_ne_bytes());
        refused(open(&path), &["PID namespace", "pid:[1]", "--pid"]);
        holder.kill();
        // Nobody is left there: the next process takes the file over, and others of its namespace join it.
        let next = super::holder(&path);
        assert_eq!(value(&open(&path).unwrap()), STARTED + RECOVERED);
        next.kill();
    }

    #[test]
    fn a_process_in_a_new_pid_namespace() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        let holder = holder(&path);
        elsewhere(|| {
            // SAFETY: no precondition.
            if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
                return println!("LEFT OUT: no new PID namespace here");
            }
            elsewhere(|| refused(open(&path), &["PID namespace"]));
        });
        holder.kill();
    }
}

mod making {
    use super::*;

    #[test]
    fn the_mode_is_exact_whatever_the_umask() {
        let _turn = turn();
        let folder = Folder::new();
        for denied in [&[][..], &[NO_TMPFILE][..]] {
            for umask in [0, 0o077, 0o777] {
                for mode in [0o600, 0o660, 0o666, 0o640, 0o777] {
                    let path = folder.path(&format!("{umask:o}-{mode:o}-{}", denied.len()));
                    elsewhere(|| {
                        if !denied.is_empty() {
                            deny(denied);
                        }
                        // SAFETY: no precondition.
                        unsafe { libc::umask(umask) };
                        open_as(&path, mode, &SHAPE).unwrap();
                    });
                    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
                }
            }
        }
    }

    #[test]
    fn an_access_list_of_the_directory_does_not_let_others_in() {
        let _turn = turn();
        let folder = Folder::new();
        let root = CString::new(folder.root().to_str().unwrap()).unwrap();
        // A version, then tag, permissions and user of each entry: owner, user 12345, group, mask, others.
        let entries =
            [(1, 7, u32::MAX), (2, 7, 12345), (4, 5, u32::MAX), (0x10, 7, u32::MAX), (0x20, 5, u32::MAX)];
        let mut list = 2_u32.to_le_bytes().to_vec();
        for (tag, permissions, user) in entries {
            list.extend([tag, permissions].iter().flat_map(|&half: &u16| half.to_le_bytes()));
            list.extend(user.to_le_bytes());
        }
        let name = c"system.posix_acl_default".as_ptr();
        // SAFETY: strings that end, and a whole list.
        let failed = unsafe { libc::setxattr(root.as_ptr(), name, list.as_ptr().cast(), list.len(), 0) } != 0;
        if failed {
            return println!("LEFT OUT: no access lists here");
        }
        let path = folder.path("counter");
        drop(open_as(&path, 0o660, &SHAPE).unwrap());
        let file = CString::new(path.to_str().unwrap()).unwrap();
        let name = c"system.posix_acl_access".as_ptr();
        // SAFETY: strings that end; only the size is asked for.
        assert_eq!(unsafe { libc::getxattr(file.as_ptr(), name, std::ptr::null_mut(), 0) }, -1);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o660);
    }

    #[test]
    fn its_room_is_taken() {
        let _turn = turn();
        let large = Shape { size: 3 << 20, ..SHAPE };
        for folder in [Folder::new(), Folder::on_tmpfs()] {
            let path = folder.path("large");
            for denied in [&[][..], &[NO_FALLOCATE][..]] {
                elsewhere(|| {
                    if !denied.is_empty() {
                        deny(denied);
                    }
                    open_as(&path, 0o600, &large).unwrap();
                });
                let metadata = fs::metadata(&path).unwrap();
                assert_eq!(metadata.size(), (HEADER + large.size) as u64);
                assert!(metadata.blocks() * 512 >= metadata.size());
                fs::remove_file(&path).unwrap();
            }
        }
    }

    #[test]
    fn a_copy_with_holes_has_its_room_taken_again() {
        let _turn = turn();
        let large = Shape { size: 3 << 20, ..SHAPE };
        let folder = Folder::new();
        let (path, copy) = (folder.path("large"), folder.path("copy"));
        drop(open_as(&path, 0o600, &large).unwrap());
        let file = OpenOptions::new().write(true).create_new(true).open(&copy).unwrap();
        file.set_len((HEADER + large.size) as u64).unwrap();
        file.set_permissions(Permissions::from_mode(0o600)).unwrap();
        file.write_all_at(&fs::read(&path).unwrap()[..HEADER + 8], 0).unwrap();
        assert!(file.metadata().unwrap().blocks() * 512 < 1 << 20);
        assert_eq!(value(&open_as(&copy, 0o600, &large).unwrap()), STARTED + RECOVERED);
        assert!(file.metadata().unwrap().blocks() * 512 >= (HEADER + large.size) as u64);
    }

    #[test]
    fn too_large_for_the_limit_of_the_process_is_an_error() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("large");
        for denied in [&[][..], &[NO_FALLOCATE][..], &[NO_TMPFILE][..]] {
            elsewhere(|| {
                if !denied.is_empty() {
                    deny(denied);
                }
                let limit = libc::rlimit { rlim_cur: 1 << 20, rlim_max: 1 << 20 };
                // SAFETY: a whole limit.
                assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &limit) }, 0);
                // SAFETY: no precondition; the test's runner may ignore the signal.
                unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_DFL) };
                assert_eq!(errno(open_as(&path, 0o600, &Shape { size: 4 << 20, ..SHAPE })), libc::EFBIG);
            });
            assert!(folder.entries().is_empty());
        }
    }

    #[test]
    fn an_error_in_start_leaves_nothing() {
        let _turn = turn();
        let folder = Folder::new();
        let path = folder.path("counter");
        for denied in [&[][..], &[NO_TMPFILE][..]] {
            elsewhere(|| {
                if !denied.is_empty() {
                    deny(denied);
                }
                let no = |_| Err(Error::Invalid("no".into()));
                let made = file::open(&path, 0o600, &SHAPE, no, no);
                assert_eq!(made.err(), Some(Error::Invalid("no".into())));
            });
            assert!(folder.entries().is_empty());
        }
    }
}

mod storm {
    use super::*;

    /// Processes come and go while files are deleted and made again.
    fn come_and_go(folder: &Folder, denied: &'static [filter::Denied]) {
        let path = folder.path("counter");
        let children: Vec<_> = (0..4)
            .map(|number| {
                let path = path.clone();
                fork(move || {
                    if !denied.is_empty() {
                        deny(denied);
                    }
                    for round in 0..300 {
                        let file = open(&path).unwrap();
                        assert!(value(&file) >= STARTED);
                        if (round + number) % 3 == 0 {
                            let _ = fs::remove_file(&path);
                        }
                    }
                    0
                })
            })
            .collect();
        assert!(children.into_iter().all(|child| child.reap() == 0));
        open(&path).unwrap();
        assert_eq!(folder.entries(), ["counter"]);
    }

    #[test]
    fn files_are_deleted_and_made_again() {
        let _turn = turn();
        come_and_go(&Folder::on_tmpfs(), &[]);
        come_and_go(&Folder::on_tmpfs(), &[NO_TMPFILE]);
    }
}
