//! A crash at every named step of every record of a region's life; the records on a simulated disk, datasets and files on a real one.

use crate::agent::eventually;
use camino_tempfile::Utf8TempDir;
use datasets::{Datasets, Directories};
use durable_fs::{PublishStep, RealDisk, SimDisk, SimMachine, Storage};
use ids::{DiskId, RegionId, RegionSetId, SnapshotId, VolumeId};
use problem::Code;
use region::{BlockSize, Geometry, Identity, List, NewRegion, Opening};
use sled_agent::{
    config::{DiskKind, DiskSettings},
    disks::{Disk, Disks, Launch},
    regions::{
        RegionError, Regions,
        handle::{DESTROYED_MAX, REGIONS_MAX},
        store::{PROCEDURE, Records},
        types::{Record, SNAPSHOTS_DELETED_MAX, Spec, State, Wanted},
    },
};
use sled_client::regions::RegionState;
use std::{fs, sync::Arc, time::Duration};

/// Crashes of each kind: enough for each of the things that one may leave.
const SEEDS: u64 = 8;

/// A sled with one disk.
pub(crate) struct Sled {
    machine: SimMachine,
    records: SimDisk,
    disk: DiskId,
    pub(crate) directories: Directories,
    temp: Utf8TempDir,
}

impl Sled {
    pub(crate) async fn new() -> Sled {
        let temp = camino_tempfile::tempdir().unwrap();
        let directories = Directories::open(temp.path(), Duration::from_secs(60));
        directories.prepare().await.unwrap();
        let machine = SimMachine::new();
        let records = machine.add_disk(1 << 20);
        Sled { machine, records, disk: DiskId::generate(), directories, temp }
    }

    /// A new life of its agent. Nobody supervises: nobody connects.
    fn regions(&self) -> Regions {
        self.regions_on(None)
    }

    /// The same, with other datasets than its own.
    pub(crate) fn regions_on(&self, datasets: Option<Arc<dyn Datasets>>) -> Regions {
        let kind = DiskKind::Directory(self.temp.path().to_owned());
        let settings = DiskSettings { id: self.disk, name: "disk-0".to_owned(), kind };
        let launch = Launch {
            program: "/no/program".into(),
            log_format: daemon::log::LogFormat::Text,
            fault_sockets: None,
        };
        let address = "127.0.0.1:12400".parse().unwrap();
        let (mut disk, _) = Disk::open(&settings, address, &launch, self.temp.path(), None).unwrap();
        datasets.into_iter().for_each(|datasets| disk.datasets = datasets);
        Regions::open(Arc::new(self.records.clone()), Disks::new(vec![disk])).unwrap()
    }

    pub(crate) fn wanted(&self, region: RegionId) -> Wanted {
        let spec = Spec {
            disk: self.disk,
            volume: VolumeId::generate(),
            set: RegionSetId::generate(),
            block_size: 512,
            blocks_per_extent: 8,
            extent_count: 2,
            encrypted: false,
            members: Vec::new(),
            source: None,
        };
        Wanted { region, executor_epoch: 3, incarnation: Some(9), spec }
    }

    /// Whether the region's dataset is there, and its file.
    async fn has(&self, region: RegionId) -> (bool, bool) {
        match self.directories.find(region).await.unwrap() {
            None => (false, false),
            Some(dataset) => (true, dataset.directory.join(format!("{region}.region")).is_file()),
        }
    }
}

pub(crate) fn code<T: std::fmt::Debug>(result: Result<T, RegionError>) -> Code {
    result.expect_err("it is refused").code()
}

async fn state(regions: &Regions, region: RegionId) -> Option<RegionState> {
    regions.show(region).await.ok().map(|region| region.state)
}

