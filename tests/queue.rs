//! Queues between forked processes: order, sizes, waiting, items in flight, memory.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use process_shared_core::platform::map;
use process_shared_core::queue::{Participant, Popped, Pushed, Queue, Refusal, Reservation, Short, Taken};
use process_shared_core::{Deadline, Outcome, Thread};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use support::{Child, PATIENCE, fork, shared, until};

fn me() -> Thread {
    Thread::current().unwrap()
}

fn queue_with(bytes: u64, max: u64) -> Queue {
    let length = Queue::memory_for(bytes).unwrap();
    // SAFETY: fresh zeroes that stay mapped.
    unsafe { Queue::create(map(length).unwrap(), length, bytes, max, true).unwrap() }
}

fn queue(bytes: u64) -> Queue {
    queue_with(bytes, 0)
}

fn patience() -> Option<Deadline> {
    Deadline::after(PATIENCE)
}

fn push(queue: &Queue, bytes: &[u8]) {
    queue.push(&me(), 7, bytes, patience()).unwrap();
}

/// Every second time: whether the way for short items is tried first.
fn short_first() -> bool {
    static TURN: AtomicU64 = AtomicU64::new(0);
    TURN.fetch_add(1, SeqCst) % 2 == 0
}

/// Adds an item if there is room now.
fn try_push(queue: &Queue, bytes: &[u8]) -> Result<(), Refusal> {
    let me = me();
    let critical = queue.enter(&me, None).unwrap();
    if short_first() && critical.push_short(7, bytes) {
        return Ok(());
    }
    let pushed = critical.push(7, bytes)?;
    drop(critical);
    if let Pushed::Reserved(reservation) = pushed {
        publish(queue, reservation, bytes)?;
    }
    if queue.should_fetch() {
        queue.fetch(&me);
    }
    Ok(())
}

fn publish(queue: &Queue, mut reservation: Reservation, bytes: &[u8]) -> Result<(), Refusal> {
    queue.write(&mut reservation, bytes).unwrap();
    queue.enter(&me(), None).unwrap().publish(reservation)
}

fn join(queue: &Queue) -> Participant {
    Participant::join(queue, &me()).unwrap().unwrap()
}

fn pop(queue: &Queue, member: Option<u32>) -> Vec<u8> {
    let mut bytes = Vec::new();
    queue.pop(&me(), member, &mut bytes, patience()).unwrap();
    bytes
}

/// The first item for good, if there is one.
fn try_pop(queue: &Queue) -> Result<Vec<u8>, Refusal> {
    let (mut bytes, mut short) = (Vec::new(), Short::new());
    let me = me();
    let critical = queue.enter(&me, None).unwrap();
    if short_first() && (critical.pop_short(&mut short) || critical.pop_wide(&mut short)) {
        return Ok(short.bytes().to_vec());
    }
    critical.pop(&mut bytes).map(|_| bytes)
}

fn take(queue: &Queue, member: u32) -> (Taken, Vec<u8>) {
    let (mut bytes, mut short, thread) = (Vec::new(), Short::new(), me());
    if short_first() {
        if let Some(taken) = queue.enter(&thread, None).unwrap().take_short(member, &mut short) {
            return (taken, short.bytes().to_vec());
        }
    }
    let taken = queue.take(&thread, member, &mut bytes, patience()).unwrap();
    (taken, bytes)
}

fn size(queue: &Queue) -> usize {
    queue.enter(&me(), None).unwrap().size()
}

fn in_flight(queue: &Queue) -> Vec<(u32, usize)> {
    queue.enter(&me(), None).unwrap().in_flight().unwrap()
}

/// An item that shows whether it is whole: its bytes follow from its number and length.
fn item(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![number as u8; length];
    for (index, byte) in bytes.iter_mut().enumerate().skip(8) {
        *byte = (number as usize + index + index / 251) as u8;
    }
    let head = length.min(8);
    bytes[..head].copy_from_slice(&number.to_le_bytes()[..head]);
    bytes
}

