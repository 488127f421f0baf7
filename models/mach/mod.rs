//! A model of the Mach kernel. It runs on Linux what is built on that kernel: tasks with names for rights, ports with
//! messages, special ports that a fork inherits, semaphores as shared counting words.
//!
//! Tasks are real processes. A task's end is noticed when somebody looks. The model has no no-senders notifications, no
//! port sets, and no user references beyond a count.

mod addresses;
mod faults;
mod messages;
mod names;
mod objects;
mod ports;
mod processes;
mod semaphores;
mod tasks;
mod world;

pub use faults::{between_calls, call_ends, calls_begun, die_at, fail_at};

use crate::platform::mach::{Code, Mach, Message, NULL, Name, Result, Start};
use faults::call_begins;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use world::{Kind, LIBRARY_BOOTSTRAP, call, inside};

/// The model.
pub enum Simulated {}

impl Mach for Simulated {
    fn task_self() -> Name {
        inside(|world, me| world.name_of_task(me))
    }

    fn semaphore_create(task: Name, _policy: i32, value: i32) -> Result<Name> {
        semaphores::create(task, value)
    }

    fn semaphore_destroy(task: Name, semaphore: Name) -> Result<()> {
        semaphores::destroy(task, semaphore)
    }

    fn semaphore_signal(semaphore: Name) -> Result<()> {
        semaphores::signal(semaphore)
    }

    fn semaphore_signal_all(semaphore: Name) -> Result<()> {
        semaphores::signal_all(semaphore)
    }

    fn semaphore_wait(semaphore: Name) -> Result<()> {
        semaphores::wait(semaphore, None)
    }

    fn semaphore_timedwait(semaphore: Name, timeout: Duration) -> Result<()> {
        semaphores::wait(semaphore, Some(timeout))
    }

    unsafe fn wait_on_address(address: *const u32, expected: u32, time: Duration) -> Result<()> {
        // SAFETY: the caller's promise.
        unsafe { addresses::wait(address, expected, time) }
    }

    fn wake_by_address(address: *const u32, all: bool) -> bool {
        addresses::wake(address, all)
    }

    fn port_allocate(task: Name, right: u32) -> Result<Name> {
        ports::allocate(task, right)
    }

    fn port_allocate_name(task: Name, right: u32, name: Name) -> Result<()> {
        ports::allocate_name(task, right, name)
    }

    fn port_destroy(task: Name, name: Name) -> Result<()> {
        ports::destroy(task, name)
    }

    fn port_deallocate(task: Name, name: Name) -> Result<()> {
        ports::deallocate(task, name)
    }

    fn port_insert_right(task: Name, name: Name, port: Name, disposition: u32) -> Result<()> {
        ports::insert_right(task, name, port, disposition)
    }

    fn task_get_special_port(task: Name, which: i32) -> Result<Name> {
        ports::special_port(task, which)
    }

    fn task_set_special_port(task: Name, which: i32, port: Name) -> Result<()> {
        ports::set_special_port(task, which, port)
    }

    fn bootstrap_port() -> Name {
        inside(|_, _| LIBRARY_BOOTSTRAP.load(Relaxed))
    }

    fn set_bootstrap_port(port: Name) {
        LIBRARY_BOOTSTRAP.store(port, Relaxed);
    }

    fn send(
        to: Name,
        disposition: u32,
        id: i32,
        rights: &[(Name, u32)],
        _timeout: Option<Duration>,
    ) -> Result<()> {
        messages::send(to, disposition, id, rights)
    }

    fn receive(port: Name, timeout: Option<Duration>) -> Result<Message> {
        messages::receive(port, timeout)
    }

    fn host_self() -> Name {
        inside(|world, me| world.service(me, Kind::Host)).unwrap_or(NULL)
    }

    fn host_get_clock_service(_host: Name) -> Result<Name> {
        call(|world, me| world.service(me, Kind::Clock))
    }

    fn clock_get_time(_clock: Name) -> Result<Duration> {
        call_begins()?;
        Ok(crate::deadline::now())
    }

    fn message(code: Code) -> String {
        let text = match code {
            Code(1) => "(os/kern) invalid address",
            Code::NO_SPACE => "(os/kern) no space available",
            Code::INVALID_ARGUMENT => "(os/kern) invalid argument",
            Code::FAILURE => "(os/kern) failure",
            Code::ABORTED => "(os/kern) operation aborted",
            Code::INVALID_NAME => "(os/kern) invalid name",
            Code::OPERATION_TIMED_OUT => "(os/kern) operation timed out",
            _ => "unknown error code",
        };
        text.to_owned()
    }

    fn start_of(pid: u32) -> Start {
        processes::start_of(pid)
    }

    fn current_thread() -> u64 {
        processes::current_thread()
    }

    fn has_thread(pid: u32, thread: u64) -> bool {
        processes::has_thread(pid, thread)
    }
}
