//! The words that every other crate uses for *which one* and *which version*.
//!
//! - [`uuid_ids`]: one newtype per kind of thing, so that a sled id never goes where a cluster id belongs.
//! - [`artifact_hash`]: the SHA-256 that names an artifact.
//! - [`generation`]: the version of a control record.
//!
//! Everything here is plain data: it parses, prints, compares and serialises, and decides nothing.

mod artifact_hash;
mod generation;
mod uuid_ids;

pub use artifact_hash::{ArtifactHash, ParseArtifactHashError};
pub use generation::{AdoptionEpoch, AgentEpoch, Generation};
pub use uuid_ids::{
    ClusterId, CoordinatorId, DiskId, JobId, ParseIdError, RegionId, RegionSetId, RepairId, RepositoryId,
    SagaId, SledId, SnapshotId, TrustRootId, UploadId, VolumeId,
};
