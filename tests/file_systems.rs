//! Files on the file systems that this machine can mount. Each test has mounts of its own, in a process of its own, and is
//! left out, with a message, where that is not allowed.

#![cfg(all(target_os = "linux", not(feature = "simulated-mach")))] // whose forks are others
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/filter.rs"]
mod filter;
#[path = "support/folder.rs"]
mod folder;
mod support;

use filter::{NO_FALLOCATE, NO_TMPFILE, OVER_QUOTA, deny};
use folder::{Folder, turn};
use process_shared_core::Error;
use process_shared_core::file::{self, File, Shape};
use std::ffi::CString;
use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use support::fork;

const SHAPE: Shape = Shape { class: "Mounted", details: "", size: 16384 };

fn open_of(path: &Path, size: usize) -> Result<Arc<File>, Error> {
    file::open(path, 0o600, &Shape { size, ..SHAPE }, |_| Ok(()), |_| Ok(()))
}

fn open(path: &Path) -> Result<Arc<File>, Error> {
    open_of(path, SHAPE.size)
}

fn mount(source: &str, target: &Path, kind: &str, flags: libc::c_ulong, options: &str) -> bool {
    let [source, kind, options] = [source, kind, options].map(|text| CString::new(text).unwrap());
    let target = CString::new(target.to_str().unwrap()).unwrap();
    // SAFETY: strings that end.
    unsafe {
        libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) == 0
    }
}

/// Runs `life` in a child that sees its own mounts, if there can be such.
fn with_mounts(life: impl FnOnce(&Folder)) {
    let _turn = turn();
    let folder = Folder::new();
    let child = fork(|| {
        // SAFETY: no precondition.
        let allowed = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
        if !allowed || !mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE, "") {
            println!("LEFT OUT: no mounts of its own are allowed here");
            return 0;
        }
        life(&folder);
        0
    });
    assert_eq!(child.reap(), 0);
}

fn mounted(folder: &Folder, name: &str, kind: &str, options: &str) -> Option<std::path::PathBuf> {
    let path = folder.path(name);
    fs::create_dir(&path).unwrap();
    if mount(kind, &path, kind, 0, options) {
        return Some(path);
    }
    println!("LEFT OUT: no {kind} can be mounted here ({})", std::io::Error::last_os_error());
    None
}

/// A file system of 4 MB on a device that is a file.
fn mounted_ext4(folder: &Folder) -> Option<std::path::PathBuf> {
    let (image, path) = (folder.path("image"), folder.path("ext4"));
    fs::File::create(&image).unwrap().set_len(4 << 20).unwrap();
    fs::create_dir(&path).unwrap();
    let runs = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    if runs(Command::new("mkfs.ext4").args(["-q", "-m", "0"]).arg(&image))
        && runs(Command::new("mount").args(["-o", "loop"]).args([&image, &path]))
    {
        return Some(path);
    }
    println!("LEFT OUT: no ext4 can be made and mounted here");
    None
}

#[track_caller]
fn fails_with(expected: i32, path: &Path, size: usize) {
    match open_of(path, size) {
        Err(Error::System { errno, .. }) if errno == expected => {}
        other => panic!("{other:?}"),
    }
}

/// Every way to make a file in `small` says that there is no room, and leaves nothing. What it makes can be used to the end,
/// however full it is.
fn takes_its_room(small: &Path) {
    let before = fs::read_dir(small).unwrap().count();
    let path = small.join("object");
    for denied in [&[][..], &[NO_FALLOCATE], &[NO_TMPFILE], &[NO_TMPFILE, NO_FALLOCATE]] {
        let child = fork(|| {
            if !denied.is_empty() {
                deny(denied);
            }
            fails_with(libc::ENOSPC, &path, 8 << 20);
            0
        });
        assert_eq!(child.reap(), 0);
        assert_eq!(fs::read_dir(small).unwrap().count(), before);
    }
    let file = open_of(&path, 512 << 10).unwrap();
    let mut rest = OpenOptions::new().write(true).create_new(true).open(small.join("rest")).unwrap();
    while std::io::Write::write_all(&mut rest, &[1; 4096]).is_ok() {}
    // SAFETY: the bytes of the object.
    unsafe { file.bytes().cast::<u8>().write_bytes(1, 512 << 10) };
    drop(file);
    open_of(&path, 512 << 10).unwrap();
}