fn number(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(bytes[..8].try_into().unwrap());
    assert_eq!(bytes, item(number, bytes.len()), "an item is not whole");
    number
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % end
    }

    /// Most are small, some take several blocks.
    fn length(&mut self, most: usize) -> usize {
        let limit = [16, 100, 1000, 5000, 20_000, most][self.below(6)];
        8 + self.below(limit.min(most) - 7)
    }
}

/// Nothing is left: an item of the full size fits.
fn assert_empty_as_new(queue: &Queue, member: u32) {
    assert_eq!(size(queue), 0);
    let all = item(1, queue.bytes() as usize);
    try_push(queue, &all).expect("an empty queue has room for an item of its full size");
    assert_eq!(pop(queue, Some(member)), all);
    assert_eq!(try_pop(queue), Err(Refusal::Empty));
}

#[test]
fn items_come_out_in_the_order_they_went_in() {
    let queue = queue(1 << 20);
    for number in 0..1000_u64 {
        push(&queue, &number.to_le_bytes());
    }
    assert_eq!(size(&queue), 1000);
    for number in 0..1000_u64 {
        assert_eq!(pop(&queue, None), number.to_le_bytes());
    }
    assert_eq!(try_pop(&queue), Err(Refusal::Empty));
}

#[test]
fn tags_and_empty_items_are_kept() {
    let queue = queue(1 << 16);
    let me = me();
    for tag in [0, 1, u32::MAX] {
        queue.push(&me, tag, b"", None).unwrap();
        let popped = queue.pop(&me, None, &mut Vec::new(), None).unwrap();
        assert_eq!(popped, Popped { tag, deliveries: 1 });
    }
}

/// Against a model, with everything that can happen to an item, in queues of many sizes.
#[test]
fn whatever_is_done_each_item_is_there_once() {
    for (seed, bytes) in [(1, 1 << 12), (2, 1 << 14), (3, 100_000), (4, 1 << 20), (5, 1 << 16), (6, 1 << 13)]
    {
        against_model(seed, bytes);
    }
}

fn against_model(seed: u64, bytes: u64) {
    let (queue, me) = (queue(bytes), me());
    let participant = join(&queue);
    let member = participant.member();
    let mut random = Random(seed);
    let mut model: VecDeque<(u64, usize, u32)> = VecDeque::new();
    let mut flying: Vec<(Taken, u64, usize)> = Vec::new();
    let mut pushed = 0;
    let mut longest = 0;
    for round in 0..30_000 {
        match random.below(10) {
            // It fills and empties in turns.
            0..5 if round / 2000 % 2 == 0 || random.below(3) == 0 => {
                let length = random.length(bytes as usize);
                match try_push(&queue, &item(pushed, length)) {
                    Ok(()) => model.push_back((pushed, length, 1)),
                    refused => assert_eq!(refused, Err(Refusal::Full)),
                }
                pushed += 1;
            }
            0..7 => {
                let mut bytes = Vec::new();
                let popped = if model.is_empty() {
                    assert_eq!(try_pop(&queue), Err(Refusal::Empty));
                    continue;
                } else {
                    queue.pop(&me, Some(member), &mut bytes, None).unwrap()
                };
                let (number, length, deliveries) = model.pop_front().unwrap();
                assert!(
                    bytes == item(number, length),
                    "seed {seed} round {round}: item {number} of {length}"
                );
                assert_eq!(popped.deliveries, deliveries);
            }
            7 if !model.is_empty() => {
                let (taken, bytes) = take(&queue, member);
                let (number, length, deliveries) = model.pop_front().unwrap();
                assert!(bytes == item(number, length));
                assert_eq!(taken.deliveries, deliveries);
                flying.push((taken, number, length));
            }
            8 if !flying.is_empty() => {
                let (taken, ..) = flying.swap_remove(random.below(flying.len()));
                queue.finish(&me, &taken).unwrap();
                assert_eq!(queue.finish(&me, &taken), Err(Refusal::NotHeld));
            }
            9 if !flying.is_empty() => {
                let (taken, number, length) = flying.swap_remove(random.below(flying.len()));
                queue.put_back(&me, &taken).unwrap();
                assert_eq!(queue.put_back(&me, &taken), Err(Refusal::NotHeld));
                let place = model.iter().take_while(|(other, ..)| *other < number).count();
                model.insert(place, (number, length, taken.deliveries + 1));
            }
            _ => {}
        }
        assert_eq!(size(&queue), model.len());
        longest = longest.max(model.len());
    }
    assert!(longest > 10, "{longest}");
    let held = in_flight(&queue).first().map_or(0, |(_, count)| *count);
    assert_eq!(held, flying.len());
    for (taken, ..) in flying {
        queue.finish(&me, &taken).unwrap();
    }
    queue.clear(&me).unwrap();
    assert_empty_as_new(&queue, member);
    participant.leave(&queue, patience()).unwrap();
}

