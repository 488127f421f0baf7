//! `ProcessShared::RateLimiter`.

use magnus::{Integer, RModule, Ruby, TryConvert, Value, method, prelude::*};
use process_shared_core::limiter::Reservation;
use process_shared_core::platform::fork_depth;
use process_shared_core::{Rate, RateLimiter, Thread};
use rb_sys::VALUE;
use std::cell::Cell;
use std::ffi::c_int;
use std::path::Path;

use crate::errors::{self, Error};
use crate::object::{self, Object, Shared};
use crate::raw_methods::{MethodN, answer, boolean, define, ruby, value};
use crate::timeout::Timeout;
use crate::typed_data::{self, Data, of};
use crate::{data_type, fiber_scheduler, nogvl, path, trap_context};

#[derive(Default)]
pub struct RateLimiterData(Shared<RateLimiter>);

impl Data for RateLimiterData {
    data_type!(RateLimiterData, c"ProcessShared::RateLimiter");

    fn extra_size(&self) -> usize {
        process_shared_core::arena::SLOT
    }
}

impl Object for RateLimiterData {
    type Core = RateLimiter;
    const TAKES_PATH: bool = true;

    fn shared(&self) -> &Shared<RateLimiter> {
        &self.0
    }

    fn class_name(&self) -> &'static str {
        "ProcessShared::RateLimiter"
    }

    fn describe(&self, limiter: &RateLimiter) -> String {
        let state = match limiter.retry_after() {
            time if time.is_zero() => "free".to_owned(),
            time => format!("free in {:.3} s", time.as_secs_f64()),
        };
        match limiter.waiters() {
            0 => state,
            waiters => format!("{state}, {waiters} waiting"),
        }
    }
}

fn initialize(ruby: &Ruby, object: Value, args: &[Value]) -> Result<(), Error> {
    let given = path::given(ruby, args, &["per", "burst"])?;
    ruby.check_arity(given.positional.len(), 1..=1)?;
    let rate = f64::try_convert(given.positional[0])?;
    let [per, burst] = given.extra;
    let per = per.map_or(Ok(1.0), f64::try_convert)?;
    let burst = burst.map_or(Ok(rate.max(1.0)), f64::try_convert)?;
    let rate = Rate::new(rate, per, burst).map_err(|error| errors::to_ruby(ruby, error))?;
    let open = |path: &Path, mode| RateLimiter::in_file(path, mode, "RateLimiter", &rate);
    let data = of::<RateLimiterData>(object);
    data.initialize(ruby, object, given.location.as_ref(), || RateLimiter::new(&rate), open)
}

/// How many permits are wanted: 1 without an argument.
fn permits(ruby: &Ruby, limiter: &RateLimiter, wanted: Option<&Value>) -> Result<u64, Error> {
    let Some(wanted) = wanted else { return Ok(1) };
    let Some(integer) = Integer::from_value(*wanted) else {
        return Err(errors::wrong_type(ruby, *wanted, "an Integer"));
    };
    let burst = limiter.burst();
    let permits = integer.to_u64().ok().filter(|permits| *permits > 0 && *permits as f64 <= burst);
    permits.ok_or_else(|| {
        let text = format!("permits are from 1 to the burst, which is {burst}, not {integer}");
        Error::new(ruby.exception_arg_error(), text)
    })
}

unsafe extern "C" fn try_acquire(argc: c_int, argv: *const VALUE, this: VALUE) -> VALUE {
    if argc == 0 {
        // SAFETY: a method's receiver, which Ruby keeps meanwhile.
        if let Some(limiter) = unsafe { typed_data::get::<RateLimiterData>(this) }.0.usable() {
            return boolean(limiter.try_acquire(1));
        }
    }
    answer(|| {
        // SAFETY: what Ruby passed.
        let args = unsafe { crate::raw_methods::arguments(argc, argv, 0, 2) }?;
        let (ruby, object) = (ruby(), value(this));
        let limiter = of::<RateLimiterData>(object).open(&ruby)?;
        let permits = permits(&ruby, limiter, args.first().copied().map(value).as_ref())?;
        let timeout = match args.get(1).copied().map(value).filter(|seconds| !seconds.is_nil()) {
            Some(seconds) => Timeout::parse_try(&ruby, seconds)?,
            None => Timeout::Passed,
        };
        take(&ruby, object, permits, timeout).map(boolean)
    })
}

