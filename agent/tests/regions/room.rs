//! That no more of a disk is promised than it has, however many ask at once: within one process, on a disk that says that it has little.

use crate::crash::{Sled, code, with_region_file};
use async_trait::async_trait;
use camino::Utf8PathBuf;
use datasets::{Dataset, DatasetError, Datasets, Directories, DiskReport, Listing, Mounts, Size, Snapshot};
use durable_fs::RealDisk;
use futures::future::join_all;
use ids::{RegionId, SnapshotId};
use problem::Code;
use region::{NewContent, Onto, Position, TakingEnd, Write, checksum};
use sled_agent::regions::types::Wanted;
use sled_client::regions::RegionState;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};
use tokio::sync::watch;

/// A directory of which so many bytes may be reserved, all in all.
#[derive(Debug)]
struct Small {
    directories: Directories,
    bytes: AtomicU64,
    /// How often it was asked how it does.
    asked: watch::Sender<usize>,
    /// No dataset is made before it was asked so often.
    asked_first: usize,
    /// No dataset is made at all.
    refuses: AtomicBool,
}

impl Small {
    fn new(sled: &Sled, asked_first: usize) -> Arc<Small> {
        let (bytes, refuses) = (AtomicU64::new(u64::MAX), AtomicBool::default());
        let (directories, asked) = (sled.directories.clone(), watch::Sender::default());
        Arc::new(Small { directories, bytes, asked, asked_first, refuses })
    }

    async fn reservable(&self) -> u64 {
        let all = self.directories.list().await.unwrap().datasets;
        let reserved: u64 = all.iter().map(|dataset| dataset.size.reservation_bytes).sum();
        self.bytes.load(SeqCst).saturating_sub(reserved)
    }
}

#[async_trait]
impl Datasets for Small {
    async fn create(&self, region: RegionId, size: Size) -> Result<Dataset, DatasetError> {
        let asked_often = self.asked.subscribe().wait_for(|asked| *asked >= self.asked_first).await.is_ok();
        assert!(asked_often);
        let disk = || "the disk".to_owned();
        if self.refuses.load(SeqCst) {
            return Err(DatasetError::DiskFull { disk: disk() });
        }
        let (reservable_bytes, wanted_bytes) = (self.reservable().await, size.reservation_bytes);
        if self.directories.find(region).await?.is_none() && wanted_bytes > reservable_bytes {
            let (reserved_bytes, capacity_bytes) = (0, 0);
            let disk = disk();
            return Err(DatasetError::NoSpace {
                disk,
                wanted_bytes,
                reservable_bytes,
                reserved_bytes,
                capacity_bytes,
            });
        }
        self.directories.create(region, size).await
    }

    async fn find(&self, region: RegionId) -> Result<Option<Dataset>, DatasetError> {
        self.directories.find(region).await
    }

    async fn list(&self) -> Result<Listing, DatasetError> {
        self.directories.list().await
    }

    async fn mount(&self, within: Duration) -> Result<Mounts, DatasetError> {
        self.directories.mount(within).await
    }

    async fn destroy(&self, region: RegionId) -> Result<(), DatasetError> {
        self.directories.destroy(region).await
    }

    async fn snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError> {
        self.directories.snapshot(region, snapshot).await
    }

    async fn snapshots(&self, region: RegionId) -> Result<Vec<Snapshot>, DatasetError> {
        self.directories.snapshots(region).await
    }

    async fn destroy_snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError> {
        self.directories.destroy_snapshot(region, snapshot).await
    }

    async fn open_snapshot(
        &self,
        region: RegionId,
        snapshot: SnapshotId,
    ) -> Result<Utf8PathBuf, DatasetError> {
        self.directories.open_snapshot(region, snapshot).await
    }

