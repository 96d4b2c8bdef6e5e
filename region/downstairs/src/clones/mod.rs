//! Clones: a new region gets what a peer's region holds at a snapshot, and is read when that is proven.
//!
//! **Problem.** A copy of a snapshot that is lost has to be replaced, with no writer who knows what is right: by what another member has, which
//! may lie, break off or go away, while the process here may be killed and the power fail. What is not all of it, or not the same, must never
//! be read by anybody.
//!
//! **Theory.** The region is made as a clone of that snapshot: nobody is ever promoted to write it, and readers are refused until its control
//! says, durably, that its content is proven. One connection of this process fills it, as an Upstairs would fill a member: what differs is
//! copied, with versions, checksums and seals as they are. There is no cursor: who begins again compares digests. Then it takes a snapshot of the
//! same id and position, and the proof is of that one, as its readers will read it: hash by hash, of what its disk gives back, beside the
//! source's own ([`content`](crate::content)).
//!
//! ```text
//!                 ┌───────── a source is away, or the disk full: tried again ─────────┐
//!                 ▼                                                                   │
//!   made ──► range by range: digests differ? look, read, check, install ──all equal──► flush, position, snapshot
//!     ▲           │                                                                   │
//!     │           └── no source has a block right, none has the snapshot ──► failed   ▼
//!     │                                       ▲                      leaf by leaf: hash here = hash there?
//!     └── a crash anywhere before "proven"    └──────── unequal ───────────┘          │ all equal
//!         begins again                                                                ▼
//!                                                           proven (control, durable): the snapshot is read by anybody
//! ```
//!
//! - [`ports`]: what is filled, and from where. [`copy`]: what differs is copied. [`proof`]: and read back. [`machine`]: the order of both.
//! - [`peers`]: sources over sockets. [`local`]: a region of this process, as what is filled. [`board`]: which clones are being made.

pub(crate) mod board;
mod copy;
mod error;
pub(crate) mod local;
mod machine;
mod peers;
mod ports;
mod proof;

pub use board::{CloneState, CloneStatus, Phase, Source};
pub use error::{CloneError, SourceError};
pub use machine::clone_snapshot;
pub use ports::{Sources, Target, Watch};
