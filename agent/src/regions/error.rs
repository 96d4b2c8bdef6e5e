//! Why a call about a region does not do what it asks. Owns what each refusal is called.

use super::types::State;
use datasets::DatasetError;
use downstairs::DiskError;
use durable_fs::StorageError;
use ids::{DiskId, RegionId, SnapshotId};
use problem::Code;
use std::sync::Arc;
use thiserror::Error;

/// A call that was refused, or that could not be finished.
#[derive(Debug, Error)]
pub enum RegionError {
    /// There can be no such region.
    #[error("{why}")]
    BadRequest {
        /// What is wrong.
        why: String,
    },
    /// Its Downstairs does not take it, or keeps it.
    #[error("the snapshot of region {region}: {why}")]
    Snapshot {
        /// Which region.
        region: RegionId,
        /// In its Downstairs' words.
        why: String,
    },
    /// It was deleted, and is not taken again.
    #[error(
        "snapshot {snapshot} of region {region} was deleted: what is asked was on its way before, or the id is used twice; take one under another id"
    )]
    SnapshotDeleted {
        /// Of which region.
        region: RegionId,
        /// Which.
        snapshot: SnapshotId,
    },
    /// It would take its snapshots along.
    #[error(
        "region {region} is not destroyed, because it has snapshots: {first} and {others} others; delete them first"
    )]
    HasSnapshots {
        /// Which.
        region: RegionId,
        /// One of them.
        first: SnapshotId,
        /// How many more there are.
        others: usize,
    },
    /// Whether it has snapshots is not known.
    #[error("the snapshots of region {region} cannot be listed")]
    SnapshotsUnknown {
        /// Which.
        region: RegionId,
        /// Why.
        #[source]
        source: DiskError,
    },
    /// Nobody does what is asked.
    #[error("the Downstairs of disk {disk} does not answer: {why}")]
    DownstairsAway {
        /// Whose.
        disk: DiskId,
        /// How it does not.
        why: String,
    },
    /// It is not there yet, or not any more.
    #[error("region {region} is {state:?}, and has no snapshots")]
    NotThere {
        /// Which.
        region: RegionId,
        /// What has become of it.
        state: State,
    },
    /// Nobody ever asked for it.
    #[error("no region {region} was ever made here, or it was destroyed so long ago that it is forgotten")]
    NotFound {
        /// Which.
        region: RegionId,
    },
    /// Not in the config.
    #[error("the sled's config has no disk {disk}; GET /disks lists those that it has")]
    NoDisk {
        /// Which.
        disk: DiskId,
    },
    /// A newer coordinator has acted.
    #[error(
        "region {region} has heard of executor epoch {known}, and {given} is lower: another coordinator has taken over"
    )]
    StaleEpoch {
        /// Which.
        region: RegionId,
        /// The highest that it has heard of.
        known: u64,
        /// The one of this call.
        given: u64,
    },
    /// The id means something else.
    #[error("region {region} is {state:?} with another {what}: ask for what it has, or choose another id")]
    Conflict {
        /// Which.
        region: RegionId,
        /// What has become of it.
        state: State,
        /// In what they differ.
        what: &'static str,
    },
    /// The id is used up.
    #[error(
        "region {region} with incarnation {incarnation} is {state:?}: only a greater incarnation, once it is destroyed, is another region"
    )]
    Gone {
        /// Which.
        region: RegionId,
        /// The last one.
        incarnation: u64,
        /// What has become of it.
        state: State,
    },
    /// The id is used up, though nothing was made of it.
    #[error(
        "region {region} was destroyed before it was made, by executor epoch {known}: choose another id; a coordinator of a greater epoch may use this one"
    )]
    Buried {
        /// Which.
        region: RegionId,
        /// The right of whoever has destroyed it.
        known: u64,
    },
    /// It was made, and is not there.
    #[error(
        "region {region} was made, and its disk does not have it any more: destroy it, and make another one"
    )]
    Lost {
        /// Which.
        region: RegionId,
    },
    /// Another call is at it.
    #[error("another call is at work on region {region}")]
    Busy {
        /// Which.
        region: RegionId,
    },
    /// It takes longer than a call may.
    #[error("the work on region {region} takes longer than a call may, and goes on: ask again")]
    GoesOn {
        /// Which.
        region: RegionId,
    },
    /// Its Downstairs has it open, or somebody else.
    #[error("region {region} is to be destroyed, and is in use: the sled goes on when it is not")]
    InUse {
        /// Which.
        region: RegionId,
        /// Who.
        #[source]
        source: DatasetError,
    },
    /// The disk cannot be used for it now.
    #[error("disk {disk} cannot be used for it now: {why}")]
    DiskUnusable {
        /// Which.
        disk: DiskId,
        /// How it does.
        why: String,
    },
    /// The disk has too little room.
    #[error("disk {disk} cannot keep {wanted} bytes for region {region}: {reservable} may still be reserved")]
    NoRoom {
        /// Which region.
        region: RegionId,
        /// Which disk.
        disk: DiskId,
        /// What it needs.
        wanted: u64,
        /// What there is.
        reservable: u64,
    },
    /// What the disk has left for it is not known.
    #[error("what the snapshots on the disk of region {region} may come to need cannot be seen")]
    SnapshotRoom {
        /// Which region.
        region: RegionId,
        /// Why. Others who asked at the same time are told the same.
        #[source]
        source: Arc<DatasetError>,
    },
    /// As many as there may be.
    #[error("the sled has {regions} regions, which is as many as it may have")]
    TooMany {
        /// How many.
        regions: usize,
    },
    /// Its dataset is not to be had, or not to be destroyed.
    #[error("the dataset of region {region} cannot be worked on")]
    Dataset {
        /// Which.
        region: RegionId,
        /// Why.
        #[source]
        source: DatasetError,
    },
    /// Its file is not made.
    #[error("the file of region {region} cannot be made")]
    File {
        /// Which.
        region: RegionId,
        /// Why.
        #[source]
        source: DiskError,
    },
    /// There is a file that is another region's.
    #[error("the dataset of region {region} has a file that is not what was asked for: it is left as it is")]
    Strange {
        /// Which.
        region: RegionId,
    },
    /// What is remembered of it cannot be written.
    #[error("the record of region {region} cannot be written")]
    Record {
        /// Which.
        region: RegionId,
        /// Why.
        #[source]
        source: StorageError,
    },
    /// What is remembered of it cannot be read.
    #[error(
        "the record of region {region} cannot be read ({why}): put it back from elsewhere, then start the agent again"
    )]
    Unreadable {
        /// Which.
        region: RegionId,
        /// Why.
        why: String,
    },
    /// A bug.
    #[error("the work on region {region} has ended without an answer")]
    Died {
        /// Which.
        region: RegionId,
    },
}

