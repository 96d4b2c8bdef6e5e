//! Threads that wait for a job of the volume, and what of its answer is there. Owns who waits for which.

use std::{collections::BTreeMap, sync::mpsc::SyncSender};
use upstairs::{JobError, JobId};

/// How a job has ended: what it was told, in the order in which it was.
pub(crate) type Told<T> = Result<Vec<T>, JobError>;

/// Those that are under way. Who asks waits for one at a time, or a few; one that nobody waits for any more ends here all the same.
#[derive(Debug)]
pub(crate) struct Waiting<T>(BTreeMap<JobId, (SyncSender<Told<T>>, Vec<T>)>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Waiting(BTreeMap::new())
    }
}

impl<T> Waiting<T> {
    pub(crate) fn begin(&mut self, job: JobId, answer: SyncSender<Told<T>>) {
        self.0.insert(job, (answer, Vec::new()));
    }

    /// This is a part of its answer.
    pub(crate) fn note(&mut self, job: JobId, told: Vec<T>) {
        if let Some((_, known)) = self.0.get_mut(&job) {
            known.extend(told);
        }
    }

    /// It has ended, if it is one of these.
    pub(crate) fn end(&mut self, job: JobId, result: &Result<(), JobError>) {
        if let Some((answer, told)) = self.0.remove(&job) {
            // Who does not wait any more asks again, and hears what there is.
            drop(answer.try_send(result.clone().map(|()| told)));
        }
    }
}
