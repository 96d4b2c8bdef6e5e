//! What an Upstairs is made with, what it is asked, and what it says.

use crate::replacing::Members;
use bytes::Bytes;
use ids::{RegionId, RegionSetId, SnapshotId};
use region::{Geometry, Position, Promotion};
use region_wire::{LOOK_MAX, Request};
use serde::{Deserialize, Serialize};
use std::{num::NonZeroU64, time::Duration};
use volume_seals::Sealer;

/// What it is made with. Not `Clone`, because of its sealer: a second one would seal other bytes with the same nonces.
#[derive(Debug)]
pub struct Config {
    /// The region set.
    pub set: RegionSetId,
    /// What its regions are like.
    pub geometry: Geometry,
    /// Its regions: full ones and others, and those that leave.
    pub members: Members,
    /// The right to write, and this process. If the right is given by [`crate::Upstairs::activate_with`], the least that is taken.
    pub promotion: Promotion,
    /// Whether one full member is enough to begin with, though others may have what it never had.
    pub accepts_possible_loss: bool,
    /// How much it keeps and sends ahead.
    pub limits: Limits,
    /// How long clients wait for what may come again.
    pub patience: Patience,
    /// What seals and opens blocks; there, if and only if the regions are sealed.
    pub sealer: Option<Sealer>,
}

/// How much an Upstairs keeps and sends ahead. The default is what volumes are served with; a simulation takes less, so that members
/// fall behind all the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of blocks in the window at most. More is not begun: so much is the memory of a volume under load.
    pub window_bytes: usize,
    /// Writes in the window at most.
    pub window_entries: usize,
    /// Bytes of blocks that are on their way to one member at most.
    pub in_flight_bytes: usize,
    /// Writes that are on their way to one member at most.
    pub in_flight_entries: usize,
    /// Blocks that are compared at a time when a member is filled or brought up, at most [`region_wire::LOOK_MAX`].
    pub range_blocks: u64,
    /// Bytes of blocks that members which are filled are given in a second at most; none: as many as there are.
    pub repair_rate: Option<NonZeroU64>,
}

/// How long clients wait for what may come again. By default for ever: a guest whose disk waits goes on when it is there again, and one
/// that gets errors may not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Patience {
    /// While fewer than two full members are there. Then reads and writes end with [`JobError::TooFewMembers`].
    pub for_members: Option<Duration>,
    /// While fewer than two full members have room on their disks. Then writes end with [`JobError::NoRoom`].
    pub for_room: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            window_bytes: 32 << 20,
            window_entries: 8_192,
            in_flight_bytes: 8 << 20,
            in_flight_entries: 2_048,
            range_blocks: LOOK_MAX,
            repair_rate: None,
        }
    }
}

/// One of the members, by its place, which somebody else may have when it is a member no more: [`crate::Upstairs::members`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId(pub usize);

/// What a client has asked, by a number that it chooses and uses once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// What a client asks.
#[derive(Clone, Debug)]
pub enum Job {
    /// The content of these blocks.
    Read {
        /// The first.
        first: u64,
        /// How many.
        count: u64,
    },
    /// What these blocks hold, without their content. Told of the first of them, as many as one message tells of.
    Look {
        /// The first.
        first: u64,
        /// How many.
        count: u64,
    },
    /// New content.
    Write {
        /// The first block.
        first: u64,
        /// Bytes of whole blocks.
        bytes: Bytes,
        /// Whether it is durable before it is done.
        is_durable: bool,
    },
    /// Zeros.
    Zero {
        /// The first block.
        first: u64,
        /// How many.
        count: u64,
        /// Whether they are durable before it is done.
        is_durable: bool,
    },
    /// What was done before is to be durable.
    Flush,
    /// What every full member that is there has of these blocks, checked and compared. What is wrong with one of them is healed.
    Compare {
        /// The first.
        first: u64,
        /// How many.
        count: u64,
    },
    /// What was asked before is to be kept as it is then, by all full members.
    Snapshot(SnapshotId),
    /// A snapshot is not needed any more.
    DeleteSnapshot(SnapshotId),
}

impl Job {
    /// Whether it changes nothing.
    pub(crate) fn is_reading(&self) -> bool {
        matches!(self, Job::Read { .. } | Job::Look { .. } | Job::Compare { .. })
    }

    /// Whether it makes or keeps something: what cannot be done of what is only read.
    #[must_use]
    pub fn writes(&self) -> bool {
        !self.is_reading() && !matches!(self, Job::Flush)
    }

    /// The blocks that it is about, if it is about some: the first one, and how many. `size` is that of a block, in bytes.
    #[must_use]
    pub fn blocks(&self, size: usize) -> Option<(u64, u64)> {
        match self {
            Job::Read { first, count }
            | Job::Look { first, count }
            | Job::Compare { first, count }
            | Job::Zero { first, count, .. } => Some((*first, *count)),
            Job::Write { first, bytes, .. } => Some((*first, (bytes.len() / size) as u64)),
            Job::Flush | Job::Snapshot(_) | Job::DeleteSnapshot(_) => None,
        }
    }
}

/// A part of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// Bytes.
    Bytes(Bytes),
    /// So many blocks of zeros.
    Zeros(u64),
    /// So many blocks that nobody ever wrote.
    Never(u64),
}

/// Blocks that follow each other and are alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// How many.
    pub blocks: u64,
    /// What they hold.
    pub holds: Holds,
}

/// What a block holds, without its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// Nobody ever wrote it.
    Never,
    /// Zeros, which were written.
    Zeros,
    /// Bytes.
    Bytes,
}

