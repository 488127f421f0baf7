//! The calls of the Mach kernel that this crate makes, as a trait: `real` is macOS, `simulated` a model of it that runs on
//! Linux between real processes. What is built on it cannot tell them apart.
//!
//! A name is a process's own number for a right to a port. Names mean nothing in another process, and a forked child
//! starts with none: that is why there is a hand-over.

use std::time::Duration;

/// A process's name for a right.
pub type Name = u32;
/// No right.
pub const NULL: Name = 0;

/// Why a call failed: a `kern_return_t` or `mach_msg_return_t`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub i32);

impl Code {
    pub const NO_SPACE: Code = Code(3);
    pub const INVALID_ARGUMENT: Code = Code(4);
    pub const FAILURE: Code = Code(5);
    pub const NAME_EXISTS: Code = Code(13);
    pub const ABORTED: Code = Code(14);
    pub const INVALID_NAME: Code = Code(15);
    pub const INVALID_TASK: Code = Code(16);
    pub const INVALID_RIGHT: Code = Code(17);
    pub const RIGHT_EXISTS: Code = Code(21);
    pub const TERMINATED: Code = Code(37);
    pub const NOT_SUPPORTED: Code = Code(46);
    pub const OPERATION_TIMED_OUT: Code = Code(49);
    pub const SEND_INVALID_DEST: Code = Code(0x1000_0003);
    pub const RECEIVE_INTERRUPTED: Code = Code(0x1000_4005);
    pub const RECEIVE_TIMED_OUT: Code = Code(0x1000_4003);
}

pub type Result<T> = std::result::Result<T, Code>;

/// Kinds of rights.
pub mod right {
    pub const SEND: u32 = 0;
    pub const RECEIVE: u32 = 1;
    pub const SEND_ONCE: u32 = 2;
    pub const PORT_SET: u32 = 3;
    pub const DEAD_NAME: u32 = 4;
}

/// What becomes of a right that is inserted or sent.
pub mod disposition {
    pub const MOVE_RECEIVE: u32 = 16;
    pub const MOVE_SEND: u32 = 17;
    pub const MOVE_SEND_ONCE: u32 = 18;
    pub const COPY_SEND: u32 = 19;
    pub const MAKE_SEND: u32 = 20;
    pub const MAKE_SEND_ONCE: u32 = 21;
    pub const COPY_RECEIVE: u32 = 22;
}

/// `TASK_BOOTSTRAP_PORT`.
pub const BOOTSTRAP: i32 = 4;
/// `SYNC_POLICY_FIFO`.
pub const FIFO: i32 = 0;
/// The most rights one message carries.
pub const MOST_RIGHTS: usize = 2;

/// A message that came in: its number, and this process's names for the rights that were in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    pub id: i32,
    pub rights: [Name; MOST_RIGHTS],
    pub count: usize,
}

impl Message {
    pub fn rights(&self) -> &[Name] {
        &self.rights[..self.count]
    }
}

/// When a process was started: with its pid, that tells it from all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// There is no such process.
    Gone,
    /// In a unit of the system's.
    At(u64),
    /// There is such a process, but we may not ask: it runs as another user.
    Hidden,
}

/// One system's calls. Each does what the call of its name does, and fails with that one's codes.
pub trait Mach {
    /// This process's name for itself.
    fn task_self() -> Name;

    fn semaphore_create(task: Name, policy: i32, value: i32) -> Result<Name>;
    /// Also gives up the caller's right.
    fn semaphore_destroy(task: Name, semaphore: Name) -> Result<()>;
    fn semaphore_signal(semaphore: Name) -> Result<()>;
    fn semaphore_signal_all(semaphore: Name) -> Result<()>;
    /// `ABORTED` if a Unix signal was handled, `TERMINATED` if the semaphore's task ended.
    fn semaphore_wait(semaphore: Name) -> Result<()>;
    /// As `semaphore_wait`, or `OPERATION_TIMED_OUT`.
    fn semaphore_timedwait(semaphore: Name, timeout: Duration) -> Result<()>;

    /// Sleeps while the word at `address` is `expected`, which any process with the same memory can change and wake. Fails
    /// as `semaphore_timedwait`, and by `NOT_SUPPORTED` before macOS 14.4.
    ///
    /// # Safety
    /// `address` is that of a word of 32 bits, which stays mapped.
    unsafe fn wait_on_address(address: *const u32, expected: u32, time: Duration) -> Result<()>;
    /// Wakes one thread that sleeps on the word, or all. False if there is none.
    fn wake_by_address(address: *const u32, all: bool) -> bool;

    fn port_allocate(task: Name, right: u32) -> Result<Name>;
    fn port_allocate_name(task: Name, right: u32, name: Name) -> Result<()>;
    fn port_destroy(task: Name, name: Name) -> Result<()>;
    fn port_deallocate(task: Name, name: Name) -> Result<()>;
    /// Gives `task`, under the name `name`, the right that this process calls `port`.
    fn port_insert_right(task: Name, name: Name, port: Name, disposition: u32) -> Result<()>;

    fn task_get_special_port(task: Name, which: i32) -> Result<Name>;
    fn task_set_special_port(task: Name, which: i32, port: Name) -> Result<()>;
    /// The C library's idea of the bootstrap port, which it reads at a process's start only.
    fn bootstrap_port() -> Name;
    fn set_bootstrap_port(port: Name);

    /// Sends at most `MOST_RIGHTS` rights, each a name and its disposition. Waits at most `timeout` for room.
    fn send(
        to: Name,
        disposition: u32,
        id: i32,
        rights: &[(Name, u32)],
        timeout: Option<Duration>,
    ) -> Result<()>;
    fn receive(port: Name, timeout: Option<Duration>) -> Result<Message>;

    fn host_self() -> Name;
    fn host_get_clock_service(host: Name) -> Result<Name>;
    fn clock_get_time(clock: Name) -> Result<Duration>;
    /// The system's text for a code.
    fn message(code: Code) -> String;

    /// When process `pid` was started. A zombie is gone.
    fn start_of(pid: u32) -> Start;
    /// A number for the calling thread that no other thread of this machine has or will have, and no program this
    /// thread may go on to run.
    fn current_thread() -> u64;
    /// Whether process `pid` has such a thread. True when that cannot be found out.
    fn has_thread(pid: u32, thread: u64) -> bool;
}

#[cfg(target_os = "macos")]
pub use super::real::Real as System;
#[cfg(not(target_os = "macos"))]
pub use super::simulated::Simulated as System;
