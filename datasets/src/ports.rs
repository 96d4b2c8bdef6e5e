//! The port: what whoever keeps regions needs of a disk.

use crate::{
    error::DatasetError,
    types::{Dataset, DiskReport, Listing, Mounts, Size, Snapshot},
};
use async_trait::async_trait;
use camino::Utf8PathBuf;
use ids::{RegionId, SnapshotId};
use std::{fmt, time::Duration};

/// One disk's datasets.
///
/// Every call ends within a few times the limit that the disk was opened with, whatever the disk does. Every call that changes
/// something may be made again, after any end of the one before, also by another process: it goes on from what it finds. A
/// call that is dropped may still have its effect.
#[async_trait]
pub trait Datasets: Send + Sync + fmt::Debug {
    /// Makes the region's dataset, or finds that it has it already, with the same size.
    ///
    /// # Errors
    /// `bad_size`, `size_differs`, `no_space`, `stranger`; what is wrong with the disk.
    async fn create(&self, region: RegionId, size: Size) -> Result<Dataset, DatasetError>;

    /// The region's dataset.
    ///
    /// # Errors
    /// `stranger`, `record_unreadable`; what is wrong with the disk.
    async fn find(&self, region: RegionId) -> Result<Option<Dataset>, DatasetError>;

    /// All datasets, by region.
    ///
    /// # Errors
    /// What is wrong with the disk.
    async fn list(&self) -> Result<Listing, DatasetError>;

    /// Sees to it that the files of all regions are there, as `find` does for one: with one listing, and a step for each that is not. One that
    /// fails keeps no other one from it. After `within` no further one is begun; one is, however short that is.
    ///
    /// # Errors
    /// What is wrong with the disk, before any was tried.
    async fn mount(&self, within: Duration) -> Result<Mounts, DatasetError>;

    /// Destroys the region's dataset and all that is in it; done if there is none.
    ///
    /// # Errors
    /// `has_snapshots`, `dataset_busy`, `stranger`; what is wrong with the disk.
    async fn destroy(&self, region: RegionId) -> Result<(), DatasetError>;

    /// Keeps what the region's files have in them now; done if there is that snapshot already. Files of a ZFS dataset are as at
    /// one instant. Files of a directory are so each, and not together: whoever writes several has to pause.
    ///
    /// # Errors
    /// `dataset_not_found`, `snapshots_unsupported`, `disk_full`; what is wrong with the disk.
    async fn snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError>;

    /// The region's snapshots, by id.
    ///
    /// # Errors
    /// `dataset_not_found`; what is wrong with the disk.
    async fn snapshots(&self, region: RegionId) -> Result<Vec<Snapshot>, DatasetError>;

    /// Destroys a snapshot; done if there is none.
    ///
    /// # Errors
    /// `snapshot_busy` while it is open; what is wrong with the disk.
    async fn destroy_snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError>;

    /// Opens a snapshot for reading, for as long as nobody closes it, also over restarts; tells the directory that has the files.
    ///
    /// # Errors
    /// `snapshot_not_found`; what is wrong with the disk.
    async fn open_snapshot(
        &self,
        region: RegionId,
        snapshot: SnapshotId,
    ) -> Result<Utf8PathBuf, DatasetError>;

    /// Ends that; done if it is not open.
    ///
    /// # Errors
    /// `snapshot_busy` while somebody has a file of it open; what is wrong with the disk.
    async fn close_snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError>;

    /// The directory below which each region has its own, at [`region_files`](crate::region_files). It is there now, on the disk and not in
    /// the place where that is to be mounted.
    ///
    /// # Errors
    /// `zfs_missing`, `not_mounted`, `no_mountpoint`; what is wrong with the disk.
    async fn directory(&self) -> Result<Utf8PathBuf, DatasetError>;

    /// What the disk is and how it does. That it cannot be asked is an answer, too.
    async fn disk(&self) -> DiskReport;
}
