//! Read-only regions, and snapshots: what the Downstairs of a region's disk is asked for, and what of it is told. Owns that it is asked again.
//!
//! ```text
//!   created ──ordered──► its Downstairs makes it a clone ──proven──► ready
//!               ▲             └── that one, or the agent, has ended, or forgotten ──┐
//!               └───────────────────────── every TEND_INTERVAL ◄────────────────────┘
//! ```

use super::{
    error::RegionError,
    handle::{Regions, Shared},
    plan,
    types::{self, Record, State},
};
use crate::disks::Disk;
use datasets::Dataset;
use downstairs::{Answer, CloneState, CloneStatus, Order};
use durable_fs::RealDisk;
use futures::future::join_all;
use ids::{DiskId, RegionId, SnapshotId};
use problem::chain;
use sled_client::regions::{RegionClone, RegionClonePhase, RegionState};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::sync::watch;

/// Between two looks whether clones are being made. Longer than a Downstairs takes to be started again.
const TEND_INTERVAL: Duration = Duration::from_secs(2);

impl Regions {
    /// Sees to it that each read-only region becomes what it is to be, until `stop` turns true. A disk that hangs keeps no other one's waiting.
    pub async fn tend_clones(self, stop: watch::Receiver<bool>) {
        join_all(self.0.disks.ids().map(|disk| self.tend_clones_on(disk, stop.clone()))).await;
    }

