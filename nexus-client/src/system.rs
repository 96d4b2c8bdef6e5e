//! The cluster as a whole.

use crate::issues::Issue;
use ids::{ClusterId, CoordinatorId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One coordinator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Coordinator {
    /// Its id.
    pub id: CoordinatorId,
    /// Its name.
    pub name: String,
    /// Grows by one, in the database, with each of its starts.
    pub epoch: u64,
    /// Its version.
    pub version: String,
    /// When it started last.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
}

/// The cluster in one answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SystemStatus {
    /// The cluster.
    pub cluster_id: ClusterId,
    /// The coordinator that answers.
    pub coordinator: Coordinator,
    /// Sleds in service.
    pub sleds_in_service: u64,
    /// Of these, sleds that were heard of lately.
    pub sleds_online: u64,
    /// Of these, sleds that were not heard of yet, by a coordinator that has only just started.
    #[serde(default)]
    pub sleds_unheard: u64,
    /// Repositories.
    pub repositories: u64,
    /// Artifacts wanted.
    pub artifacts: u64,
    /// Of these, artifacts of which every sled in service holds a verified copy, as far as is known: a sled that does not
    /// answer counts with what it held last, one that has never answered is left out.
    #[serde(default)]
    pub artifacts_on_every_sled: u64,
    /// Of these, artifacts of which every sled in service holds a verified copy on each of its M.2s, likewise.
    pub artifacts_complete: u64,
    /// Sleds in service that hold every artifact on each of their M.2s, or did when they answered last.
    pub sleds_complete: u64,
    /// Sleds in service that take no part in replication now: they do not answer, refuse, or have not been asked yet.
    #[serde(default)]
    pub sleds_away: u64,
    /// Bytes of the database file.
    pub database_bytes: u64,
    /// Bytes of staged uploads.
    pub staging_bytes: u64,
    /// Everything that is not as it should be; empty means healthy.
    pub issues: Vec<Issue>,
}
