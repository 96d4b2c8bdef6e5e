//! The background task that takes sagas that ended long ago out of the database, into an archive of compressed JSON lines
//! under `<state_dir>/saga-archive`. How, and what a crash leaves: `nexus_database::sagas`.

use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{RealDisk, Storage};
use jiff::{SignedDuration, Timestamp};
use nexus_database::Database;
use nexus_tasks::{Activation, Activator, BackgroundTask, PassFuture, Reason, TaskFailure};
use serde::Serialize;
use std::{fs, io, sync::Arc, time::Duration};

/// Sagas that one pass takes at most; if there are more, the next pass follows at once. Bounds the time of a pass.
const SAGAS_MAX: u64 = 10_000;

/// The task.
#[derive(Debug)]
pub struct RetentionTask {
    database: Database,
    directory: Utf8PathBuf,
    archive: Arc<dyn Storage>,
    keep: Duration,
    activator: Activator,
}

/// The archive is gone, and cannot be made again.
#[derive(Debug, thiserror::Error)]
#[error("cannot make the directory of the archive of sagas, {directory}")]
struct NoArchive {
    directory: Utf8PathBuf,
    #[source]
    source: io::Error,
}

/// What one pass did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
struct Report {
    /// Sagas that ended before this were taken.
    ended_before: Option<Timestamp>,
    /// Sagas in files of the archive.
    archived: u64,
    /// Sagas that were deleted from the database.
    pruned: u64,
    /// The files that were written.
    files: Vec<String>,
}

impl RetentionTask {
    /// Keeps sagas that have ended for so long.
    ///
    /// # Errors
    /// The archive's directory cannot be made.
    pub fn open(
        database: Database,
        state_dir: &Utf8Path,
        keep: Duration,
        activator: Activator,
    ) -> io::Result<RetentionTask> {
        let directory = state_dir.join("saga-archive");
        fs::create_dir_all(&directory)?;
        let archive = Arc::new(RealDisk::new(directory.clone()));
        Ok(RetentionTask { database, directory, archive, keep, activator })
    }
}

impl BackgroundTask for RetentionTask {
    fn name(&self) -> &'static str {
        "saga_retention"
    }

    fn description(&self) -> &'static str {
        "archives sagas that ended long ago, and prunes them"
    }

    fn run<'a>(&'a mut self, _activation: &'a Activation) -> PassFuture<'a> {
        Box::pin(async move {
            let keep = SignedDuration::try_from(self.keep).unwrap_or(SignedDuration::MAX);
            // So long that nothing can be that old.
            let Ok(ended_before) = Timestamp::now().checked_sub(keep) else {
                return Ok(to_value(&Report::default()));
            };
            // Whoever has moved it away, with what is in it, gets the next files in a new one.
            let made = tokio::fs::create_dir_all(&self.directory).await;
            made.map_err(|source| {
                let directory = self.directory.clone();
                TaskFailure::new(NoArchive { directory, source })
            })?;
            let done = self.database.archive_and_prune_sagas(&self.archive, ended_before, SAGAS_MAX).await;
            let done = done.map_err(TaskFailure::new)?;
            if done.archived == SAGAS_MAX {
                self.activator.activate(Reason::Event("more_ended_sagas"));
            }
            Ok(to_value(&Report {
                ended_before: Some(ended_before),
                archived: done.archived,
                pruned: done.pruned,
                files: done.files.iter().map(ToString::to_string).collect(),
            }))
        })
    }
}

fn to_value(report: &Report) -> serde_json::Value {
    serde_json::to_value(report).expect("a report is plain data")
}