#[test]
fn many_at_once_are_there_in_one_step_and_as_many_as_fit() {
    let queue = queue(1 << 16);
    let me = me();
    let items: Vec<_> = (0..5000).map(|number| item(number, 24)).collect();
    let items: Vec<_> = items.iter().map(|bytes| (0, bytes.as_slice())).collect();
    let count = queue.enter(&me, None).unwrap().push_all(&items).unwrap();
    assert!((1000..5000).contains(&count), "{count}");
    assert_eq!(size(&queue), count);
    for expected in 0..count as u64 {
        assert_eq!(number(&pop(&queue, None)), expected);
    }
    assert_eq!(try_pop(&queue), Err(Refusal::Empty));
}

#[test]
fn what_could_never_fit_is_refused() {
    let queue = queue(10_000);
    assert_eq!(try_push(&queue, &[0; 10_001]), Err(Refusal::TooLarge));
    try_push(&queue, &[0; 10_000]).unwrap();
    assert_eq!(size(&queue), 1);
}

#[test]
fn a_large_item_that_is_being_copied_holds_nobody_up() {
    let queue = queue(1 << 20);
    let me = me();
    let large = item(1, 100_000);
    let pushed = queue.enter(&me, None).unwrap().push(0, &large).unwrap();
    let Pushed::Reserved(mut reservation) = pushed else { panic!("100,000 bytes are large") };
    queue.write(&mut reservation, &large[..50_000]).unwrap();
    assert_eq!(
        fork(|| (number(&{
            push(&queue, &item(2, 8));
            pop(&queue, None)
        }) != 2)
            .into())
        .reap(),
        0
    );
    queue.write(&mut reservation, &large[50_000..]).unwrap();
    assert_eq!(queue.write(&mut reservation, b"1"), Err(Refusal::TooLarge));
    queue.enter(&me, None).unwrap().publish(reservation).unwrap();
    let participant = join(&queue);
    assert_eq!(pop(&queue, Some(participant.member())), large);
}

#[test]
fn a_queue_that_is_closed_is_emptied_and_takes_nothing_more() {
    let queue = queue(1 << 16);
    push(&queue, b"last");
    let me = me();
    let reserved = queue.enter(&me, None).unwrap().push(0, &[1; 10_000]).unwrap();
    queue.enter(&me, None).unwrap().close();
    let Pushed::Reserved(reservation) = reserved else { panic!("10,000 bytes are large") };
    assert_eq!(publish(&queue, reservation, &[1; 10_000]), Err(Refusal::Closed));
    assert_eq!(try_push(&queue, b"more"), Err(Refusal::Closed));
    assert_eq!(pop(&queue, None), b"last");
    assert_eq!(try_pop(&queue), Err(Refusal::Closed));
}

