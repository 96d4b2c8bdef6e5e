//! Threads that wait for a job of the volume, and what of its answer is there. Owns who waits for which, and how many may.
//!
//! ```text
//!   thread ──Asked── Place ──► loop: a job ──told, part by part──► ended ──► Asked
//!                                 └── too many of them: refused ───────────────┘
//! ```

use crate::handle::NoAnswer;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Weak,
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::Duration,
};
use upstairs::{JobError, JobId};

/// Jobs of one kind that are waited for at most: as many as a volume has control connections and jobs of a Pantry, several times over.
pub(crate) const WAITING_MAX: usize = 64;

/// How a job has ended: what it was told, in the order in which it was. None, if there were too many.
type Told<T> = Option<Result<Vec<T>, JobError>>;

/// Where the answer of a job goes, and whether somebody waits for it.
#[derive(Debug)]
pub(crate) struct Place<T> {
    answer: SyncSender<Told<T>>,
    asker: Weak<()>,
}

/// Who waits for it.
#[derive(Debug)]
pub(crate) struct Asked<T> {
    answered: Receiver<Told<T>>,
    _is_there: Arc<()>,
}

/// Somebody is to wait for a job.
pub(crate) fn asked<T>() -> (Place<T>, Asked<T>) {
    // There is room for the answer: the loop does not wait.
    let (answer, answered) = sync_channel(1);
    let is_there = Arc::new(());
    (Place { answer, asker: Arc::downgrade(&is_there) }, Asked { answered, _is_there: is_there })
}

impl<T> Place<T> {
    /// Ends it before it was begun.
    pub(crate) fn refuse(self, error: JobError) {
        drop(self.answer.try_send(Some(Err(error))));
    }
}

impl<T> Asked<T> {
    /// Waits for the answer, so long at most: none, if it is not there by then.
    pub(crate) fn wait(&self, limit: Duration) -> Result<Option<Result<Vec<T>, JobError>>, NoAnswer> {
        match self.answered.recv_timeout(limit) {
            Ok(Some(told)) => Ok(Some(told)),
            Ok(None) => Err(NoAnswer::Full),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(NoAnswer::Gone),
        }
    }
}

/// Those that are under way, [`WAITING_MAX`] at most.
#[derive(Debug)]
pub(crate) struct Waiting<T>(BTreeMap<JobId, (Place<T>, Vec<T>)>);

impl<T> Default for Waiting<T> {
    fn default() -> Self {
        Waiting(BTreeMap::new())
    }
}

impl<T> Waiting<T> {
    /// Somebody waits for this job from now on. False if there are too many already: then it is told so, and the job is not to be begun.
    #[must_use]
    pub(crate) fn begin(&mut self, job: JobId, place: Place<T>) -> bool {
        let has_room = self.0.len() < WAITING_MAX;
        if has_room {
            self.0.insert(job, (place, Vec::new()));
        } else {
            drop(place.answer.try_send(None));
        }
        has_room
    }

    /// Jobs that nobody waits for any more, which are not known from now on.
    pub(crate) fn take_left(&mut self) -> Vec<JobId> {
        self.0.extract_if(.., |_, (place, _)| place.asker.strong_count() == 0).map(|(job, _)| job).collect()
    }

    /// This is a part of its answer.
    pub(crate) fn note(&mut self, job: JobId, told: Vec<T>) {
        if let Some((_, known)) = self.0.get_mut(&job) {
            known.extend(told);
        }
    }

    /// It has ended, if it is one of these.
    pub(crate) fn end(&mut self, job: JobId, result: &Result<(), JobError>) {
        if let Some((place, told)) = self.0.remove(&job) {
            // Who does not wait any more asks again, and hears what there is.
            drop(place.answer.try_send(Some(result.clone().map(|()| told))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn one_more_than_may_wait_is_refused_until_another_one_has_ended_or_is_left() {
        let mut waiting = Waiting::<u8>::default();
        let begin = |waiting: &mut Waiting<u8>, job| {
            let (place, asked) = asked();
            (waiting.begin(JobId(job), place), asked)
        };
        let mut all: Vec<_> = (0..WAITING_MAX as u64).map(|job| begin(&mut waiting, job)).collect();
        assert!(all.iter().all(|(is_begun, asked)| *is_begun && asked.wait(NOW) == Ok(None)));
        let (is_begun, refused) = begin(&mut waiting, 100);
        assert!(!is_begun && refused.wait(NOW) == Err(NoAnswer::Full));
        waiting.note(JobId(3), vec![7]);
        waiting.end(JobId(3), &Ok(()));
        assert_eq!(all[3].1.wait(NOW), Ok(Some(Ok(vec![7]))));
        assert!(begin(&mut waiting, 101).0);
        // Nobody holds that one: it is left.
        drop(all.pop());
        assert_eq!(waiting.take_left(), [JobId(WAITING_MAX as u64 - 1), JobId(101)]);
        assert_eq!(waiting.take_left(), []);
        assert!(begin(&mut waiting, 102).0);
    }
}
