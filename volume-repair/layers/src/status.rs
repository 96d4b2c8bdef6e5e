//! What a volume believes, at one instant: plain data for people and programs, and a part of the outside contract as JSON. What it says of a
//! region set is the Upstairs' own [`Status`].

use crate::scrub::{ScrubPhase, ScrubWait};
use region::Member;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr};
use upstairs::{MemberStatus, PhaseName, Status, Wait, WaitCode};

/// What a volume believes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VolumeStatus {
    /// It is one region set.
    Upstairs(Box<Status>),
    /// It has several parts, or others lie under it.
    Layers(LayersStatus),
}

/// A volume of several parts, and what lies under it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayersStatus {
    /// Bytes of a block.
    pub block_bytes: u32,
    /// How many there are.
    pub blocks: u64,
    /// Whether nothing can be written, because one of its own parts is only read: a file, a URL, a snapshot.
    pub is_read_only: bool,
    /// Whether it was activated: what clients ask before waits.
    pub is_activated: bool,
    /// What clients have asked and was not begun.
    pub jobs_waiting: u64,
    /// What was begun and not answered.
    pub jobs_under_way: u64,
    /// The volume's own parts; under them, its parent's; and so on.
    pub layers: Vec<LayerStatus>,
    /// What is copied from what lies under it, if that was begun.
    #[serde(default)]
    pub scrub: Option<ScrubStatus>,
}

/// How far what lies under a volume is copied into it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// How far.
    pub phase: ScrubPhase,
    /// Bytes, from the first one on, that were gone through: they are the volume's own, or nobody's. Never less than before.
    pub bytes_done: u64,
    /// Bytes that its parent covers.
    pub bytes: u64,
    /// Bytes that were copied since the export began.
    pub copied_bytes: u64,
    /// Bytes of zeros that were written as such since then.
    pub zeroed_bytes: u64,
    /// What it waits for, if it waits.
    pub waits: Option<ScrubWait>,
}

/// Parts, one behind the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerStatus {
    /// How many blocks there are.
    pub blocks: u64,
    /// The parts.
    pub parts: Vec<PartStatus>,
}

/// A part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartStatus {
    /// Its first block in the layer.
    pub first_block: u64,
    /// How many it has.
    pub blocks: u64,
    /// What it is, and believes.
    #[serde(flatten)]
    pub kind: PartKind,
}

/// What a part is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartKind {
    /// Regions that hold the same blocks, and what their writer believes.
    RegionSet(Box<Status>),
    /// A file.
    File(SourceStatus),
    /// What a server has.
    Url(SourceStatus),
    /// What a region set has held.
    Snapshot(SourceStatus),
}

/// Something that is only read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceStatus {
    /// Where it is, without what may be secret.
    pub name: String,
    /// Fetches that have worked.
    pub fetches: u64,
    /// Bytes of them.
    pub fetched_bytes: u64,
    /// Fetches that have not, though they were tried several times if that was of any use.
    pub failed: u64,
    /// Pieces of reads that wait for their turn.
    pub waiting: u64,
    /// Fetches that are under way.
    pub under_way: u64,
    /// Why the last fetch has not worked, if it has not.
    pub trouble: Option<String>,
}

impl VolumeStatus {
    /// The region sets: the volume's own first, then those that lie under it.
    pub fn sets(&self) -> impl Iterator<Item = &Status> {
        let (alone, layers) = match self {
            VolumeStatus::Upstairs(status) => (Some(&**status), &[][..]),
            VolumeStatus::Layers(status) => (None, &status.layers[..]),
        };
        alone.into_iter().chain(layers.iter().flat_map(LayerStatus::sets))
    }

    /// All members, those of each region set together.
    pub fn members(&self) -> impl Iterator<Item = &MemberStatus> {
        self.sets().flat_map(|set| &set.members)
    }

    /// Says where each member is served.
    pub fn set_addresses(&mut self, addresses: &BTreeMap<Member, SocketAddr>) {
        let sets: Vec<&mut Status> = match self {
            VolumeStatus::Upstairs(status) => vec![status],
            VolumeStatus::Layers(status) => {
                let parts = status.layers.iter_mut().flat_map(|layer| &mut layer.parts);
                parts.filter_map(|part| part.kind.set_mut()).collect()
            }
        };
        for member in sets.into_iter().flat_map(|set| &mut set.members) {
            let named = Member { region: member.region, incarnation: member.incarnation };
            member.address = addresses.get(&named).copied();
        }
    }

