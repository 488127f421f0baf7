//! Who is here: members, each with a record that others read.
//!
//! A member is a participant. The record at the index of its entry is its own for as long as it holds the entry:
//!
//! | status           | the record                                                                  |
//! |------------------|-----------------------------------------------------------------------------|
//! | 0                | belongs to nobody                                                           |
//! | number, ENTERING | is being written                                                            |
//! | number, MEMBER   | does not change                                                             |
//!
//! A reader copies the record of a MEMBER, and takes the copy if the status is the same afterwards, and the thread is alive.
//! Numbers differ, so a record that has changed hands meanwhile is not taken. Whoever dies is no member from that
//! moment on, since its entry's lock does not name a living thread; nothing has to be done for that.
//!
//! Memory order: ENTERING comes before what is written to the record (fence), and that before MEMBER (AcqRel). The
//! second look comes after what was read (fence). So whoever has seen a later write sees a later status.

use crate::atomic::{Ordering::*, fence};
use crate::kernel::Kernel;
use crate::participants::{Party, Seen, State, Ticket, status};

const ENTERING: State = 1;
const MEMBER: State = 2;

/// The members of one object.
#[derive(Clone, Copy)]
pub struct Members<'a>(pub Party<'a>);

impl<'a> Members<'a> {
    /// Makes the calling thread a member. `write` writes the record. `None` if there is no room.
    pub fn enter<K: Kernel>(self, kernel: &K, write: impl FnOnce(Ticket)) -> Option<Ticket> {
        let ticket = self.0.join(kernel, ENTERING, 0)?;
        fence(SeqCst);
        write(ticket);
        // Nobody else changes it: what fails here is in a file that somebody has written to.
        let _ = self
            .0
            .table()
            .entry(ticket)
            .change(status(ticket.number(), ENTERING), status(ticket.number(), MEMBER));
        Some(ticket)
    }

    /// Ends the membership of the calling thread.
    pub fn leave<K: Kernel>(self, kernel: &K, ticket: Ticket) {
        self.0.leave(kernel, ticket);
    }

    fn iter(self) -> impl Iterator<Item = Seen<'a>> {
        self.0.iter().filter(|seen| seen.state() == MEMBER && seen.is_live())
    }

    /// The membership of the thread with this number.
    pub fn of_thread(self, thread: u32) -> Option<Ticket> {
        self.iter().find(|seen| seen.entry.lock().owner() == thread).map(|seen| seen.ticket())
    }

    /// How many there are. Knows of deaths that the kernel did not tell of.
    pub fn count<K: Kernel>(self) -> usize {
        self.0.count::<K>(&[MEMBER])
    }

    /// What `read` reads of each member. Knows of deaths that the kernel did not tell of.
    pub fn each<K: Kernel, T>(self, mut read: impl FnMut(Seen<'a>) -> T) -> Vec<T> {
        self.iter()
            .filter_map(|seen| {
                seen.entry.lock().reap_if_owner_dead::<K>();
                let record = read(seen);
                fence(SeqCst);
                (seen.is_live() && seen.entry.status() == seen.status()).then_some(record)
            })
            .collect()
    }
}
