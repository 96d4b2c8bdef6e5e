//! What is done with regions beside serving them, on behalf of whoever this machine obeys: clones, and snapshots of regions that nobody writes.
//! Cheap to clone.

use crate::{
    clones::{CloneState, CloneStatus, Source},
    content::in_hex,
    disk::{Disk, DiskError},
    member::{ConnectionId, Effect, Member},
    server::{Shared, in_words},
};
use ids::{RegionId, SnapshotId};
use region::CloneOf;
use region_wire::Reply;
use std::{
    sync::{Arc, mpsc::RecvTimeoutError},
    time::{Duration, Instant},
};

/// Sources of a clone at most: a region set has three members.
pub const CLONE_SOURCES_MAX: usize = 3;

/// How long a snapshot may take: a checkpoint, and what may be under way before it.
const SNAPSHOT_MAX: Duration = Duration::from_secs(20);

/// How often it is tried whether what was under way has ended.
const BUSY_PAUSE: Duration = Duration::from_millis(50);

/// Why it is not done.
#[derive(Debug, thiserror::Error)]
pub enum StewardError {
    /// No region of that id, or none that opens.
    #[error("{}", in_words(.0))]
    Disk(#[from] DiskError),
    /// It was made to be written.
    #[error("region {0} is no clone: it is written, and not filled from a snapshot")]
    NoClone(RegionId),
    /// None, or too many.
    #[error("a clone is made from 1 to {CLONE_SOURCES_MAX} sources, and not from {0}")]
    Sources(usize),
    /// As many as there may be.
    #[error("as many clones are being made as the disk takes: ask again later")]
    Full,
    /// Somebody writes; it is a clone; there is another one of that name.
    #[error("{0}")]
    Refused(String),
    /// The disk takes long.
    #[error("it is not done within {} s: ask again", SNAPSHOT_MAX.as_secs())]
    Slow,
}

impl StewardError {
    /// A name for programs, which does not change.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            StewardError::Disk(DiskError::NoRegion { .. }) => "no_region",
            StewardError::Disk(_) => "not_opened",
            StewardError::NoClone(_) => "no_clone",
            StewardError::Sources(_) => "clone_sources",
            StewardError::Full => "clones_full",
            StewardError::Refused(_) => "snapshot_refused",
            StewardError::Slow => "snapshot_slow",
        }
    }
}

/// Does it.
#[derive(Clone, Debug)]
pub struct Steward(Arc<Shared>);

impl Steward {
    pub(crate) fn new(shared: Arc<Shared>) -> Steward {
        Steward(shared)
    }

    /// Makes a region that is to be a clone one, from these sources; goes on by itself until the process ends. The same order again changes
    /// nothing, another one the sources of the next attempt; one of a clone that is proven does nothing.
    ///
    /// # Errors
    /// [`StewardError`].
    pub fn order_clone(
        &self,
        region: RegionId,
        sources: Vec<Source>,
        bytes_per_second: Option<u64>,
    ) -> Result<CloneStatus, StewardError> {
        if !(1..=CLONE_SOURCES_MAX).contains(&sources.len()) {
            return Err(StewardError::Sources(sources.len()));
        }
        let at_rest = clone_at_rest(&self.0.disk, region)?;
        if at_rest.state == CloneState::Proven {
            return Ok(at_rest);
        }
        let ordered = self.0.clones.order(&self.0, at_rest, sources, bytes_per_second);
        ordered.map_err(|_| StewardError::Full)
    }

    /// How far a clone is.
    ///
    /// # Errors
    /// [`StewardError`].
    pub fn clone_status(&self, region: RegionId) -> Result<CloneStatus, StewardError> {
        match self.0.clones.status(region) {
            Some(status) => Ok(status),
            None => clone_at_rest(&self.0.disk, region),
        }
    }

    /// Nothing more is done for a region, and it is closed, if nobody is connected.
    pub fn release(&self, region: RegionId) {
        self.0.clones.stop(region);
        self.0.release(region);
    }

    /// Takes a snapshot of a region that nobody writes now. One that is there already, of what it holds, is done.
    ///
    /// # Errors
    /// [`StewardError`].
    pub fn snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), StewardError> {
        self.ask(region, |member, asker| member.snapshot_here(asker, snapshot))
    }

    /// Deletes a snapshot of a region. One that is not there is done.
    ///
    /// # Errors
    /// [`StewardError`].
    pub fn delete_snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), StewardError> {
        self.ask(region, |member, asker| member.delete_snapshot_here(asker, snapshot))
    }

    fn ask(
        &self,
        region: RegionId,
        request: impl Fn(&mut Member, ConnectionId) -> Vec<Effect>,
    ) -> Result<(), StewardError> {
        let end = Instant::now() + SNAPSHOT_MAX;
        loop {
            let asker = self.0.next_connection();
            let served = self.0.served(region)?;
            let Some(said) = served.connect_here(asker) else { continue };
            served.with(|member| {
                member.connect_local(asker);
                request(member, asker)
            });
            let answer = said.recv_timeout(end.saturating_duration_since(Instant::now()));
            served.disconnect(asker);
            match answer {
                Ok(Reply::Snapshotted { .. } | Reply::SnapshotDeleted { .. }) => return Ok(()),
                Ok(Reply::SnapshotRefused { why, .. } | Reply::Failed(why)) => {
                    return Err(StewardError::Refused(why));
                }
                Ok(other) => return Err(StewardError::Refused(format!("it answers {other:?}"))),
                Err(RecvTimeoutError::Timeout) => return Err(StewardError::Slow),
                // A checkpoint is under way, or the region was closed in this moment.
                Err(RecvTimeoutError::Disconnected) if Instant::now() >= end => {
                    return Err(StewardError::Slow);
                }
                Err(RecvTimeoutError::Disconnected) => self.0.pause(BUSY_PAUSE),
            }
        }
    }
}

/// How far a clone is by its file alone: proven, or not.
///
/// # Errors
/// [`StewardError`].
pub fn clone_at_rest(disk: &Disk, region: RegionId) -> Result<CloneStatus, StewardError> {
    let outside = disk.look(region)?;
    let clone_of = outside.control.clone_of;
    let CloneOf { snapshot, proven } = clone_of.ok_or(StewardError::NoClone(region))?;
    let geometry = outside.identity.geometry;
    let size_bytes = geometry.blocks * geometry.block_size.bytes() as u64;
    Ok(CloneStatus {
        region,
        snapshot,
        state: if proven.is_some() { CloneState::Proven } else { CloneState::Idle },
        size_bytes,
        done_bytes: if proven.is_some() { size_bytes } else { 0 },
        copied_bytes: 0,
        why: None,
        hash: proven.map(|hash| in_hex(&hash)),
    })
}
