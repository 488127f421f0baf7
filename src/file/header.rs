//! The first page of a file: what it is, and who can use it. Everything in it is checked, nothing believed.

use super::check::{CLASS_BYTES, DETAILS_BYTES, Shape};
use super::machine::Machine;
use crate::error::{Error, Result};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering::*};

/// Bytes before those of the object.
pub const HEADER: usize = 4096;

/// To be raised with every change of what is in a file, the header or the objects: a test compares it with a fingerprint
/// of the layout.
pub const LAYOUT_VERSION: u32 = 1;

pub const BOOT_BYTES: usize = 40;

const MAGIC: [u8; 16] = *b"process_shared\r\n";
/// Reads as another number on a machine of the other byte order.
const BYTE_ORDER: u32 = 0x0102_0304;
/// Where the C library's robust list has an entry's futex word: glibc and musl disagree, and objects follow them.
const FUTEX_OFFSET: i32 = crate::platform::WORD_FROM_NEXT as i32;

/// Values of `state`.
const UNFINISHED: u32 = 0; // the object is being made new
const COMPLETE: u32 = 1;

/// Up to `futex_offset` this is the same in every layout version.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Header {
    magic: [u8; 16],
    byte_order: u32,
    version: u32,
    word_bits: u32,
    futex_offset: i32,
    state: u32,
    reserved: u32,
    /// Bytes of the whole file.
    size: u64,
    /// The boot in which the object was made, or made new.
    boot: [u8; BOOT_BYTES],
    /// The PID namespace of the processes that have it open.
    namespace: u64,
    class: [u8; CLASS_BYTES],
    details: [u8; DETAILS_BYTES],
}

const _: () = assert!(size_of::<Header>() <= HEADER);

impl Header {
    fn new(shape: &Shape, machine: &Machine) -> Header {
        Header {
            magic: MAGIC,
            byte_order: BYTE_ORDER,
            version: LAYOUT_VERSION,
            word_bits: usize::BITS,
            futex_offset: FUTEX_OFFSET,
            state: UNFINISHED,
            reserved: 0,
            size: (HEADER + shape.size) as u64,
            boot: machine.boot,
            namespace: machine.namespace,
            class: padded(shape.class),
            details: padded(shape.details),
        }
    }

    /// What is in the file now: a copy, which nobody can change while it is checked.
    pub fn read(path: &Path, file: &fs::File) -> Result<Header> {
        let mut bytes = [0; size_of::<Header>()];
        match file.read_exact_at(&mut bytes, 0) {
            // SAFETY: a `Header` is numbers and bytes, without padding: any value will do.
            Ok(()) => Ok(unsafe { std::mem::transmute::<[u8; size_of::<Header>()], Header>(bytes) }),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Err(foreign(path)),
            Err(error) => Err(Error::io("read the file of a shared object", &error)),
        }
    }

    /// Whether this is the header of an object of that shape in a file of `size` bytes. `alone` tells whether another
    /// process has the file open.
    pub fn check(&self, path: &Path, size: u64, shape: &Shape, alone: bool) -> Result<()> {
        if self.magic != MAGIC {
            return Err(foreign(path));
        }
        let order = self.byte_order.swap_bytes() == BYTE_ORDER;
        let differs = [
            ("byte order", order, "the other".to_owned(), "this machine's".to_owned()),
            different("layout version", self.version, LAYOUT_VERSION),
            different("word size", self.word_bits, usize::BITS),
            different("futex offset of the C library", self.futex_offset, FUTEX_OFFSET),
            different("byte order mark", self.byte_order, BYTE_ORDER),
        ];
        if let Some((what, _, there, here)) = differs.into_iter().find(|(_, differs, ..)| *differs) {
            let path = path.display();
            return Err(Error::Incompatible(format!(
                "{path} was made with another {what} ({there}, here it is {here}): {}",
                remedy(alone)
            )));
        }
        shape.compare(path, &text(&self.class), &text(&self.details))?;
        let expected = (HEADER + shape.size) as u64;
        if self.size != expected || size != expected {
            return Err(Error::Incompatible(format!(
                "{} has {size} bytes, {} by its header, and a {shape} takes {expected}: the file is damaged; {}",
                path.display(),
                self.size,
                remedy(alone)
            )));
        }
        Ok(())
    }

    /// Whether the object is complete, and was in use since the machine was started.
    pub fn is_current(&self, machine: &Machine) -> bool {
        self.state == COMPLETE && self.boot == machine.boot
    }

