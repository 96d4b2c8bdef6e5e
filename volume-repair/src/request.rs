//! The construction request: what a volume is made of. As JSON it is a part of the outside contract. What is built from it is
//! [`crate::build`]'s.

use camino::Utf8PathBuf;
use ids::{RegionId, RegionSetId, SnapshotId};
use serde::{Deserialize, Serialize};
use std::{fmt, net::SocketAddr};
use upstairs::Members;
use utoipa::ToSchema;
use uuid::Uuid;
use volume_seals::KeyCheck;

/// What a volume is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConstructionRequest {
    /// The volume.
    pub id: Uuid,
    /// Newer ones replace older ones.
    pub config_version: u64,
    /// The right to write it; 0 if it is given when the volume is activated. Of a parent it is the right to read its region sets, which
    /// nobody else has at the same time.
    pub epoch: u32,
    /// Bytes of a block: 512 or 4096. A parent has the same.
    pub block_size: u32,
    /// Its parts, one behind the other.
    pub sub_volumes: Vec<SubVolume>,
    /// What lies under blocks that were never written.
    #[serde(default)]
    #[schema(no_recursion)]
    pub read_only_parent: Option<Box<ConstructionRequest>>,
}

impl ConstructionRequest {
    /// The first one of a volume of these parts, with nothing under it.
    #[must_use]
    pub fn first(id: Uuid, epoch: u32, block_size: u32, sub_volumes: Vec<SubVolume>) -> ConstructionRequest {
        ConstructionRequest { id, config_version: 1, epoch, block_size, sub_volumes, read_only_parent: None }
    }
}

/// A part of a volume.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum SubVolume {
    /// Regions that hold the same blocks. With a snapshot it is only read, as a file is.
    RegionSet(RegionSet),
    /// A file. It is only read, and so is a volume that has it among its own parts.
    File(FilePart),
    /// What a server has, which answers requests for ranges of it. It is only read, as a file is.
    Url(UrlPart),
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FilePart {
    /// Where, from the root on. It has as many blocks as it has when it is opened.
    #[schema(value_type = String)]
    pub path: Utf8PathBuf,
}

/// What a server has.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UrlPart {
    /// Where; with everything that opens the door, as a user's name and password.
    pub url: String,
    /// How many bytes; the server has to say the same.
    pub size_bytes: u64,
}

impl fmt::Debug for UrlPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL may have secrets in it.
        f.debug_struct("UrlPart").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

/// Regions that hold the same blocks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RegionSet {
    /// Which set.
    pub id: RegionSetId,
    /// Blocks of an extent, and how many extents: only their product counts.
    pub blocks_per_extent: u64,
    /// How many.
    pub extent_count: u64,
    /// The regions that there are to be; of a snapshot, those that have it.
    pub members: Vec<Member>,
    /// Those that were to be and are replaced: members as long as they are needed. Whoever has lost one for good, and says so by leaving
    /// it out here, too, and naming it among the gone, never gives out a request again that has it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaving: Vec<Member>,
    /// Regions that were members, and are lost for good, until all members are full again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gone: Vec<RegionId>,
    /// How its blocks are encrypted; not, if it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,
    /// What it held at this snapshot, in place of what it holds: it is read, by any number of volumes, and needs no epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SnapshotId>,
}

impl RegionSet {
    /// One of these members, all of which are to stay, that is written, and not encrypted.
    #[must_use]
    pub fn of(id: RegionSetId, blocks: u64, members: Vec<Member>) -> RegionSet {
        RegionSet {
            id,
            blocks_per_extent: blocks,
            extent_count: 1,
            members,
            leaving: Vec::new(),
            gone: Vec::new(),
            encryption: None,
            snapshot: None,
        }
    }
}

/// How blocks are encrypted. The key is not here, and nowhere near: whoever uses the volume is given it in another way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Encryption {
    /// With what.
    pub cipher: Cipher,
    /// What shows that a key is the right one.
    #[schema(value_type = String)]
    pub key_check: KeyCheck,
}

/// What blocks are encrypted with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub enum Cipher {
    /// AES-256-GCM, with a key for each session: `docs/BLOCK.md`.
    #[serde(rename = "aes_256_gcm")]
    Aes256Gcm,
}

/// One of the regions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = VolumeMember)]
pub struct Member {
    /// Which.
    pub region_id: RegionId,
    /// Which of those that had this id.
    pub incarnation: u64,
    /// Where it is served.
    #[schema(value_type = String)]
    pub address: SocketAddr,
}

impl From<Member> for region::Member {
    fn from(Member { region_id, incarnation, .. }: Member) -> region::Member {
        region::Member { region: region_id, incarnation }
    }
}

