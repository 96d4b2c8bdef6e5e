//! Which volumes there are: attached, changed, detached. One call at a time is at work on a volume, another one is told to come again; a
//! call's work is a task of its own, so it is done also if whoever asked goes away.
//!
//! **A coordinator that was replaced** changes nothing from the moment on at which its successor was answered: what it asks late is refused, and
//! while its call is at work on a volume, its successor is told to come again. Jobs that it has begun go on. The agent knows durably who may ask; here
//! is known what it let through in which order, as long as the volume is attached.
//!
//! | PUT of a request, the volume being | |
//! |---|---|
//! | not there | attached; fenced within [`ACTIVE_WAIT`]: told, and not there again |
//! | any, with a key that is not its own, or not there and without the key that it needs | refused |
//! | there, and the request is applied to it | as `volume-repair` says: `vcr_matches`, `started`, …, or refused and nothing has changed |
//! | fenced, lost or ended, and the request's epoch is higher | detached, and attached anew |

use crate::{
    attach_order::AttachOrder, attached::Attached, board::Way, error::PantryError, telling::Telling,
};
use camino::Utf8PathBuf;
use ids::VolumeId;
use sled_client::pantry::{
    Activate, AttachAnswer, AttachQuery, ExportListen, ExportRequest, Exported, PantryVolume, RequestResult,
    UnexportAnswer, UnexportRequest,
};
use std::{
    collections::{BTreeMap, btree_map::Entry},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use volume_repair::ConstructionRequest;
use volume_seals::VolumeKey;

/// Volumes at a time. Each has a thread, connections to its members, and up to 64 MiB of what clients ask and are told.
pub const VOLUMES_MAX: usize = 32;

/// How long an attachment waits to see whether it is active, or another one has the volume. Members that are there answer within
/// milliseconds; the third one is waited for for 2 s.
const ACTIVE_WAIT: Duration = Duration::from_secs(4);

/// How long volumes are asked who uses them, before one more is refused. They answer within milliseconds.
const IDLEST_WAIT: Duration = Duration::from_secs(2);

/// How long a call waits for its work. Clients give up later than that.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// The volumes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Shelf(Arc<Shared>);

struct Shared {
    /// Where their sockets are.
    directory: Utf8PathBuf,
    /// From where their members are come to.
    source_address: Option<IpAddr>,
    /// Who is told of repairs, if somebody is.
    telling: Option<Telling>,
    volumes: Mutex<BTreeMap<VolumeId, Arc<Attached>>>,
    /// For whom: with which right. Locked before the volumes, and before a board.
    at_work: Mutex<BTreeMap<VolumeId, u64>>,
}

/// The right to work on a volume; given back when this is gone.
struct AtWork(Arc<Shared>, VolumeId);

impl Drop for AtWork {
    fn drop(&mut self) {
        lock(&self.0.at_work).remove(&self.1);
    }
}

impl Shelf {
    /// An empty one, whose volumes have their sockets here, come to their members from this address, and tell of their repairs.
    pub(crate) fn new(
        directory: Utf8PathBuf,
        source_address: Option<IpAddr>,
        telling: Option<Telling>,
    ) -> Shelf {
        Shelf(Arc::new(Shared {
            directory,
            source_address,
            telling,
            volumes: Mutex::default(),
            at_work: Mutex::default(),
        }))
    }

    /// From where what is here comes to others; none if the system chooses.
    pub(crate) fn source_address(&self) -> Option<IpAddr> {
        self.0.source_address
    }

    /// Attaches a volume, or applies the request to the one that is there.
    pub(crate) async fn put(
        &self,
        id: VolumeId,
        query: AttachQuery,
        order: AttachOrder,
        key: Option<VolumeKey>,
    ) -> Result<AttachAnswer, PantryError> {
        if order.request.id != id.0 {
            return Err(PantryError::OtherVolume { id, theirs: VolumeId(order.request.id) });
        }
        self.work(id, query.executor_epoch, move |shared| shared.put(id, query, order, key)).await
    }

    /// Detaches a volume; done if it is not there.
    pub(crate) async fn detach(&self, id: VolumeId, executor_epoch: u64) -> Result<(), PantryError> {
        self.work(id, executor_epoch, move |shared| {
            shared.detach(id);
            Ok(())
        })
        .await
    }

    /// Detaches all of them, at the same time.
    pub(crate) async fn detach_all(&self) {
        let ids: Vec<VolumeId> = lock(&self.0.volumes).keys().copied().collect();
        let tasks = ids.into_iter().map(|id| {
            let shared = Arc::clone(&self.0);
            tokio::task::spawn_blocking(move || shared.detach(id))
        });
        for task in tasks.collect::<Vec<_>>() {
            // One that has panicked has said so.
            let _ = task.await;
        }
    }

    /// Exports a volume. Where clients find it.
    pub(crate) async fn export(&self, id: VolumeId, request: ExportRequest) -> Result<String, PantryError> {
        let way = way(request.listen, request.read_only);
        let export = move |volume: &Attached| volume.export(way, request.address, request.port);
        self.work_on(id, request.executor_epoch, export).await
    }

    /// Takes an export back.
    pub(crate) async fn unexport(
        &self,
        id: VolumeId,
        request: UnexportRequest,
    ) -> Result<UnexportAnswer, PantryError> {
        let way = way(request.listen, request.read_only);
        let unexport = move |volume: &Attached| volume.unexport(way, request.force);
        self.work_on(id, request.executor_epoch, unexport).await
    }

    async fn work_on<T: Send + 'static>(
        &self,
        id: VolumeId,
        executor_epoch: u64,
        work: impl FnOnce(&Attached) -> Result<T, PantryError> + Send + 'static,
    ) -> Result<T, PantryError> {
        let volume = self.get(id)?;
        volume.note_call();
        self.work(id, executor_epoch, move |_| work(&volume)).await
    }

    pub(crate) fn get(&self, id: VolumeId) -> Result<Arc<Attached>, PantryError> {
        lock(&self.0.volumes).get(&id).cloned().ok_or(PantryError::NotFound(id))
    }

    /// One that a coordinator changes, which may be no older one than was heard of; a newer one comes again when the work of an older one is over.
    pub(crate) fn changed(&self, id: VolumeId, executor_epoch: u64) -> Result<Arc<Attached>, PantryError> {
        let at_work = lock(&self.0.at_work);
        let volume = self.get(id)?;
        if at_work.get(&id).is_some_and(|older| *older < executor_epoch) {
            return Err(PantryError::Busy(id));
        }
        volume.board.hear(id, executor_epoch)?;
        Ok(volume)
    }

    /// All of them, by id.
    pub(crate) async fn list(&self) -> Vec<PantryVolume> {
        let volumes: Vec<Arc<Attached>> = lock(&self.0.volumes).values().cloned().collect();
        let tell = |volume: Arc<Attached>| tokio::task::spawn_blocking(move || volume.tell(false));
        let mut told = Vec::new();
        for task in volumes.into_iter().map(tell).collect::<Vec<_>>() {
            told.extend(task.await);
        }
        told
    }

    /// Does something for a volume that is not here, alone on it. Nothing, if it is here, or a call is at work on it.
    pub(crate) async fn alone_without<T: Send + 'static>(
        &self,
        id: VolumeId,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        match lock(&self.0.at_work).entry(id) {
            Entry::Occupied(_) => return None,
            // For nobody.
            Entry::Vacant(free) => free.insert(u64::MAX),
        };
        let at_work = AtWork(Arc::clone(&self.0), id);
        if lock(&self.0.volumes).contains_key(&id) {
            return None;
        }
        let alone = move || {
            let _at_work = at_work;
            work()
        };
        tokio::task::spawn_blocking(alone).await.ok()
    }

    /// Does the work of a call in a thread of its own, alone on its volume. Who has asked with a lower right than was heard of is refused.
    async fn work<T: Send + 'static>(
        &self,
        id: VolumeId,
        executor_epoch: u64,
        work: impl FnOnce(&Shared) -> Result<T, PantryError> + Send + 'static,
    ) -> Result<T, PantryError> {
        match lock(&self.0.at_work).entry(id) {
            Entry::Occupied(_) => return Err(PantryError::Busy(id)),
            Entry::Vacant(free) => {
                if let Ok(volume) = self.get(id) {
                    volume.board.hear(id, executor_epoch)?;
                }
                free.insert(executor_epoch);
            }
        }
        let at_work = AtWork(Arc::clone(&self.0), id);
        let task = tokio::task::spawn_blocking(move || work(&at_work.0));
        match tokio::time::timeout(ANSWER_LIMIT, task).await {
            Ok(done) => done.unwrap_or(Err(PantryError::Died(id))),
            Err(_) => Err(PantryError::GoesOn(id)),
        }
    }
}

