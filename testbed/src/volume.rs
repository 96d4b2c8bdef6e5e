//! A volume by hand: regions on three disks, asked of their agents as a coordinator would, and the file that describes the volume. Owns
//! the order of the calls; who exports it is whoever has the file, or a sled's Pantry that is asked to.
//!
//! ```text
//!   PUT /regions/{id}  to three sleds, each naming all three ──► construction request ──► sled-agent volume export --volume FILE
//!        └── one refuses: DELETE of those that were made
//! ```

use crate::{cluster::Cluster, names::DiskName, record::Role};
use anyhow::{Context, Result, bail, ensure};
use ids::{DiskId, RegionId, RegionSetId, VolumeId};
use sled_client::{
    pantry::{Activate, AttachQuery, PantryVolumeState},
    regions::{RegionMember, RegionRequest},
};
use std::collections::BTreeSet;
use volume_repair::{ConstructionRequest, Member, RegionSet, SubVolume};

/// Regions of a volume: a copy in each.
const COPIES: usize = 3;

/// Bytes of a block.
const BLOCK_SIZE: u32 = 4096;

/// The right of a coordinator by which regions are made by hand: lower than that of every coordinator that takes them over.
const EXECUTOR_EPOCH: u64 = 1;

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
        let volume_id = VolumeId::generate();
        let set = RegionSetId::generate();
        // A number of the coordinator's: it may be any, as long as a region of the same id never has it again.
        let members: Vec<RegionMember> =
            places.iter().map(|_| RegionMember { region_id: RegionId::generate(), incarnation: 1 }).collect();
        let mut made = Vec::new();
        for (place, member) in places.iter().zip(&members) {
            let request = RegionRequest {
                executor_epoch: EXECUTOR_EPOCH,
                disk_id: place.disk_id,
                volume_id,
                region_set_id: Some(set),
                block_size: BLOCK_SIZE,
                blocks_per_extent: blocks,
                extent_count: 1,
                encrypted: false,
                read_only: false,
                source: None,
                incarnation: Some(member.incarnation),
                members: members.clone(),
            };
            match self.make_region(&place.sled, member.region_id, &request).await {
                Ok(region) => made.push(region),
                Err(error) => {
                    self.remove_regions(&places, &members).await;
                    return Err(error);
                }
            }
        }
        let part = SubVolume::RegionSet(RegionSet::of(set, blocks, made));
        Ok(ConstructionRequest::first(volume_id.0, 1, BLOCK_SIZE, vec![part]))
    }

    /// Has the Pantry of a sled hold a volume, as a coordinator would; on return it is active.
    pub async fn attach_volume(&self, sled: &str, request: &ConstructionRequest) -> Result<()> {
        let query = AttachQuery { executor_epoch: EXECUTOR_EPOCH, activate: Activate::Now };
        let (id, client) = (VolumeId(request.id), self.sled_as_coordinator(sled)?);
        let attached = client.put_pantry_volume(id, query, request).await;
        let volume = attached.with_context(|| format!("asking {sled} to hold volume {id}"))?.volume;
        let state = volume.map(|volume| (volume.state, volume.reason));
        ensure!(
            matches!(state, Some((PantryVolumeState::Active, _))),
            "{sled} holds volume {id}, and it is not active: {state:?}"
        );
        Ok(())
    }

    async fn make_region(&self, sled: &str, region: RegionId, request: &RegionRequest) -> Result<Member> {
        let made = self.sled_as_coordinator(sled)?.put_region(region, request).await;
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
        chosen
            .into_iter()
            .map(|DiskName { sled, disk }| {
                let known = record.sled(&sled)?.disks.iter().find(|known| known.name == disk);
                let disk_id = known.with_context(|| format!("{sled} has no data disk {disk}"))?.id;
                Ok(Place { sled, disk_id })
            })
            .collect()
    }
}

/// Where a region is to be.
#[derive(Debug)]
struct Place {
    sled: String,
    disk_id: DiskId,
}
