//! Which sled has what: the replication as one table.

use crate::sleds::M2;
pub use crate::sleds::ReplicationSledState;
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
    /// Whether every sled in service takes part and holds a verified copy of every artifact on each of its M.2s.
    pub fully_replicated: bool,
    /// Artifacts of which every sled in service holds a verified copy on each of its M.2s, as far as is known: a sled
    /// that does not answer counts with what it held last, one that has never answered is left out.
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
    /// Why its bytes cannot be had now, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<ArtifactBlocked>,
}

/// Why an artifact's bytes cannot be had now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactBlocked {
    /// Not staged anywhere, and no sled has it: a new upload is needed.
    NoSource,
    /// Not staged anywhere, and no sled that has answered has it; some sled has not answered since the coordinator
    /// started.
    HoldersUnknown,
    /// Not staged anywhere; the sleds that have it cannot serve it now. It goes on when one of them returns.
    HoldersUnavailable,
    /// A word that this program is too old to know; never sent.
    #[serde(other)]
    Unrecognized,
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
    /// M.2s that can be written: the copies that each cell can reach now.
    pub datasets_healthy: u32,
    /// The M.2s that the sled is configured with: the copies that each cell should reach. As of `observed_at`.
    #[serde(default)]
    pub m2s: Vec<M2>,
    /// The cells, by artifact. An artifact without a cell is not known to be on the sled, and nothing is done about it
    /// while the sled takes no part.
    pub cells: BTreeMap<ArtifactHash, ReplicationCell>,
}

/// One artifact on one sled.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ReplicationCell {
    /// Where it stands: what the coordinator has decided about it.
    #[serde(default)]
    pub state: CellState,
    /// Verified copies; those of the last answer if the sled does not answer now.
    pub copies: u32,
    /// What happens there now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transfer: Option<CellTransfer>,
    /// Why the last try failed, if nothing has succeeded since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
}

/// Where one artifact stands on one sled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CellState {
    /// The sled holds at least one verified copy. Its other M.2s are its own work.
    Held,
    /// A transfer is under way.
    Transferring,
    /// Its turn comes: it waits for a slot, or for a first copy to copy from.
    Queued,
    /// The last transfer failed; it is tried again after a while.
    BackingOff,
    /// The artifact's bytes cannot be had now; its row says why.
    Blocked,
    /// The sled has no M.2 that can be written.
    #[serde(rename = "no_writable_m2")]
    NoWritableM2,
    /// The sled takes no part now; its own state says why.
    SledAway,
    /// A word that this program is too old to know; never sent.
    #[default]
    #[serde(other)]
    Unrecognized,
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
    /// A word that this program is too old to know; never sent.
    #[serde(other)]
    Unrecognized,
}