#[test]
fn closing_wakes_all_that_wait() {
    let queue = queue_with(1 << 16, 1);
    let refused = |outcome| i32::from(outcome != Some(Refusal::Closed));
    let takers = [0; 3].map(|_| {
        fork(|| {
            let popped = queue.pop(&me(), None, &mut Vec::new(), patience());
            popped.map_or_else(|error| refused(error.ok()), |_| 0)
        })
    });
    takers.iter().for_each(Child::until_asleep);
    queue.enter(&me(), None).unwrap().close();
    takers.into_iter().for_each(|child| assert_eq!(child.reap(), 0));

    let queue = queue_with(1 << 16, 1);
    push(&queue, b"full");
    let pushers = [0; 3].map(|_| fork(|| refused(queue.push(&me(), 0, b"x", patience()).unwrap_err().ok())));
    pushers.iter().for_each(Child::until_asleep);
    queue.enter(&me(), None).unwrap().close();
    pushers.into_iter().for_each(|child| assert_eq!(child.reap(), 0));
}

#[test]
fn a_limit_counts_items_and_can_be_changed() {
    let queue = queue_with(1 << 16, 2);
    push(&queue, b"1");
    push(&queue, b"2");
    assert_eq!(try_push(&queue, b"3"), Err(Refusal::Full));
    let waiting = fork(|| {
        push(&queue, b"3");
        0
    });
    waiting.until_asleep();
    let other = fork(|| {
        push(&queue, b"4");
        0
    });
    other.until_asleep();
    queue.enter(&me(), None).unwrap().set_max(3);
    assert_eq!(waiting.reap(), 0);
    assert_eq!(pop(&queue, None), b"1");
    assert_eq!(other.reap(), 0);
    for expected in [b"2", b"3", b"4"] {
        assert_eq!(pop(&queue, None), expected);
    }
}

#[test]
fn waits_end_at_their_deadline() {
    let queue = queue_with(1 << 16, 1);
    let soon = || Deadline::after(Duration::from_millis(5));
    let popped = queue.pop(&me(), None, &mut Vec::new(), soon());
    assert_eq!(popped, Err(Err(Outcome::TimedOut)));
    push(&queue, b"full");
    assert_eq!(queue.push(&me(), 0, b"more", soon()), Err(Err(Outcome::TimedOut)));
    assert_eq!(size(&queue), 1);
}

#[test]
fn a_taker_that_is_killed_while_it_waits_costs_nobody_anything() {
    let queue = queue(1 << 16);
    let first = fork(|| {
        pop(&queue, None);
        0
    });
    first.until_asleep();
    let second = fork(|| i32::from(pop(&queue, None) != b"x"));
    second.until_asleep();
    first.kill();
    push(&queue, b"x");
    assert_eq!(second.reap(), 0);
}

#[test]
fn who_needs_much_room_gets_it_while_others_need_little() {
    let queue = queue(1 << 20);
    while try_push(&queue, &[1; 1000]).is_ok() {}
    let large = fork(|| {
        push(&queue, &item(9, 1 << 19));
        0
    });
    large.until_asleep();
    let stop = shared::<AtomicU64>();
    let small = fork(|| {
        while stop.load(SeqCst) == 0 {
            queue.push(&me(), 0, &[1; 1000], patience()).unwrap();
        }
        0
    });
    let participant = join(&queue);
    let member = participant.member();
    let mut found = false;
    until("the large item is in the queue", || {
        for _ in 0..100 {
            found |= pop(&queue, Some(member)).len() == 1 << 19;
        }
        found
    });
    stop.store(1, SeqCst);
    until("the small ones' pusher ends", || {
        while try_pop(&queue).is_ok() {}
        small.is_over()
    });
    assert_eq!((small.reap(), large.reap()), (0, 0));
}

