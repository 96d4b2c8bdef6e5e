//! Datasets and clones that nobody has files of open: only those are destroyed. Owns how that is seen, and what is told of those who have.

use super::{BUSY_PAUSE, BUSY_TRIES_MAX, Zfs, inventory::Entry, mount::data_of};
use crate::{
    error::DatasetError,
    holders::{Holder, holders_of},
};
use camino::Utf8Path;
use ids::{RegionId, SnapshotId};
use tokio::time::sleep;

impl Zfs {
    /// Who has files below a directory open.
    pub(super) async fn holders(&self, directory: Option<&Utf8Path>) -> Result<Vec<Holder>, DatasetError> {
        let Some(directory) = directory.map(Utf8Path::to_owned) else { return Ok(Vec::new()) };
        let operation = "look for processes with files of";
        let look = move || {
            // No link is followed: the last part of the way may be a pool that hangs, and ZFS mounts by real paths.
            holders_of(&directory).map_err(|source| DatasetError::Io { operation, path: directory, source })
        };
        self.attempts.blocking(operation, look).await
    }

    /// Destroys a dataset or a clone, whose files nobody may have open.
    pub(super) async fn destroy_unheld(
        &self,
        name: &str,
        entry: &Entry,
        busy: impl Fn(Vec<Holder>) -> DatasetError,
    ) -> Result<(), DatasetError> {
        let directory = entry.mountpoint.as_deref();
        for _ in 0..BUSY_TRIES_MAX {
            let holders = self.holders(directory).await?;
            if !holders.is_empty() {
                return Err(busy(holders));
            }
            let Err(error) = self.zfs(&["destroy", name]).await else { return Ok(()) };
            let DatasetError::Command(failed) = &error else { return Err(error) };
            if !self.inventory().await?.has(&self.root, name) {
                return Ok(());
            }
            if !failed.said.contains("busy") {
                return Err(self.diagnose(error).await);
            }
            sleep(BUSY_PAUSE).await;
        }
        Err(busy(self.holders(directory).await?))
    }

    pub(super) fn snapshot_busy(
        &self,
        (region, snapshot): (RegionId, SnapshotId),
        entry: &Entry,
        holders: Vec<Holder>,
    ) -> DatasetError {
        let opened = || self.root.opened(region, snapshot).into();
        let is_ours = entry
            .mountpoint
            .as_ref()
            .is_some_and(|at| self.root.opened(region, snapshot).rsplit('/').next() == at.file_name());
        let directory = if is_ours { data_of(entry) } else { entry.mountpoint.clone() };
        let directory = directory.unwrap_or_else(opened);
        DatasetError::SnapshotBusy { region, snapshot, directory, holders }
    }
}
