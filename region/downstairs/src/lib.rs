//! Serves the regions of one disk to Upstairs.
//!
//! **Problem.** Of several processes that believe they may write a region, exactly one may, whatever connections break, whichever process
//! dies and whenever the power fails; and a disk that is slow, full or broken must never make a member say what is not so.
//!
//! **Theory.** `docs/BLOCK.md`. One state machine for each region, [`Member`], decides everything and touches no socket, thread or
//! clock: so the simulation of a whole volume runs this very one. Around it are threads that block: one reads for each connection,
//! two work for each region.
//!
//! ```text
//!   Upstairs ══ socket ══► reader ──requests──► Member ──► region's file
//!            ◄═══════════ outbox ◄──effects───┘  ▲  │
//!                                       ended ───┘  └── fdatasync, checkpoints ──► workers
//! ```
//!
//! - [`member`]: who may write, what is done in which order, what has to wait. [`stream`], [`copies`], [`lists`] are parts of it.
//! - [`rules`]: what the tests leave out, one at a time, to see that they notice.
//! - [`disk`]: the regions that a disk has, and their files.
//! - [`server`], [`link`]: threads and sockets.

mod copies;
mod disk;
mod link;
mod lists;
mod member;
mod rules;
mod server;
mod stream;

pub use disk::{Disk, DiskError};
pub use member::{ConnectionId, EPOCHS_AT_ONCE, Effect, Ended, Member, VERSION, Work};
pub use rules::Rule;
pub use server::{Server, ServerError};
