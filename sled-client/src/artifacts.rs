//! Artifacts on one sled.

use ids::{ArtifactHash, ClusterId, Generation, JobId};
use jiff::Timestamp;
use problem::Problem;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::{IntoParams, ToSchema};

/// What a sled should hold. A set under one generation: the same generation always means the same set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ArtifactsConfig {
    /// The cluster that decides; a sled obeys one cluster only.
    pub cluster_id: ClusterId,
    /// Grows with every change of the set.
    pub generation: Generation,
    /// The artifacts that the sled should hold.
    pub artifacts: BTreeSet<ArtifactHash>,
}

/// What a sled holds of what it should hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactsList {
    /// The generation in force; 0 before the first config.
    pub generation: Generation,
    /// Wanted artifacts with at least one verified copy. What the config does not want, or what was not verified
    /// since it last changed, is not listed.
    pub list: BTreeMap<ArtifactHash, ListedArtifact>,
    /// The M.2 datasets, in the order in which they are read.
    pub datasets: Vec<DatasetStatus>,
    /// Bytes of stored artifacts that the config does not want and that are not in the trash yet.
    pub orphan_bytes: u64,
    /// Bytes in the trash, purged after the grace time or when space is needed.
    pub trash_bytes: u64,
    /// Copies that are waiting to be hashed again, and are not counted until then.
    pub unverified: u64,
    /// Copies whose bytes did not hash to their name, set aside.
    pub quarantined: Vec<QuarantinedCopy>,
    /// The scrub that runs now or ran last.
    pub scrub: ScrubStatus,
}

/// A wanted artifact of which the sled has verified copies.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ListedArtifact {
    /// Verified copies, at most one for each dataset.
    pub copies: u32,
    /// Bytes of one copy.
    pub size: u64,
    /// When the copy that was verified longest ago was verified.
    #[schema(value_type = String, format = DateTime)]
    pub verified_at: Timestamp,
}

/// One M.2 dataset.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DatasetStatus {
    /// Its name in the agent's config: `m2-0`, `m2-1`.
    pub name: String,
    /// Where it is mounted.
    pub dir: String,
    /// Bytes it can hold in all (its quota, or the file system's size).
    pub capacity: u64,
    /// Bytes in use (under a quota: ours; else the file system's).
    pub used: u64,
    /// Whether it can be used.
    pub health: DatasetHealth,
    /// Why it is not healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Since when its health is what it is, by the sled's clock; at most since the agent started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
}

/// Whether a dataset can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DatasetHealth {
    /// Reads and writes succeed.
    Healthy,
    /// The last write found no space; reads succeed.
    Full,
    /// Its file system takes no writes any more (as after an error, or by mount); reads succeed.
    ReadOnly,
    /// It answers, but not within the time limit; writes leave it out.
    Slow,
    /// Operations fail.
    Failed,
    /// Its directory is not there.
    Missing,
    /// A word that this program is too old to know; never sent.
    #[serde(other)]
    Unrecognized,
}

/// A copy whose bytes are not what its name says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct QuarantinedCopy {
    /// The name under which it was stored.
    pub hash: ArtifactHash,
    /// The dataset's name.
    pub dataset: String,
    /// Its bytes.
    pub size: u64,
    /// When that was found out.
    #[schema(value_type = String, format = DateTime)]
    pub found_at: Timestamp,
}

/// How far the verification of stored bytes is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ScrubStatus {
    /// Whether one runs now.
    pub running: bool,
    /// What it was started for; none before the first one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<ScrubCause>,
    /// Bytes hashed so far, in this scrub or the last one.
    pub bytes_done: u64,
    /// Bytes it has to hash in all.
    pub bytes_total: u64,
    /// Copies that did not hash to their name.
    pub corrupt: u64,
    /// When the last one ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

/// What a scrub was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScrubCause {
    /// Somebody asked for it: every copy is hashed.
    Asked,
    /// Some copies were verified too long ago: those are hashed, slowly.
    Age,
}

/// The generation under which a caller acts; it must be the one in force.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct GenerationQuery {
    /// The generation in force, as the caller knows it.
    #[param(value_type = u64)]
    pub generation: Generation,
}

/// Where a PUT's bytes went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PutArtifactResult {
    /// M.2 datasets that the sled is configured with.
    pub datasets: u32,
    /// Datasets that hold a verified, durable copy now.
    pub successful_writes: u32,
    /// What kept the others from getting theirs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<DatasetFailure>,
}

/// Why one dataset did not get its copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatasetFailure {
    /// The dataset's name.
    pub dataset: String,
    /// What failed.
    pub cause: String,
}

/// Asks a sled to fetch an artifact from peers. Exactly one of the two fields is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CopyRequest {
    /// One peer's depot: `http://127.0.1.2:12348`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depot_base_url: Option<String>,
    /// Peers' depots, tried in this order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
}

/// A copy job was accepted, or joined: one artifact has at most one job at a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CopyAccepted {
    /// The job, under `/artifact-jobs/{id}`.
    pub job_id: JobId,
}

/// One copy from a peer's depot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactJob {
    /// Its id.
    pub id: JobId,
    /// What it fetches.
    pub hash: ArtifactHash,
    /// The generation under which it was asked for.
    pub generation: Generation,
    /// Where it stands.
    pub state: ArtifactJobState,
    /// Bytes received; never shrinks within one job.
    pub bytes_done: u64,
    /// Bytes to receive, once a source has said so.
    pub bytes_total: Option<u64>,
    /// Bytes per second since it started.
    pub bytes_per_second: u64,
    /// The depot that delivers, or delivered last.
    pub source: Option<String>,
    /// Where the bytes went, once it has succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<PutArtifactResult>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Problem>,
    /// When it was asked for.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// When it started to fetch.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
    /// When it ended.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub finished_at: Option<Timestamp>,
}

/// Where a copy job stands. Succeeded, failed and cancelled are terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ArtifactJobState {
    /// Waits for one of the sled's copy slots.
    Queued,
    /// Fetches.
    Running,
    /// The sled holds at least one verified copy.
    Succeeded,
    /// No source could deliver, or the sled could not store.
    Failed,
    /// Somebody cancelled it, or the config no longer wants the artifact.
    Cancelled,
}

impl ArtifactJobState {
    /// Whether the job has ended.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, ArtifactJobState::Succeeded | ArtifactJobState::Failed | ArtifactJobState::Cancelled)
    }
}

/// The jobs that the sled remembers, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactJobPage {
    /// The jobs.
    pub items: Vec<ArtifactJob>,
    /// Token of the next page.
    pub next_page: Option<String>,
}

/// How long to wait for a job's end before answering with where it stands.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct WaitQuery {
    /// Milliseconds to wait for the end; 0 (the default) answers at once. At most 20000.
    #[serde(default)]
    pub wait_ms: u64,
}
