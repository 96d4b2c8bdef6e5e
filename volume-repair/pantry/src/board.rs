//! What is done with one volume: its jobs, and its export. Owns who may do what at the same time, and what is remembered.

use crate::{
    error::PantryError,
    job::{Job, Wanted},
};
use ids::{JobId, VolumeId};
use sled_client::pantry::Exported;
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Jobs of one volume that run at a time: an import, a scrub, and some that are being tried. Each has a thread, and 8 MiB under way.
const RUNNING_MAX: usize = 4;

/// Jobs of one volume that are remembered at most, those that run among them. A coordinator looks at a job soon after its end.
const JOBS_MAX: usize = 32;

/// The board of one volume.
#[derive(Default)]
pub(crate) struct Board(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    jobs: BTreeMap<JobId, Arc<Job>>,
    /// In the order in which they began.
    order: VecDeque<JobId>,
    exported: Option<Exported>,
    /// The volume is being detached: nothing more begins.
    is_closed: bool,
}

/// A job that was asked for.
pub(crate) enum Begun {
    /// It is to be done.
    New(Arc<Job>),
    /// It was asked for before.
    Known(Arc<Job>),
}

impl Board {
    /// A job, which runs from now on, or has the same id and is the same.
    pub(crate) fn begin(
        &self,
        volume: VolumeId,
        id: Option<JobId>,
        wanted: Wanted,
        bytes: u64,
    ) -> Result<Begun, PantryError> {
        let mut inner = self.lock();
        if let Some(known) = id.and_then(|id| inner.jobs.get(&id)) {
            if known.wanted == wanted && known.bytes == bytes {
                return Ok(Begun::Known(Arc::clone(known)));
            }
            return Err(PantryError::JobConflict(known.id));
        }
        if inner.is_closed {
            return Err(PantryError::NotFound(volume));
        }
        let running = inner.running().count();
        if running >= RUNNING_MAX {
            return Err(PantryError::JobsFull { id: volume, running });
        }
        if matches!(wanted, Wanted::Import { .. }) {
            inner.check_unwritten(volume)?;
        }
        let job = Arc::new(Job::new(id.unwrap_or_else(JobId::generate), wanted, bytes));
        inner.jobs.insert(job.id, Arc::clone(&job));
        inner.order.push_back(job.id);
        inner.forget();
        Ok(Begun::New(job))
    }