/// What a member has of blocks that were compared. A part of the outside contract, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CopyCompared {
    /// Its region.
    #[serde(rename = "region_id")]
    pub region: RegionId,
    /// Blocks of it that were looked at until it was known what is right. Fewer than of others, if it was not there, or not full, all the time.
    pub blocks: u64,
    /// Those that were not what they should be: their bytes do not have their checksums or seals, or two others have something else. Also
    /// of one that was lost behind that: then they count as not healed.
    #[serde(rename = "wrong_blocks")]
    pub wrong: u64,
    /// Those of them that are, by now.
    #[serde(rename = "healed_blocks")]
    pub healed: u64,
    /// Those that differ from another member's, and nobody can say who is right, or they are of another write.
    #[serde(rename = "differing_blocks")]
    pub differing: u64,
    /// The first block that is wrong still, or differs.
    #[serde(rename = "first_bad_block", default, skip_serializing_if = "Option::is_none")]
    pub first_left: Option<u64>,
}

impl CopyCompared {
    /// Nothing was looked at yet.
    #[must_use]
    pub fn new(region: RegionId) -> CopyCompared {
        CopyCompared { region, blocks: 0, wrong: 0, healed: 0, differing: 0, first_left: None }
    }

    /// Adds what was found in other blocks of it.
    pub fn add(&mut self, other: &CopyCompared) {
        self.blocks += other.blocks;
        self.wrong += other.wrong;
        self.healed += other.healed;
        self.differing += other.differing;
        self.first_left = self.first_left.into_iter().chain(other.first_left).min();
    }
}

/// Why a job was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// Somebody else may write now.
    #[error("epoch {} has taken over from epoch {ours}", by.epoch)]
    Fenced {
        /// Who.
        by: Promotion,
        /// The epoch of this one.
        ours: u32,
    },
    /// The power of too many members was gone at once.
    #[error("the members have lost writes that were acknowledged, up to {position}, and not flushed")]
    Lost {
        /// The last of them.
        position: Position,
    },
    /// No member has the right bytes of a block.
    #[error("no member has the right bytes of block {block}")]
    Unreadable {
        /// Which.
        block: u64,
    },
    /// A member has a block with its checksum, and the volume's key has not sealed it for this place: somebody has changed it. Or the
    /// key is another one. No member has it right.
    #[error("no member has block {block} as it was sealed with the key of the volume")]
    WrongSeal {
        /// Which.
        block: u64,
    },
    /// Two full members were not there for as long as clients are to wait. A write that ends so may be done later, or not.
    #[error("two full members have not been there for {} s; it may be tried again", .waited.as_secs())]
    TooFewMembers {
        /// How long.
        waited: Duration,
    },
    /// The disks of members have had no room for as long as clients are to wait. A write that ends so may be done later, or not.
    #[error("the disks of members have had no room for {} s; it may be tried again when they have", .waited.as_secs())]
    NoRoom {
        /// How long.
        waited: Duration,
    },
    /// A part of the volume that is only read, or what lies under the volume, has not given its blocks.
    #[error("block {block} is not to be had from {source_name}: {why}")]
    NotFetched {
        /// The first of those that were asked for.
        block: u64,
        /// From where: a file or a URL, as people may see it.
        source_name: String,
        /// What is wrong, in words.
        why: String,
    },
    /// A part of the volume cannot be written.
    #[error("the volume is read-only: a part of it is a file or a URL")]
    ReadOnly,
    /// A snapshot is not taken, or is there still.
    #[error("snapshot {snapshot}: {why}")]
    Snapshot {
        /// Which.
        snapshot: SnapshotId,
        /// In words.
        why: String,
    },
    /// A snapshot is not taken, and no member was asked for it.
    #[error("snapshot {snapshot} is not taken, and nobody was asked for it: {why}")]
    SnapshotFaulted {
        /// Which.
        snapshot: SnapshotId,
        /// For whom the volume waits, in words.
        why: String,
    },
    /// There are no such blocks.
    #[error("blocks {first} to {end} of a volume that has {blocks}")]
    OutOfRange {
        /// The first.
        first: u64,
        /// The one behind the last.
        end: u64,
        /// How many there are.
        blocks: u64,
    },
}

/// Why it is not activated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ActivateError {
    /// No epoch, no right.
    #[error("epoch 0 is nobody's: an epoch is from 1 on")]
    NoEpoch,
    /// The volume is known to have had a higher one.
    #[error("epoch {epoch} is lower than {least}, which the volume has had")]
    Lower {
        /// Which was given.
        epoch: u32,
        /// The least that is taken.
        least: u32,
    },
    /// It is at work already, with another one, and keeps it for good.
    #[error("it was activated with epoch {ours}, and not with {epoch}: another epoch is another Upstairs'")]
    Other {
        /// Which was given.
        epoch: u32,
        /// Which it has.
        ours: u32,
    },
    /// It does nothing more.
    #[error("it does nothing more")]
    Ended {
        /// Why.
        source: JobError,
    },
}

/// What is to be done outside.
#[derive(Clone, Debug)]
pub enum Action {
    /// Connect to it, and say whether that has worked.
    Connect(PeerId),
    /// Close its connection. Nothing more is heard of it until the next [`Action::Connect`].
    Disconnect(PeerId),
    /// Send it this.
    Send(PeerId, Request),
    /// A part of what a job has read, from this block on.
    Read(JobId, u64, Data),
    /// What a job has looked at, from its first block on.
    Looked(JobId, Vec<Run>),
    /// What a job has found, that has compared the members' blocks: in the order of their regions.
    Compared(JobId, Vec<CopyCompared>),
    /// The regions that have the snapshot that a job has taken.
    Snapshotted(JobId, Vec<RegionId>),
    /// It is done.
    Done(JobId, Result<(), JobError>),
}
