//! Datasets that are mounted: where their files are, and how they come to be there. Owns what is mounted before what.

use super::{BUSY_PAUSE, BUSY_TRIES_MAX, For, Zfs, inventory::Entry};
use crate::{
    directories::layout::DATA,
    error::DatasetError,
    mounts::is_mounted,
    types::{Dataset, Mounts},
};
use camino::Utf8PathBuf;
use durable_fs::{RealDisk, Storage};
use ids::RegionId;
use std::time::Duration;
use tokio::time::{Instant, sleep};

impl Zfs {
    pub(super) async fn dataset(&self, region: RegionId, entry: &Entry) -> Result<Dataset, DatasetError> {
        let directory = self.mounted(&self.root.region(region), entry).await?;
        let directory = self.with_data(directory).await?;
        Ok(Dataset { directory, mounted: true, ..told(region, entry) })
    }

    /// Where the files are in a dataset that is mounted; made if a crash has come before that.
    async fn with_data(&self, mountpoint: Utf8PathBuf) -> Result<Utf8PathBuf, DatasetError> {
        let disk = self.root.to_string();
        let make = move || {
            let dataset = RealDisk::new(&mountpoint);
            let made = match dataset.create_directory(DATA.into()) {
                Err(error) if error.is_already_exists() => Ok(()),
                made => made.and_then(|()| dataset.sync_directory("".into())),
            };
            match made {
                Ok(()) => Ok(mountpoint.join(DATA)),
                Err(error) if error.is_no_space() => Err(DatasetError::DiskFull { disk }),
                Err(error) if error.is_read_only() => Err(DatasetError::DiskReadOnly { disk }),
                Err(error) => Err(DatasetError::Storage(error)),
            }
        };
        self.attempts.blocking("make a region's directory", make).await
    }

    /// The directory of a dataset that is there, mounted now if it was not.
    pub(super) async fn mounted(&self, name: &str, entry: &Entry) -> Result<Utf8PathBuf, DatasetError> {
        let directory = mountpoint(name, entry)?;
        if entry.mounted {
            return seen_at(name, directory);
        }
        self.mount_ancestors().await?;
        self.mount_at(name, directory).await
    }

    /// Mounts what is not. The listing may have become old when a region's turn comes, which costs a command that fails.
    pub(super) async fn mount_all(&self, within: Duration) -> Result<Mounts, DatasetError> {
        let until = Instant::now() + within;
        let inventory = {
            let _lock = self.lock(For::Looking).await?;
            self.inventory().await?
        };
        let away: Vec<_> = inventory.datasets.into_iter().filter(|(_, entry)| !entry.mounted).collect();
        if !away.is_empty() {
            self.mount_ancestors().await?;
        }
        let (mut mounts, mut away) = (Mounts::default(), away.into_iter());
        while let Some((region, entry)) = away.next() {
            match self.mount_one(region, &entry).await {
                Ok(()) => mounts.mounted += 1,
                Err(error) => mounts.failed.push((region, error)),
            }
            // What hangs for one hangs for all.
            let hangs = matches!(mounts.failed.last(), Some((_, DatasetError::DiskHangs { .. })));
            if hangs || Instant::now() >= until {
                mounts.left = away.len();
                break;
            }
        }
        Ok(mounts)
    }

    /// Mounts a region's dataset, whose ancestors are mounted. The lock is its own: whoever changes something waits for this one alone.
    async fn mount_one(&self, region: RegionId, entry: &Entry) -> Result<(), DatasetError> {
        let _lock = self.lock(For::Looking).await?;
        let name = self.root.region(region);
        let directory = self.mount_at(&name, mountpoint(&name, entry)?).await?;
        self.with_data(directory).await.map(drop)
    }

    /// Mounts it where that is.
    async fn mount_at(&self, name: &str, directory: Utf8PathBuf) -> Result<Utf8PathBuf, DatasetError> {
        match self.mount_unless(name).await {
            Ok(()) => seen_at(name, directory),
            Err(error) => Err(self.diagnose(error).await),
        }
    }

    /// Mounts it, if nobody else does at the same time.
    async fn mount_unless(&self, name: &str) -> Result<(), DatasetError> {
        let mut tries = 1..=BUSY_TRIES_MAX;
        loop {
            let Err(error) = self.zfs(&["mount", name]).await else { return Ok(()) };
            if let Ok(true) = self.is_mounted(name).await {
                return Ok(());
            }
            // What was unmounted a moment ago is busy until it is closed.
            let is_busy = matches!(&error, DatasetError::Command(failed) if failed.said.contains("busy"));
            if !is_busy || tries.next().is_none() {
                return Err(error);
            }
            sleep(BUSY_PAUSE).await;
        }
    }

    /// Mounts the root and what it is in, where ZFS would. If the root is there nothing above it is mounted: that would hide it. If it is not there
    /// after that, its owner wants it so, and nothing is mounted below it: the directories for that would keep the root from ever being mounted.
    pub(super) async fn mount_ancestors(&self) -> Result<(), DatasetError> {
        let name = self.root.name();
        if self.is_mounted(name).await? {
            return Ok(());
        }
        let ends = name.match_indices('/').map(|(end, _)| end).chain([name.len()]);
        for ancestor in ends.map(|end| &name[..end]) {
            let lines =
                self.zfs(&["get", "-H", "-o", "value", "mounted,canmount,mountpoint", ancestor]).await?;
            let may =
                matches!(lines.lines().collect::<Vec<_>>()[..], ["no", "on", at] if at.starts_with('/'));
            if may {
                self.mount_unless(ancestor).await?;
            }
        }
        match self.is_mounted(name).await? {
            true => Ok(()),
            false => Err(DatasetError::NotMounted { disk: self.root.to_string() }),
        }
    }

    async fn is_mounted(&self, name: &str) -> Result<bool, DatasetError> {
        let mounted = self.zfs(&["get", "-H", "-o", "value", "mounted", name]).await?;
        Ok(mounted.trim() == "yes")
    }
}

/// Where it is to be mounted.
fn mountpoint(name: &str, entry: &Entry) -> Result<Utf8PathBuf, DatasetError> {
    entry.mountpoint.clone().ok_or_else(|| DatasetError::Stranger {
        place: name.to_owned(),
        why: "ZFS does not mount it: set its mountpoint".to_owned(),
    })
}

/// The directory, if the kernel has that dataset there, too. ZFS calls one mounted that something else hides, and says nothing of who sees it: what is
/// looked for there, or written, would be somebody else's.
fn seen_at(name: &str, directory: Utf8PathBuf) -> Result<Utf8PathBuf, DatasetError> {
    match is_mounted(name, &directory) {
        Ok(true) => Ok(directory),
        Ok(false) => Err(DatasetError::Hidden { dataset: name.to_owned(), directory }),
        Err(source) => Err(DatasetError::Io { operation: "see what is mounted at", path: directory, source }),
    }
}

/// Where the files of a dataset of ours are, or would be if it were mounted.
pub(super) fn data_of(entry: &Entry) -> Option<Utf8PathBuf> {
    entry.mountpoint.as_ref().map(|mountpoint| mountpoint.join(DATA))
}

/// What a listing tells.
pub(super) fn told(region: RegionId, entry: &Entry) -> Dataset {
    Dataset {
        region,
        directory: data_of(entry).unwrap_or_default(),
        mounted: entry.mounted,
        size: entry.size,
        used_bytes: entry.used_bytes,
        available_bytes: entry.available_bytes,
    }
}
