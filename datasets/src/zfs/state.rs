//! Whether pool and root are as they should be, have room and take writes; and why a command has failed on them. Owns what the states of
//! pools mean, and that nothing is changed by looking.

use super::{
    Zfs,
    inventory::{Entry, Inventory, PROPERTIES, read_one},
};
use crate::{
    command::{CommandFailed, Ended, run},
    directories::room::margin_bytes,
    error::DatasetError,
    types::{DiskReport, FileSystem, Health, Pool},
};
use camino::Utf8PathBuf;
use ids::SnapshotId;
use std::{
    fs::{self, OpenOptions},
    io,
};

impl Zfs {
    /// The whole pool's own dataset.
    pub(super) async fn pool(&self) -> Result<Entry, DatasetError> {
        self.entry_of(self.root.pool()).await
    }

    /// The root alone.
    pub(super) async fn root_entry(&self) -> Result<Entry, DatasetError> {
        self.entry_of(self.root.name()).await
    }

    async fn entry_of(&self, name: &str) -> Result<Entry, DatasetError> {
        let arguments = ["get", "-Hp", "-o", "name,property,value", PROPERTIES, name];
        match self.zfs(&arguments).await {
            Ok(lines) => read_one(&lines).map_err(|why| self.unreadable(&why)),
            Err(error) => Err(self.diagnose(error).await),
        }
    }

    /// Where the root is mounted.
    pub(super) fn place_of(&self, root: &Entry) -> Result<Utf8PathBuf, DatasetError> {
        let disk = self.root.to_string();
        match &root.mountpoint {
            None => Err(DatasetError::NoMountpoint { disk, mountpoint: root.mountpoint_said.clone() }),
            Some(_) if !root.mounted => Err(DatasetError::NotMounted { disk }),
            Some(directory) => Ok(directory.clone()),
        }
    }

    /// What `zpool` calls the pool's health.
    async fn pool_health(&self) -> Result<String, DatasetError> {
        let health = run(&self.attempts, "zpool", &["list", "-H", "-o", "health", self.root.pool()]).await;
        health.map(|health| health.trim().to_owned())
    }

    /// Why a command has failed that does not fail on a pool that works.
    pub(super) async fn diagnose(&self, error: DatasetError) -> DatasetError {
        let DatasetError::Command(failed) = error else { return error };
        if failed.is_absent() {
            return self.no_zfs("zfs", failed);
        }
        let missing =
            |why: &str| DatasetError::DiskMissing { disk: self.root.to_string(), why: why.to_owned() };
        match self.pool_health().await {
            Err(DatasetError::Command(of_pool)) if of_pool.is_absent() => self.no_zfs("zpool", of_pool),
            Err(DatasetError::Command(of_pool)) => match of_pool.ended {
                Ended::Not(_) => missing(&of_pool.to_string()),
                _ => missing(&of_pool.said),
            },
            Err(other) => other,
            Ok(state) if has_stopped(&state) => {
                DatasetError::DiskFaulted { disk: self.root.to_string(), state }
            }
            Ok(_) => match self.is_there(self.root.name()).await {
                // A pool that is there has a dataset of its own, unless it has stopped: then it has none, whatever is asked for.
                Some(false) if self.is_there(self.root.pool()).await == Some(false) => self.suspended(),
                Some(false) => missing(&failed.said),
                _ => DatasetError::Command(failed),
            },
        }
    }

    /// Whether a dataset of that name is there. None if that is not said.
    async fn is_there(&self, name: &str) -> Option<bool> {
        match self.zfs(&["list", "-H", "-o", "name", name]).await {
            Ok(_) => Some(true),
            Err(DatasetError::Command(_)) => Some(false),
            Err(_) => None,
        }
    }

    /// Some versions call such a pool `ONLINE` as long as its devices have not failed for good.
    fn suspended(&self) -> DatasetError {
        DatasetError::DiskFaulted { disk: self.root.to_string(), state: SUSPENDED.to_owned() }
    }

    fn no_zfs(&self, program: &'static str, failed: CommandFailed) -> DatasetError {
        let disk = self.root.to_string();
        match failed.ended {
            Ended::Not(source) => DatasetError::NoZfs { disk, program, source },
            _ => DatasetError::Command(failed),
        }
    }

