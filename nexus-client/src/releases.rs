//! Trust roots, repositories, artifacts.

use ids::{ArtifactHash, RepositoryId, TrustRootId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// A TUF root whose signatures are believed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrustRoot {
    /// Its id.
    pub id: TrustRootId,
    /// SHA-256 of the `root.json` as it was sent, hexadecimal.
    pub fingerprint: String,
    /// The root's version.
    pub version: u64,
    /// When the root says that it expires.
    #[schema(value_type = String, format = DateTime)]
    pub expires: Timestamp,
    /// When it was added.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// How to take an upload in.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct UploadQuery {
    /// The file's name, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_name: Option<String>,
    /// The version of a release without `artifacts.json`; must agree with it otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system_version: Option<String>,
    /// `replicated`: answer only when enough sleds hold verified copies of everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait: Option<UploadWait>,
    /// Seconds to wait at most; 600 unless said. After that: 503 `not_replicated`, and replication goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u32>,
}

/// What an upload waits for before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UploadWait {
    /// Verified copies of every artifact on `min_replication` sleds.
    Replicated,
}

/// What became of an upload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct UploadResult {
    /// The release's version.
    pub system_version: String,
    /// SHA-256 of the zip, hexadecimal.
    pub sha256: String,
    /// New, or known already.
    pub status: UploadStatus,
    /// What is odd about it, but not refused.
    pub warnings: Vec<String>,
    /// Who holds every byte of it durably at this moment: the id of the coordinator that staged it, and of each
    /// sled with verified copies of all artifacts.
    pub durable_on: Vec<String>,
}

/// Whether an upload brought something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UploadStatus {
    /// The version was not known (201).
    Inserted,
    /// The version was known, with the same artifacts (200). The bytes were taken again where they were missing.
    AlreadyExists,
    /// A word that this program is too old to know; never sent.
    #[serde(other)]
    Unrecognized,
}

/// A repository that the coordinator knows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Repository {
    /// Its id.
    pub id: RepositoryId,
    /// The release's version; unique.
    pub system_version: String,
    /// SHA-256 of the zip that was uploaded last, hexadecimal.
    pub sha256: String,
    /// The name under which it was uploaded.
    pub file_name: Option<String>,
    /// Bytes of all its artifacts.
    pub size_bytes: u64,
    /// Its artifacts.
    pub artifact_count: u64,
    /// The trust root that vouched for it.
    pub trust_root_id: TrustRootId,
    /// When it was uploaded first.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Who holds the uploaded bytes until the sleds do; none when they are no longer needed.
    pub staged_on: Option<String>,
    /// Where its replication stands.
    pub state: RepositoryState,
    /// Sleds that take part now and hold a verified copy of every artifact on each of their healthy M.2s.
    pub sleds_complete: u64,
    /// Sleds that should have them.
    pub sleds_total: u64,
}

/// Where a repository's replication stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RepositoryState {
    /// On its way.
    Replicating,
    /// Every sled in service that can be reached has verified copies of everything.
    Replicated,
    /// An artifact is neither staged nor on any sled: upload it again.
    NeedsUpload,
    /// A word that this program is too old to know; never sent.
    #[serde(other)]
    Unrecognized,
}

/// One artifact of one repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RepositoryArtifact {
    /// Its name in the release.
    pub name: String,
    /// Its version in the release.
    pub version: String,
    /// Its kind: `file` unless the release says otherwise.
    pub kind: String,
    /// The target's path in the TUF repository.
    pub target: String,
    /// Its hash.
    pub hash: ArtifactHash,
    /// Its bytes.
    pub size: u64,
}

/// A repository with its artifacts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RepositoryDetail {
    /// The repository.
    #[serde(flatten)]
    pub repository: Repository,
    /// Its artifacts, by name.
    pub artifacts: Vec<RepositoryArtifact>,
}

/// An artifact that some repository wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Artifact {
    /// Its hash.
    pub hash: ArtifactHash,
    /// Its bytes.
    pub size: u64,
    /// Its name in the newest repository that has it.
    pub name: String,
    /// Its version in the newest repository that has it.
    pub version: String,
    /// Its kind in the newest repository that has it.
    pub kind: String,
    /// Versions of the repositories that have it.
    pub repositories: Vec<String>,
    /// Sleds that hold verified copies, as last seen, with the depots that serve them.
    pub holders: Vec<ArtifactHolder>,
}

/// A sled that holds an artifact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ArtifactHolder {
    /// The sled.
    pub sled_id: ids::SledId,
    /// Its name.
    pub sled_name: String,
    /// Verified copies.
    pub copies: u32,
    /// Where to read it.
    pub depot_url: String,
}
