//! Datasets of ZFS, by its own commands. Owns the order of commands and what their failures mean.
//!
//! - [`names`]: what may stand on a command line.
//! - [`inventory`]: what `zfs get` tells. [`state`]: whether pool and root are as they should be, and why something has failed.
//! - [`mount`]: where files are, and how they come to be there. [`unheld`]: that nobody has them open, and their end.
//!
//! What ZFS says in words is different in each version, so decisions come from what *is*: after a command that failed it is
//! asked what there is now, and that answers whether somebody else has done it, or why it cannot be done.
//!
//! ```text
//!   create     zfs create new-… (quota, reservation, our mark) ──► zfs rename: it counts ──► zfs mount
//!   open       zfs clone  new-… (readonly, our mark)           ──► zfs rename: it counts ──► zfs mount
//!   snapshot   zfs snapshot
//!   destroy, close    no snapshots, nobody has files open ──► zfs destroy
//! ```
//!
//! `zfs create` is no one transaction: the dataset is there for a moment without its properties, and after a crash for good. So it
//! counts by its name, and a rename is one transaction. Whoever has the lock next destroys what has a name that does not
//! count. Nothing is mounted by ZFS itself (`canmount=noauto`) but by whoever asks for it, ancestors first: a dataset that
//! is mounted below a root that is not leaves directories there that keep the root from ever being mounted.
//!
//! A region's files are in `data` in its dataset, as on every other disk: one that is not mounted has no such place, so nobody writes
//! into the directory that it is to be mounted at. The root is its owner's: it is mounted with a region that is asked for, if its
//! owner has not set it otherwise, and that it is not is told.
//!
//! The lock is a file beside the agent's state, so that it never hangs with the pool: a pool belongs to one machine.

mod inventory;
mod mount;
mod names;
mod state;
mod unheld;

use crate::{
    attempts::Attempts,
    command::run,
    directories::layout::DATA,
    error::DatasetError,
    ports::Datasets,
    types::{Dataset, DiskReport, Listing, Mounts, Quotas, Size, Snapshot},
};
use async_trait::async_trait;
use camino::{Utf8Path, Utf8PathBuf};
use ids::{RegionId, SnapshotId};
use inventory::{Inventory, VERSION, VERSION_PROPERTY};
use mount::{data_of, told};
use names::Root;
pub(crate) use state::SUSPENDED;
use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    time::Duration,
};

/// Tries to mount, or to destroy what nobody is seen to hold, where ZFS calls it busy: it closes what was just unmounted a moment later.
const BUSY_TRIES_MAX: usize = 30;
/// Between them.
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// The datasets below one dataset of a pool.
#[derive(Clone, Debug)]
pub struct Zfs {
    root: Root,
    lock_file: Utf8PathBuf,
    attempts: Attempts,
}

/// Whether something is to be changed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    Looking,
    Changing,
}

impl Zfs {
    /// The dataset `root` (`pool/name`), which need not be there now. `lock_file` is the same one for everybody who uses this root,
    /// in a directory that is there; `limit` is how long one command may take.
    ///
    /// # Errors
    /// `bad_dataset_name`.
    pub fn open(root: &str, lock_file: &Utf8Path, limit: Duration) -> Result<Zfs, DatasetError> {
        let root = Root::parse(root)?;
        let attempts = Attempts::new(root.name(), limit);
        Ok(Zfs { root, lock_file: lock_file.to_owned(), attempts })
    }

    /// Says whether that may be a root's name.
    ///
    /// # Errors
    /// `bad_dataset_name`.
    pub fn check_name(root: &str) -> Result<(), DatasetError> {
        Root::parse(root).map(drop)
    }

    /// Makes the root in a pool that is there. Done if it is there.
    ///
    /// # Errors
    /// If the pool is not there, or does not work.
    pub async fn prepare(&self) -> Result<(), DatasetError> {
        match self.zfs(&["create", self.root.name()]).await {
            Ok(_) => Ok(()),
            Err(error) => self.inventory().await.map(drop).map_err(|after| match after {
                DatasetError::DiskMissing { .. } if matches!(error, DatasetError::Command(_)) => error,
                _ => after,
            }),
        }
    }

    async fn zfs(&self, arguments: &[&str]) -> Result<String, DatasetError> {
        run(&self.attempts, "zfs", arguments).await
    }

    /// Waits for the lock: several may look at once, and one may change.
    async fn lock(&self, what_for: For) -> Result<File, DatasetError> {
        let path = self.lock_file.clone();
        let lock = move || {
            let open = || {
                let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
                if what_for == For::Changing {
                    file.lock()?;
                } else {
                    file.lock_shared()?;
                }
                Ok(file)
            };
            open().map_err(|source| DatasetError::Io { operation: "lock", path: path.clone(), source })
        };
        self.attempts.blocking("get the lock of the disk", lock).await
    }

    /// All that is below the root, without what a crash has left. With the lock.
    async fn swept(&self) -> Result<Inventory, DatasetError> {
        let inventory = self.inventory().await?;
        if inventory.leftovers.is_empty() {
            return Ok(inventory);
        }
        for leftover in &inventory.leftovers {
            self.zfs(&["destroy", leftover]).await?;
        }
        self.inventory().await
    }

