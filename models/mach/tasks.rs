//! Tasks begin with a process's first call. A task whose process is gone is reaped when there is no room for another.

use super::processes::Owner;
use super::world::{INHERITED, Kind, LIBRARY_BOOTSTRAP, OWN_TASK, TASKS, World};
use crate::platform::mach::NULL;
use std::sync::atomic::Ordering::Relaxed;

impl World {
    /// A task for this process.
    pub(super) fn register(&mut self) -> usize {
        let me = match (0..TASKS).find(|&task| self.tasks[task].owner.pid == 0) {
            Some(task) => task,
            None => {
                (0..TASKS).for_each(|task| self.reap(task));
                (0..TASKS).find(|&task| self.tasks[task].owner.pid == 0).unwrap_or(TASKS - 1)
            }
        };
        let owner = Owner::current();
        let inherited = INHERITED.load(Relaxed); // and counted
        let bootstrap = if inherited == 0 {
            let port = self.create(Kind::Port, Owner::KERNEL);
            self.retain(port);
            port
        } else {
            inherited
        };
        let object = self.create(Kind::Task, owner);
        let task = &mut self.tasks[me];
        (task.owner, task.free, task.top, task.bootstrap, task.task_port) = (owner, 1, 1, bootstrap, object);
        OWN_TASK.store(me as u32 + 1, Relaxed);
        self.retain(object); // as a special port
        self.retain(object); // by its name
        let _ = self.give_send(me, object);
        if inherited == 0 {
            self.retain(bootstrap);
            let name = self.give_send(me, bootstrap);
            LIBRARY_BOOTSTRAP.store(name.unwrap_or(NULL), Relaxed);
        }
        me
    }

    /// Takes everything from a task whose process is gone.
    pub(super) fn reap(&mut self, task: usize) {
        if self.tasks[task].owner.pid == 0 || self.tasks[task].owner.is_alive() {
            return;
        }
        for index in 1..self.tasks[task].top as usize {
            self.destroy(task, index);
        }
        let (bootstrap, object) = (self.tasks[task].bootstrap, self.tasks[task].task_port);
        self.release(bootstrap);
        self.release(object);
        self.tasks[task].owner.pid = 0;
    }
}
