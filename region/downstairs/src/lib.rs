//! Serves the regions of one disk to Upstairs.
//!
//! **Problem.** Of several processes that believe they may write a region, exactly one may, whatever connections break, whichever process
//! dies and whenever the power fails; and a disk that is slow, full or broken must never make a member say what is not so.
//!
//! **Theory.** `docs/BLOCK.md`. One state machine for each region, [`Member`], decides everything and touches no socket, thread or
//! clock: so the simulation of a whole volume runs this very one. Around it are threads that block: one reads for each connection,
//! others wait for the disk.
//!
//! ```text
//!   Upstairs ══ socket ══► reader ──requests──► Member ──► region's file
//!            ◄═══════════ outbox ◄──effects───┘  ▲  │
//!                                       ended ───┘  └── fdatasync, checkpoints ──► workers
//! ```
//!
//! - [`member`]: who may write, what is done in which order, what has to wait. [`stream`], [`copies`], [`lists`], [`snapshots`], [`readers`] are
//!   parts of it. [`queue`]: what waits.
//! - [`rules`]: what the tests leave out, one at a time, to see that they notice.
//! - [`clones`]: regions that are made from what a peer's held at a snapshot; [`content`]: what proves them.
//! - [`disk`]: the regions that a disk has, and their files. [`room`]: what their snapshots may come to need of it.
//! - [`server`], [`link`], [`requests`]: threads and sockets. [`served`]: a region while it is open. [`workers`]: who waits for the disk.
//!   [`urgency`]: who lets others go first.
//! - [`steward`]: what is done with regions beside serving them; [`control`], [`talk`]: who asks for it, on this machine.

mod clones;
mod content;
mod control;
mod copies;
mod disk;
mod link;
mod lists;
mod member;
mod queue;
mod readers;
mod requests;
mod room;
mod rules;
mod served;
mod server;
mod snapshots;
mod steward;
mod stream;
mod talk;
mod urgency;
mod workers;

pub use clones::{
    CloneError, CloneState, CloneStatus, Phase, Source, SourceError, Sources, Target, Watch, clone_snapshot,
};
pub use content::in_hex;
pub use control::{Control, socket_of};
pub use disk::{Disk, DiskError};
pub use member::{Asked, ConnectionId, EPOCHS_AT_ONCE, Effect, Ended, Member, NotCloned, Work};
pub use region::DELETED_MAX as SNAPSHOTS_DELETED_MAX;
pub use room::SNAPSHOTS_TIMES;
pub use rules::Rule;
pub use server::{Server, ServerError};
pub use steward::{CLONE_SOURCES_MAX, Steward, StewardError, clone_at_rest};
pub use talk::{ANSWER_MAX, Answer, AskError, Order, ask};
