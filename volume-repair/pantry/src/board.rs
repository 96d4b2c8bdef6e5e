//! What is done with one volume: its jobs, and its exports. Owns who may do what at the same time, the highest right of a coordinator that has
//! come here, and what is remembered.

use crate::{
    error::PantryError,
    job::{Job, Order, Wanted},
    stale_epoch::StaleEpoch,
};
use ids::{JobId, VolumeId};
use sled_client::pantry::{ExportListen, Exported};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use volume_export::OpenDoor;

/// Jobs of one volume that run at a time: an import, a scrub, and some that are being tried. Each has a thread, and 8 MiB under way.
const RUNNING_MAX: usize = 4;

/// Jobs of one volume that are remembered at most, those that run among them. A coordinator looks at a job soon after its end.
const JOBS_MAX: usize = 32;

/// The board of one volume.
#[derive(Default)]
pub(crate) struct Board(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// The highest right of a coordinator that was heard of here. Checked where something begins, not before: the agent has checked it durably,
    /// but what it has let through may come late, behind what a newer coordinator was told to be done.
    executor_epoch: u64,
    jobs: BTreeMap<JobId, Arc<Job>>,
    /// In the order in which they began.
    order: VecDeque<JobId>,
    exports: BTreeMap<Way, Exporting>,
    /// The volume is being detached: nothing more begins.
    is_closed: bool,
}

/// By which way clients come, and what they may do: a volume is exported once by each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Way {
    pub(crate) listen: ExportListen,
    pub(crate) how: Exported,
}

/// An export.
#[derive(Clone, Debug)]
enum Exporting {
    /// Nobody can come yet. It counts all the same: nobody else begins to write.
    Begun,
    /// Here.
    At(OpenDoor),
}

/// An export that was asked for.
#[derive(Debug)]
pub(crate) enum Place {
    /// It is to be opened.
    New,
    /// It was asked for before.
    Known(OpenDoor),
}

/// A job that was asked for.
pub(crate) enum Begun {
    /// It is to be done.
    New(Arc<Job>),
    /// It was asked for before.
    Known(Arc<Job>),
}

impl Board {
    /// Hears of a coordinator's right. A lower one than was heard of before is refused.
    pub(crate) fn hear(&self, volume: VolumeId, executor_epoch: u64) -> Result<(), PantryError> {
        self.lock().hear(volume, executor_epoch)
    }

    /// The job that was asked for by the same order before, whatever the volume does by now; of so many bytes, if that is known.
    pub(crate) fn known(&self, order: &Order, bytes: Option<u64>) -> Result<Option<Arc<Job>>, PantryError> {
        self.lock().known(order, bytes)
    }

