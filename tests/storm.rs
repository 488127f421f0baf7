//! Processes of several threads use every object at once, while a killer kills, interrupts and replaces them. What must
//! hold is checked throughout and at the end; where nothing moves for five seconds, it says who holds and who waits.
//!
//! `STORM_SECONDS` (5) and `STORM_SEED` set the length and the dice.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use process_shared_core::semaphore::MAX;
use process_shared_core::{ConditionVariable, Deadline, Mutex, Outcome, Semaphore, Thread};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};
use support::{Child, fork, in_threads, shared};

const PROCESSES: usize = 4;
const THREADS: usize = 2;
const SEATS: usize = PROCESSES * THREADS;
const PERMITS: u32 = 2;
const STALL: Duration = Duration::from_secs(5);

/// What a thread is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Step {
    Nothing,
    Lock,
    Inside,
    TakePermit,
    HavePermit,
    GivePermit,
    Produce,
    Consume,
    WaitForMore,
}

const STEPS: [Step; 9] = [
    Step::Nothing,
    Step::Lock,
    Step::Inside,
    Step::TakePermit,
    Step::HavePermit,
    Step::GivePermit,
    Step::Produce,
    Step::Consume,
    Step::WaitForMore,
];

/// Of one thread, whoever it is at the moment.
struct Seat {
    /// The native thread's number.
    native: AtomicU32,
    step: AtomicU32,
    done: AtomicU64,
    /// How many permits it takes, or has.
    permits: AtomicU32,
    /// It has put an item into the store, and not taken one out since. Written with the store locked.
    owes: AtomicBool,
}

/// Shared memory.
struct Board {
    seats: [Seat; SEATS],
    /// Under each mutex two counters that are equal, but where a holder was killed.
    pairs: [[AtomicU64; 2]; 2],
    /// Items in the store: as many as there are seats that owe.
    store: AtomicU32,
    taken_over: AtomicU64,
    timed_out: AtomicU64,
    interrupted: AtomicU64,
    over: AtomicBool,
}

struct Storm {
    board: &'static Board,
    mutexes: [Mutex; 2],
    permits: Semaphore,
    store: Mutex,
    more: ConditionVariable,
}

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) % sides
    }

    /// Now and then, soon.
    fn deadline(&mut self) -> Option<Deadline> {
        if self.roll(4) > 0 { None } else { Deadline::after(Duration::from_micros(self.roll(2000))) }
    }
}

/// One thread at its work.
struct Worker<'a> {
    storm: &'a Storm,
    seat: &'a Seat,
    thread: Thread,
    dice: Dice,
}

