//! Keeps the staging directory and the rows that name its files in agreement: at the start, and from time to time.
//!
//! What a crash, a failing disk or a commit of unknown outcome leaves is a file without a row, or (after a loss) a row
//! without a file. A pass looks in this order, so that it never takes what an upload that runs needs:
//!
//! | step | because |
//! |---|---|
//! | 1 prove that a write can be made | after a commit of unknown outcome this settles what the rows say |
//! | 2 list the files, but for those of uploads that run | such an upload may not have its row yet |
//! | 3 read the rows | an upload that is not running any more has written its row by now, or never will |
//! | 4 remove files that no row names | |
//! | 5 look for the file of each row | a row goes before its file, so a file that is missing was lost, or is let go |
//! | 6 prove that the directory is the one of the start | an unmounted disk shows an empty one |
//! | 7 forget rows whose file this pass and the one before it missed | |
//!
//! A file is missed only if the disk says that there is none; a disk that cannot tell makes the pass fail, and the next
//! one misses anew. So an upload that was acknowledged is not let go for a fault that passes.
//!
//! A crash after any step leaves the rest to the next pass.

use crate::releases::{StagingArea, StagingError, staging::StagedFile};
use ids::CoordinatorId;
use nexus_database::{Database, DatabaseError, repositories::StagedRow};
use nexus_tasks::{Activation, BackgroundTask, PassFuture, TaskFailure};
use serde::Serialize;
use std::collections::BTreeSet;
use thiserror::Error;

/// Keeps staging and rows in agreement.
#[derive(Clone, Debug)]
pub struct CleanUp {
    /// Where the rows are.
    pub database: Database,
    /// Where the files are.
    pub staging: StagingArea,
    /// Whose files these are.
    pub coordinator_id: CoordinatorId,
    /// Files that the last pass missed, if it looked at all of them.
    missed: BTreeSet<String>,
}

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Files that no row names, removed.
    pub files_removed: u64,
    /// Their bytes.
    pub bytes_removed: u64,
    /// Files that no row names and that could not be removed.
    pub files_stuck: u64,
    /// Rows whose file was not there, for the first time: if the next pass misses it too, it is lost.
    pub uploads_missing: u64,
    /// Rows whose file is gone, forgotten: those uploads must be repeated unless sleds hold all of them.
    pub uploads_lost: u64,
}

/// A pass that could not look.
#[derive(Debug, Error)]
pub enum CleanUpError {
    /// The rows are not to be had.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The files are not to be had.
    #[error(transparent)]
    Staging(#[from] StagingError),
}

impl BackgroundTask for CleanUp {
    fn name(&self) -> &'static str {
        "staging_cleanup"
    }

    fn description(&self) -> &'static str {
        "removes uploaded files that nothing needs"
    }

    fn run<'a>(&'a mut self, _activation: &'a Activation) -> PassFuture<'a> {
        Box::pin(async move {
            let report = self.pass().await.map_err(TaskFailure::new)?;
            Ok(serde_json::to_value(report).expect("a report is plain data"))
        })
    }
}

impl CleanUp {
    /// Keeps these in agreement.
    #[must_use]
    pub fn new(database: Database, staging: StagingArea, coordinator_id: CoordinatorId) -> CleanUp {
        CleanUp { database, staging, coordinator_id, missed: BTreeSet::new() }
    }

    /// One pass.
    pub async fn pass(&mut self) -> Result<Report, CleanUpError> {
        // Two passes in a row have to agree, and one that fails agrees with nobody.
        let missed_before = std::mem::take(&mut self.missed);
        self.database.probe_write().await?;
        self.staging.check_identity().await?;
        let files = self.staging.files_at_rest().await?;
        let rows = self.database.staged(self.coordinator_id).await?;
        let mut report = Report::default();
        self.remove_nameless(&files, &rows, &mut report).await;
        let mut not_there = Vec::new();
        for row in &rows {
            if !self.staging.holds(&row.file).await? {
                not_there.push(row);
            }
        }
        self.staging.check_identity().await?;
        let mut missed = BTreeSet::new();
        for row in not_there {
            if !missed_before.contains(&row.file) {
                tracing::warn!(file = row.file, repository = %row.repository_id, "a staged upload is not there");
                missed.insert(row.file.clone());
                report.uploads_missing += 1;
            } else if self.database.unstage(row.repository_id, self.coordinator_id, &row.file).await? {
                tracing::error!(file = row.file, repository = %row.repository_id, "a staged upload is gone; upload it again");
                report.uploads_lost += 1;
            }
        }
        self.missed = missed;
        Ok(report)
    }

