//! The crate's one error, and its codes. Owns what each refusal is called.

use crate::{command::CommandFailed, holders::Holder, types::Size};
use camino::Utf8PathBuf;
use durable_fs::StorageError;
use ids::{RegionId, SnapshotId};
use std::{io, time::Duration};
use thiserror::Error;

/// Why something was not done.
#[derive(Debug, Error)]
pub enum DatasetError {
    /// Refused before anything was done.
    #[error("{size} is no size: the quota must be 1 MiB or more, and the reservation no more than the quota")]
    BadSize {
        /// What was asked for.
        size: Size,
    },
    /// The region has a dataset of another size.
    #[error(
        "the dataset of region {region} has {has}, and not {wanted}: destroy it first, or ask for what it has"
    )]
    SizeDiffers {
        /// Whose.
        region: RegionId,
        /// What it was made with.
        has: Size,
        /// What was asked for.
        wanted: Size,
    },
    /// The disk cannot promise so much.
    #[error(
        "{disk} cannot reserve {wanted_bytes} bytes: {reservable_bytes} of {capacity_bytes} may still be reserved, {reserved_bytes} are; destroy something there, or choose another disk"
    )]
    NoSpace {
        /// Which disk.
        disk: String,
        /// What was to be reserved.
        wanted_bytes: u64,
        /// What may be.
        reservable_bytes: u64,
        /// What is.
        reserved_bytes: u64,
        /// What the disk can hold.
        capacity_bytes: u64,
    },
    /// The region has no dataset here.
    #[error("region {region} has no dataset on {disk}")]
    NotFound {
        /// Which disk.
        disk: String,
        /// Whose.
        region: RegionId,
    },
    /// The region has no such snapshot here.
    #[error("region {region} has no snapshot {snapshot}")]
    SnapshotNotFound {
        /// Whose.
        region: RegionId,
        /// Which one.
        snapshot: SnapshotId,
    },
    /// A dataset goes after its snapshots.
    #[error("the dataset of region {region} has snapshots, {} and {} more: destroy them first", .first, .others)]
    HasSnapshots {
        /// Whose.
        region: RegionId,
        /// One of them.
        first: SnapshotId,
        /// How many there are besides.
        others: usize,
    },
    /// Somebody uses the dataset.
    #[error("the dataset of region {region} is in use by {}: end that first", Holder::in_words(.holders))]
    Busy {
        /// Whose.
        region: RegionId,
        /// Who, as far as that can be seen; empty if it cannot.
        holders: Vec<Holder>,
    },
    /// The snapshot is open.
    #[error("snapshot {snapshot} of region {region} is open at {directory}, in use by {}: close it first", Holder::in_words(.holders))]
    SnapshotBusy {
        /// Whose.
        region: RegionId,
        /// Which one.
        snapshot: SnapshotId,
        /// Where.
        directory: Utf8PathBuf,
        /// Who reads it, as far as that can be seen; empty if it cannot.
        holders: Vec<Holder>,
    },
    /// Files cannot share blocks there.
    #[error("{disk} has no snapshots: its file system cannot share blocks between files (reflinks)")]
    SnapshotsUnsupported {
        /// Which disk.
        disk: String,
    },
    /// It is not there.
    #[error("{disk} is not there ({why}): mount or import it, and if it is new, prepare it")]
    DiskMissing {
        /// Which disk.
        disk: String,
        /// What was not found.
        why: String,
    },
    /// ZFS is not installed.
    #[error("{disk} is a dataset of ZFS, and there is no program {program} on this host: install ZFS")]
    NoZfs {
        /// Which disk.
        disk: String,
        /// The program.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The dataset is there, and its files are not.
    #[error(
        "{disk} is not mounted: `zfs mount {disk}`; with canmount=on it is mounted after each start, too"
    )]
    NotMounted {
        /// Which disk.
        disk: String,
    },
    /// The dataset is mounted, and its files are not to be seen.
    #[error(
        "{dataset} is mounted, and is not what is to be seen at {directory}: `findmnt {directory}` says what hides it; unmount that"
    )]
    Hidden {
        /// Which.
        dataset: String,
        /// Where it is to be.
        directory: Utf8PathBuf,
    },
    /// The dataset has no place to be mounted at.
    #[error(
        "{disk} has the mountpoint {mountpoint:?}, so ZFS does not mount it: `zfs set mountpoint=/… {disk}`"
    )]
    NoMountpoint {
        /// Which disk.
        disk: String,
        /// What it has: `legacy` or `none`.
        mountpoint: String,
    },
    /// It takes no writes.
    #[error("{disk} is read-only: look at the kernel's log, or at its pool")]
    DiskReadOnly {
        /// Which disk.
        disk: String,
    },
    /// A write found no space.
    #[error("{disk} is full: free space there")]
    DiskFull {
        /// Which disk.
        disk: String,
    },
    /// Its pool does not work.
    #[error(
        "{disk} does not work: its pool is {state}; see `zpool status`, and when its devices work again, `zpool clear`"
    )]
    DiskFaulted {
        /// Which disk.
        disk: String,
        /// What `zpool` calls it.
        state: String,
    },
    /// It did not answer in time. What was begun may still happen; the same call again says.
    #[error("{disk} has not answered for {} ms, while trying to {operation}: ask again when it answers", .limit.as_millis())]
    DiskHangs {
        /// Which disk.
        disk: String,
        /// What was tried.
        operation: String,
        /// How long was waited.
        limit: Duration,
    },
    /// Something that is none of ours has the name.
    #[error("{place} is none of ours ({why}): it is left as it is; move it away by hand")]
    Stranger {
        /// Path, or name of a ZFS dataset.
        place: String,
        /// How that is known.
        why: String,
    },
    /// What a dataset was made with cannot be read.
    #[error(
        "{path} does not say what the dataset was made with ({why}): put it back from elsewhere, or remove the directory by hand"
    )]
    RecordUnreadable {
        /// The record.
        path: Utf8PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The name of the place where datasets shall be is none.
    #[error(
        "{name:?} is no name of a ZFS dataset: pool/dataset was expected, of letters, digits, _ - . and :, with 128 bytes at most"
    )]
    BadName {
        /// What was given.
        name: String,
    },
    /// A command failed for another reason.
    #[error(transparent)]
    Command(#[from] CommandFailed),
    /// A file operation failed for another reason.
    #[error(transparent)]
    Storage(StorageError),
    /// Another operation of the operating system failed.
    #[error("cannot {operation} {path}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: Utf8PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl DatasetError {
    /// Its name for programs: it stays.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            DatasetError::BadSize { .. } => "bad_size",
            DatasetError::SizeDiffers { .. } => "size_differs",
            DatasetError::NoSpace { .. } => "no_space",
            DatasetError::NotFound { .. } => "dataset_not_found",
            DatasetError::SnapshotNotFound { .. } => "snapshot_not_found",
            DatasetError::HasSnapshots { .. } => "has_snapshots",
            DatasetError::Busy { .. } => "dataset_busy",
            DatasetError::SnapshotBusy { .. } => "snapshot_busy",
            DatasetError::SnapshotsUnsupported { .. } => "snapshots_unsupported",
            DatasetError::DiskMissing { .. } => "disk_missing",
            DatasetError::NoZfs { .. } => "zfs_missing",
            DatasetError::NotMounted { .. } | DatasetError::Hidden { .. } => "not_mounted",
            DatasetError::NoMountpoint { .. } => "no_mountpoint",
            DatasetError::DiskReadOnly { .. } => "disk_read_only",
            DatasetError::DiskFull { .. } => "disk_full",
            DatasetError::DiskFaulted { .. } => "disk_faulted",
            DatasetError::DiskHangs { .. } => "disk_hangs",
            DatasetError::Stranger { .. } => "stranger",
            DatasetError::RecordUnreadable { .. } => "record_unreadable",
            DatasetError::BadName { .. } => "bad_dataset_name",
            DatasetError::Command(_) => "command_failed",
            DatasetError::Storage(_) | DatasetError::Io { .. } => "disk_failed",
        }
    }
}
