//! What is told of a repair.

use ids::{RegionId, RegionSetId, RepairId, VolumeId};
use jiff::Timestamp;
use std::str::FromStr;

/// One notice. Its numbers are below 2^63.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Which repair.
    pub subject: Subject,
    /// Who tells, and when.
    pub stamp: Stamp,
    /// What is told.
    pub said: Said,
}

/// Which repair, and of what: the same in all its notices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its id.
    pub id: RepairId,
    /// Of which volume.
    pub volume: VolumeId,
    /// Of which of its region sets.
    pub region_set: RegionSetId,
    /// Who is filled.
    pub region: RegionLife,
    /// Whose place it takes.
    pub replaces: Option<RegionLife>,
    /// Bytes of the region set.
    pub bytes: u64,
}

/// One life of a region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegionLife {
    /// Which.
    pub id: RegionId,
    /// Which of those that had this id.
    pub incarnation: u64,
}

/// Who tells, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The right to write of the Upstairs that tells.
    pub epoch: u32,
    /// Grows with each of its notices.
    pub sequence: u64,
    /// The version of the construction request in force.
    pub config_version: u64,
    /// The sender's time.
    pub told_at: Timestamp,
}

impl Stamp {
    /// Its place in the order of notices of a volume.
    #[must_use]
    pub fn place(&self) -> (u32, u64) {
        (self.epoch, self.sequence)
    }
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// A member is being filled.
    Start(Start),
    /// How far it is.
    Progress(Progress),
    /// It has ended.
    Finish(Finish),
}

/// A member is being filled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Why, in a word.
    pub why: String,
}

/// How far a member is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What is done for it, or what it waits for, in a word.
    pub phase: String,
    /// What does not go on in the volume, in words.
    pub waits: Vec<String>,
    /// Bytes of which it was made sure that it has them: at most all.
    pub bytes_done: u64,
}

/// A repair has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finish {
    /// How.
    pub outcome: Outcome,
    /// By what it was interrupted, in a word.
    pub interrupted_by: Option<String>,
}

/// How a repair has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The member is full.
    Completed,
    /// Nobody fills it under this id any more.
    Interrupted,
}

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Outcome::Completed => "completed",
            Outcome::Interrupted => "interrupted",
        }
    }
}

impl FromStr for Outcome {
    type Err = ();

    fn from_str(text: &str) -> Result<Outcome, ()> {
        [Outcome::Completed, Outcome::Interrupted].into_iter().find(|one| one.as_str() == text).ok_or(())
    }
}
