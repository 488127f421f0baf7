//! Operations of a queue. An item whose push returned is there exactly once, one whose push did not is there whole or not at
//! all, nothing that the dead process needed is lost, and the queue goes on at once.

use process_shared_core::kernel::Kernel;
use process_shared_core::platform::map;
use process_shared_core::queue::{Pushed, Queue, Refusal, Short, Taken};
use process_shared_core::{Deadline, Thread};
use std::cell::Cell;
use std::time::Duration;

use crate::me;
use crate::points::{self, Run};
use crate::support::{self, Child, PATIENCE, fork};
use crate::tracer::Victim;

const BYTES: u64 = 1 << 15;

/// How far apart the points are: a prime number, so that each turn of a loop is cut off elsewhere.
const SPREAD: usize = 211;

fn each_point(name: &str, scenario: impl Fn(&Run)) {
    points::each_point(name, SPREAD, scenario);
}

fn patience() -> Option<Deadline> {
    Deadline::after(PATIENCE)
}

/// An item: its number, as a byte, repeated.
fn item(number: u32, length: usize) -> Vec<u8> {
    vec![number as u8; length]
}

fn push(queue: &Queue, number: u32, length: usize) {
    queue.push(&me(), number, &item(number, length), patience()).unwrap();
}

fn pop(queue: &Queue, member: u32) -> u32 {
    queue.pop(&me(), Some(member), &mut Vec::new(), patience()).unwrap().tag
}

/// Makes this process a member, as long as this thread lives.
fn join(queue: &Queue) -> u32 {
    let me = me();
    queue.enter(&me, None).unwrap().join(&me, std::process::id()).unwrap()
}

fn take(queue: &Queue, member: u32) -> Taken {
    queue.take(&me(), member, &mut Vec::new(), patience()).unwrap()
}

/// Where the system tells nobody of deaths, a pop looks for them when the queue is empty, or by chance.
fn ask_for_deaths(queue: &Queue) {
    if !Thread::TELLS_OF_DEATHS {
        queue.enter(&me(), None).unwrap().reap().unwrap();
    }
}

/// What a victim runs before its steps count.
fn ready() {
    me();
}

/// All that can be taken now, as numbers; each must be whole.
fn drain(queue: &Queue, member: u32) -> Vec<u32> {
    let mut numbers = Vec::new();
    loop {
        let mut bytes = Vec::new();
        match queue.pop(&me(), Some(member), &mut bytes, Deadline::after(Duration::ZERO)) {
            Ok(popped) => {
                assert!(bytes == item(popped.tag, bytes.len()), "item {} is not whole", popped.tag);
                numbers.push(popped.tag);
            }
            Err(_) => return numbers,
        }
    }
}

/// Before, the operation itself, and what may be in the queue after it was cut off.
struct Case<'a> {
    name: &'a str,
    items: &'a [(u32, usize)],
    operation: &'a dyn Fn(&Queue, u32),
    allowed: &'a [&'a [u32]],
    /// What is done before anybody else uses the queue.
    then: fn(&Queue),
}

fn go_on(_: &Queue) {}

/// As if nobody had the queue's file open any more: it is put in order, and opened by somebody else.
fn open_alone(queue: &Queue) {
    // SAFETY: the scenario keeps its memory mapped, and nobody else uses it.
    unsafe { Queue::recover(queue.memory(), Queue::memory_for(BYTES).unwrap(), BYTES).unwrap() }
}

/// The sizes of an item in a block, of one that lies in two, and of one with blocks of its own.
const SMALL: usize = 24;
const WIDE: usize = 3000;
const LARGE: usize = 4500;

fn try_case(case: &Case) {
    try_case_before(case, &|_, _| {});
}

/// `before` is done by the victim, before its steps count.
fn try_case_before(case: &Case, before: &dyn Fn(&Queue, u32)) {
    each_point(case.name, |run| {
        let length = Queue::memory_for(BYTES).unwrap();
        let memory = map(length).unwrap();
        // SAFETY: fresh zeroes that stay mapped until the end of the run.
        let queue = unsafe { Queue::create(memory, length, BYTES, 0, true).unwrap() };
        case.items.iter().for_each(|(number, length)| push(&queue, *number, *length));
        // The victim is its own keeper: another thread would run into the breakpoints.
        let member = Cell::new(0);
        run.kill(&Victim {
            prepare: &|| {
                member.set(join(&queue));
                before(&queue, member.get());
            },
            operation: &|| (case.operation)(&queue, member.get()),
            ready: &|| {},
            asleep: &|_| {},
            at_the_point: &|| {},
        });
        (case.then)(&queue);
        let own = join(&queue);
        let context = case.name;
        assert_eq!(queue.enter(&me(), None).unwrap().in_flight().unwrap(), [], "{context}");
        let left = drain(&queue, own);
        assert!(case.allowed.contains(&left.as_slice()), "{context}: {left:?}");
        // No block is lost, and none is there twice.
        for _ in 0..2 {
            push(&queue, 1, BYTES as usize);
            assert_eq!(drain(&queue, own), [1], "{context}");
        }
        queue.enter(&me(), None).unwrap().leave(&me(), own).unwrap();
        // SAFETY: nobody uses the memory any more.
        unsafe { process_shared_core::platform::unmap(memory, length) };
    });
}

