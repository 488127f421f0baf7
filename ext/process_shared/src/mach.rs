//! The kernel's calls for `lib/mach.rb`, as functions of the module `ProcessShared::MachCalls`: numbers in, numbers out.
//! What fails raises the `Mach::Error` of its code.

use magnus::{ExceptionClass, RModule, Ruby, Value, function, prelude::*};
use process_shared_core::platform::mach::{Code, Mach, Name, Result as Answer, System};
use process_shared_core::{Outcome, Thread};
use std::cell::Cell;
use std::time::Duration;

use crate::errors::Error;
use crate::nogvl;
use crate::timeout::Timeout;

fn to_ruby(ruby: &Ruby, code: Code) -> Error {
    let error = ruby.class_object().const_get::<_, RModule>("Mach").and_then(|mach| {
        let class: ExceptionClass = mach.const_get("Error")?;
        class.funcall::<_, _, magnus::Exception>("for", (code.0, System::message(code)))
    });
    match error {
        Ok(exception) => exception.into(),
        Err(error) => error.into(),
    }
}

fn answer<T>(ruby: &Ruby, answer: Answer<T>) -> Result<T, Error> {
    answer.map_err(|code| to_ruby(ruby, code))
}

fn semaphore_create(ruby: &Ruby, task: Name, policy: i32, value: i32) -> Result<Name, Error> {
    answer(ruby, System::semaphore_create(task, policy, value))
}

fn semaphore_destroy(ruby: &Ruby, task: Name, semaphore: Name) -> Result<(), Error> {
    answer(ruby, System::semaphore_destroy(task, semaphore))
}

fn semaphore_signal(ruby: &Ruby, semaphore: Name) -> Result<(), Error> {
    answer(ruby, System::semaphore_signal(semaphore))
}

fn semaphore_signal_all(ruby: &Ruby, semaphore: Name) -> Result<(), Error> {
    answer(ruby, System::semaphore_signal_all(semaphore))
}

/// Waits without the GVL; signal handlers run, and the wait goes on if they return.
/// `give_back` undoes a call that succeeded while an interrupt came due: it is then made again, if nothing is raised.
fn wait(ruby: &Ruby, call: impl Fn() -> Answer<()>, mut give_back: impl FnMut()) -> Result<(), Error> {
    let failed = Cell::new(None);
    let once = || match call() {
        Ok(()) => Outcome::Acquired,
        Err(Code::ABORTED) => Outcome::Interrupted,
        Err(code) => {
            failed.set(Some(code));
            Outcome::TimedOut
        }
    };
    let settle = |_: &Thread, keep: bool| {
        if !keep {
            give_back();
        }
        keep
    };
    nogvl::block(ruby, [None; 2], || Ok(()), |_| once(), settle)?;
    failed.get().map_or(Ok(()), |code| Err(to_ruby(ruby, code)))
}

fn give_back(semaphore: Name) -> impl FnMut() {
    move || {
        let _ = System::semaphore_signal(semaphore); // one that is gone needs no permit
    }
}

fn semaphore_wait(ruby: &Ruby, semaphore: Name) -> Result<(), Error> {
    wait(ruby, || System::semaphore_wait(semaphore), give_back(semaphore))
}

fn semaphore_timedwait(ruby: &Ruby, semaphore: Name, timeout: Value) -> Result<(), Error> {
    match Timeout::parse(ruby, timeout)?.deadline() {
        None => semaphore_wait(ruby, semaphore),
        Some(deadline) => {
            let once = || System::semaphore_timedwait(semaphore, deadline.remaining());
            wait(ruby, once, give_back(semaphore))
        }
    }
}

fn port_allocate(ruby: &Ruby, task: Name, right: u32) -> Result<Name, Error> {
    answer(ruby, System::port_allocate(task, right))
}

fn port_destroy(ruby: &Ruby, task: Name, name: Name) -> Result<(), Error> {
    answer(ruby, System::port_destroy(task, name))
}

fn port_deallocate(ruby: &Ruby, task: Name, name: Name) -> Result<(), Error> {
    answer(ruby, System::port_deallocate(task, name))
}

