//! Requests that tests begin with.

use crate::request::{
    Cipher, ConstructionRequest, Encryption, FilePart, Member, RegionSet, SubVolume, UrlPart,
};
use ids::{RegionId, RegionSetId, SnapshotId};
use std::net::SocketAddr;
use uuid::Uuid;
use volume_seals::VolumeKey;

/// A region set of 2,000 blocks that no other number has.
pub(crate) fn set(number: u128) -> RegionSet {
    let member = |place: u128| Member {
        region_id: RegionId(Uuid::from_u128(number * 10 + place)),
        incarnation: 7,
        address: SocketAddr::from(([127, 0, 0, 1], 12_400)),
    };
    RegionSet {
        extent_count: 2,
        ..RegionSet::of(RegionSetId(Uuid::from_u128(number)), 1_000, (1..=3).map(member).collect())
    }
}

/// What it held at a snapshot of the same number.
pub(crate) fn snapshot_of(set: RegionSet) -> RegionSet {
    RegionSet { snapshot: Some(SnapshotId(set.id.0)), ..set }
}

pub(crate) fn of(parts: Vec<SubVolume>) -> ConstructionRequest {
    ConstructionRequest::first(Uuid::from_u128(9), 3, 4_096, parts)
}

pub(crate) fn example() -> ConstructionRequest {
    of(vec![SubVolume::RegionSet(set(8))])
}

pub(crate) fn over(child: ConstructionRequest, parent: ConstructionRequest) -> ConstructionRequest {
    ConstructionRequest { read_only_parent: Some(Box::new(parent)), ..child }
}

pub(crate) fn file(path: &str) -> SubVolume {
    SubVolume::File(FilePart { path: path.into() })
}

pub(crate) fn url(url: &str, size_bytes: u64) -> SubVolume {
    SubVolume::Url(UrlPart { url: url.to_owned(), size_bytes })
}

pub(crate) fn key(byte: u8) -> VolumeKey {
    VolumeKey::from_bytes(&mut [byte; 32])
}

/// With key 1.
pub(crate) fn sealed(mut set: RegionSet) -> RegionSet {
    let key_check = key(1).check(set.id);
    set.encryption = Some(Encryption { cipher: Cipher::Aes256Gcm, key_check });
    set
}

/// With key 1.
pub(crate) fn encrypted() -> ConstructionRequest {
    of(vec![SubVolume::RegionSet(sealed(set(8)))])
}
