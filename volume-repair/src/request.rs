//! The construction request: what a volume is made of. As JSON it is a part of the outside contract.

use ids::{RegionId, RegionSetId};
use region::{BlockSize, Geometry, Promotion};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use uuid::Uuid;

/// What a volume is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConstructionRequest {
    /// The volume.
    pub id: Uuid,
    /// Newer ones replace older ones.
    pub config_version: u64,
    /// The right to write it; 0 if it is given when the volume is activated.
    pub epoch: u32,
    /// Bytes of a block: 512 or 4096.
    pub block_size: u32,
    /// Its parts, one behind the other.
    pub sub_volumes: Vec<SubVolume>,
    /// What lies under blocks that were never written.
    #[serde(default)]
    pub read_only_parent: Option<Box<ConstructionRequest>>,
}

/// A part of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SubVolume {
    /// Regions that hold the same blocks.
    RegionSet(RegionSet),
}

/// Regions that hold the same blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegionSet {
    /// Which set.
    pub id: RegionSetId,
    /// Blocks of an extent, and how many extents: only their product counts.
    pub blocks_per_extent: u64,
    /// How many.
    pub extent_count: u64,
    /// The regions.
    pub members: Vec<Member>,
}

/// One of the regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Which.
    pub region_id: RegionId,
    /// Which of those that had this id.
    pub incarnation: u64,
    /// Where it is served.
    pub address: SocketAddr,
}

/// Why it is not built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildError {
    /// Blocks have 512 or 4096 bytes.
    #[error("blocks of {0} bytes: they have 512 or 4096")]
    BlockSize(u32),
    /// There is no such region.
    #[error("{0} blocks are none, or more than a region may have")]
    Blocks(u64),
    /// Nothing is built from several parts, or with a parent, yet.
    #[error("a volume is built from one region set without a parent, so far; this one has {parts} parts")]
    Shape {
        /// How many it has.
        parts: usize,
    },
    /// Two or three members make a set.
    #[error("a region set with {0} members: it has two or three")]
    Members(usize),
    /// No epoch, no right.
    #[error("epoch 0 is nobody's: an epoch is from 1 on")]
    NoEpoch,
}

impl ConstructionRequest {
    /// What an Upstairs of it is made with, and where its members are.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(&self, session: Uuid) -> Result<(upstairs::Config, Vec<SocketAddr>), BuildError> {
        if self.epoch == 0 { Err(BuildError::NoEpoch) } else { self.build_unactivated(session) }
    }

    /// The same, also without an epoch: it is given when the Upstairs is activated, and not lower than the one here.
    ///
    /// # Errors
    /// [`BuildError`], but not [`BuildError::NoEpoch`].
    pub fn build_unactivated(
        &self,
        session: Uuid,
    ) -> Result<(upstairs::Config, Vec<SocketAddr>), BuildError> {
        let block_size = BlockSize::of(self.block_size).ok_or(BuildError::BlockSize(self.block_size))?;
        let [SubVolume::RegionSet(set)] = &self.sub_volumes[..] else {
            return Err(BuildError::Shape { parts: self.sub_volumes.len() });
        };
        if self.read_only_parent.is_some() {
            return Err(BuildError::Shape { parts: 1 });
        }
        if !(2..=3).contains(&set.members.len()) {
            return Err(BuildError::Members(set.members.len()));
        }
        let blocks = set.blocks_per_extent.saturating_mul(set.extent_count);
        let geometry = Geometry { block_size, blocks, is_sealed: false };
        if !geometry.is_possible() {
            return Err(BuildError::Blocks(blocks));
        }
        let named =
            |member: &Member| region::Member { region: member.region_id, incarnation: member.incarnation };
        let config = upstairs::Config {
            set: set.id,
            geometry,
            members: set.members.iter().map(named).collect(),
            promotion: Promotion { epoch: self.epoch, session },
            accepts_possible_loss: false,
            limits: upstairs::Limits::default(),
        };
        Ok((config, set.members.iter().map(|member| member.address).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> ConstructionRequest {
        let member = |number: u128| Member {
            region_id: RegionId(Uuid::from_u128(number)),
            incarnation: 7,
            address: SocketAddr::from(([127, 0, 0, 1], 12_400)),
        };
        ConstructionRequest {
            id: Uuid::from_u128(9),
            config_version: 1,
            epoch: 3,
            block_size: 4_096,
            sub_volumes: vec![SubVolume::RegionSet(RegionSet {
                id: RegionSetId(Uuid::from_u128(8)),
                blocks_per_extent: 1_000,
                extent_count: 2,
                members: (1..=3).map(member).collect(),
            })],
            read_only_parent: None,
        }
    }

    #[test]
    fn it_is_read_as_the_contract_writes_it() {
        let json = serde_json::to_value(example()).expect("it is data");
        assert_eq!(json["sub_volumes"][0]["region_set"]["members"][2]["incarnation"], 7);
        assert_eq!(json["read_only_parent"], serde_json::Value::Null);
        let read: ConstructionRequest = serde_json::from_value(json).expect("it is one");
        assert_eq!(read, example());
    }

    #[test]
    fn what_cannot_be_built_is_refused_by_name() {
        let refused = |change: fn(&mut ConstructionRequest)| {
            let mut request = example();
            change(&mut request);
            request.build(Uuid::nil()).expect_err("it should be refused")
        };
        assert_eq!(refused(|request| request.block_size = 1_024), BuildError::BlockSize(1_024));
        assert_eq!(refused(|request| request.epoch = 0), BuildError::NoEpoch);
        assert_eq!(refused(|request| request.sub_volumes.clear()), BuildError::Shape { parts: 0 });
        assert_eq!(
            refused(|request| {
                let SubVolume::RegionSet(set) = &mut request.sub_volumes[0];
                set.members.truncate(1);
            }),
            BuildError::Members(1)
        );
        assert_eq!(
            refused(|request| {
                let SubVolume::RegionSet(set) = &mut request.sub_volumes[0];
                set.extent_count = u64::MAX;
            }),
            BuildError::Blocks(u64::MAX)
        );
    }
}