    /// Whether a process can join those that have the file open.
    pub fn check_company(&self, path: &Path, machine: &Machine) -> Result<()> {
        let path = path.display();
        if !self.is_current(machine) {
            return Err(Error::Incompatible(format!(
                "{path} is open, and its header says that it is not from this boot of the machine, or not complete: it \
                 is damaged; {}",
                remedy(false)
            )));
        }
        if self.namespace != machine.namespace {
            return Err(Error::Refused(format!(
                "{path} is open in another PID namespace (pid:[{}], this process is in pid:[{}]), where thread \
                 numbers mean something else: run both in one namespace, as containers do with --pid, or use another \
                 path",
                self.namespace, machine.namespace
            )));
        }
        Ok(())
    }
}

/// The mapped header of a file that nobody else can use yet.
pub struct Draft(NonNull<Header>);

impl Draft {
    /// # Safety
    /// `header` stays mapped as long as this.
    pub unsafe fn new(header: NonNull<Header>) -> Draft {
        Draft(header)
    }

    /// The object is about to be made new. Whoever finds it so does that again.
    pub fn begin(&self) {
        self.state().store(UNFINISHED, SeqCst);
    }

    /// The object is complete. Everything written before is in the file when this is.
    pub fn complete(&self, shape: &Shape, machine: &Machine) {
        // SAFETY: mapped, and nobody else writes here.
        unsafe { self.0.write_volatile(Header::new(shape, machine)) };
        self.state().store(COMPLETE, SeqCst);
    }

    /// From here on the object belongs to the namespace of this process.
    pub fn adopt(&self, machine: &Machine) {
        // SAFETY: as in `complete`.
        unsafe { (&raw mut (*self.0.as_ptr()).namespace).write_volatile(machine.namespace) };
    }

    fn state(&self) -> &AtomicU32 {
        // SAFETY: mapped as long as this, and aligned.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.0.as_ptr()).state) }
    }
}

fn different<T: PartialEq + std::fmt::Display>(
    what: &'static str,
    there: T,
    here: T,
) -> (&'static str, bool, String, String) {
    (what, there != here, there.to_string(), here.to_string())
}

fn foreign(path: &Path) -> Error {
    Error::Incompatible(format!(
        "{} is no object of process_shared: use another path, or delete the file if nothing else needs it",
        path.display()
    ))
}

fn remedy(alone: bool) -> &'static str {
    if alone {
        "no process has it open, so the file may be deleted"
    } else {
        "delete the file when no process has it open any more"
    }
}

fn padded<const N: usize>(text: &str) -> [u8; N] {
    let mut bytes = [0; N];
    let length = text.len().min(N);
    bytes[..length].copy_from_slice(&text.as_bytes()[..length]);
    bytes
}

/// The text before the first zero byte; what is not UTF-8 is replaced.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::offset_of;

    /// FNV-1a over names, offsets and sizes.
    fn fingerprint(fields: &[(&str, usize)]) -> u64 {
        let bytes = fields.iter().flat_map(|(name, offset)| name.bytes().chain(offset.to_le_bytes()));
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }

    macro_rules! fields {
        ($type:ty: $($field:ident)*) => {
            [$((stringify!($field), offset_of!($type, $field)),)* (stringify!($type), size_of::<$type>())]
        };
    }

    /// A new object has to say what its layout is.
    #[test]
    fn every_object_has_a_layout() {
        let sources = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/src/objects")).unwrap();
        let mut names: Vec<_> = sources
            .filter_map(|entry| Some(entry.unwrap().path().file_stem()?.to_str()?.to_owned()))
            .filter(|name| name != "mod")
            .collect();
        names.sort();
        assert_eq!(names, crate::objects::layouts().into_iter().map(|(name, _)| name).collect::<Vec<_>>());
    }

    #[test]
    fn a_change_of_the_layout_changes_its_version() {
        let header = fields!(Header: magic byte_order version word_bits futex_offset state reserved size boot
                             namespace class details);
        let known = (1, 0x4a08_117d_c013_4c31);
        let home = [crate::word::layout(), crate::participants::layout(), crate::arena::layout()].concat();
        let objects = crate::objects::layouts().into_iter().map(|(_, layout)| layout);
        let objects = objects.collect::<Vec<_>>().concat();
        let now = (LAYOUT_VERSION, fingerprint(&[&header[..], &home, &objects].concat()));
        assert_eq!(now, known, "the layout has changed: raise LAYOUT_VERSION, and write {now:#x?} here");
    }
}
