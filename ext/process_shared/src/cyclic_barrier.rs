//! `ProcessShared::CyclicBarrier`.

use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::{Integer, RModule, Ruby, Value, method, prelude::*};
use process_shared_core::barrier::{Arrival, MAX};
use process_shared_core::kernel::Kernel;
use process_shared_core::platform::ProcessLocal;
use process_shared_core::{CyclicBarrier, Thread, Ticket};
use rb_sys::VALUE;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::errors::{self, Error};
use crate::object::{self, Object, Shared};
use crate::raw_methods::ruby;
use crate::timeout::Timeout;
use crate::typed_data::{Data, of};
use crate::{data_type, fiber_scheduler, interrupts, nogvl, path, thread, trap_context};

/// An action that runs in this process.
#[derive(Clone, Copy, PartialEq)]
struct Acting {
    /// Of the barrier, which may have several handles.
    address: usize,
    epoch: u32,
    /// The thread that runs it, by its number.
    thread: u32,
    fiber: usize,
}

/// The actions that run now. A fiber that is given up in its action leaves an entry, which the next epoch removes.
static ALL: ProcessLocal<Vec<Acting>> = ProcessLocal::new(Vec::new());

/// Whether the caller runs the action of `epoch` itself, so that it would wait for the end for ever.
fn is_own_action(barrier: &CyclicBarrier, epoch: u32, thread: &Thread) -> bool {
    let (address, fiber) = (barrier.address(), thread::current_fiber());
    let is_own = |each: &Acting| {
        (each.address, each.epoch, each.thread) == (address, epoch, thread.id())
            && (each.fiber == fiber || !fiber_scheduler::is_non_blocking())
    };
    ALL.with(|all| all.iter().any(is_own))
}

#[derive(Default)]
pub struct CyclicBarrierData {
    shared: Shared<CyclicBarrier>,
    /// What the last party calls before all go on: a Proc, or 0.
    action: AtomicUsize,
}

impl Data for CyclicBarrierData {
    data_type!(CyclicBarrierData, c"ProcessShared::CyclicBarrier");

    fn mark(&self) {
        if let Some(action) = self.action() {
            // SAFETY: called by the collector.
            unsafe { rb_sys::rb_gc_mark(action.as_raw()) };
        }
    }

    fn extra_size(&self) -> usize {
        process_shared_core::arena::SLOT
    }
}

impl Object for CyclicBarrierData {
    type Core = CyclicBarrier;
    const TAKES_PATH: bool = true;

    fn shared(&self) -> &Shared<CyclicBarrier> {
        &self.shared
    }

    fn class_name(&self) -> &'static str {
        "ProcessShared::CyclicBarrier"
    }

    fn describe(&self, barrier: &CyclicBarrier) -> String {
        let parties = barrier.parties();
        let Ok(thread) = thread::current(&ruby()) else { return format!("{parties} parties") };
        match barrier.is_broken(&thread) {
            true => format!("{parties} parties, broken"),
            false => format!("{parties} parties, {} waiting", barrier.number_waiting(&thread)),
        }
    }
}

impl CyclicBarrierData {
    fn action(&self) -> Option<Value> {
        let action = self.action.load(Relaxed);
        // SAFETY: not 0, so `set_action` stored it, and it has been marked since.
        (action != 0).then(|| unsafe { Value::from_raw(action as VALUE) })
    }

    fn set_action(&self, object: Value, action: Value) {
        self.action.store(action.as_raw() as usize, Relaxed);
        // SAFETY: `object` now refers to `action`, both alive.
        unsafe { rb_sys::rb_gc_writebarrier(object.as_raw(), action.as_raw()) };
    }
}

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    let given = path::given(ruby, args, &[])?;
    ruby.check_arity(given.positional.len(), 1..=1)?;
    let parties = parse(ruby, given.positional[0])?;
    let data = of::<CyclicBarrierData>(object);
    let make = || CyclicBarrier::new(parties);
    let open = |path: &Path, mode| CyclicBarrier::in_file(path, mode, "CyclicBarrier", parties);
    data.initialize_with_block(ruby, object, given.location.as_ref(), make, open)?;
    if ruby.block_given() {
        data.set_action(object, ruby.block_proc()?.as_value());
    }
    Ok(())
}