#[test]
fn what_a_killed_process_had_comes_back_to_the_front() {
    let queue = queue(1 << 20);
    let lengths = [20, 100_000, 30, 2000];
    for (number, length) in lengths.iter().enumerate() {
        push(&queue, &item(number as u64, *length));
    }
    let taken = shared::<AtomicU64>();
    let worker = fork(|| {
        let participant = join(&queue);
        for _ in 0..3 {
            take(&queue, participant.member());
            taken.fetch_add(1, SeqCst);
        }
        loop {
            std::thread::sleep(PATIENCE);
        }
    });
    until("three are in flight", || taken.load(SeqCst) == 3);
    assert_eq!(in_flight(&queue), [(worker.pid as u32, 3)]);
    assert_eq!(size(&queue), 1);
    worker.kill();
    assert_eq!(in_flight(&queue), []);
    assert_eq!(size(&queue), 4);
    let participant = join(&queue);
    for (expected, length) in lengths.iter().enumerate() {
        let (taken, bytes) = take(&queue, participant.member());
        assert_eq!(bytes, item(expected as u64, *length));
        assert_eq!(taken.deliveries, if expected < 3 { 2 } else { 1 });
        queue.finish(&me(), &taken).unwrap();
    }
    assert_empty_as_new(&queue, participant.member());
}

/// Where the system tells nobody of deaths, too: it is asked now and then.
#[test]
fn what_a_killed_process_had_comes_back_although_the_queue_is_never_empty() {
    for behind in [1, 16] {
        let queue = queue(1 << 16);
        let others = join(&queue); // first, because a process that joins looks at all members
        push(&queue, b"lost");
        let worker = fork(|| {
            let participant = join(&queue);
            take(&queue, participant.member());
            support::die()
        });
        worker.reap();
        (0..behind).for_each(|_| push(&queue, b"other"));
        until("it has come back", || {
            push(&queue, b"other");
            pop(&queue, Some(others.member())) == b"lost"
        });
    }
}

/// A call that does not wait learns of a death too, wherever the dead process was.
#[test]
fn a_call_that_does_not_wait_takes_over_what_the_dead_held() {
    let at_once = || Deadline::after(Duration::ZERO);
    let queue = queue_with(1 << 16, 2);
    let holder = fork(|| {
        let me = me();
        let _critical = queue.enter(&me, None).unwrap();
        support::die()
    });
    holder.reap();
    queue.push(&me(), 7, b"1", at_once()).unwrap();
    queue.push(&me(), 7, b"2", at_once()).unwrap();
    let pusher = fork(|| {
        push(&queue, b"3");
        0
    });
    pusher.until_asleep();
    pusher.kill();
    assert_eq!(try_pop(&queue), Ok(b"1".to_vec()));
    assert_eq!(try_push(&queue, b"4"), Ok(()), "a dead pusher is at the gate");
}

/// Every way a process can end.
#[test]
fn an_item_in_flight_goes_to_a_taker_that_waits() {
    let ends: [fn(); 3] = [
        || support::die(),
        // SAFETY: ends this process.
        || unsafe { libc::_exit(0) },
        || {
            let path = c"/bin/true";
            // SAFETY: replaces this process.
            unsafe { libc::execv(path.as_ptr(), [path.as_ptr(), std::ptr::null()].as_ptr()) };
        },
    ];
    for end in ends {
        let queue = queue(1 << 16);
        push(&queue, b"work");
        let (taken, go) = (shared::<AtomicU64>(), shared::<AtomicU64>());
        let worker = fork(|| {
            let participant = join(&queue);
            take(&queue, participant.member());
            taken.store(1, SeqCst);
            while go.load(SeqCst) == 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
            end();
            1
        });
        until("it is in flight", || taken.load(SeqCst) == 1);
        let takers = [0; 2].map(|_| {
            fork(|| {
                let participant = join(&queue);
                let mut bytes = Vec::new();
                match queue.take(&me(), participant.member(), &mut bytes, patience()) {
                    Ok(taken) => i32::from(bytes != b"work" || taken.deliveries != 2),
                    Err(Ok(Refusal::Closed)) => 2,
                    _ => 3,
                }
            })
        });
        until("the takers wait", || takers.iter().all(|taker| support::state(taker.pid) == 'S'));
        go.store(1, SeqCst);
        // One takes it, and ends without finishing it; so the other gets it too.
        let [first, second] = takers;
        until("one has it", || first.is_over() || second.is_over());
        worker.reap();
        let (mut codes, deadline) = (Vec::new(), Instant::now() + PATIENCE);
        for taker in [first, second] {
            assert!(Instant::now() < deadline);
            codes.push(taker.reap());
        }
        codes.sort_unstable();
        assert!(codes == [0, 1], "{codes:?}"); // the second one's is the third delivery
    }
}

