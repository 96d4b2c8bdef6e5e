//! What the store refuses and what fails in it. [`StoreError::class`] is the one place that says what kind of answer
//! each variant deserves; codes and statuses are the callers' own.

use crate::failure::DatasetFailure;
use durable_fs::StorageError;
use ids::{ArtifactHash, ClusterId, Generation};
use std::time::Duration;
use thiserror::Error;

/// Why the store did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Nobody has said yet what the store should hold, or no ledger of it could be read.
    #[error("no artifact config is in force")]
    NoConfig,
    /// The config does not want that artifact.
    #[error("artifact {hash} is not in the config of generation {generation}")]
    NotInConfig {
        /// The artifact.
        hash: ArtifactHash,
        /// The generation in force.
        generation: Generation,
    },
    /// The caller acts under another generation than the one in force, or would take the store back to a lower one.
    #[error("generation {attempted} was given where {current} is in force")]
    ConfigGeneration {
        /// The caller's.
        attempted: Generation,
        /// The one in force, or the highest that is known to have been.
        current: Generation,
    },
    /// The same generation was given with another set.
    #[error("generation {generation} is in force with another set of artifacts")]
    ConfigConflict {
        /// The generation.
        generation: Generation,
    },
    /// The store belongs to another cluster.
    #[error("the store belongs to cluster {ours}, not to {theirs}")]
    ClusterMismatch {
        /// The one it belongs to.
        ours: ClusterId,
        /// The caller's.
        theirs: ClusterId,
    },
    /// The bytes do not hash to the name.
    #[error("the bytes hash to {actual}, not to {expected}")]
    DigestMismatch {
        /// The name.
        expected: ArtifactHash,
        /// What the bytes hash to.
        actual: ArtifactHash,
    },
    /// More or fewer bytes came than were announced.
    #[error("{actual} bytes came where {expected} were announced")]
    LengthMismatch {
        /// Announced.
        expected: u64,
        /// Received until the error.
        actual: u64,
    },
    /// What the config wants is not deleted.
    #[error("artifact {hash} is wanted by the config of generation {generation}")]
    ArtifactWanted {
        /// The artifact.
        hash: ArtifactHash,
        /// The generation in force.
        generation: Generation,
    },
    /// No dataset has room.
    #[error("no dataset has room: {needed} bytes are needed, {available} are left on the emptiest")]
    NoSpace {
        /// Bytes that were asked for (0: unknown, just more than there was).
        needed: u64,
        /// Bytes that the dataset with the most room can still take.
        available: u64,
    },
    /// No dataset could be used.
    #[error("none of the {} datasets can be used: {}", failures.len(), list_failures(failures))]
    NoHealthyDataset {
        /// Why, for each of them.
        failures: Vec<DatasetFailure>,
    },
    /// There is no verified copy.
    #[error("there is no verified copy of artifact {hash}")]
    ArtifactNotFound {
        /// The artifact.
        hash: ArtifactHash,
    },
    /// The range is empty, or not inside the artifact.
    #[error("bytes {start}..{end} are not inside artifact {hash} of {size} bytes")]
    RangeOutside {
        /// The artifact.
        hash: ArtifactHash,
        /// First byte asked for.
        start: u64,
        /// First byte behind those asked for.
        end: u64,
        /// Bytes of the artifact.
        size: u64,
    },
    /// A copy turned out wrong while it was read; its last bytes were held back and it was set aside.
    #[error("the copy of artifact {hash} on {dataset} does not hash to its name")]
    CopyCorrupt {
        /// The artifact.
        hash: ArtifactHash,
        /// The dataset's name.
        dataset: String,
    },
    /// No copy could be read to its end.
    #[error("cannot read artifact {hash} on {dataset}")]
    CopyUnreadable {
        /// The artifact.
        hash: ArtifactHash,
        /// The dataset's name.
        dataset: String,
        /// What failed.
        #[source]
        source: StorageError,
    },
    /// A dataset did not answer within the limit.
    #[error("{dataset} did not answer within {limit:?}")]
    DatasetTooSlow {
        /// The dataset's name.
        dataset: String,
        /// The limit.
        limit: Duration,
    },
    /// An artifact could not be moved to the trash.
    #[error("cannot delete artifact {hash} on {dataset}")]
    DeleteFailed {
        /// The artifact.
        hash: ArtifactHash,
        /// The dataset's name.
        dataset: String,
        /// What failed.
        #[source]
        source: StorageError,
    },
    /// The store is shutting down.
    #[error("the artifact store is shutting down")]
    ShuttingDown,
}

/// Kinds of [`StoreError`], for callers that map them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ErrorClass {
    /// No config is in force.
    NoConfig,
    /// The config does not want the artifact.
    NotInConfig,
    /// Not the generation in force.
    ConfigGeneration,
    /// Another cluster's.
    ClusterMismatch,
    /// The bytes are not the artifact.
    DigestMismatch,
    /// Not as many bytes as announced.
    LengthMismatch,
    /// The config wants the artifact.
    ArtifactWanted,
    /// No room.
    NoSpace,
    /// No dataset works.
    NoHealthyDataset,
    /// No verified copy.
    ArtifactNotFound,
    /// The range is not inside the artifact.
    RangeNotSatisfiable,
    /// A disk failed in the middle; trying again may find another copy.
    Unavailable,
}

impl StoreError {
    /// What kind of refusal or failure this is.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            StoreError::NoConfig => ErrorClass::NoConfig,
            StoreError::NotInConfig { .. } => ErrorClass::NotInConfig,
            StoreError::ConfigGeneration { .. } | StoreError::ConfigConflict { .. } => {
                ErrorClass::ConfigGeneration
            }
            StoreError::ClusterMismatch { .. } => ErrorClass::ClusterMismatch,
            StoreError::DigestMismatch { .. } => ErrorClass::DigestMismatch,
            StoreError::LengthMismatch { .. } => ErrorClass::LengthMismatch,
            StoreError::ArtifactWanted { .. } => ErrorClass::ArtifactWanted,
            StoreError::NoSpace { .. } => ErrorClass::NoSpace,
            StoreError::NoHealthyDataset { .. } => ErrorClass::NoHealthyDataset,
            StoreError::ArtifactNotFound { .. } => ErrorClass::ArtifactNotFound,
            StoreError::RangeOutside { .. } => ErrorClass::RangeNotSatisfiable,
            StoreError::CopyCorrupt { .. }
            | StoreError::CopyUnreadable { .. }
            | StoreError::DatasetTooSlow { .. }
            | StoreError::DeleteFailed { .. }
            | StoreError::ShuttingDown => ErrorClass::Unavailable,
        }
    }
}

fn list_failures(failures: &[DatasetFailure]) -> String {
    failures.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
