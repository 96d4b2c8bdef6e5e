//! Repairs of volumes: what an Upstairs tells of them, and what an operator is shown.
//!
//! A repair is one member that is filled, until it is full or the filling ends otherwise. Its Upstairs gives it an id once, and tells of
//! it in notices:
//!
//! ```text
//!   start ──► progress, progress, … ──► finish: completed, or interrupted
//! ```
//!
//! Notices may come late, twice, and in any order. What comes of them is the same, because each has a [`Stamp`]: of each of the three
//! kinds the one with the greatest stamp counts, and a repair that has a finish has ended. Whoever fills the member again after that
//! gives a new id.
//!
//! A notice is understood or refused: unknown fields and words, and what [`RepairNotice::check`] finds. Words are those of an Upstairs'
//! status (`docs/VOLUMES.md`).

use ids::{RegionId, RegionSetId, RepairId, VolumeId};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned, de::Error};
use std::{
    collections::BTreeSet,
    fmt::{self, Debug},
};
use thiserror::Error;
use utoipa::ToSchema;

/// The largest number of a notice: that of a column of the database.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// Which repair. Every notice of it says the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Repair {
    /// Given once by the Upstairs.
    pub id: RepairId,
    /// Of which volume.
    pub volume_id: VolumeId,
    /// Of which of its region sets.
    pub region_set_id: RegionSetId,
    /// Who is filled.
    pub region: RepairRegion,
    /// Whose place it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<RepairRegion>,
    /// Bytes of the region set.
    pub bytes: u64,
}

/// One life of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RepairRegion {
    /// Which.
    pub region_id: RegionId,
    /// Which of those that had this id.
    pub incarnation: u64,
}

/// Who tells, and when. The order of notices is that of `epoch`, then `sequence`; nothing else, and no clock, decides it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Stamp {
    /// The right to write of the Upstairs that tells.
    pub epoch: u32,
    /// Grows with each notice of that Upstairs, of whichever repair; from 1.
    pub sequence: u64,
    /// The version of the construction request in force.
    pub config_version: u64,
    /// The sender's time.
    #[schema(value_type = String, format = DateTime)]
    pub told_at: Timestamp,
}

impl Stamp {
    /// Its place in the order.
    #[must_use]
    pub fn place(&self) -> (u32, u64) {
        (self.epoch, self.sequence)
    }
}

/// A member is being filled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RepairStart {
    /// Which repair.
    pub repair: Repair,
    /// Who tells, and when.
    pub stamp: Stamp,
    /// Why it is filled.
    #[serde(deserialize_with = "known")]
    pub why: RepairReason,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RepairProgress {
    /// Which repair.
    pub repair: Repair,
    /// Who tells, and when.
    pub stamp: Stamp,
    /// What is done for it, or what it waits for.
    #[serde(deserialize_with = "known")]
    pub phase: RepairPhase,
    /// Bytes of which it was made sure that it has them.
    pub bytes_done: u64,
    /// What does not go on in the volume meanwhile.
    #[serde(default, deserialize_with = "all_known", skip_serializing_if = "BTreeSet::is_empty")]
    pub waits: BTreeSet<RepairWait>,
}

/// It has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RepairFinish {
    /// Which repair.
    pub repair: Repair,
    /// Who tells, and when.
    pub stamp: Stamp,
    /// How.
    #[serde(deserialize_with = "known")]
    pub outcome: RepairOutcome,
    /// By what; there if and only if it was interrupted.
    #[serde(default, deserialize_with = "known_if_there", skip_serializing_if = "Option::is_none")]
    pub interrupted_by: Option<RepairInterruption>,
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepairNotice {
    /// A member is being filled.
    Start(RepairStart),
    /// How far it is.
    Progress(RepairProgress),
    /// It has ended.
    Finish(RepairFinish),
}

/// Generates a closed list of words: those on the wire, and the one for words of the future.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident, $what:literal, { $($(#[$word_doc:meta])* $variant:ident $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
        pub enum $name {
            $($(#[$word_doc])* #[serde(rename = $word)] $variant,)*
            /// A word that this program is too old to know; never sent.
            #[serde(rename = "unrecognized", other)]
            Unrecognized,
        }

        impl Words for $name {
            const WHAT: &'static str = $what;
            const KNOWN: &'static [(Self, &'static str)] = &[$(($name::$variant, $word),)*];
        }

        impl $name {
            /// The word on the wire.
            #[must_use]
            pub fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* $name::Unrecognized => "unrecognized" }
            }

            /// What a word says; one that is not known is [`Unrecognized`]($name::Unrecognized).
            #[must_use]
            pub fn of(word: &str) -> $name {
                let known = $name::KNOWN.iter().find(|(_, known)| *known == word);
                known.map_or($name::Unrecognized, |(meaning, _)| *meaning)
            }
        }
    };
}

/// A closed list of words.
trait Words: DeserializeOwned + Copy + PartialEq + Debug + 'static {
    /// What they say, as the beginning of a sentence.
    const WHAT: &'static str;
    /// Each with its variant.
    const KNOWN: &'static [(Self, &'static str)];
}

