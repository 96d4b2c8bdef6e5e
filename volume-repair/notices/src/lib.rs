//! What an Upstairs has to tell of repairs, kept until the coordinator was told.
//!
//! **Problem.** The coordinator decides by what it is told: that a member is being filled, and above all that it is full. The one who
//! knows may be killed, and the one who is to be told may be away for days.
//!
//! **Theory.** An outbox: what is put in is durable when [`Outbox::put`] returns, and leaves when it was taken. It is told at least once,
//! perhaps more often and out of order, and the coordinator's side is made for that: each notice gets a sequence number that this outbox
//! never gives again, also not after a crash, and of two notices of one kind the one with the greater stamp counts.
//!
//! ```text
//!   put(start | finish) ──► file, whole and durable ──► next(now) ──► transport ──► answered(now, …)
//!   put(progress) ──► memory: only the newest of a repair          ▲                  │ taken: leaves
//!                                                                  └──── later ───────┤ away: all wait, longer each time
//!                                                                                     │ refused: this one waits, others go on
//! ```
//!
//! - [`outbox`]: what is put in, told, and left. [`entry`]: of one repair; pure. [`store`]: the file.
//! - [`retry`]: when something is tried again. [`ports`]: who carries it.
//! - [`words`]: an Upstairs' own words as notices say them.
//!
//! **Bounded.** At most [`REPAIRS_MAX`] repairs are kept, three notices of each. One that finds no room is not taken, and its owner is told;
//! what was taken is never dropped, because a repair that has a place has room for its end.
//!
//! Time is passed in, and nothing here waits.

mod entry;
mod outbox;
mod ports;
mod retry;
mod store;
mod words;

pub use outbox::{OpenRepair, Outbox, OutboxStatus, Pass, Put, PutError, REPAIRS_MAX, RefusedNotice};
pub use ports::{Answer, Transport};
pub use store::{OpenError, PROCEDURE};
pub use words::{phase, wait};