impl Shared {
    fn put(
        &self,
        id: VolumeId,
        query: AttachQuery,
        order: AttachOrder,
        key: Option<VolumeKey>,
    ) -> Result<AttachAnswer, PantryError> {
        let (activate, request) = (query.activate, &order.request);
        if let Some(key) = &key {
            // Also of a volume that is there, and needs none: who gives another one means another volume.
            request.check_key(key).map_err(|source| PantryError::Build { id, source: Box::new(source) })?;
        }
        let there = lock(&self.volumes).get(&id).cloned();
        if let Some(volume) = there {
            if !(has_ended(&volume) && is_next(volume.runs_by(), request)) {
                volume.note_call();
                let result = volume.apply(order.request, activate)?;
                volume.set_repair_rate(order.repair_bytes_per_second)?;
                if activate == Activate::Now {
                    volume.wait_active(ACTIVE_WAIT)?;
                }
                return Ok(AttachAnswer { result, volume: Some(volume.tell(true)) });
            }
            if activate == Activate::Never {
                return Ok(AttachAnswer { result: RequestResult::Missing, volume: None });
            }
            // What can never be is found out before the old one is gone.
            let built = request.build_unactivated(uuid::Uuid::new_v4(), key.as_ref());
            built.map_err(|source| PantryError::Build { id, source: Box::new(source) })?;
            self.detach(id);
        }
        if activate == Activate::Never {
            return Ok(AttachAnswer { result: RequestResult::Missing, volume: None });
        }
        let volume = self.attach(id, query, order, key)?;
        if let Err(error) = volume.wait_active(ACTIVE_WAIT) {
            // It was told to be of no use before it was told to be there.
            self.detach(id);
            return Err(error);
        }
        Ok(AttachAnswer { result: RequestResult::VcrMatches, volume: Some(volume.tell(true)) })
    }

