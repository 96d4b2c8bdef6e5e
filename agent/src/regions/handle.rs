//! The calls: PUT, GET, DELETE and the list. Owns the order of steps; what a call does is [`plan`]'s.
//!
//! One call at a time is at work on a region; another one is told to come again. A call's work is a task of its own: whoever asked may
//! go away, and it is done all the same.

use super::{
    clones,
    error::RegionError,
    plan::{self, Create, Destroy},
    seen::{Seen, why_not},
    store::{Known, Records},
    types::{self, Record, Spec, State, Tombstone, Wanted},
};
use crate::disks::{Disk, Disks, Promising};
use datasets::{Dataset, DatasetError, Health};
use downstairs::{CloneStatus, DiskError, Order};
use durable_fs::{RealDisk, Storage, StorageError};
use futures::future::join_all;
use ids::{DiskId, RegionId, SnapshotId};
use region::{Geometry, look_outside};
use sled_client::regions::{Region, RegionState};
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::timeout};

/// How long a call waits for its work. Clients give up later than that.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Regions of a sled that are not destroyed, at most: a Downstairs serves some hundreds at a time, and a list of them is made in memory.
pub const REGIONS_MAX: usize = 4_096;

/// Destroyed regions that are remembered, those that were never made among them: more than any coordinator has calls under way. Beyond that the ones with the lowest ids are
/// forgotten, which are the oldest ones.
pub const DESTROYED_MAX: usize = 16_384;

/// Between two attempts to finish destructions that could not be finished: a Downstairs closes a region a minute after its last connection.
const RESUME_INTERVAL: Duration = Duration::from_secs(20);

/// The sled's regions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Regions(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disks: Disks,
    records: Records,
    known: Mutex<BTreeMap<RegionId, Known>>,
    at_work: Mutex<BTreeSet<RegionId>>,
}

/// The right to work on a region; given back when this is gone.
struct AtWork(Arc<Shared>, RegionId);

impl Drop for AtWork {
    fn drop(&mut self) {
        lock(&self.0.at_work).remove(&self.1);
    }
}

impl Regions {
    /// The regions whose records are there.
    ///
    /// # Errors
    /// If the records cannot be read at all.
    pub fn open(records: Arc<dyn Storage>, disks: Disks) -> Result<Regions, StorageError> {
        let (records, known) = Records::open(records)?;
        for (region, known) in &known {
            if let Known::Unreadable(why) = known {
                tracing::error!(%region, why, "the record of a region cannot be read: it is refused to everybody");
            }
        }
        let (known, at_work) = (Mutex::new(known), Mutex::default());
        Ok(Regions(Arc::new(Shared { disks, records, known, at_work })))
    }

    /// Makes a region, or finds that it is there.
    ///
    /// # Errors
    /// [`RegionError`].
    pub async fn create(&self, wanted: Wanted) -> Result<Region, RegionError> {
        let region = wanted.region;
        let executor_epoch = wanted.executor_epoch;
        let record =
            self.work(region, executor_epoch, async move |shared| shared.create(wanted).await).await?;
        Ok(self.0.tell(&record, &self.0.seen(&record).await).await)
    }

    /// Destroys a region; done if it is not there.
    ///
    /// # Errors
    /// [`RegionError`].
    pub async fn destroy(&self, region: RegionId, executor_epoch: u64) -> Result<(), RegionError> {
        types::check_epoch(executor_epoch)?;
        let work = async move |shared: Arc<Shared>| shared.destroy(region, executor_epoch).await;
        self.work(region, executor_epoch, work).await
    }

    /// A region as it is.
    ///
    /// # Errors
    /// `region_not_found`, `region_unreadable`.
    pub async fn show(&self, region: RegionId) -> Result<Region, RegionError> {
        let record = self.0.record(region)?.ok_or(RegionError::NotFound { region })?;
        Ok(self.0.tell(&record, &self.0.seen(&record).await).await)
    }

    /// Whether it has a record, and may be there.
    #[must_use]
    pub fn knows(&self, region: RegionId) -> bool {
        lock(&self.0.known).get(&region).is_some_and(|known| !known.is_gone())
    }

