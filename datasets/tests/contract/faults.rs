//! What holds on a disk that does not work.

use crate::bench::{Bench, Kind, MIB, SIZE, refused, within};
use datasets::{Health, Size};
use ids::RegionId;
use std::{
    fs::{self, File},
    io::{self, Write},
    time::Duration,
};

/// Writes until there is no room; tells why that ended.
pub(crate) fn fill(path: &camino::Utf8Path) -> io::Error {
    let mut file = File::create(path).unwrap();
    let mut piece = vec![0; 1 << 20];
    let mut seed = 1_u64;
    loop {
        // Not zeros: some file systems make nothing of them.
        piece.fill_with(|| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 56) as u8
        });
        if let Err(error) = file.write_all(&piece).and_then(|()| file.sync_data()) {
            return error;
        }
    }
}

pub(crate) async fn a_full_disk_is_told_and_loses_nothing(bench: Bench) {
    let disk = bench.open();
    let kept = disk.create(RegionId::generate(), Size { reservation_bytes: 0, ..SIZE }).await.unwrap();
    fs::write(kept.directory.join("region"), vec![5; 2 << 20]).unwrap();
    File::open(kept.directory.join("region")).unwrap().sync_all().unwrap();
    let filler = Size { quota_bytes: 1 << 40, reservation_bytes: 0 };
    let filled = disk.create(RegionId::generate(), filler).await.unwrap();
    let error = fill(&filled.directory.join("filler"));
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");

    let report = disk.disk().await;
    assert_eq!(report.health, Health::Full, "{report:?}");
    assert_eq!(report.space.unwrap().reservable_bytes, 0);
    let least = Size { quota_bytes: MIB, reservation_bytes: 0 };
    let words = refused(disk.create(RegionId::generate(), least).await, "no_space");
    assert!(words.contains("0 of"), "{words}");
    let listing = disk.list().await.unwrap();
    assert_eq!(listing.datasets.len(), 2);
    assert!(listing.datasets.iter().all(|dataset| dataset.available_bytes < 16 * MIB), "{listing:?}");
    // What is there is found, and read.
    let found = disk.create(kept.region, kept.size).await.unwrap();
    assert_eq!(fs::read(found.directory.join("region")).unwrap(), vec![5; 2 << 20]);
    // And a full disk can be emptied.
    disk.destroy(filled.region).await.unwrap();
    crate::bench::wait_for("the space to be free again", async || {
        let report = disk.disk().await;
        if report.health == Health::Healthy { Ok(()) } else { Err(format!("{report:?}")) }
    })
    .await;
    disk.create(RegionId::generate(), least).await.unwrap();
}

pub(crate) async fn a_disk_that_goes_away_is_missing_and_comes_back_whole(bench: Bench) {
    let disk = bench.open();
    let made = disk.create(RegionId::generate(), SIZE).await.unwrap();
    fs::write(made.directory.join("region"), "kept").unwrap();
    bench.take_away();
    let report = disk.disk().await;
    assert_eq!(report.health, Health::Missing, "{report:?}");
    assert!(report.detail.is_some_and(|detail| detail.contains("mount or import it")));
    refused(disk.create(RegionId::generate(), SIZE).await, "disk_missing");
    refused(disk.create(made.region, SIZE).await, "disk_missing");
    refused(disk.find(made.region).await, "disk_missing");
    refused(disk.list().await, "disk_missing");
    refused(disk.destroy(made.region).await, "disk_missing");
    // Nothing was made in the place where it is to be mounted; not even if that has a directory of this name.
    if bench.kind != Kind::Zfs {
        fs::create_dir(bench.root()).unwrap();
        refused(disk.create(RegionId::generate(), SIZE).await, "disk_missing");
        refused(disk.list().await, "disk_missing");
        fs::remove_dir(bench.root()).unwrap();
    }
    assert!(!bench.root().join(made.region.to_string()).exists());
    bench.bring_back();
    let found = disk.find(made.region).await.unwrap().unwrap();
    assert_eq!(found.size, SIZE);
    assert_eq!(fs::read(found.directory.join("region")).unwrap(), b"kept");
    assert_eq!(disk.list().await.unwrap().datasets.len(), 1);
    assert_eq!(disk.disk().await.health, Health::Healthy);
}

pub(crate) async fn a_disk_that_gives_nothing_back_is_told_though_the_system_has_cached_it(bench: Bench) {
    let disk = bench.open();
    let made = disk.create(RegionId::generate(), SIZE).await.unwrap();
    let path = made.directory.join("region");
    fs::write(&path, "kept").and_then(|()| File::open(&path)?.sync_all()).unwrap();
    assert_eq!(disk.list().await.unwrap().datasets.len(), 1);
    bench.fail();
    let report = disk.disk().await;
    assert_eq!(report.health, Health::Failed, "{report:?}");
    let why = report.detail.unwrap();
    assert!(why.contains("Input/output error"), "{why}");
    refused(disk.find(made.region).await, "disk_failed");
    refused(disk.list().await, "disk_failed");
    refused(disk.create(RegionId::generate(), SIZE).await, "disk_failed");
    bench.mend();
    bench.take_away();
    bench.bring_back();
    let found = disk.find(made.region).await.unwrap().unwrap();
    assert_eq!(fs::read(found.directory.join("region")).unwrap(), b"kept");
    assert_eq!(disk.disk().await.health, Health::Healthy);
}

pub(crate) async fn a_read_only_disk_is_read_and_not_changed(bench: Bench) {
    let disk = bench.open();
    let made = disk.create(RegionId::generate(), SIZE).await.unwrap();
    fs::write(made.directory.join("region"), "kept").unwrap();
    bench.set_read_only(true);
    let report = disk.disk().await;
    assert_eq!(report.health, Health::ReadOnly, "{report:?}");
    refused(disk.create(RegionId::generate(), SIZE).await, "disk_read_only");
    refused(disk.destroy(made.region).await, "disk_read_only");
    refused(disk.snapshot(made.region, ids::SnapshotId::generate()).await, "disk_read_only");
    let found = disk.find(made.region).await.unwrap().unwrap();
    assert_eq!(fs::read(found.directory.join("region")).unwrap(), b"kept");
    bench.set_read_only(false);
    disk.destroy(made.region).await.unwrap();
    assert_eq!(disk.disk().await.health, Health::Healthy);
}

pub(crate) async fn a_disk_that_hangs_is_told_in_time(bench: Bench) {
    let limit = Duration::from_millis(700);
    let disk = bench.open_with_limit(limit);
    let kept = disk.create(RegionId::generate(), SIZE).await.unwrap();
    fs::write(kept.directory.join("region"), "kept").unwrap();
    bench.set_hanging(true);
    let region = RegionId::generate();
    // More than may be under way at once: nobody waits for ever, not even for a place.
    for _ in 0..20 {
        let words = refused(within(10 * limit, disk.create(region, SIZE)).await, "disk_hangs");
        assert!(words.contains("700 ms"), "{words}");
    }
    if bench.kind == Kind::Zfs {
        // A file system that is frozen is still read; a pool that hangs is not.
        let report = within(10 * limit, disk.disk()).await;
        assert_eq!(report.health, Health::Suspended, "{report:?}");
        refused(within(10 * limit, disk.list()).await, "disk_hangs");
    }
    bench.set_hanging(false);
    crate::bench::wait_for("the disk to answer again", async || match disk.create(region, SIZE).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
    .await;
    assert_eq!(disk.list().await.unwrap().datasets.len(), 2);
    assert_eq!(fs::read(kept.directory.join("region")).unwrap(), b"kept");
}
