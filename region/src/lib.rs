//! One copy of a volume's blocks, in one file.
//!
//! **Problem.** Bytes must be as they were when a flush was acknowledged, or later, on file systems that write what is not synced
//! in any order, torn, or not at all; a flush must cost one `fdatasync`; and a byte that the disk has changed must never be
//! taken for right.
//!
//! **Theory.** `docs/BLOCK.md`. Nothing is written over that a crash may come back to: bytes go into free blocks, a record in the
//! journal says which and what checksums they have, and pages of the map follow at a checkpoint. Nothing counts because it is
//! there, but because it is right.
//!
//! ```text
//!   write ──► bytes into free data blocks ──► record in the journal ──► map in memory        acknowledged: it is applied
//!                                                       │
//!   sync ───────────────────────────────────────── fdatasync ────────────────────────►      acknowledged: it is durable
//!                                                       │
//!   checkpoint ◄── the journal is half full ── fdatasync, pages, fdatasync, super, fdatasync
//!   open ──► super ──► pages, as they are asked for ──► journal: the longest right prefix
//! ```
//!
//! - [`position`]: the number of a write.
//! - [`layout`], [`sealed`], [`superblock`], [`control`], [`tree`], [`map`], [`journal`]: what is where in the file, and how it
//!   is read.
//! - [`ring`], [`fail_stop`]: a medium that does not give back all of it, and a sync that fails.
//! - [`free`], [`places`], [`pages`]: what of it is in memory.
//! - [`snapshots`]: what it held earlier; [`bits`].
//! - [`rules`]: what the tests leave out, one at a time, to see that they notice.
//! - [`region`]: the whole; [`mod@open`], [`mod@write`], [`mod@sync`]: how it comes to be, changes, and lasts.
//! - [`look`], [`stored`]: what is told of one that is not opened.

mod bits;
mod control;
mod fail_stop;
pub mod fields;
mod free;
mod journal;
mod layout;
mod look;
mod map;
mod open;
mod pages;
mod places;
mod position;
mod reading;
mod region;
mod ring;
mod rules;
mod sealed;
mod snapshots;
mod stored;
mod superblock;
mod sync;
mod tree;
mod write;

pub use control::{CloneOf, Control, List, ListVersion, MEMBERS_MAX, Member, Promotion};
pub use layout::{BLOCKS_MAX, BlockSize, Geometry, SEALED_BLOCKS_MAX};
pub use look::{Inside, Outside, SnapshotAtRest, look_inside, look_outside};
pub use map::{SEAL, Seal};
pub use open::{CreateError, NewRegion, OpenError, Opening, create, create_clone, destroy, open};
pub use position::Position;
pub use reading::{ReadBeside, Reading};
pub use region::{Failed, Held, Region, What, checksum};
pub use rules::Rule;
pub use snapshots::{
    DELETED_MAX, Going, Gone, SNAPSHOTS_MAX, SnapshotError, SnapshotRoom, SnapshotStatus, Taken, Taking,
    TakingEnd, named_snapshots, snapshot_room,
};
pub use stored::{Stored, each_stored};
pub use superblock::Identity;
pub use sync::{Checkpoint, CheckpointEnd, Checkpointed, Sync, Synced};
pub use write::{NewContent, Onto, Staged, Write, WriteError};
