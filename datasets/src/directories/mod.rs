//! Datasets as plain directories of any file system. Owns the order of steps; each step is [`place`]'s.
//!
//! - [`layout`]: what is where, and what a crash after each step leaves.
//! - [`record`]: the two files that are read again.
//! - [`room`]: what may still be promised.
//! - [`sharing`]: files that share their blocks.
//! - [`place`]: the steps.

pub(crate) mod layout;
mod place;
mod record;
pub(crate) mod room;
mod sharing;

pub use layout::region_files;

use crate::{
    attempts::Attempts,
    error::DatasetError,
    ports::Datasets,
    types::{Dataset, DiskReport, Health, Listing, Mounts, Quotas, Size, Snapshot},
};
use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{RealDisk, Storage};
use ids::{RegionId, SnapshotId};
use place::Place;
use std::{
    fs::File,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// A directory on a mounted disk.
#[derive(Clone, Debug)]
pub struct Directories {
    place: Place,
    attempts: Attempts,
    /// Tried once: a file system keeps what it can.
    reflinks: Arc<OnceLock<bool>>,
}

/// The right to change something. It goes with each step, so that one that hangs keeps it.
type Lock = Arc<File>;

impl Directories {
    /// The directory at `root`, which need not be there now. `limit` is how long one step may take.
    #[must_use]
    pub fn open(root: &Utf8Path, limit: Duration) -> Directories {
        Directories::on(Arc::new(RealDisk::new(root)), root, limit)
    }

    /// The same, by way of `disk`, which is that directory and may have faults. Each call comes to it first; what is counted, shared and removed
    /// behind that, and who has files open, is seen past it.
    #[must_use]
    pub fn on(disk: Arc<dyn Storage>, root: &Utf8Path, limit: Duration) -> Directories {
        let attempts = Attempts::new(root.as_str(), limit);
        Directories { place: Place::new(root, disk), attempts, reflinks: Arc::default() }
    }

    /// Takes a directory that is there into use: puts the mark there, without which it counts as missing. Done if it has it.
    ///
    /// # Errors
    /// If it is not there, takes no writes, or has the mark of another version.
    pub async fn prepare(&self) -> Result<(), DatasetError> {
        self.look("mark the disk", Place::mark).await
    }

    /// Does something that needs no lock.
    async fn look<T: Send + 'static>(
        &self,
        operation: &'static str,
        act: impl FnOnce(&Place) -> Result<T, DatasetError> + Send + 'static,
    ) -> Result<T, DatasetError> {
        let place = self.place.clone();
        self.attempts.blocking(operation, move || act(&place)).await
    }

    /// Waits for the lock; then nobody else changes anything.
    async fn lock(&self) -> Result<Lock, DatasetError> {
        self.look("get the lock of the disk", Place::lock).await.map(Arc::new)
    }

    /// Does a step under the lock.
    async fn step<T: Send + 'static>(
        &self,
        lock: &Lock,
        operation: &'static str,
        act: impl FnOnce(&Place) -> Result<T, DatasetError> + Send + 'static,
    ) -> Result<T, DatasetError> {
        let lock = Arc::clone(lock);
        self.look(operation, move |place| {
            let done = act(place);
            drop(lock);
            done
        })
        .await
    }

    fn not_found(&self, region: RegionId) -> DatasetError {
        DatasetError::NotFound { disk: self.attempts.disk().to_owned(), region }
    }

    /// Whether files can share blocks.
    async fn reflinks(&self) -> Result<bool, DatasetError> {
        if let Some(known) = self.reflinks.get() {
            return Ok(*known);
        }
        let known = self.look("try to share blocks", Place::reflinks).await?;
        Ok(*self.reflinks.get_or_init(|| known))
    }

    /// A region's snapshots; an error if it has no dataset.
    async fn snapshots_of(&self, region: RegionId) -> Result<Vec<Snapshot>, DatasetError> {
        let found = self.look("list snapshots", move |place| {
            place.present()?;
            if place.claim(region)?.is_some() { place.snapshots(region).map(Some) } else { Ok(None) }
        });
        found.await?.ok_or_else(|| self.not_found(region))
    }

    /// One of them, if it is there.
    async fn snapshot_of(
        &self,
        region: RegionId,
        snapshot: SnapshotId,
    ) -> Result<Option<Snapshot>, DatasetError> {
        Ok(self.snapshots_of(region).await?.into_iter().find(|found| found.id == snapshot))
    }

    async fn report(&self, report: &mut DiskReport) -> Result<(), DatasetError> {
        let (file_system, space, disk) = self
            .look("look at the disk", |place| {
                let space = place.books()?.space;
                Ok((place.file_system()?, space, place.space()?))
            })
            .await?;
        report.directory = Some(self.attempts.disk().into());
        report.file_system = Some(file_system);
        report.space = Some(space);
        report.reflinks = self.reflinks.get().copied();
        if disk.read_only {
            report.health = Health::ReadOnly;
            report.detail = Some("its file system is mounted read-only".to_owned());
            return Ok(());
        }
        let margin = room::margin_bytes(disk.capacity);
        if disk.available < margin {
            report.health = Health::Full;
            report.detail =
                Some(format!("{} bytes are left, and {margin} are kept for the file system", disk.available));
            return Ok(());
        }
        report.reflinks = Some(self.reflinks().await?);
        Ok(())
    }
}