    /// How far it is: as far as the region set that is least far; without any, it reads when it was activated. It has ended if one of its
    /// own region sets has. One under it that has ended takes nothing with it but what is seen through to it: [`VolumeStatus::ended_parents`].
    #[must_use]
    pub fn phase(&self) -> PhaseName {
        let distance = |phase: &PhaseName| match phase {
            PhaseName::Fenced => 0,
            PhaseName::Lost => 1,
            PhaseName::Idle => 2,
            PhaseName::Gathering => 3,
            PhaseName::BringingUp => 4,
            PhaseName::Listing => 5,
            PhaseName::Active => 6,
        };
        let others = self.parents().filter(|set| !has_ended(set));
        let phases = self.own_sets().chain(others).map(|set| set.phase);
        phases.min_by_key(distance).unwrap_or(match self {
            VolumeStatus::Layers(status) if !status.is_activated => PhaseName::Idle,
            _ => PhaseName::Active,
        })
    }

    /// Region sets under it that have ended: what would be seen through to them is not to be had.
    pub fn ended_parents(&self) -> impl Iterator<Item = &Status> {
        self.parents().filter(|set| has_ended(set))
    }

    /// Bytes of a block.
    #[must_use]
    pub fn block_bytes(&self) -> u32 {
        match self {
            VolumeStatus::Upstairs(status) => status.block_bytes,
            VolumeStatus::Layers(status) => status.block_bytes,
        }
    }

    /// How many blocks it has.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        match self {
            VolumeStatus::Upstairs(status) => status.blocks,
            VolumeStatus::Layers(status) => status.blocks,
        }
    }

    /// Its own region sets.
    pub fn own_sets(&self) -> impl Iterator<Item = &Status> {
        let own = match self {
            VolumeStatus::Upstairs(_) => 1,
            VolumeStatus::Layers(status) => status.layers.first().map_or(0, |layer| layer.sets().count()),
        };
        self.sets().take(own)
    }

    fn parents(&self) -> impl Iterator<Item = &Status> {
        self.sets().skip(self.own_sets().count())
    }

    /// The right to write its own region sets; none before it is activated, or if it has none.
    #[must_use]
    pub fn epoch(&self) -> Option<u32> {
        self.own_sets().next()?.epoch
    }

    /// Whether clients get errors, because a region set has waited for as long as they are to.
    #[must_use]
    pub fn is_giving_up(&self) -> bool {
        self.sets().any(|set| set.is_giving_up)
    }

    /// For whom it waits, in words, if some region set of its own does not have two full members that are there: nothing is kept by fewer. One that
    /// has ended says so itself.
    #[must_use]
    pub fn waits_for_two_members(&self) -> Option<String> {
        let lacks = |set: &Status, wait: &Wait| match set.phase {
            PhaseName::Fenced | PhaseName::Lost => false,
            PhaseName::Active => matches!(wait.code, WaitCode::SecondMember | WaitCode::Silence),
            _ => true,
        };
        let waits = self.own_sets().flat_map(|set| set.waits.iter().filter(move |wait| lacks(set, wait)));
        let words: Vec<&str> = waits.map(|wait| &*wait.words).collect();
        (!words.is_empty()).then(|| words.join("; "))
    }

    /// What does not go on.
    pub fn waits(&self) -> impl Iterator<Item = &Wait> {
        self.sets().flat_map(|set| &set.waits)
    }
}

fn has_ended(set: &Status) -> bool {
    matches!(set.phase, PhaseName::Fenced | PhaseName::Lost)
}

impl LayerStatus {
    /// The region sets among the parts.
    pub fn sets(&self) -> impl Iterator<Item = &Status> {
        self.parts.iter().filter_map(|part| match &part.kind {
            PartKind::RegionSet(status) => Some(&**status),
            PartKind::File(_) | PartKind::Url(_) | PartKind::Snapshot(_) => None,
        })
    }
}

impl PartKind {
    fn set_mut(&mut self) -> Option<&mut Status> {
        if let PartKind::RegionSet(status) = self { Some(status) } else { None }
    }
}