impl Worker<'_> {
    fn at(&self, step: Step) {
        self.seat.step.store(step as u32, SeqCst);
    }

    fn until_acquired(&mut self, mut wait: impl FnMut(&Thread, Option<Deadline>) -> Outcome) -> bool {
        let deadline = self.dice.deadline();
        loop {
            match wait(&self.thread, deadline) {
                Outcome::Acquired => return true,
                Outcome::TimedOut => {
                    self.storm.board.timed_out.fetch_add(1, SeqCst);
                    return false;
                }
                Outcome::Interrupted => self.storm.board.interrupted.fetch_add(1, SeqCst),
            };
        }
    }

    fn lock(&mut self, mutex: &Mutex) {
        self.at(Step::Lock);
        while !mutex.try_lock(&self.thread).unwrap()
            && !self.until_acquired(|thread, deadline| mutex.lock(thread, deadline))
        {}
        self.at(Step::Inside);
    }

    fn count(&mut self) {
        let which = self.dice.roll(2) as usize;
        let (mutex, pair) = (&self.storm.mutexes[which], &self.storm.board.pairs[which]);
        self.lock(mutex);
        let (first, second) = (pair[0].load(SeqCst), pair[1].load(SeqCst));
        if mutex.is_abandoned() {
            self.storm.board.taken_over.fetch_add(1, SeqCst);
            assert!(first == second || first == second + 1);
            pair[1].store(first, SeqCst); // repaired first: who dies below leaves them one apart again
        } else {
            assert_eq!(first, second, "two held the mutex at once");
        }
        pair[0].store(first + 1, SeqCst);
        if self.dice.roll(50) == 0 {
            assert_eq!(fork(|| 0).reap(), 0, "a child that has nothing to do with it");
        }
        pair[1].store(first + 1, SeqCst);
        mutex.unlock(&self.thread);
    }

    fn borrow(&mut self) {
        let permits = &self.storm.permits;
        let count = if self.dice.roll(3) == 0 { PERMITS } else { 1 };
        self.seat.permits.store(count, SeqCst);
        self.at(Step::TakePermit);
        while permits.try_acquire(&self.thread, count) != Ok(true)
            && !self.until_acquired(|thread, deadline| permits.acquire(thread, count, deadline).unwrap())
        {
        }
        self.at(Step::HavePermit);
        if self.dice.roll(4) == 0 {
            std::thread::yield_now();
        }
        self.at(Step::GivePermit);
        permits.post_many(&self.thread, count, MAX).unwrap();
    }

    fn trade(&mut self) {
        let Storm { board, store, more, .. } = self.storm;
        self.lock(store);
        self.at(Step::Produce);
        self.seat.owes.store(true, SeqCst);
        board.store.fetch_add(1, SeqCst);
        let signal_inside = self.dice.roll(2) == 0;
        if signal_inside {
            more.condition().signal(&self.thread);
        }
        store.unlock(&self.thread);
        if !signal_inside {
            more.condition().signal(&self.thread);
        }

        self.lock(store);
        while board.store.load(SeqCst) == 0 {
            self.wait_for_more();
        }
        self.at(Step::Consume);
        board.store.fetch_sub(1, SeqCst);
        self.seat.owes.store(false, SeqCst);
        store.unlock(&self.thread);
    }

    fn wait_for_more(&mut self) {
        self.at(Step::WaitForMore);
        let Storm { store, more, .. } = self.storm;
        let mut wait = more.condition().begin_wait(&self.thread, store.name()).unwrap();
        store.unlock(&self.thread);
        let mut deadline = self.dice.deadline();
        let granted = loop {
            match more.condition().sleep(&self.thread, &mut wait, deadline) {
                Outcome::Acquired => break Some(wait),
                Outcome::TimedOut => match more.condition().try_cancel_wait(&self.thread, wait) {
                    None => break None,
                    Some(same) => (wait, deadline) = (same, None),
                },
                Outcome::Interrupted if self.dice.roll(2) == 0 => {
                    more.condition().cancel_wait(&self.thread, wait);
                    break None;
                }
                Outcome::Interrupted => more.condition().release_baton(&self.thread, &mut wait),
            }
        };
        self.lock(store);
        if let Some(wait) = granted {
            more.condition().finish_wait(&self.thread, wait);
        }
    }

    fn work(&mut self) {
        while !self.storm.board.over.load(SeqCst) {
            match self.dice.roll(3) {
                0 => self.count(),
                1 => self.borrow(),
                _ => self.trade(),
            }
            self.at(Step::Nothing);
            self.seat.done.fetch_add(1, SeqCst);
        }
    }
}

impl Storm {
    fn member(&self, place: usize, seed: u64) -> Child {
        fork(|| {
            in_threads((place * THREADS..(place + 1) * THREADS).map(|seat| {
                move || {
                    let dice = Dice(seed.wrapping_mul(31).wrapping_add(seat as u64) | 1);
                    let thread = Thread::current().unwrap();
                    let seat = &self.board.seats[seat];
                    // SAFETY: no precondition.
                    seat.native.store(unsafe { libc::gettid() } as u32, SeqCst);
                    Worker { storm: self, seat, thread, dice }.work();
                }
            }));
            0
        })
    }

    /// Puts in order what the threads of a dead process left. Returns how many permits may be too many now.
    fn clean_up(&self, place: usize) -> u32 {
        let thread = Thread::current().unwrap();
        let seats = &self.board.seats[place * THREADS..(place + 1) * THREADS];
        let mut doubtful = 0;
        for seat in seats {
            let (step, count) = (STEPS[seat.step.load(SeqCst) as usize], seat.permits.load(SeqCst));
            if matches!(step, Step::HavePermit | Step::TakePermit | Step::GivePermit) {
                self.permits.post_many(&thread, count, MAX).unwrap();
            }
            if matches!(step, Step::TakePermit | Step::GivePermit) {
                doubtful += count; // it may have had none
            }
            seat.step.store(Step::Nothing as u32, SeqCst);
        }
        let taken = self.store.try_lock(&thread).unwrap()
            || self.store.lock(&thread, Deadline::after(STALL)) == Outcome::Acquired;
        if !taken {
            self.report("the store stays locked");
        }
        seats.iter().for_each(|seat| seat.owes.store(false, SeqCst));
        let owing = self.board.seats.iter().filter(|seat| seat.owes.load(SeqCst)).count();
        self.board.store.store(owing as u32, SeqCst);
        self.store.unlock(&thread);
        doubtful
    }

