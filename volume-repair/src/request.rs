//! The construction request: what a volume is made of. As JSON it is a part of the outside contract.

use ids::{RegionId, RegionSetId};
use region::{BlockSize, Geometry, Promotion};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use uuid::Uuid;
use volume_seals::{KeyCheck, Sealer, SealingSession, VolumeKey};

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
    /// How its blocks are encrypted; not, if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
}

/// How blocks are encrypted. The key is not here, and nowhere near: whoever uses the volume is given it in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    /// With what.
    pub cipher: Cipher,
    /// What shows that a key is the right one.
    pub key_check: KeyCheck,
}

/// What blocks are encrypted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cipher {
    /// AES-256-GCM, with a key for each session: `docs/BLOCK.md`.
    #[serde(rename = "aes_256_gcm")]
    Aes256Gcm,
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
    /// Its blocks cannot be read or written without a key.
    #[error("the volume is encrypted, and no key was given")]
    KeyMissing,
    /// Whoever gives a key believes that what is written is encrypted.
    #[error("a key was given, and the volume is not encrypted")]
    KeyNotWanted,
    /// It is the key of something else.
    #[error("the key is not that of the volume: its check value is {given}, and it should be {expected}")]
    KeyWrong {
        /// Of the key that was given.
        given: KeyCheck,
        /// Of the volume's key.
        expected: KeyCheck,
    },
}

impl BuildError {
    /// A name for programs, which does not change.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            BuildError::BlockSize(_) => "volume_block_size",
            BuildError::Blocks(_) => "volume_size",
            BuildError::Shape { .. } => "volume_shape",
            BuildError::Members(_) => "volume_members",
            BuildError::NoEpoch => "volume_epoch",
            BuildError::KeyMissing => "volume_key_missing",
            BuildError::KeyNotWanted => "volume_key_not_wanted",
            BuildError::KeyWrong { .. } => "volume_key_wrong",
        }
    }
}

impl ConstructionRequest {
    /// What an Upstairs of it is made with, and where its members are. One that is encrypted is never built twice with the same nonces: it
    /// draws the number of its sealing session here.
    ///
    /// # Errors
    /// [`BuildError`].
    pub fn build(
        &self,
        session: Uuid,
        key: Option<&VolumeKey>,
    ) -> Result<(upstairs::Config, Vec<SocketAddr>), BuildError> {
        if self.epoch == 0 { Err(BuildError::NoEpoch) } else { self.build_unactivated(session, key) }
    }

    /// The same, also without an epoch: it is given when the Upstairs is activated, and not lower than the one here.
    ///
    /// # Errors
    /// [`BuildError`], but not [`BuildError::NoEpoch`].
    pub fn build_unactivated(
        &self,
        session: Uuid,
        key: Option<&VolumeKey>,
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
        let geometry = Geometry { block_size, blocks, is_sealed: set.encryption.is_some() };
        if !geometry.is_possible() {
            return Err(BuildError::Blocks(blocks));
        }
        let sealer = match (set.encryption, key) {
            (None, None) => None,
            (None, Some(_)) => return Err(BuildError::KeyNotWanted),
            (Some(_), None) => return Err(BuildError::KeyMissing),
            (Some(Encryption { cipher: Cipher::Aes256Gcm, key_check: expected }), Some(key)) => {
                let given = key.check(set.id);
                if given != expected {
                    return Err(BuildError::KeyWrong { given, expected });
                }
                Some(Sealer::new(key, set.id, block_size, SealingSession::random()))
            }
        };
        let named =
            |member: &Member| region::Member { region: member.region_id, incarnation: member.incarnation };
        let config = upstairs::Config {
            set: set.id,
            geometry,
            members: set.members.iter().map(named).collect(),
            promotion: Promotion { epoch: self.epoch, session },
            accepts_possible_loss: false,
            limits: upstairs::Limits::default(),
            patience: upstairs::Patience::default(),
            sealer,
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
                encryption: None,
            })],
            read_only_parent: None,
        }
    }

    #[test]
    fn it_is_read_as_the_contract_writes_it() {
        let json = serde_json::to_value(example()).expect("it is data");
        assert_eq!(json["sub_volumes"][0]["region_set"]["members"][2]["incarnation"], 7);
        assert_eq!(json["read_only_parent"], serde_json::Value::Null);
        assert_eq!(json["sub_volumes"][0]["region_set"].get("encryption"), None);
        let read: ConstructionRequest = serde_json::from_value(json).expect("it is one");
        assert_eq!(read, example());
    }

    fn key(byte: u8) -> VolumeKey {
        VolumeKey::from_bytes(&mut [byte; 32])
    }

    fn encrypted() -> ConstructionRequest {
        let mut request = example();
        let SubVolume::RegionSet(set) = &mut request.sub_volumes[0];
        let key_check = key(1).check(set.id);
        set.encryption = Some(Encryption { cipher: Cipher::Aes256Gcm, key_check });
        request
    }

    #[test]
    fn an_encrypted_one_says_how_and_which_key_and_never_the_key() {
        let json = serde_json::to_value(encrypted()).expect("it is data");
        let encryption = &json["sub_volumes"][0]["region_set"]["encryption"];
        assert_eq!(encryption["cipher"], "aes_256_gcm");
        assert_eq!(encryption["key_check"].as_str().map(str::len), Some(32));
        assert!(!json.to_string().contains(&"01".repeat(16)));
        let read: ConstructionRequest = serde_json::from_value(json.clone()).expect("it is one");
        assert_eq!(read, encrypted());
        for (from, to) in [("aes_256_gcm", "rot13"), ("\"key_check\":\"", "\"key_check\":\"x")] {
            let other = json.to_string().replace(from, to);
            assert!(serde_json::from_str::<ConstructionRequest>(&other).is_err(), "{other}");
        }
    }

    #[test]
    fn a_key_is_given_to_encrypted_volumes_alone_and_is_theirs() {
        let built = |request: ConstructionRequest, key: Option<VolumeKey>| {
            let built = request.build(Uuid::nil(), key.as_ref());
            built.map(|(config, _)| (config.geometry.is_sealed, config.sealer.is_some()))
        };
        assert_eq!(built(encrypted(), Some(key(1))), Ok((true, true)));
        assert_eq!(built(example(), None), Ok((false, false)));
        assert_eq!(built(encrypted(), None), Err(BuildError::KeyMissing));
        assert_eq!(built(example(), Some(key(1))), Err(BuildError::KeyNotWanted));
        let wrong = built(encrypted(), Some(key(2))).expect_err("it is another one");
        assert_eq!(wrong.code(), "volume_key_wrong");
        // The key of another set is another key.
        let mut other = encrypted();
        let SubVolume::RegionSet(set) = &mut other.sub_volumes[0];
        set.id = RegionSetId(Uuid::from_u128(80));
        assert!(matches!(built(other, Some(key(1))), Err(BuildError::KeyWrong { .. })));
    }

    #[test]
    fn what_cannot_be_built_is_refused_by_name() {
        let refused = |change: fn(&mut ConstructionRequest)| {
            let mut request = example();
            change(&mut request);
            request.build(Uuid::nil(), None).expect_err("it should be refused")
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