#[test]
fn push_and_pop() {
    let push_one = |queue: &Queue, length| push(queue, 3, length);
    for (name, length) in [("push small", SMALL), ("push wide", WIDE), ("push large", LARGE)] {
        try_case(&Case {
            name,
            items: &[(1, SMALL), (2, WIDE)],
            operation: &|queue, _| push_one(queue, length),
            allowed: &[&[1, 2], &[1, 2, 3]],
            then: go_on,
        });
    }
    for (name, length) in [("pop small", SMALL), ("pop wide", WIDE), ("pop large", LARGE)] {
        try_case(&Case {
            name,
            items: &[(1, length), (2, WIDE), (3, SMALL)],
            operation: &|queue, one| {
                pop(queue, one);
                pop(queue, one);
            },
            allowed: &[&[1, 2, 3], &[2, 3], &[3]],
            then: go_on,
        });
    }
}

/// By the way that Ruby's calls go first.
#[test]
fn short_items() {
    try_case(&Case {
        name: "push, pop, take and finish a short one",
        items: &[(1, SMALL), (2, 0), (3, SMALL)],
        operation: &|queue, one| {
            let (me, mut short) = (me(), Short::new());
            let critical = || queue.enter(&me, None).unwrap();
            assert!(critical().push_short(4, &item(4, SMALL)));
            assert!(critical().pop_short(&mut short) && short.tag == 1);
            let taken = critical().take_short(one, &mut short).unwrap();
            assert_eq!(taken.tag, 2);
            critical().finish(&taken).unwrap();
        },
        allowed: &[&[1, 2, 3], &[1, 2, 3, 4], &[2, 3, 4], &[3, 4]],
        then: go_on,
    });
}

/// Over the ends of blocks, and in more than one of them.
#[test]
fn wide_items_and_words() {
    try_case(&Case {
        name: "pop short ones that lie in two blocks",
        items: &[(1, WIDE), (2, WIDE), (3, SMALL)],
        operation: &|queue, _| {
            let (me, mut short) = (me(), Short::new());
            for number in [1, 2] {
                assert!(queue.enter(&me, None).unwrap().pop_wide(&mut short) && short.tag == number);
            }
        },
        allowed: &[&[1, 2, 3], &[2, 3], &[3]],
        then: go_on,
    });
    let words: Vec<_> = (1..=20).map(|number| (number, 8)).collect();
    let items: Vec<_> = [(99, WIDE), (98, 960)].into_iter().chain(words).chain([(21, SMALL)]).collect();
    let all: Vec<u32> = (1..=21).collect();
    try_case_before(
        &Case {
            name: "pop words of two blocks",
            items: &items,
            operation: &|queue, _| {
                let (me, mut next) = (me(), 0);
                let accept = |tag, bytes: &[u8]| {
                    next += 1;
                    tag == next && bytes == item(tag, 8)
                };
                assert!(queue.enter(&me, None).unwrap().pop_words(20, accept));
            },
            allowed: &[&all, &[21]],
            then: go_on,
        },
        &|queue, one| {
            pop(queue, one);
            pop(queue, one);
        },
    );
}

#[test]
fn memory_is_fetched() {
    try_case(&Case {
        name: "fetch memory",
        items: &[(1, SMALL), (2, WIDE), (3, WIDE), (4, WIDE)],
        operation: &|queue, _| {
            assert!(queue.should_fetch());
            queue.fetch(&me());
        },
        allowed: &[&[1, 2, 3, 4]],
        then: go_on,
    });
}

