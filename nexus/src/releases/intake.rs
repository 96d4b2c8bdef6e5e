//! One upload, from its first byte to its acknowledgement.
//!
//! ```text
//!   receive ──► examine ──► make durable ──► record ──► acknowledge
//!      │           │              │             │
//!      └───────────┴──── refuse ──┴─────────────┘   nothing was changed, nothing is kept
//! ```
//!
//! Receiving ends with the client's connection. From there on the work runs in a task of its own: a client that goes
//! away neither stops it halfway nor leaves anything behind.
//!
//! | the coordinator dies | then |
//! |---|---|
//! | before *record* | nothing was acknowledged; the clean-up (`reconcile`) removes the file |
//! | after *record* | the row names the durable file: the next start replicates from it |
//!
//! So an acknowledged upload survives at any later instant, because the acknowledgement follows *record*.

use crate::releases::staging::{Received, StagingArea, StagingError};
use camino::{Utf8Path, Utf8PathBuf};
use http_edge::{ApiError, body::BoundedBody};
use ids::{ArtifactHash, CoordinatorId};
use nexus_client::releases::UploadStatus;
use nexus_database::{
    Database, DatabaseError, ErrorClass,
    repositories::{ArtifactRow, InsertOutcome, NewRepository},
};
use nexus_release::{ExamineError, ExamineOptions, ExaminedRelease, ExpiryPolicy, TrustedRoot};
use nexus_tasks::{Activator, Reason};
use problem::Finding;
use std::sync::Arc;
use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Takes uploads in.
#[derive(Debug)]
pub struct Intake {
    database: Database,
    staging: StagingArea,
    coordinator_id: CoordinatorId,
    expanded_bytes_max: u64,
    expiry: ExpiryPolicy,
    scratch: Utf8PathBuf,
    slots: Arc<Semaphore>,
    replication: Activator,
}

/// What the uploader says about an upload.
#[derive(Clone, Debug, Default)]
pub struct Upload {
    /// The file's name, for people.
    pub file_name: Option<String>,
    /// The version of a release without `artifacts.json`.
    pub system_version: Option<String>,
}

/// An upload that was taken in.
#[derive(Clone, Debug)]
pub struct Taken {
    /// The release's version.
    pub system_version: String,
    /// SHA-256 of the zip, hexadecimal.
    pub sha256: String,
    /// New, or known already.
    pub status: UploadStatus,
    /// What is odd about it.
    pub warnings: Vec<String>,
    /// The artifacts that it wants.
    pub artifacts: Vec<ArtifactHash>,
}

