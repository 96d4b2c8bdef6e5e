//! Looking at a region without opening it: nothing is written, and nothing is changed. Owns what is told of one.
//!
//! At rest all of it can be told. While a process has it open, that one's writes are under way, and only what it keeps in two copies
//! can: who it is, who may write it, who is full.

use crate::{
    control::Control,
    fail_stop::FailStop,
    open::{AtRest, Head, OpenError, find, read_head},
    position::Position,
    snapshots::SnapshotStatus,
    superblock::Identity,
};
use camino::Utf8Path;
use durable_fs::{InPlaceFile, Storage};
use std::sync::Arc;

/// What can be told of any region.
#[derive(Clone, Debug)]
pub struct Outside {
    /// Which one, and how it is made.
    pub identity: Identity,
    /// Who may write it, and who is full.
    pub control: Control,
}

/// What can be told of a region that nobody has open.
#[derive(Clone, Debug)]
pub struct Inside {
    /// The last write that an opening would find.
    pub applied: Position,
    /// The last write that it was known to have also after a power cut; an opening makes it the one that it finds.
    pub durable: Position,
    /// Whether it was closed in order, or never opened.
    pub is_clean: bool,
    /// Blocks that hold bytes: neither zeros, nor never written.
    pub blocks_with_bytes: u64,
    /// Blocks whose bytes nobody had right when this region was to get them: they are read as errors until they are written.
    pub blocks_lost: u64,
    /// Data blocks that are free: neither in the region nor in a snapshot.
    pub room: u64,
    /// Checkpoints since it was made.
    pub checkpoints: u64,
    /// Its snapshots, the oldest first.
    pub snapshots: Vec<SnapshotAtRest>,
}

/// What can be told of a snapshot of such a region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotAtRest {
    /// Which one, and how it is.
    pub status: SnapshotStatus,
    /// Bytes of blocks that are in this one alone: what its deletion would make free.
    pub bytes_alone: u64,
}

/// Reads what is outside.
///
/// # Errors
/// [`OpenError`].
pub fn look_outside(file: &dyn InPlaceFile, path: &Utf8Path) -> Result<Outside, OpenError> {
    let Head { top, control, .. } = read_head(file, path)?;
    Ok(Outside { identity: top.identity, control })
}

/// Reads what is inside, as an opening would; nobody must have it open. The path is that in the storage: beside it are its snapshots.
///
/// # Errors
/// [`OpenError`].
pub fn look_inside(
    storage: Arc<dyn Storage>,
    file: Arc<dyn InPlaceFile>,
    path: &Utf8Path,
) -> Result<Inside, OpenError> {
    // It writes nothing, so it is no life of the region, and has no number of one.
    let found = find(storage, Arc::new(FailStop::new(file)), path, 0)?;
    let AtRest { mut region, is_clean, known_durable, .. } = found;
    let all = region.layout.data_blocks + region.layout.tracts * region.layout.tract_blocks;
    let blocks_with_bytes = all - region.free.free();
    // From here on what snapshots have is not free, either.
    let snapshots = region.look_at_snapshots()?;
    let snapshots = snapshots.into_iter().map(|(status, bytes_alone)| SnapshotAtRest { status, bytes_alone });
    Ok(Inside {
        applied: region.applied,
        durable: known_durable,
        is_clean,
        blocks_with_bytes,
        blocks_lost: region.lost,
        room: region.free.free(),
        // It is made with the first one's super.
        checkpoints: region.checkpoints.saturating_sub(1),
        snapshots: snapshots.collect(),
    })
}