    pub(super) async fn report(&self, report: &mut DiskReport) -> Result<(), DatasetError> {
        let told = self.report_all(report).await;
        // Any of the questions may be the first to which a pool shows that it has stopped.
        if let (Err(DatasetError::DiskFaulted { state, .. }), Some(pool)) = (&told, &mut report.pool) {
            pool.state.clone_from(state);
        }
        told
    }

    async fn report_all(&self, report: &mut DiskReport) -> Result<(), DatasetError> {
        let state = match self.pool_health().await {
            Ok(state) => state,
            Err(error) => return Err(self.diagnose(error).await),
        };
        let pool = report.pool.insert(Pool {
            name: self.root.pool().to_owned(),
            state: state.clone(),
            quota_bytes: None,
            reservation_bytes: None,
        });
        if has_stopped(&state) {
            return Err(DatasetError::DiskFaulted { disk: self.root.to_string(), state });
        }
        let inventory = self.inventory().await?;
        let set = |bytes: u64| (bytes > 0).then_some(bytes);
        pool.quota_bytes = set(inventory.root.size.quota_bytes);
        pool.reservation_bytes = set(inventory.root.size.reservation_bytes);
        let space = inventory.space(&self.pool().await?);
        report.file_system = Some(FileSystem::Zfs);
        report.reflinks = Some(false);
        report.snapshots = Some(true);
        report.space = Some(space);
        report.directory = Some(self.place_of(&inventory.root)?);
        if let Err(DatasetError::DiskReadOnly { .. }) = self.writable(&inventory).await {
            report.health = Health::ReadOnly;
            report.detail = Some(format!("{} has readonly=on", self.root));
        } else if space.available_bytes < margin_bytes(space.capacity_bytes) {
            report.health = Health::Full;
            report.detail = Some(format!("{} bytes are left", space.available_bytes));
        } else if state != "ONLINE" {
            report.health = Health::Degraded;
            report.detail = Some(format!("its pool is {state}; see `zpool status`"));
        }
        Ok(())
    }

    pub(super) async fn no_space(
        &self,
        inventory: &Inventory,
        wanted_bytes: u64,
    ) -> Result<(), DatasetError> {
        let space = inventory.space(&self.pool().await?);
        if wanted_bytes <= space.reservable_bytes && space.reservable_bytes > 0 {
            return Ok(());
        }
        Err(DatasetError::NoSpace {
            disk: self.root.to_string(),
            wanted_bytes,
            reservable_bytes: space.reservable_bytes,
            reserved_bytes: space.reserved_bytes,
            capacity_bytes: space.capacity_bytes,
        })
    }

    /// Whether the root takes writes. Of a root that is mounted zfs-fuse always says `readonly=off`, so it is tried.
    pub(super) async fn writable(&self, inventory: &Inventory) -> Result<(), DatasetError> {
        let read_only = || DatasetError::DiskReadOnly { disk: self.root.to_string() };
        if inventory.root.read_only {
            return Err(read_only());
        }
        let root = &inventory.root;
        let Some(directory) = root.mountpoint.clone().filter(|_| root.mounted) else { return Ok(()) };
        let tried = self.attempts.blocking("try to write on the disk", move || {
            let path = directory.join(format!("new-{}", SnapshotId::generate()));
            let tried = OpenOptions::new().write(true).create_new(true).open(&path).map(drop);
            Ok(tried.and_then(|()| fs::remove_file(&path)))
        });
        match tried.await? {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => Err(read_only()),
            // What else is wrong, the pool and its figures say better.
            _ => Ok(()),
        }
    }

    /// All that is below the root, now.
    pub(super) async fn inventory(&self) -> Result<Inventory, DatasetError> {
        let arguments = ["get", "-rHp", "-o", "name,property,value", PROPERTIES, self.root.name()];
        match self.zfs(&arguments).await {
            Ok(lines) => Inventory::read(&self.root, &lines).map_err(|why| self.unreadable(&why)),
            Err(error) => Err(self.diagnose(error).await),
        }
    }
}

impl CommandFailed {
    /// Whether there is no such program.
    fn is_absent(&self) -> bool {
        matches!(&self.ended, Ended::Not(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// What `zpool` calls a pool that has stopped because its devices failed, and waits for `zpool clear`.
pub(crate) const SUSPENDED: &str = "SUSPENDED";

/// Whether a pool of that state gives nothing back.
fn has_stopped(state: &str) -> bool {
    !matches!(state, "ONLINE" | "DEGRADED")
}
