//! From the store's own types to the wire's. They are kept apart so that neither binds the other.

use artifact_store::{StoreArtifactsConfig, StoreListing, WriteReport};
use sled_client::artifacts::{
    ArtifactsConfig, ArtifactsList, DatasetFailure, DatasetHealth, DatasetStatus, ListedArtifact,
    PutArtifactResult, QuarantinedCopy, ScrubCause, ScrubStatus,
};

pub(crate) fn config(config: &StoreArtifactsConfig) -> ArtifactsConfig {
    ArtifactsConfig {
        cluster_id: config.cluster_id,
        generation: config.generation,
        artifacts: config.artifacts.clone(),
    }
}

pub(crate) fn write_report(report: WriteReport) -> PutArtifactResult {
    let failure = |failure: artifact_store::DatasetFailure| DatasetFailure {
        dataset: failure.dataset.clone(),
        cause: failure.cause.to_string(),
    };
    PutArtifactResult {
        datasets: report.datasets,
        successful_writes: report.successful_writes,
        failures: report.failures.into_iter().map(failure).collect(),
    }
}

pub(crate) fn list(listing: StoreListing) -> ArtifactsList {
    ArtifactsList {
        generation: listing.generation,
        list: listing
            .list
            .into_iter()
            .map(|(hash, artifact)| {
                let listed = ListedArtifact {
                    copies: artifact.copies,
                    size: artifact.size,
                    verified_at: artifact.verified_at,
                };
                (hash, listed)
            })
            .collect(),
        datasets: datasets(listing.datasets),
        orphan_bytes: listing.orphan_bytes,
        trash_bytes: listing.trash_bytes,
        unverified: listing.unverified,
        quarantined: listing
            .quarantined
            .into_iter()
            .map(|copy| QuarantinedCopy {
                hash: copy.hash,
                dataset: copy.dataset,
                size: copy.size,
                found_at: copy.found_at,
            })
            .collect(),
        scrub: scrub(listing.scrub),
    }
}

pub(crate) fn datasets(datasets: Vec<artifact_store::DatasetReport>) -> Vec<DatasetStatus> {
    datasets
        .into_iter()
        .map(|dataset| DatasetStatus {
            name: dataset.name,
            dir: dataset.dir.into_string(),
            capacity: dataset.capacity,
            used: dataset.used,
            health: match dataset.health {
                artifact_store::DatasetHealth::Healthy => DatasetHealth::Healthy,
                artifact_store::DatasetHealth::Full => DatasetHealth::Full,
                artifact_store::DatasetHealth::ReadOnly => DatasetHealth::ReadOnly,
                artifact_store::DatasetHealth::Slow => DatasetHealth::Slow,
                artifact_store::DatasetHealth::Failed => DatasetHealth::Failed,
                artifact_store::DatasetHealth::Missing => DatasetHealth::Missing,
            },
            reason: dataset.reason,
            since: dataset.since,
        })
        .collect()
}

pub(crate) fn scrub(scrub: artifact_store::ScrubReport) -> ScrubStatus {
    ScrubStatus {
        running: scrub.running,
        cause: scrub.cause.map(|cause| match cause {
            artifact_store::ScrubCause::Asked => ScrubCause::Asked,
            artifact_store::ScrubCause::Age => ScrubCause::Age,
        }),
        bytes_done: scrub.bytes_done,
        bytes_total: scrub.bytes_total,
        corrupt: scrub.corrupt,
        finished_at: scrub.finished_at,
    }
}