    async fn tend_clones_on(&self, disk: DiskId, mut stop: watch::Receiver<bool>) {
        // They stay so.
        let mut proven = BTreeSet::new();
        loop {
            for record in self.0.clones_on(disk) {
                let (region, incarnation) = (record.region, record.incarnation);
                if proven.contains(&(region, incarnation)) {
                    continue;
                }
                match self.0.clone_of(&record, None).await {
                    Some(Ok(status)) if status.state == CloneState::Proven => {
                        proven.insert((region, incarnation));
                    }
                    // Nobody is at it: it is another process than the one that was told.
                    Some(Ok(status)) if status.state == CloneState::Idle => self.0.order_clone(&record).await,
                    _ => {}
                }
            }
            tokio::select! {
                () = tokio::time::sleep(TEND_INTERVAL) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Takes a snapshot of a region that nobody writes; done if it is there.
    ///
    /// # Errors
    /// [`RegionError`].
    pub async fn snapshot(
        &self,
        region: RegionId,
        snapshot: SnapshotId,
        executor_epoch: u64,
    ) -> Result<(), RegionError> {
        self.of_snapshot(region, executor_epoch, Order::Snapshot { region, snapshot }).await
    }

    /// Deletes one; done if it is not there.
    ///
    /// # Errors
    /// [`RegionError`].
    pub async fn delete_snapshot(
        &self,
        region: RegionId,
        snapshot: SnapshotId,
        executor_epoch: u64,
    ) -> Result<(), RegionError> {
        self.of_snapshot(region, executor_epoch, Order::DeleteSnapshot { region, snapshot }).await
    }

    async fn of_snapshot(
        &self,
        region: RegionId,
        executor_epoch: u64,
        order: Order,
    ) -> Result<(), RegionError> {
        types::check_epoch(executor_epoch)?;
        let work = async move |shared: Arc<Shared>| {
            let known = match (shared.record(region)?, &order) {
                (Some(known), _) => known,
                // Of a region that is not there there is none. A late PUT of one finds no region either.
                (None, Order::DeleteSnapshot { .. }) => {
                    return shared.check_tombstone(region, executor_epoch);
                }
                (None, _) => return Err(RegionError::NotFound { region }),
            };
            plan::check_epoch(region, known.executor_epoch, executor_epoch)?;
            let record = Record { executor_epoch, ..known };
            let record = match (record.state, &order) {
                (State::Created, Order::DeleteSnapshot { snapshot, .. }) if !record.is_of(*snapshot) => {
                    record.without_snapshot(*snapshot)
                }
                (State::Created, Order::Snapshot { snapshot, .. })
                    if record.deleted_snapshots.contains(snapshot) =>
                {
                    return Err(RegionError::SnapshotDeleted { region, snapshot: *snapshot });
                }
                (State::Created, _) => record,
                // With its region it is gone.
                (State::Destroyed, Order::DeleteSnapshot { .. }) => return shared.keep(&record).await,
                (state, _) => return Err(RegionError::NotThere { region, state }),
            };
            let disk = shared.disk(record.spec.disk)?;
            // Before it is begun: whoever asks for it again finds that it is deleted, whatever becomes of this.
            shared.keep(&record).await?;
            fault_points::reach("regions.snapshot_recorded").await;
            match disk.ask(order).await {
                Ok(Answer::Done) => Ok(()),
                Ok(Answer::Refused { words: why, .. }) => Err(RegionError::Snapshot { region, why }),
                Ok(other) => {
                    let why = format!("it answers something else than it was asked: {other:?}");
                    Err(RegionError::DownstairsAway { disk: disk.id, why })
                }
                Err(why) => Err(RegionError::DownstairsAway { disk: disk.id, why }),
            }
        };
        self.work(region, executor_epoch, work).await
    }
}

impl Shared {
    /// Refuses to destroy one with snapshots: who reads them may know nothing of the region. A clone has only what it is of, and goes with it.
    pub(super) async fn check_no_snapshots(&self, record: &Record) -> Result<(), RegionError> {
        let region = record.region;
        let disk = self.disk(record.spec.disk)?;
        let found = disk.datasets.find(region).await;
        let found = found.map_err(|source| RegionError::Dataset { region, source })?;
        // Its disk has lost it.
        let Some(dataset) = found else { return Ok(()) };
        let files = downstairs::Disk::new(Arc::new(RealDisk::new(&dataset.directory)));
        let named = move || Ok(files.snapshots(region));
        let named = disk.attempts().blocking("list a region's snapshots", named).await;
        let named = named.map_err(|source| RegionError::Dataset { region, source })?;
        let mut all = named.map_err(|source| RegionError::SnapshotsUnknown { region, source })?;
        all.retain(|snapshot| !record.is_of(*snapshot));
        match all.iter().min() {
            Some(first) => Err(RegionError::HasSnapshots { region, first: *first, others: all.len() - 1 }),
            None => Ok(()),
        }
    }

    /// Tells its Downstairs what to do for it. One that does not hear it is told again.
    pub(super) async fn order_clone(&self, record: &Record) {
        let (Some(order), Ok(disk)) = (record.clone_order(), self.disk(record.spec.disk)) else { return };
        let region = record.region;
        match disk.ask(order).await {
            Ok(Answer::Refused { words, .. }) => {
                tracing::warn!(%region, reason = words, "a read-only region cannot be made one");
            }
            Ok(_) => tracing::info!(%region, "a read-only region is being made"),
            Err(reason) => tracing::info!(%region, reason, "a read-only region waits for its Downstairs"),
        }
    }

    /// How far it is, or why that is not known; none if it is written. Its dataset, where that is known, has what its file says.
    pub(super) async fn clone_of(
        &self,
        record: &Record,
        dataset: Option<&Dataset>,
    ) -> Option<Result<CloneStatus, String>> {
        record.spec.source.as_ref().filter(|_| record.state == State::Created)?;
        let disk = self.disks.get(record.spec.disk)?;
        Some(match disk.ask(Order::CloneStatus { region: record.region }).await {
            Ok(Answer::Clone(status)) => Ok(status),
            Ok(Answer::Refused { words, .. }) => Err(words),
            Ok(Answer::Done) => Err("its Downstairs answers something else than it was asked".to_owned()),
            // One that is proven is so whoever answers.
            Err(why) => clone_at_rest(disk, record, dataset).await.ok_or(why),
        })
    }

    /// Its snapshots, by the names of their files; or why they are not known. None are, while its files are not there.
    pub(super) async fn snapshots_of(
        &self,
        record: &Record,
        dataset: Option<&Dataset>,
    ) -> Result<Vec<SnapshotId>, String> {
        let Some(files) = files_of(record, dataset) else { return Ok(Vec::new()) };
        let (region, Some(disk)) = (record.region, self.disks.get(record.spec.disk)) else {
            return Ok(Vec::new());
        };
        let named = move || Ok(files.snapshots(region));
        let listed = match disk.attempts().blocking("list a region's snapshots", named).await {
            Ok(listed) => listed.map_err(|error| chain(&error)),
            Err(error) => Err(chain(&error)),
        };
        let mut all = listed.map_err(|why| format!("its snapshots are not known: {why}"))?;
        all.sort_unstable();
        Ok(all)
    }
}

/// What its file says, if that is that it is proven.
async fn clone_at_rest(disk: &Disk, record: &Record, dataset: Option<&Dataset>) -> Option<CloneStatus> {
    let (region, files) = (record.region, files_of(record, dataset)?);
    let look = move || Ok(downstairs::clone_at_rest(&files, region));
    let looked = disk.attempts().blocking("look at a clone", look).await;
    looked.ok()?.ok().filter(|status| status.state == CloneState::Proven)
}

/// Its files, as a Downstairs knows them, if they are there.
fn files_of(record: &Record, dataset: Option<&Dataset>) -> Option<downstairs::Disk> {
    let dataset = dataset.filter(|dataset| record.state == State::Created && dataset.mounted)?;
    Some(downstairs::Disk::new(Arc::new(RealDisk::new(&dataset.directory))))
}

/// What has become of one, and why it is not as it should be.
pub(super) fn told(clone: &Result<CloneStatus, String>) -> (RegionState, Option<String>) {
    match clone {
        Ok(status) => match status.state {
            CloneState::Proven => (RegionState::Ready, None),
            CloneState::Failed => (RegionState::Failed, status.why.clone()),
            CloneState::Idle | CloneState::Waiting | CloneState::Copying | CloneState::Proving => {
                (RegionState::Cloning, status.why.clone())
            }
        },
        Err(why) => (RegionState::Cloning, Some(why.clone())),
    }
}

pub(super) fn shown(record: &Record, status: CloneStatus) -> RegionClone {
    let CloneStatus { snapshot, state, done_bytes, copied_bytes, hash, .. } = status;
    let phase = match state {
        CloneState::Idle | CloneState::Waiting => RegionClonePhase::Waiting,
        CloneState::Copying => RegionClonePhase::Copying,
        CloneState::Proving => RegionClonePhase::Proving,
        CloneState::Proven => RegionClonePhase::Proven,
        CloneState::Failed => RegionClonePhase::Failed,
    };
    let copy_bytes_per_second = record.spec.source.as_ref().and_then(|source| source.copy_bytes_per_second);
    let (done, copied) = (done_bytes, copied_bytes);
    RegionClone { snapshot_id: snapshot, phase, done, copied, copy_bytes_per_second, hash }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{DiskKind, DiskSettings},
        disks::{Disks, Launch},
        regions::{seen::Seen, types::Spec},
    };
    use datasets::Size;
    use durable_fs::SimMachine;
    use ids::{RegionSetId, VolumeId};

    #[tokio::test]
    async fn a_region_whose_snapshots_cannot_be_listed_says_so_and_not_that_it_has_none() {
        let temp = camino_tempfile::tempdir().unwrap();
        let (id, region) = (DiskId::generate(), RegionId::generate());
        let kind = DiskKind::Directory(temp.path().to_owned());
        let settings = DiskSettings { id, name: "disk-0".to_owned(), kind };
        let log_format = daemon::log::LogFormat::Text;
        let launch = Launch { program: "/no/program".into(), log_format, fault_sockets: None };
        let address = "127.0.0.1:12400".parse().unwrap();
        let (disk, _) = Disk::open(&settings, address, &launch, temp.path(), None).unwrap();
        let records = SimMachine::new().add_disk(1 << 20);
        let Regions(shared) = Regions::open(Arc::new(records), Disks::new(vec![disk])).unwrap();
        let spec = Spec {
            disk: id,
            volume: VolumeId::generate(),
            set: RegionSetId::generate(),
            block_size: 512,
            blocks_per_extent: 8,
            extent_count: 2,
            encrypted: false,
            members: Vec::new(),
            source: None,
        };
        let record = Record {
            region,
            executor_epoch: 3,
            incarnation: 9,
            state: State::Created,
            spec,
            quota_bytes: 1 << 20,
            deleted_snapshots: Vec::new(),
        };
        // It was there a moment ago.
        let directory = temp.path().join("gone");
        let size = Size { quota_bytes: 1 << 20, reservation_bytes: 1 << 20 };
        let dataset =
            Dataset { region, directory, mounted: true, size, used_bytes: 0, available_bytes: 1 << 20 };
        let seen = Seen::Of([(region, dataset)].into());
        let told = shared.tell(&record, &seen).await;
        assert_eq!((told.state, &told.snapshots[..]), (RegionState::Created, &[][..]));
        let why = told.reason.expect("it is told");
        assert!(why.contains("its snapshots are not known: ") && why.contains("No such file"), "{why}");
    }
}