#[test]
fn many_at_once() {
    let items: Vec<_> = (10..40).map(|number| (number, item(number, SMALL))).collect();
    let items: Vec<_> = items.iter().map(|(number, bytes)| (*number, bytes.as_slice())).collect();
    let all: Vec<u32> = std::iter::once(1).chain([2]).chain(10..40).collect();
    try_case(&Case {
        name: "push many",
        items: &[(1, SMALL), (2, WIDE)], // little is left of the block
        operation: &|queue, _| {
            let me = me();
            let critical = queue.enter(&me, None).unwrap();
            assert_eq!(critical.push_all(&items).unwrap(), items.len());
        },
        allowed: &[&[1, 2], &all],
        then: go_on,
    });
}

#[test]
fn take_and_finish_or_put_back() {
    for (name, length) in [("take small", SMALL), ("take wide", WIDE), ("take large", LARGE)] {
        let items = [(1, length), (2, length), (3, SMALL), (4, length)];
        try_case(&Case {
            name,
            items: &items,
            operation: &|queue, one| {
                let (first, second) = (take(queue, one), take(queue, one));
                queue.finish(&me(), &second).unwrap();
                queue.finish(&me(), &first).unwrap();
            },
            allowed: &[&[1, 2, 3, 4], &[1, 3, 4], &[3, 4]],
            then: go_on,
        });
        try_case(&Case {
            name,
            items: &items,
            operation: &|queue, one| {
                let (first, second) = (take(queue, one), take(queue, one));
                queue.put_back(&me(), &first).unwrap();
                queue.put_back(&me(), &second).unwrap();
                assert_eq!(pop(queue, one), 1);
                let second = take(queue, one);
                assert_eq!((second.tag, second.deliveries), (2, 2));
            },
            allowed: &[&[1, 2, 3, 4], &[2, 3, 4]],
            then: go_on,
        });
    }
}

/// Everybody who had the queue's file open is gone.
#[test]
fn open_what_the_dead_left() {
    try_case(&Case {
        name: "push large, and open alone",
        items: &[(1, SMALL), (2, WIDE)],
        operation: &|queue, _| push(queue, 3, LARGE),
        allowed: &[&[1, 2], &[1, 2, 3]],
        then: open_alone,
    });
    try_case(&Case {
        name: "take, finish and put back, and open alone",
        items: &[(1, WIDE), (2, LARGE), (3, SMALL)],
        operation: &|queue, one| {
            let (first, second) = (take(queue, one), take(queue, one));
            queue.finish(&me(), &second).unwrap();
            queue.put_back(&me(), &first).unwrap();
        },
        allowed: &[&[1, 2, 3], &[1, 3]],
        then: open_alone,
    });
}

#[test]
fn clear_and_close() {
    try_case(&Case {
        name: "clear",
        items: &[(1, SMALL), (2, LARGE), (3, WIDE)],
        operation: &|queue, _| queue.clear(&me()).unwrap(),
        allowed: &[&[1, 2, 3], &[2, 3], &[3], &[]],
        then: go_on,
    });
}

/// The victim finds what others left that were killed before.
#[test]
fn see_to_what_the_dead_left() {
    let large = item(4, LARGE);
    let die_with_items = |queue: &Queue, _| {
        let child = fork(|| {
            let one = join(queue);
            (0..3).for_each(|_| {
                take(queue, one);
            });
            let me = me();
            let _room = queue.enter(&me, None).unwrap().push(9, &item(9, LARGE)).unwrap();
            support::die()
        });
        child.reap();
    };
    try_case_before(
        &Case {
            name: "take what a dead process had",
            items: &[(1, SMALL), (2, LARGE), (3, WIDE), (4, SMALL)],
            operation: &|queue, one| {
                ask_for_deaths(queue);
                assert_eq!(take(queue, one).tag, 1);
            },
            allowed: &[&[1, 2, 3, 4]],
            then: go_on,
        },
        &die_with_items,
    );
    try_case_before(
        &Case {
            name: "use the room that a dead writer had",
            items: &[(1, SMALL), (2, SMALL), (3, SMALL)],
            operation: &|queue, _| {
                let me = me();
                let pushed = queue.enter(&me, None).unwrap().push(4, &large);
                let Ok(Pushed::Reserved(mut room)) = pushed else { panic!("{pushed:?}") };
                queue.write(&mut room, &large).unwrap();
                queue.enter(&me, None).unwrap().publish(room).unwrap();
            },
            allowed: &[&[1, 2, 3], &[1, 2, 3, 4]],
            then: go_on,
        },
        &|queue, one| {
            die_with_items(queue, one);
            // Its room is needed for the victim's items.
            let me = me();
            let pushed = queue.enter(&me, None).unwrap().push(9, &item(9, 4 * 4096));
            assert!(pushed.is_ok());
        },
    );
}

