//! What a sled is.

use crate::{
    artifacts::DatasetStatus,
    disks::{DiskStatus, RegionDataset},
};
use ids::{AgentEpoch, ClusterId, SledId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One sled, as its agent sees it now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Inventory {
    /// Its id, kept on its disks.
    pub sled_id: SledId,
    /// Its name, from the agent's config.
    pub name: String,
    /// Which life of the agent this is.
    pub agent_epoch: AgentEpoch,
    /// The cluster that its artifact config belongs to; none before the first config.
    pub cluster_id: Option<ClusterId>,
    /// The agent's version.
    pub agent_version: String,
    /// When the agent started.
    #[schema(value_type = String, format = DateTime)]
    pub agent_started_at: Timestamp,
    /// The kernel's id of this boot.
    pub boot_id: String,
    /// The kernel's release.
    pub kernel: String,
    /// Processors that are online.
    pub cpus: u32,
    /// Bytes of memory.
    pub memory_bytes: u64,
    /// The M.2 datasets.
    pub datasets: Vec<DatasetStatus>,
    /// The disks that hold regions, in the order of the agent's config.
    #[serde(default)]
    pub disks: Vec<DiskStatus>,
    /// The datasets of regions on those disks that say what they have; by disk, then by region.
    #[serde(default)]
    pub region_datasets: Vec<RegionDataset>,
}