    /// So many regions that are not destroyed, after this one, by id.
    pub async fn list(&self, after: Option<RegionId>, count: usize) -> Vec<Region> {
        let records: Vec<Record> = {
            let known = lock(&self.0.known);
            let after = after.map_or(Bound::Unbounded, Bound::Excluded);
            let records = known.range((after, Bound::Unbounded)).filter_map(|(_, known)| match known {
                Known::Record(record) if record.state != State::Destroyed => Some(record.as_ref().clone()),
                Known::Record(_) | Known::Tombstone(_) | Known::Unreadable(_) => None,
            });
            records.take(count).collect()
        };
        let disks: BTreeSet<DiskId> = records.iter().map(|record| record.spec.disk).collect();
        let seen = self.0.seen_of_all(&disks).await;
        let told = records.iter().map(async |record| self.0.tell(record, &seen[&record.spec.disk]).await);
        join_all(told).await
    }

    /// Finishes destructions that were begun, until `stop` turns true. A disk that hangs keeps no other one's waiting.
    pub async fn resume(self, stop: watch::Receiver<bool>) {
        join_all(self.0.disks.ids().map(|disk| self.resume_on(disk, stop.clone()))).await;
    }

    async fn resume_on(&self, disk: DiskId, mut stop: watch::Receiver<bool>) {
        loop {
            for (region, executor_epoch) in self.0.being_destroyed(disk) {
                match self.destroy(region, executor_epoch).await {
                    Ok(()) => tracing::info!(%region, "the destruction of a region was finished"),
                    Err(error) => {
                        tracing::debug!(%region, error = &error as &dyn std::error::Error, "the destruction of a region waits");
                    }
                }
            }
            tokio::select! {
                () = tokio::time::sleep(RESUME_INTERVAL) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Does the work of a call in a task of its own, alone on its region. One that is refused has been heard of all the same: whoever is older
    /// has lost its right.
    pub(super) async fn work<T, F>(
        &self,
        region: RegionId,
        executor_epoch: u64,
        work: impl FnOnce(Arc<Shared>) -> F + Send + 'static,
    ) -> Result<T, RegionError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, RegionError>> + Send + 'static,
    {
        if !lock(&self.0.at_work).insert(region) {
            return Err(RegionError::Busy { region });
        }
        let at_work = AtWork(Arc::clone(&self.0), region);
        let (work, shared) = (work(Arc::clone(&self.0)), Arc::clone(&self.0));
        let task = tokio::spawn(async move {
            let mut done = work.await;
            if done.is_err()
                && let Err(not_kept) = shared.raise_epoch(region, executor_epoch).await
            {
                done = Err(not_kept);
            }
            drop(at_work);
            done
        });
        match timeout(ANSWER_LIMIT, task).await {
            Ok(done) => done.unwrap_or(Err(RegionError::Died { region })),
            Err(_) => Err(RegionError::GoesOn { region }),
        }
    }
}

impl Shared {
    async fn create(self: Arc<Shared>, wanted: Wanted) -> Result<Record, RegionError> {
        let region = wanted.region;
        let known = self.record(region)?;
        if let Some(tombstone) = self.tombstone(region) {
            plan::create_over(tombstone, wanted.executor_epoch)?;
        }
        let planned = plan::create(known.as_ref(), &wanted)?;
        let disk = self.disk(wanted.spec.disk)?;
        let geometry = wanted.spec.geometry()?;
        let record = match (planned, known) {
            (Create::Begin, known) | (_, known @ None) => {
                self.check_count()?;
                let incarnation = wanted.incarnation.unwrap_or_else(types::new_incarnation);
                let quota_bytes = disk.kind().reserved_bytes(geometry.file_bytes());
                let Wanted { executor_epoch, spec, .. } = wanted;
                // Another life of the id; its snapshots have ids of their own.
                let deleted_snapshots = known.map(|known| known.deleted_snapshots).unwrap_or_default();
                let state = State::Creating;
                Record { region, executor_epoch, incarnation, state, spec, quota_bytes, deleted_snapshots }
            }
            (Create::GoOn | Create::Nothing, Some(known)) => {
                let source = wanted.spec.source;
                let spec = Spec { source, ..known.spec };
                Record { executor_epoch: wanted.executor_epoch, spec, ..known }
            }
        };
        let found = match planned {
            Create::Begin => None,
            Create::GoOn | Create::Nothing => {
                disk.datasets.find(region).await.map_err(|source| RegionError::Dataset { region, source })?
            }
        };
        if planned == Create::Nothing {
            if found.is_none() {
                return Err(RegionError::Lost { region });
            }
            self.keep(&record).await?;
            self.order_clone(&record).await;
            return Ok(record);
        }
        // One that was recorded, and has no dataset yet, has been promised nothing.
        let promising = match found {
            None => Some(promise_room(disk, &record).await?),
            Some(_) => None,
        };
        self.keep(&record).await?;
        fault_points::reach("regions.create_recorded").await;
        let record = make(disk, record, geometry, promising).await?;
        self.keep(&record).await?;
        fault_points::reach("regions.created").await;
        tracing::info!(%region, disk = %disk.id, incarnation = record.incarnation, "region made");
        self.order_clone(&record).await;
        Ok(record)
    }

    async fn destroy(self: Arc<Shared>, region: RegionId, executor_epoch: u64) -> Result<(), RegionError> {
        let Some(known) = self.record(region)? else { return self.bury(region, executor_epoch).await };
        let planned = plan::destroy(&known, executor_epoch)?;
        let mut record = Record { executor_epoch, ..known };
        if planned == Destroy::Nothing {
            return self.keep(&record).await;
        }
        let disk = self.disk(record.spec.disk)?;
        if record.state == State::Created {
            self.check_no_snapshots(&record).await?;
        }
        record.state = State::Destroying;
        self.keep(&record).await?;
        fault_points::reach("regions.destroy_recorded").await;
        // Whoever does not answer has nothing open, or is found to have.
        let _ = disk.ask(Order::Release { region }).await;
        // Since they were looked for, whoever has it open may have taken some; from here on, who opens it again is found to.
        if let Err(error) = self.check_no_snapshots(&record).await {
            if matches!(error, RegionError::HasSnapshots { .. }) {
                // Nothing of it was touched, and nothing will be before it is asked again.
                record.state = State::Created;
                self.keep(&record).await?;
            }
            return Err(error);
        }
        disk.datasets.destroy(region).await.map_err(|source| match source {
            DatasetError::Busy { .. } => RegionError::InUse { region, source },
            source => RegionError::Dataset { region, source },
        })?;
        fault_points::reach("regions.dataset_destroyed").await;
        record.state = State::Destroyed;
        self.keep(&record).await?;
        tracing::info!(%region, disk = %disk.id, incarnation = record.incarnation, "region destroyed");
        self.forget_oldest().await;
        Ok(())
    }

    pub(super) fn disk(&self, disk: DiskId) -> Result<&Disk, RegionError> {
        self.disks.get(disk).ok_or(RegionError::NoDisk { disk })
    }

    pub(super) fn record(&self, region: RegionId) -> Result<Option<Record>, RegionError> {
        match lock(&self.known).get(&region) {
            None | Some(Known::Tombstone(_)) => Ok(None),
            Some(Known::Record(record)) => Ok(Some(record.as_ref().clone())),
            Some(Known::Unreadable(why)) => Err(RegionError::Unreadable { region, why: why.clone() }),
        }
    }

    fn tombstone(&self, region: RegionId) -> Option<Tombstone> {
        match lock(&self.known).get(&region) {
            Some(Known::Tombstone(tombstone)) => Some(*tombstone),
            Some(Known::Record(_) | Known::Unreadable(_)) | None => None,
        }
    }

    /// Refuses whoever is older than the one who has destroyed a region before it was made.
    pub(super) fn check_tombstone(&self, region: RegionId, executor_epoch: u64) -> Result<(), RegionError> {
        let known = self.tombstone(region).map_or(0, |tombstone| tombstone.executor_epoch);
        plan::check_epoch(region, known, executor_epoch)
    }

    /// Those of a disk that are there, and get their content elsewhere.
    pub(super) fn clones_on(&self, disk: DiskId) -> Vec<Record> {
        let is_clone = |record: &Record| {
            record.spec.disk == disk && record.state == State::Created && record.spec.source.is_some()
        };
        let known = lock(&self.known);
        let record = |known: &Known| match known {
            Known::Record(record) if is_clone(record) => Some(record.as_ref().clone()),
            Known::Record(_) | Known::Tombstone(_) | Known::Unreadable(_) => None,
        };
        known.values().filter_map(record).collect()
    }

    fn being_destroyed(&self, disk: DiskId) -> Vec<(RegionId, u64)> {
        let known = lock(&self.known);
        let record = |known: &Known| match known {
            Known::Record(record) if record.spec.disk == disk && record.state == State::Destroying => {
                Some((record.region, record.executor_epoch))
            }
            Known::Record(_) | Known::Tombstone(_) | Known::Unreadable(_) => None,
        };
        known.values().filter_map(record).collect()
    }

    /// Whether the sled can take one more.
    fn check_count(&self) -> Result<(), RegionError> {
        let regions = lock(&self.known).values().filter(|known| !known.is_gone()).count();
        if regions >= REGIONS_MAX { Err(RegionError::TooMany { regions }) } else { Ok(()) }
    }

    /// Makes a record durable, if it is another one than before; then it counts.
    pub(super) async fn keep(&self, record: &Record) -> Result<(), RegionError> {
        let region = record.region;
        if self.record(region)?.as_ref() == Some(record) {
            return Ok(());
        }
        let (records, new) = (self.records.clone(), record.clone());
        let kept = tokio::task::spawn_blocking(move || records.put(&new)).await;
        kept.map_err(|_| RegionError::Died { region })?
            .map_err(|source| RegionError::Record { region, source })?;
        lock(&self.known).insert(region, Known::Record(Box::new(record.clone())));
        Ok(())
    }

    /// Remembers of a region that nobody knows that it is not to be made any more.
    async fn bury(&self, region: RegionId, executor_epoch: u64) -> Result<(), RegionError> {
        match self.tombstone(region) {
            Some(Tombstone { executor_epoch: known, .. }) if known == executor_epoch => return Ok(()),
            Some(Tombstone { executor_epoch: known, .. }) => {
                plan::check_epoch(region, known, executor_epoch)?;
            }
            None => {}
        }
        let (records, tombstone) = (self.records.clone(), Tombstone { region, executor_epoch });
        let kept = tokio::task::spawn_blocking(move || records.bury(tombstone)).await;
        kept.map_err(|_| RegionError::Died { region })?
            .map_err(|source| RegionError::Record { region, source })?;
        lock(&self.known).insert(region, Known::Tombstone(tombstone));
        tracing::info!(%region, executor_epoch, "a region was destroyed before it was made");
        self.forget_oldest().await;
        Ok(())
    }

    /// Remembers the right of a call that was refused. What was only heard of before it was made has none but that of its destruction.
    async fn raise_epoch(&self, region: RegionId, executor_epoch: u64) -> Result<(), RegionError> {
        match self.record(region) {
            Ok(Some(known)) if known.executor_epoch < executor_epoch => {
                self.keep(&Record { executor_epoch, ..known }).await
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Forgets destroyed regions beyond [`DESTROYED_MAX`]. Failing to costs a file, which the next start counts again.
    async fn forget_oldest(&self) {
        let forgotten: Vec<(RegionId, Known)> = {
            let mut known = lock(&self.known);
            let gone = known.values().filter(|known| known.is_gone()).count();
            let oldest: Vec<RegionId> = known
                .iter()
                .filter(|(region, known)| known.is_gone() && !lock(&self.at_work).contains(region))
                .map(|(region, _)| *region)
                .take(gone.saturating_sub(DESTROYED_MAX))
                .collect();
            oldest.iter().filter_map(|region| known.remove_entry(region)).collect()
        };
        let records = self.records.clone();
        let forget = move || {
            for (region, known) in forgotten {
                if let Err(error) = records.forget(region, &known) {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(%region, error, "the record of a destroyed region stays");
                }
            }
        };
        // It has said what went wrong.
        let _ = tokio::task::spawn_blocking(forget).await;
    }

    /// A region as its record and its disk have it.
    pub(super) async fn tell(&self, record: &Record, seen: &Seen) -> Region {
        let seen = seen.of(record.region);
        let dataset = seen.ok().flatten();
        let (snapshots, clone) =
            tokio::join!(self.snapshots_of(record, dataset), self.clone_of(record, dataset));
        self.told(record, seen, snapshots, clone)
    }

    fn told(
        &self,
        record: &Record,
        seen: Result<Option<&Dataset>, &str>,
        snapshots: Result<Vec<SnapshotId>, String>,
        clone: Option<Result<CloneStatus, String>>,
    ) -> Region {
        let Record { region, executor_epoch, incarnation, state, ref spec, quota_bytes, .. } = *record;
        let (state, reason) = match (state, seen) {
            (State::Destroyed, _) => (RegionState::Destroyed, None),
            (State::Created, Ok(None)) => {
                (RegionState::Failed, Some("its disk does not have it any more".to_owned()))
            }
            (State::Created, seen) if let Some(clone) = &clone => {
                let (state, reason) = clones::told(clone);
                (state, reason.or(why_not(seen)))
            }
            (State::Created, seen) => (RegionState::Created, why_not(seen)),
            (State::Creating, seen) => (RegionState::Creating, why_not(seen)),
            (State::Destroying, seen) => (RegionState::Destroying, why_not(seen)),
        };
        let (snapshots, unlisted) = match snapshots {
            Ok(snapshots) => (snapshots, None),
            Err(why) => (Vec::new(), Some(why)),
        };
        let reason = reason.or(unlisted);
        let is_there = state != RegionState::Destroyed;
        Region {
            id: region,
            incarnation,
            state,
            reason,
            address: self.disks.get(spec.disk).filter(|_| is_there).map(|disk| disk.address),
            disk_id: spec.disk,
            volume_id: spec.volume,
            region_set_id: spec.set,
            block_size: spec.block_size,
            blocks_per_extent: spec.blocks_per_extent,
            extent_count: spec.extent_count,
            encrypted: spec.encrypted,
            size: spec.size_bytes(),
            quota: self
                .disks
                .get(spec.disk)
                .filter(|_| is_there)
                .map(|disk| disk.kind().size(quota_bytes).quota_bytes),
            reserved: if is_there { quota_bytes } else { 0 },
            used: if is_there { seen.ok().flatten().map(|dataset| dataset.used_bytes) } else { Some(0) },
            executor_epoch,
            snapshots,
            clone: clone.and_then(Result::ok).map(|status| clones::shown(record, status)),
        }
    }
}

/// Whether the disk can take a region, before anything is begun. Whoever has what this returns alone promises the disk's room, until it is gone.
async fn promise_room<'a>(disk: &'a Disk, record: &Record) -> Result<Promising<'a>, RegionError> {
    // Here all may ask at once: a disk that hangs, or is full, keeps nobody waiting for another one's turn.
    check_room(disk, record, 0).await?;
    // What the disk's snapshots may come to need is nobody else's. A new region has none, so nobody who is before this one makes it more.
    let kept = disk.for_snapshots().await;
    let kept = kept.map_err(|source| RegionError::SnapshotRoom { region: record.region, source })?;
    let promising = disk.promising().await;
    check_room(disk, record, kept).await?;
    Ok(promising)
}

async fn check_room(disk: &Disk, record: &Record, kept: u64) -> Result<(), RegionError> {
    let (region, wanted) = (record.region, record.quota_bytes);
    let report = disk.datasets.disk().await;
    let reservable = report.space.map(|space| space.reservable_bytes.saturating_sub(kept));
    match (report.health, reservable) {
        (Health::Healthy | Health::Degraded | Health::Full, Some(reservable)) if reservable < wanted => {
            Err(RegionError::NoRoom { region, disk: disk.id, wanted, reservable })
        }
        (Health::Healthy | Health::Degraded, Some(_)) => Ok(()),
        (health, _) => {
            let why = report.detail.unwrap_or_else(|| format!("it is {health:?}"));
            Err(RegionError::DiskUnusable { disk: disk.id, why })
        }
    }
}

/// Makes dataset and file of a region, or finds them. What is promised with its dataset counts from then on.
async fn make(
    disk: &Disk,
    record: Record,
    geometry: Geometry,
    promising: Option<Promising<'_>>,
) -> Result<Record, RegionError> {
    let region = record.region;
    let dataset = disk.datasets.create(region, disk.kind().size(record.quota_bytes)).await;
    drop(promising);
    let directory = dataset.map_err(|source| RegionError::Dataset { region, source })?.directory;
    fault_points::reach("regions.dataset_made").await;
    let new = record.new_region(geometry);
    let of = record.spec.source.as_ref().map(|source| source.snapshot_id);
    let made = tokio::task::spawn_blocking(move || {
        let storage = Arc::new(RealDisk::new(&directory));
        let files = downstairs::Disk::new(Arc::clone(&storage) as Arc<dyn Storage>);
        let made = match of {
            Some(snapshot) => files.create_clone(&new, snapshot),
            None => files.create(&new),
        };
        match made {
            // It was made before a crash. This procedure alone writes there, but who knows who has copied what by hand.
            Err(DiskError::Exists { .. }) => {
                let path = camino::Utf8PathBuf::from(format!("{region}.region"));
                let looked = storage
                    .look_in_place(&path)
                    .map_err(DiskError::from)
                    .and_then(|file| {
                        look_outside(file.as_ref(), &path)
                            .map_err(|source| DiskError::Open { region, source })
                    })
                    .map_err(|source| RegionError::File { region, source })?;
                let has = (looked.identity, looked.control.incarnation);
                let is_it = has == (new.identity, new.incarnation)
                    && looked.control.clone_of.map(|of| of.snapshot) == of;
                if is_it { Ok(()) } else { Err(RegionError::Strange { region }) }
            }
            made => made.map_err(|source| RegionError::File { region, source }),
        }
    });
    made.await.map_err(|_| RegionError::Died { region })??;
    fault_points::reach("regions.file_made").await;
    Ok(Record { state: State::Created, ..record })
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