/// Blocks run short, and most of what is in them is done.
#[test]
fn gather_what_is_in_flight() {
    let all: Vec<u32> = (1..25).collect();
    let large = item(99, 5 * 4096);
    let numbers: Vec<_> = all.iter().map(|number| (*number, 1000)).collect();
    try_case_before(
        &Case {
            name: "move items in flight together",
            items: &numbers,
            operation: &|queue, _| {
                let me = me();
                let pushed = queue.enter(&me, None).unwrap().push(99, &large);
                let Ok(Pushed::Reserved(room)) = pushed else { panic!("{pushed:?}") };
                queue.enter(&me, None).unwrap().abandon(room).unwrap();
            },
            allowed: &[&[4, 8, 12, 16, 20, 24]],
            then: go_on,
        },
        &|queue, one| {
            // Every fourth stays.
            for number in 1..25 {
                let taken = take(queue, one);
                if number % 4 != 0 {
                    queue.finish(&me(), &taken).unwrap();
                }
            }
        },
    );
}

/// Waits that are ended by a victim's operation, and victims that wait.
#[test]
fn waiting() {
    let new = || {
        let length = Queue::memory_for(BYTES).unwrap();
        // SAFETY: fresh zeroes that stay mapped.
        unsafe { Queue::create(map(length).unwrap(), length, BYTES, 2, true).unwrap() }
    };
    let taker = |queue: &Queue| {
        let child = fork(|| {
            queue.pop(&me(), None, &mut Vec::new(), patience()).unwrap();
            0
        });
        child.until_asleep();
        child
    };
    // Whatever the victim did, the taker has an item if there is one.
    let settle = |queue: &Queue, taker: Child, context: &str| {
        let is_empty = || queue.enter(&me(), None).unwrap().size() == 0;
        support::until(context, || taker.is_over() || is_empty());
        push(queue, 8, SMALL);
        assert_eq!(taker.reap(), 0, "{context}");
    };
    let waiting = Cell::new(None);
    each_point("push to a taker that waits", |run| {
        let queue = new();
        run.kill(&Victim {
            prepare: &ready,
            operation: &|| push(&queue, 1, SMALL),
            ready: &|| waiting.set(Some(taker(&queue))),
            asleep: &|_| {},
            at_the_point: &|| {},
        });
        settle(&queue, waiting.take().unwrap(), "push to a taker");
    });
    each_point("wait for an item", |run| {
        let queue = new();
        run.kill(&Victim {
            prepare: &ready,
            operation: &|| {
                queue.pop(&me(), None, &mut Vec::new(), patience()).unwrap();
            },
            ready: &|| {},
            asleep: &|naps| {
                if naps == 0 {
                    waiting.set(Some(taker(&queue)));
                    push(&queue, 1, SMALL);
                }
            },
            at_the_point: &|| {},
        });
        let other = waiting.take().unwrap_or_else(|| taker(&queue));
        settle(&queue, other, "a taker");
    });
    let pusher = |queue: &Queue| {
        let child = fork(|| {
            push(queue, 5, SMALL);
            0
        });
        child.until_asleep();
        child
    };
    each_point("pop for a pusher that waits", |run| {
        let queue = new();
        push(&queue, 1, SMALL);
        push(&queue, 2, SMALL);
        run.kill(&Victim {
            prepare: &ready,
            operation: &|| {
                queue.pop(&me(), None, &mut Vec::new(), patience()).unwrap();
            },
            ready: &|| waiting.set(Some(pusher(&queue))),
            asleep: &|_| {},
            at_the_point: &|| {},
        });
        let waiting = waiting.take().unwrap();
        let is_full = || queue.enter(&me(), None).unwrap().size() == 2;
        support::until("a push, or its end", || waiting.is_over() || is_full());
        queue.pop(&me(), None, &mut Vec::new(), patience()).unwrap();
        assert_eq!(waiting.reap(), 0);
    });
    each_point("close", |run| {
        let queue = new();
        run.kill(&Victim {
            prepare: &ready,
            operation: &|| queue.enter(&me(), None).unwrap().close(),
            ready: &|| {
                waiting.set(Some(fork(|| {
                    let popped = queue.pop(&me(), None, &mut Vec::new(), patience());
                    i32::from(popped.is_ok() || popped == Err(Ok(Refusal::Empty)))
                })))
            },
            asleep: &|_| {},
            at_the_point: &|| {},
        });
        queue.enter(&me(), None).unwrap().close();
        assert_eq!(waiting.take().unwrap().reap(), 0, "close");
    });
}