    fn report(&self, what: &str) -> ! {
        for (number, seat) in self.board.seats.iter().enumerate() {
            let (step, done) = (STEPS[seat.step.load(SeqCst) as usize], seat.done.load(SeqCst));
            println!("seat {number}: {step:?}, {done} done, owes {:?}", seat.owes);
        }
        let mutexes = self.mutexes.iter().chain([&self.store]);
        for (name, mutex) in ["first", "second", "store"].iter().zip(mutexes) {
            println!("{name}: held by {:?}, {} waiting", mutex.owner_pid(), mutex.waiters());
        }
        println!("permits: {} free, {} waiting", self.permits.value(), self.permits.waiters());
        let more = self.more.condition();
        println!("more: {} waiting, {} granted", more.waiters(), more.granted());
        println!("store: {:?}", self.board.store);
        panic!("{what}");
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn everything_goes_on_whoever_dies() {
    extern "C" fn nothing(_: libc::c_int) {}
    // SAFETY: an action without SA_RESTART, and a handler that does nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
    let seconds = Duration::from_secs(setting("STORM_SECONDS", 5));
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seed = setting("STORM_SEED", u64::from(now.subsec_nanos()));
    println!("STORM_SEED={seed}");
    let mut dice = Dice(seed | 1);
    let storm = Storm {
        board: shared(),
        mutexes: [Mutex::new().unwrap(), Mutex::new().unwrap()],
        permits: Semaphore::new(PERMITS).unwrap(),
        store: Mutex::new().unwrap(),
        more: ConditionVariable::new().unwrap(),
    };
    let board = storm.board;
    let mut members: Vec<Child> =
        (0..PROCESSES).map(|place| storm.member(place, dice.roll(1 << 40))).collect();
    let (start, mut killed, mut doubtful) = (Instant::now(), 0, 0);
    let mut seen = [(0, start); SEATS];
    while start.elapsed() < seconds {
        std::thread::sleep(Duration::from_micros(dice.roll(8000)));
        let place = dice.roll(PROCESSES as u64) as usize;
        if dice.roll(2) == 0 {
            let thread = board.seats[place * THREADS].native.load(SeqCst);
            // SAFETY: a signal for a thread of a child that has not been reaped.
            unsafe { libc::syscall(libc::SYS_tgkill, members[place].pid, thread, libc::SIGUSR1) };
        } else {
            members.swap_remove(place).kill();
            killed += 1;
            doubtful += storm.clean_up(place);
            members.push(storm.member(place, dice.roll(1 << 40)));
            members.swap(place, PROCESSES - 1);
        }
        for (seat, (done, when)) in board.seats.iter().zip(&mut seen) {
            let now = seat.done.load(SeqCst);
            if now != *done {
                (*done, *when) = (now, Instant::now());
            } else if when.elapsed() > STALL {
                storm.report("a thread has not moved for five seconds");
            }
        }
    }
    board.over.store(true, SeqCst);
    if !support::comes_true(STALL, || members.iter().all(Child::is_over)) {
        storm.report("the threads do not come to an end");
    }
    assert!(members.into_iter().all(|member| member.reap() == 0));

    let operations: u64 = board.seats.iter().map(|seat| seat.done.load(SeqCst)).sum();
    println!(
        "{operations} operations, {killed} processes killed, {:?} locks taken over, {:?} interrupts, {:?} timeouts",
        board.taken_over, board.interrupted, board.timed_out
    );
    let spare = storm.permits.value() - i64::from(PERMITS);
    assert!(spare <= i64::from(doubtful), "{spare} permits too many, {doubtful} in doubt");
    assert_eq!(board.store.load(SeqCst), 0);
    assert_eq!((storm.more.condition().waiters(), storm.more.condition().granted()), (0, 0));
    assert_eq!(storm.permits.waiters(), 0);
    for mutex in storm.mutexes.iter().chain([&storm.store]) {
        assert_eq!((mutex.is_locked(), mutex.waiters()), (false, 0));
    }
}
