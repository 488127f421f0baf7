//! `exec` by a thread that is not the process's first. The kernel ends all others, gives the caller the number of the
//! first, and only then looks at what it held: under a number that none of its locks knows. They would stay locked for
//! ever. So for the time of the call a `StandIn` holds them. It ends with the other threads, under its own number; if the
//! program cannot be executed, it gives everything back.

use magnus::{RModule, Ruby, function, prelude::*};
use process_shared_core::kernel::Kernel;
use process_shared_core::{Thread, platform::StandIn, transfer_held};
use std::cell::RefCell;

use crate::errors::{self, Error};

thread_local! {
    /// The one that holds for this native thread, and the thread as it was before.
    static STANDING_IN: RefCell<Option<(StandIn, Thread)>> = const { RefCell::new(None) };
}

/// Whether `exec_failed` has to be called should the process go on.
fn exec_begins(ruby: &Ruby) -> Result<bool, Error> {
    // One that moves has a stand-in already, and is not known here.
    let Some(thread) = Thread::known() else { return Ok(false) };
    let stands_in = || {
        STANDING_IN
            .with_borrow(|known| known.as_ref().is_some_and(|(heir, _)| heir.thread().id() == thread.id()))
    };
    if thread.id() == thread.pid() || thread.held().is_empty() || stands_in() {
        return Ok(false);
    }
    let heir = StandIn::start().map_err(|error| errors::to_ruby(ruby, error))?;
    transfer_held(&thread, &heir.thread());
    Thread::go_by(heir.thread());
    STANDING_IN.set(Some((heir, thread)));
    Ok(true)
}

/// In a child forked meanwhile there is nothing to give back.
fn exec_failed() {
    if let Some((heir, thread)) = STANDING_IN.take().filter(|(heir, _)| heir.is_here()) {
        transfer_held(&heir.thread(), &thread);
        Thread::go_by(thread);
    }
}

pub fn init(module: RModule) -> Result<(), Error> {
    module.define_singleton_method("exec_begins", function!(exec_begins, 0))?;
    module.define_singleton_method("exec_failed", function!(exec_failed, 0))?;
    let class = module.singleton_class()?;
    class.funcall::<_, _, magnus::Value>("private", ("exec_begins", "exec_failed"))?;
    Ok(())
}