fn parse(ruby: &Ruby, parties: Value) -> Result<u32, Error> {
    let Some(integer) = Integer::from_value(parties) else {
        let text = format!("parties must be an Integer, not {}", errors::class_name(parties));
        return Err(Error::new(ruby.exception_arg_error(), text));
    };
    integer.to_u32().ok().filter(|parties| (1..=MAX).contains(parties)).ok_or_else(|| {
        Error::new(ruby.exception_arg_error(), format!("a barrier has 1 to {MAX} parties, not {integer}"))
    })
}

fn wait(ruby: &Ruby, object: Value, args: &[Value]) -> Result<bool, Error> {
    ruby.check_arity(args.len(), 0..=1)?;
    let timeout = args.first().map_or(Ok(Timeout::Never), |seconds| Timeout::parse(ruby, *seconds))?;
    let data = of::<CyclicBarrierData>(object);
    loop {
        let (barrier, thread) = (data.open(ruby)?, thread::current(ruby)?);
        if barrier.awaits_more() {
            trap_context::refuse(ruby)?;
        }
        match barrier.arrive(&thread, data.action().is_some()) {
            Arrival::Passed => return Ok(true),
            Arrival::Refused => return Ok(false),
            Arrival::Last(ticket) => return run_action(ruby, data, barrier, &thread, ticket),
            Arrival::Waiting(ticket) => return await_others(ruby, object, barrier, &thread, ticket, timeout),
            Arrival::Busy => {
                let Some(epoch) = barrier.busy_epoch() else { continue };
                if matches!(timeout, Timeout::Never) && is_own_action(barrier, epoch, &thread) {
                    let text = "deadlock; the barrier's action waits at the barrier";
                    return Err(errors::ownership(ruby, text.to_owned()));
                }
                if !await_end(ruby, object, epoch, timeout)? {
                    return Ok(false);
                }
            }
            Arrival::NoRoom => {
                let text = "too many threads wait for objects that were made by the same process";
                return Err(errors::ownership(ruby, text.to_owned()));
            }
        }
    }
}

/// Runs the action. A child that it forks is no party.
fn run_action(
    ruby: &Ruby,
    data: &CyclicBarrierData,
    barrier: &CyclicBarrier,
    thread: &Thread,
    ticket: Ticket,
) -> Result<bool, Error> {
    let (address, epoch) = (barrier.address(), barrier.epoch_of(ticket));
    let own = Acting { address, epoch, thread: thread.id(), fiber: thread::current_fiber() };
    ALL.with(|all| {
        all.retain(|each| each.address != address || each.epoch == epoch);
        all.push(own);
    });
    let result =
        data.action().map_or(Ok(()), |action| interrupts::call(ruby, action, "call", []).map(|_| ()));
    ALL.with(|all| all.retain(|each| *each != own));
    let passed = match result {
        _ if !thread.is_here() => false,
        Ok(()) => barrier.pass(thread, ticket),
        Err(_) => barrier.give_up(thread, ticket),
    };
    result.map(|()| passed)
}

/// Waits as a party that has arrived. A child that a signal handler forks meanwhile is none; it waits for the same.
fn await_others(
    ruby: &Ruby,
    object: Value,
    barrier: &CyclicBarrier,
    thread: &Thread,
    ticket: Ticket,
    timeout: Timeout,
) -> Result<bool, Error> {
    if barrier.wait_soon(ticket) {
        return Ok(barrier.leave(thread, ticket));
    }
    let result = await_verdict(ruby, object, barrier, thread, ticket, timeout);
    let passed = thread.is_here() && barrier.give_up(thread, ticket);
    result?;
    // Another thread that was told of the closing has broken the barrier.
    if !passed {
        of::<CyclicBarrierData>(object).check(ruby)?;
    }
    Ok(passed)
}