#[test]
fn the_room_of_a_writer_that_was_killed_goes_to_one_that_waits() {
    let queue = queue(1 << 20);
    let reserved = shared::<AtomicU64>();
    let writer = fork(|| {
        let me = me();
        let _reservation = queue.enter(&me, None).unwrap().push(0, &[1; 1 << 20]).unwrap();
        reserved.store(1, SeqCst);
        loop {
            std::thread::sleep(PATIENCE);
        }
    });
    until("it has reserved all", || reserved.load(SeqCst) == 1);
    assert_eq!(try_push(&queue, &[2; 1 << 19]), Err(Refusal::Full));
    let other = fork(|| {
        push(&queue, &item(5, 1 << 19));
        0
    });
    until("the other waits", || support::state(other.pid) == 'S');
    writer.kill();
    assert_eq!(other.reap(), 0);
    let participant = join(&queue);
    assert_eq!(number(&pop(&queue, Some(participant.member()))), 5);
    assert_empty_as_new(&queue, participant.member());
}

#[test]
fn a_forked_child_is_not_the_member_its_parent_is() {
    let queue = queue(1 << 16);
    push(&queue, b"1");
    let participant = join(&queue);
    let (taken, _) = take(&queue, participant.member());
    let child = fork(|| i32::from(participant.is_here()));
    assert_eq!(child.reap(), 0);
    assert_eq!(in_flight(&queue), [(std::process::id(), 1)]);
    queue.finish(&me(), &taken).unwrap();
    participant.leave(&queue, patience()).unwrap();
}

/// One small item in each of many blocks is kept, for long.
#[test]
fn items_in_flight_do_not_keep_the_memory_behind_them() {
    let queue = queue(256 << 10);
    let participant = join(&queue);
    let mut kept = Vec::new();
    for number in 0..20_000_u64 {
        push(&queue, &item(number, 200));
        let (taken, bytes) = take(&queue, participant.member());
        if number % 20 == 0 && kept.len() < 500 {
            kept.push((taken, bytes));
        } else {
            queue.finish(&me(), &taken).unwrap();
        }
    }
    // 500 items of 200 bytes, each of which was in a block of its own, are together now.
    try_push(&queue, &item(1, 100 << 10)).expect("room is there");
    pop(&queue, Some(participant.member()));
    for (taken, _) in &kept {
        queue.put_back(&me(), taken).unwrap();
    }
    for (_, bytes) in kept {
        assert_eq!(pop(&queue, None), bytes);
    }
    assert_empty_as_new(&queue, participant.member());
}

/// How much memory there is behind the queue.
fn resident(start: *mut u8, length: usize) -> usize {
    let mut pages = vec![0_u8; length.div_ceil(4096)];
    // SAFETY: a mapping of ours, and a byte for each page.
    assert_eq!(unsafe { libc::mincore(start.cast(), length, pages.as_mut_ptr()) }, 0);
    pages.iter().filter(|page| **page & 1 == 1).count() * 4096
}