impl RegionError {
    /// Its name for programs.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            RegionError::BadRequest { .. } => Code::BadRegion,
            RegionError::Snapshot { .. } | RegionError::NotThere { .. } => Code::RegionSnapshotRefused,
            RegionError::SnapshotDeleted { .. } => Code::SnapshotDeleted,
            RegionError::HasSnapshots { .. } => Code::RegionHasSnapshots,
            RegionError::DownstairsAway { .. } => Code::DownstairsAway,
            RegionError::NotFound { .. } => Code::RegionNotFound,
            RegionError::NoDisk { .. } => Code::DiskNotFound,
            RegionError::StaleEpoch { .. } => Code::StaleEpoch,
            RegionError::Conflict { .. } => Code::RegionConflict,
            RegionError::Gone { .. } | RegionError::Buried { .. } => Code::RegionDestroyed,
            RegionError::Lost { .. } => Code::RegionLost,
            RegionError::Busy { .. } | RegionError::GoesOn { .. } => Code::RegionBusy,
            RegionError::InUse { .. } => Code::RegionInUse,
            RegionError::DiskUnusable { .. } => Code::DiskUnusable,
            RegionError::NoRoom { .. } => Code::NoSpace,
            RegionError::TooMany { .. } => Code::RegionsFull,
            RegionError::Unreadable { .. } => Code::RegionUnreadable,
            RegionError::Strange { .. } => Code::RegionStrange,
            RegionError::Dataset { source, .. } => of_dataset(source),
            RegionError::SnapshotRoom { source, .. } => of_dataset(source),
            RegionError::File { .. } | RegionError::SnapshotsUnknown { .. } => Code::DiskUnusable,
            RegionError::Record { .. } => Code::Unavailable,
            RegionError::Died { .. } => Code::Internal,
        }
    }
}

fn of_dataset(error: &DatasetError) -> Code {
    match error {
        DatasetError::NoSpace { .. } | DatasetError::DiskFull { .. } => Code::NoSpace,
        DatasetError::Stranger { .. } | DatasetError::SizeDiffers { .. } => Code::RegionStrange,
        _ => Code::DiskUnusable,
    }
}
