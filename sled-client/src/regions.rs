//! Regions: what a coordinator asks a sled to hold, and what it holds.

use ids::{DiskId, RegionId, RegionSetId, SnapshotId, VolumeId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use utoipa::{IntoParams, ToSchema};

/// A region as it shall be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionRequest {
    /// The right of the coordinator that asks; from 1 on. A lower one than the sled knows for this region is refused.
    pub executor_epoch: u64,
    /// On which of the sled's disks.
    pub disk_id: DiskId,
    /// The volume that it is a part of; kept, and told.
    pub volume_id: VolumeId,
    /// The regions that hold the same blocks. Unless said, that of the volume's own id: a volume of one region set needs no other one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_set_id: Option<RegionSetId>,
    /// Bytes of a block: 512 or 4096.
    pub block_size: u32,
    /// Blocks of an extent.
    pub blocks_per_extent: u64,
    /// How many extents it has.
    pub extent_count: u64,
    /// Whether its writer encrypts: then each block has room for a seal.
    pub encrypted: bool,
    /// Whether nobody may ever write it: then it has a `source`.
    #[serde(default)]
    pub read_only: bool,
    /// The snapshot whose content it gets, and who has it. It is `cloning` until all of that was read back and is the same, and then
    /// `ready`: before, nobody can read it. Another request may name other members, and another rate; the snapshot stays.
    #[serde(default)]
    pub source: Option<RegionSource>,
    /// Which life of the id; 1 to 2^53-1, and more than every life before. Unless said, what `members` says, or else one that the sled
    /// chooses.
    #[serde(default)]
    pub incarnation: Option<u64>,
    /// The members that a new region set is made with, this one among them: they are full from the start, and hold zeros. All of them are made
    /// with the same list, which a construction request then names; so whoever makes a volume chooses the ids and incarnations of all before
    /// the first PUT. Empty for a region that is to be filled: regions that were all made so are none that a volume could begin with.
    #[serde(default)]
    pub members: Vec<RegionMember>,
}

/// What a read-only region gets its content from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionSource {
    /// The snapshot; the region has one of the same id, once it is ready.
    pub snapshot_id: SnapshotId,
    /// Members of the region set that have it, 1 to 3: in this order they are asked.
    pub members: Vec<RegionSourceMember>,
    /// So many bytes are copied, and read back, in a second at most; from 1 MiB on. 128 MiB, if it is null or not said. Another request may say another one,
    /// which counts from the next MiB on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1_048_576)]
    pub copy_bytes_per_second: Option<u64>,
}

/// A member that has a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionSourceMember {
    /// Its region.
    pub region_id: RegionId,
    /// Which life of that id.
    pub incarnation: u64,
    /// Where its Downstairs listens.
    #[schema(value_type = String)]
    pub address: SocketAddr,
}

/// How far a read-only region is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegionClone {
    /// Of which snapshot it is a clone.
    pub snapshot_id: SnapshotId,
    /// What is being done.
    pub phase: RegionClonePhase,
    /// Bytes of its blocks that are done in this phase; while it waits, of the one before it. Of one phase they shrink only with the end of its
    /// Downstairs.
    pub done: u64,
    /// Bytes that were copied since its Downstairs was started.
    pub copied: u64,
    /// The rate that was said, if one was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub copy_bytes_per_second: Option<u64>,
    /// SHA-256 of its content, in hex, once that is proven.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
}

/// What is being done for a read-only region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegionClonePhase {
    /// It waits: for others on its disk, or for its sources.
    Waiting,
    /// What differs is copied.
    Copying,
    /// All of it is read back, here and at a source.
    Proving,
    /// It is what it is to be.
    Proven,
    /// It cannot be made.
    Failed,
}

/// A member of a region set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionMember {
    /// Its region.
    pub region_id: RegionId,
    /// Which life of that id.
    pub incarnation: u64,
}

/// A region, as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Region {
    /// Its id.
    pub id: RegionId,
    /// Which life of the id.
    pub incarnation: u64,
    /// What has become of it.
    pub state: RegionState,
    /// Why it is not as it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Where Upstairs find it; none once it was destroyed, or if its disk is not in the agent's config.
    #[schema(value_type = Option<String>)]
    pub address: Option<SocketAddr>,
    /// The disk.
    pub disk_id: DiskId,
    /// The volume.
    pub volume_id: VolumeId,
    /// The region set.
    pub region_set_id: RegionSetId,
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks of an extent.
    pub blocks_per_extent: u64,
    /// How many extents it has.
    pub extent_count: u64,
    /// Whether each block has a seal.
    pub encrypted: bool,
    /// Bytes of its blocks.
    pub size: u64,
    /// Bytes that are reserved for it on the disk: its file as it was made, which takes them all.
    pub reserved: u64,
    /// Bytes that it may take there at most, snapshots and all; none once it was destroyed, or if its disk is not in the agent's config.
    #[serde(default)]
    pub quota: Option<u64>,
    /// Bytes that it takes on the disk; none while the disk does not say.
    pub used: Option<u64>,
    /// The highest right of a coordinator that the sled knows for it.
    pub executor_epoch: u64,
    /// Its snapshots; none while the disk does not say. A read-only region has the one that it is of.
    #[serde(default)]
    pub snapshots: Vec<SnapshotId>,
    /// Of a read-only region: of what it is a clone, and how far it is. None of another one, and while its Downstairs does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clone: Option<RegionClone>,
}

/// What has become of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RegionState {
    /// It is being made; the same PUT again goes on where that was interrupted.
    Creating,
    /// It is there.
    Created,
    /// A read-only one gets its content, and nobody can read it yet; `clone` says how far it is. The sled goes on by itself.
    Cloning,
    /// A read-only one is what it is to be: proven, and read by anybody.
    Ready,
    /// It was made, and its disk does not have it any more; or a read-only one cannot be made. `reason` says why.
    Failed,
    /// It is being destroyed; the sled goes on by itself.
    Destroying,
    /// It is gone. The id is remembered.
    Destroyed,
}

/// Regions of a sled, by id. Those that were destroyed are left out; asking for one of them tells.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RegionPage {
    /// The regions.
    pub items: Vec<Region>,
    /// Token of the next page.
    pub next_page: Option<String>,
}

/// The query of a list of regions.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct RegionListQuery {
    /// Items per page, 1 to 1000; 100 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_page` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// The query of a destruction.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ExecutorQuery {
    /// The right of the coordinator that asks; from 1 on.
    pub executor_epoch: u64,
}
