//! The plan in numbers, each of which says what it counts. Serialised as it is into the task's report.

use crate::{Blocked, Cell};
use ids::Generation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// One plan in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// The generation that was planned for.
    pub generation: Generation,
    /// Sleds in service by what is known of them.
    pub sleds: SledCounts,
    /// Wanted artifacts by where they stand.
    pub artifacts: ArtifactCounts,
    /// Pairs of a wanted artifact and a sled in service, by where they stand. States without a pair are left out.
    pub cells: BTreeMap<Cell, u64>,
    /// Transfers by how they travel.
    pub transfers: TransferCounts,
    /// Whether every sled in service is ready and holds at least one verified copy of every wanted artifact. True
    /// when nothing is wanted.
    pub fully_replicated: bool,
}

/// Sleds in service by what is known of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SledCounts {
    /// They answer and follow the config.
    pub ready: u64,
    /// They do not answer.
    pub unreachable: u64,
    /// They answer but refuse the config.
    pub refusing: u64,
    /// They have not been asked yet.
    pub unknown: u64,
}

/// Wanted artifacts by where they stand. One artifact can be counted in several lines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactCounts {
    /// All of them.
    pub wanted: u64,
    /// Those of which every sled in service is ready and holds a verified copy.
    pub on_every_sled: u64,
    /// Those of which at least `min_replication` ready sleds hold a verified copy.
    pub at_min_replication: u64,
    /// Those that this coordinator's staging area has.
    pub staged_here: u64,
    /// Those that this coordinator's staging area has and need not keep.
    pub releasable: u64,
    /// Those whose bytes cannot be had now, by the reason. Reasons without an artifact are left out.
    pub blocked: BTreeMap<Blocked, u64>,
}

/// Transfers by how they travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TransferCounts {
    /// PUTs that were under way before this plan.
    pub puts_in_flight: u64,
    /// Copies between sleds that were under way before this plan.
    pub copies_in_flight: u64,
    /// PUTs that this plan starts.
    pub puts_started: u64,
    /// Copies between sleds that this plan starts.
    pub copies_started: u64,
    /// Bytes of the artifacts whose transfers this plan starts.
    pub bytes_started: u64,
}
