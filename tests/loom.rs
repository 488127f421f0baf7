//! The protocols under a model checker: every order of their steps, within a bound of preemptions, on a kernel made for
//! it (`models/loom.rs`). A lost wake-up ends in a deadlock, which loom reports. `rake rust:loom` runs it.
#![cfg(loom)]
#![allow(clippy::unwrap_used)]

#[path = "support/model_checking.rs"]
mod model_checking;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;
use model_checking::{check, check_deaths, notices};
use process_shared_core::Deadline;
use process_shared_core::barrier::{Arrival, Barrier};
use process_shared_core::condition::waits::{Outstanding, Waits};
use process_shared_core::condition::{Baton, Condition, Wait};
use process_shared_core::event::Event;
use process_shared_core::latch::Latch;
use process_shared_core::lock::{Lock, Outcome};
use process_shared_core::participants::{Header, OWES, Participant, Party, Seat, Table, Ticket};
use process_shared_core::platform::{Clock, Thread, World, weakly};
use process_shared_core::presence::Members;
use process_shared_core::robust_semaphore::{Memory, Refusal, Robust, RobustSemaphore};
use process_shared_core::semaphore::{MAX, Semaphore};
use process_shared_core::turn::Place;
use process_shared_core::word::Word;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

/// What the threads of a scenario share.
struct Shared<T> {
    world: World,
    object: T,
    header: Header,
    entries: [Participant; 3],
    data: UnsafeCell<u32>,
}

impl<T> Shared<T> {
    fn seat(&self) -> Seat<'_> {
        Seat { table: Table::of(&self.header, &self.entries), key: 1, tally: None }
    }
}

impl<T: Default> Shared<T> {
    fn new() -> Arc<Self> {
        Arc::new(Shared {
            world: World::default(),
            object: T::default(),
            header: Header::default(),
            entries: Default::default(),
            data: UnsafeCell::new(0),
        })
    }
}

impl Shared<Semaphore> {
    /// A thread's that wants its permits before anybody else stands in line.
    fn place(&self) -> Place<'_> {
        Place::new(Party::new(self.seat(), self.object.spare()), None)
    }
}

// SAFETY: `data` is what the protocols protect: loom tells if they do not.
unsafe impl<T: Sync> Sync for Shared<T> {}
unsafe impl<T: Send> Send for Shared<T> {}

fn spawn<T: 'static, R: 'static>(
    shared: &Arc<Shared<T>>,
    life: impl FnOnce(&Shared<T>) -> R + 'static,
) -> thread::JoinHandle<R> {
    let shared = shared.clone();
    thread::spawn(move || life(&shared))
}

fn later() -> Option<Deadline> {
    Deadline::after(Duration::from_secs(1))
}

mod lock {
    use super::*;

    fn take(shared: &Shared<Lock>, me: &Thread, deadline: Option<Deadline>) -> bool {
        shared.object.try_lock(me) || shared.object.lock(me, deadline) == Outcome::Acquired
    }

    fn increment(shared: &Shared<Lock>, me: &Thread) {
        assert!(take(shared, me, None));
        shared.data.with_mut(|data| unsafe { *data += 1 });
        shared.object.unlock(me);
    }

    #[test]
    fn keeps_others_out_and_shows_what_they_did() {
        check(2, || {
            let shared = Shared::<Lock>::new();
            let others = [1, 2].map(|id| {
                spawn(&shared, move |shared| increment(shared, &shared.world.thread(id, Clock::Slow)))
            });
            increment(&shared, &shared.world.thread(3, Clock::Slow));
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(shared.data.with(|data| unsafe { *data }), 3);
            assert!(!shared.object.is_locked());
        });
    }

    #[test]
    fn outlives_whoever_takes_it() {
        check_deaths(2, |steps| {
            let shared = Shared::<Lock>::new();
            let me = shared.world.thread(3, Clock::Slow);
            assert!(shared.object.try_lock(&me));
            let mortal = spawn(&shared, move |shared| {
                shared.world.thread(1, Clock::Slow).live(steps, |me| increment(shared, me))
            });
            let other = spawn(&shared, |shared| increment(shared, &shared.world.thread(2, Clock::Slow)));
            shared.object.unlock(&me);
            let died = mortal.join().unwrap();
            other.join().unwrap();
            assert!(!shared.object.is_locked());
            died
        });
    }

    #[test]
    fn outlives_whoever_watches_it() {
        check_deaths(2, |steps| {
            let shared = Shared::<Lock>::new();
            let mortal = spawn(&shared, move |shared: &Shared<Lock>| {
                shared.world.thread(1, Clock::Slow).live(steps, |me| {
                    shared.object.wait_until_free(me, None);
                })
            });
            let other = spawn(&shared, |shared| increment(shared, &shared.world.thread(2, Clock::Slow)));
            increment(&shared, &shared.world.thread(3, Clock::Slow));
            other.join().unwrap();
            mortal.join().unwrap()
        });
    }

    #[test]
    fn a_wait_that_times_out_takes_nobody_s_wake_up() {
        check(2, || {
            let shared = Shared::<Lock>::new();
            let timed = spawn(&shared, |shared| {
                let me = shared.world.thread(1, Clock::Slow);
                if take(shared, &me, later()) {
                    shared.object.unlock(&me);
                }
            });
            let other = spawn(&shared, |shared| increment(shared, &shared.world.thread(2, Clock::Slow)));
            increment(&shared, &shared.world.thread(3, Clock::Slow));
            shared.world.expire();
            timed.join().unwrap();
            other.join().unwrap();
        });
    }
}

mod semaphore {
    use super::*;

    fn wait(shared: &Shared<Semaphore>, me: &Thread) {
        assert!(
            shared.object.try_wait()
                || shared.object.wait_for(me, shared.place(), 1, None, true) == Outcome::Acquired
        );
    }

    fn post(shared: &Shared<Semaphore>, me: &Thread) {
        shared.object.post(me, MAX).unwrap();
    }

    #[test]
    fn a_permit_shows_what_came_before_it() {
        check(3, || {
            let shared = Shared::<Semaphore>::new();
            let other = spawn(&shared, |shared| {
                wait(shared, &shared.world.thread(1, Clock::Slow));
                shared.data.with(|data| assert_eq!(unsafe { *data }, 1));
            });
            shared.data.with_mut(|data| unsafe { *data = 1 });
            post(&shared, &shared.world.thread(2, Clock::Slow));
            other.join().unwrap();
            assert_eq!(shared.object.value(), 0);
        });
    }

    #[test]
    fn two_posts_let_two_through() {
        check(2, || {
            let shared = Shared::<Semaphore>::new();
            let others = [1, 2]
                .map(|id| spawn(&shared, move |shared| wait(shared, &shared.world.thread(id, Clock::Slow))));
            let poster = spawn(&shared, |shared| post(shared, &shared.world.thread(3, Clock::Slow)));
            post(&shared, &shared.world.thread(4, Clock::Slow));
            poster.join().unwrap();
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(shared.object.value(), 0);
        });
    }

    /// One permit goes round. If the dead one had not taken it, the other gets it without more being done.
    #[test]
    fn outlives_whoever_waits() {
        fn borrow(shared: &Shared<Semaphore>, me: &Thread) {
            wait(shared, me);
            post(shared, me);
        }
        check_deaths(2, |steps| {
            let shared = Shared::<Semaphore>::new();
            let mortal = spawn(&shared, move |shared| {
                shared.world.thread(1, Clock::Slow).live(steps, |me| borrow(shared, me))
            });
            let other = spawn(&shared, |shared| borrow(shared, &shared.world.thread(2, Clock::Slow)));
            let me = shared.world.thread(3, Clock::Slow);
            post(&shared, &me);
            let died = mortal.join().unwrap();
            if died && shared.object.value() == 0 {
                post(&shared, &me);
            }
            other.join().unwrap();
            assert!(shared.object.value() >= 1);
            died
        });
    }

    /// Waits as a BinarySemaphore's waiter does, which takes the permit once it can.
    fn wait_for_chance(shared: &Shared<Semaphore>, me: &Thread) {
        let take = |chance| shared.object.settle_chance(me, chance, true);
        while !shared.object.wait_for_chance(me, None).is_ok_and(take) {}
    }