    fn attach(
        &self,
        id: VolumeId,
        query: AttachQuery,
        order: AttachOrder,
        key: Option<VolumeKey>,
    ) -> Result<Arc<Attached>, PantryError> {
        let AttachQuery { executor_epoch, activate } = query;
        let count = lock(&self.volumes).len();
        if count >= VOLUMES_MAX {
            return Err(PantryError::Full { count, idlest: self.idlest() });
        }
        let socket = self.directory.join(format!("{}.nbd", id.0.simple()));
        // Files and snapshots are filled by nobody.
        let telling = self.telling.as_ref().filter(|_| order.request.region_sets().next().is_some());
        let notices = telling.map(|telling| telling.order(self.source_address)).transpose()?;
        let source = self.source_address;
        let volume = Arc::new(Attached::begin(id, order, key, activate, socket, source, notices)?);
        volume.board.hear(id, executor_epoch)?;
        lock(&self.volumes).insert(id, Arc::clone(&volume));
        tracing::info!(volume = %id, version = volume.runs_by().0, ?activate, "volume attached");
        Ok(volume)
    }

    /// The volume that nobody has used for the longest time, and for how long, as far as is known in a moment: whoever has forgotten it is to
    /// be reminded.
    fn idlest(&self) -> Option<(VolumeId, Duration)> {
        let volumes: Vec<Arc<Attached>> = lock(&self.volumes).values().cloned().collect();
        let until = Instant::now() + IDLEST_WAIT;
        let idle = |volume: Arc<Attached>| {
            let status = volume.status().ok()?;
            Some((volume.id, volume.idle(&status)))
        };
        volumes
            .into_iter()
            .take_while(|_| Instant::now() < until)
            .filter_map(idle)
            .max_by_key(|(_, idle)| *idle)
    }

    fn detach(&self, id: VolumeId) {
        // It is there until it is gone: who asks meanwhile is told what becomes of it, and not that there is none.
        let Some(volume) = lock(&self.volumes).get(&id).cloned() else { return };
        volume.detach();
        lock(&self.volumes).remove(&id);
        tracing::info!(volume = %id, "volume detached");
    }
}