/// Nobody who waits for it is told: who has asked is gone, or it is done by itself.
async fn is_destroyed_at_last(regions: &Regions, region: RegionId) {
    let destroyed = eventually(async || match state(regions, region).await {
        Some(RegionState::Destroyed) => Ok(()),
        other => Err(other),
    });
    destroyed.await.expect("it is destroyed");
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_creation_leaves_what_the_same_call_finishes() {
    for step in PublishStep::ALL {
        for nth in 1..=2 {
            for seed in 0..SEEDS {
                let sled = Sled::new().await;
                let region = RegionId::generate();
                let wanted = sled.wanted(region);
                sled.machine.stop_at(step.of(PROCEDURE), nth);
                assert_eq!(code(sled.regions().create(wanted.clone()).await), Code::Unavailable);
                // What is made before its record is durable would be known to nobody.
                assert_eq!(sled.has(region).await, (nth == 2, nth == 2), "{step:?}, {nth}");
                sled.machine.crash(seed);
                let regions = sled.regions();
                let left = state(&regions, region).await;
                let may_be: &[Option<RegionState>] = match (nth, step) {
                    (1, PublishStep::DirectorySynced) => &[Some(RegionState::Creating)],
                    (1, PublishStep::Renamed) => &[None, Some(RegionState::Creating)],
                    (1, _) => &[None],
                    (_, PublishStep::DirectorySynced) => &[Some(RegionState::Created)],
                    (_, PublishStep::Renamed) => &[Some(RegionState::Creating), Some(RegionState::Created)],
                    _ => &[Some(RegionState::Creating)],
                };
                assert!(may_be.contains(&left), "{step:?}, {nth}, seed {seed}: {left:?}");
                let made = regions.create(wanted).await.unwrap();
                assert_eq!((made.state, made.incarnation), (RegionState::Created, 9));
                assert_eq!(sled.has(region).await, (true, true));
            }
        }
    }
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_destruction_never_forgets_it_and_never_brings_it_back() {
    for step in PublishStep::ALL {
        for nth in 1..=2 {
            for seed in 0..SEEDS {
                let sled = Sled::new().await;
                let region = RegionId::generate();
                let wanted = sled.wanted(region);
                sled.regions().create(wanted.clone()).await.unwrap();
                sled.machine.stop_at(step.of(PROCEDURE), nth);
                assert_eq!(code(sled.regions().destroy(region, 4).await), Code::Unavailable);
                assert_eq!(sled.has(region).await, (nth == 1, nth == 1), "{step:?}, {nth}");
                sled.machine.crash(seed);
                let regions = sled.regions();
                let left = state(&regions, region).await.expect("it is remembered");
                let may_be: &[RegionState] = match (nth, step) {
                    (1, PublishStep::DirectorySynced) => &[RegionState::Destroying],
                    (1, PublishStep::Renamed) => &[RegionState::Created, RegionState::Destroying],
                    (1, _) => &[RegionState::Created],
                    (_, PublishStep::DirectorySynced) => &[RegionState::Destroyed],
                    (_, PublishStep::Renamed) => &[RegionState::Destroying, RegionState::Destroyed],
                    _ => &[RegionState::Destroying],
                };
                assert!(may_be.contains(&left), "{step:?}, {nth}, seed {seed}: {left:?}");
                if left != RegionState::Created {
                    // What was begun by a newer coordinator is not undone by an older one.
                    assert_eq!(code(regions.create(wanted.clone()).await), Code::StaleEpoch);
                    let again = Wanted { executor_epoch: 4, ..wanted.clone() };
                    assert_eq!(code(regions.create(again).await), Code::RegionDestroyed);
                }
                regions.destroy(region, 4).await.unwrap();
                assert_eq!(state(&regions, region).await, Some(RegionState::Destroyed));
                assert_eq!(sled.has(region).await, (false, false));
                assert!(regions.list(None, 10).await.is_empty());
            }
        }
    }
}

#[tokio::test]
async fn a_region_that_its_disk_lost_is_told_of_and_not_made_again_in_silence() {
    let sled = Sled::new().await;
    let region = RegionId::generate();
    let wanted = sled.wanted(region);
    sled.regions().create(wanted.clone()).await.unwrap();
    // Another disk in its place, say.
    fs::remove_dir_all(sled.temp.path().join(region.to_string())).unwrap();
    let regions = sled.regions();
    assert_eq!(state(&regions, region).await, Some(RegionState::Failed));
    assert_eq!(code(regions.create(wanted.clone()).await), Code::RegionLost);
    assert_eq!(sled.has(region).await, (false, false));
    regions.destroy(region, 3).await.unwrap();
    let next = Wanted { incarnation: Some(10), ..wanted };
    assert_eq!(regions.create(next).await.unwrap().incarnation, 10);
}

#[tokio::test]
async fn a_region_that_is_open_is_destroyed_once_it_is_not() {
    let sled = Sled::new().await;
    let region = RegionId::generate();
    let wanted = sled.wanted(region);
    let regions = sled.regions();
    regions.create(wanted.clone()).await.unwrap();
    let directory = sled.directories.find(region).await.unwrap().unwrap().directory;
    let open = fs::File::open(directory.join(format!("{region}.region"))).unwrap();
    assert_eq!(code(regions.destroy(region, 3).await), Code::RegionInUse);
    assert_eq!(state(&regions, region).await, Some(RegionState::Destroying));
    assert_eq!(sled.has(region).await, (true, true), "it is as it was");
    assert_eq!(code(regions.create(wanted).await), Code::RegionDestroyed);
    drop(open);
    // A new life of the agent goes on by itself.
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let regions = sled.regions();
    let resumed = tokio::spawn(regions.clone().resume(stopped));
    is_destroyed_at_last(&regions, region).await;
    stop.send(true).unwrap();
    resumed.await.unwrap();
    assert_eq!(sled.has(region).await, (false, false));
}

#[tokio::test]
async fn a_region_of_which_a_snapshot_is_taken_while_it_waits_to_be_destroyed_stays() {
    for by_itself in [false, true] {
        let sled = Sled::new().await;
        let (region, snapshot) = (RegionId::generate(), SnapshotId::generate());
        let wanted = sled.wanted(region);
        let mut regions = sled.regions();
        regions.create(wanted.clone()).await.unwrap();
        let directory = sled.directories.find(region).await.unwrap().unwrap().directory;
        let open = fs::File::open(directory.join(format!("{region}.region"))).unwrap();
        assert_eq!(code(regions.destroy(region, 3).await), Code::RegionInUse);
        // Whoever has it goes on, and keeps what was written until now.
        with_region_file(&sled, region, |file| {
            let taken = file.begin_snapshot(snapshot).unwrap().run();
            assert!(matches!(file.end_snapshot(taken), Ok(region::TakingEnd::Taken)));
        })
        .await;
        drop(open);
        let (stop, stopped) = tokio::sync::watch::channel(false);
        if by_itself {
            regions = sled.regions();
            let resumed = tokio::spawn(regions.clone().resume(stopped));
            let decided = eventually(async || match state(&regions, region).await {
                Some(RegionState::Destroying) => Err("it waits"),
                other => Ok(other),
            });
            assert_eq!(decided.await, Ok(Some(RegionState::Created)));
            stop.send(true).unwrap();
            resumed.await.unwrap();
        } else {
            assert_eq!(code(regions.destroy(region, 3).await), Code::RegionHasSnapshots);
        }
        // Also for the next life: it is as if nobody had asked.
        for regions in [regions, sled.regions()] {
            let told = regions.show(region).await.unwrap();
            assert_eq!((told.state, told.snapshots), (RegionState::Created, vec![snapshot]));
            assert_eq!(sled.has(region).await, (true, true));
            assert_eq!(code(regions.destroy(region, 3).await), Code::RegionHasSnapshots);
            regions.create(wanted.clone()).await.unwrap();
        }
        with_region_file(&sled, region, |file| {
            let gone = file.begin_delete_snapshot(snapshot).unwrap().run();
            file.end_delete_snapshot(gone).unwrap();
        })
        .await;
        sled.regions().destroy(region, 3).await.unwrap();
        assert_eq!(sled.has(region).await, (false, false));
    }
}

#[tokio::test]
async fn a_snapshot_of_a_region_that_is_not_there_is_deleted_already() {
    let sled = Sled::new().await;
    let (regions, snapshot) = (sled.regions(), SnapshotId::generate());
    let [destroyed, buried, unknown] = [(); 3].map(|()| RegionId::generate());
    regions.create(sled.wanted(destroyed)).await.unwrap();
    regions.destroy(destroyed, 4).await.unwrap();
    regions.destroy(buried, 4).await.unwrap();
    for regions in [regions, sled.regions()] {
        for region in [destroyed, buried, unknown] {
            regions.delete_snapshot(region, snapshot, 4).await.unwrap();
        }
        for region in [destroyed, buried] {
            assert_eq!(code(regions.delete_snapshot(region, snapshot, 3).await), Code::StaleEpoch);
        }
        assert_eq!(code(regions.show(unknown).await), Code::RegionNotFound);
        assert_eq!(code(regions.delete_snapshot(unknown, snapshot, 0).await), Code::BadRegion);
        for region in [buried, unknown] {
            assert_eq!(code(regions.snapshot(region, snapshot, 4).await), Code::RegionNotFound);
        }
    }
}

#[tokio::test]
async fn a_record_that_cannot_be_read_costs_its_region_and_no_other() {
    let sled = Sled::new().await;
    let [rotten, whole] = [(); 2].map(|()| RegionId::generate());
    for region in [rotten, whole] {
        sled.regions().create(sled.wanted(region)).await.unwrap();
    }
    let path = camino::Utf8PathBuf::from(format!("{rotten}.json"));
    let size = sled.records.metadata(&path).unwrap().size;
    sled.records.flip_bit(&path, size / 2).unwrap();
    let regions = sled.regions();
    assert_eq!(code(regions.show(rotten).await), Code::RegionUnreadable);
    assert_eq!(code(regions.create(sled.wanted(rotten)).await), Code::RegionUnreadable);
    assert_eq!(code(regions.destroy(rotten, 9).await), Code::RegionUnreadable);
    assert_eq!(sled.has(rotten).await, (true, true));
    assert_eq!(state(&regions, whole).await, Some(RegionState::Created));
    regions.destroy(whole, 3).await.unwrap();
}

#[tokio::test]
async fn a_second_call_is_told_to_come_again_and_who_goes_away_finds_it_done() {
    let sled = Sled::new().await;
    let (region, regions) = (RegionId::generate(), sled.regions());
    let wanted = sled.wanted(region);
    let (first, second) = tokio::join!(regions.create(wanted.clone()), regions.create(wanted));
    assert_eq!(first.unwrap().state, RegionState::Created);
    assert_eq!(code(second), Code::RegionBusy);
    // Whoever asked is gone before it has begun.
    tokio::select! {
        biased;
        destroyed = regions.destroy(region, 3) => panic!("it was not waited for: {destroyed:?}"),
        () = tokio::task::yield_now() => {}
    }
    is_destroyed_at_last(&regions, region).await;
}

#[tokio::test]
async fn a_file_that_is_another_regions_is_not_taken_for_it_and_left_as_it_is() {
    let sled = Sled::new().await;
    let region = RegionId::generate();
    let wanted = sled.wanted(region);
    // It is killed with the file made, and somebody puts an earlier life of the region in its place.
    sled.machine.stop_at(PublishStep::Created.of(PROCEDURE), 2);
    assert_eq!(code(sled.regions().create(wanted.clone()).await), Code::Unavailable);
    sled.machine.crash(0);
    let directory = sled.directories.find(region).await.unwrap().unwrap().directory;
    let files = downstairs::Disk::new(Arc::new(RealDisk::new(&directory)));
    files.destroy(region).unwrap();
    let geometry = Geometry { block_size: BlockSize::B512, blocks: 16, is_sealed: false };
    let identity = Identity { region, set: wanted.spec.set, geometry };
    files.create(&NewRegion { identity, incarnation: 8, list: List::default(), salt: 1 }).unwrap();
    let path = directory.join(format!("{region}.region"));
    let before = fs::read(&path).unwrap();
    let regions = sled.regions();
    assert_eq!(code(regions.create(wanted).await), Code::RegionStrange);
    assert_eq!(state(&regions, region).await, Some(RegionState::Creating));
    assert!(fs::read(&path).unwrap() == before);
    regions.destroy(region, 3).await.unwrap();
    assert_eq!(sled.has(region).await, (false, false));
}

/// Writes the record of a region in that state, as if all of its life had been.
fn remember(sled: &Sled, records: &Records, region: RegionId, state: State) {
    let Wanted { executor_epoch, spec, .. } = sled.wanted(region);
    let (incarnation, quota_bytes, deleted_snapshots) = (9, 1 << 20, Vec::new());
    let record = Record { region, executor_epoch, incarnation, state, spec, quota_bytes, deleted_snapshots };
    records.put(&record).unwrap();
}

#[tokio::test]
async fn there_is_a_limit_to_regions_and_the_oldest_of_those_that_are_gone_are_forgotten() {
    let sled = Sled::new().await;
    sled.records.set_capacity(1 << 30);
    let (records, none) = Records::open(Arc::new(sled.records.clone())).unwrap();
    assert!(none.is_empty());
    let gone: Vec<RegionId> = (0..DESTROYED_MAX + 2).map(|_| RegionId::generate()).collect();
    gone.iter().for_each(|region| remember(&sled, &records, *region, State::Destroyed));
    let there: Vec<RegionId> = (0..REGIONS_MAX - 1).map(|_| RegionId::generate()).collect();
    there.iter().for_each(|region| remember(&sled, &records, *region, State::Creating));
    let regions = sled.regions();
    let (last, too_many) = (RegionId::generate(), RegionId::generate());
    regions.create(sled.wanted(last)).await.unwrap();
    assert_eq!(code(regions.create(sled.wanted(too_many)).await), Code::RegionsFull);
    assert_eq!(sled.has(too_many).await, (false, false));
    regions.destroy(last, 3).await.unwrap();
    for regions in [regions, sled.regions()] {
        for forgotten in &gone[..2] {
            assert_eq!(code(regions.show(*forgotten).await), Code::RegionNotFound);
        }
        for kept in [gone[3], gone[DESTROYED_MAX + 1], there[0]] {
            regions.show(kept).await.unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_destroyed_before_it_was_made_is_made_by_no_call_that_was_on_its_way() {
    for step in PublishStep::ALL {
        for seed in 0..SEEDS {
            let sled = Sled::new().await;
            let region = RegionId::generate();
            let late = |executor_epoch| Wanted { executor_epoch, ..sled.wanted(region) };
            sled.machine.stop_at(step.of(PROCEDURE), 1);
            assert_eq!(code(sled.regions().destroy(region, 8).await), Code::Unavailable);
            sled.machine.crash(seed);
            let regions = sled.regions();
            regions.destroy(region, 8).await.unwrap();
            regions.destroy(region, 8).await.unwrap();
            for regions in [regions, sled.regions()] {
                assert_eq!(code(regions.create(late(5)).await), Code::StaleEpoch, "{step:?}, seed {seed}");
                assert_eq!(code(regions.create(late(8)).await), Code::RegionDestroyed);
                assert_eq!(code(regions.destroy(region, 7).await), Code::StaleEpoch);
                assert_eq!(code(regions.show(region).await), Code::RegionNotFound);
                assert!(regions.list(None, 10).await.is_empty());
                assert_eq!(sled.has(region).await, (false, false));
            }
            // A newer coordinator that destroys it, too, has the last word; one that is newer still makes it.
            let regions = sled.regions();
            regions.destroy(region, 9).await.unwrap();
            assert_eq!(code(sled.regions().create(late(8)).await), Code::StaleEpoch);
            let made = sled.regions().create(late(10)).await.unwrap();
            assert_eq!((made.state, made.executor_epoch), (RegionState::Created, 10));
        }
    }
}

#[tokio::test]
async fn whoever_was_refused_has_been_heard_of_by_those_that_are_older() {
    for step in PublishStep::ALL {
        for seed in 0..SEEDS {
            let sled = Sled::new().await;
            let region = RegionId::generate();
            let wanted = sled.wanted(region);
            sled.regions().create(wanted.clone()).await.unwrap();
            let mut other = Wanted { executor_epoch: 4, ..wanted.clone() };
            other.spec.block_size = 4096;
            sled.machine.stop_at(step.of(PROCEDURE), 1);
            // Before it is durable nobody is answered.
            assert_eq!(code(sled.regions().create(other.clone()).await), Code::Unavailable);
            sled.machine.crash(seed);
            let regions = sled.regions();
            assert_eq!(code(regions.create(other).await), Code::RegionConflict);
            for regions in [regions, sled.regions()] {
                assert_eq!(code(regions.create(wanted.clone()).await), Code::StaleEpoch, "{step:?}, {seed}");
                assert_eq!(code(regions.destroy(region, 3).await), Code::StaleEpoch);
                assert_eq!(regions.show(region).await.unwrap().executor_epoch, 4);
            }
            sled.regions().destroy(region, 4).await.unwrap();
            // Nor does a refused call of what is gone pass unheard.
            let again = Wanted { executor_epoch: 6, ..wanted };
            assert_eq!(code(sled.regions().create(again).await), Code::RegionDestroyed);
            assert_eq!(code(sled.regions().destroy(region, 5).await), Code::StaleEpoch);
        }
    }
}

/// Does something with the file of a region that nobody serves.
pub(crate) async fn with_region_file(sled: &Sled, region: RegionId, act: impl FnOnce(&mut region::Region)) {
    let directory = sled.directories.find(region).await.unwrap().unwrap().directory;
    let path = camino::Utf8PathBuf::from(format!("{region}.region"));
    let opening = Opening { life: 1, boot: uuid::Uuid::nil() };
    act(&mut region::open(Arc::new(RealDisk::new(&directory)), &path, opening).unwrap());
}

#[tokio::test]
async fn a_region_with_snapshots_is_not_destroyed_and_all_of_it_stays() {
    let sled = Sled::new().await;
    let (region, regions) = (RegionId::generate(), sled.regions());
    let wanted = sled.wanted(region);
    regions.create(wanted.clone()).await.unwrap();
    let snapshots = [(); 2].map(|()| SnapshotId::generate());
    for snapshot in snapshots {
        with_region_file(&sled, region, |file| {
            let taken = file.begin_snapshot(snapshot).unwrap().run();
            assert!(matches!(file.end_snapshot(taken), Ok(region::TakingEnd::Taken)));
        })
        .await;
    }
    for (deleted, snapshot) in snapshots.into_iter().enumerate() {
        let refused = regions.destroy(region, 4).await.unwrap_err();
        assert_eq!(refused.code(), Code::RegionHasSnapshots);
        let words = refused.to_string();
        assert!(words.contains(&format!("and {} others", 1 - deleted)), "{words}");
        let told = sled.regions().show(region).await.unwrap();
        assert_eq!((told.state, told.snapshots.len()), (RegionState::Created, 2 - deleted));
        assert_eq!(sled.has(region).await, (true, true));
        // Whoever was refused is heard of.
        assert_eq!(code(regions.create(wanted.clone()).await), Code::StaleEpoch);
        with_region_file(&sled, region, |file| {
            let gone = file.begin_delete_snapshot(snapshot).unwrap().run();
            file.end_delete_snapshot(gone).unwrap();
        })
        .await;
    }
    regions.destroy(region, 4).await.unwrap();
    assert_eq!(sled.has(region).await, (false, false));
}

#[tokio::test]
async fn a_snapshot_that_was_deleted_is_remembered_before_its_downstairs_is_asked() {
    for step in PublishStep::ALL {
        for seed in 0..SEEDS {
            let sled = Sled::new().await;
            let (region, snapshot) = (RegionId::generate(), SnapshotId::generate());
            sled.regions().create(sled.wanted(region)).await.unwrap();
            sled.machine.stop_at(step.of(PROCEDURE), 1);
            assert_eq!(code(sled.regions().delete_snapshot(region, snapshot, 3).await), Code::Unavailable);
            sled.machine.crash(seed);
            let regions = sled.regions();
            // Nobody serves the disk, so nothing is done; but what was durable counts.
            let late = code(regions.snapshot(region, snapshot, 3).await);
            let may_be: &[Code] = match step {
                PublishStep::DirectorySynced => &[Code::SnapshotDeleted],
                PublishStep::Renamed => &[Code::SnapshotDeleted, Code::DownstairsAway],
                _ => &[Code::DownstairsAway],
            };
            assert!(may_be.contains(&late), "{step:?}, seed {seed}: {late:?}");
            for _ in 0..2 {
                assert_eq!(code(regions.delete_snapshot(region, snapshot, 3).await), Code::DownstairsAway);
            }
            for regions in [regions, sled.regions()] {
                assert_eq!(code(regions.snapshot(region, snapshot, 3).await), Code::SnapshotDeleted);
                let other = regions.snapshot(region, SnapshotId::generate(), 3).await;
                assert_eq!(code(other), Code::DownstairsAway);
            }
        }
    }
}

#[tokio::test]
async fn of_deleted_snapshots_the_newest_are_remembered_and_the_record_is_read_again() {
    let sled = Sled::new().await;
    let region = RegionId::generate();
    let regions = sled.regions();
    regions.create(sled.wanted(region)).await.unwrap();
    let deleted: Vec<SnapshotId> = (0..=SNAPSHOTS_DELETED_MAX).map(|_| SnapshotId::generate()).collect();
    for snapshot in &deleted {
        assert_eq!(code(regions.delete_snapshot(region, *snapshot, 3).await), Code::DownstairsAway);
    }
    for regions in [regions, sled.regions()] {
        let late = async |which: usize| code(regions.snapshot(region, deleted[which], 3).await);
        assert_eq!(late(0).await, Code::DownstairsAway, "it is forgotten");
        for kept in [1, SNAPSHOTS_DELETED_MAX] {
            assert_eq!(late(kept).await, Code::SnapshotDeleted);
        }
    }
}
