//! What every part of a running store holds in common: the datasets, the one inventory, and the ways to wake others.
//! Decides nothing; it makes sure that each event reaches the inventory and those who watch it.

use crate::{
    config::{DatasetConfig, StoreConfig},
    error::StoreError,
    failure::{FailureCause, chain},
    inventory::{Changed, DatasetIndex, Event, Health, Inventory, Patience, READ_ONLY, Stamp, Trouble},
    locks::HashLocks,
    records::{Record, RecordLog},
    space::{Bounds, Reservations},
};
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{RootIdentity, Storage, StorageError};
use ids::ArtifactHash;
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

/// Artifacts that are received at once; further writers wait. Each holds up to some 2 MiB of bytes on their way to the
/// disks, and the agent lives in 64 MiB.
const WRITERS_MAX: usize = 16;
/// Threads that may read from one dataset for readers at once. One disk is busy with fewer; more only wait.
const READS_AT_ONCE: usize = 16;
/// Threads that may move copies of one dataset to the trash for callers at once.
const MOVES_AT_ONCE: usize = 4;
/// Threads that maintenance may have on one dataset: its lanes, and one that asks for its space for a listing.
const MAINTENANCE_THREADS: usize = crate::plan::LANES + 1;
/// Blocking threads that the store needs for each dataset, so that one that hangs, and keeps every thread it was ever
/// given, leaves the others theirs.
pub const BLOCKING_THREADS_PER_DATASET: usize =
    READS_AT_ONCE + WRITERS_MAX + MOVES_AT_ONCE + MAINTENANCE_THREADS;
/// How long a file system's answer about its space is good enough for a listing.
const SPACE_FRESH_FOR: Duration = Duration::from_secs(1);

/// One dataset's physical side.
#[derive(Debug)]
pub(crate) struct Dataset {
    pub(crate) config: DatasetConfig,
    pub(crate) locks: HashLocks,
    pub(crate) reservations: Arc<Reservations>,
    /// Held by threads, not by whoever waits for them: a thread that hangs keeps its slot.
    pub(crate) read_slots: Arc<Semaphore>,
    pub(crate) write_slots: Arc<Semaphore>,
    pub(crate) move_slots: Arc<Semaphore>,
    records: Mutex<RecordLog>,
    next_temporary: AtomicU64,
    /// Temporary files that are of no use and could not be removed.
    left_behind: Mutex<BTreeSet<Utf8PathBuf>>,
    space_look: Arc<Mutex<SpaceLook>>,
}

/// When somebody last asked the file system for its space on behalf of a listing.
#[derive(Debug, Default)]
struct SpaceLook {
    ended: Option<Instant>,
    running: bool,
}

/// The right to ask, given to one caller at a time so that a disk that hangs holds one thread and not one per listing.
#[derive(Debug)]
pub(crate) struct SpaceLookGuard(Arc<Mutex<SpaceLook>>);

impl Drop for SpaceLookGuard {
    fn drop(&mut self) {
        let mut look = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *look = SpaceLook { ended: Some(Instant::now()), running: false };
    }
}

impl Dataset {
    fn new(config: DatasetConfig) -> Dataset {
        Dataset {
            config,
            locks: HashLocks::default(),
            reservations: Arc::default(),
            read_slots: Arc::new(Semaphore::new(READS_AT_ONCE)),
            write_slots: Arc::new(Semaphore::new(WRITERS_MAX)),
            move_slots: Arc::new(Semaphore::new(MOVES_AT_ONCE)),
            records: Mutex::default(),
            next_temporary: AtomicU64::new(0),
            left_behind: Mutex::default(),
            space_look: Arc::default(),
        }
    }

    pub(crate) fn storage(&self) -> &Arc<dyn Storage> {
        &self.config.storage
    }