fn acquire(ruby: &Ruby, object: Value, args: &[Value]) -> Result<Value, Error> {
    ruby.check_arity(args.len(), 0..=1)?;
    let limiter = of::<RateLimiterData>(object).open(ruby)?;
    let permits = permits(ruby, limiter, args.first())?;
    take(ruby, object, permits, Timeout::Never).map(|_| object)
}

fn take(ruby: &Ruby, object: Value, permits: u64, timeout: Timeout) -> Result<bool, Error> {
    let data = of::<RateLimiterData>(object);
    let limiter = data.open(ruby)?;
    if limiter.try_acquire(permits) {
        return Ok(true);
    }
    if timeout.has_passed() {
        return Ok(false);
    }
    trap_context::refuse(ruby)?;
    let Some(reserved) = limiter.reserve(permits, timeout.deadline()) else { return Ok(false) };
    let reserved = Reserved { limiter, permits, now: Cell::new((reserved, fork_depth())) };
    let waited = reserved.wait(ruby, object, || data.check(ruby));
    if waited.is_err() {
        reserved.give_back();
    }
    waited.map(|()| true)
}

/// What the calling thread waits for, and the process that reserved it.
struct Reserved<'a> {
    limiter: &'a RateLimiter,
    permits: u64,
    now: Cell<(Reservation, u32)>,
}

impl Reserved<'_> {
    /// The reservation of this process. A child that was forked by a signal handler in the wait reserves for itself.
    fn reservation(&self) -> Reservation {
        let (reserved, depth) = self.now.get();
        if depth == fork_depth() {
            return reserved;
        }
        let own = self.limiter.reserve(self.permits, None).unwrap_or(reserved);
        self.now.set((own, fork_depth()));
        own
    }

    fn give_back(&self) {
        let (reserved, depth) = self.now.get();
        if depth == fork_depth() {
            self.limiter.give_back(reserved);
        }
    }

    fn wait(&self, ruby: &Ruby, object: Value, check: impl Fn() -> Result<(), Error>) -> Result<(), Error> {
        let due = || self.reservation().deadline();
        if fiber_scheduler::is_non_blocking() {
            let timeout = due().map_or(Timeout::Never, Timeout::At);
            let is_due = || check().map(|()| timeout.has_passed());
            return fiber_scheduler::wait_until(ruby, object, timeout, is_due).map(|_| ());
        }
        let wait = |thread: &Thread| self.limiter.rest(thread, due());
        nogvl::block(ruby, [Some(object), None], check, wait, nogvl::keep).map(|_| ())
    }
}

fn retry_after(ruby: &Ruby, object: Value) -> Result<f64, Error> {
    of::<RateLimiterData>(object).open(ruby).map(|limiter| limiter.retry_after().as_secs_f64())
}

fn waiters(ruby: &Ruby, object: Value) -> Result<usize, Error> {
    of::<RateLimiterData>(object).open(ruby).map(RateLimiter::waiters)
}

/// Waits until the time is over. For the helper threads of `fiber_scheduler.rb`.
fn watch(ruby: &Ruby, object: Value, timeout: Value) -> Result<bool, Error> {
    let data = of::<RateLimiterData>(object);
    let (limiter, timeout) = (data.open(ruby)?, Timeout::parse(ruby, timeout)?);
    let wait = |thread: &Thread| limiter.rest(thread, timeout.deadline());
    nogvl::block(ruby, [Some(object), None], || data.check(ruby), wait, nogvl::keep)
}

pub fn init(ruby: &Ruby, module: RModule) -> Result<(), Error> {
    let class = object::define_class::<RateLimiterData>(module, "RateLimiter", ruby.class_object())?;
    define(class, "try_acquire", try_acquire as MethodN)?;
    class.define_method("initialize", method!(initialize, -1))?;
    class.define_method("acquire", method!(acquire, -1))?;
    class.define_method("retry_after", method!(retry_after, 0))?;
    class.define_method("waiters", method!(waiters, 0))?;
    Ok(class.define_private_method("watch", method!(watch, 1))?)
}