    async fn close_snapshot(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError> {
        self.directories.close_snapshot(region, snapshot).await
    }

    async fn directory(&self) -> Result<Utf8PathBuf, DatasetError> {
        self.directories.directory().await
    }

    async fn disk(&self) -> DiskReport {
        let mut report = self.directories.disk().await;
        let reservable = self.reservable().await;
        report.space.as_mut().expect("the disk works").reservable_bytes = reservable;
        self.asked.send_modify(|asked| *asked += 1);
        report
    }
}

/// Makes a region with a block and a snapshot of it. Tells what was reserved for it, and what the snapshot may come to need.
async fn with_snapshot(sled: &Sled, disk: &Arc<Small>) -> (u64, u64) {
    let region = RegionId::generate();
    // Nobody else asks yet.
    disk.asked.send_modify(|asked| *asked += disk.asked_first);
    let regions = sled.regions_on(Some(Arc::clone(disk) as Arc<dyn Datasets>));
    let reserved = regions.create(sled.wanted(region)).await.unwrap().reserved;
    with_region_file(sled, region, |file| {
        let (bytes, version) = ([7; 512], Position { epoch: 1, counter: 1 });
        let content = NewContent::Bytes { bytes: &bytes, checksums: &[checksum(0, &bytes)], seals: &[] };
        file.write(version, &[Write { version, block: 0, content, onto: Onto::Older }]).unwrap();
        let taken = file.begin_snapshot(SnapshotId::generate()).unwrap().run();
        assert!(matches!(file.end_snapshot(taken), Ok(TakingEnd::Taken)));
    })
    .await;
    let directory = sled.directories.find(region).await.unwrap().unwrap().directory;
    let files = downstairs::Disk::new(Arc::new(RealDisk::new(&directory)));
    let kept = files.snapshot_room(region).unwrap().missing_bytes;
    assert!((1..reserved).contains(&kept), "{kept} of {reserved}");
    disk.asked.send_replace(0);
    (reserved, kept)
}

#[tokio::test]
async fn of_many_that_are_to_be_made_at_once_none_gets_the_room_that_snapshots_may_come_to_need() {
    const WANTED: usize = 8;
    // All of them have asked how the disk does before the first one is made.
    let sled = Sled::new().await;
    let disk = Small::new(&sled, WANTED);
    let (reserved, kept) = with_snapshot(&sled, &disk).await;
    // For that one, and three more: a fourth one would have the room of the snapshot.
    disk.bytes.store(5 * reserved, SeqCst);
    let regions = sled.regions_on(Some(Arc::clone(&disk) as Arc<dyn Datasets>));
    let wanted: Vec<Wanted> = (0..WANTED).map(|_| sled.wanted(RegionId::generate())).collect();
    let made = join_all(wanted.iter().map(|wanted| regions.create(wanted.clone()))).await;
    let refused: Vec<Code> = made
        .iter()
        .filter_map(|made| made.as_ref().err())
        .map(sled_agent::regions::RegionError::code)
        .collect();
    assert_eq!(refused, [Code::NoSpace; WANTED - 3]);
    assert!(disk.reservable().await >= kept, "{} of {kept}", disk.reservable().await);
    // Nothing was begun of those.
    for (wanted, made) in wanted.iter().zip(&made) {
        let told = regions.show(wanted.region).await;
        match made {
            Ok(_) => assert_eq!(told.unwrap().state, RegionState::Created),
            Err(_) => assert_eq!(code(told), Code::RegionNotFound),
        }
    }
}

#[tokio::test]
async fn one_that_was_begun_and_not_made_has_no_room_before_others_that_are() {
    let sled = Sled::new().await;
    let disk = Small::new(&sled, 0);
    let (reserved, kept) = with_snapshot(&sled, &disk).await;
    disk.bytes.store(2 * reserved + kept, SeqCst);
    let regions = sled.regions_on(Some(Arc::clone(&disk) as Arc<dyn Datasets>));
    let [begun, other] = [(); 2].map(|()| sled.wanted(RegionId::generate()));
    disk.refuses.store(true, SeqCst);
    assert_eq!(code(regions.create(begun.clone()).await), Code::NoSpace);
    assert_eq!(regions.show(begun.region).await.unwrap().state, RegionState::Creating);
    disk.refuses.store(false, SeqCst);
    regions.create(other.clone()).await.unwrap();
    disk.bytes.fetch_add(reserved - 1, SeqCst);
    assert_eq!(code(regions.create(begun.clone()).await), Code::NoSpace);
    assert_eq!(regions.show(begun.region).await.unwrap().state, RegionState::Creating);
    // Its turn comes.
    regions.destroy(other.region, 3).await.unwrap();
    assert_eq!(regions.create(begun).await.unwrap().state, RegionState::Created);
}