    /// The records, for blocking threads: whoever holds them may be writing to their log.
    pub(crate) fn records(&self) -> MutexGuard<'_, RecordLog> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The right to ask for the space, unless somebody is asking or just did.
    pub(crate) fn begin_space_look(&self) -> Option<SpaceLookGuard> {
        let mut look = self.space_look.lock().unwrap_or_else(PoisonError::into_inner);
        let fresh = look.ended.is_some_and(|ended| ended.elapsed() < SPACE_FRESH_FOR);
        if look.running || fresh {
            return None;
        }
        look.running = true;
        Some(SpaceLookGuard(Arc::clone(&self.space_look)))
    }

    pub(crate) fn left_behind(&self) -> MutexGuard<'_, BTreeSet<Utf8PathBuf>> {
        self.left_behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number that no other temporary file of this process has.
    pub(crate) fn next_temporary(&self) -> u64 {
        self.next_temporary.fetch_add(1, Ordering::Relaxed)
    }
}

/// What the parts of a store share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: StoreConfig,
    pub(crate) datasets: Vec<Dataset>,
    inventory: Mutex<Inventory>,
    /// Which directory each dataset was found to be.
    directories: Mutex<BTreeMap<DatasetIndex, RootIdentity>>,
    revision: watch::Sender<u64>,
    health_revision: watch::Sender<u64>,
    /// Wakes the keeper.
    pub(crate) work: Notify,
    pub(crate) stop: Stop,
    /// Every blocking job and task, so that a shutdown can wait for them.
    pub(crate) tasks: TaskTracker,
    pub(crate) writer_slots: Arc<Semaphore>,
}

impl Shared {
    pub(crate) fn new(config: StoreConfig) -> Shared {
        let patience = Patience { first: config.probe_after, longest: config.probe_after_max };
        let inventory = Inventory::new(config.datasets.len(), Instant::now(), patience);
        Shared {
            datasets: config.datasets.iter().cloned().map(Dataset::new).collect(),
            config,
            inventory: Mutex::new(inventory),
            directories: Mutex::default(),
            revision: watch::Sender::new(0),
            health_revision: watch::Sender::new(0),
            work: Notify::new(),
            stop: Stop::default(),
            tasks: TaskTracker::new(),
            writer_slots: Arc::new(Semaphore::new(WRITERS_MAX)),
        }
    }

