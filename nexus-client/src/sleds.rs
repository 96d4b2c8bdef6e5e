//! Sleds as an operator sees them.

use ids::{AgentEpoch, Generation, SledId};
use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
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
    /// Of these, artifacts of which it holds a verified copy, as of `observed_at`.
    #[serde(default)]
    pub artifacts_held: u64,
    /// Of these, artifacts with a verified copy on each of its M.2s, as of `observed_at`.
    pub artifacts_complete: u64,
    /// What keeps it from being complete, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether it takes part in replication.
    #[serde(default)]
    pub replication: ReplicationSledState,
    /// The generation of the wanted set that it follows.
    #[serde(default)]
    pub config_generation: Option<Generation>,
    /// When it last answered what it holds; none if it has not since the coordinator started. What follows is as of
    /// then.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub observed_at: Option<Timestamp>,
    /// The M.2s that it is configured with.
    #[serde(default)]
    pub m2s: Vec<M2>,
    /// Copies that had rotted and were set aside.
    #[serde(default)]
    pub copies_quarantined: u64,
    /// Copies that wait to be hashed again and are not counted until then.
    #[serde(default)]
    pub copies_unverified: u64,
    /// The verification of all its copies that runs now or ran last.
    #[serde(default)]
    pub scrub: Scrub,
}

/// One M.2 of a sled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct M2 {
    /// Its name in the agent's config: `m2-0`.
    pub name: String,
    /// Whether it can be used.
    pub health: M2Health,
    /// Why it is not healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when its health is what it is, by the sled's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Bytes that it can hold in all.
    pub capacity_bytes: u64,
    /// Bytes in use.
    pub used_bytes: u64,
    /// Copies on it that had rotted and were set aside.
    #[serde(default)]
    pub copies_quarantined: u64,
}

/// Whether an M.2 can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum M2Health {
    /// Reads and writes succeed.
    Healthy,
    /// The last write found no space; reads succeed.
    Full,
    /// Its file system takes no writes any more; reads succeed.
    ReadOnly,
    /// It does not answer within the time limit; writes leave it out.
    Slow,
    /// Operations fail.
    Failed,
    /// Its directory is not there.
    Missing,
    /// A word that this program is too old to know; never sent.
    #[serde(other)]
    Unrecognized,
}

/// How far a sled is with verifying every copy that it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Scrub {
    /// Whether it runs now.
    pub running: bool,
    /// Bytes hashed so far, in this one or the last.
    pub bytes_done: u64,
    /// Bytes to hash in all.
    pub bytes_total: u64,
    /// Copies that did not hash to their name.
    pub corrupt: u64,
    /// When the last one ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
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
    /// A word that this program is too old to know; never sent.
    #[serde(other)]
    Unrecognized,
}

/// Whether a sled has been heard of lately. Offline is not gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SledLiveness {
    /// A heartbeat came within the limit.
    Online,
    /// No heartbeat came within the limit.
    Offline,
    /// The coordinator has started so lately that no heartbeat needs to have come yet.
    Unknown,
    /// A word that this program is too old to know; never sent.
    #[serde(other)]
    Unrecognized,
}

/// Whether a sled takes part in replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicationSledState {
    /// It answers and follows the config.
    Active,
    /// Not asked yet since the coordinator started, or not told the newest set yet.
    #[default]
    Unknown,
    /// It does not answer. It keeps what it has and catches up when it returns.
    Unreachable,
    /// It answers but refuses the config; `reason` says why. The others go on without it.
    Refusing,
    /// A word that this program is too old to know; never sent.
    #[serde(other)]
    Unrecognized,
}

/// A change to a sled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SledUpdate {
    /// What the operator wants of it from now on.
    #[serde(deserialize_with = "known_policy")]
    pub policy: SledPolicy,
}

/// An order is understood or refused: a word that is not known is no policy.
fn known_policy<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SledPolicy, D::Error> {
    match SledPolicy::deserialize(deserializer)? {
        SledPolicy::Unrecognized => {
            Err(D::Error::custom("the policy is none of in_service, no_provision, expunged"))
        }
        policy => Ok(policy),
    }
}
