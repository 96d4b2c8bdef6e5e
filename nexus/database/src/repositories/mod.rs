//! Repositories: uploaded releases, their artifacts, and who still holds the uploaded bytes.
//!
//! - [`insert`]: an upload comes in, or comes again. [`remove`]: a repository goes, or its uploaded bytes do.
//! - [`read`]: what is there.

mod insert;
mod read;
mod remove;

use ids::{ArtifactHash, CoordinatorId, Generation, RepositoryId, TrustRootId};
use jiff::Timestamp;

/// One repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryRow {
    /// Its id; ids sort by time of upload.
    pub id: RepositoryId,
    /// The release's version; unique.
    pub system_version: String,
    /// SHA-256 of the zip that was uploaded last, hexadecimal.
    pub sha256: String,
    /// The name under which it was uploaded.
    pub file_name: Option<String>,
    /// The trust root that vouched for it.
    pub trust_root_id: TrustRootId,
    /// When it was uploaded first.
    pub created_at: Timestamp,
    /// Bytes of its artifacts.
    pub size_bytes: u64,
    /// Its artifacts.
    pub artifact_count: u64,
    /// The coordinator that holds the uploaded bytes, if one still does.
    pub staged_on: Option<CoordinatorId>,
}

/// One artifact of one repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ArtifactRow {
    /// Its name in the release.
    pub name: String,
    /// Its version in the release.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// The target's path in the TUF repository.
    pub target: String,
    /// The name of the zip's entry that was verified; none in rows of an older schema.
    pub entry: Option<String>,
    /// Its hash.
    pub hash: ArtifactHash,
    /// Its bytes.
    pub size: u64,
}

/// An examined upload whose zip is durable in this coordinator's staging directory.
#[derive(Clone, Debug)]
pub struct NewRepository {
    /// The release's version.
    pub system_version: String,
    /// SHA-256 of the zip, hexadecimal.
    pub sha256: String,
    /// The name under which it was uploaded.
    pub file_name: Option<String>,
    /// The trust root that vouched for it.
    pub trust_root_id: TrustRootId,
    /// Its artifacts.
    pub artifacts: Vec<ArtifactRow>,
    /// The coordinator that holds the zip.
    pub coordinator_id: CoordinatorId,
    /// The zip's name in the staging directory.
    pub staged_file: String,
    /// The zip's bytes.
    pub staged_bytes: u64,
}

/// What became of an insert.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InsertOutcome {
    /// The version was not known.
    Inserted {
        /// The new repository.
        id: RepositoryId,
        /// The generation from now on.
        generation: Generation,
    },
    /// The version was known, with the same artifacts; it is staged under the new file now.
    AlreadyExists {
        /// The repository.
        id: RepositoryId,
        /// The file that was staged before, to be removed.
        replaced_file: Option<String>,
    },
    /// The trust root that vouched for it has been deleted since; nothing was changed.
    TrustRootGone,
    /// The version was known with other artifacts; nothing was changed.
    Conflict {
        /// Where they differ, in words.
        differences: Vec<String>,
    },
}

/// A zip in a coordinator's staging directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedRow {
    /// The repository.
    pub repository_id: RepositoryId,
    /// The zip's name in the staging directory.
    pub file: String,
    /// The zip's bytes.
    pub size: u64,
}
