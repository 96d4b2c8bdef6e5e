//! What a region was asked to be, and what has become of it. Owns what a request may say.

use super::error::RegionError;
use downstairs::{CLONE_SOURCES_MAX, Order, Source};
use ids::{DiskId, RegionId, RegionSetId, SnapshotId, VolumeId};
use region::{BlockSize, Geometry, Identity, List, ListVersion, MEMBERS_MAX, Member, NewRegion, Position};
use serde::{Deserialize, Serialize};
use sled_client::regions::{RegionMember, RegionRequest, RegionSource};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The greatest incarnation: any program that reads JSON keeps it exactly.
const INCARNATION_MAX: u64 = (1 << 53) - 1;

/// The least rate of a clone: it is made by so many bytes at a time, and until these have had their time no other rate counts.
const COPY_RATE_MIN: u64 = 1 << 20;

/// Deleted snapshots that are remembered of a region, as it does itself: nearly four times as many as it may have, and more than any coordinator has calls under way for
/// one. Beyond that the ones that were deleted first are forgotten.
pub const SNAPSHOTS_DELETED_MAX: usize = downstairs::SNAPSHOTS_DELETED_MAX;

/// What a region is made of: as long as that stays, it is the same request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// Where it is.
    pub disk: DiskId,
    /// The volume.
    pub volume: VolumeId,
    /// The region set.
    pub set: RegionSetId,
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks of an extent.
    pub blocks_per_extent: u64,
    /// Extents.
    pub extent_count: u64,
    /// Whether blocks have seals.
    pub encrypted: bool,
    /// The members that the set is made with, by id; none if it is to be filled.
    pub members: Vec<RegionMember>,
    /// Where a read-only region gets its content from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<RegionSource>,
}

/// What a coordinator asks for, after it was found to be possible.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Which region.
    pub region: RegionId,
    /// The right of who asks.
    pub executor_epoch: u64,
    /// Which life of the id, if that was said.
    pub incarnation: Option<u64>,
    /// What it shall be.
    pub spec: Spec,
}

/// What has become of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It may be there in part.
    Creating,
    /// It is there, for all that the agent did.
    Created,
    /// It may be there in part.
    Destroying,
    /// It is gone.
    Destroyed,
}

/// All that is remembered of a region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// Which.
    pub region: RegionId,
    /// The highest right of a coordinator that was seen.
    pub executor_epoch: u64,
    /// Which life of the id.
    pub incarnation: u64,
    /// What has become of it.
    pub state: State,
    /// What it shall be, or was.
    pub spec: Spec,
    /// Bytes that its dataset has.
    pub quota_bytes: u64,
    /// Snapshots of this id that were deleted, the newest last: each of them is deleted for good, whatever is still on its way.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub deleted_snapshots: Vec<SnapshotId>,
}

/// All that is remembered of a region that was to be destroyed before it was made: the PUT of it may still be on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// Which.
    pub region: RegionId,
    /// The highest right of a coordinator that has asked for that.
    pub executor_epoch: u64,
}

impl Wanted {
    /// Reads a request.
    ///
    /// # Errors
    /// [`RegionError::BadRequest`].
    pub fn read(region: RegionId, request: RegionRequest) -> Result<Wanted, RegionError> {
        check_epoch(request.executor_epoch)?;
        check_source(region, &request)?;
        let incarnation = incarnation_of(region, &request)?;
        let mut members = request.members;
        members.sort_unstable();
        let spec = Spec {
            disk: request.disk_id,
            volume: request.volume_id,
            set: request.region_set_id.unwrap_or(RegionSetId(request.volume_id.0)),
            block_size: request.block_size,
            blocks_per_extent: request.blocks_per_extent,
            extent_count: request.extent_count,
            encrypted: request.encrypted,
            members,
            source: request.source,
        };
        spec.geometry()?;
        Ok(Wanted { region, executor_epoch: request.executor_epoch, incarnation, spec })
    }
}

/// Refuses a right that nobody has.
///
/// # Errors
/// [`RegionError::BadRequest`].
pub fn check_epoch(executor_epoch: u64) -> Result<(), RegionError> {
    let is_one = (1..=INCARNATION_MAX).contains(&executor_epoch);
    if is_one {
        Ok(())
    } else {
        Err(bad(format!("executor_epoch is {executor_epoch}; it may be 1 to 2^53-1")))
    }
}

/// Refuses a read-only region without a source, a source of a region that is written, and one that cannot be.
fn check_source(region: RegionId, request: &RegionRequest) -> Result<(), RegionError> {
    let Some(RegionSource { members, copy_bytes_per_second, .. }) = &request.source else {
        return match request.read_only {
            true => {
                Err(bad("a read-only region has a source: nobody writes it, so it gets its content there"
                    .to_owned()))
            }
            false => Ok(()),
        };
    };
    if !request.read_only {
        return Err(bad(
            "a region with a source is read_only: what it gets is a snapshot, which never changes".to_owned(),
        ));
    }
    if !request.members.is_empty() {
        return Err(bad(
            "a read-only region is no member that is full from the start: members is empty".to_owned()
        ));
    }
    if !(1..=CLONE_SOURCES_MAX).contains(&members.len()) {
        return Err(bad(format!(
            "source has {} members; it may have 1 to {CLONE_SOURCES_MAX}",
            members.len()
        )));
    }
    if let Some(rate) = copy_bytes_per_second.filter(|rate| *rate < COPY_RATE_MIN) {
        return Err(bad(format!(
            "copy_bytes_per_second of source is {rate}; it may be from {COPY_RATE_MIN} on, or nothing"
        )));
    }
    let mut seen = BTreeSet::from([region]);
    if let Some(twice) = members.iter().find(|member| !seen.insert(member.region_id)) {
        return Err(bad(format!("region {} stands twice in source, or is its own", twice.region_id)));
    }
    Ok(())
}