fn way(listen: ExportListen, read_only: bool) -> Way {
    Way { listen, how: if read_only { Exported::ReadOnly } else { Exported::ReadWrite } }
}

/// Whether it does nothing more, with the epoch that it has.
fn has_ended(volume: &Attached) -> bool {
    let active = volume.status().and_then(|status| volume.check_active(&status));
    matches!(active, Err(PantryError::Fenced { .. } | PantryError::Lost(_) | PantryError::Ended(_)))
}

/// Whether a request is one by which a volume that has ended may go on.
fn is_next((config_version, epoch): (u64, u32), theirs: &ConstructionRequest) -> bool {
    theirs.epoch > epoch && theirs.config_version >= config_version
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Order, Wanted};
    use camino_tempfile::Utf8TempDir;
    use problem::Code;
    use std::sync::mpsc;
    use volume_repair::{FilePart, SubVolume};

    /// A shelf, and the request of a volume that needs no members: it is active at once, and only read.
    fn shelf() -> (Utf8TempDir, Shelf, VolumeId, AttachOrder) {
        let temp = camino_tempfile::tempdir().unwrap();
        let path = temp.path().join("image");
        std::fs::write(&path, [7; 4096]).unwrap();
        let id = VolumeId::generate();
        let request = ConstructionRequest::first(id.0, 0, 4096, vec![SubVolume::File(FilePart { path })]);
        let shelf = Shelf::new(temp.path().to_owned(), None, None);
        (temp, shelf, id, AttachOrder { request, repair_bytes_per_second: None })
    }

    fn at(executor_epoch: u64) -> AttachQuery {
        AttachQuery { executor_epoch, activate: Activate::Now }
    }

    fn code<T>(answer: Result<T, PantryError>) -> Option<Code> {
        answer.err().map(|error| error.code())
    }

    #[tokio::test]
    async fn who_was_replaced_is_refused_by_the_volume_itself_also_after_a_refusal() {
        let (_temp, shelf, id, request) = shelf();
        shelf.put(id, at(2), request.clone(), None).await.unwrap();
        // That it is refused for something else makes it no less heard of.
        let unit = ExportRequest::unix(4, false);
        assert_eq!(code(shelf.export(id, unit).await), Some(Code::PantryReadOnly));
        assert_eq!(code(shelf.put(id, at(3), request.clone(), None).await), Some(Code::StaleEpoch));
        assert_eq!(code(shelf.export(id, ExportRequest::unix(3, true)).await), Some(Code::StaleEpoch));
        assert_eq!(code(shelf.detach(id, 3).await), Some(Code::StaleEpoch));
        assert_eq!(code(shelf.changed(id, 3)), Some(Code::StaleEpoch));
        shelf.export(id, ExportRequest::unix(4, true)).await.unwrap();
        shelf.detach(id, 4).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_takes_a_volume_over_from_a_call_that_is_at_work_on_it() {
        let (_temp, shelf, id, request) = shelf();
        shelf.put(id, at(1), request, None).await.unwrap();
        let ((entered, is_in), (go_on, goes_on)) = (mpsc::channel(), mpsc::channel::<()>());
        let work = {
            let shelf = shelf.clone();
            tokio::spawn(async move {
                let work = move |_: &Shared| {
                    entered.send(()).expect("somebody waits for it");
                    goes_on.recv().expect("it is told to go on");
                    Ok(())
                };
                shelf.work(id, 1, work).await
            })
        };
        tokio::task::spawn_blocking(move || is_in.recv()).await.unwrap().unwrap();
        // Of the one that is at work, others may be begun meanwhile.
        shelf.changed(id, 1).unwrap();
        assert_eq!(code(shelf.changed(id, 2)), Some(Code::PantryVolumeBusy));
        go_on.send(()).unwrap();
        work.await.unwrap().unwrap();
        let late = shelf.changed(id, 1).unwrap();
        shelf.changed(id, 2).unwrap();
        // It was let through before, and comes to begin now.
        let order = Order { executor_epoch: 1, id: None, wanted: Wanted::Scrub };
        assert_eq!(code(late.board.begin(id, order, 4096)), Some(Code::StaleEpoch));
        assert_eq!(code(late.snapshot(ids::SnapshotId::generate(), 1)), Some(Code::PantryReadOnly));
        shelf.detach(id, 2).await.unwrap();
    }
}