words! {
    /// Why a member is filled.
    RepairReason, "the reason", {
        /// It takes the place of one that is lost for good.
        ReplacesGone "replaces_gone",
        /// It takes the place of one that leaves.
        ReplacesLeaving "replaces_leaving",
        /// It was away for longer than the stream is kept, or was refused as full, and catches up.
        CatchesUp "catches_up",
    }
}

words! {
    /// What is done for a member that is filled, or what it waits for.
    RepairPhase, "the phase", {
        /// It is not there.
        Away "away",
        /// Its turn has not come.
        Queued "queued",
        /// What it lacks is copied.
        Copying "copying",
        /// Everything is compared once more.
        Checking "checking",
        /// What it was given is made durable.
        MakingDurable "making_durable",
        /// It has everything, and a member that leaves is left out to make room for it.
        MakingRoom "making_room",
        /// It has everything, and all full members are to keep the list that has it.
        Joining "joining",
    }
}

words! {
    /// What does not go on in a volume.
    RepairWait, "what is waited for", {
        /// It is to be given an epoch.
        Activation "activation",
        /// Fewer members are here than are needed to begin.
        TooFewMembers "too_few_members",
        /// Enough are here to begin, and another one may know better.
        AnotherMember "another_member",
        /// Members are brought to the same state.
        BringUp "bring_up",
        /// A list is to be kept by its members.
        List "list",
        /// Writes and flushes wait for a second full member.
        SecondMember "second_member",
        /// Reads are held because two full members were not heard of lately.
        Silence "silence",
        /// Writes wait for room: a member has not taken what was sent.
        Room "room",
        /// Writes and flushes wait for room on the disks of members.
        DiskRoom "disk_room",
    }
}

words! {
    /// How a repair has ended.
    RepairOutcome, "the outcome", {
        /// The member is full.
        Completed "completed",
        /// Nobody fills it under this id any more.
        Interrupted "interrupted",
    }
}

words! {
    /// What has interrupted a repair.
    RepairInterruption, "what has interrupted it", {
        /// Somebody with a newer epoch has taken the volume over.
        NewerEpoch "newer_epoch",
        /// The member that was filled is to be a member no more.
        MemberDismissed "member_dismissed",
        /// The volume has lost acknowledged writes, and stands still.
        WritesLost "writes_lost",
        /// The Upstairs was told to stop.
        Stopped "stopped",
    }
}

fn read<W: Words, E: Error>(word: W) -> Result<W, E> {
    if W::KNOWN.iter().any(|(known, _)| *known == word) {
        return Ok(word);
    }
    let known: Vec<&str> = W::KNOWN.iter().map(|(_, word)| *word).collect();
    Err(E::custom(format!("{} is none of {}", W::WHAT, known.join(", "))))
}

fn known<'de, D: Deserializer<'de>, W: Words>(deserializer: D) -> Result<W, D::Error> {
    read(W::deserialize(deserializer)?)
}

fn known_if_there<'de, D: Deserializer<'de>, W: Words>(deserializer: D) -> Result<Option<W>, D::Error> {
    Option::<W>::deserialize(deserializer)?.map(read).transpose()
}

fn all_known<'de, D: Deserializer<'de>, W: Words + Ord>(deserializer: D) -> Result<BTreeSet<W>, D::Error> {
    BTreeSet::<W>::deserialize(deserializer)?.into_iter().map(read).collect()
}

/// A notice that cannot be true.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RepairNoticeError {
    /// Larger than the database keeps.
    #[error("{what} {value} is beyond {NUMBER_MAX}, the largest that is kept")]
    TooLarge {
        /// Which number.
        what: &'static str,
        /// What is said.
        value: u64,
    },
    /// Counting starts at 1.
    #[error("the {what} is 0; it counts from 1")]
    Zero {
        /// Which number.
        what: &'static str,
    },
    /// More is done than there is.
    #[error("{bytes_done} bytes are done, of {bytes}")]
    MoreThanAll {
        /// What is said to be done.
        bytes_done: u64,
        /// Of how much.
        bytes: u64,
    },
    /// Nobody takes their own place.
    #[error("region {0} is said to take the place of itself, in the same incarnation")]
    ReplacesItself(RegionId),
    /// Whoever catches up has a place.
    #[error(
        "a member that catches up takes nobody's place; leave `replaces` out, or say `replaces_gone` or `replaces_leaving`"
    )]
    ReplacesAndCatchesUp,
    /// An interruption without its cause.
    #[error("an interrupted repair says by what: give `interrupted_by`")]
    InterruptedByNothing,
    /// A cause without an interruption.
    #[error("a completed repair was not interrupted by anything: leave `interrupted_by` out")]
    CompletedAndInterrupted,
}

impl RepairNotice {
    /// Which repair.
    #[must_use]
    pub fn repair(&self) -> &Repair {
        match self {
            RepairNotice::Start(start) => &start.repair,
            RepairNotice::Progress(progress) => &progress.repair,
            RepairNotice::Finish(finish) => &finish.repair,
        }
    }

