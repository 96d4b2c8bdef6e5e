//! Versions of control records.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// The version of a control record. Grows by one with every change of content; equal generations mean equal
/// content, and a holder of one never goes back to a lower one. Zero means "none yet".
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
pub struct Generation(pub u64);

impl Generation {
    /// The generation before the first: nothing has been decided yet.
    pub const NONE: Generation = Generation(0);

    /// The generation that follows this one.
    #[must_use]
    pub fn next(self) -> Generation {
        Generation(
            self.0.checked_add(1).expect("a generation grows by one per change and never reaches 2^64"),
        )
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How often a saga has changed hands: grows by one with every adoption by a coordinator. What an executor of a lower
/// epoch still does has no right to happen.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
pub struct AdoptionEpoch(pub u64);

impl fmt::Display for AdoptionEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One life of a sled agent: grows by one with every start of the agent, kept on the sled's own disks. A report
/// with a lower epoch than the last one seen comes from a process that is already dead.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(transparent)]
pub struct AgentEpoch(pub u64);

impl fmt::Display for AgentEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
