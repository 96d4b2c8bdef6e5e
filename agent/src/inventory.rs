//! What this host is, and what is on its disks.

use crate::{disks::DiskLook, identity::Identity};
use datasets::Dataset;
use ids::{DiskId, RegionId};
use jiff::Timestamp;
use sled_client::{
    artifacts::DatasetStatus,
    disks::{DiskStatus, RegionDataset},
    inventory::Inventory,
};

/// What does not change while the agent runs.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    identity: Identity,
    started_at: Timestamp,
    boot_id: String,
    kernel: String,
    cpus: u32,
    memory_bytes: u64,
}

impl Host {
    /// Looks at the host. What can not be read is left empty: inventory never keeps an agent from starting.
    #[must_use]
    pub fn look(name: &str, identity: Identity) -> Host {
        let system = rustix::system::sysinfo();
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Host {
            name: name.to_owned(),
            identity,
            started_at: Timestamp::now(),
            boot_id: std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
                .map(|text| text.trim().to_owned())
                .unwrap_or_default(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
            memory_bytes: system.totalram * u64::from(system.mem_unit),
        }
    }

    /// The host with its datasets and disks as they are now, and what is on those that hold regions.
    #[must_use]
    pub fn inventory(
        &self,
        cluster_id: Option<ids::ClusterId>,
        datasets: Vec<DatasetStatus>,
        (disks, region_datasets): (Vec<DiskStatus>, Vec<RegionDataset>),
    ) -> Inventory {
        Inventory {
            sled_id: self.identity.sled_id,
            name: self.name.clone(),
            agent_epoch: self.identity.agent_epoch,
            cluster_id,
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            agent_started_at: self.started_at,
            boot_id: self.boot_id.clone(),
            kernel: self.kernel.clone(),
            cpus: self.cpus,
            memory_bytes: self.memory_bytes,
            datasets,
            disks,
            region_datasets,
        }
    }
}

/// The disks, and the datasets on them, as they are told. `knows` says of which regions there is a record.
#[must_use]
pub fn on_disks(
    looks: Vec<DiskLook>,
    knows: impl Fn(RegionId) -> bool,
) -> (Vec<DiskStatus>, Vec<RegionDataset>) {
    let told = |disk_id: DiskId, dataset: Dataset| RegionDataset {
        disk_id,
        region_id: dataset.region,
        known: knows(dataset.region),
        mounted: dataset.mounted,
        reserved: dataset.size.reservation_bytes,
        quota: dataset.size.quota_bytes,
        used: dataset.used_bytes,
        available: dataset.available_bytes,
    };
    let (mut disks, mut all) = (Vec::new(), Vec::new());
    for DiskLook { status, datasets } in looks {
        all.extend(datasets.into_iter().map(|dataset| told(status.id, dataset)));
        disks.push(status);
    }
    (disks, all)
}
