//! Which sled has what: the replication as one table.

use ids::{ArtifactHash, Generation, SledId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Per sled, per artifact: where replication stands.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Replication {
    /// The generation of the wanted set.
    pub generation: Generation,
    /// The rows, by name.
    pub artifacts: Vec<ReplicationArtifact>,
    /// The columns, by name.
    pub sleds: Vec<ReplicationSled>,
    /// Whether every sled in service holds a verified copy of every artifact on each of its healthy M.2s.
    pub fully_replicated: bool,
    /// Artifacts that every sled in service holds.
    pub artifacts_complete: u64,
}

/// One row: an artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicationArtifact {
    /// Its hash.
    pub hash: ArtifactHash,
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its bytes.
    pub size: u64,
    /// Whether the bytes can be had from the staging area of this or another coordinator.
    pub staged: bool,
    /// Why it cannot be replicated now, if so: `no_source` needs a new upload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<String>,
}

/// One column: a sled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicationSled {
    /// The sled.
    pub id: SledId,
    /// Its name.
    pub name: String,
    /// Whether it takes part, and if not, why.
    pub state: ReplicationSledState,
    /// The reason in words where the state needs one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The generation that the sled accepted last.
    pub config_generation: Option<Generation>,
    /// When the sled was last asked what it holds.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub observed_at: Option<Timestamp>,
    /// M.2 datasets that can be written: the copies that each cell should reach.
    pub datasets_healthy: u32,
    /// The cells, by artifact. An artifact without a cell is absent from the sled.
    pub cells: BTreeMap<ArtifactHash, ReplicationCell>,
}

/// Whether a sled takes part in replication.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReplicationSledState {
    /// It answers and follows the config.
    Active,
    /// Not asked yet since the coordinator started.
    Unknown,
    /// It does not answer. It keeps what it has and catches up when it returns.
    Unreachable,
    /// It answers but refuses the config; `reason` says why. The others go on without it.
    Refusing,
}

/// One artifact on one sled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicationCell {
    /// Verified copies.
    pub copies: u32,
    /// What happens there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<CellTransfer>,
    /// Why the last try failed, if nothing has succeeded since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// A transfer towards one sled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct CellTransfer {
    /// How it travels.
    pub kind: TransferKind,
    /// Bytes received.
    pub bytes_done: u64,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
}

/// How an artifact travels to a sled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TransferKind {
    /// From the coordinator's staging area.
    Put,
    /// From a peer's depot.
    Copy,
}
