//! The Mach kernel itself. Every function here is one call, with its result turned into a `Result`.

use super::mach::{BOOTSTRAP, Code, FIFO, MOST_RIGHTS, Mach, Message, Name, Result, Start};
use mach2::clock::clock_get_time;
use mach2::clock_types::{SYSTEM_CLOCK, mach_timespec_t};
use mach2::kern_return::{KERN_SUCCESS, kern_return_t};
use mach2::mach_init::mach_host_self;
use mach2::mach_port::{mach_port_allocate, mach_port_deallocate, mach_port_destroy, mach_port_insert_right};
use mach2::message::{
    MACH_MSG_PORT_DESCRIPTOR, MACH_MSGH_BITS, MACH_MSGH_BITS_COMPLEX, MACH_RCV_INTERRUPT, MACH_RCV_MSG,
    MACH_RCV_TIMEOUT, MACH_SEND_INTERRUPTED, MACH_SEND_MSG, MACH_SEND_TIMED_OUT, MACH_SEND_TIMEOUT, mach_msg,
    mach_msg_body_t, mach_msg_destroy, mach_msg_header_t, mach_msg_port_descriptor_t,
};
use mach2::semaphore::{
    semaphore_create, semaphore_destroy, semaphore_signal, semaphore_timedwait, semaphore_wait,
};
use mach2::sync_policy::SYNC_POLICY_FIFO;
use mach2::task::{task_get_special_port, task_set_special_port};
use mach2::task_special_ports::TASK_BOOTSTRAP_PORT;
use mach2::traps::mach_task_self;
use std::ffi::{CStr, c_void};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

// What mach2 has no declarations of: <mach/semaphore.h>, <mach/mach_port.h>, <mach/mach_host.h>, <mach/mach_error.h>,
// <servers/bootstrap.h>.
unsafe extern "C" {
    fn semaphore_signal_all(semaphore: Name) -> kern_return_t;
    fn mach_port_allocate_name(task: Name, right: u32, name: Name) -> kern_return_t;
    fn host_get_clock_service(host: Name, clock: i32, service: *mut Name) -> kern_return_t;
    fn mach_error_string(code: i32) -> *const libc::c_char;
    static mut bootstrap_port: Name;
}

const _: () = assert!(FIFO == SYNC_POLICY_FIFO && BOOTSTRAP == TASK_BOOTSTRAP_PORT);

/// <sys/proc_info.h>: what is known of one thread, by its 64-bit number.
const PROC_PIDTHREADID64INFO: libc::c_int = 15;

/// <os/os_sync_wait_on_address.h>, since macOS 14.4: the flag for memory of several processes, and the clock.
const SHARED: u32 = 1;
const MACH_ABSOLUTE_TIME: u32 = 32;

type WaitOnAddress = unsafe extern "C" fn(*mut c_void, u64, libc::size_t, u32, u32, u64) -> libc::c_int;
type WakeByAddress = unsafe extern "C" fn(*mut c_void, libc::size_t, u32) -> libc::c_int;

static WAIT_ON_ADDRESS: Symbol = Symbol::named(c"os_sync_wait_on_address_with_timeout");
static WAKE_ANY: Symbol = Symbol::named(c"os_sync_wake_by_address_any");
static WAKE_ALL: Symbol = Symbol::named(c"os_sync_wake_by_address_all");

/// A function that not all versions of the system have.
struct Symbol {
    name: &'static CStr,
    /// Its address, or `MISSING`; 0 before it was looked for.
    address: AtomicUsize,
}

impl Symbol {
    const MISSING: usize = 1;

    const fn named(name: &'static CStr) -> Self {
        Symbol { name, address: AtomicUsize::new(0) }
    }

    fn find(&self) -> Option<NonNull<c_void>> {
        let known = self.address.load(Relaxed);
        let address = if known == 0 { self.look() } else { known };
        NonNull::new(std::ptr::with_exposed_provenance_mut(address)).filter(|_| address != Self::MISSING)
    }

    #[cold]
    fn look(&self) -> usize {
        // SAFETY: a C string.
        let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, self.name.as_ptr()) };
        let address = if found.is_null() { Self::MISSING } else { found.expose_provenance() };
        self.address.store(address, Relaxed);
        address
    }
}

/// macOS.
pub enum Real {}

/// A message with port rights, and room for the trailer that the kernel puts behind a received one.
#[repr(C)]
struct Packet {
    header: mach_msg_header_t,
    body: mach_msg_body_t,
    rights: [mach_msg_port_descriptor_t; MOST_RIGHTS],
    trailer: [u8; 68], // MAX_TRAILER_SIZE
}

const RIGHTS_AT: usize = std::mem::offset_of!(Packet, rights);
const RIGHT_SIZE: usize = size_of::<mach_msg_port_descriptor_t>();
const _: () = assert!(RIGHTS_AT == 28 && RIGHT_SIZE == 12);

fn check(code: kern_return_t) -> Result<()> {
    if code == KERN_SUCCESS { Ok(()) } else { Err(Code(code)) }
}