    /// Looks at the inventory.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Inventory) -> T) -> T {
        look(&self.inventory())
    }

    /// Asks one of the inventory's gates, which may note the answer.
    pub(crate) fn ask<T>(&self, ask: impl FnOnce(&mut Inventory) -> T) -> T {
        ask(&mut self.inventory())
    }

    /// Tells the inventory, and everybody whom it concerns.
    pub(crate) fn apply(&self, event: Event) {
        let (Changed { listing, work }, health, revision, health_revision) = {
            let mut inventory = self.inventory();
            let changed = inventory.apply(event);
            let health = inventory.tell_health(Timestamp::now());
            (changed, health, inventory.revision, inventory.health_revision)
        };
        if listing || health {
            raise(&self.revision, revision);
        }
        // Behind the other one: who is woken by this one reads a revision that has the change in it.
        if health {
            raise(&self.health_revision, health_revision);
        }
        if work {
            self.work.notify_one();
        }
    }

    /// Notes which directory a dataset is, unless another dataset that is in use is the same one; which one that is. Two
    /// names of one directory would count each artifact twice and keep it once.
    pub(crate) fn claim_directory(
        &self,
        dataset: DatasetIndex,
        identity: Option<RootIdentity>,
    ) -> Option<DatasetIndex> {
        let identity = identity?;
        let mut directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        directories.remove(&dataset);
        let usable = |other: &DatasetIndex| {
            let health = self.look(|inventory| inventory.datasets[*other].health);
            health.is_readable() || health == Health::Opening
        };
        let other = directories.iter().find(|(other, known)| **known == identity && usable(other));
        let other = other.map(|(other, _)| *other);
        if other.is_none() {
            directories.insert(dataset, identity);
        }
        other
    }

    pub(crate) fn watch_revision(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    pub(crate) fn watch_health(&self) -> watch::Receiver<u64> {
        self.health_revision.subscribe()
    }

    pub(crate) fn name(&self, dataset: DatasetIndex) -> &str {
        &self.datasets[dataset].config.name
    }

    pub(crate) fn incarnation(&self, dataset: DatasetIndex) -> u64 {
        self.look(|inventory| inventory.datasets[dataset].incarnation)
    }

    /// Takes note that an operation on a dataset failed: its health, and a line in the log.
    pub(crate) fn report_error(&self, dataset: DatasetIndex, incarnation: u64, error: &StorageError) {
        if error.is_exhausted() {
            // The process's trouble, or the host's: the disk was not even asked.
            warn!(dataset = self.name(dataset), error = chain(error), "an operation was not tried");
            return;
        }
        if error.is_read_only() {
            // The same words each time, whatever was tried: otherwise each try would be news.
            self.report_trouble(dataset, incarnation, Trouble::ReadOnly, READ_ONLY.to_owned());
            return;
        }
        let trouble = if error.is_no_space() {
            Trouble::Full { needed: 1 }
        } else if error.is_not_found() && self.root_is_missing(dataset) {
            Trouble::Missing
        } else {
            Trouble::Failed
        };
        self.report_trouble(dataset, incarnation, trouble, chain(error));
    }

    /// Takes note of a dataset's trouble.
    pub(crate) fn report_trouble(
        &self,
        dataset: DatasetIndex,
        incarnation: u64,
        trouble: Trouble,
        reason: String,
    ) {
        let health = || self.look(|inventory| inventory.datasets[dataset].health.shown());
        let before = health();
        let text = reason.clone();
        self.apply(Event::Troubled { dataset, incarnation, trouble, reason, now: Instant::now() });
        // A disk that stays away is probed for ever; only what is new is worth a line.
        if health() != before && !self.stop.is_asked() {
            warn!(dataset = self.name(dataset), ?trouble, error = text, "dataset in trouble");
        }
    }

    fn root_is_missing(&self, dataset: DatasetIndex) -> bool {
        let root = self.datasets[dataset].storage().metadata(Utf8Path::new(""));
        root.is_err_and(|error| error.is_not_found())
    }

    /// Takes note of a failed operation, and makes of it what the dataset has to say to whoever waited for it.
    pub(crate) fn failed(
        &self,
        dataset: DatasetIndex,
        incarnation: u64,
        error: StorageError,
    ) -> FailureCause {
        self.report_error(dataset, incarnation, &error);
        if error.is_no_space() {
            FailureCause::NoSpace { available: 0 }
        } else {
            FailureCause::Storage(error)
        }
    }

    /// What bounds a dataset. Asks the file system, so: blocking.
    pub(crate) fn bounds(&self, dataset: DatasetIndex) -> Result<Bounds, StorageError> {
        let incarnation = self.incarnation(dataset);
        let space = self.datasets[dataset].storage().space()?;
        self.apply(Event::SpaceSeen { dataset, space });
        if space.read_only && self.look(|inventory| inventory.datasets[dataset].health.is_writable()) {
            self.report_trouble(dataset, incarnation, Trouble::ReadOnly, READ_ONLY.to_owned());
        }
        Ok(self.known_bounds(dataset))
    }

    /// What bounds a dataset, as last seen.
    pub(crate) fn known_bounds(&self, dataset: DatasetIndex) -> Bounds {
        let (stored_bytes, space) = self.look(|inventory| {
            let state = &inventory.datasets[dataset];
            (state.stored_bytes, state.space)
        });
        Bounds {
            quota_bytes: self.datasets[dataset].config.quota_bytes,
            reserve_bytes: self.config.reserve_bytes,
            stored_bytes,
            space,
        }
    }

    /// Writes the record of a verified copy. A failure costs a hashing later, so it is noted and no more.
    pub(crate) fn record_verified(
        &self,
        dataset: DatasetIndex,
        incarnation: u64,
        hash: ArtifactHash,
        record: Record,
    ) {
        let storage = self.datasets[dataset].storage();
        let mut records = self.datasets[dataset].records();
        let result = records.verified(storage.as_ref(), hash, record).and_then(|()| {
            // Each verification adds a line, so a store that scrubs for years has to shorten its log.
            if records.wants_compaction() { records.compact(storage, |_| true) } else { Ok(()) }
        });
        drop(records);
        if let Err(error) = result {
            self.report_error(dataset, incarnation, &error);
        }
    }

    /// A copy was hashed and is wrong, or cannot be read: it is unlisted now, and set aside soon.
    pub(crate) fn condemn(&self, dataset: DatasetIndex, incarnation: u64, hash: ArtifactHash, seen: Stamp) {
        self.apply(Event::Condemned { dataset, hash, seen, at: Timestamp::now() });
        self.revoke_record(dataset, incarnation, hash);
    }

    /// A copy could not be read on a disk that works: it is unlisted until it has been hashed.
    pub(crate) fn suspect(&self, dataset: DatasetIndex, incarnation: u64, hash: ArtifactHash, seen: Stamp) {
        self.apply(Event::NotRead { dataset, hash, seen, now: Instant::now() });
        self.revoke_record(dataset, incarnation, hash);
    }

    /// A copy may be wrong: it is unlisted until it has been hashed again.
    pub(crate) fn doubt(&self, dataset: DatasetIndex, incarnation: u64, hash: ArtifactHash, seen: Stamp) {
        self.apply(Event::Changed { dataset, hash, seen, stamp: seen });
        self.revoke_record(dataset, incarnation, hash);
    }

    /// Takes the record of a copy back. One that is published meanwhile may lose its record, which costs a hashing.
    pub(crate) fn revoke_record(&self, dataset: DatasetIndex, incarnation: u64, hash: ArtifactHash) {
        let storage = self.datasets[dataset].storage();
        let result = self.datasets[dataset].records().revoke(storage.as_ref(), &hash);
        if let Err(error) = result {
            self.report_error(dataset, incarnation, &error);
        }
    }

    /// Refuses once the store is shutting down.
    pub(crate) fn check_running(&self) -> Result<(), StoreError> {
        if self.stop.is_asked() { Err(StoreError::ShuttingDown) } else { Ok(()) }
    }

    /// Runs blocking work, known to [`Shared::tasks`]. `None` if it panicked.
    pub(crate) async fn run_blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Arc<Shared>) -> T + Send + 'static,
    ) -> Option<T> {
        let shared = Arc::clone(self);
        self.tasks.spawn_blocking(move || work(&shared)).await.ok()
    }

    fn inventory(&self) -> MutexGuard<'_, Inventory> {
        self.inventory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Two threads may come here in the other order; the number never goes back.
fn raise(watched: &watch::Sender<u64>, number: u64) {
    watched.send_if_modified(|seen| {
        let newer = number > *seen;
        *seen = number.max(*seen);
        newer
    });
}

/// The request to stop, for tasks and for blocking threads.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    token: CancellationToken,
    paused: Mutex<()>,
    asked: Condvar,
}

impl Stop {
    pub(crate) fn ask(&self) {
        let paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        self.token.cancel();
        drop(paused);
        self.asked.notify_all();
        info!("artifact store stops");
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.token.is_cancelled()
    }

    pub(crate) async fn wait(&self) {
        self.token.cancelled().await;
    }

    /// Blocks for `time`, or until a stop is asked for.
    pub(crate) fn pause(&self, time: Duration) {
        let paused = self.paused.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.asked.wait_timeout_while(paused, time, |()| !self.is_asked());
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }
}