fn port_insert_right(ruby: &Ruby, task: Name, name: Name, port: Name, how: u32) -> Result<(), Error> {
    answer(ruby, System::port_insert_right(task, name, port, how))
}

fn get_special_port(ruby: &Ruby, task: Name, which: i32) -> Result<Name, Error> {
    answer(ruby, System::task_get_special_port(task, which))
}

fn set_special_port(ruby: &Ruby, task: Name, which: i32, port: Name) -> Result<(), Error> {
    answer(ruby, System::task_set_special_port(task, which, port))
}

/// Sends one right; waits if the port's queue is full.
fn send_right(ruby: &Ruby, to: Name, name: Name, how: u32) -> Result<(), Error> {
    const COPY_SEND: u32 = process_shared_core::platform::mach::disposition::COPY_SEND;
    answer(ruby, System::send(to, COPY_SEND, 0, &[(name, how)], None))
}

/// Waits for a message with a right in it.
fn receive_right(ruby: &Ruby, port: Name) -> Result<Name, Error> {
    // In slices, because the kernel's call does not end for a signal.
    const SLICE: Duration = Duration::from_millis(50);
    let came: Cell<Option<Option<Name>>> = Cell::new(None); // nothing gives a message back, so what came is kept
    let once = || {
        if came.get().is_some() {
            return Ok(());
        }
        match System::receive(port, Some(SLICE)) {
            Ok(message) => {
                came.set(Some(message.rights().first().copied()));
                Ok(())
            }
            Err(Code::RECEIVE_TIMED_OUT | Code::RECEIVE_INTERRUPTED) => Err(Code::ABORTED),
            Err(code) => Err(code),
        }
    };
    let waited = wait(ruby, once, || {});
    let name = came.get().flatten();
    if let (Err(_), Some(name)) = (&waited, name) {
        let _ = System::port_deallocate(System::task_self(), name); // an exception takes nothing with it
    }
    waited.and_then(|()| name.ok_or_else(|| to_ruby(ruby, Code::FAILURE)))
}

fn clock_service(ruby: &Ruby, host: Name) -> Result<Name, Error> {
    answer(ruby, System::host_get_clock_service(host))
}

fn clock_time(ruby: &Ruby, clock: Name) -> Result<(u64, u32), Error> {
    answer(ruby, System::clock_get_time(clock)).map(|time| (time.as_secs(), time.subsec_nanos()))
}

pub fn init(_: &Ruby, module: RModule) -> Result<(), Error> {
    let calls = module.define_module("MachCalls")?;
    calls.define_module_function("task_self", function!(System::task_self, 0))?;
    calls.define_module_function("host_self", function!(System::host_self, 0))?;
    calls.define_module_function("bootstrap_port", function!(System::bootstrap_port, 0))?;
    calls.define_module_function("semaphore_create", function!(semaphore_create, 3))?;
    calls.define_module_function("semaphore_destroy", function!(semaphore_destroy, 2))?;
    calls.define_module_function("semaphore_signal", function!(semaphore_signal, 1))?;
    calls.define_module_function("semaphore_signal_all", function!(semaphore_signal_all, 1))?;
    calls.define_module_function("semaphore_wait", function!(semaphore_wait, 1))?;
    calls.define_module_function("semaphore_timedwait", function!(semaphore_timedwait, 2))?;
    calls.define_module_function("port_allocate", function!(port_allocate, 2))?;
    calls.define_module_function("port_destroy", function!(port_destroy, 2))?;
    calls.define_module_function("port_deallocate", function!(port_deallocate, 2))?;
    calls.define_module_function("port_insert_right", function!(port_insert_right, 4))?;
    calls.define_module_function("get_special_port", function!(get_special_port, 2))?;
    calls.define_module_function("set_special_port", function!(set_special_port, 3))?;
    calls.define_module_function("send_right", function!(send_right, 3))?;
    calls.define_module_function("receive_right", function!(receive_right, 1))?;
    calls.define_module_function("clock_service", function!(clock_service, 1))?;
    Ok(calls.define_module_function("clock_time", function!(clock_time, 1))?)
}
