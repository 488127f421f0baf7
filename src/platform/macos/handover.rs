//! How a forked child gets the rights to the semaphores of its parent's objects, under the same names.
//!
//! A child starts with no rights but its special ports, which it inherits. So for the moment of the fork, the parent has
//! a port of its own, the hub, as its bootstrap port:
//!
//! | parent                                             | child                                            |
//! |----------------------------------------------------|--------------------------------------------------|
//! | `prepare`: makes the hub, sets it                  |                                                  |
//! | fork                                               | fork                                             |
//! | `serve`: sets its own bootstrap port again         | `receive`: makes a port for the answer           |
//! | waits for a message on the hub                     | sends its task port and the answer's to the hub  |
//! | inserts each right into the child's task           | waits for the answer                             |
//! | answers with the bootstrap port                    |                                                  |
//! |                                                    | sets it; from now on it reaches all objects      |
//!
//! One thread at a time is between `prepare` and its fork; each fork has a hub of its own, so what follows cannot mix.
//! A fork within that, by a signal handler on the same thread, is served like any other.
//!
//! Whoever waits looks whether the other is still there: the parent, whether the child is alive; the child, whether the
//! hub is. A child that cannot ask says so. Nobody waits for longer than `LIMIT`. A child that was not served
//! cannot reach the objects made before the fork (`rights::reaches`). A name that could not be inserted is made a dead
//! name in the child, so that nothing else gets it: the child then sleeps by the clock for that object.

use super::bed::LONGEST;
use super::mach::{BOOTSTRAP, Code, Mach, Message, NULL, Name, Start, System, disposition, right};
use super::rights;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::*};
use std::time::{Duration, Instant};

/// How long the two wait for each other. They need less than a millisecond, but somebody may be stopped.
const LIMIT: Duration = Duration::from_secs(10);
const HELLO: i32 = 0x7073_6801;
const ANSWER: i32 = 0x7073_6802;
const GIVING_UP: i32 = 0x7073_6803;
const STILL_THERE: i32 = 0x7073_6804;

/// The thread between `prepare` and its fork, or 0.
static HOLDER: AtomicU64 = AtomicU64::new(0);
/// How many forks it is in, one within the other.
static DEPTH: AtomicU32 = AtomicU32::new(0);
/// This process's own bootstrap port, while DEPTH is not 0.
static OWN: AtomicU32 = AtomicU32::new(NULL);

/// Why a fork was not prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unprepared {
    /// Another thread is about to fork: try again.
    Busy,
    /// The kernel refused; everything is as before.
    Failed(Code),
}

/// A fork that is prepared: `serve` or `receive` ends it.
#[derive(Debug)]
pub struct Handover {
    hub: Name,
    /// The bootstrap port to set again, and the one for the child: another if this fork is within one.
    before: Name,
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

/// Whether the calling thread is between `prepare` and its fork.
pub fn is_mine() -> bool {
    let holder = HOLDER.load(Relaxed);
    holder != 0 && holder == System::current_thread()
}

/// In a child, first thing: the fork it came from is over here.
pub fn forget() {
    HOLDER.store(0, Relaxed);
    DEPTH.store(0, Relaxed);
}

fn acquire() -> bool {
    let thread = System::current_thread();
    let mine = HOLDER.compare_exchange(0, thread, Acquire, Acquire);
    if mine.is_ok() || mine == Err(thread) {
        DEPTH.fetch_add(1, Relaxed);
        rights::fork_begins();
        return true;
    }
    false
}

fn release() {
    if DEPTH.fetch_sub(1, Relaxed) == 1 {
        OWN.store(NULL, Relaxed);
        HOLDER.store(0, Release);
    }
}

/// Makes ready for a fork. None if there is nothing to hand over.
///
/// # Errors
/// See `Unprepared`.
pub fn prepare() -> Result<Option<Handover>, Unprepared> {
    if rights::is_empty() {
        return Ok(None);
    }
    if !acquire() {
        return Err(Unprepared::Busy);
    }
    set_up().map(Some).map_err(|code| {
        release();
        rights::fork_ends();
        Unprepared::Failed(code)
    })
}

fn set_up() -> Result<Handover, Code> {
    let before = System::task_get_special_port(myself(), BOOTSTRAP)?;
    let hub = match make_hub() {
        Ok(hub) => hub,
        Err(code) => {
            deallocate(before);
            return Err(code);
        }
    };
    let own = if DEPTH.load(Relaxed) == 1 { before } else { OWN.load(Relaxed) };
    OWN.store(own, Relaxed);
    Ok(Handover { hub, before, own })
}

/// A port, set as the bootstrap port.
fn make_hub() -> Result<Name, Code> {
    let hub = System::port_allocate(myself(), right::RECEIVE)?;
    let made = System::port_insert_right(myself(), hub, hub, disposition::MAKE_SEND)
        .and_then(|()| System::task_set_special_port(myself(), BOOTSTRAP, hub));
    if let Err(code) = made {
        let _ = System::port_destroy(myself(), hub);
        return Err(code);
    }
    Ok(hub)
}

impl Handover {
    /// In the parent, right after the fork: puts the bootstrap port back and gives `child` what it needs. Without a
    /// child the fork failed, and only the first is done.
    pub fn serve(self, child: Option<u32>) {
        let needed = self.restore();
        if let Some(child) = child {
            self.hand_over(child, &needed);
        }
        let _ = System::port_destroy(myself(), self.hub);
        deallocate(self.before);
        rights::fork_ends();
    }

