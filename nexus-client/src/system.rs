//! The cluster as a whole.

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
    /// Repositories.
    pub repositories: u64,
    /// Artifacts wanted.
    pub artifacts: u64,
    /// Of these, artifacts that every sled in service holds on every healthy M.2.
    pub artifacts_complete: u64,
    /// Sleds in service that hold every artifact on every healthy M.2.
    pub sleds_complete: u64,
    /// Bytes of the database file.
    pub database_bytes: u64,
    /// Bytes of staged uploads.
    pub staging_bytes: u64,
    /// Everything that is not as it should be, in words; empty means healthy.
    pub issues: Vec<String>,
}