    #[test]
    fn outlives_whoever_waits_for_a_chance() {
        check_deaths(2, |steps| {
            let shared = Shared::<Semaphore>::new();
            let mortal = spawn(&shared, move |shared| {
                shared.world.thread(1, Clock::Slow).live(steps, |me| {
                    wait_for_chance(shared, me);
                    post(shared, me);
                })
            });
            let other = spawn(&shared, |shared| {
                let me = shared.world.thread(2, Clock::Slow);
                wait(shared, &me);
                post(shared, &me);
            });
            let me = shared.world.thread(3, Clock::Slow);
            post(&shared, &me);
            let died = mortal.join().unwrap();
            if died && shared.object.value() == 0 {
                post(&shared, &me);
            }
            other.join().unwrap();
            died
        });
    }

    #[test]
    fn a_chance_that_is_left_goes_to_the_next() {
        check(2, || {
            let shared = Shared::<Semaphore>::new();
            let shy = spawn(&shared, |shared| {
                let me = shared.world.thread(1, Clock::Slow);
                if let Ok(chance) = shared.object.wait_for_chance(&me, None) {
                    shared.object.settle_chance(&me, chance, false);
                }
            });
            let other = spawn(&shared, |shared| wait(shared, &shared.world.thread(2, Clock::Slow)));
            let me = shared.world.thread(3, Clock::Slow);
            post(&shared, &me);
            other.join().unwrap();
            post(&shared, &me);
            shy.join().unwrap();
            assert_eq!(shared.object.value(), 1);
        });
    }

    #[test]
    fn outlives_whoever_posts() {
        check_deaths(2, |steps| {
            let shared = Shared::<Semaphore>::new();
            let waiter = spawn(&shared, |shared| wait(shared, &shared.world.thread(2, Clock::Slow)));
            let died = shared.world.thread(1, Clock::Slow).live(steps, |me| post(&shared, me));
            if shared.object.value() == 0 && died {
                post(&shared, &shared.world.thread(3, Clock::Slow)); // it was not given, or is taken
            }
            waiter.join().unwrap();
            died
        });
    }

    #[test]
    fn outlives_whoever_watches() {
        check_deaths(2, |steps| {
            let shared = Shared::<Semaphore>::new();
            let mortal = spawn(&shared, move |shared: &Shared<Semaphore>| {
                shared.world.thread(1, Clock::Slow).live(steps, |me| {
                    shared.object.wait_for(me, shared.place(), 1, None, false);
                })
            });
            let other = spawn(&shared, |shared| wait(shared, &shared.world.thread(2, Clock::Slow)));
            let me = shared.world.thread(3, Clock::Slow);
            post(&shared, &me);
            other.join().unwrap();
            post(&shared, &me);
            mortal.join().unwrap()
        });
    }
}

/// Several permits at once.
mod line {
    use super::*;

    fn with(value: u32) -> Arc<Shared<Semaphore>> {
        let shared = Shared::<Semaphore>::new();
        shared.object.start(value);
        shared
    }

    fn take(shared: &Shared<Semaphore>, me: &Thread, count: u32) {
        let taken = shared.object.try_acquire(me, count)
            || shared.object.wait_for(me, shared.place(), count, None, true) == Outcome::Acquired;
        assert!(taken);
    }

    fn give(shared: &Shared<Semaphore>, me: &Thread, count: u32) {
        shared.object.post_many(me, count, MAX).unwrap();
    }

    #[test]
    fn gets_all_of_what_comes_in_parts_beside_a_single() {
        check(2, || {
            let shared = with(0);
            let many = spawn(&shared, |shared| take(shared, &shared.world.thread(1, Clock::Slow), 2));
            let single = spawn(&shared, |shared| take(shared, &shared.world.thread(2, Clock::Slow), 1));
            let me = shared.world.thread(3, Clock::Slow);
            give(&shared, &me, 1);
            give(&shared, &me, 2);
            many.join().unwrap();
            single.join().unwrap();
            assert_eq!(shared.object.value(), 0);
        });
    }

    #[test]
    fn a_time_out_gives_back_what_had_come() {
        check(2, || {
            let shared = with(1);
            let hasty = spawn(&shared, |shared| {
                let me = shared.world.thread(1, Clock::Quick);
                shared.object.wait_for(&me, shared.place(), 2, later(), true)
            });
            take(&shared, &shared.world.thread(2, Clock::Slow), 1);
            assert_eq!(hasty.join().unwrap(), Outcome::TimedOut);
            assert_eq!(shared.object.value(), 0);
        });
    }

    /// A debt is paid before anybody gets a permit.
    #[test]
    fn a_debt_keeps_nobody_asleep() {
        check(2, || {
            let shared = with(0);
            let single = spawn(&shared, |shared| take(shared, &shared.world.thread(1, Clock::Slow), 1));
            let debtor = spawn(&shared, |shared| {
                shared.object.reduce(&shared.world.thread(2, Clock::Slow), 1, -9).unwrap();
            });
            let me = shared.world.thread(3, Clock::Slow);
            give(&shared, &me, 1);
            debtor.join().unwrap();
            give(&shared, &me, 1);
            single.join().unwrap();
            assert_eq!(shared.object.value(), 0);
        });
    }

    /// Whoever dies at the head of the line leaves what it had collected to the next.
    fn outlives(steps: usize, wanted_by_other: u32) -> bool {
        let shared = with(1);
        let mortal = spawn(&shared, move |shared| {
            shared.world.thread(1, Clock::Slow).live(steps, |me| {
                take(shared, me, 2);
                give(shared, me, 2);
            })
        });
        let other = spawn(&shared, move |shared| {
            let me = shared.world.thread(2, Clock::Slow);
            take(shared, &me, wanted_by_other);
            give(shared, &me, wanted_by_other);
        });
        let me = shared.world.thread(3, Clock::Slow);
        give(&shared, &me, 1);
        let died = mortal.join().unwrap();
        if died && shared.object.value() < 2 {
            give(&shared, &me, 2); // the dead may have taken them
        }
        other.join().unwrap();
        assert!(shared.object.value() >= 2);
        died
    }

    #[test]
    fn outlives_its_head_and_serves_a_single() {
        check_deaths(1, |steps| outlives(steps, 1));
    }

    #[test]
    fn outlives_its_head_and_serves_the_next() {
        check_deaths(1, |steps| outlives(steps, 2));
    }

    #[test]
    fn outlives_whoever_gives_to_its_head() {
        check_deaths(2, |steps| {
            let shared = with(1);
            let many = spawn(&shared, |shared| take(shared, &shared.world.thread(2, Clock::Slow), 2));
            let died = shared.world.thread(1, Clock::Slow).live(steps, |me| give(&shared, me, 1));
            if died {
                give(&shared, &shared.world.thread(3, Clock::Slow), 1); // it may not have been given
            }
            many.join().unwrap();
            died
        });
    }

    /// Whoever only tries finds what a dead head had collected.
    #[test]
    fn a_try_finds_what_a_dead_head_had_collected() {
        check_deaths(2, |steps| {
            let shared = with(1);
            let died = shared.world.thread(1, Clock::Quick).live(steps, |me| {
                shared.object.wait_for(me, shared.place(), 2, later(), true);
            });
            let me = shared.world.thread(2, Clock::Slow);
            assert!(shared.object.try_acquire(&me, 1));
            assert_eq!(shared.object.value(), 0);
            died
        });
    }
}

/// Processes with permits of their own. Each has a thread that does nothing but live as long as the process.
mod robust {
    use super::*;

    pub struct Process {
        pub me: Thread,
        pub guardian: Thread,
        memory: Memory,
    }

    impl Process {
        pub fn new<T>(shared: &Shared<T>, pid: u32) -> Self {
            let threads = [pid, pid + 10].map(|id| shared.world.thread(id, Clock::Slow));
            threads.iter().for_each(|thread| thread.process.set(pid));
            let [me, guardian] = threads;
            Process { me, guardian, memory: Memory::default() }
        }

        fn semaphore<'a>(&'a self, shared: &'a Shared<RobustSemaphore>) -> Robust<'a> {
            let semaphore = &shared.object;
            Robust {
                semaphore,
                holders: Party::new(shared.seat(), semaphore.ranges()[0]),
                memory: &self.memory,
            }
        }

