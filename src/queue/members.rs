//! The processes that take items for a time. A process is a member while a thread of its, which does nothing else, holds
//! the member's word: so the kernel says when the process has ended, in whatever way.
//!
//! | a member's slot  | meaning                                                              |
//! |------------------|----------------------------------------------------------------------|
//! | nobody's         | free                                                                 |
//! | a thread's       | the process lives                                                    |
//! | a dead thread's  | the process is dead: what it had in flight has not come back yet     |
//!
//! Who looks: each pop at a few members, one that finds the queue empty at all, and the kernel wakes the taker at the
//! gate, which watches the words of all that have items in flight. Where the kernel tells nobody of deaths, the
//! taker at the gate asks about all members every now and then, and every `ASKED_EVERY` another pop asks too.

use super::Critical;
use super::layout::MEMBERS;
use super::refusal::Refusal;
use super::robust::{Holder, Robust};
use crate::deadline;
use crate::kernel::Kernel;
use crate::word::Word;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A process that takes part.
#[repr(C)]
pub struct Member {
    pub holder: Robust,
    /// How many items it has in flight: never too few while it lives.
    pub held: AtomicU64,
    _unused: [u64; 2],
}

/// How many members a pop looks at.
const LOOKED_AT: u32 = 8;
/// Milliseconds between two pops that ask about all members, which takes two system calls for each.
const ASKED_EVERY: u64 = 50;

impl<K: Kernel> Critical<'_, K> {
    /// Makes process `pid` a member for as long as the thread of `keeper` lives.
    ///
    /// # Errors
    /// `TooMany` if there are as many as there can be.
    pub fn join<L: Kernel>(&self, keeper: &L, pid: u32) -> Result<u32, Refusal> {
        self.reap_members()?;
        let free = (0..MEMBERS).find(|index| self.queue.member(*index).holder.holder() == Holder::Nobody);
        let index = free.ok_or(Refusal::TooMany)?;
        let member = self.queue.member(index);
        member.held.store(0, Relaxed);
        member.holder.hold(keeper, pid);
        let used = &self.header().members_used;
        used.store(used.load(Relaxed).max(index + 1), Relaxed);
        Ok(index)
    }

    /// Ends the membership; what is in flight comes back.
    ///
    /// # Errors
    /// `NotHeld` if the thread of `keeper` does not keep it.
    pub fn leave<L: Kernel>(&self, keeper: &L, index: u32) -> Result<(), Refusal> {
        let member = self.queue.member(index);
        if !member.holder.is_held_by(keeper) {
            return Err(Refusal::NotHeld);
        }
        self.put_back_all(index)?;
        member.holder.release(keeper);
        Ok(())
    }

    fn members_used(&self) -> u32 {
        self.header().members_used.load(Relaxed).min(MEMBERS)
    }

    /// Looks at some members, other ones at each item.
    #[inline]
    pub(super) fn reap_some_members(&self) -> Result<(), Refusal> {
        let used = self.members_used();
        if used == 0 {
            return Ok(());
        }
        if !K::TELLS_OF_DEATHS && self.is_time_to_ask() {
            return self.reap_members();
        }
        let start = match used {
            0..=LOOKED_AT => 0,
            _ => self.head().ordinal.wrapping_mul(LOOKED_AT) % used,
        };
        for step in 0..used.min(LOOKED_AT) {
            let index = if start + step < used { start + step } else { start + step - used };
            if self.queue.member(index).holder.holder() == Holder::Dead {
                self.reap_member(index)?;
            }
        }
        Ok(())
    }

    /// Whether it is time to ask the system about all members: for one process at a time, now and then.
    fn is_time_to_ask(&self) -> bool {
        let (asked, now) = (&self.header().asked, deadline::now().as_millis() as u64);
        let is_due = now.wrapping_sub(asked.load(Relaxed)) >= ASKED_EVERY;
        if is_due {
            asked.store(now, Relaxed);
        }
        is_due
    }

    /// Sees to all that the dead have left, members and writers.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn reap(&self) -> Result<(), Refusal> {
        self.reap_members()?;
        self.reap_writers().map(|_| ())
    }

    /// Gets back what dead members had in flight.
    pub(super) fn reap_members(&self) -> Result<(), Refusal> {
        for index in 0..self.members_used() {
            let member = self.queue.member(index);
            member.holder.reap_if_owner_dead::<K>();
            if member.holder.holder() == Holder::Dead {
                self.reap_member(index)?;
            }
        }
        Ok(())
    }

    #[cold]
    fn reap_member(&self, index: u32) -> Result<(), Refusal> {
        self.put_back_all(index)?;
        self.queue.member(index).holder.bury();
        Ok(())
    }
}

impl super::Queue {
    /// The words of the members that have items in flight.
    pub(super) fn watched_members(&self) -> impl Iterator<Item = (&Word, u32)> {
        let used = self.header().members_used.load(Relaxed).min(MEMBERS);
        let busy = (0..used).map(|index| self.member(index)).filter(|member| member.held.load(Relaxed) != 0);
        busy.filter_map(|member| member.holder.watched())
    }
}
