//! The members that a newer request names, and the one that a volume runs by does not: who is looked at before the request is applied, and
//! what shows that one of them can never be a member. Knows no socket; who looks is whoever holds the volume.

use crate::{
    change::ChangeError,
    request::{ConstructionRequest, RegionSet, SubVolume},
};
use ids::{RegionSetId, SnapshotId};
use region::{BlockSize, Geometry, Member};
use std::{collections::BTreeSet, net::SocketAddr};
use upstairs::Trouble;

/// A member that the volume has not had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Newcomer {
    /// Of this set.
    pub set: RegionSetId,
    /// Of which this snapshot is read from it, if it is not written.
    pub snapshot: Option<SnapshotId>,
    /// What its blocks have to be.
    pub geometry: Geometry,
    /// Who it is.
    pub member: Member,
    /// Where it is served.
    pub address: SocketAddr,
}

impl Newcomer {
    /// What it means for the request that this was found.
    #[must_use]
    pub fn unfit(&self, why: Trouble) -> ChangeError {
        ChangeError::Unfit { region: self.member.region, set: self.set, source: why }
    }
}

/// Those that `theirs` names, and `ours` does not.
#[must_use]
pub(crate) fn newcomers(ours: &ConstructionRequest, theirs: &ConstructionRequest) -> Vec<Newcomer> {
    let known: BTreeSet<Member> =
        sets(ours).flat_map(RegionSet::all).map(|member| (*member).into()).collect();
    let Some(block_size) = BlockSize::of(theirs.block_size) else { return Vec::new() };
    let all = sets(theirs).flat_map(|set| {
        let blocks = set.blocks_per_extent.saturating_mul(set.extent_count);
        let geometry = Geometry { block_size, blocks, is_sealed: set.encryption.is_some() };
        set.all().map(move |member| Newcomer {
            set: set.id,
            snapshot: set.snapshot,
            geometry,
            member: (*member).into(),
            address: member.address,
        })
    });
    all.filter(|newcomer| !known.contains(&newcomer.member)).collect()
}

/// All of them, also those that are only read.
fn sets(request: &ConstructionRequest) -> impl Iterator<Item = &RegionSet> {
    request.layers().flat_map(|layer| &layer.sub_volumes).filter_map(|part| match part {
        SubVolume::RegionSet(set) => Some(set),
        SubVolume::File(_) | SubVolume::Url(_) => None,
    })
}
