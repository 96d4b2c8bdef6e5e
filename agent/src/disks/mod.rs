//! The disks that hold regions: which there are, how they do, and the process that serves each.
//!
//! ```text
//!   config: id, name, dir ──► Disk ──► Datasets            a directory per region, with room that is kept
//!                               └────► supervision (a task) ─starts, finds again─► sled-agent downstairs --datasets
//!                                                                                (outlives the agent)
//! ```
//!
//! - [`mod@assign`]: which port each has, for ever. [`supervise`]: when a Downstairs is to run, and whether it does
//!   ([`supervision`](crate::supervision)).
//! - [`serve`]: that process's own side. [`files`]: the regions of a disk, each in its dataset, as a Downstairs knows them. [`faults`]: how
//!   tests and drills break it.
//! - [`command`]: `sled-agent disk`: taking a disk into use, and ending its Downstairs.

mod assign;
pub mod command;
mod faults;
mod files;
pub mod serve;
mod supervise;

use crate::{
    config::DiskSettings,
    supervision::{Standing, Supervisor},
};
use camino::Utf8PathBuf;
use datasets::{Datasets, Directories, DiskReport, FileSystem, Health};
use downstairs::{Answer, Order};
use futures::future::join_all;
use ids::DiskId;
use problem::chain;
use sled_client::disks::{DiskHealth, DiskSpace, DiskStatus};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::sync::watch;

pub use crate::supervision::Launch;
pub use assign::{AssignError, assign};
pub use serve::{FaultSocket, Serving};
pub use supervise::Downstairs;

/// How long one step on a disk may take. A disk that works answers within a second, also under load; one that spins up within ten.
const STEP_LIMIT: Duration = Duration::from_secs(15);

/// One disk that holds regions.
#[derive(Clone, Debug)]
pub struct Disk {
    /// Its id.
    pub id: DiskId,
    /// Its name.
    pub name: String,
    dir: Utf8PathBuf,
    /// What is on it.
    pub datasets: Arc<dyn Datasets>,
    /// Where its Downstairs listens.
    pub address: SocketAddr,
    downstairs: watch::Receiver<Standing>,
}

/// All of a sled's. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Disks(Arc<Vec<Disk>>);

impl Disk {
    /// A disk, and who sees to it that it is served.
    #[must_use]
    pub fn open(
        settings: &DiskSettings,
        address: SocketAddr,
        launch: &Launch,
    ) -> (Disk, Supervisor<Downstairs>) {
        let datasets: Arc<dyn Datasets> = Arc::new(Directories::open(&settings.dir, STEP_LIMIT));
        let served = Downstairs::new(settings, address, Arc::clone(&datasets), launch);
        let supervisor = Supervisor::new(served, launch.clone());
        let disk = Disk {
            id: settings.id,
            name: settings.name.clone(),
            dir: settings.dir.clone(),
            datasets,
            address,
            downstairs: supervisor.standing(),
        };
        (disk, supervisor)
    }

    /// Asks its Downstairs for more than blocks.
    ///
    /// # Errors
    /// How it does not answer, in words.
    pub async fn ask(&self, order: Order) -> Result<Answer, String> {
        let dir = self.dir.clone();
        // It waits for a socket, and behind that for the disk.
        let asked = tokio::task::spawn_blocking(move || downstairs::ask(&dir, &order)).await;
        asked.map_err(|panic| panic.to_string())?.map_err(|error| chain(&error))
    }

    async fn status(&self) -> DiskStatus {
        let DiskReport { file_system, reflinks, space, health, detail, .. } = self.datasets.disk().await;
        DiskStatus {
            id: self.id,
            name: self.name.clone(),
            dir: self.dir.to_string(),
            health: match health {
                Health::Healthy => DiskHealth::Healthy,
                Health::Degraded => DiskHealth::Degraded,
                Health::Full => DiskHealth::Full,
                Health::ReadOnly => DiskHealth::ReadOnly,
                Health::Suspended => DiskHealth::Suspended,
                Health::Faulted => DiskHealth::Faulted,
                Health::Missing => DiskHealth::Missing,
                Health::Failed => DiskHealth::Failed,
            },
            reason: detail,
            file_system: file_system.map(|file_system| match file_system {
                FileSystem::Ext4 => "ext4".to_owned(),
                FileSystem::Xfs => "xfs".to_owned(),
                FileSystem::Btrfs => "btrfs".to_owned(),
                FileSystem::Tmpfs => "tmpfs".to_owned(),
                FileSystem::Zfs => "zfs".to_owned(),
                FileSystem::Other(number) => format!("{number:#x}"),
            }),
            reflinks,
            space: space.map(|space| DiskSpace {
                capacity: space.capacity_bytes,
                used: space.used_bytes,
                available: space.available_bytes,
                reserved: space.reserved_bytes,
                reservable: space.reservable_bytes,
            }),
            downstairs: supervise::status(&self.downstairs.borrow(), self.address),
        }
    }
}

impl Disks {
    /// These.
    #[must_use]
    pub fn new(disks: Vec<Disk>) -> Disks {
        Disks(Arc::new(disks))
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: DiskId) -> Option<&Disk> {
        self.0.iter().find(|disk| disk.id == id)
    }

    /// All of them, as they are now; all are asked at once, so that one that hangs costs one limit.
    pub async fn status(&self) -> Vec<DiskStatus> {
        join_all(self.0.iter().map(Disk::status)).await
    }
}
