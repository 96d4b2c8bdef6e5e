//! Sleds as an operator sees them.

use ids::{AgentEpoch, SledId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One sled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sled {
    /// Its id.
    pub id: SledId,
    /// Its name.
    pub name: String,
    /// What the operator wants of it.
    pub policy: SledPolicy,
    /// Whether it has been heard of lately.
    pub liveness: SledLiveness,
    /// When it was last heard of.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_seen_at: Option<Timestamp>,
    /// When it registered first.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Which life of its agent was heard of last.
    pub agent_epoch: AgentEpoch,
    /// Its sled API.
    pub agent_url: String,
    /// Its repo depot.
    pub depot_url: String,
    /// Artifacts it should hold.
    pub artifacts_wanted: u64,
    /// Of these, artifacts with a verified copy on every healthy M.2.
    pub artifacts_complete: u64,
    /// What keeps it from being complete, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What the operator wants of a sled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SledPolicy {
    /// Takes part in everything.
    InService,
    /// Keeps what it has, gets nothing new placed on it; artifacts are still replicated to it.
    NoProvision,
    /// Gone for good: never contacted again.
    Expunged,
}

/// Whether a sled has been heard of lately. Offline is not gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SledLiveness {
    /// A heartbeat came within the limit.
    Online,
    /// No heartbeat came within the limit.
    Offline,
}

/// A change to a sled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SledUpdate {
    /// What the operator wants of it from now on.
    pub policy: SledPolicy,
}
