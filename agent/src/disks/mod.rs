//! The disks that hold regions: which there are, how they do, and the process that serves each.
//!
//! ```text
//!   config: id, name, dir or zfs ──► Disk ──► Datasets            a directory per region, with room that is kept
//!                                      └────► supervision (a task) ─starts, finds again─► sled-agent downstairs --datasets
//!                                                                                       (outlives the agent)
//! ```
//!
//! - [`mod@assign`]: which port each has, for ever. [`supervise`]: when a Downstairs is to run, and whether it does
//!   ([`supervision`](crate::supervision)).
//! - [`place`]: where each is, a directory or a dataset of ZFS, and when it can be served. [`room`]: what is asked of it for a
//!   region. [`looks`]: that one look at all of its regions is under way at a time.
//! - [`serve`]: that process's own side. [`presence`]: that it ends when its disk is gone. [`files`]: the regions of a disk, each in its
//!   dataset, as a Downstairs knows them. [`faults`]: how
//!   tests and drills break it.
//! - [`command`]: `sled-agent disk`: taking a disk into use, and ending its Downstairs.

mod assign;
pub mod command;
mod faults;
mod files;
mod looks;
mod place;
mod presence;
mod room;
pub mod serve;
mod supervise;

use crate::{
    config::{self, DiskSettings},
    supervision::{Standing, Supervisor},
};
use camino::Utf8Path;
use datasets::{
    Attempts, Dataset, DatasetError, Datasets, DiskReport, FileSystem, Health, Listing, Stranger,
};
use downstairs::{Answer, Order};
use durable_fs::DiskFaults;
use futures::future::join_all;
use ids::DiskId;
use looks::Looks;
use place::Place;
use problem::chain;
pub(crate) use room::Promising;
use sled_client::disks::{
    DiskHealth, DiskKind, DiskSpace, DiskStatus, DiskStranger, DownstairsState, DownstairsStatus, ZfsStatus,
};
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
    place: Place,
    looks: Looks,
    room: room::Room,
    /// What is on it.
    pub datasets: Arc<dyn Datasets>,
    /// Where its Downstairs listens.
    pub address: SocketAddr,
    downstairs: watch::Receiver<Standing>,
}

/// One as it is now, and what is on it.
#[derive(Clone, Debug)]
pub struct DiskLook {
    /// How it does.
    pub status: DiskStatus,
    /// The datasets of its regions; none while it does not say.
    pub datasets: Vec<Dataset>,
}

/// All of a sled's. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Disks(Arc<Vec<Disk>>);

impl Disk {
    /// A disk, and who sees to it that it is served. `locks` is a directory that is there, for locks that are not on the disks themselves;
    /// `faults` are those of the agent's own work there, if it can be faulted.
    ///
    /// # Errors
    /// `bad_dataset_name`.
    pub fn open(
        settings: &DiskSettings,
        address: SocketAddr,
        launch: &Launch,
        locks: &Utf8Path,
        faults: Option<DiskFaults>,
    ) -> Result<(Disk, Supervisor<Downstairs>), DatasetError> {
        let place = Place::open(settings, locks, faults)?;
        let served = Downstairs::new(settings, address, place.clone(), launch);
        let supervisor = Supervisor::new(served, launch.clone());
        let disk = Disk {
            id: settings.id,
            name: settings.name.clone(),
            datasets: place.datasets(),
            place,
            looks: Looks::default(),
            room: room::Room::default(),
            address,
            downstairs: supervisor.standing(),
        };
        Ok((disk, supervisor))
    }

    /// What holds its datasets.
    #[must_use]
    pub fn kind(&self) -> &config::DiskKind {
        self.place.kind()
    }

    /// Asks its Downstairs for more than blocks.
    ///
    /// # Errors
    /// How it does not answer, in words.
    pub async fn ask(&self, order: Order) -> Result<Answer, String> {
        let dir = self.place.directory().await?;
        let limit = if order.is_slow() { downstairs::ANSWER_MAX + STEP_LIMIT } else { STEP_LIMIT };
        // It waits for a socket, which is on the disk, and behind that for the disk. If only the process does nothing, it ends by itself before this limit.
        let ask = move || Ok(downstairs::ask(&dir, &order).map_err(|error| chain(&error)));
        let asked = self.place.asks().within(limit).blocking("ask its Downstairs", ask).await;
        asked.map_err(|error| chain(&error))?
    }

    /// Attempts at the files of its regions: whoever looks at them is not to wait longer than for the disk itself.
    #[must_use]
    pub fn attempts(&self) -> &Attempts {
        self.place.attempts()
    }

    async fn look(&self) -> DiskLook {
        let (report, listing) = tokio::join!(self.datasets.disk(), self.datasets.list());
        let mut status = self.status(report);
        let datasets = match listing {
            Ok(Listing { datasets, strangers }) => {
                let told = |Stranger { name, why }| DiskStranger { name, reason: why };
                status.strangers = strangers.into_iter().map(told).collect();
                datasets
            }
            Err(error) => {
                // One that cannot be asked has said why.
                status.reason.get_or_insert_with(|| chain(&error));
                Vec::new()
            }
        };
        DiskLook { status, datasets }
    }

    fn status(&self, report: DiskReport) -> DiskStatus {
        let downstairs = self.served(&report);
        let DiskReport { directory, pool, file_system, reflinks, space, health, detail, .. } = report;
        let zfs = self.place.zfs().map(|dataset| ZfsStatus {
            dataset: dataset.to_owned(),
            pool_state: pool.as_ref().map(|pool| pool.state.clone()),
            quota: pool.as_ref().and_then(|pool| pool.quota_bytes),
            reservation: pool.as_ref().and_then(|pool| pool.reservation_bytes),
        });
        // The config has said it, whether it is there or not.
        let dir = if zfs.is_none() { Some(self.place.last_found()) } else { directory };
        DiskStatus {
            id: self.id,
            name: self.name.clone(),
            kind: if zfs.is_some() { DiskKind::Zfs } else { DiskKind::Directory },
            dir: dir.map(Into::into),
            zfs,
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
            strangers: Vec::new(),
            downstairs,
        }
    }

    /// The process that serves it. While the disk gives nothing back, one that is there can do nothing but wait for it.
    fn served(&self, report: &DiskReport) -> DownstairsStatus {
        let mut downstairs = supervise::status(&self.downstairs.borrow(), self.address);
        let waits = matches!(report.health, Health::Suspended | Health::Faulted);
        if waits && downstairs.state == DownstairsState::Running {
            downstairs.state = DownstairsState::WaitingForDisk;
            downstairs.reason.clone_from(&report.detail);
        }
        downstairs
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

    /// Which there are.
    pub fn ids(&self) -> impl Iterator<Item = DiskId> + '_ {
        self.0.iter().map(|disk| disk.id)
    }

    /// All of them, as they are now; all are asked at once, so that one that hangs costs one limit.
    pub async fn look(&self) -> Vec<DiskLook> {
        join_all(self.0.iter().map(Disk::look)).await
    }
}
