//! A volume by hand: regions on three disks, asked of their agents as a coordinator would, and the construction request that describes the
//! volume. Owns the order of the calls; who exports it is whoever has the request, or a sled's Pantry that is asked to ([`crate::HeldVolume`]).
//!
//! ```text
//!   make     PUT /regions/{id}  to three sleds, each naming all three ──► request, version 1
//!                 └── one refuses: DELETE of those that were made
//!   replace  PUT /regions/{id}  to the sled of another disk ──► request, version + 1: it is a member, and the old one leaves
//!   destroy  no Pantry holds it? DELETE of the snapshots and the region  at the sled of each one that the request names
//! ```

use crate::{cluster::Cluster, names::DiskName, record::Role};
use anyhow::{Context, Result, bail, ensure};
use ids::{DiskId, RegionId, RegionSetId, SnapshotId, VolumeId};
use sled_client::{
    SledClient,
    regions::{RegionMember, RegionRequest},
};
use std::collections::BTreeSet;
use volume_repair::{ConstructionRequest, Member, RegionSet, SubVolume};

/// Regions of a volume: a copy in each.
const COPIES: usize = 3;

/// Bytes of a block.
const BLOCK_SIZE: u32 = 4096;

/// The right of a coordinator by which regions are made by hand: lower than that of every coordinator that takes them over.
pub(crate) const EXECUTOR_EPOCH: u64 = 1;

/// Which life of its id each region is. A number of the coordinator's: it may be any, as long as a region of the same id never has it again.
const INCARNATION: u64 = 1;

impl Cluster {
    /// Makes a volume of so many bytes on these disks, or on the first disk of each of the first three sleds. If that fails no region of it
    /// stays, as far as sleds can be reached.
    pub async fn make_volume(&self, size_bytes: u64, disks: &[DiskName]) -> Result<ConstructionRequest> {
        let places = self.volume_places(disks)?;
        let blocks = size_bytes / u64::from(BLOCK_SIZE);
        ensure!(
            blocks > 0 && blocks * u64::from(BLOCK_SIZE) == size_bytes,
            "{size_bytes} bytes are not whole blocks of {BLOCK_SIZE}"
        );
        let shape = Shape {
            volume_id: VolumeId::generate(),
            set: RegionSetId::generate(),
            block_size: BLOCK_SIZE,
            blocks,
        };
        let members: Vec<RegionMember> = places
            .iter()
            .map(|_| RegionMember { region_id: RegionId::generate(), incarnation: INCARNATION })
            .collect();
        let mut made = Vec::new();
        for (place, member) in places.iter().zip(&members) {
            match self.make_region(place, *member, shape, &members).await {
                Ok(region) => made.push(region),
                Err(error) => {
                    self.remove_regions(&places, &members).await;
                    return Err(error);
                }
            }
        }
        let part = SubVolume::RegionSet(RegionSet::of(shape.set, blocks, made));
        Ok(ConstructionRequest::first(shape.volume_id.0, 1, BLOCK_SIZE, vec![part]))
    }

    /// Makes a region on a disk that may become a member of the volume: it is to be filled.
    pub async fn make_member(&self, request: &ConstructionRequest, disk: &DiskName) -> Result<Member> {
        let set = region_set(request)?;
        let shape = Shape {
            volume_id: VolumeId(request.id),
            set: set.id,
            block_size: request.block_size,
            blocks: set.blocks_per_extent * set.extent_count,
        };
        let member = RegionMember { region_id: RegionId::generate(), incarnation: INCARNATION };
        self.make_region(&self.place(disk)?, member, shape, &[]).await
    }

    /// Makes a region on the disk `to`. The next construction request, in which it is a member, and the region on the disk `from` leaves.
    pub async fn replace_region(
        &self,
        request: &ConstructionRequest,
        from: &DiskName,
        to: &DiskName,
    ) -> Result<ConstructionRequest> {
        let set = region_set(request)?;
        if self.member_on(request, to).await?.is_some() {
            bail!("the volume has a region on {to} already: its regions are each on another disk");
        }
        let old = self.member_on(request, from).await?;
        let old = old.with_context(|| format!("the volume has no region on {from}"))?;
        let new = self.make_member(request, to).await?;
        let mut next = RegionSet { members: Vec::new(), ..set.clone() };
        next.members = set.members.iter().map(|member| if *member == old { new } else { *member }).collect();
        next.leaving.push(old);
        let sub_volumes = vec![SubVolume::RegionSet(next)];
        Ok(ConstructionRequest { config_version: request.config_version + 1, sub_volumes, ..request.clone() })
    }

    /// Destroys the regions of a volume, also those that leave, with their snapshots; how many there were. What is destroyed already is no
    /// error. Refused if a sled's Pantry holds the volume; who exports it by hand is not known.
    pub async fn destroy_volume(&self, request: &ConstructionRequest) -> Result<usize> {
        let set = region_set(request)?;
        for sled in self.record()?.with_role(Role::Sled) {
            let held = self.sled(&sled.name)?.pantry_volumes().await;
            let held = held.with_context(|| format!("asking {} for the volumes that it holds", sled.name))?;
            if held.items.iter().any(|volume| volume.id.0 == request.id) {
                bail!(
                    "{} holds volume {}: DELETE /pantry/volumes/{1} there detaches it",
                    sled.name,
                    request.id
                );
            }
        }
        let regions: Vec<&Member> = set.members.iter().chain(&set.leaving).collect();
        for member in &regions {
            let (sled, client) = self.sled_of(member)?;
            let region = client.region(member.region_id).await;
            let region = region.with_context(|| format!("asking {sled} for region {}", member.region_id))?;
            for snapshot in region.snapshots {
                let deleted = client.delete_region_snapshot(region.id, snapshot, EXECUTOR_EPOCH).await;
                deleted.with_context(|| format!("deleting snapshot {snapshot} of region {}", region.id))?;
            }
            let destroyed = client.delete_region(region.id, EXECUTOR_EPOCH).await;
            destroyed.with_context(|| format!("destroying region {} of {sled}", region.id))?;
        }
        Ok(regions.len())
    }

