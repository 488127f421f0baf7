//! Objects live as long as a task has a right to them, or a message holds one.

use super::processes::Owner;
use super::world::{Kind, MESSAGES, World};
use crate::platform::mach::{Name, Result};
use std::sync::atomic::Ordering::Relaxed;

impl World {
    pub(super) fn create(&mut self, kind: Kind, owner: Owner) -> u32 {
        let freed = (self.freed..self.fresh).find(|&object| self.objects[object as usize].kind == Kind::Free);
        let object = freed.unwrap_or(self.fresh);
        self.fresh = self.fresh.max(object + 1);
        self.freed = object + 1;
        let new = &mut self.objects[object as usize];
        (new.kind, new.owner, new.rights) = (kind, owner, 0);
        new.count.store(0, Relaxed);
        object
    }

    pub(super) fn retain(&mut self, object: u32) {
        self.objects[object as usize].rights += u32::from(object != 0);
    }

    /// Ends one right to `object`.
    pub(super) fn release(&mut self, object: u32) {
        if object == 0 {
            return;
        }
        self.objects[object as usize].rights -= 1;
        if self.objects[object as usize].rights == 0 {
            for at in 0..MESSAGES {
                if self.queue[at].used && self.queue[at].port == object {
                    self.queue[at].used = false;
                    let (objects, count) = (self.queue[at].objects, self.queue[at].count);
                    objects[..count].iter().for_each(|right| self.release(right.0));
                }
            }
            self.objects[object as usize].kind = Kind::Free;
            self.freed = self.freed.min(object);
        }
    }

    pub(super) fn is_dead(&self, object: u32) -> bool {
        object == 0 || !self.objects[object as usize].owner.is_alive()
    }

    /// A right to a service of the kernel's.
    pub(super) fn service(&mut self, me: usize, kind: Kind) -> Result<Name> {
        let object = self.create(kind, Owner::KERNEL);
        self.retain(object);
        self.give_send(me, object)
    }
}