fn await_verdict(
    ruby: &Ruby,
    object: Value,
    barrier: &CyclicBarrier,
    thread: &Thread,
    ticket: Ticket,
    timeout: Timeout,
) -> Result<bool, Error> {
    trap_context::refuse(ruby)?;
    let epoch = barrier.epoch_of(ticket);
    let check = || of::<CyclicBarrierData>(object).check(ruby);
    let is_over = || if thread.is_here() { barrier.is_over(ticket) } else { barrier.is_past(epoch) };
    if fiber_scheduler::is_non_blocking() {
        barrier.wait_elsewhere(thread, ticket);
        let wait = |timeout| {
            fiber_scheduler::wait_until_past(ruby, object, timeout, epoch, || check().map(|()| is_over()))
        };
        // Once all have arrived, they wait for the action to end.
        return Ok(wait(timeout)? || barrier.busy_epoch() == Some(epoch) && wait(Timeout::Never)?);
    }
    let wait = |current: &Thread| match thread.is_here() {
        true => barrier.wait(current, ticket, timeout.deadline()),
        false => barrier.watch(current, epoch, timeout.deadline()),
    };
    nogvl::block(ruby, [Some(object), None], check, wait, nogvl::keep)
}

/// Waits until `epoch` is over, without being a party.
fn await_end(ruby: &Ruby, object: Value, epoch: u32, timeout: Timeout) -> Result<bool, Error> {
    trap_context::refuse(ruby)?;
    let data = of::<CyclicBarrierData>(object);
    let barrier = data.open(ruby)?;
    let check = || data.check(ruby);
    if fiber_scheduler::is_non_blocking() {
        let is_over = || check().map(|()| barrier.is_past(epoch));
        return fiber_scheduler::wait_until_past(ruby, object, timeout, epoch, is_over);
    }
    let wait = |thread: &Thread| barrier.watch(thread, epoch, timeout.deadline());
    nogvl::block(ruby, [Some(object), None], check, wait, nogvl::keep)
}

/// Waits until an epoch is over, for the helper threads of `fiber_scheduler.rb`.
fn watch(ruby: &Ruby, object: Value, timeout: Value, epoch: u32) -> Result<bool, Error> {
    await_end(ruby, object, epoch, Timeout::parse(ruby, timeout)?)
}

fn reset(ruby: &Ruby, object: Value) -> Result<(), Error> {
    let barrier = of::<CyclicBarrierData>(object).open(ruby)?;
    barrier.reset(&thread::current(ruby)?);
    Ok(())
}

fn is_broken(ruby: &Ruby, object: Value) -> Result<bool, Error> {
    let barrier = of::<CyclicBarrierData>(object).open(ruby)?;
    Ok(barrier.is_broken(&thread::current(ruby)?))
}

fn number_waiting(ruby: &Ruby, object: Value) -> Result<u32, Error> {
    let barrier = of::<CyclicBarrierData>(object).open(ruby)?;
    Ok(barrier.number_waiting(&thread::current(ruby)?))
}

fn parties(ruby: &Ruby, object: Value) -> Result<u32, Error> {
    of::<CyclicBarrierData>(object).open(ruby).map(CyclicBarrier::parties)
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of::<CyclicBarrierData>(object).open(ruby).map(CyclicBarrier::waiters)
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = object::define_class::<CyclicBarrierData>(module, "CyclicBarrier", ruby.class_object())?;
    class.define_method("initialize", method!(initialize, -1))?;
    class.define_method("wait", method!(wait, -1))?;
    class.define_method("reset", method!(reset, 0))?;
    class.define_method("broken?", method!(is_broken, 0))?;
    class.define_method("number_waiting", method!(number_waiting, 0))?;
    class.define_method("parties", method!(parties, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    Ok(class.define_private_method("watch", method!(watch, 2))?)
}