    /// The member of a volume that lies on this disk, as its agent says.
    pub async fn member_on(&self, request: &ConstructionRequest, disk: &DiskName) -> Result<Option<Member>> {
        let place = self.place(disk)?;
        for member in &region_set(request)?.members {
            let (sled, client) = self.sled_of(member)?;
            if sled != place.sled {
                continue;
            }
            let region = client.region(member.region_id).await;
            let region = region.with_context(|| format!("asking {sled} for region {}", member.region_id))?;
            if region.disk_id == place.disk_id {
                return Ok(Some(*member));
            }
        }
        Ok(None)
    }

    /// The sled that has a member's address.
    fn sled_of(&self, member: &Member) -> Result<(String, SledClient)> {
        let (record, address) = (self.record()?, member.address.ip());
        let sled = record.with_role(Role::Sled).find(|sled| sled.address == address);
        let sled = sled.with_context(|| {
            format!("region {} is at {}, which is no sled of this cluster", member.region_id, member.address)
        })?;
        Ok((sled.name.clone(), self.sled_as_coordinator(&sled.name)?))
    }

    async fn make_region(
        &self,
        place: &Place,
        member: RegionMember,
        shape: Shape,
        members: &[RegionMember],
    ) -> Result<Member> {
        let (sled, region) = (&place.sled, member.region_id);
        let request = RegionRequest {
            executor_epoch: EXECUTOR_EPOCH,
            disk_id: place.disk_id,
            volume_id: shape.volume_id,
            region_set_id: Some(shape.set),
            block_size: shape.block_size,
            blocks_per_extent: shape.blocks,
            extent_count: 1,
            encrypted: false,
            read_only: false,
            source: None,
            incarnation: Some(member.incarnation),
            members: members.to_vec(),
        };
        let made = self.sled_as_coordinator(sled)?.put_region(region, &request).await;
        let made = made.with_context(|| format!("asking {sled} for region {region}"))?;
        let address = made.address.with_context(|| format!("{sled} tells no address of region {region}"))?;
        Ok(Member { region_id: region, incarnation: made.incarnation, address })
    }

    /// Whoever cannot be reached keeps what he has; the error that led here is the one that is told.
    async fn remove_regions(&self, places: &[Place], members: &[RegionMember]) {
        for (place, member) in places.iter().zip(members) {
            if let Ok(client) = self.sled_as_coordinator(&place.sled) {
                let _ = client.delete_region(member.region_id, EXECUTOR_EPOCH).await;
            }
        }
    }

    fn volume_places(&self, disks: &[DiskName]) -> Result<Vec<Place>> {
        let record = self.record()?;
        let chosen: Vec<DiskName> = match disks {
            [] => {
                let with_disks = record.with_role(Role::Sled).filter_map(|sled| {
                    Some(DiskName { sled: sled.name.clone(), disk: sled.disks.first()?.name.clone() })
                });
                with_disks.take(COPIES).collect()
            }
            disks => disks.to_vec(),
        };
        if chosen.len() != COPIES {
            bail!(
                "a volume has {COPIES} regions, and there are {} disks for them: `testbed up --sleds 3 --disks 1`, or more",
                chosen.len()
            );
        }
        let distinct: BTreeSet<(&str, &str)> =
            chosen.iter().map(|place| (place.sled.as_str(), place.disk.as_str())).collect();
        ensure!(distinct.len() == COPIES, "the {COPIES} regions of a volume are each on another disk");
        chosen.iter().map(|disk| self.place(disk)).collect()
    }

    fn place(&self, disk: &DiskName) -> Result<Place> {
        let (sled, record) = (disk.sled.clone(), self.record()?);
        let known = record.sled(&sled)?.disks.iter().find(|known| known.name == disk.disk);
        let disk_id = known.with_context(|| format!("{sled} has no data disk {}", disk.disk))?.id;
        Ok(Place { sled, disk_id })
    }
}

/// For each region of a volume by hand: a volume that is what that region alone held at a snapshot, which is only read.
pub fn regions_alone(
    request: &ConstructionRequest,
    snapshot: SnapshotId,
) -> Result<Vec<(RegionId, ConstructionRequest)>> {
    let set = region_set(request)?;
    let alone = set.members.iter().map(|member| {
        let blocks = set.blocks_per_extent * set.extent_count;
        let of_one = RegionSet { snapshot: Some(snapshot), ..RegionSet::of(set.id, blocks, vec![*member]) };
        let id = VolumeId::generate().0;
        let part = SubVolume::RegionSet(of_one);
        (member.region_id, ConstructionRequest::first(id, 0, request.block_size, vec![part]))
    });
    Ok(alone.collect())
}

/// The only part of a volume by hand.
fn region_set(request: &ConstructionRequest) -> Result<&RegionSet> {
    match &request.sub_volumes[..] {
        [SubVolume::RegionSet(set)] if set.snapshot.is_none() => Ok(set),
        _ => bail!("volume {} is not one region set that is written: it is not a volume by hand", request.id),
    }
}

/// What the regions of a volume have in common.
#[derive(Clone, Copy, Debug)]
struct Shape {
    volume_id: VolumeId,
    set: RegionSetId,
    block_size: u32,
    /// How many.
    blocks: u64,
}

/// Where a region is to be.
#[derive(Debug)]
struct Place {
    sled: String,
    disk_id: DiskId,
}
