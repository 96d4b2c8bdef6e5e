//! Snapshots that are asked for by the control socket. Owns who waits for which.

use ids::{RegionId, SnapshotId};
use std::{collections::BTreeMap, sync::mpsc::SyncSender};
use upstairs::{JobError, JobId};

/// What is done with a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotOrder {
    /// It is taken, of what was written until now.
    Take(SnapshotId),
    /// It is not needed any more.
    Delete(SnapshotId),
}

/// How that has ended: the regions that have the snapshot, if it was taken.
pub(crate) type SnapshotResult = Result<Vec<RegionId>, JobError>;

/// Those that are under way: as many as orders wait at most, for the volume refuses more.
#[derive(Debug, Default)]
pub(crate) struct Snapshots {
    waiting: BTreeMap<JobId, (SyncSender<SnapshotResult>, Vec<RegionId>)>,
}

impl Snapshots {
    pub(crate) fn begin(&mut self, job: JobId, answer: SyncSender<SnapshotResult>) {
        self.waiting.insert(job, (answer, Vec::new()));
    }

    /// These regions have it.
    pub(crate) fn note_taken(&mut self, job: JobId, regions: Vec<RegionId>) {
        if let Some((_, known)) = self.waiting.get_mut(&job) {
            *known = regions;
        }
    }

    /// It has ended, if it was one.
    pub(crate) fn end(&mut self, job: JobId, result: &Result<(), JobError>) {
        if let Some((answer, regions)) = self.waiting.remove(&job) {
            // Who does not wait any more asks again, and hears what there is.
            drop(answer.try_send(result.clone().map(|()| regions)));
        }
    }
}