    async fn remove_nameless(&self, files: &[StagedFile], rows: &[StagedRow], report: &mut Report) {
        let named: BTreeSet<&str> = rows.iter().map(|row| row.file.as_str()).collect();
        for file in files.iter().filter(|file| !named.contains(file.name.as_str())) {
            match self.staging.remove(&file.name).await {
                Ok(()) => {
                    tracing::info!(
                        file = file.name,
                        bytes = file.size,
                        "removed an upload that no release names"
                    );
                    report.files_removed += 1;
                    report.bytes_removed += file.size;
                }
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, "an upload cannot be removed");
                    report.files_stuck += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::releases::bench::{self, Bench};
    use bytes::Bytes;
    use camino_tempfile::Utf8TempDir;

    async fn clean_up() -> (Utf8TempDir, CleanUp) {
        let Bench { dir, database, staging, coordinator_id } = Bench::new().await;
        (dir, CleanUp::new(database, staging, coordinator_id))
    }

    async fn record(clean_up: &CleanUp, file: &str) {
        bench::record(&clean_up.database, clean_up.coordinator_id, file).await;
    }

    #[tokio::test]
    async fn what_no_row_names_goes_and_what_is_named_or_under_way_stays() {
        let (_dir, mut clean_up) = clean_up().await;
        let staging = clean_up.staging.clone();
        std::fs::write(staging.path("019aa5a5-0000-7000-8000-000000000000.zip.part"), b"half").unwrap();
        std::fs::write(staging.path("odd"), b"odd").unwrap();
        let mut receiving = staging.receive(None).unwrap();
        receiving.write(Bytes::from_static(b"being received")).await.unwrap();
        let staged = staging.receive(None).unwrap().finish().await.unwrap().publish().await.unwrap();
        let report = clean_up.pass().await.unwrap();
        assert_eq!((report.files_removed, report.bytes_removed), (2, 7));
        assert!(staging.holds(&staged.file).await.unwrap(), "its row may come any moment");
        let received = receiving.finish().await.expect("it was left alone");

        record(&clean_up, &staged.file).await;
        let file = staged.file.clone();
        drop(staged);
        let orphan = received.publish().await.unwrap().file;
        let report = clean_up.pass().await.unwrap();
        assert_eq!((report.files_removed, report.uploads_lost), (1, 0));
        assert!(staging.holds(&file).await.unwrap() && !staging.holds(&orphan).await.unwrap());
        assert_eq!(clean_up.pass().await.unwrap(), Report::default(), "there is nothing left to do");
    }

    #[tokio::test]
    async fn a_row_whose_file_is_gone_is_forgotten_once() {
        let (_dir, mut clean_up) = clean_up().await;
        record(&clean_up, "gone.zip").await;
        let missed = clean_up.pass().await.unwrap();
        assert_eq!((missed.uploads_missing, missed.uploads_lost), (1, 0), "once may be a mistake");
        let lost = clean_up.pass().await.unwrap();
        assert_eq!((lost.uploads_missing, lost.uploads_lost), (0, 1));
        assert_eq!(clean_up.pass().await.unwrap(), Report::default());
        assert!(clean_up.database.repository("1.0.0").await.unwrap().is_some(), "the release stays wanted");
    }

    #[tokio::test]
    async fn a_row_whose_file_cannot_be_looked_at_stays() {
        let (_dir, mut clean_up) = clean_up().await;
        // Longer than any name may be: the disk answers with an error that is not "not found".
        record(&clean_up, &"x".repeat(300)).await;
        for _ in 0..3 {
            let error = clean_up.pass().await.unwrap_err();
            assert!(matches!(error, CleanUpError::Staging(StagingError::Look { .. })), "{error}");
        }
        let rows = clean_up.database.staged(clean_up.coordinator_id).await.unwrap();
        assert_eq!(rows.len(), 1, "an upload that was acknowledged is let go");
    }

    #[tokio::test]
    async fn an_empty_directory_in_the_place_of_the_staging_directory_loses_no_upload() {
        let (dir, mut clean_up) = clean_up().await;
        let staged = clean_up.staging.receive(None).unwrap().finish().await.unwrap().publish().await.unwrap();
        record(&clean_up, &staged.file).await;
        drop(staged);
        let (staging, away) = (dir.path().join("staging"), dir.path().join("away"));
        std::fs::rename(&staging, &away).unwrap();
        std::fs::create_dir(&staging).unwrap();
        std::fs::write(staging.join("of somebody else"), b"kept").unwrap();
        for _ in 0..3 {
            let error = clean_up.pass().await.unwrap_err();
            assert!(matches!(error, CleanUpError::Staging(StagingError::Replaced { .. })), "{error}");
        }
        assert!(staging.join("of somebody else").exists());
        std::fs::remove_dir_all(&staging).unwrap();
        std::fs::rename(&away, &staging).unwrap();
        assert_eq!(clean_up.pass().await.unwrap(), Report::default());
        assert_eq!(clean_up.database.staged(clean_up.coordinator_id).await.unwrap().len(), 1);
    }
}