    /// Who tells, and when.
    #[must_use]
    pub fn stamp(&self) -> &Stamp {
        match self {
            RepairNotice::Start(start) => &start.stamp,
            RepairNotice::Progress(progress) => &progress.stamp,
            RepairNotice::Finish(finish) => &finish.stamp,
        }
    }

    /// The same, told at another place in the order.
    #[must_use]
    pub fn with_sequence(mut self, sequence: u64) -> RepairNotice {
        match &mut self {
            RepairNotice::Start(start) => start.stamp.sequence = sequence,
            RepairNotice::Progress(progress) => progress.stamp.sequence = sequence,
            RepairNotice::Finish(finish) => finish.stamp.sequence = sequence,
        }
        self
    }

    /// Whether it can be true. Whoever sends one that cannot is refused with the same words.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check(&self) -> Result<(), RepairNoticeError> {
        let (repair, stamp) = (self.repair(), self.stamp());
        let numbers = [
            ("the size of the region set,", repair.bytes),
            ("the incarnation", repair.region.incarnation),
            (
                "the incarnation of the region that is replaced,",
                repair.replaces.map_or(0, |old| old.incarnation),
            ),
            ("the sequence", stamp.sequence),
            ("the config_version", stamp.config_version),
        ];
        if let Some((what, value)) = numbers.into_iter().find(|(_, value)| *value > NUMBER_MAX) {
            return Err(RepairNoticeError::TooLarge { what, value });
        }
        let counted = [("sequence", stamp.sequence), ("epoch", stamp.epoch.into()), ("size", repair.bytes)];
        if let Some((what, _)) = counted.into_iter().find(|(_, value)| *value == 0) {
            return Err(RepairNoticeError::Zero { what });
        }
        if repair.replaces == Some(repair.region) {
            return Err(RepairNoticeError::ReplacesItself(repair.region.region_id));
        }
        match self {
            RepairNotice::Start(start)
                if start.why == RepairReason::CatchesUp && repair.replaces.is_some() =>
            {
                Err(RepairNoticeError::ReplacesAndCatchesUp)
            }
            RepairNotice::Progress(progress) if progress.bytes_done > repair.bytes => {
                let (bytes_done, bytes) = (progress.bytes_done, repair.bytes);
                Err(RepairNoticeError::MoreThanAll { bytes_done, bytes })
            }
            RepairNotice::Finish(finish) => match (finish.outcome, finish.interrupted_by) {
                (RepairOutcome::Interrupted, None) => Err(RepairNoticeError::InterruptedByNothing),
                (RepairOutcome::Completed, Some(_)) => Err(RepairNoticeError::CompletedAndInterrupted),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}

impl fmt::Display for RepairNotice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            RepairNotice::Start(_) => "start",
            RepairNotice::Progress(_) => "progress",
            RepairNotice::Finish(_) => "finish",
        };
        let Stamp { epoch, sequence, .. } = self.stamp();
        write!(f, "{kind} {epoch}.{sequence} of repair {}", self.repair().id)
    }
}

/// A repair as far as the coordinator was told of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VolumeRepair {
    /// Its id.
    pub id: RepairId,
    /// Of which volume.
    pub volume_id: VolumeId,
    /// Of which of its region sets.
    pub region_set_id: RegionSetId,
    /// Who is filled.
    pub region: ShownRegion,
    /// Whose place it takes.
    pub replaces: Option<ShownRegion>,
    /// How far it is, in a word.
    pub state: RepairState,
    /// Why it is filled; none if no start was told yet.
    pub why: Option<RepairReason>,
    /// What was done for it, or what it waited for, when that was told last.
    pub phase: Option<RepairPhase>,
    /// Bytes of which it was made sure that it has them: the most that was told.
    pub bytes_done: u64,
    /// Bytes of the region set.
    pub bytes: u64,
    /// What did not go on in the volume when that was told last.
    pub waits: BTreeSet<RepairWait>,
    /// What has interrupted it.
    pub interrupted_by: Option<RepairInterruption>,
    /// When it began, by the sender's clock, as the following.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When its progress was told last.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub progressed_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
    /// The newest notice of it.
    pub newest: ShownStamp,
}

/// How far a repair is, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RepairState {
    /// Its end was not told.
    Running,
    /// The member is full.
    Completed,
    /// Nobody fills it under this id any more.
    Interrupted,
    /// A word that this program is too old to know; never sent.
    #[serde(other)]
    Unrecognized,
}

/// One life of a region, in an answer: which may say more some day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownRegion {
    /// Which.
    pub region_id: RegionId,
    /// Which of those that had this id.
    pub incarnation: u64,
}

/// Who told, and when, in an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ShownStamp {
    /// The right to write of the Upstairs that told.
    pub epoch: u32,
    /// Which of its notices.
    pub sequence: u64,
    /// The version of the construction request in force.
    pub config_version: u64,
    /// The sender's time.
    #[schema(value_type = String, format = DateTime)]
    pub told_at: Timestamp,
}