#[test]
fn a_full_file_system_is_an_error_at_creation() {
    with_mounts(|folder| {
        let Some(small) = mounted(folder, "small", "tmpfs", "size=1m") else { return };
        takes_its_room(&small);
    });
}

#[test]
fn an_ext4_holds_objects_and_can_be_full() {
    with_mounts(|folder| {
        let Some(small) = mounted_ext4(folder) else { return };
        meet(&small.join("shared"), &small.join("shared"));
        takes_its_room(&small);
    });
}

/// The quota of a user who is not root.
#[test]
fn a_quota_is_an_error_at_creation() {
    with_mounts(|folder| {
        let over = |path: &Path, prepare: &dyn Fn()| {
            let child = fork(|| {
                prepare();
                fails_with(libc::EDQUOT, path, 2 << 20);
                0
            });
            assert_eq!(child.reap(), 0);
            assert!(!path.exists());
        };
        let base = folder.path("simulated");
        fs::create_dir(&base).unwrap();
        over(&base.join("object"), &|| deny(&[OVER_QUOTA]));
        let options = "mode=777,usrquota,usrquota_block_hardlimit=1m";
        let Some(base) = mounted(folder, "limited", "tmpfs", options) else { return };
        // SAFETY: a number.
        over(&base.join("object"), &|| assert_eq!(unsafe { libc::setuid(65_534) }, 0));
        assert_eq!(fs::read_dir(&base).unwrap().count(), 0);
    });
}

#[test]
fn a_bind_mount_leads_to_the_same_object() {
    with_mounts(|folder| {
        let (one, other) = (folder.path("one"), folder.path("other"));
        fs::create_dir(&one).unwrap();
        fs::create_dir(&other).unwrap();
        assert!(mount(one.to_str().unwrap(), &other, "", libc::MS_BIND, ""));
        let here = open(&one.join("object")).unwrap();
        assert!(Arc::ptr_eq(&here, &open(&other.join("object")).unwrap()));
        drop(here);
        meet(&one.join("object"), &other.join("object"));
    });
}

#[test]
fn an_overlay_holds_objects() {
    with_mounts(|folder| {
        let Some(base) = mounted(folder, "base", "tmpfs", "") else { return };
        let [lower, upper, work] = ["lower", "upper", "work"].map(|name| base.join(name));
        for directory in [&lower, &upper, &work] {
            fs::create_dir(directory).unwrap();
        }
        drop(open(&lower.join("from below")).unwrap());
        let options =
            format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
        let Some(overlay) = mounted(folder, "overlay", "overlay", &options) else { return };
        for name in ["object", "from below"] {
            meet(&overlay.join(name), &overlay.join(name));
        }
        let child = fork(|| {
            deny(&[NO_TMPFILE]);
            drop(open(&overlay.join("another")).unwrap());
            0
        });
        assert_eq!(child.reap(), 0);
        meet(&overlay.join("another"), &overlay.join("another"));
        assert_eq!(fs::read_dir(&overlay).unwrap().count(), 3);
    });
}

/// Two processes that have not inherited anything see what the other writes, and know of each other.
fn meet(one: &Path, other: &Path) {
    let ready: &std::sync::atomic::AtomicU32 = support::shared();
    let order = std::sync::atomic::Ordering::SeqCst;
    let first = fork(|| {
        let file = open(one).unwrap();
        // SAFETY: inside the object.
        unsafe { file.bytes().cast::<u8>().write_volatile(77) };
        ready.store(1, order);
        support::until("the other has seen it", || ready.load(order) == 2);
        0
    });
    let second = fork(|| {
        support::until("the first is there", || ready.load(order) == 1);
        let recover = |_| panic!("not alone");
        let file = file::open(other, 0o600, &SHAPE, |_| panic!("not new"), recover).unwrap();
        // SAFETY: inside the object.
        let seen = unsafe { file.bytes().cast::<u8>().read_volatile() };
        ready.store(2, order);
        i32::from(seen != 77)
    });
    assert_eq!((first.reap(), second.reap()), (0, 0));
}

