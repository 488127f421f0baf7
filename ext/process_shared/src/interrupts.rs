//! Calls that may raise, in a wait that has been ended already and has to put things in order before it says so.
//!
//! What ended it may be no exception but a jump: `Thread#kill`, or a `throw` such as Timeout's. Ruby keeps where it
//! goes in the place of `$!`, where only Ruby itself can put such a thing back. So a call that raises meanwhile must
//! not try to restore it, as `magnus` does: the new exception takes the jump's place, as in an `ensure`.

use magnus::rb_sys::{AsRawValue, FromRawValue};
use magnus::{Exception, Ruby, Value};
use rb_sys::{VALUE, rb_errinfo, rb_funcallv, rb_intern2, rb_jump_tag, rb_protect, rb_set_errinfo};

use crate::errors::Error;

const NIL: VALUE = rb_sys::Qnil as VALUE;
const TAG_RAISE: libc::c_int = 6;

/// Runs `call`, which owns nothing that needs a drop.
fn protect(ruby: &Ruby, mut call: impl FnMut() -> VALUE) -> Result<VALUE, Error> {
    unsafe extern "C" fn run(call: VALUE) -> VALUE {
        // SAFETY: the closure of the call below, which waits for us.
        (unsafe { &mut *(call as *mut &mut dyn FnMut() -> VALUE) })()
    }
    let mut call: &mut dyn FnMut() -> VALUE = &mut call;
    let mut state = 0;
    // SAFETY: `run` gets the closure it is made for. `previous` stays on this stack, so it stays alive.
    unsafe {
        let previous = rb_errinfo();
        let result = rb_protect(Some(run), (&raw mut call) as VALUE, &mut state);
        match state {
            0 => Ok(result),
            TAG_RAISE => {
                let exception = rb_errinfo();
                let restorable = previous == NIL || is_exception(ruby, previous);
                rb_set_errinfo(if restorable { previous } else { NIL });
                Err(Exception::from_value(Value::from_raw(exception)).map_or_else(
                    || Error::new(ruby.exception_fatal(), "raised something that is no exception"),
                    Error::from,
                ))
            }
            _ => Err(jump(state)),
        }
    }
}

/// Whether `object`, which may be one that Ruby code never sees, is an exception.
fn is_exception(ruby: &Ruby, object: VALUE) -> bool {
    // SAFETY: the class of any heap object may be asked for its type; internal objects are no T_OBJECT and no T_DATA.
    unsafe {
        !rb_sys::SPECIAL_CONST_P(object)
            && matches!(rb_sys::RB_BUILTIN_TYPE(object), rb_sys::RUBY_T_OBJECT | rb_sys::RUBY_T_DATA)
            && rb_sys::rb_obj_is_kind_of(object, ruby.exception_exception().as_raw())
                != rb_sys::Qfalse as VALUE
    }
}

/// The error that goes on with the jump Ruby is in the middle of.
fn jump(state: libc::c_int) -> Error {
    // SAFETY: the jump of the `rb_protect` before, caught again at once: nothing else ran in between.
    let caught = magnus::rb_sys::protect(|| unsafe { rb_jump_tag(state) });
    let nowhere = || Error::new(crate::raw_methods::ruby().exception_fatal(), "a jump went nowhere");
    caught.err().map_or_else(nowhere, Error::from)
}

/// Whether `check` would do anything.
pub fn are_due(ruby: &Ruby) -> bool {
    // SAFETY: the current thread is a thread.
    unsafe { rb_sys::rb_thread_interrupted(ruby.thread_current().as_raw()) != 0 }
}

/// Looks at the interrupts that are due.
pub fn check(ruby: &Ruby) -> Result<(), Error> {
    protect(ruby, || {
        // SAFETY: with the GVL; what it raises, `protect` catches.
        unsafe { rb_sys::rb_thread_check_ints() };
        NIL
    })
    .map(|_| ())
}

/// Calls a method.
pub fn call<const N: usize>(
    ruby: &Ruby,
    object: Value,
    method: &str,
    args: [Value; N],
) -> Result<Value, Error> {
    let args = args.map(|arg| arg.as_raw());
    protect(ruby, || {
        // SAFETY: the name and the arguments outlive the call; what it raises, `protect` catches.
        unsafe {
            let name = rb_intern2(method.as_ptr().cast(), method.len() as libc::c_long);
            rb_funcallv(object.as_raw(), name, args.len() as libc::c_int, args.as_ptr())
        }
    })
    // SAFETY: a method's result.
    .map(|result| unsafe { Value::from_raw(result) })
}