        pub fn take(&self, shared: &Shared<RobustSemaphore>, count: u32) {
            let join = |holders: Party<'_>, state| holders.join(&self.guardian, state, 0);
            let semaphore = self.semaphore(shared);
            if semaphore.try_acquire(&self.me, count, join) != Ok(true) {
                let place = Place::new(Party::new(shared.seat(), shared.object.ranges()[1]), None);
                let acquired = semaphore.acquire(&self.me, place, count, None, true, join);
                assert_eq!(acquired, Ok(Outcome::Acquired));
            }
        }

        fn give(&self, shared: &Shared<RobustSemaphore>, count: u32) -> Result<(), Refusal> {
            self.semaphore(shared).release(&self.me, count)
        }

        /// As a process does that takes and gives one at a time.
        fn take_one(&self, shared: &Shared<RobustSemaphore>) {
            if !self.semaphore(shared).take_kept(self.me.process.get()) {
                self.take(shared, 1);
            }
        }

        pub fn give_one(&self, shared: &Shared<RobustSemaphore>) {
            if !self.semaphore(shared).keep(self.me.process.get()) {
                self.give(shared, 1).unwrap();
            }
        }

        fn assert_all_free(&self, shared: &Shared<RobustSemaphore>, limit: i32) {
            assert_eq!(self.semaphore(shared).value(&self.me), limit);
            assert_eq!(self.semaphore(shared).holders(&self.me), Ok(Vec::new()));
        }
    }

    pub fn with(limit: i32) -> Arc<Shared<RobustSemaphore>> {
        let shared = Shared::<RobustSemaphore>::new();
        shared.object.start(limit);
        shared
    }

    /// One process does `life` and ends, at any step of it or after it. Another wants all permits, and gets them.
    fn outlives(steps: usize, life: fn(&Shared<RobustSemaphore>, &Process)) -> bool {
        let shared = with(2);
        let mortal = spawn(&shared, move |shared| {
            let process = Process::new(shared, 1);
            let died = process.me.live(steps, |_| life(shared, &process));
            process.guardian.end();
            died
        });
        let other = Process::new(&shared, 2);
        other.take(&shared, 2);
        other.give(&shared, 2).unwrap();
        let died = mortal.join().unwrap();
        other.assert_all_free(&shared, 2);
        died
    }

    #[test]
    fn outlives_whoever_takes_one() {
        check_deaths(1, |steps| outlives(steps, |shared, process| process.take(shared, 1)));
    }

    #[test]
    fn outlives_whoever_gives_one() {
        check_deaths(1, |steps| {
            outlives(steps, |shared, process| {
                process.take(shared, 1);
                process.give(shared, 1).unwrap();
            })
        });
    }

    /// It lives on while its permit is given back.
    #[test]
    fn a_permit_that_is_given_back_wakes_the_head_of_the_line() {
        check(2, || {
            let shared = with(1);
            let [first, second] = [1, 2].map(|pid| {
                spawn(&shared, move |shared| {
                    let process = Process::new(shared, pid);
                    process.take(shared, 1);
                    process.give(shared, 1).unwrap();
                    process
                })
            });
            let first = first.join().unwrap();
            second.join().unwrap();
            first.assert_all_free(&shared, 1);
        });
    }

    /// The other wants it, whether it is kept by then or not.
    #[test]
    fn a_kept_permit_is_there_for_others() {
        check(2, || {
            let shared = with(1);
            let first = spawn(&shared, |shared| {
                let process = Process::new(shared, 1);
                process.take_one(shared);
                process.give_one(shared);
                process
            });
            let second = Process::new(&shared, 2);
            second.take(&shared, 1);
            second.give_one(&shared);
            first.join().unwrap();
            second.assert_all_free(&shared, 1);
        });
    }

    #[test]
    fn a_permit_that_was_kept_is_taken_by_one() {
        check(2, || {
            let shared = with(1);
            let first = Process::new(&shared, 1);
            first.take_one(&shared);
            first.give_one(&shared);
            let other = spawn(&shared, |shared| {
                let process = Process::new(shared, 2);
                process.take(shared, 1);
                shared.data.with_mut(|data| unsafe { *data += 1 });
                process.give_one(shared);
            });
            first.take_one(&shared);
            shared.data.with_mut(|data| unsafe { *data += 1 });
            first.give_one(&shared);
            other.join().unwrap();
            first.assert_all_free(&shared, 1);
        });
    }

    #[test]
    fn outlives_whoever_keeps_one() {
        check_deaths(1, |steps| {
            outlives(steps, |shared, process| {
                process.take_one(shared);
                process.give_one(shared);
            })
        });
    }

    /// What comes back while the limit is made lower is not taken again.
    #[test]
    fn a_lower_limit_holds_for_kept_permits() {
        check(2, || {
            let shared = with(1);
            let first = Process::new(&shared, 1);
            first.take_one(&shared);
            let lowers = spawn(&shared, |shared| {
                let process = Process::new(shared, 2);
                process.semaphore(shared).resize(&process.me, |_| Some(0)).unwrap();
            });
            first.give_one(&shared);
            lowers.join().unwrap();
            assert!(!first.semaphore(&shared).take_kept(1));
            first.assert_all_free(&shared, 0);
        });
    }

    /// Whoever changes the limit holds nothing, so nobody watches it.
    #[test]
    fn outlives_whoever_changes_the_limit() {
        check_deaths(2, |steps| {
            let shared = with(0);
            let waiter = spawn(&shared, |shared| {
                let process = Process::new(shared, 2);
                process.take(shared, 1);
                process.give(shared, 1).unwrap();
            });
            let raise = |process: &Process| {
                process.semaphore(&shared).resize(&process.me, |_| Some(1)).unwrap();
            };
            let process = Process::new(&shared, 1);
            let died = process.me.live(steps, |_| raise(&process));
            if died && shared.object.limit() == 0 {
                raise(&Process::new(&shared, 3));
            }
            waiter.join().unwrap();
            died
        });
    }

    /// A process is killed, and its threads die one after the other: one of them goes on for a while.
    #[test]
    fn a_thread_that_dies_late_takes_nothing_with_it() {
        check(2, || {
            let shared = with(1);
            let process = Process::new(&shared, 1);
            process.take(&shared, 1);
            let mortal = spawn(&shared, move |shared| {
                process.guardian.end();
                if !process.semaphore(shared).keep(1) {
                    let _ = process.give(shared, 1);
                }
            });
            let other = Process::new(&shared, 2);
            other.take(&shared, 1);
            mortal.join().unwrap();
            assert_eq!(other.give(&shared, 1), Ok(()));
            other.assert_all_free(&shared, 1);
        });
    }
}

/// Whose turn it is in a line.
mod turn {
    use super::*;
    use process_shared_core::turn::IN_LINE;

    type Scene = Shared<Word>;

