//! A task's names, and the rights they stand for. The lowest free name is handed out first, so that those of a parent and
//! of its child clash as often as they can.

use super::processes::Owner;
use super::world::{Kind, NAMES, TASKS, World};
use crate::platform::mach::{Code, NULL, Name, Result, disposition};

/// The rights that a task has by one name, all to one object.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct Right {
    pub object: u32, // 0 is a dead name, if any right is there
    pub sends: u16,
    pub receive: bool,
    pub dead: bool,
}

impl Right {
    pub fn is_free(self) -> bool {
        self.sends == 0 && !self.receive && !self.dead
    }
}

pub(super) fn name_at(index: usize) -> Name {
    (index as Name) << 8 | 3
}

/// Where a name is in its task's table. Any number can be passed.
pub(super) fn index_of(name: Name) -> usize {
    (name >> 8) as usize
}

impl World {
    /// The name of a task for itself.
    pub(super) fn name_of_task(&self, me: usize) -> Name {
        let is_self = |index: &usize| self.tasks[me].rights[*index].object == self.tasks[me].task_port;
        name_at((1..NAMES).find(is_self).unwrap_or(0))
    }

    /// Gives `task` a send right, which is counted already. Its name is the one that the task has for the object, or
    /// else the lowest free one.
    pub(super) fn give_send(&mut self, task: usize, object: u32) -> Result<Name> {
        self.give(task, object, |right| right.sends += 1)
    }

    /// The same for rights of any kind.
    pub(super) fn give(&mut self, task: usize, object: u32, add: impl FnOnce(&mut Right)) -> Result<Name> {
        let known = &self.tasks[task];
        let top = known.top as usize;
        // Semaphores have one name only, and are many: no need to look for another.
        let same = if self.objects[object as usize].kind == Kind::Semaphore {
            None
        } else {
            (1..top).find(|&index| known.rights[index].object == object)
        };
        let index = same
            .or_else(|| (known.free as usize..top).find(|&index| known.rights[index].is_free()))
            .unwrap_or(top);
        if index >= NAMES {
            return Err(Code::NO_SPACE);
        }
        let task = &mut self.tasks[task];
        if same.is_none() {
            task.free = index as u32 + 1;
            task.top = task.top.max(index as u32 + 1);
        }
        task.rights[index].object = object;
        add(&mut task.rights[index]);
        Ok(name_at(index))
    }

    /// The rights that `task` has by `name`.
    pub(super) fn right(&mut self, task: usize, name: Name) -> Result<&mut Right> {
        let index = index_of(name);
        match self.tasks[task].rights.get_mut(index) {
            Some(right) if name == name_at(index) && !right.is_free() => Ok(right),
            _ => Err(Code::INVALID_NAME),
        }
    }

    /// The object that `task` has a send right to by that name.
    pub(super) fn object(&mut self, task: usize, name: Name) -> Result<u32> {
        let right = *self.right(task, name)?;
        if right.object == 0 { Err(Code::INVALID_RIGHT) } else { Ok(right.object) }
    }

    /// The task that this process calls `name`.
    pub(super) fn task(&mut self, me: usize, name: Name) -> Result<usize> {
        let object = self.object(me, name).map_err(|_| Code::INVALID_TASK)?;
        if object == self.tasks[me].task_port {
            return Ok(me);
        }
        let owner = self.objects[object as usize].owner;
        if self.objects[object as usize].kind != Kind::Task || !owner.is_alive() {
            return Err(Code::INVALID_TASK);
        }
        (0..TASKS).find(|&task| self.tasks[task].owner == owner).ok_or(Code::INVALID_TASK)
    }

    /// Ends all rights that `task` has by the name at `index`.
    pub(super) fn destroy(&mut self, task: usize, index: usize) {
        let right = std::mem::take(&mut self.tasks[task].rights[index]);
        if right.is_free() {
            return;
        }
        self.tasks[task].free = self.tasks[task].free.min(index as u32);
        if right.receive {
            self.objects[right.object as usize].owner = Owner::NOBODY;
        }
        for _ in 0..right.sends + u16::from(right.receive) {
            self.release(right.object);
        }
    }

    /// Takes a right out of this process, to be given to another, as the disposition `how` says. Returns the object,
    /// and whether this is the receive right.
    pub(super) fn copy_in(&mut self, me: usize, name: Name, how: u32) -> Result<(u32, bool)> {
        if name == NULL {
            return Ok((0, false));
        }
        let right = *self.right(me, name)?;
        let fits = match how {
            disposition::COPY_SEND | disposition::MOVE_SEND => right.sends > 0,
            disposition::MAKE_SEND | disposition::MOVE_RECEIVE => right.receive,
            _ => false,
        };
        if !fits {
            return Err(Code::INVALID_RIGHT);
        }
        self.retain(right.object);
        match how {
            disposition::MOVE_SEND => self.deallocate(me, name)?,
            disposition::MOVE_RECEIVE => {
                self.right(me, name)?.receive = false;
                self.release(right.object);
                self.free_if_unused(me, name);
            }
            _ => {}
        }
        Ok((right.object, how == disposition::MOVE_RECEIVE))
    }

    pub(super) fn deallocate(&mut self, task: usize, name: Name) -> Result<()> {
        let right = self.right(task, name)?;
        if right.dead {
            *right = Right::default();
            self.free_if_unused(task, name);
            return Ok(());
        }
        if right.sends == 0 {
            return Err(Code::INVALID_RIGHT);
        }
        right.sends -= 1;
        let object = right.object;
        self.release(object);
        self.free_if_unused(task, name);
        Ok(())
    }

    pub(super) fn free_if_unused(&mut self, task: usize, name: Name) {
        let index = index_of(name);
        if self.tasks[task].rights[index].is_free() {
            self.tasks[task].rights[index] = Right::default();
            self.tasks[task].free = self.tasks[task].free.min(index as u32);
        }
    }
}
