//! How a forked child gets the rights to the semaphores of its parent's objects, under the same names.
//!
//! A child starts with no rights but its special ports, which it inherits. So for the moment of the fork, the parent sets
//! a port of its own, the carrier, as its bootstrap port:
//!
//! | parent                                             | child                                                |
//! |----------------------------------------------------|------------------------------------------------------|
//! | `prepare`: makes the carrier, sets it              |                                                      |
//! | fork                                               | fork                                                 |
//! | `serve`: sets its own bootstrap port again         | `receive`: makes a port for the answer               |
//! | waits for a message on the carrier                 | sends its task port and the answer's to the carrier  |
//! | inserts each right into the child's task           | waits for the answer                                 |
//! | answers with the bootstrap port                    |                                                      |
//! |                                                    | sets it; from now on all objects are accessible      |
//!
//! One thread at a time is between `prepare` and its fork (`fork_preparation`). Each fork has a carrier of its own, so
//! what follows cannot mix. A fork within that, by a signal handler on the same thread, is served like any other.
//!
//! Each side watches whether the other is still there: the parent, whether the child is alive; the child, whether the
//! carrier is. A child that cannot ask says so. Nobody waits for longer than `LIMIT`. In a child that was not served, the
//! objects made before the fork are not accessible (`port_names::is_accessible`). A name that could not be inserted is
//! made a dead name in the child, so that nothing else gets it; the child then polls that object.

use super::LONGEST;
use super::mach::{BOOTSTRAP, Code, Mach, Message, NULL, Name, Start, System, disposition, right};
use super::{fork_preparation, port_names};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long the two wait for each other. They need less than a millisecond, but either may be stopped meanwhile.
const LIMIT: Duration = Duration::from_secs(10);
const HELLO: i32 = 0x7073_6801;
const ANSWER: i32 = 0x7073_6802;
const GIVING_UP: i32 = 0x7073_6803;
const STILL_THERE: i32 = 0x7073_6804;

/// This process's own bootstrap port, while a fork is being prepared.
static OWN: AtomicU32 = AtomicU32::new(NULL);

/// Why a fork was not prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unprepared {
    /// Another thread is about to fork: try again.
    Busy,
    /// The kernel refused; everything is as before.
    Failed(Code),
}

/// A fork that is prepared. `serve` or `receive` ends it.
#[derive(Debug)]
pub struct Handover {
    carrier: Name,
    /// The bootstrap port to set again.
    before: Name,
    /// The bootstrap port for the child. It differs from `before` if this fork is within another.
    own: Name,
}

fn myself() -> Name {
    System::task_self()
}

fn deallocate(name: Name) {
    if name != NULL {
        let _ = System::port_deallocate(myself(), name);
    }
}

fn end_preparation() {
    fork_preparation::end(|| OWN.store(NULL, Relaxed));
}

/// Makes ready for a fork. None if there is nothing to hand over.
///
/// # Errors
/// See `Unprepared`.
pub fn prepare() -> Result<Option<Handover>, Unprepared> {
    if port_names::is_empty() {
        return Ok(None);
    }
    if !fork_preparation::begin() {
        return Err(Unprepared::Busy);
    }
    port_names::fork_begins();
    set_up().map(Some).map_err(|code| {
        end_preparation();
        port_names::fork_ends();
        Unprepared::Failed(code)
    })
}

fn set_up() -> Result<Handover, Code> {
    let before = System::task_get_special_port(myself(), BOOTSTRAP)?;
    let carrier = match make_carrier() {
        Ok(carrier) => carrier,
        Err(code) => {
            deallocate(before);
            return Err(code);
        }
    };
    let own = if fork_preparation::is_outermost() { before } else { OWN.load(Relaxed) };
    OWN.store(own, Relaxed);
    Ok(Handover { carrier, before, own })
}

/// A port, set as the bootstrap port.
fn make_carrier() -> Result<Name, Code> {
    let carrier = System::port_allocate(myself(), right::RECEIVE)?;
    let made = System::port_insert_right(myself(), carrier, carrier, disposition::MAKE_SEND)
        .and_then(|()| System::task_set_special_port(myself(), BOOTSTRAP, carrier));
    if let Err(code) = made {
        let _ = System::port_destroy(myself(), carrier);
        return Err(code);
    }
    Ok(carrier)
}