#[test]
fn memory_goes_back_as_the_queue_drains() {
    const BYTES: u64 = 256 << 20;
    let length = Queue::memory_for(BYTES).unwrap();
    let memory = map(length).unwrap();
    // SAFETY: fresh zeroes that stay mapped.
    let queue = unsafe { Queue::create(memory, length, BYTES, 0, true).unwrap() };
    let participant = join(&queue);
    let rests = || resident(memory.as_ptr(), length);
    while try_push(&queue, &[1; 1000]).is_ok() {}
    assert!(rests() > 250 << 20);
    until("it is empty", || {
        (0..10_000).all(|_| queue.pop(&me(), None, &mut Vec::new(), Deadline::after(Duration::ZERO)).is_ok());
        size(&queue) == 0
    });
    assert!(rests() < 1 << 20, "{} bytes after small items", rests());
    push(&queue, &vec![1; BYTES as usize]);
    assert!(rests() > 250 << 20);
    pop(&queue, Some(participant.member()));
    assert!(rests() < 1 << 20, "{} bytes after a large one", rests());
}

/// Whatever the memory holds: an error or a wrong item, but no access outside and no loop without an end.
/// A writer that dies counts no more.
#[test]
fn a_limit_does_not_count_what_a_dead_process_was_copying() {
    let queue = queue_with(1 << 16, 1);
    let child = fork(|| {
        let me = me();
        let _room = queue.enter(&me, None).unwrap().push(0, &[1; 10_000]).unwrap();
        support::die()
    });
    child.reap();
    try_push(&queue, b"1").unwrap();
    assert_eq!(try_push(&queue, b"2"), Err(Refusal::Full));
}

#[test]
fn overwritten_memory_harms_nobody() {
    const BYTES: u64 = 64 << 10;
    let length = Queue::memory_for(BYTES).unwrap();
    for seed in 0..200 {
        let child = fork(|| {
            let memory = map(length).unwrap();
            // SAFETY: fresh zeroes that stay mapped.
            let queue = unsafe { Queue::create(memory, length, BYTES, 0, true).unwrap() };
            let participant = join(&queue);
            let mut random = Random(seed);
            for _ in 0..300 {
                // Not the words that threads hold: the kernel and the C library trust them, and whoever waits for one waits
                // for the thread that it names.
                let offset = match random.below(4) {
                    0 => 40 + random.below(24),
                    1 => 128 + random.below(64),
                    _ => length / 8 * random.below(8) + random.below(length / 8),
                };
                let robust =
                    (0..40).contains(&offset) || (448..1024 * 64 + 128 * 64 + 1024).contains(&offset);
                if !robust {
                    // SAFETY: inside the memory; nobody else is there.
                    unsafe { memory.as_ptr().add(offset).write(random.below(256) as u8) };
                }
                let mut bytes = Vec::new();
                let _ = try_push(&queue, &vec![1; random.length(60_000)]);
                let _ =
                    queue.pop(&me(), Some(participant.member()), &mut bytes, Deadline::after(Duration::ZERO));
                let deadline = Deadline::after(Duration::ZERO);
                if let Ok(taken) = queue.take(&me(), participant.member(), &mut Vec::new(), deadline) {
                    let _ = if random.below(2) == 0 {
                        queue.finish(&me(), &taken)
                    } else {
                        queue.put_back(&me(), &taken)
                    };
                }
            }
            0
        });
        assert_eq!(child.reap(), 0, "seed {seed}");
    }
}