impl RegionSet {
    /// Which members there are to be, and which leave.
    #[must_use]
    pub fn named(&self) -> Members {
        let named = |members: &[Member]| members.iter().copied().map(Into::into).collect();
        Members { wanted: named(&self.members), leaving: named(&self.leaving), gone: self.gone.clone() }
    }

    /// All regions, those that leave behind the others.
    pub fn all(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().chain(&self.leaving)
    }
}

impl ConstructionRequest {
    /// It, and what lies under it.
    pub fn layers(&self) -> impl Iterator<Item = &ConstructionRequest> {
        std::iter::successors(Some(self), |layer| layer.read_only_parent.as_deref())
    }

    /// All region sets that have a writer: its own first, then those of what lies under it. Those of which a snapshot is read have none.
    pub fn region_sets(&self) -> impl Iterator<Item = &RegionSet> {
        self.layers().flat_map(ConstructionRequest::own_region_sets)
    }

    /// Those of them that are its own.
    pub fn own_region_sets(&self) -> impl Iterator<Item = &RegionSet> {
        self.sub_volumes.iter().filter_map(|part| match part {
            SubVolume::RegionSet(set) if set.snapshot.is_none() => Some(set),
            SubVolume::RegionSet(_) | SubVolume::File(_) | SubVolume::Url(_) => None,
        })
    }

    /// How region sets are encrypted, of all layers, also those of which a snapshot is read: who uses the volume needs their key.
    pub fn encryptions(&self) -> impl Iterator<Item = (RegionSetId, Encryption)> {
        self.layers().flat_map(|layer| &layer.sub_volumes).filter_map(|part| match part {
            SubVolume::RegionSet(set) => set.encryption.map(|encryption| (set.id, encryption)),
            SubVolume::File(_) | SubVolume::Url(_) => None,
        })
    }

    /// Whether it is used with a key.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        self.encryptions().next().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::{encrypted, example, over};

    #[test]
    fn it_is_read_as_the_contract_writes_it() {
        let json = serde_json::to_value(example()).expect("it is data");
        assert_eq!(json["sub_volumes"][0]["region_set"]["members"][2]["incarnation"], 7);
        assert_eq!(json["read_only_parent"], serde_json::Value::Null);
        assert_eq!(json["sub_volumes"][0]["region_set"].get("encryption"), None);
        assert_eq!(json["sub_volumes"][0]["region_set"].get("leaving"), None);
        let read: ConstructionRequest = serde_json::from_value(json).expect("it is one");
        assert_eq!(read, example());
    }

    #[test]
    fn files_urls_and_parents_are_read_as_the_contract_writes_them() {
        let parent = r#"{"id":"00000000-0000-0000-0000-000000000007","config_version":1,"epoch":0,"block_size":4096,
            "sub_volumes":[{"file":{"path":"/images/a.img"}},{"url":{"url":"http://u:secret@h/b","size_bytes":8192}}]}"#;
        let parent: ConstructionRequest = serde_json::from_str(parent).expect("it is one");
        assert!(!format!("{parent:?}").contains("secret"));
        let request = over(example(), parent);
        let json = serde_json::to_value(&request).expect("it is data");
        assert_eq!(json["read_only_parent"]["sub_volumes"][0]["file"]["path"], "/images/a.img");
        assert_eq!(json["read_only_parent"]["sub_volumes"][1]["url"]["size_bytes"], 8192);
        let read: ConstructionRequest = serde_json::from_value(json).expect("it is one");
        assert_eq!(read, request);
        for wrong in [
            r#"{"file":{}}"#,
            r#"{"file":{"path":"/a","mode":1}}"#,
            r#"{"url":{"url":"x"}}"#,
            r#"{"ftp":{}}"#,
        ] {
            assert!(serde_json::from_str::<SubVolume>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_region_set_may_be_read_from_a_snapshot_and_is_then_none_that_is_written() {
        let mut request = example();
        let SubVolume::RegionSet(set) = &mut request.sub_volumes[0] else { panic!("it is a set") };
        assert_eq!(serde_json::to_value(&*set).expect("it is data").get("snapshot"), None);
        let snapshot = SnapshotId(Uuid::from_u128(3));
        set.snapshot = Some(snapshot);
        let json = serde_json::to_value(&request).expect("it is data");
        let told = &json["sub_volumes"][0]["region_set"]["snapshot"];
        assert_eq!(told, "00000000-0000-0000-0000-000000000003");
        let read: ConstructionRequest = serde_json::from_value(json.clone()).expect("it is one");
        assert_eq!((&read, read.region_sets().count()), (&request, 0));
        let wrong = json.to_string().replace("00000000-0000-0000-0000-000000000003", "today");
        assert!(serde_json::from_str::<ConstructionRequest>(&wrong).is_err());
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
}