    fn unreadable(&self, why: &str) -> DatasetError {
        DatasetError::Stranger {
            place: self.root.to_string(),
            why: format!("`zfs get` cannot be read: {why}"),
        }
    }

    fn not_found(&self, region: RegionId) -> DatasetError {
        DatasetError::NotFound { disk: self.root.to_string(), region }
    }

    /// Refuses what has the name and is none of ours.
    fn no_stranger(inventory: &Inventory, name: &str) -> Result<(), DatasetError> {
        match inventory.stranger_at(name) {
            None => Ok(()),
            Some(stranger) => {
                Err(DatasetError::Stranger { place: stranger.name.clone(), why: stranger.why.clone() })
            }
        }
    }

    /// Makes a dataset or a clone under a name that does not count, and gives it the one that does.
    async fn make(&self, words: &[&str], properties: &[&str], name: &str) -> Result<(), DatasetError> {
        let unfinished = self.root.unfinished(name);
        let mark = format!("{VERSION_PROPERTY}={VERSION}");
        let mut arguments = vec![words[0], "-o", "canmount=noauto", "-o", &mark];
        for property in properties {
            arguments.extend(["-o", property]);
        }
        arguments.extend(&words[1..]);
        arguments.push(&unfinished);
        self.zfs(&arguments).await?;
        fault_points::reach("datasets.unfinished").await;
        if words[0] == "clone" {
            // Some versions mount a clone whatever it is told, and one that is mounted is not renamed: so it had no place to be
            // mounted at.
            self.zfs(&["inherit", "mountpoint", &unfinished]).await?;
        }
        self.zfs(&["rename", &unfinished, name]).await.map(drop)
    }

    /// The dataset that is there, if it has that size.
    async fn existing(
        &self,
        inventory: &Inventory,
        region: RegionId,
        wanted: Size,
    ) -> Result<Option<Dataset>, DatasetError> {
        Self::no_stranger(inventory, &self.root.region(region))?;
        match inventory.datasets.get(&region) {
            None => Ok(None),
            Some(entry) if entry.size == wanted => self.dataset(region, entry).await.map(Some),
            Some(entry) => Err(DatasetError::SizeDiffers { region, has: entry.size, wanted }),
        }
    }
}

#[async_trait]
impl Datasets for Zfs {
    async fn create(&self, region: RegionId, size: Size) -> Result<Dataset, DatasetError> {
        size.check()?;
        let _lock = self.lock(For::Changing).await?;
        let before = self.swept().await?;
        if let Some(dataset) = self.existing(&before, region, size).await? {
            return Ok(dataset);
        }
        if !before.root.mounted {
            self.mount_ancestors().await?;
        }
        self.writable(&before).await?;
        self.no_space(&before, size.reservation_bytes).await?;
        fault_points::reach("datasets.create_begun").await;
        let name = self.root.region(region);
        let quota = format!("quota={}", size.quota_bytes);
        let reservation = format!("reservation={}", size.reservation_bytes);
        let made = self.make(&["create"], &[&quota, &reservation], &name).await;
        fault_points::reach("datasets.created").await;
        let after = self.inventory().await?;
        match (self.existing(&after, region, size).await?, made) {
            (Some(dataset), _) => Ok(dataset),
            (None, Ok(_)) => Err(self.not_found(region)),
            (None, Err(error)) => {
                self.no_space(&after, size.reservation_bytes).await?;
                Err(self.diagnose(error).await)
            }
        }
    }

    async fn find(&self, region: RegionId) -> Result<Option<Dataset>, DatasetError> {
        let _lock = self.lock(For::Looking).await?;
        let inventory = self.inventory().await?;
        match inventory.datasets.get(&region) {
            Some(entry) => self.dataset(region, entry).await.map(Some),
            None => Self::no_stranger(&inventory, &self.root.region(region)).map(|()| None),
        }
    }

    async fn list(&self) -> Result<Listing, DatasetError> {
        let _lock = self.lock(For::Looking).await?;
        let inventory = self.inventory().await?;
        let datasets = inventory.datasets.iter().map(|(region, entry)| told(*region, entry)).collect();
        Ok(Listing { datasets, strangers: inventory.strangers })
    }

    async fn mount(&self, within: Duration) -> Result<Mounts, DatasetError> {
        self.mount_all(within).await
    }

    async fn destroy(&self, region: RegionId) -> Result<(), DatasetError> {
        let _lock = self.lock(For::Changing).await?;
        let inventory = self.swept().await?;
        let name = self.root.region(region);
        if let Some(snapshots) = inventory.snapshots.get(&region)
            && let Some(first) = snapshots.first()
        {
            return Err(DatasetError::HasSnapshots { region, first: *first, others: snapshots.len() - 1 });
        }
        Self::no_stranger(&inventory, &name)?;
        let Some(entry) = inventory.datasets.get(&region) else { return Ok(()) };
        self.writable(&inventory).await?;
        self.destroy_unheld(&name, entry, |holders| DatasetError::Busy { region, holders }).await?;
        fault_points::reach("datasets.destroyed").await;
        Ok(())
    }