impl Handover {
    /// In the parent, right after the fork: puts the bootstrap port back and hands the rights to `child`. Without a
    /// child the fork failed, and the port is put back only.
    pub fn serve(self, child: Option<u32>) {
        let inherited = self.restore();
        if let Some(child) = child {
            self.hand_over(child, &inherited);
        }
        let _ = System::port_destroy(myself(), self.carrier);
        deallocate(self.before);
        port_names::fork_ends();
    }

    /// Ends the preparation. Returns what the child inherits.
    fn restore(&self) -> Vec<Name> {
        // The call succeeded with another port a moment ago. If it fails, it is tried once more.
        let _ = System::task_set_special_port(myself(), BOOTSTRAP, self.before)
            .or_else(|_| System::task_set_special_port(myself(), BOOTSTRAP, self.before));
        let inherited = port_names::take_inherited();
        end_preparation();
        inherited
    }

    fn hand_over(&self, child: u32, inherited: &[Name]) {
        let started = System::start_of(child);
        let is_there = || started != Start::Gone && System::start_of(child) == started;
        let Ok(hello) = await_message(self.carrier, HELLO, 2, is_there) else { return };
        let [task, answer] = hello.rights;
        for &name in inherited {
            if System::port_insert_right(task, name, name, disposition::COPY_SEND).is_err() {
                let _ = System::port_allocate_name(task, right::DEAD_NAME, name);
            }
        }
        let own = (self.own, disposition::COPY_SEND);
        let _ = System::send(answer, disposition::COPY_SEND, ANSWER, &[own], Some(LIMIT));
        deallocate(task);
        deallocate(answer);
    }

    /// In the child, right after the fork: asks the parent for the rights.
    ///
    /// # Errors
    /// The kernel's, or `OPERATION_TIMED_OUT` if the parent ended or did not answer. Then the objects made before
    /// the fork are not accessible here; if the parent ended, this process has no bootstrap port.
    pub fn receive(self) -> Result<(), Code> {
        let carrier = System::task_get_special_port(myself(), BOOTSTRAP)?;
        let answer = System::port_allocate(myself(), right::RECEIVE);
        let served = answer.and_then(|answer| {
            let served = ask(carrier, answer);
            let _ = System::port_destroy(myself(), answer);
            served
        });
        if served.is_err() {
            let _ = System::send(carrier, disposition::COPY_SEND, GIVING_UP, &[], Some(Duration::ZERO));
        }
        deallocate(carrier);
        served
    }
}

fn ask(carrier: Name, answer: Name) -> Result<(), Code> {
    let ports = [(myself(), disposition::COPY_SEND), (answer, disposition::MAKE_SEND)];
    System::send(carrier, disposition::COPY_SEND, HELLO, &ports, Some(LIMIT))?;
    // Any other answer, such as that its queue is full, says that the carrier is there.
    let is_there = || {
        System::send(carrier, disposition::COPY_SEND, STILL_THERE, &[], Some(Duration::ZERO))
            != Err(Code::SEND_INVALID_DEST)
    };
    let own = await_message(answer, ANSWER, 1, is_there)?.rights[0];
    System::task_set_special_port(myself(), BOOTSTRAP, own)?;
    System::set_bootstrap_port(own); // which keeps this right
    port_names::inherited_all();
    Ok(())
}

/// Waits on `port` for the message `id` with `count` rights, as long as its sender is there.
fn await_message(port: Name, id: i32, count: usize, is_there: impl Fn() -> bool) -> Result<Message, Code> {
    let begun = Instant::now();
    let mut wait = Duration::from_millis(1);
    let mut last = false;
    loop {
        match System::receive(port, Some(wait)) {
            Ok(message) if message.id == id && message.count == count => return Ok(message),
            Ok(message) if message.id == GIVING_UP => return Err(Code::ABORTED),
            // A message of another kind: a process that was spawned just now takes the carrier for its bootstrap port.
            Ok(message) => message.rights().iter().copied().for_each(deallocate),
            Err(_) if last => return Err(Code::OPERATION_TIMED_OUT),
            Err(_) => wait = (wait * 2).min(LONGEST),
        }
        // Receive once more after that: the message may have come right before the end.
        last = begun.elapsed() > LIMIT || !is_there();
    }
}
