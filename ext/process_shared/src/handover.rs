//! `ProcessShared::Handover`: one fork's part of `lib/process_shared/fork_hook.rb`.

use magnus::{RModule, Ruby, function, method, prelude::*};
use process_shared_core::platform::handover::{Handover as Core, Unprepared, prepare};
use process_shared_core::platform::mach::{Mach, System};
use std::cell::Cell;

use crate::errors::Error;
use crate::{errors, nogvl};

/// A fork that is prepared, in the process that prepared it and in its child.
#[magnus::wrap(class = "ProcessShared::Handover", free_immediately)]
struct Handover {
    pid: u32,
    inner: Cell<Option<Core>>,
}

impl Handover {
    /// Makes ready for a fork. Nil if there is nothing to hand to a child. Lets other threads run while one of them is
    /// about to fork.
    fn prepare(ruby: &Ruby) -> Result<Option<Handover>, Error> {
        loop {
            match prepare() {
                Ok(inner) => {
                    return Ok(
                        inner.map(|core| Handover { pid: std::process::id(), inner: Cell::new(Some(core)) })
                    );
                }
                // SAFETY: called on a Ruby thread with the GVL.
                Err(Unprepared::Busy) => unsafe { rb_sys::rb_thread_schedule() },
                Err(Unprepared::Failed(code)) => {
                    let text = format!(
                        "the fork could not be prepared: {}; the child could not use ProcessShared objects",
                        System::message(code)
                    );
                    return Err(errors::ownership(ruby, text));
                }
            }
        }
    }

    /// After the fork, in both processes; `child` is what `_fork` returned, nil if it raised.
    fn finish(&self, child: Option<u32>) {
        let Some(inner) = self.inner.take() else { return };
        if std::process::id() != self.pid {
            // Without the rights, the objects raise when they are used.
            let _ = inner.receive();
            return;
        }
        let mut inner = Some(inner);
        let mut serve = || inner.take().map(|inner| inner.serve(child));
        // An interrupt that is due already makes Ruby skip the call: it can wait that long.
        if nogvl::without_gvl(&mut serve).is_none() {
            serve();
        }
    }
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = module.define_class("Handover", ruby.class_object())?;
    class.undef_default_alloc_func();
    class.define_singleton_method("prepare", function!(Handover::prepare, 0))?;
    Ok(class.define_method("finish", method!(Handover::finish, 1))?)
}
