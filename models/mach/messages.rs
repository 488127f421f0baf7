//! Messages: they carry rights, and wait at a port until its task takes them.

use super::faults::call_begins;
use super::world::{Kind, MESSAGES, TASKS, World, call, inside};
use crate::platform::mach::{Code, MOST_RIGHTS, Message, NULL, Name, Result, disposition};
use std::time::{Duration, Instant};

/// A place for a message that nobody has taken yet.
#[repr(C)]
pub(super) struct Queued {
    pub used: bool,
    pub port: u32,
    pub number: u64,
    pub id: i32,
    pub count: usize,
    /// Each object, and whether this is its receive right.
    pub objects: [(u32, bool); MOST_RIGHTS],
}

pub(super) fn send(to: Name, how: u32, id: i32, rights: &[(Name, u32)]) -> Result<()> {
    call(|world, me| {
        let port = world.object(me, to).map_err(|_| Code::SEND_INVALID_DEST)?;
        if how == disposition::MAKE_SEND && !world.right(me, to)?.receive {
            return Err(Code::SEND_INVALID_DEST);
        }
        if world.objects[port as usize].kind != Kind::Port
            || world.is_dead(port)
            || rights.len() > MOST_RIGHTS
        {
            return Err(Code::SEND_INVALID_DEST);
        }
        let room = |world: &World| (0..MESSAGES).find(|&at| !world.queue[at].used);
        if room(world).is_none() {
            (0..TASKS).for_each(|task| world.reap(task)); // frees the messages to dead tasks
        }
        let at = room(world).ok_or(Code::NO_SPACE)?;
        let mut objects = [(0, false); MOST_RIGHTS];
        for (object, (name, how)) in objects.iter_mut().zip(rights) {
            *object = world.copy_in(me, *name, *how)?;
        }
        world.sent += 1;
        let number = world.sent;
        world.queue[at] = Queued { used: true, port, number, id, count: rights.len(), objects };
        Ok(())
    })
}

pub(super) fn receive(port: Name, timeout: Option<Duration>) -> Result<Message> {
    call_begins()?;
    let until = timeout.map(|timeout| Instant::now() + timeout);
    loop {
        let message = inside(|world, me| {
            let right = *world.right(me, port)?;
            if !right.receive {
                return Err(Code::INVALID_RIGHT);
            }
            let waiting =
                (0..MESSAGES).filter(|&at| world.queue[at].used && world.queue[at].port == right.object);
            let Some(at) = waiting.min_by_key(|&at| world.queue[at].number) else { return Ok(None) };
            world.queue[at].used = false;
            let (id, count, objects) = (world.queue[at].id, world.queue[at].count, world.queue[at].objects);
            let mut message = Message { id, count, ..Message::default() };
            for (name, (object, receive)) in message.rights.iter_mut().zip(&objects[..count]) {
                *name = match (*object, *receive) {
                    (0, _) => NULL,
                    (object, true) => {
                        world.objects[object as usize].owner = world.tasks[me].owner;
                        world.give(me, object, |right| right.receive = true)?
                    }
                    (object, false) => world.give_send(me, object)?,
                };
            }
            Ok(Some(message))
        })?;
        if let Some(message) = message {
            return Ok(message);
        }
        if until.is_some_and(|until| Instant::now() >= until) {
            return Err(Code::RECEIVE_TIMED_OUT);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}