/// What is not simple goes the general way: limits, ends of blocks, what came back, whoever waits for room.
#[test]
fn the_way_of_short_items_declines_what_is_not_simple() {
    let me = me();
    let (limited, closed, queue) = (queue_with(1 << 16, 1), queue(1 << 16), queue(1 << 16));
    let mut short = Short::new();
    assert!(!limited.enter(&me, None).unwrap().push_short(1, b"x"));
    closed.enter(&me, None).unwrap().close();
    assert!(!closed.enter(&me, None).unwrap().push_short(1, b"x"));
    let (one, critical) = (join(&queue), || queue.enter(&me, None).unwrap());
    assert!(!critical().pop_short(&mut short) && critical().take_short(one.member(), &mut short).is_none());
    assert!(!critical().push_short(1, &[0; 4089]));
    assert!(
        critical().push_short(1, &[1; 128])
            && critical().push_short(2, b"")
            && critical().push_short(3, b"x")
    );
    let taken = critical().take_short(one.member(), &mut short).unwrap();
    assert_eq!((taken.tag, taken.deliveries, short.bytes()), (1, 1, [1; 128].as_slice()));
    critical().put_back(&taken).unwrap();
    assert!(!critical().pop_short(&mut short), "one that came back is first");
    assert_eq!(try_pop(&queue).unwrap(), [1; 128]);
    assert!(critical().pop_short(&mut short) && short.bytes().is_empty() && short.tag == 2);
    assert!(critical().pop_short(&mut short) && short.bytes() == b"x" && short.tag == 3);
    let fits = (0..).take_while(|_| critical().push_short(4, &[4; 100])).count();
    assert!((1..4096 / 100).contains(&fits), "to the end of the block");
    assert!(!critical().pop_words(1, |_, _| true), "no words");
    assert!((0..fits).all(|_| critical().pop_wide(&mut short) && short.bytes() == [4; 100]));
    push(&queue, &[5; 1000]);
    assert!(!critical().pop_short(&mut short), "it lies in two blocks");
    assert!(critical().pop_wide(&mut short) && short.bytes() == [5; 1000]);
    push(&queue, &[6; 5000]);
    assert!(!critical().pop_wide(&mut short), "it is large");
    assert!(one.leave(&queue, None).is_ok());
}

/// Words are taken all at once, over several blocks, or not at all.
#[test]
fn words_are_taken_together() {
    let (me, queue) = (me(), queue(1 << 16));
    let critical = || queue.enter(&me, None).unwrap();
    let words: Vec<[u8; 8]> = (0..1000_u64).map(u64::to_ne_bytes).collect();
    let items: Vec<(u32, &[u8])> = words.iter().map(|word| (1, word.as_slice())).collect();
    let take = |count| {
        let mut taken = Vec::new();
        let accept = |tag, bytes: &[u8]| {
            taken.push((tag, bytes.to_vec()));
            true
        };
        critical().pop_words(count, accept).then_some(taken)
    };
    for start in 0..3 {
        // Where the blocks end differs from round to round.
        push(&queue, &vec![7; start * 1000]);
        assert_eq!(critical().push_all(&items).unwrap(), items.len());
        assert_eq!(take(items.len() + 2), None, "so many are not there");
        assert_eq!(try_pop(&queue).unwrap().len(), start * 1000);
        assert_eq!(
            take(10).unwrap(),
            items[..10].iter().map(|(tag, item)| (*tag, item.to_vec())).collect::<Vec<_>>()
        );
        let mut seen = 0;
        let accept = |_: u32, _: &[u8]| {
            seen += 1;
            seen < 6
        };
        assert!(!critical().pop_words(20, accept), "the sixth is none");
        let rest = take(items.len() - 10).unwrap();
        assert!(rest.iter().zip(&words[10..]).all(|((tag, item), word)| *tag == 1 && item == word));
        assert_eq!(size(&queue), 0);
    }
    let one = join(&queue);
    assert_eq!(critical().push_all(&items).unwrap(), items.len());
    let (first, _) = self::take(&queue, one.member());
    assert_eq!(take(items.len() - 1), None, "the first needs its block");
    queue.finish(&me, &first).unwrap();
    assert_eq!(take(items.len() - 1).unwrap().len(), items.len() - 1);
    push(&queue, &vec![1; 1 << 16]); // no block is lost
    assert_eq!(pop(&queue, Some(one.member())).len(), 1 << 16);
    assert!(one.leave(&queue, None).is_ok());
}