    fn party(shared: &Scene) -> Party<'_> {
        Party::new(shared.seat(), shared.object.spare())
    }

    fn join(shared: &Scene, id: u32) -> (Thread, Ticket) {
        let me = shared.world.thread(id, Clock::Slow);
        let ticket = party(shared).join(&me, IN_LINE, 0).unwrap();
        (me, ticket)
    }

    /// Returns what was counted before its turn, and counts it.
    fn go_on(shared: &Scene, (me, ticket): (&Thread, Ticket)) -> u32 {
        let place = Place::new(party(shared), Some(ticket));
        assert_eq!(place.await_turn(me, None), Outcome::Acquired);
        let before = shared.data.with_mut(|data| unsafe {
            *data += 1;
            *data - 1
        });
        party(shared).leave(me, ticket);
        before
    }

    fn goes_on_as(place: u32, shared: &Arc<Scene>, id: u32) -> thread::JoinHandle<()> {
        let (me, ticket) = join(shared, id);
        spawn(shared, move |shared| assert_eq!(go_on(shared, (&me, ticket)), place))
    }

    #[test]
    fn comes_in_the_order_of_arrival() {
        check(2, || {
            let shared = Scene::new();
            let others = [(1, 0), (2, 1)].map(|(id, place)| goes_on_as(place, &shared, id));
            let (me, ticket) = join(&shared, 3);
            assert_eq!(go_on(&shared, (&me, ticket)), 2);
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }

    /// Two come at once: both go on, whichever has its number first.
    #[test]
    fn passes_by_whoever_comes_meanwhile() {
        check(1, || {
            let shared = Scene::new();
            let first = join(&shared, 1);
            let others = [2, 3].map(|id| {
                spawn(&shared, move |shared| {
                    let (me, ticket) = join(shared, id);
                    let place = Place::new(party(shared), Some(ticket));
                    assert_eq!(place.await_turn(&me, None), Outcome::Acquired);
                    party(shared).leave(&me, ticket);
                })
            });
            go_on(&shared, (&first.0, first.1));
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }

    /// Whoever dies in line, or gives up, is passed by.
    fn outlives(steps: usize, spoil: fn(&Thread), clock: Clock) -> bool {
        let shared = Scene::new();
        let (first, first_ticket) = join(&shared, 1);
        let mortal = shared.world.thread(2, clock);
        spoil(&mortal);
        let ticket = party(&shared).join(&mortal, IN_LINE, 0).unwrap();
        let mortal = spawn(&shared, move |shared| {
            mortal.live(steps, |me| {
                Place::new(party(shared), Some(ticket)).await_turn(me, later());
                party(shared).leave(me, ticket);
            })
        });
        let last = goes_on_as(1, &shared, 3);
        assert_eq!(go_on(&shared, (&first, first_ticket)), 0);
        last.join().unwrap();
        mortal.join().unwrap()
    }

    #[test]
    fn outlives_whoever_stands_in_line() {
        check_deaths(1, |steps| outlives(steps, |_| {}, Clock::Slow));
    }

    #[test]
    fn outlives_whoever_gives_up() {
        check_deaths(1, |steps| outlives(steps, |_| {}, Clock::Quick));
    }

    #[test]
    #[ignore = "fails on purpose"]
    fn the_kernel_overlooks_a_death_in_line() {
        check_deaths(1, |steps| outlives(steps, |mortal| mortal.forgotten.set(true), Clock::Slow));
    }
}

mod event {
    use super::*;

    /// Waits for an event that was not set when this was called.
    fn wait(shared: &Shared<Event>, me: &Thread) {
        if let Some(epoch) = shared.object.begin() {
            assert_eq!(shared.object.wait(me, epoch, None), Outcome::Acquired);
        }
    }

    #[test]
    fn shows_what_came_before_it() {
        check(3, || {
            let shared = Shared::<Event>::new();
            let other = spawn(&shared, |shared| {
                wait(shared, &shared.world.thread(1, Clock::Slow));
                shared.data.with(|data| assert_eq!(unsafe { *data }, 1));
            });
            shared.data.with_mut(|data| unsafe { *data = 1 });
            assert!(shared.object.set(&shared.world.thread(2, Clock::Slow)));
            other.join().unwrap();
        });
    }

    #[test]
    fn one_set_wakes_two_and_one_of_two_setters_has_set_it() {
        check(2, || {
            let shared = Shared::<Event>::new();
            let others = [1, 2]
                .map(|id| spawn(&shared, move |shared| wait(shared, &shared.world.thread(id, Clock::Slow))));
            let setter = spawn(&shared, |shared| shared.object.set(&shared.world.thread(3, Clock::Slow)));
            let set = shared.object.set(&shared.world.thread(4, Clock::Slow));
            assert!(setter.join().unwrap() != set);
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }

    /// Two wait since before the event is set; one comes after the reset, and waits for the second time.
    #[test]
    fn a_reset_keeps_nobody_asleep() {
        check(2, || {
            let shared = Shared::<Event>::new();
            let epoch = shared.object.begin().unwrap();
            let early = spawn(&shared, move |shared| {
                let me = shared.world.thread(1, Clock::Slow);
                assert_eq!(shared.object.wait(&me, epoch, None), Outcome::Acquired);
            });
            let late = spawn(&shared, |shared| wait(shared, &shared.world.thread(2, Clock::Slow)));
            let me = shared.world.thread(3, Clock::Slow);
            assert!(shared.object.set(&me));
            shared.object.reset(&me);
            early.join().unwrap();
            shared.object.set(&me);
            late.join().unwrap();
        });
    }

    #[test]
    fn outlives_whoever_sets_it() {
        check_deaths(2, |steps| {
            let shared = Shared::<Event>::new();
            let others = [1, 2]
                .map(|id| spawn(&shared, move |shared| wait(shared, &shared.world.thread(id, Clock::Slow))));
            let mortal = shared.world.thread(3, Clock::Slow);
            let died = mortal.live(steps, |me| {
                shared.object.set(me);
            });
            if !shared.object.is_set() {
                shared.object.set(&shared.world.thread(4, Clock::Slow));
            }
            others.into_iter().for_each(|other| other.join().unwrap());
            died
        });
    }

    /// A reset follows the death of the setter at once.
    #[test]
    fn a_reset_wakes_those_of_a_dead_setter() {
        check_deaths(2, |steps| {
            let shared = Shared::<Event>::new();
            let epoch = shared.object.begin().unwrap();
            let others = [1, 2].map(|id| {
                spawn(&shared, move |shared| {
                    let me = shared.world.thread(id, Clock::Slow);
                    assert_eq!(shared.object.wait(&me, epoch, None), Outcome::Acquired);
                })
            });
            let died = shared.world.thread(3, Clock::Slow).live(steps, |me| {
                shared.object.set(me);
            });
            let me = shared.world.thread(4, Clock::Slow);
            shared.object.set(&me);
            shared.object.reset(&me);
            others.into_iter().for_each(|other| other.join().unwrap());
            died
        });
    }

    #[test]
    fn outlives_whoever_waits() {
        check_deaths(2, |steps| {
            let shared = Shared::<Event>::new();
            let mortal = spawn(&shared, move |shared| {
                shared.world.thread(1, Clock::Slow).live(steps, |me| wait(shared, me))
            });
            let other = spawn(&shared, |shared| wait(shared, &shared.world.thread(2, Clock::Slow)));
            shared.object.set(&shared.world.thread(3, Clock::Slow));
            other.join().unwrap();
            mortal.join().unwrap()
        });
    }
}

mod latch {
    use super::*;

    fn at(count: u32) -> Arc<Shared<Latch>> {
        let shared = Shared::<Latch>::new();
        shared.object.start(count);
        shared
    }

    fn wait(shared: &Shared<Latch>, id: u32) {
        assert_eq!(shared.object.wait(&shared.world.thread(id, Clock::Slow), None), Outcome::Acquired);
    }

    #[test]
    fn the_last_of_two_wakes_all() {
        check(2, || {
            let shared = at(2);
            let others = [1, 2].map(|id| spawn(&shared, move |shared| wait(shared, id)));
            let counter = spawn(&shared, |shared| {
                shared.object.count_down(&shared.world.thread(3, Clock::Slow));
            });
            shared.object.count_down(&shared.world.thread(4, Clock::Slow));
            counter.join().unwrap();
            others.into_iter().for_each(|other| other.join().unwrap());
        });
    }

    #[test]
    fn outlives_whoever_opens_it() {
        check_deaths(2, |steps| {
            let shared = at(1);
            let others = [1, 2].map(|id| spawn(&shared, move |shared| wait(shared, id)));
            let died = shared.world.thread(3, Clock::Slow).live(steps, |me| shared.object.count_down(me));
            if shared.object.count() > 0 {
                shared.object.count_down(&shared.world.thread(4, Clock::Slow));
            }
            others.into_iter().for_each(|other| other.join().unwrap());
            died
        });
    }

    #[test]
    fn outlives_whoever_waits() {
        check_deaths(2, |steps| {
            let shared = at(1);
            let mortal = spawn(&shared, move |shared| {
                shared.world.thread(1, Clock::Slow).live(steps, |me| {
                    shared.object.wait(me, None);
                })
            });
            let other = spawn(&shared, |shared| wait(shared, 2));
            shared.object.count_down(&shared.world.thread(3, Clock::Slow));
            other.join().unwrap();
            mortal.join().unwrap()
        });
    }
}

mod barrier {
    use super::*;

    pub type Scene = Shared<Barrier>;

    pub fn party(shared: &Scene) -> Party<'_> {
        Party::new(shared.seat(), shared.object.spare())
    }

    pub fn of(parties: u32) -> Arc<Scene> {
        let shared = Scene::new();
        shared.object.start(parties, 0);
        shared
    }

    /// Whether all have passed.
    pub fn wait(shared: &Scene, me: &Thread) -> bool {
        let (barrier, party) = (&shared.object, party(shared));
        match barrier.arrive(me, party, false) {
            Arrival::Passed => true,
            Arrival::Refused => false,
            Arrival::Waiting(ticket) => {
                assert_eq!(barrier.wait(me, party, ticket, None), Outcome::Acquired);
                barrier.leave(me, party, ticket)
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn shows_what_came_before_each_arrival() {
        check(2, || {
            let shared = of(2);
            let other = spawn(&shared, |shared| {
                assert!(wait(shared, &shared.world.thread(1, Clock::Slow)));
                shared.data.with(|data| assert_eq!(unsafe { *data }, 1));
            });
            shared.data.with_mut(|data| unsafe { *data = 1 });
            assert!(wait(&shared, &shared.world.thread(2, Clock::Slow)));
            other.join().unwrap();
        });
    }

    #[test]
    fn two_rounds_of_two() {
        check(1, || {
            let shared = of(2);
            let twice = |shared: &Scene, id| {
                let me = shared.world.thread(id, Clock::Slow);
                (0..2).for_each(|_| assert!(wait(shared, &me)));
            };
            let other = spawn(&shared, move |shared| twice(shared, 1));
            twice(&shared, 2);
            other.join().unwrap();
        });
    }

    /// One waits. What a mortal thread does to that epoch, and does not survive, is finished; if it has not begun, a reset
    /// tells the one that waits.
    fn outlives(
        parties: u32,
        steps: usize,
        clock: Clock,
        spoil: fn(&Thread),
        act: fn(&Scene, &Thread),
    ) -> bool {
        let shared = of(parties);
        let me = shared.world.thread(1, clock);
        let Arrival::Waiting(ticket) = shared.object.arrive(&me, party(&shared), false) else { panic!() };
        let other = spawn(&shared, move |shared: &Scene| {
            assert_eq!(shared.object.wait(&me, party(shared), ticket, None), Outcome::Acquired);
        });
        let mortal = shared.world.thread(2, Clock::Slow);
        spoil(&mortal);
        let died = mortal.live(steps, |me| act(&shared, me));
        if shared.object.arrived() == Some(1) {
            reset(&shared, &shared.world.thread(3, Clock::Slow));
        }
        other.join().unwrap();
        died
    }

    fn pass(shared: &Scene, me: &Thread) {
        assert_eq!(shared.object.arrive(me, party(shared), false), Arrival::Passed);
    }

    fn reset(shared: &Scene, me: &Thread) {
        shared.object.reset(me, party(shared));
    }

    /// Arrives, and does not wait. Whoever does wait looks for itself, as it does at least once after it has fallen asleep.
    fn come_and_go(shared: &Scene, me: &Thread) {
        let Arrival::Waiting(ticket) = shared.object.arrive(me, party(shared), false) else { panic!() };
        shared.object.give_up(me, party(shared), ticket);
    }

    #[test]
    fn outlives_one_of_several_parties() {
        check_deaths(1, |steps| outlives(3, steps, Clock::Quick, |_| {}, come_and_go));
    }

    #[test]
    fn outlives_the_last_party() {
        check_deaths(2, |steps| outlives(2, steps, Clock::Slow, |_| {}, pass));
    }

    #[test]
    fn outlives_whoever_resets_it() {
        check_deaths(2, |steps| outlives(2, steps, Clock::Slow, |_| {}, reset));
    }

    /// What `proof` runs.
    #[test]
    #[ignore = "fails on purpose"]
    fn the_kernel_overlooks_the_death_of_the_last_party() {
        check_deaths(2, |steps| outlives(2, steps, Clock::Slow, |mortal| mortal.forgotten.set(true), pass));
    }
}

mod participants {
    use super::*;
    use process_shared_core::participants::State;

    const HERE: State = 1;

    type Scene = Shared<Word>;

    fn party(shared: &Scene) -> Party<'_> {
        Party::new(shared.seat(), shared.object.spare())
    }

    fn join(shared: &Scene, id: u32) -> Thread {
        let me = shared.world.thread(id, Clock::Quick);
        party(shared).join(&me, HERE, 0).unwrap();
        me
    }

    fn count(shared: &Scene) -> usize {
        party(shared).count::<Thread>(&[HERE])
    }

    /// A participant is found from the moment it has joined, whatever others found before it had.
    #[test]
    fn a_range_is_not_emptied_under_who_joins() {
        check(3, || {
            let shared = Scene::new();
            let me = shared.world.thread(1, Clock::Quick);
            let before = party(&shared).join(&me, HERE, 0).unwrap();
            party(&shared).leave(&me, before); // the range has its entry, and may be emptied
            let looks = spawn(&shared, |shared| {
                count(shared);
            });
            let other = spawn(&shared, |shared| {
                join(shared, 2);
                assert!(count(shared) > 0);
            });
            join(&shared, 3);
            assert!(count(&shared) > 0);
            looks.join().unwrap();
            other.join().unwrap();
            assert_eq!(count(&shared), 2);
        });
    }

    /// A participant dies while it joins or leaves: it does not count, and its entry can be used again.
    #[test]
    fn outlives_whoever_joins() {
        check_deaths(2, |steps| {
            let shared = Scene::new();
            let mortal = spawn(&shared, move |shared: &Scene| {
                shared.world.thread(1, Clock::Quick).live(steps, |me| {
                    let ticket = party(shared).join(me, HERE, 0).unwrap();
                    party(shared).leave(me, ticket);
                })
            });
            join(&shared, 2);
            assert!(count(&shared) > 0);
            let died = mortal.join().unwrap();
            assert_eq!(count(&shared), 1);
            [3, 4].into_iter().for_each(|id| drop(join(&shared, id)));
            assert_eq!(count(&shared), 3);
            died
        });
    }

    /// What a dead participant owes is forgotten if it is owed to nobody, and then only.
    #[test]
    fn a_debt_lasts_as_long_as_somebody_may_claim_it() {
        check(1, || {
            let shared = Scene::new();
            let [creditor, debtor, late, later] =
                [1, 2, 3, 4].map(|id| shared.world.thread(id, Clock::Quick));
            let claim = party(&shared).join(&creditor, HERE, 0).unwrap();
            let debt = party(&shared).join(&debtor, OWES, 0).unwrap();
            party(&shared).table().entry(debt).data().store(debt.number(), SeqCst);
            party(&shared).release_as_dead(&debtor, debt);
            assert!(party(&shared).join(&late, HERE, 0).is_some());
            assert!(party(&shared).join(&later, HERE, 0).is_none());
            party(&shared).leave(&creditor, claim);
            assert!(party(&shared).join(&later, HERE, 0).is_some());
            assert!(party(&shared).join(&creditor, HERE, 0).is_some()); // the debt is owed to nobody that is left
        });
    }
}

mod presence {
    use super::*;
    use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};

    /// The range of the members, and two words that each makes its number.
    #[derive(Default)]
    struct Record {
        range: Word,
        words: [AtomicU32; 2],
    }

    type Scene = Shared<Record>;

    fn members(shared: &Scene) -> Members<'_> {
        Members(Party::new(shared.seat(), shared.object.range.spare()))
    }

    /// All enter by the same entry, one after the other.
    fn come_and_go(shared: &Scene, me: &Thread, value: u32) {
        let write = |_| shared.object.words.iter().for_each(|word| word.store(value, Relaxed));
        let ticket = members(shared).enter(me, write).unwrap();
        members(shared).leave(me, ticket);
    }

    fn look(shared: &Scene) {
        let read = |_| [0, 1].map(|index| shared.object.words[index].load(Relaxed));
        for [first, second] in members(shared).each::<Thread, _>(read) {
            assert_eq!(first, second, "half entered");
        }
    }

    #[test]
    fn shows_whole_members_only() {
        check(4, || {
            let shared = Scene::new();
            let other = spawn(&shared, |shared| {
                let me = shared.world.thread(1, Clock::Quick);
                (1..=2).for_each(|value| come_and_go(shared, &me, value));
            });
            thread::yield_now(); // without it, only orders in which the reader comes first are tried
            look(&shared);
            other.join().unwrap();
        });
    }

    #[test]
    fn shows_nobody_who_has_died() {
        check_deaths(2, |steps| {
            let shared = Scene::new();
            let mortal = spawn(&shared, move |shared: &Scene| {
                shared.world.thread(1, Clock::Quick).live(steps, |me| come_and_go(shared, me, 1))
            });
            look(&shared);
            let died = mortal.join().unwrap();
            assert_eq!(members(&shared).count::<Thread>(), 0);
            died
        });
    }

    /// What `proof` runs: nobody looks a second time.
    #[test]
    #[ignore = "fails on purpose"]
    fn a_reader_looks_once() {
        check(4, || {
            let shared = Scene::new();
            let other = spawn(&shared, |shared| {
                let me = shared.world.thread(1, Clock::Quick);
                (1..=2).for_each(|value| come_and_go(shared, &me, value));
            });
            thread::yield_now();
            members(&shared).each::<Thread, _>(|_| {
                let [first, second] = [0, 1].map(|index| shared.object.words[index].load(Relaxed));
                assert_eq!(first, second, "half entered");
            });
            other.join().unwrap();
        });
    }
}

mod read_write_lock {
    use super::*;
    use process_shared_core::read_write_lock::{Found, IDLE, ReadWriteLock};

    type Scene = Shared<ReadWriteLock>;

    fn readers(shared: &Scene) -> Party<'_> {
        Party::new(shared.seat(), shared.object.spares()[1])
    }

    fn join(shared: &Scene, me: &Thread) -> Ticket {
        readers(shared).join(me, IDLE, 0).unwrap()
    }

    /// Reads once, as the object does: at once, or through the gate.
    fn read(shared: &Scene, me: &Thread, ticket: Ticket, inside: impl FnOnce()) {
        let entry = readers(shared).table().entry(ticket);
        if !shared.object.try_read(me, entry, ticket.number()) {
            assert_eq!(shared.object.close(me, None), Outcome::Acquired);
            let found = shared.object.found();
            shared.object.read_and_open(me, entry, ticket.number(), found);
        }
        inside();
        shared.object.end_read(me, entry, ticket.number());
    }

    fn look(shared: &Scene, me: &Thread, ticket: Ticket) {
        read(shared, me, ticket, || shared.data.with(|data| assert!(unsafe { *data } % 2 == 0)));
    }

    fn write(shared: &Scene, me: &Thread) {
        assert_eq!(shared.object.take_turn(me, None), Outcome::Acquired);
        assert_eq!(shared.object.begin_write(me, readers(shared), None, None), Outcome::Acquired);
        shared.data.with_mut(|data| unsafe { *data += 2 });
        shared.object.end_write(me, true);
        shared.object.end_turn(me);
    }

    #[test]
    fn keeps_readers_and_a_writer_apart() {
        check(2, || {
            let shared = Scene::new();
            let reader = spawn(&shared, |shared| {
                let me = shared.world.thread(1, Clock::Slow);
                let ticket = join(shared, &me);
                look(shared, &me, ticket);
            });
            write(&shared, &shared.world.thread(2, Clock::Slow));
            reader.join().unwrap();
        });
    }

    #[test]
    fn keeps_two_writers_apart() {
        check(2, || {
            let shared = Scene::new();
            let other = spawn(&shared, |shared| write(shared, &shared.world.thread(1, Clock::Slow)));
            write(&shared, &shared.world.thread(2, Clock::Slow));
            other.join().unwrap();
            assert_eq!(shared.data.with(|data| unsafe { *data }), 4);
        });
    }

    /// A reader that dies while a writer waits for it, or looks whether to.
    #[test]
    fn outlives_a_reader() {
        check_deaths(2, |steps| {
            let shared = Scene::new();
            let mortal = spawn(&shared, move |shared: &Scene| {
                shared.world.thread(1, Clock::Slow).live(steps, |me| {
                    let ticket = join(shared, me);
                    read(shared, me, ticket, || {});
                })
            });
            write(&shared, &shared.world.thread(2, Clock::Quick));
            mortal.join().unwrap()
        });
    }

    /// A writer that dies leaves what it has written abandoned, and the lock to others.
    #[test]
    fn outlives_a_writer() {
        check_deaths(2, |steps| {
            let shared = Scene::new();
            let reader = spawn(&shared, |shared| {
                let me = shared.world.thread(1, Clock::Slow);
                let ticket = join(shared, &me);
                read(shared, &me, ticket, || {});
            });
            let died = shared.world.thread(2, Clock::Slow).live(steps, |me| {
                assert_eq!(shared.object.take_turn(me, None), Outcome::Acquired);
                assert_eq!(shared.object.begin_write(me, readers(&shared), None, None), Outcome::Acquired);
                shared.object.end_write(me, true);
                shared.object.end_turn(me);
            });
            reader.join().unwrap();
            let me = shared.world.thread(3, Clock::Slow);
            assert_eq!(shared.object.take_turn(&me, None), Outcome::Acquired);
            assert_eq!(shared.object.begin_write(&me, readers(&shared), None, None), Outcome::Acquired);
            assert!(died || shared.object.found() == Found::InOrder);
            shared.object.end_write(&me, true);
            shared.object.end_turn(&me);
            assert!(shared.object.gate().is_untouched());
            died
        });
    }

    /// The upgrader becomes the writer; nobody writes in between.
    #[test]
    fn an_upgrade_lets_no_writer_in_between() {
        check(2, || {
            let shared = Scene::new();
            let other = spawn(&shared, |shared| write(shared, &shared.world.thread(1, Clock::Slow)));
            let me = shared.world.thread(2, Clock::Slow);
            assert_eq!(shared.object.take_turn(&me, None), Outcome::Acquired);
            let before = shared.data.with(|data| unsafe { *data });
            assert_eq!(shared.object.begin_write(&me, readers(&shared), None, None), Outcome::Acquired);
            shared.data.with_mut(|data| unsafe {
                assert_eq!(*data, before);
                *data += 2;
            });
            shared.object.end_write(&me, true);
            shared.object.end_turn(&me);
            other.join().unwrap();
        });
    }

    /// What `proof` runs: a reader that does not look at the gate after it has written to its entry.
    #[test]
    #[ignore = "fails on purpose"]
    fn a_reader_does_not_look() {
        check(2, || {
            let shared = Scene::new();
            let reader = spawn(&shared, |shared| {
                let me = shared.world.thread(1, Clock::Slow);
                let ticket = join(shared, &me);
                let entry = readers(shared).table().entry(ticket);
                shared.object.try_read(&me, entry, ticket.number());
                shared.data.with(|data| assert!(unsafe { *data } % 2 == 0));
                shared.object.end_read(&me, entry, ticket.number());
            });
            write(&shared, &shared.world.thread(2, Clock::Slow));
            reader.join().unwrap();
        });
    }
}

mod condition {
    use super::*;

    const MUTEX: u32 = 7;

    type Scene = Shared<Baton>;

    fn condition(shared: &Scene) -> Condition<'_> {
        shared.object.at(shared.seat())
    }

    fn signal(shared: &Scene, me: &Thread) {
        condition(shared).signal(me);
    }

    fn broadcast(shared: &Scene, me: &Thread) {
        condition(shared).broadcast(me);
    }

    fn waiting(shared: &Scene) -> usize {
        condition(shared).waiters()
    }

    /// A wait that has begun, to be ended by a thread of its own.
    fn enter(shared: &Arc<Scene>, id: u32) -> (Thread, Wait) {
        let thread = shared.world.thread(id, Clock::Quick);
        let wait = condition(shared).begin_wait(&thread, MUTEX).unwrap();
        (thread, wait)
    }

    fn end(shared: &Scene, thread: &Thread, mut wait: Wait) {
        assert_eq!(condition(shared).sleep(thread, &mut wait, None), Outcome::Acquired);
        condition(shared).finish_wait(thread, wait);
    }

    fn waits(shared: &Scene) -> Waits<'_> {
        Waits(Party::new(shared.seat(), shared.object.range()))
    }

    /// A signal that comes when the oldest wait dies, and another takes its entry over, is for the next.
    #[test]
    fn no_signal_goes_with_an_entry_that_changes_hands() {
        check(3, || {
            let shared = Scene::new();
            let [first, second] = [1, 2].map(|id| {
                let thread = shared.world.thread(id, Clock::Quick);
                let ticket = waits(&shared).join(&thread, MUTEX).unwrap();
                (thread, ticket)
            });
            let dies = spawn(&shared, move |shared| first.0.live(0, |me| waits(shared).0.leave(me, first.1)));
            let comes = spawn(&shared, |shared| {
                waits(shared).join(&shared.world.thread(3, Clock::Quick), MUTEX).unwrap();
            });
            waits(&shared).grant_oldest::<Thread>();
            assert!(dies.join().unwrap());
            comes.join().unwrap();
            waits(&shared).relay();
            assert!(waits(&shared).is_granted(second.1));
        });
    }

    #[test]
    fn a_signal_wakes_one() {
        check(2, || {
            let shared = Scene::new();
            let (me, wait) = enter(&shared, 1);
            let other = spawn(&shared, |shared| signal(shared, &shared.world.thread(2, Clock::Quick)));
            end(&shared, &me, wait);
            other.join().unwrap();
            assert_eq!(waiting(&shared), 0);
        });
    }

    #[test]
    fn two_signals_wake_two() {
        check(1, || {
            let shared = Scene::new();
            let (first, second) = (enter(&shared, 1), enter(&shared, 2));
            let me = shared.world.thread(3, Clock::Quick);
            signal(&shared, &me);
            let others = [first, second]
                .map(|(thread, wait)| spawn(&shared, move |shared| end(shared, &thread, wait)));
            signal(&shared, &me);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_eq!(waiting(&shared), 0);
        });
    }

    #[test]
    fn a_broadcast_wakes_one_on_its_way() {
        check(2, || {
            let shared = Scene::new();
            let (me, wait) = enter(&shared, 1);
            let other = spawn(&shared, |shared| broadcast(shared, &shared.world.thread(2, Clock::Quick)));
            end(&shared, &me, wait);
            other.join().unwrap();
            assert_eq!(waiting(&shared), 0);
        });
    }

    #[test]
    fn a_broadcast_wakes_all() {
        check(1, || {
            let shared = Scene::new();
            let ((first, mine), (second, theirs)) = (enter(&shared, 1), enter(&shared, 2));
            let other = spawn(&shared, move |shared| end(shared, &second, theirs));
            broadcast(&shared, &shared.world.thread(3, Clock::Quick));
            end(&shared, &first, mine);
            other.join().unwrap();
            assert_eq!(waiting(&shared), 0);
        });
    }

    /// The baton's holder is on its way to another mutex, which somebody may hold who waits for this wait to end.
    fn waits_for_nobody_elsewhere(end_wait: fn(&Scene, &Thread)) {
        check(2, move || {
            let shared = Scene::new();
            let (first, mut mine) = enter(&shared, 1);
            condition(&shared).release_baton(&first, &mut mine);
            let other = spawn(&shared, move |shared| end(shared, &first, mine)); // it may sleep before or after this:
            let second = shared.world.thread(2, Clock::Quick);
            let theirs = condition(&shared).begin_wait(&second, MUTEX + 1).unwrap();
            end_wait(&shared, &shared.world.thread(3, Clock::Quick));
            other.join().unwrap();
            condition(&shared).cancel_wait(&second, theirs);
            assert_eq!(waiting(&shared), 0);
        });
    }

    #[test]
    fn a_signal_waits_for_nobody_elsewhere() {
        waits_for_nobody_elsewhere(signal);
    }

    #[test]
    fn a_broadcast_waits_for_nobody_elsewhere() {
        waits_for_nobody_elsewhere(broadcast);
    }

    /// One of those that a broadcast called is killed; the other wakes all the same.
    #[test]
    fn outlives_whoever_was_called() {
        check_deaths(1, |steps| {
            let shared = Scene::new();
            let ((first, mine), (second, theirs)) = (enter(&shared, 1), enter(&shared, 2));
            broadcast(&shared, &shared.world.thread(3, Clock::Quick));
            let other = spawn(&shared, move |shared| end(shared, &second, theirs));
            let died = first.live(steps, |me| end(&shared, me, mine));
            other.join().unwrap();
            assert_eq!(waiting(&shared), 0);
            died
        });
    }

    /// Whom a killed broadcaster has called wakes all the same; others wait for the next.
    fn outlives_a_broadcaster(steps: usize, holds_the_baton: bool) -> bool {
        let shared = Scene::new();
        let ((first, mut mine), (second, theirs)) = (enter(&shared, 1), enter(&shared, 2));
        if holds_the_baton {
            condition(&shared).release_baton(&first, &mut mine);
        }
        let other = spawn(&shared, move |shared| end(shared, &second, theirs));
        let died = shared.world.thread(3, Clock::Quick).live(steps, |me| broadcast(&shared, me));
        if died && waits(&shared).any_waiting() {
            broadcast(&shared, &shared.world.thread(4, Clock::Quick));
        }
        end(&shared, &first, mine);
        other.join().unwrap();
        assert_eq!(waiting(&shared), 0);
        died
    }

    #[test]
    fn outlives_whoever_broadcasts() {
        check_deaths(1, |steps| outlives_a_broadcaster(steps, true));
    }

    #[test]
    fn outlives_whoever_broadcasts_without_the_baton() {
        check_deaths(1, |steps| outlives_a_broadcaster(steps, false));
    }

    /// The first of two waiters is killed; the signal it was given is for the other.
    #[test]
    fn outlives_whoever_waits() {
        check_deaths(1, |steps| {
            let shared = Scene::new();
            let ((first, mine), (second, theirs)) = (enter(&shared, 1), enter(&shared, 2));
            let me = shared.world.thread(3, Clock::Quick);
            signal(&shared, &me);
            let other = spawn(&shared, move |shared| end(shared, &second, theirs));
            let died = first.live(steps, |me| end(&shared, me, mine));
            if waits(&shared).outstanding(false, 0) == Outstanding::Nothing {
                signal(&shared, &me); // the first one was used up, by a wait that had ended or by the other
            }
            other.join().unwrap();
            assert_eq!(waiting(&shared), 0);
            died
        });
    }

    /// A granted wait puts the baton down, as before a signal handler, and is killed before or after.
    #[test]
    fn outlives_whoever_rests() {
        check_deaths(1, |steps| {
            let shared = Scene::new();
            let ((first, mut mine), (second, theirs)) = (enter(&shared, 1), enter(&shared, 2));
            let me = shared.world.thread(3, Clock::Quick);
            signal(&shared, &me);
            let other = spawn(&shared, move |shared| end(shared, &second, theirs));
            let died = first.live(steps, |me| {
                let asleep = condition(&shared).sleep(me, &mut mine, None);
                assert_eq!(asleep, Outcome::Acquired);
                condition(&shared).release_baton(me, &mut mine);
                condition(&shared).finish_wait(me, mine);
            });
            if waits(&shared).outstanding(false, 0) == Outstanding::Nothing {
                signal(&shared, &me); // as above
            }
            other.join().unwrap();
            assert_eq!(waiting(&shared), 0);
            died
        });
    }

    /// A granted wait that has to stop passes its signal on, or is killed while it does.
    #[test]
    fn outlives_whoever_leaves() {
        check_deaths(1, |steps| {
            let shared = Scene::new();
            let ((first, mine), (second, theirs)) = (enter(&shared, 1), enter(&shared, 2));
            signal(&shared, &shared.world.thread(3, Clock::Quick));
            let other = spawn(&shared, move |shared| end(shared, &second, theirs));
            let died = first.live(steps, |me| condition(&shared).cancel_wait(me, mine));
            other.join().unwrap();
            assert_eq!(waiting(&shared), 0);
            died
        });
    }

    /// A killed signaller has signalled or not; nothing of its signal comes later.
    #[test]
    fn outlives_whoever_signals() {
        check_deaths(1, |steps| {
            let shared = Scene::new();
            let (first, mine) = enter(&shared, 1);
            let other = spawn(&shared, move |shared| end(shared, &first, mine));
            let died = shared.world.thread(2, Clock::Quick).live(steps, |me| signal(&shared, me));
            if died && waits(&shared).any_waiting() {
                signal(&shared, &shared.world.thread(3, Clock::Quick));
            }
            other.join().unwrap();
            assert_eq!(waiting(&shared), 0);
            died
        });
    }
}

/// Deaths that the kernel tells nobody of.
mod untold {
    use super::*;
    use loom::sync::atomic::AtomicU32;
    use process_shared_core::kernel::Kernel;
    use process_shared_core::platform::Wake;
    use process_shared_core::word::{OWNER, OWNER_DIED, WAITERS, aux, futex_word, pack};

    loom::lazy_static! {
        /// The number of the thread that is gone.
        static ref GONE: AtomicU32 = AtomicU32::new(0);
    }

    /// A thread that looks for itself, if `LOOKS`.
    struct Watchful<const LOOKS: bool>(Thread);

    impl<const LOOKS: bool> Kernel for Watchful<LOOKS> {
        const RECHECK: Option<Duration> = Some(Duration::from_secs(1));

        fn id(&self) -> u32 {
            self.0.id()
        }
        fn set_pending(&self, word: &Word) {
            self.0.set_pending(word);
        }
        fn clear_pending(&self) {
            self.0.clear_pending();
        }
        fn robust_push(&self, word: &Word) {
            self.0.robust_push(word);
        }
        fn robust_remove(&self, word: &Word) {
            self.0.robust_remove(word);
        }
        fn wait(&self, word: &Word, expected: u32, deadline: Option<Deadline>, class: u32) -> Wake {
            self.0.wait(word, expected, deadline, class)
        }
        fn wake(&self, word: &Word, count: i32, classes: u32) -> usize {
            self.0.wake(word, count, classes)
        }
        fn reap_if_owner_dead(word: &Word) {
            let state = word.state().load(SeqCst);
            let owner = futex_word(state) & OWNER;
            if LOOKS && owner != 0 && owner == GONE.load(SeqCst) {
                let marked = pack(futex_word(state) & WAITERS | OWNER_DIED, aux(state));
                let _ = word.state().compare_exchange(state, marked, SeqCst, SeqCst);
            }
        }
    }

    /// Takes the lock, or dies on the way to it or with it, and nobody is told.
    fn outlives_whoever_takes_it<const LOOKS: bool>(steps: usize) -> bool {
        let shared = Shared::<Lock>::new();
        let mortal = spawn(&shared, move |shared: &Shared<Lock>| {
            let me = shared.world.thread(1, Clock::Slow);
            me.forgotten.set(true);
            let died = me.live(steps, |me| {
                if shared.object.try_lock(me) {
                    shared.data.with_mut(|data| unsafe { *data += 1 });
                    shared.object.unlock(me);
                }
            });
            if died {
                GONE.store(1, SeqCst);
            }
            died
        });
        let me = Watchful::<LOOKS>(shared.world.thread(2, Clock::Quick));
        if !shared.object.try_lock(&me) {
            assert_eq!(shared.object.lock(&me, None), Outcome::Acquired);
        }
        shared.data.with_mut(|data| unsafe { *data += 1 });
        shared.object.unlock(&me);
        let died = mortal.join().unwrap();
        assert!(died || !shared.object.is_locked());
        died
    }

    #[test]
    fn a_waiter_finds_out() {
        check_deaths(2, outlives_whoever_takes_it::<true>);
    }

    /// What `proof` runs.
    #[test]
    #[ignore = "fails on purpose"]
    fn a_waiter_does_not_look() {
        check_deaths(2, outlives_whoever_takes_it::<false>);
    }
}

/// That the model would notice.
mod proof {
    use super::*;

    /// One who waits, and one who frees; `spoil` may take something away from the latter.
    fn hand_over(spoil: fn(&Thread)) {
        check(2, move || {
            let shared = Shared::<Lock>::new();
            let me = shared.world.thread(1, Clock::Slow);
            assert!(shared.object.try_lock(&me));
            let other = spawn(&shared, |shared| {
                let me = shared.world.thread(2, Clock::Slow);
                assert_eq!(shared.object.lock(&me, None), Outcome::Acquired);
                shared.object.unlock(&me);
            });
            spoil(&me);
            shared.object.unlock(&me);
            other.join().unwrap();
        });
    }

    #[test]
    fn all_is_well() {
        hand_over(|_| {});
    }

    #[test]
    fn the_model_notices_what_is_broken() {
        notices("proof::a_wake_up_is_swallowed", "deadlock");
        notices("proof::the_kernel_overlooks_a_death", "deadlock");
        notices("proof::the_kernel_overlooks_the_death_of_a_setter", "deadlock");
        notices("proof::the_kernel_overlooks_the_death_of_a_head", "deadlock");
        notices("proof::the_kernel_overlooks_the_death_of_a_process", "deadlock");
        notices("proof::an_order_is_weakened", "Causality violation");
        notices("read_write_lock::a_reader_does_not_look", "Causality violation");
        notices("presence::a_reader_looks_once", "half entered");
        notices("turn::the_kernel_overlooks_a_death_in_line", "deadlock");
        notices("barrier::the_kernel_overlooks_the_death_of_the_last_party", "deadlock");
        notices("untold::a_waiter_does_not_look", "maximum number of branches");
    }

    #[test]
    #[ignore = "fails on purpose"]
    fn a_wake_up_is_swallowed() {
        hand_over(|me| me.mute.set(true));
    }

    /// The kernel's help for one who dies with a wake-up in hand.
    #[test]
    #[ignore = "fails on purpose"]
    fn the_kernel_overlooks_a_death() {
        check_deaths(2, |steps| {
            let shared = Shared::<Lock>::new();
            let me = shared.world.thread(3, Clock::Slow);
            assert!(shared.object.try_lock(&me));
            let mortal = spawn(&shared, move |shared| {
                let me = shared.world.thread(1, Clock::Slow);
                me.forgotten.set(true);
                me.live(steps, |me| {
                    assert_eq!(shared.object.lock(me, None), Outcome::Acquired);
                })
            });
            let other = spawn(&shared, |shared| {
                let me = shared.world.thread(2, Clock::Slow);
                assert_eq!(shared.object.lock(&me, None), Outcome::Acquired);
                shared.object.unlock(&me);
            });
            shared.object.unlock(&me);
            other.join().unwrap();
            mortal.join().unwrap()
        });
    }

    #[test]
    #[ignore = "fails on purpose"]
    fn the_kernel_overlooks_the_death_of_a_setter() {
        check_deaths(2, |steps| {
            let shared = Shared::<Event>::new();
            let epoch = shared.object.begin().unwrap();
            let other = spawn(&shared, move |shared| {
                let me = shared.world.thread(2, Clock::Slow);
                assert_eq!(shared.object.wait(&me, epoch, None), Outcome::Acquired);
            });
            let mortal = shared.world.thread(1, Clock::Slow);
            mortal.forgotten.set(true);
            let died = mortal.live(steps, |me| {
                shared.object.set(me);
            });
            if !shared.object.is_set() {
                shared.object.set(&shared.world.thread(3, Clock::Slow));
            }
            other.join().unwrap();
            died
        });
    }

    /// The head of a line of those who want several permits.
    #[test]
    #[ignore = "fails on purpose"]
    fn the_kernel_overlooks_the_death_of_a_head() {
        check_deaths(1, |steps| {
            let shared = Shared::<Semaphore>::new();
            shared.object.start(1);
            let mortal = spawn(&shared, move |shared| {
                let me = shared.world.thread(1, Clock::Slow);
                me.forgotten.set(true);
                me.live(steps, |me| {
                    shared.object.wait_for(me, shared.place(), 2, None, true);
                })
            });
            let me = shared.world.thread(2, Clock::Slow);
            assert_eq!(shared.object.wait_for(&me, shared.place(), 1, None, true), Outcome::Acquired);
            shared.object.post_many(&me, 2, MAX).unwrap();
            mortal.join().unwrap()
        });
    }

    /// With permits of a robust semaphore.
    #[test]
    #[ignore = "fails on purpose"]
    fn the_kernel_overlooks_the_death_of_a_process() {
        check(1, || {
            let shared = robust::with(1);
            let mortal = spawn(&shared, |shared| {
                let process = robust::Process::new(shared, 1);
                process.take(shared, 1);
                process.guardian.forgotten.set(true);
                process.guardian.end();
            });
            robust::Process::new(&shared, 2).take(&shared, 1);
            mortal.join().unwrap();
        });
    }

    #[test]
    #[ignore = "fails on purpose"]
    fn an_order_is_weakened() {
        check(2, || {
            let shared = Shared::<Lock>::new();
            let other = spawn(&shared, |shared| {
                let me = shared.world.thread(1, Clock::Slow);
                if shared.object.try_lock(&me) {
                    shared.data.with_mut(|data| unsafe { *data += 1 });
                    shared.object.unlock(&me);
                }
            });
            let me = shared.world.thread(2, Clock::Slow);
            weakly(|| {
                if shared.object.try_lock(&me) {
                    shared.data.with_mut(|data| unsafe { *data += 1 });
                    shared.object.unlock(&me);
                }
            });
            other.join().unwrap();
        });
    }
}