/// Runs a call that writes a name.
fn name_of(call: impl FnOnce(*mut Name) -> kern_return_t) -> Result<Name> {
    let mut name = 0;
    check(call(&raw mut name)).map(|()| name)
}

/// Rounded up, so that no wait ends before its time.
fn milliseconds(time: Duration) -> u32 {
    u32::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

// SAFETY, for all calls below that have no comment of their own: names are numbers which the kernel checks, a wrong one is
// an error and touches no memory; what a call writes to is a variable of the right type in this frame.
#[allow(clippy::undocumented_unsafe_blocks)]
impl Mach for Real {
    fn task_self() -> Name {
        unsafe { mach_task_self() }
    }

    fn semaphore_create(task: Name, policy: i32, value: i32) -> Result<Name> {
        name_of(|name| unsafe { semaphore_create(task, name, policy, value) })
    }

    fn semaphore_destroy(task: Name, semaphore: Name) -> Result<()> {
        check(unsafe { semaphore_destroy(task, semaphore) })
    }

    fn semaphore_signal(semaphore: Name) -> Result<()> {
        check(unsafe { semaphore_signal(semaphore) })
    }

    fn semaphore_signal_all(semaphore: Name) -> Result<()> {
        check(unsafe { semaphore_signal_all(semaphore) })
    }

    fn semaphore_wait(semaphore: Name) -> Result<()> {
        check(unsafe { semaphore_wait(semaphore) })
    }

    fn semaphore_timedwait(semaphore: Name, timeout: Duration) -> Result<()> {
        let time = mach_timespec_t {
            tv_sec: u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX),
            tv_nsec: timeout.subsec_nanos() as i32,
        };
        check(unsafe { semaphore_timedwait(semaphore, time) })
    }

    unsafe fn wait_on_address(address: *const u32, expected: u32, time: Duration) -> Result<()> {
        let Some(wait) = WAIT_ON_ADDRESS.find() else { return Err(Code::NOT_SUPPORTED) };
        // SAFETY: the function of that name in <os/os_sync_wait_on_address.h>.
        let wait = unsafe { std::mem::transmute::<NonNull<c_void>, WaitOnAddress>(wait) };
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).max(1);
        // SAFETY: the caller's promise.
        let left = unsafe {
            wait(address.cast_mut().cast(), expected.into(), 4, SHARED, MACH_ABSOLUTE_TIME, nanoseconds)
        };
        if left >= 0 {
            return Ok(());
        }
        Err(match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EINTR) => Code::ABORTED,
            Some(libc::ETIMEDOUT) => Code::OPERATION_TIMED_OUT,
            _ => Code::NOT_SUPPORTED,
        })
    }

    fn wake_by_address(address: *const u32, all: bool) -> bool {
        let Some(wake) = (if all { &WAKE_ALL } else { &WAKE_ANY }).find() else { return false };
        // SAFETY: the function of that name in <os/os_sync_wait_on_address.h>.
        let wake = unsafe { std::mem::transmute::<NonNull<c_void>, WakeByAddress>(wake) };
        unsafe { wake(address.cast_mut().cast(), 4, SHARED) == 0 }
    }

    fn port_allocate(task: Name, right: u32) -> Result<Name> {
        name_of(|name| unsafe { mach_port_allocate(task, right, name) })
    }

    fn port_allocate_name(task: Name, right: u32, name: Name) -> Result<()> {
        check(unsafe { mach_port_allocate_name(task, right, name) })
    }

    fn port_destroy(task: Name, name: Name) -> Result<()> {
        check(unsafe { mach_port_destroy(task, name) })
    }

    fn port_deallocate(task: Name, name: Name) -> Result<()> {
        check(unsafe { mach_port_deallocate(task, name) })
    }

    fn port_insert_right(task: Name, name: Name, port: Name, disposition: u32) -> Result<()> {
        check(unsafe { mach_port_insert_right(task, name, port, disposition) })
    }

    fn task_get_special_port(task: Name, which: i32) -> Result<Name> {
        name_of(|name| unsafe { task_get_special_port(task, which, name) })
    }

    fn task_set_special_port(task: Name, which: i32, port: Name) -> Result<()> {
        check(unsafe { task_set_special_port(task, which, port) })
    }

    fn bootstrap_port() -> Name {
        // SAFETY: a number that the C library writes once, before main.
        unsafe { (&raw const bootstrap_port).read() }
    }

    fn set_bootstrap_port(port: Name) {
        // SAFETY: called in a forked child, whose only thread this is.
        unsafe { (&raw mut bootstrap_port).write(port) }
    }

    fn send(
        to: Name,
        disposition: u32,
        id: i32,
        rights: &[(Name, u32)],
        timeout: Option<Duration>,
    ) -> Result<()> {
        if rights.len() > MOST_RIGHTS {
            return Err(Code::INVALID_ARGUMENT);
        }
        let mut packet = packet();
        packet.header.msgh_bits = MACH_MSGH_BITS(disposition, 0) | MACH_MSGH_BITS_COMPLEX;
        packet.header.msgh_size = (RIGHTS_AT + rights.len() * RIGHT_SIZE) as u32;
        packet.header.msgh_remote_port = to;
        packet.header.msgh_id = id;
        packet.body.msgh_descriptor_count = rights.len() as u32;
        for (descriptor, (name, disposition)) in packet.rights.iter_mut().zip(rights) {
            *descriptor = mach_msg_port_descriptor_t::new(*name, *disposition);
        }
        let option = MACH_SEND_MSG | if timeout.is_some() { MACH_SEND_TIMEOUT } else { 0 };
        let time = timeout.map_or(0, milliseconds);
        let header = &raw mut packet.header;
        // SAFETY: the packet is as long as it says, and holds as many descriptors as it says.
        let code = unsafe { mach_msg(header, option, (*header).msgh_size, 0, 0, time, 0) };
        if code == MACH_SEND_TIMED_OUT || code == MACH_SEND_INTERRUPTED {
            // SAFETY: after these two the message has been given back, with rights in it.
            unsafe { mach_msg_destroy(header) };
        }
        check(code)
    }

    fn receive(port: Name, timeout: Option<Duration>) -> Result<Message> {
        let mut packet = packet();
        let option = MACH_RCV_MSG | MACH_RCV_INTERRUPT | if timeout.is_some() { MACH_RCV_TIMEOUT } else { 0 };
        let time = timeout.map_or(0, milliseconds);
        let header = &raw mut packet.header;
        // SAFETY: the packet is as large as we say; a larger message is refused.
        check(unsafe { mach_msg(header, option, 0, size_of::<Packet>() as u32, port, time, 0) })?;
        let count = packet.body.msgh_descriptor_count as usize;
        let ours = packet.header.msgh_bits & MACH_MSGH_BITS_COMPLEX != 0
            && count <= MOST_RIGHTS
            && packet.header.msgh_size as usize == RIGHTS_AT + count * RIGHT_SIZE
            && packet.rights[..count].iter().all(|right| u32::from(right.type_) == MACH_MSG_PORT_DESCRIPTOR);
        let mut message = Message { id: packet.header.msgh_id, ..Message::default() };
        if ours {
            message.count = count;
            for (name, right) in message.rights.iter_mut().zip(&packet.rights[..count]) {
                *name = right.name;
            }
        } else {
            // SAFETY: a message just received, whose rights nobody has taken.
            unsafe { mach_msg_destroy(&raw mut packet.header) };
        }
        Ok(message)
    }

    fn host_self() -> Name {
        unsafe { mach_host_self() }
    }

    fn host_get_clock_service(host: Name) -> Result<Name> {
        name_of(|name| unsafe { host_get_clock_service(host, SYSTEM_CLOCK as i32, name) })
    }

    fn clock_get_time(clock: Name) -> Result<Duration> {
        let mut time = mach_timespec_t { tv_sec: 0, tv_nsec: 0 };
        check(unsafe { clock_get_time(clock, &raw mut time) })?;
        Ok(Duration::new(time.tv_sec.into(), time.tv_nsec as u32))
    }

    fn message(code: Code) -> String {
        // SAFETY: always a constant C string.
        unsafe { CStr::from_ptr(mach_error_string(code.0)) }.to_string_lossy().into_owned()
    }

    fn start_of(pid: u32) -> Start {
        // SAFETY: plain C data, for which all zeroes is a value.
        let mut info: libc::proc_bsdinfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info) as libc::c_int;
        // 0 as the argument leaves out zombies.
        // SAFETY: at most `size` bytes are written to `info`.
        let got = unsafe {
            libc::proc_pidinfo(pid as i32, libc::PROC_PIDTBSDINFO, 0, (&raw mut info).cast(), size)
        };
        if got == size {
            return Start::At(info.pbi_start_tvsec * 1_000_000 + info.pbi_start_tvusec);
        }
        match std::io::Error::last_os_error().raw_os_error() {
            Some(libc::EPERM) => Start::Hidden,
            _ => Start::Gone,
        }
    }

    fn current_thread() -> u64 {
        let mut thread = 0;
        // SAFETY: 0 means the calling thread; its number is written to `thread`.
        unsafe { libc::pthread_threadid_np(0, &raw mut thread) };
        thread
    }

    fn has_thread(pid: u32, thread: u64) -> bool {
        // SAFETY: plain C data, for which all zeroes is a value.
        let mut info: libc::proc_threadinfo = unsafe { std::mem::zeroed() };
        let size = size_of_val(&info) as libc::c_int;
        // SAFETY: at most `size` bytes are written to `info`.
        let got = unsafe {
            libc::proc_pidinfo(pid as i32, PROC_PIDTHREADID64INFO, thread, (&raw mut info).cast(), size)
        };
        got > 0 || !matches!(std::io::Error::last_os_error().raw_os_error(), Some(libc::ESRCH | libc::EINVAL))
    }
}

fn packet() -> Packet {
    // SAFETY: plain C data, for which all zeroes is a value.
    unsafe { std::mem::zeroed() }
}