    /// Ends what `prepare` began; returns what the child needs.
    fn restore(&self) -> Vec<Name> {
        // It succeeded with another port a moment ago. Should it fail once, it is tried again.
        let _ = System::task_set_special_port(myself(), BOOTSTRAP, self.before)
            .or_else(|_| System::task_set_special_port(myself(), BOOTSTRAP, self.before));
        let needed = rights::needed();
        release();
        needed
    }

    fn hand_over(&self, child: u32, needed: &[Name]) {
        let started = System::start_of(child);
        let is_there = || started != Start::Gone && System::start_of(child) == started;
        let Ok(hello) = await_message(self.hub, HELLO, 2, is_there) else { return };
        let [task, answer] = hello.rights;
        for &name in needed {
            if System::port_insert_right(task, name, name, disposition::COPY_SEND).is_err() {
                let _ = System::port_allocate_name(task, right::DEAD_NAME, name);
            }
        }
        let own = (self.own, disposition::COPY_SEND);
        let _ = System::send(answer, disposition::COPY_SEND, ANSWER, &[own], Some(LIMIT));
        deallocate(task);
        deallocate(answer);
    }

    /// In the child, right after the fork: asks the parent for what it needs.
    ///
    /// # Errors
    /// The kernel's, or `OPERATION_TIMED_OUT` if the parent ended or did not answer. Then this process does not reach
    /// the objects made before the fork, and has no bootstrap port if the parent ended.
    pub fn receive(self) -> Result<(), Code> {
        let hub = System::task_get_special_port(myself(), BOOTSTRAP)?;
        let answer = System::port_allocate(myself(), right::RECEIVE);
        let served = answer.and_then(|answer| {
            let served = ask(hub, answer);
            let _ = System::port_destroy(myself(), answer);
            served
        });
        if served.is_err() {
            let _ = System::send(hub, disposition::COPY_SEND, GIVING_UP, &[], Some(Duration::ZERO));
        }
        deallocate(hub);
        served
    }
}

fn ask(hub: Name, answer: Name) -> Result<(), Code> {
    let ports = [(myself(), disposition::COPY_SEND), (answer, disposition::MAKE_SEND)];
    System::send(hub, disposition::COPY_SEND, HELLO, &ports, Some(LIMIT))?;
    // Any answer but this one, such as that its queue is full, says that the hub is there.
    let is_there = || {
        System::send(hub, disposition::COPY_SEND, STILL_THERE, &[], Some(Duration::ZERO))
            != Err(Code::SEND_INVALID_DEST)
    };
    let own = await_message(answer, ANSWER, 1, is_there)?.rights[0];
    System::task_set_special_port(myself(), BOOTSTRAP, own)?;
    System::set_bootstrap_port(own); // which keeps this right
    rights::complete();
    Ok(())
}

/// Waits on `port` for the message `id` with `count` rights, as long as whoever sends it is there.
fn await_message(port: Name, id: i32, count: usize, is_there: impl Fn() -> bool) -> Result<Message, Code> {
    let begun = Instant::now();
    let mut wait = Duration::from_millis(1);
    let mut last = false;
    loop {
        match System::receive(port, Some(wait)) {
            Ok(message) if message.id == id && message.count == count => return Ok(message),
            Ok(message) if message.id == GIVING_UP => return Err(Code::ABORTED),
            // Whatever that was: a process that was spawned just now took the hub for its bootstrap port.
            Ok(message) => message.rights().iter().copied().for_each(deallocate),
            Err(_) if last => return Err(Code::OPERATION_TIMED_OUT),
            Err(_) => wait = (wait * 2).min(LONGEST),
        }
        // Look once more after that: the message may have come right before the end.
        last = begun.elapsed() > LIMIT || !is_there();
    }
}