/// Which life of the id a request means, if it says.
fn incarnation_of(region: RegionId, request: &RegionRequest) -> Result<Option<u64>, RegionError> {
    let members = &request.members;
    if members.len() > MEMBERS_MAX {
        return Err(bad(format!(
            "there are {} members; a region set has {MEMBERS_MAX} at most",
            members.len()
        )));
    }
    let incarnations = members.iter().map(|member| member.incarnation).chain(request.incarnation);
    for incarnation in incarnations {
        if !(1..=INCARNATION_MAX).contains(&incarnation) {
            return Err(bad(format!("an incarnation is {incarnation}; it may be 1 to 2^53-1")));
        }
    }
    let mut seen = BTreeSet::new();
    if let Some(twice) = members.iter().find(|member| !seen.insert(member.region_id)) {
        return Err(bad(format!("region {} stands twice among the members", twice.region_id)));
    }
    let as_member = members.iter().find(|member| member.region_id == region).map(|member| member.incarnation);
    match (as_member, request.incarnation) {
        (None, said) if members.is_empty() => Ok(said),
        (None, _) => Err(bad(format!(
            "region {region} is not among the members that its set is made with; a region that is to be filled has none"
        ))),
        (Some(member), Some(said)) if member != said => {
            Err(bad(format!("incarnation is {said}, and the members have this region with {member}")))
        }
        (as_member, _) => Ok(as_member),
    }
}

fn bad(why: String) -> RegionError {
    RegionError::BadRequest { why }
}

impl Spec {
    /// Its blocks.
    ///
    /// # Errors
    /// [`RegionError::BadRequest`] if there is no such region.
    pub(super) fn geometry(&self) -> Result<Geometry, RegionError> {
        let block_size = BlockSize::of(self.block_size)
            .ok_or_else(|| bad(format!("block_size is {}; it may be 512 or 4096", self.block_size)))?;
        let product = self.blocks_per_extent.checked_mul(self.extent_count);
        let geometry = product.map(|blocks| Geometry { block_size, blocks, is_sealed: self.encrypted });
        geometry.filter(|geometry| geometry.is_possible()).ok_or_else(|| {
            bad(format!(
                "{} extents of {} blocks are none, or more than a region can have",
                self.extent_count, self.blocks_per_extent
            ))
        })
    }

    /// Bytes of its blocks.
    pub(super) fn size_bytes(&self) -> u64 {
        self.blocks_per_extent.saturating_mul(self.extent_count).saturating_mul(u64::from(self.block_size))
    }
}

/// An incarnation that nobody has had.
pub(super) fn new_incarnation() -> u64 {
    // 52 bits, so that there are greater ones.
    (Uuid::new_v4().as_u64_pair().0 >> 12).max(1)
}

impl Record {
    /// Whether that is the snapshot that it is a clone of.
    pub(super) fn is_of(&self, snapshot: SnapshotId) -> bool {
        self.spec.source.as_ref().is_some_and(|source| source.snapshot_id == snapshot)
    }

    /// The same, with that snapshot deleted.
    pub(super) fn without_snapshot(mut self, snapshot: SnapshotId) -> Record {
        if !self.deleted_snapshots.contains(&snapshot) {
            let too_many = (self.deleted_snapshots.len() + 1).saturating_sub(SNAPSHOTS_DELETED_MAX);
            self.deleted_snapshots.drain(..too_many);
            self.deleted_snapshots.push(snapshot);
        }
        self
    }

    /// What its Downstairs is to do for it, if it gets its content elsewhere.
    pub(super) fn clone_order(&self) -> Option<Order> {
        let source = |member: &sled_client::regions::RegionSourceMember| Source {
            region: member.region_id,
            incarnation: Some(member.incarnation),
            address: member.address,
        };
        let from = self.spec.source.as_ref()?;
        let sources = from.members.iter().map(source).collect();
        Some(Order::Clone { region: self.region, sources, bytes_per_second: from.copy_bytes_per_second })
    }

    /// What is made of it on the disk.
    pub(super) fn new_region(&self, geometry: Geometry) -> NewRegion {
        let full: Vec<Member> = self
            .spec
            .members
            .iter()
            .map(|member| Member { region: member.region_id, incarnation: member.incarnation })
            .collect();
        let list = if full.is_empty() {
            List::default()
        } else {
            List { version: ListVersion { epoch: 0, number: 1 }, base: Position::NONE, full }
        };
        NewRegion {
            identity: Identity { region: self.region, set: self.spec.set, geometry },
            incarnation: self.incarnation,
            list,
            salt: Uuid::new_v4().as_u64_pair().1,
        }
    }
}
