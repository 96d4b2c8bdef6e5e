//! `volume create`: regions in directories, and the file that describes the volume.

use super::{
    arguments::{Place, Size},
    keys,
};
use camino::Utf8Path;
use downstairs::Disk;
use durable_fs::RealDisk;
use ids::{RegionId, RegionSetId};
use region::{BlockSize, Geometry, Identity, List, ListVersion, NewRegion, Position};
use std::{error::Error, fs, sync::Arc};
use uuid::Uuid;
use volume_repair::{Cipher, ConstructionRequest, Encryption, Member, RegionSet, SubVolume};

pub(super) fn create(
    Size(size): Size,
    block_bytes: u32,
    places: &[Place],
    output: &Utf8Path,
    key_file: Option<&Utf8Path>,
) -> Result<(), Box<dyn Error>> {
    let set = RegionSetId::generate();
    let key = key_file.map(keys::read).transpose()?;
    let members: Vec<Member> = places
        .iter()
        .map(|place| Member {
            region_id: RegionId::generate(),
            // So large that any program that reads JSON keeps it exactly.
            incarnation: Uuid::new_v4().as_u64_pair().1 >> 11,
            address: place.address,
        })
        .collect();
    let blocks = size / u64::from(block_bytes.max(1));
    if blocks * u64::from(block_bytes) != size {
        return Err(format!("{size} bytes are not a whole number of blocks of {block_bytes}").into());
    }
    let request = ConstructionRequest {
        id: Uuid::now_v7(),
        config_version: 1,
        epoch: 1,
        block_size: block_bytes,
        sub_volumes: vec![SubVolume::RegionSet(RegionSet {
            id: set,
            blocks_per_extent: blocks,
            extent_count: 1,
            members: members.clone(),
            encryption: key
                .as_ref()
                .map(|key| Encryption { cipher: Cipher::Aes256Gcm, key_check: key.check(set) }),
        })],
        read_only_parent: None,
    };
    // What cannot be used is not made.
    request.build(Uuid::nil(), key.as_ref())?;
    if output.exists() {
        return Err(format!("{output} exists already").into());
    }
    let block_size = BlockSize::of(block_bytes).ok_or("blocks have 512 or 4096 bytes")?;
    let geometry = Geometry { block_size, blocks, is_sealed: key.is_some() };
    let full = members
        .iter()
        .map(|member| region::Member { region: member.region_id, incarnation: member.incarnation });
    let list =
        List { version: ListVersion { epoch: 0, number: 1 }, base: Position::NONE, full: full.collect() };
    for (place, member) in places.iter().zip(&members) {
        fs::create_dir_all(&place.directory)?;
        let disk = Disk::new(Arc::new(RealDisk::new(&place.directory)));
        disk.create(&NewRegion {
            identity: Identity { region: member.region_id, set, geometry },
            incarnation: member.incarnation,
            list: list.clone(),
            salt: Uuid::new_v4().as_u64_pair().1,
        })?;
    }
    fs::write(output, serde_json::to_vec_pretty(&request)?)?;
    println!("volume {} of {size} bytes: {output}", request.id);
    Ok(())
}