#[test]
fn file_systems_that_cannot_share_are_refused_by_name() {
    with_mounts(|folder| {
        let Some(pages) = mounted(folder, "pages", "hugetlbfs", "") else { return };
        match open(&pages.join("object")) {
            Err(Error::Refused(text)) => {
                assert!(text.contains("hugetlbfs") && text.contains("/dev/shm"), "{text}")
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(fs::read_dir(&pages).unwrap().count(), 0);
    });
}

#[test]
fn a_read_only_file_system_is_an_error() {
    with_mounts(|folder| {
        let Some(base) = mounted(folder, "base", "tmpfs", "") else { return };
        drop(open(&base.join("object")).unwrap());
        assert!(mount("none", &base, "", libc::MS_REMOUNT | libc::MS_RDONLY, ""));
        for name in ["object", "another"] {
            match open(&base.join(name)) {
                Err(Error::System { errno: libc::EROFS, .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

/// A server for FUSE that knows one empty file, or fails: the file system is what is refused, not its answers.
#[test]
fn a_file_system_in_user_space_is_refused_by_name() {
    with_mounts(|folder| {
        let target = folder.path("fuse");
        fs::create_dir(&target).unwrap();
        let Ok(device) = OpenOptions::new().read(true).write(true).open("/dev/fuse") else {
            return println!("LEFT OUT: no /dev/fuse here");
        };
        let fd = std::os::fd::AsRawFd::as_raw_fd(&device);
        if !mount("fuse", &target, "fuse", 0, &format!("fd={fd},rootmode=40000,user_id=0,group_id=0")) {
            return println!("LEFT OUT: no FUSE can be mounted here");
        }
        let server = fork(|| fuse::serve(&device));
        match open(&target.join("object")) {
            Err(Error::Refused(text)) => assert!(text.contains("FUSE"), "{text}"),
            other => panic!("{other:?}"),
        }
        server.kill();
        let path = CString::new(target.to_str().unwrap()).unwrap();
        // SAFETY: a string that ends.
        unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    });
}

/// Just enough of FUSE's protocol for a directory with a file called "object".
mod fuse {
    use std::fs;
    use std::io::{Read, Write};

    const LOOKUP: u32 = 1;
    const GETATTR: u32 = 3;
    const OPEN: u32 = 14;
    const STATFS: u32 = 17;
    const INIT: u32 = 26;
    const ROOT: u64 = 1;

    pub fn serve(mut device: &fs::File) -> i32 {
        let mut request = vec![0; 1 << 20];
        while let Ok(length) = device.read(&mut request) {
            let number = |offset: usize| u32::from_ne_bytes(request[offset..offset + 4].try_into().unwrap());
            let node = u64::from_ne_bytes(request[16..24].try_into().unwrap());
            assert!(length >= 40);
            let answer = match number(4) {
                INIT => [7, 31, 0, 0, 0, 1 << 16]
                    .iter()
                    .flat_map(|&word: &u32| word.to_ne_bytes())
                    .chain([0; 40])
                    .collect(),
                LOOKUP => [2_u64, 0, 0, 0, 0]
                    .iter()
                    .flat_map(|word| word.to_ne_bytes())
                    .chain(attributes(2))
                    .collect(),
                GETATTR => {
                    [0_u64; 2].iter().flat_map(|word| word.to_ne_bytes()).chain(attributes(node)).collect()
                }
                OPEN => vec![0; 16],
                STATFS => vec![0; 80],
                _ => Vec::new(),
            };
            let error = if answer.is_empty() { -libc::ENOSYS } else { 0 };
            let mut reply = (16 + answer.len() as u32).to_ne_bytes().to_vec();
            reply.extend(error.to_ne_bytes());
            reply.extend(&request[8..16]);
            reply.extend(answer);
            let _ = device.write_all(&reply);
        }
        0
    }

    /// `struct fuse_attr`: six 64-bit numbers, then ten of 32 bits, the mode as the fourth of them.
    fn attributes(node: u64) -> Vec<u8> {
        let mode = if node == ROOT { libc::S_IFDIR | 0o755 } else { libc::S_IFREG | 0o600 };
        let wide = [node, 0, 0, 0, 0, 0].iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        let narrow = [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0];
        wide.into_iter().chain(narrow.iter().flat_map(|word: &u32| word.to_ne_bytes())).collect()
    }
}