    /// A job, which runs from now on, or has the same id and is the same.
    pub(crate) fn begin(&self, volume: VolumeId, order: Order, bytes: u64) -> Result<Begun, PantryError> {
        let mut inner = self.lock();
        inner.hear(volume, order.executor_epoch)?;
        if let Some(known) = inner.known(&order, Some(bytes))? {
            return Ok(Begun::Known(known));
        }
        let Order { id, wanted, .. } = order;
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

    /// Begins to export it by this way, or finds that it is: [`Board::note_door`] or [`Board::end_export`] follows. As long as clients may write,
    /// nobody else does.
    pub(crate) fn begin_export(&self, volume: VolumeId, way: Way) -> Result<Place, PantryError> {
        let mut inner = self.lock();
        if inner.is_closed {
            return Err(PantryError::NotFound(volume));
        }
        match inner.exports.get(&way) {
            Some(Exporting::At(door)) => return Ok(Place::Known(door.clone())),
            // Calls for a volume take turns.
            Some(Exporting::Begun) => return Err(PantryError::Busy(volume)),
            None => {}
        }
        if way.how == Exported::ReadWrite && inner.exported() != Some(Exported::ReadWrite) {
            inner.check_unwritten(volume)?;
        }
        inner.exports.insert(way, Exporting::Begun);
        Ok(Place::New)
    }

    /// Clients may come.
    pub(crate) fn note_door(&self, way: Way, door: OpenDoor) {
        self.lock().exports.insert(way, Exporting::At(door));
    }

    /// Nobody can come any more, or ever could.
    pub(crate) fn end_export(&self, way: Way) {
        self.lock().exports.remove(&way);
    }

    /// Where clients come by this way.
    pub(crate) fn door(&self, way: Way) -> Option<OpenDoor> {
        match self.lock().exports.get(&way) {
            Some(Exporting::At(door)) => Some(door.clone()),
            Some(Exporting::Begun) | None => None,
        }
    }

    /// Where they come by all ways.
    pub(crate) fn doors(&self) -> Vec<(Way, OpenDoor)> {
        let inner = self.lock();
        let doors = inner.exports.iter().filter_map(|(way, export)| match export {
            Exporting::At(door) => Some((*way, door.clone())),
            Exporting::Begun => None,
        });
        doors.collect()
    }

    /// Asks a job to end, for this coordinator.
    pub(crate) fn cancel(
        &self,
        volume: VolumeId,
        executor_epoch: u64,
        job: JobId,
    ) -> Result<(), PantryError> {
        let mut inner = self.lock();
        inner.hear(volume, executor_epoch)?;
        inner.jobs.get(&job).ok_or(PantryError::NoJob { id: volume, job })?.cancel();
        Ok(())
    }

    /// Ends all jobs, and lets none begin.
    pub(crate) fn close(&self) {
        let mut inner = self.lock();
        inner.is_closed = true;
        inner.jobs.values().for_each(|job| job.cancel());
    }

    pub(crate) fn exported(&self) -> Option<Exported> {
        self.lock().exported()
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
    fn hear(&mut self, id: VolumeId, given: u64) -> Result<(), PantryError> {
        StaleEpoch::check(id, self.executor_epoch, given)?;
        self.executor_epoch = given;
        Ok(())
    }

    fn known(&self, order: &Order, bytes: Option<u64>) -> Result<Option<Arc<Job>>, PantryError> {
        let Some(known) = order.id.and_then(|id| self.jobs.get(&id)) else { return Ok(None) };
        if known.wanted != order.wanted || bytes.is_some_and(|bytes| bytes != known.bytes) {
            return Err(PantryError::JobConflict(known.id));
        }
        Ok(Some(Arc::clone(known)))
    }

    fn running(&self) -> impl Iterator<Item = &Arc<Job>> {
        self.jobs.values().filter(|job| job.is_running())
    }

    fn exported(&self) -> Option<Exported> {
        self.exports.keys().map(|way| way.how).max()
    }

    /// Two that write would make a mixture of both.
    fn check_unwritten(&self, id: VolumeId) -> Result<(), PantryError> {
        if self.running().any(|job| matches!(job.wanted, Wanted::Import { .. })) {
            return Err(PantryError::Written { id, by: "is being filled by an import" });
        }
        if self.exported() == Some(Exported::ReadWrite) {
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
    use volume_export::{Address, DoorId};

    fn import() -> Wanted {
        Wanted::Import { url: None, sha256: None }
    }

    fn order(id: Option<JobId>, wanted: Wanted) -> Order {
        Order { executor_epoch: 1, id, wanted }
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
        let job = new(board.begin(volume, order(None, import()), 8));
        for is_over in [false, true] {
            if is_over {
                job.end(Ok(None));
            }
            let Ok(Begun::Known(again)) = board.begin(volume, order(Some(job.id), import()), 8) else {
                panic!("it is known")
            };
            assert!(Arc::ptr_eq(&again, &job));
            let others = [(Wanted::Scrub, 8), (import(), 9)];
            for (wanted, bytes) in others {
                let other = board.begin(volume, order(Some(job.id), wanted), bytes);
                assert_eq!(refusal(other), Code::PantryJobConflict);
            }
        }
    }

    #[test]
    fn what_was_asked_for_before_is_known_also_if_nobody_says_how_many_bytes_it_has() {
        let (board, volume) = (Board::default(), VolumeId::generate());
        let job = new(board.begin(volume, order(None, Wanted::CopyParent), 8));
        let known = |wanted, bytes| board.known(&order(Some(job.id), wanted), bytes);
        for bytes in [None, Some(8)] {
            let Ok(Some(again)) = known(Wanted::CopyParent, bytes) else { panic!("it is known") };
            assert!(Arc::ptr_eq(&again, &job));
        }
        for (wanted, bytes) in [(Wanted::Scrub, None), (Wanted::CopyParent, Some(9))] {
            let other = known(wanted, bytes).err().map(|error| error.code());
            assert_eq!(other, Some(Code::PantryJobConflict));
        }
        for id in [None, Some(JobId::generate())] {
            assert!(matches!(board.known(&order(id, Wanted::CopyParent), None), Ok(None)));
        }
    }

    #[test]
    fn nothing_begins_or_ends_for_a_coordinator_that_was_replaced_since_it_was_let_through() {
        let (board, volume) = (Board::default(), VolumeId::generate());
        let as_of = |executor_epoch, id| Order { executor_epoch, id, wanted: Wanted::Scrub };
        let job = new(board.begin(volume, as_of(3, None), 8));
        board.hear(volume, 4).unwrap();
        let stale = |refused: Option<PantryError>| {
            let Some(PantryError::StaleEpoch(stale)) = refused else { panic!("{refused:?}") };
            assert_eq!(stale, StaleEpoch { id: volume, known: 4, given: 3 });
        };
        stale(board.hear(volume, 3).err());
        stale(board.begin(volume, as_of(3, None), 8).err());
        stale(board.begin(volume, as_of(3, Some(job.id)), 8).err());
        stale(board.cancel(volume, 3, job.id).err());
        assert!(!job.cancelled.is_cancelled() && board.list().len() == 1);
        board.cancel(volume, 5, job.id).unwrap();
        assert!(job.cancelled.is_cancelled());
        assert_eq!(board.hear(volume, 4).err().map(|error| error.code()), Some(Code::StaleEpoch));
    }

    #[test]
    fn one_writes_at_a_time_and_readers_are_not_held_up() {
        let (board, volume) = (Board::default(), VolumeId::generate());
        let way = |how| Way { listen: ExportListen::Unix, how };
        let export = |how| match board.begin_export(volume, way(how)) {
            Ok(Place::New) => {
                let address = Address::Unix("/x".into());
                board.note_door(way(how), OpenDoor { id: DoorId(1), address });
                Ok(())
            }
            Ok(Place::Known(_)) => Ok(()),
            Err(error) => Err(error.code()),
        };
        let first = new(board.begin(volume, order(None, import()), 8));
        assert_eq!(refusal(board.begin(volume, order(None, import()), 8)), Code::PantryWritten);
        assert_eq!(export(Exported::ReadWrite), Err(Code::PantryWritten));
        assert_eq!(export(Exported::ReadOnly), Ok(()));
        new(board.begin(volume, order(None, Wanted::Scrub), 8));
        first.end(Ok(None));
        assert_eq!(export(Exported::ReadWrite), Ok(()));
        assert_eq!(export(Exported::ReadOnly), Ok(()));
        assert_eq!(board.exported(), Some(Exported::ReadWrite));
        assert_eq!(refusal(board.begin(volume, order(None, import()), 8)), Code::PantryWritten);
        // By another way others may write, too; when all are taken back, an import may.
        let tcp = Way { listen: ExportListen::Tcp, how: Exported::ReadWrite };
        assert!(matches!(board.begin_export(volume, tcp), Ok(Place::New)));
        assert!(matches!(board.begin_export(volume, tcp), Err(PantryError::Busy(_))), "it is being opened");
        board.end_export(way(Exported::ReadWrite));
        assert_eq!(refusal(board.begin(volume, order(None, import()), 8)), Code::PantryWritten);
        board.end_export(tcp);
        assert_eq!(board.exported(), Some(Exported::ReadOnly));
        new(board.begin(volume, order(None, import()), 8));
        board.close();
        assert!(matches!(board.begin_export(volume, tcp), Err(PantryError::NotFound(_))));
    }

    #[test]
    fn jobs_are_bounded_and_the_oldest_that_ended_are_forgotten() {
        let (board, volume) = (Board::default(), VolumeId::generate());
        let runs = new(board.begin(volume, order(None, Wanted::Scrub), 8));
        let ended: Vec<JobId> = (0..JOBS_MAX)
            .map(|_| {
                let job = new(board.begin(volume, order(None, Wanted::Scrub), 8));
                job.end(Ok(None));
                job.id
            })
            .collect();
        assert!(board.get(runs.id).is_some() && board.get(ended[0]).is_none());
        assert!(board.get(ended[1]).is_some());
        assert_eq!(board.list().len(), JOBS_MAX);
        assert_eq!(board.list()[0].id, ended[JOBS_MAX - 1]);
        for _ in 1..RUNNING_MAX {
            new(board.begin(volume, order(None, Wanted::Scrub), 8));
        }
        assert_eq!(refusal(board.begin(volume, order(None, Wanted::Scrub), 8)), Code::TooManyRequests);
        board.close();
        assert!(board.list().iter().filter(|job| job.is_running()).all(|job| job.cancelled.is_cancelled()));
        board.list().iter().for_each(|job| job.end(Ok(None)));
        assert_eq!(refusal(board.begin(volume, order(None, Wanted::Scrub), 8)), Code::PantryVolumeNotFound);
    }
}