    /// Exports it, in this way, too: once clients may write, they may until it is detached.
    pub(crate) fn export(&self, volume: VolumeId, how: Exported) -> Result<(), PantryError> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Err(PantryError::NotFound(volume));
        }
        if how == Exported::ReadWrite && inner.exported != Some(Exported::ReadWrite) {
            inner.check_unwritten(volume)?;
        }
        if inner.exported != Some(Exported::ReadWrite) {
            inner.exported = Some(how);
        }
        Ok(())
    }

    /// Ends all jobs, and lets none begin.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.jobs.values().for_each(|job| job.cancel());
    }

    pub(crate) fn exported(&self) -> Option<Exported> {
        self.lock().exported
    }

    pub(crate) fn running(&self) -> usize {
        self.lock().running().count()
    }

    pub(crate) fn get(&self, id: JobId) -> Option<Arc<Job>> {
        self.lock().jobs.get(&id).cloned()
    }

    /// Those that are remembered, newest first.
    pub(crate) fn list(&self) -> Vec<Arc<Job>> {
        let inner = self.lock();
        inner.order.iter().rev().filter_map(|id| inner.jobs.get(id).cloned()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn running(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.values().filter(|job| job.is_running())
    }

    /// Two that write would make a mixture of both.
    fn check_unwritten(&self, id: VolumeId) -> Result<(), PantryError> {
        if self.running().any(|job| matches!(job.wanted, Wanted::Import { .. })) {
            return Err(PantryError::Written { id, by: "is being filled by an import" });
        }
        if self.exported == Some(Exported::ReadWrite) {
            return Err(PantryError::Written { id, by: "is exported read/write" });
        }
        Ok(())
    }

    /// The oldest that have ended, beyond what is remembered.
    fn forget(&mut self) {
        while self.jobs.len() > JOBS_MAX {
            let ended = |id: &JobId| self.jobs.get(id).is_none_or(|job| !job.is_running());
            let Some(place) = self.order.iter().position(ended) else { return };
            if let Some(id) = self.order.remove(place) {
                self.jobs.remove(&id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use problem::Code;

    fn import() -> Wanted {
        Wanted::Import { url: None, sha256: None }
    }

    fn new(begun: Result<Begun, PantryError>) -> Arc<Job> {
        match begun {
            Ok(Begun::New(job)) => job,
            Ok(Begun::Known(job)) => panic!("{} was known", job.id),
            Err(error) => panic!("{error}"),
        }
    }

    fn refusal(begun: Result<Begun, PantryError>) -> Code {
        begun.err().map(|error| error.code()).expect("it is refused")
    }

    #[test]
    fn an_id_stands_for_one_job_and_the_same_one_is_found_again() {
        let (board, volume) = (Board::default(), VolumeId::generate());
        let job = new(board.begin(volume, None, import(), 8));
        for is_over in [false, true] {
            if is_over {
                job.end(Ok(None));
            }
            let Ok(Begun::Known(again)) = board.begin(volume, Some(job.id), import(), 8) else {
                panic!("it is known")
            };
            assert!(Arc::ptr_eq(&again, &job));
            let others = [(Wanted::Scrub, 8), (import(), 9)];
            for (wanted, bytes) in others {
                let other = board.begin(volume, Some(job.id), wanted, bytes);
                assert_eq!(refusal(other), Code::PantryJobConflict);
            }
        }
    }

    #[test]
    fn one_writes_at_a_time_and_readers_are_not_held_up() {
        let (board, volume) = (Board::default(), VolumeId::generate());
        let export = |how| board.export(volume, how).map_err(|error| error.code());
        let first = new(board.begin(volume, None, import(), 8));
        assert_eq!(refusal(board.begin(volume, None, import(), 8)), Code::PantryWritten);
        assert_eq!(export(Exported::ReadWrite), Err(Code::PantryWritten));
        assert_eq!(export(Exported::ReadOnly), Ok(()));
        new(board.begin(volume, None, Wanted::Scrub, 8));
        first.end(Ok(None));
        assert_eq!(export(Exported::ReadWrite), Ok(()));
        assert_eq!(export(Exported::ReadOnly), Ok(()));
        assert_eq!(board.exported(), Some(Exported::ReadWrite));
        assert_eq!(refusal(board.begin(volume, None, import(), 8)), Code::PantryWritten);
    }

    #[test]
    fn jobs_are_bounded_and_the_oldest_that_ended_are_forgotten() {
        let (board, volume) = (Board::default(), VolumeId::generate());
        let runs = new(board.begin(volume, None, Wanted::Scrub, 8));
        let ended: Vec<JobId> = (0..JOBS_MAX)
            .map(|_| {
                let job = new(board.begin(volume, None, Wanted::Scrub, 8));
                job.end(Ok(None));
                job.id
            })
            .collect();
        assert!(board.get(runs.id).is_some() && board.get(ended[0]).is_none());
        assert!(board.get(ended[1]).is_some());
        assert_eq!(board.list().len(), JOBS_MAX);
        assert_eq!(board.list()[0].id, ended[JOBS_MAX - 1]);
        for _ in 1..RUNNING_MAX {
            new(board.begin(volume, None, Wanted::Scrub, 8));
        }
        assert_eq!(refusal(board.begin(volume, None, Wanted::Scrub, 8)), Code::TooManyRequests);
        board.close();
        assert!(board.list().iter().filter(|job| job.is_running()).all(|job| job.cancelled.is_cancelled()));
        board.list().iter().for_each(|job| job.end(Ok(None)));
        assert_eq!(refusal(board.begin(volume, None, Wanted::Scrub, 8)), Code::PantryVolumeNotFound);
    }
}