#[async_trait]
impl Datasets for Directories {
    async fn create(&self, region: RegionId, size: Size) -> Result<Dataset, DatasetError> {
        size.check()?;
        let lock = self.lock().await?;
        let begun = self.step(&lock, "make a dataset", move |place| place.begin(region, size)).await?;
        if let Some(dataset) = begun {
            return Ok(dataset);
        }
        fault_points::reach("datasets.create_begun").await;
        self.step(&lock, "write a dataset's record", move |place| place.write_record(region, size)).await?;
        fault_points::reach("datasets.create_recorded").await;
        let publish = move |place: &Place| place.publish(&layout::region(region));
        self.step(&lock, "name a dataset", publish).await?;
        fault_points::reach("datasets.created").await;
        self.find(region).await?.ok_or_else(|| self.not_found(region))
    }

    async fn find(&self, region: RegionId) -> Result<Option<Dataset>, DatasetError> {
        self.look("find a dataset", move |place| place.find(region)).await
    }

    async fn list(&self) -> Result<Listing, DatasetError> {
        self.look("list datasets", Place::list).await
    }

    /// They are where the disk is.
    async fn mount(&self, _within: Duration) -> Result<Mounts, DatasetError> {
        Ok(Mounts::default())
    }

    async fn destroy(&self, region: RegionId) -> Result<(), DatasetError> {
        let lock = self.lock().await?;
        if self.step(&lock, "find a dataset", move |place| place.claim(region)).await?.is_none() {
            return Ok(());
        }
        let snapshots = self.snapshots_of(region).await?;
        if let Some(first) = snapshots.first() {
            return Err(DatasetError::HasSnapshots { region, first: first.id, others: snapshots.len() - 1 });
        }
        let of = layout::region(region);
        self.step(&lock, "take a dataset's name away", move |place| {
            let holders = place.holders(&of)?;
            if holders.is_empty() { place.unname(&of) } else { Err(DatasetError::Busy { region, holders }) }
        })
        .await?;
        fault_points::reach("datasets.destroy_unnamed").await;
        self.step(&lock, "remove a dataset", move |place| place.remove_unnamed(&layout::region(region)))
            .await?;
        fault_points::reach("datasets.destroyed").await;
        Ok(())
    }

    async fn snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError> {
        let lock = self.lock().await?;
        if self.snapshot_of(region, snapshot).await?.is_some() {
            return Ok(());
        }
        if !self.reflinks().await? {
            return Err(DatasetError::SnapshotsUnsupported { disk: self.attempts.disk().to_owned() });
        }
        let shared = self.step(&lock, "share a region's blocks", move |place| place.share(region, snapshot));
        shared.await?;
        fault_points::reach("datasets.snapshot_begun").await;
        let publish = move |place: &Place| place.publish(&layout::snapshot(region, snapshot));
        self.step(&lock, "name a snapshot", publish).await?;
        fault_points::reach("datasets.snapshot_made").await;
        Ok(())
    }

    async fn snapshots(&self, region: RegionId) -> Result<Vec<Snapshot>, DatasetError> {
        self.snapshots_of(region).await
    }

    async fn destroy_snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError> {
        let lock = self.lock().await?;
        let sweep = move |place: &Place| place.sweep::<SnapshotId>(&layout::snapshots(region));
        self.step(&lock, "remove what is left of snapshots", sweep).await?;
        let found = match self.snapshot_of(region, snapshot).await {
            Err(DatasetError::NotFound { .. }) | Ok(None) => return Ok(()),
            other => other?,
        };
        let of = layout::snapshot(region, snapshot);
        if let Some(directory) = found.and_then(|found| found.opened) {
            let holders = self.step(&lock, "look who reads", move |place| place.holders(&of)).await?;
            return Err(DatasetError::SnapshotBusy { region, snapshot, directory, holders });
        }
        self.step(&lock, "take a snapshot's name away", move |place| place.unname(&of)).await?;
        fault_points::reach("datasets.snapshot_unnamed").await;
        let remove = move |place: &Place| place.remove_unnamed(&layout::snapshot(region, snapshot));
        self.step(&lock, "remove a snapshot", remove).await?;
        fault_points::reach("datasets.snapshot_destroyed").await;
        Ok(())
    }

    async fn open_snapshot(
        &self,
        region: RegionId,
        snapshot: SnapshotId,
    ) -> Result<Utf8PathBuf, DatasetError> {
        let lock = self.lock().await?;
        match self.snapshot_of(region, snapshot).await? {
            None => Err(DatasetError::SnapshotNotFound { region, snapshot }),
            Some(Snapshot { opened: Some(directory), .. }) => Ok(directory),
            Some(_) => {
                let open = move |place: &Place| place.open(region, snapshot);
                let directory = self.step(&lock, "open a snapshot", open).await?;
                fault_points::reach("datasets.snapshot_opened").await;
                Ok(directory)
            }
        }
    }

    async fn close_snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError> {
        let lock = self.lock().await?;
        let found = match self.snapshot_of(region, snapshot).await {
            Err(DatasetError::NotFound { .. }) | Ok(None) => return Ok(()),
            other => other?,
        };
        let Some(directory) = found.and_then(|found| found.opened) else { return Ok(()) };
        self.step(&lock, "close a snapshot", move |place| {
            let holders = place.holders(&layout::snapshot(region, snapshot))?;
            if holders.is_empty() {
                place.close(region, snapshot)
            } else {
                Err(DatasetError::SnapshotBusy { region, snapshot, directory, holders })
            }
        })
        .await?;
        fault_points::reach("datasets.snapshot_closed").await;
        Ok(())
    }

    async fn directory(&self) -> Result<Utf8PathBuf, DatasetError> {
        self.look("look for the disk", Place::present).await?;
        Ok(self.attempts.disk().into())
    }

    async fn disk(&self) -> DiskReport {
        let mut report = DiskReport::unasked(self.attempts.disk(), Quotas::Booked);
        if let Err(error) = self.report(&mut report).await {
            report.fails(&error);
        }
        report.snapshots = report.reflinks;
        report
    }
}
