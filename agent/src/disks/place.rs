//! Where a disk is: in a directory that the config says, or where its pool has mounted its dataset. Owns that, and when it can be served.
//!
//! ```text
//!   dir = "/disks/0"   ──► Directories        the directory, for as long as the config says it
//!   zfs = "tank/disk"  ──► Zfs ──► mountpoint, asked for before each start of a Downstairs and with each order
//! ```
//!
//! A pool that is not there when the agent starts is waited for as a disk that is not mounted is: nothing is made in its place, nor is a
//! pool imported or the disk's own dataset mounted. Datasets of regions are the agent's, so these it mounts.

use super::STEP_LIMIT;
use crate::config::{DiskKind, DiskSettings};
use camino::{Utf8Path, Utf8PathBuf};
use datasets::{DatasetError, Datasets, Directories, Health, Zfs};
use ids::DiskId;
use problem::chain;
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Where one disk is. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Place {
    disk: DiskId,
    kind: DiskKind,
    datasets: Arc<dyn Datasets>,
    /// Where it was when it was looked at last, if that is not in the config.
    found: Arc<Mutex<Utf8PathBuf>>,
}

impl Place {
    /// `locks` is the agent's directory for the locks of disks that have none on themselves.
    pub(super) fn open(settings: &DiskSettings, locks: &Utf8Path) -> Result<Place, DatasetError> {
        let datasets: Arc<dyn Datasets> = match &settings.kind {
            DiskKind::Directory(dir) => Arc::new(Directories::open(dir, STEP_LIMIT)),
            DiskKind::Zfs(dataset) => {
                let lock = locks.join(format!("disk-{}.lock", settings.id));
                Arc::new(Zfs::open(dataset, &lock, STEP_LIMIT)?)
            }
        };
        Ok(Place { disk: settings.id, kind: settings.kind.clone(), datasets, found: Arc::default() })
    }

    /// What is on it.
    pub(super) fn datasets(&self) -> Arc<dyn Datasets> {
        Arc::clone(&self.datasets)
    }

    pub(super) fn kind(&self) -> &DiskKind {
        &self.kind
    }

    /// The dataset that the disk is, if it is one of ZFS.
    pub(super) fn zfs(&self) -> Option<&str> {
        match &self.kind {
            DiskKind::Directory(_) => None,
            DiskKind::Zfs(dataset) => Some(dataset),
        }
    }

    /// Where it was found last; empty if it was not yet.
    pub(super) fn last_found(&self) -> Utf8PathBuf {
        match &self.kind {
            DiskKind::Directory(dir) => dir.clone(),
            DiskKind::Zfs(_) => self.found.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Where it is now, or why that is not known, in words.
    pub(super) async fn directory(&self) -> Result<Utf8PathBuf, String> {
        match &self.kind {
            DiskKind::Directory(dir) => Ok(dir.clone()),
            DiskKind::Zfs(_) => self.datasets.directory().await.map_err(|error| chain(&error)),
        }
    }

    /// Sees whether the disk can be served at all, which a full one can, and one that takes no writes; and that each region's files are there.
    /// Tells where; or why it cannot be served, in words.
    pub(super) async fn ready(&self) -> Result<Utf8PathBuf, String> {
        let report = self.datasets.disk().await;
        let directory = match (report.health, report.directory) {
            (Health::Healthy | Health::Degraded | Health::Full | Health::ReadOnly, Some(directory)) => {
                directory
            }
            (health, _) => return Err(report.detail.unwrap_or_else(|| format!("{health:?}"))),
        };
        directory.clone_into(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner));
        if self.zfs().is_some() {
            self.mount_regions().await;
        }
        Ok(directory)
    }

    /// One that cannot be mounted keeps no other one from being served: its Downstairs does not have it, and calls say why.
    async fn mount_regions(&self) {
        let disk = &self.disk;
        let datasets = match self.datasets.list().await {
            Ok(listing) => listing.datasets,
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                return tracing::warn!(%disk, error, "it cannot be seen which regions are not mounted");
            }
        };
        for dataset in datasets.iter().filter(|dataset| !dataset.mounted) {
            if let Err(error) = self.datasets.find(dataset.region).await {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%disk, region = %dataset.region, error, "a region cannot be mounted");
            }
        }
    }
}

/// As the config says it.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            DiskKind::Directory(dir) => dir.fmt(f),
            DiskKind::Zfs(dataset) => dataset.fmt(f),
        }
    }
}
