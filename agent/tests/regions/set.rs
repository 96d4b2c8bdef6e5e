//! A region set that calls have made, each region on a disk of its own, and the volume that it is.

use crate::agent::Agent;
use ids::{RegionId, RegionSetId, VolumeId};
use sled_client::regions::{RegionMember, RegionRequest, RegionState};
use volume_repair::{Cipher, ConstructionRequest, Encryption, Member, RegionSet, SubVolume};
use volume_seals::VolumeKey;

/// What was made.
pub(crate) struct Made {
    pub(crate) request: ConstructionRequest,
    pub(crate) members: Vec<RegionMember>,
}

/// Makes a region on each of the first three disks, all full from the start.
pub(crate) async fn make(agent: &Agent, block_size: u32, blocks: u64) -> Made {
    make_with(agent, block_size, blocks, None).await
}

/// The same, encrypted with this key, if there is one.
pub(crate) async fn make_with(agent: &Agent, block_size: u32, blocks: u64, key: Option<&VolumeKey>) -> Made {
    let members: Vec<RegionMember> =
        (1..=3).map(|incarnation| RegionMember { region_id: RegionId::generate(), incarnation }).collect();
    let id = VolumeId::generate();
    let set_id = RegionSetId::generate();
    let mut set = RegionSet {
        id: set_id,
        blocks_per_extent: blocks / 4,
        extent_count: 4,
        members: Vec::new(),
        leaving: Vec::new(),
        gone: Vec::new(),
        encryption: key.map(|key| Encryption { cipher: Cipher::Aes256Gcm, key_check: key.check(set_id) }),
        snapshot: None,
    };
    for (disk, member) in members.iter().enumerate() {
        let made = region(agent, disk, id, &set, block_size, *member, members.clone()).await;
        set.members.push(made);
    }
    let request = ConstructionRequest {
        id: id.0,
        config_version: 1,
        epoch: 1,
        block_size,
        sub_volumes: vec![SubVolume::RegionSet(set)],
        read_only_parent: None,
    };
    Made { request, members }
}

/// Makes one region of a set; one that is among none of its members is to be filled.
pub(crate) async fn region(
    agent: &Agent,
    disk: usize,
    volume_id: VolumeId,
    set: &RegionSet,
    block_size: u32,
    member: RegionMember,
    members: Vec<RegionMember>,
) -> Member {
    let request = RegionRequest {
        executor_epoch: 1,
        disk_id: agent.disks[disk],
        volume_id,
        region_set_id: set.id,
        block_size,
        blocks_per_extent: set.blocks_per_extent,
        extent_count: set.extent_count,
        encrypted: set.encryption.is_some(),
        read_only: false,
        source: None,
        incarnation: Some(member.incarnation),
        members,
    };
    let made = agent.client.put_region(member.region_id, &request).await.unwrap();
    let size = u64::from(block_size) * set.blocks_per_extent * set.extent_count;
    assert_eq!((made.state, made.incarnation, made.size), (RegionState::Created, member.incarnation, size));
    assert!(made.used.unwrap() > size && made.used.unwrap() <= made.reserved);
    Member { region_id: member.region_id, incarnation: member.incarnation, address: made.address.unwrap() }
}