/// An upload that was not taken in. Nothing was changed and nothing is kept.
#[derive(Debug, Error)]
pub enum IntakeError {
    /// As many uploads run as may.
    #[error("{running} uploads are running already")]
    Busy {
        /// How many run.
        running: usize,
    },
    /// The body can not be received.
    #[error("the upload was not received")]
    Body(ApiError),
    /// The bytes can not be kept.
    #[error(transparent)]
    Staging(#[from] StagingError),
    /// The database can not be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The release is not acceptable, for these reasons.
    #[error("the release is refused")]
    Rejected(Vec<Finding>),
    /// The zip can not be examined; says nothing about the release.
    #[error("cannot examine the upload")]
    Examine(#[source] ExamineError),
    /// The trust root that vouched for it was deleted while it was examined.
    #[error("the trust root that vouched for this release was deleted while it was uploaded")]
    TrustRootGone,
    /// The version is known with other content.
    #[error("version {system_version} is known with other content")]
    Conflict {
        /// The version.
        system_version: String,
        /// Where they differ.
        differences: Vec<String>,
    },
}

/// A slot for one upload, given before anything of its body is read.
#[derive(Debug)]
pub struct Admission {
    _slot: OwnedSemaphorePermit,
}

impl Intake {
    /// An intake of at most `uploads_at_once` at the same time.
    #[must_use]
    pub fn new(
        database: Database,
        staging: StagingArea,
        coordinator_id: CoordinatorId,
        settings: &crate::config::Config,
        replication: Activator,
    ) -> Intake {
        Intake {
            database,
            staging,
            coordinator_id,
            expanded_bytes_max: settings.release.expanded_bytes_max,
            expiry: match settings.tuf.expiry {
                crate::config::Expiry::Warn => ExpiryPolicy::Warn,
                crate::config::Expiry::Deny => ExpiryPolicy::Deny,
            },
            scratch: settings.scratch_dir(),
            slots: Arc::new(Semaphore::new(settings.release.uploads_at_once.max(1) as usize)),
            replication,
        }
    }

    /// Asks for a slot.
    pub fn admit(&self, uploads_at_once: u32) -> Result<Admission, IntakeError> {
        let slot = Arc::clone(&self.slots)
            .try_acquire_owned()
            .map_err(|_| IntakeError::Busy { running: uploads_at_once as usize })?;
        Ok(Admission { _slot: slot })
    }

    /// Receives, examines, keeps and records one upload.
    pub async fn take(
        self: &Arc<Self>,
        admission: Admission,
        upload: Upload,
        body: BoundedBody,
    ) -> Result<Taken, IntakeError> {
        let received = self.receive(body).await?;
        let intake = Arc::clone(self);
        let rest = tokio::spawn(async move {
            let _admission = admission;
            intake.examine_and_record(upload, received).await
        });
        rest.await.expect("taking an upload in does not panic")
    }

    async fn receive(&self, mut body: BoundedBody) -> Result<Received, IntakeError> {
        let mut receiving = match self.staging.receive(body.declared_bytes()) {
            Ok(receiving) => receiving,
            Err(error) => {
                body.refuse();
                return Err(error.into());
            }
        };
        loop {
            match body.next().await {
                Ok(Some(piece)) => {
                    if let Err(error) = receiving.write(piece).await {
                        body.refuse();
                        return Err(error.into());
                    }
                }
                Ok(None) => return Ok(receiving.finish().await?),
                Err(error) => {
                    body.refuse();
                    return Err(IntakeError::Body(error));
                }
            }
        }
    }

    async fn examine_and_record(&self, upload: Upload, received: Received) -> Result<Taken, IntakeError> {
        let release = self.examine(&upload, &received.path()).await?;
        let sha256 = received.sha256.clone();
        let artifacts: Vec<ArtifactHash> = release.artifacts.iter().map(|artifact| artifact.hash).collect();
        let staged = received.publish().await?;
        fault_points::reach("intake.durable").await;
        let new = NewRepository {
            system_version: release.system_version.clone(),
            sha256: sha256.clone(),
            file_name: upload.file_name,
            trust_root_id: release.trust_root,
            artifacts: release.artifacts.into_iter().map(row_of).collect(),
            coordinator_id: self.coordinator_id,
            staged_file: staged.file.clone(),
            staged_bytes: staged.size,
        };
        let outcome = self.database.repository_insert(&new).await;
        let status = match self.settle(outcome, &staged.file, &new.system_version).await {
            Ok(status) => status,
            Err(error) => {
                self.let_go(&error, &staged.file).await;
                return Err(error);
            }
        };
        fault_points::reach("intake.recorded").await;
        tracing::info!(
            version = new.system_version,
            artifacts = artifacts.len(),
            ?status,
            "release taken in"
        );
        self.replication.activate(Reason::Event("upload"));
        Ok(Taken {
            system_version: new.system_version,
            sha256,
            status,
            warnings: release.warnings,
            artifacts,
        })
    }

    async fn examine(&self, upload: &Upload, zip: &Utf8Path) -> Result<ExaminedRelease, IntakeError> {
        let roots: Vec<TrustedRoot> = self
            .database
            .trust_roots(None, u32::MAX)
            .await?
            .into_iter()
            .map(|row| TrustedRoot { id: row.id, root_json: row.root_json.into_bytes() })
            .collect();
        let options = ExamineOptions {
            system_version: upload.system_version.clone(),
            expanded_bytes_max: self.expanded_bytes_max,
            expiry: self.expiry,
            now: jiff::Timestamp::now(),
            scratch: self.scratch.clone(),
        };
        nexus_release::examine(zip, &roots, &options).await.map_err(|error| match error {
            ExamineError::Rejected(findings) => IntakeError::Rejected(findings),
            other => IntakeError::Examine(other),
        })
    }

    /// What the insert means for this upload and for the file that it may replace.
    async fn settle(
        &self,
        outcome: Result<InsertOutcome, DatabaseError>,
        staged_file: &str,
        system_version: &str,
    ) -> Result<UploadStatus, IntakeError> {
        match outcome? {
            InsertOutcome::Inserted { .. } => Ok(UploadStatus::Inserted),
            InsertOutcome::AlreadyExists { replaced_file, .. } => {
                if let Some(old) = replaced_file.filter(|old| old != staged_file) {
                    self.discard(&old).await;
                }
                Ok(UploadStatus::AlreadyExists)
            }
            InsertOutcome::TrustRootGone => Err(IntakeError::TrustRootGone),
            InsertOutcome::Conflict { differences } => {
                Err(IntakeError::Conflict { system_version: system_version.to_owned(), differences })
            }
        }
    }

    /// Removes the file of an upload that was not recorded. After a commit of which nobody knows whether it happened,
    /// the row may be there: then the file stays, and the clean-up of the staging directory finds out.
    async fn let_go(&self, error: &IntakeError, file: &str) {
        let is_recorded = match error {
            IntakeError::Database(error) if error.class() == ErrorClass::CommitUnknown => None,
            IntakeError::Database(_) => {
                let rows = self.database.staged(self.coordinator_id).await.ok();
                rows.map(|rows| rows.iter().any(|row| row.file == file))
            }
            _ => Some(false),
        };
        match is_recorded {
            Some(false) => self.discard(file).await,
            _ => {
                tracing::warn!(
                    file,
                    "it is not known whether an upload was recorded; its file stays for now"
                );
            }
        }
    }

    /// Removes a file that no row names. If that fails, the clean-up of the staging directory does it.
    async fn discard(&self, file: &str) {
        if let Err(error) = self.staging.remove(file).await {
            tracing::warn!(error = &error as &dyn std::error::Error, file, "a staged file stays for now");
        }
    }
}

fn row_of(artifact: nexus_release::ReleaseArtifact) -> ArtifactRow {
    ArtifactRow {
        name: artifact.name,
        version: artifact.version,
        kind: artifact.kind,
        target: artifact.target,
        entry: Some(artifact.entry),
        hash: artifact.hash,
        size: artifact.size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::releases::bench::{self, Bench};

    /// An intake, and a staged file that it is to let go.
    async fn intake_and_file() -> (Bench, Intake, String) {
        let bench = Bench::new().await;
        let intake = Intake {
            database: bench.database.clone(),
            staging: bench.staging.clone(),
            coordinator_id: bench.coordinator_id,
            expanded_bytes_max: 1,
            expiry: ExpiryPolicy::Warn,
            scratch: bench.dir.path().to_owned(),
            slots: Arc::new(Semaphore::new(1)),
            replication: Activator::new(),
        };
        let received = bench.staging.receive(None).unwrap().finish().await.unwrap();
        let file = received.publish().await.unwrap().file;
        (bench, intake, file)
    }

    fn failed() -> IntakeError {
        DatabaseError::Corrupt { column: "none", value: String::new() }.into()
    }

    #[tokio::test]
    async fn the_file_of_an_upload_that_was_not_recorded_goes() {
        let (bench, intake, file) = intake_and_file().await;
        intake.let_go(&failed(), &file).await;
        assert!(!bench.staging.holds(&file).await.unwrap());
    }

    #[tokio::test]
    async fn the_file_of_an_upload_that_was_recorded_all_the_same_stays() {
        let (bench, intake, file) = intake_and_file().await;
        bench::record(&bench.database, bench.coordinator_id, &file).await;
        intake.let_go(&failed(), &file).await;
        assert!(bench.staging.holds(&file).await.unwrap());
    }

    #[tokio::test]
    async fn the_file_stays_while_nobody_can_tell() {
        let (bench, intake, file) = intake_and_file().await;
        bench.database.close().await;
        intake.let_go(&failed(), &file).await;
        assert!(bench.staging.holds(&file).await.unwrap());
    }
}
