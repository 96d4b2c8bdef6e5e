//! Which process an agent has started that outlives it, provably: so that none is adopted, or signalled, because of a number that it happens
//! to have.
//!
//! **Problem.** A sled's volumes are served while its agent is replaced, or dead. So the agent's next life has to find what an earlier one
//! has started, and a developer's cluster has to end it; a pid that was written down may be another's by then.
//!
//! **Theory.** Each such process has a directory that it alone may have, whose lock it holds for its life, and is told so on its command line.
//!
//! ```text
//!   the directory's lock is held, by what it says is pid N
//!     └─► pidfd_open(N) ──► /proc/N: its command line is that of this directory's process, and it has the lock's file open
//!           └─► the lock is still held by N, and the pidfd's process has not ended ──► ours: all of this was said of the one process
//!                                                                                      that the pidfd means, and always will mean
//! ```
//!
//! Whoever holds the lock and is not provably ours is left alone.
//!
//! - [`proof`]: who has a directory. [`ours`]: what may be done to one that is ours. [`end`]: its end.
//! - [`command_line`]: what processes were told, and those that have no lock yet.
//! - [`downstairs`], [`pantry`]: the two kinds that there are; the arguments of each, and how they are read again.

pub mod command_line;
pub mod downstairs;
mod end;
pub mod ours;
pub mod pantry;
pub mod proof;

pub use command_line::{Words, started};
pub use end::EndError;
pub use ours::{Ours, Signal};
pub use proof::{Holder, HolderError};