    async fn snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError> {
        let _lock = self.lock(For::Changing).await?;
        let inventory = self.swept().await?;
        if !inventory.datasets.contains_key(&region) {
            return Err(self.not_found(region));
        }
        if inventory.has_snapshot(region, snapshot) {
            return Ok(());
        }
        self.writable(&inventory).await?;
        let made = self.zfs(&["snapshot", &self.root.snapshot(region, snapshot)]).await;
        fault_points::reach("datasets.snapshot_made").await;
        let Err(error) = made else { return Ok(()) };
        if self.inventory().await?.has_snapshot(region, snapshot) {
            return Ok(());
        }
        match &error {
            DatasetError::Command(failed) if failed.said.contains("out of space") => {
                Err(DatasetError::DiskFull { disk: self.root.to_string() })
            }
            _ => Err(self.diagnose(error).await),
        }
    }

    async fn snapshots(&self, region: RegionId) -> Result<Vec<Snapshot>, DatasetError> {
        let _lock = self.lock(For::Looking).await?;
        let inventory = self.inventory().await?;
        if !inventory.datasets.contains_key(&region) {
            return Err(self.not_found(region));
        }
        let snapshot = |id: &SnapshotId| {
            let clone = inventory.opened.get(&(region, *id));
            Snapshot { id: *id, opened: clone.and_then(data_of) }
        };
        Ok(inventory.snapshots.get(&region).into_iter().flatten().map(snapshot).collect())
    }

    async fn destroy_snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError> {
        let _lock = self.lock(For::Changing).await?;
        let inventory = self.swept().await?;
        if !inventory.has_snapshot(region, snapshot) {
            return Ok(());
        }
        self.writable(&inventory).await?;
        let name = self.root.snapshot(region, snapshot);
        if let Some(clone) = inventory.clone_of(&self.root, region, snapshot) {
            let holders = self.holders(clone.mountpoint.as_deref()).await?;
            return Err(self.snapshot_busy((region, snapshot), clone, holders));
        }
        let destroyed = self.zfs(&["destroy", &name]).await;
        fault_points::reach("datasets.snapshot_destroyed").await;
        let Err(error) = destroyed else { return Ok(()) };
        let after = self.inventory().await?;
        match after.clone_of(&self.root, region, snapshot) {
            _ if !after.has_snapshot(region, snapshot) => Ok(()),
            Some(clone) => Err(self.snapshot_busy((region, snapshot), clone, Vec::new())),
            None => Err(self.diagnose(error).await),
        }
    }

    async fn open_snapshot(
        &self,
        region: RegionId,
        snapshot: SnapshotId,
    ) -> Result<Utf8PathBuf, DatasetError> {
        let _lock = self.lock(For::Changing).await?;
        let inventory = self.swept().await?;
        let (of, name) = (self.root.snapshot(region, snapshot), self.root.opened(region, snapshot));
        Self::no_stranger(&inventory, &name)?;
        if let Some(clone) = inventory.opened.get(&(region, snapshot)) {
            return Ok(self.mounted(&name, clone).await?.join(DATA));
        }
        if !inventory.datasets.contains_key(&region) {
            return Err(self.not_found(region));
        }
        if !inventory.has_snapshot(region, snapshot) {
            return Err(DatasetError::SnapshotNotFound { region, snapshot });
        }
        self.writable(&inventory).await?;
        let made = self.make(&["clone", &of], &["readonly=on", "mountpoint=none"], &name).await;
        fault_points::reach("datasets.snapshot_opened").await;
        match (self.inventory().await?.opened.get(&(region, snapshot)), made) {
            (Some(clone), _) => Ok(self.mounted(&name, clone).await?.join(DATA)),
            (None, Ok(_)) => Err(DatasetError::SnapshotNotFound { region, snapshot }),
            (None, Err(error)) => Err(self.diagnose(error).await),
        }
    }

    async fn close_snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError> {
        let _lock = self.lock(For::Changing).await?;
        let inventory = self.swept().await?;
        let name = self.root.opened(region, snapshot);
        Self::no_stranger(&inventory, &name)?;
        let Some(clone) = inventory.opened.get(&(region, snapshot)) else { return Ok(()) };
        self.writable(&inventory).await?;
        let busy = |holders| self.snapshot_busy((region, snapshot), clone, holders);
        self.destroy_unheld(&name, clone, busy).await?;
        fault_points::reach("datasets.snapshot_closed").await;
        Ok(())
    }

    async fn directory(&self) -> Result<Utf8PathBuf, DatasetError> {
        self.place_of(&self.root_entry().await?)
    }

    async fn disk(&self) -> DiskReport {
        let mut report = DiskReport::unasked(self.root.name(), Quotas::Enforced);
        if let Err(error) = self.report(&mut report).await {
            report.fails(&error);
        }
        report
    }
}
