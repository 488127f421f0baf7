//! Ports: rights to them in this task and others, and special ports.

use super::names::{index_of, name_at};
use super::world::{Kind, NAMES, call};
use crate::platform::mach::{BOOTSTRAP, Code, NULL, Name, Result, disposition, right};

pub(super) fn allocate(task: Name, kind: u32) -> Result<Name> {
    call(|world, me| {
        let task = world.task(me, task)?;
        match kind {
            right::RECEIVE => {
                let owner = world.tasks[task].owner;
                let object = world.create(Kind::Port, owner);
                world.retain(object);
                world.give(task, object, |right| right.receive = true)
            }
            right::DEAD_NAME => world.give(task, 0, |right| right.dead = true),
            _ => Err(Code::INVALID_ARGUMENT),
        }
    })
}

pub(super) fn allocate_name(task: Name, kind: u32, name: Name) -> Result<()> {
    call(|world, me| {
        let task = world.task(me, task)?;
        let index = index_of(name);
        if kind != right::DEAD_NAME || index == 0 || index >= NAMES || name != name_at(index) {
            return Err(Code::INVALID_ARGUMENT);
        }
        if !world.tasks[task].rights[index].is_free() {
            return Err(Code::NAME_EXISTS);
        }
        world.tasks[task].rights[index].dead = true;
        world.tasks[task].top = world.tasks[task].top.max(index as u32 + 1);
        Ok(())
    })
}

pub(super) fn destroy(task: Name, name: Name) -> Result<()> {
    call(|world, me| {
        let task = world.task(me, task)?;
        world.right(task, name)?;
        world.destroy(task, index_of(name));
        Ok(())
    })
}

pub(super) fn deallocate(task: Name, name: Name) -> Result<()> {
    call(|world, me| {
        let task = world.task(me, task)?;
        world.deallocate(task, name)
    })
}

pub(super) fn insert_right(task: Name, name: Name, port: Name, how: u32) -> Result<()> {
    call(|world, me| {
        let task = world.task(me, task)?;
        let index = index_of(name);
        if index == 0 || index >= NAMES || name != name_at(index) {
            return Err(Code::INVALID_ARGUMENT);
        }
        let object = world.object(me, port)?;
        let there = world.tasks[task].rights[index];
        if !there.is_free() && there.object != object {
            return Err(Code::NAME_EXISTS);
        }
        if world.is_dead(object) {
            return Err(Code::INVALID_RIGHT);
        }
        let elsewhere = world.objects[object as usize].kind != Kind::Semaphore
            && (1..world.tasks[task].top as usize)
                .any(|at| at != index && world.tasks[task].rights[at].object == object);
        if elsewhere {
            return Err(Code::RIGHT_EXISTS);
        }
        let (_, receive) = world.copy_in(me, port, how)?;
        if receive {
            return Err(Code::INVALID_ARGUMENT);
        }
        let task = &mut world.tasks[task];
        task.rights[index].object = object;
        task.rights[index].sends += 1;
        task.top = task.top.max(index as u32 + 1);
        Ok(())
    })
}

pub(super) fn special_port(task: Name, which: i32) -> Result<Name> {
    call(|world, me| {
        let task = world.task(me, task)?;
        let object = match which {
            BOOTSTRAP => world.tasks[task].bootstrap,
            1 => world.tasks[task].task_port,
            _ => return Err(Code::INVALID_ARGUMENT),
        };
        if object == 0 {
            return Ok(NULL);
        }
        world.retain(object);
        world.give_send(me, object)
    })
}

pub(super) fn set_special_port(task: Name, which: i32, port: Name) -> Result<()> {
    call(|world, me| {
        let task = world.task(me, task)?;
        if which != BOOTSTRAP {
            return Err(Code::INVALID_ARGUMENT);
        }
        let object = if port == NULL { 0 } else { world.copy_in(me, port, disposition::COPY_SEND)?.0 };
        let old = std::mem::replace(&mut world.tasks[task].bootstrap, object);
        world.release(old);
        Ok(())
    })
}
