//! What is asked for and what is told: sizes, datasets, snapshots, disks. Plain data; decides nothing but what a size may be.

use crate::error::DatasetError;
use camino::Utf8PathBuf;
use ids::{RegionId, SnapshotId};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The least quota: below it a file system's own bookkeeping for one directory would be most of it.
pub const QUOTA_BYTES_MIN: u64 = 1 << 20;

/// The greatest quota: what a file's length can be.
pub const QUOTA_BYTES_MAX: u64 = i64::MAX as u64;

/// What a region may take and what is kept for it. Both count the region's snapshots, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Size {
    /// Bytes that it may take at most.
    pub quota_bytes: u64,
    /// Bytes that nobody else gets.
    pub reservation_bytes: u64,
}

impl Size {
    /// Says whether it is one.
    ///
    /// # Errors
    /// [`DatasetError::BadSize`].
    pub fn check(self) -> Result<(), DatasetError> {
        let quota_fits = (QUOTA_BYTES_MIN..=QUOTA_BYTES_MAX).contains(&self.quota_bytes);
        if quota_fits && self.reservation_bytes <= self.quota_bytes {
            Ok(())
        } else {
            Err(DatasetError::BadSize { size: self })
        }
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a quota of {} bytes with {} reserved", self.quota_bytes, self.reservation_bytes)
    }
}

/// One region's directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dataset {
    /// Whose it is.
    pub region: RegionId,
    /// Where its files go.
    pub directory: Utf8PathBuf,
    /// Whether they would really be there. `create` and `find` see to it; a listing tells what is.
    pub mounted: bool,
    /// What it was made with.
    pub size: Size,
    /// Bytes that it takes. ZFS counts its snapshots, too; of a directory the region's own files are counted.
    pub used_bytes: u64,
    /// Bytes that may still be written.
    pub available_bytes: u64,
}

/// One snapshot of one region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Snapshot {
    /// Which one.
    pub id: SnapshotId,
    /// Where it is open for reading, if it is.
    pub opened: Option<Utf8PathBuf>,
}

/// All that is on a disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Listing {
    /// By region.
    pub datasets: Vec<Dataset>,
    /// Names in the same place that are none of ours: told, and never touched. At most [`STRANGERS_MAX`].
    pub strangers: Vec<Stranger>,
}

/// What came of mounting what was not mounted.
#[derive(Debug, Default)]
pub struct Mounts {
    /// Regions whose files were not there, and are now.
    pub mounted: usize,
    /// Regions whose files are not, and why.
    pub failed: Vec<(RegionId, DatasetError)>,
    /// Regions that were not tried: the time was up, or the disk hangs.
    pub left: usize,
}

/// Something in the place of datasets that is none, or none that can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stranger {
    /// Its name there.
    pub name: String,
    /// Why it is none.
    pub why: String,
}

/// Strangers that a listing names: enough for a person to see what happened there.
pub const STRANGERS_MAX: usize = 64;

/// What a disk is and how it does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DiskReport {
    /// Its directory, or its pool's dataset.
    pub disk: String,
    /// Where each region has its directory; `None` if that is not known now.
    pub directory: Option<Utf8PathBuf>,
    /// Of a dataset of ZFS: its pool, and what was set for all of it; `None` if it cannot be asked.
    pub pool: Option<Pool>,
    /// What keeps the files; `None` if it cannot be asked.
    pub file_system: Option<FileSystem>,
    /// Whether files can share blocks there (`FICLONE`); `None` if that cannot be tried now.
    pub reflinks: Option<bool>,
    /// Whether [`snapshot`](crate::Datasets::snapshot) works; `None` as above.
    pub snapshots: Option<bool>,
    /// Who sees to it that a region does not take more than its quota.
    pub quotas: Quotas,
    /// Its bytes; `None` if it cannot be asked.
    pub space: Option<DiskSpace>,
    /// How it does.
    pub health: Health,
    /// Why it is not healthy, in words.
    pub detail: Option<String>,
}

/// The pool that a disk is on, and what its owner has set for the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// Its name.
    pub name: String,
    /// What `zpool` calls its health: `ONLINE`, `DEGRADED`, `UNAVAIL`, …; `SUSPENDED` also where `zpool` calls one that has stopped `ONLINE`.
    pub state: String,
    /// Bytes that all of the disk may take at most; `None` if none are set, or it cannot be asked.
    pub quota_bytes: Option<u64>,
    /// Bytes of the pool that are kept for it; `None` as above.
    pub reservation_bytes: Option<u64>,
}

/// Bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DiskSpace {
    /// What it can hold in all.
    pub capacity_bytes: u64,
    /// What is taken, by whomever.
    pub used_bytes: u64,
    /// What may still be written.
    pub available_bytes: u64,
    /// What is reserved, written or not.
    pub reserved_bytes: u64,
    /// What may still be reserved.
    pub reservable_bytes: u64,
}

/// Who sees to quotas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Quotas {
    /// The file system: a write too many fails.
    Enforced,
    /// Nobody but the region's own format: reservations are kept in books, and no more is promised than there is.
    Booked,
}

/// What keeps the files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FileSystem {
    /// ext2, ext3, ext4: one number for all three.
    Ext4,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// Memory.
    Tmpfs,
    /// ZFS.
    Zfs,
    /// Another one, by the number that the kernel gives.
    Other(u64),
}

/// How a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// As it should be.
    Healthy,
    /// Works, with less redundancy than it was made with.
    Degraded,
    /// Less is left than is kept for the file system itself.
    Full,
    /// Takes no writes.
    ReadOnly,
    /// Does not answer in time, or its pool has stopped.
    Suspended,
    /// Its pool is there and gives nothing back.
    Faulted,
    /// Its directory, mark or pool is not there.
    Missing,
    /// Asking fails otherwise.
    Failed,
}
