//! The disks of a sled: its M.2s, and those that hold regions.

use crate::artifacts::DatasetStatus;
use ids::{DiskId, RegionId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use utoipa::ToSchema;

/// All disks of a sled. It has a few, so they are one page.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiskPage {
    /// The M.2 datasets, in the order in which they are read.
    pub items: Vec<DatasetStatus>,
    /// The disks that hold regions, in the order of the agent's config.
    #[serde(default)]
    pub disks: Vec<DiskStatus>,
    /// Token of the next page.
    pub next_page: Option<String>,
}

/// A disk that holds regions, as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DiskStatus {
    /// Its id, from the agent's config.
    pub id: DiskId,
    /// Its name, from the agent's config.
    pub name: String,
    /// What holds its datasets.
    #[serde(default)]
    pub kind: DiskKind,
    /// Where it is mounted; of a dataset of ZFS, none while its pool does not say so.
    pub dir: Option<String>,
    /// Of a dataset of ZFS, what its pool says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zfs: Option<ZfsStatus>,
    /// How it does.
    pub health: DiskHealth,
    /// Why it is not healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What keeps the files: `ext4`, `xfs`, `btrfs`, `tmpfs`, `zfs`, or the number that the kernel gives; none if it cannot be asked.
    pub file_system: Option<String>,
    /// Whether files can share blocks there; none if it was not tried.
    pub reflinks: Option<bool>,
    /// Its bytes; none if it cannot be asked.
    pub space: Option<DiskSpace>,
    /// What lies in the place of datasets and is none, or none that can be read: left as it is. At most 64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strangers: Vec<DiskStranger>,
    /// The process that serves its regions.
    pub downstairs: DownstairsStatus,
}

/// Something on a disk that is none of the sled's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskStranger {
    /// Its name there.
    pub name: String,
    /// Why it is none.
    pub reason: String,
}

/// The dataset of a region on one of the sled's disks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegionDataset {
    /// The disk.
    pub disk_id: DiskId,
    /// Whose it is.
    pub region_id: RegionId,
    /// Whether the sled knows the region: one that nobody knows was made before the sled's records were lost, or on another sled.
    pub known: bool,
    /// Whether its files are there.
    pub mounted: bool,
    /// Bytes that nobody else gets.
    pub reserved: u64,
    /// Bytes that it may take at most, snapshots and all.
    pub quota: u64,
    /// Bytes that it takes.
    pub used: u64,
    /// Bytes that may still be written.
    pub available: u64,
}

/// What holds a disk's datasets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskKind {
    /// A directory of a mounted file system.
    #[default]
    Directory,
    /// A dataset of a pool.
    Zfs,
}

/// A disk that is a dataset of ZFS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ZfsStatus {
    /// Its name, from the agent's config: `pool/dataset`.
    pub dataset: String,
    /// What `zpool` calls the health of its pool: `ONLINE`, `DEGRADED`, `UNAVAIL`, `SUSPENDED`, …; none if it cannot be asked.
    pub pool_state: Option<String>,
    /// Bytes that the dataset may have at most, all regions together; none if its owner has set none.
    pub quota: Option<u64>,
    /// Bytes of the pool that are kept for it; none as above.
    pub reservation: Option<u64>,
}

/// Bytes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DiskSpace {
    /// What it can hold in all.
    pub capacity: u64,
    /// What is taken, by whomever.
    pub used: u64,
    /// What may still be written.
    pub available: u64,
    /// What is reserved for regions, written or not.
    pub reserved: u64,
    /// What may still be reserved.
    pub reservable: u64,
}

/// How a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskHealth {
    /// As it should be.
    Healthy,
    /// Works, with less redundancy than it was made with.
    Degraded,
    /// Less is left than is kept for the file system itself.
    Full,
    /// Takes no writes.
    ReadOnly,
    /// Does not answer in time.
    Suspended,
    /// Its pool is there and gives nothing back.
    Faulted,
    /// It is not mounted, or was never prepared.
    Missing,
    /// Asking fails otherwise.
    Failed,
}

/// The process that serves a disk's regions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DownstairsStatus {
    /// Whether it serves.
    pub state: DownstairsState,
    /// Where it listens, or will.
    #[schema(value_type = String)]
    pub address: SocketAddr,
    /// Its pid, while there is one.
    pub pid: Option<u32>,
    /// How often this life of the agent has started it again after it had ended.
    pub restarts: u64,
    /// Why it does not serve.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Whether a Downstairs serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DownstairsState {
    /// Its disk is not there; or it is, and gives nothing back.
    WaitingForDisk,
    /// It runs, and does not listen yet.
    Starting,
    /// It listens.
    Running,
    /// It has ended, and is started again in a moment.
    BackingOff,
    /// Another process has the disk, which is not provably the one that serves it for this agent: it is left alone.
    HeldElsewhere,
}
