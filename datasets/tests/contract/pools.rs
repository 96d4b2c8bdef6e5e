//! What only ZFS has: quotas and reservations that it keeps itself, mounts that are not there, pools and their daemon.

use crate::{
    bench::{Bench, MIB, SIZE, command, refused},
    faults::fill,
};
use datasets::{Health, Size};
use ids::{RegionId, SnapshotId};
use std::{
    fs,
    io::{self, Write},
    time::Duration,
};

pub(crate) async fn a_dataset_takes_no_more_than_its_quota(bench: Bench) {
    let disk = bench.open();
    let made = disk.create(RegionId::generate(), SIZE).await.unwrap();
    fs::write(made.directory.join("region"), vec![9; 1 << 20]).unwrap();
    let error = fill(&made.directory.join("filler"));
    assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded, "{error}");
    let full = disk.find(made.region).await.unwrap().unwrap();
    assert!(full.available_bytes < MIB && full.used_bytes <= SIZE.quota_bytes + MIB, "{full:?}");
    assert_eq!(fs::read(made.directory.join("region")).unwrap(), vec![9; 1 << 20]);
    // The disk is not full, and others may write.
    assert_eq!(disk.disk().await.health, Health::Healthy);
    let other = disk.create(RegionId::generate(), SIZE).await.unwrap();
    fs::write(other.directory.join("region"), vec![9; 1 << 20]).unwrap();
}

/// Where nobody may take more than is reserved for him, each gets it, to the last. (Where somebody may, and fills the pool, zfs-fuse
/// refuses others writes that it has reserved room for: that is why the crate's page says to reserve what the quota is.)
pub(crate) async fn all_get_what_is_reserved_if_nobody_may_take_more(bench: Bench) {
    let disk = bench.open();
    let size = Size { quota_bytes: 80 * MIB, reservation_bytes: 80 * MIB };
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(disk.create(RegionId::generate(), size).await.unwrap());
    }
    refused(disk.create(RegionId::generate(), size).await, "no_space");
    for dataset in made {
        let path = dataset.directory.join("region");
        let error = fill(&path);
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded, "{error}");
        let written = fs::metadata(&path).unwrap().len();
        assert!(written >= 78 * MIB, "{written}");
    }
}

pub(crate) async fn a_dataset_that_is_not_mounted_is_mounted_by_whoever_asks(bench: Bench) {
    let disk = bench.open();
    let region = RegionId::generate();
    let snapshot = SnapshotId::generate();
    let made = disk.create(region, SIZE).await.unwrap();
    fs::write(made.directory.join("region"), "kept").unwrap();
    disk.snapshot(region, snapshot).await.unwrap();
    let opened = disk.open_snapshot(region, snapshot).await.unwrap();
    for name in [format!("tank/bobsled/{region}"), format!("tank/bobsled/{region}.{snapshot}")] {
        command(&["zfs", "unmount", &name]);
    }
    assert!(!disk.list().await.unwrap().datasets[0].mounted);
    let found = disk.find(region).await.unwrap().unwrap();
    assert!(found.mounted && found.directory == made.directory);
    assert_eq!(fs::read(found.directory.join("region")).unwrap(), b"kept");
    assert_eq!(disk.open_snapshot(region, snapshot).await.unwrap(), opened);
    assert_eq!(fs::read(opened.join("region")).unwrap(), b"kept");
    // Nor is what it is in: mounted below that, it would leave a directory in the way for ever.
    disk.close_snapshot(region, snapshot).await.unwrap();
    for name in [format!("tank/bobsled/{region}").as_str(), "tank/bobsled", "tank"] {
        command(&["zfs", "unmount", name]);
    }
    assert!(disk.find(region).await.unwrap().unwrap().mounted);
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    for directory in [bench.mountpoint(), bench.root(), made.directory.clone()] {
        assert!(mounts.contains(&format!(" {directory} ")), "{directory} is not in\n{mounts}");
    }
    command(&["zfs", "unmount", &format!("tank/bobsled/{region}")]);
    let (first, second) = (bench.open(), bench.open());
    let (first, second) = tokio::join!(first.create(region, SIZE), second.create(region, SIZE));
    assert!(first.unwrap().mounted && second.unwrap().mounted);
    assert_eq!(fs::read(made.directory.join("region")).unwrap(), b"kept");
}

pub(crate) async fn a_foreign_snapshot_or_clone_keeps_what_it_depends_on(bench: Bench) {
    let disk = bench.open();
    let (region, snapshot) = (RegionId::generate(), SnapshotId::generate());
    disk.create(region, SIZE).await.unwrap();
    let name = format!("tank/bobsled/{region}");
    command(&["zfs", "snapshot", &format!("{name}@daily")]);
    let words = refused(disk.destroy(region).await, "stranger");
    assert!(words.contains("@daily"), "{words}");
    command(&["zfs", "destroy", &format!("{name}@daily")]);

    disk.snapshot(region, snapshot).await.unwrap();
    command(&["zfs", "clone", &format!("{name}@{snapshot}"), "tank/bobsled/theirs"]);
    let words = refused(disk.destroy_snapshot(region, snapshot).await, "snapshot_busy");
    assert!(words.contains("theirs"), "{words}");
    // Elsewhere in the pool it is not seen, but ZFS itself refuses, and its words are told.
    crate::bench::wait_for("the clone to be gone", async || destroyed("tank/bobsled/theirs")).await;
    command(&["zfs", "clone", &format!("{name}@{snapshot}"), "tank/elsewhere"]);
    let words = refused(disk.destroy_snapshot(region, snapshot).await, "command_failed");
    assert!(
        words.contains("zfs destroy") && words.contains("exit status") && words.contains("tank/elsewhere"),
        "{words}"
    );
    assert_eq!(disk.snapshots(region).await.unwrap().len(), 1);
    crate::bench::wait_for("the clone to be gone", async || destroyed("tank/elsewhere")).await;
    disk.destroy_snapshot(region, snapshot).await.unwrap();
    disk.destroy(region).await.unwrap();
}

/// ZFS calls it busy for a moment after it was unmounted.
fn destroyed(name: &str) -> Result<(), String> {
    let output = std::process::Command::new("zfs").args(["destroy", name]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() || said.contains("does not exist") { Ok(()) } else { Err(said) }
}

pub(crate) async fn a_pool_whose_disk_is_gone_is_told(bench: Bench) {
    let disk = bench.open_with_limit(Duration::from_secs(3));
    let region = RegionId::generate();
    let made = disk.create(region, SIZE).await.unwrap();
    fs::write(made.directory.join("region"), "kept").unwrap();
    // Exported and its file removed: no import brings it back.
    bench.take_away();
    let image = bench.image();
    let aside = image.with_extension("aside");
    fs::rename(&image, &aside).unwrap();
    let words = refused(disk.find(region).await, "disk_missing");
    assert!(words.contains("tank"), "{words}");
    assert_eq!(disk.disk().await.health, Health::Missing);
    fs::rename(&aside, &image).unwrap();
    bench.bring_back();
    assert!(disk.find(region).await.unwrap().is_some());
    // And one whose bytes are gone under it: whatever it does, it is told in time, and nothing counts as made.
    fs::File::options().write(true).open(&image).unwrap().set_len(0).unwrap();
    command(&["mount", "-o", "remount,size=4k", image.parent().unwrap().as_str()]);
    crate::bench::wait_for("the pool to notice", async || {
        let created = disk.create(RegionId::generate(), SIZE).await;
        let report = disk.disk().await;
        match (created, report.health) {
            (Err(_), Health::Faulted | Health::Suspended | Health::Missing | Health::Failed) => Ok(()),
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
}

pub(crate) async fn without_a_daemon_the_disk_is_missing_and_says_why(mut bench: Bench) {
    let disk = bench.open();
    let made = disk.create(RegionId::generate(), SIZE).await.unwrap();
    let mut file = fs::File::create(made.directory.join("region")).unwrap();
    file.write_all(b"kept").and_then(|()| file.sync_all()).unwrap();
    drop(file);
    bench.kill_daemon();
    let words = refused(disk.list().await, "disk_missing");
    assert!(words.contains("zfs-fuse daemon is running"), "{words}");
    assert_eq!(disk.disk().await.health, Health::Missing);
    // The dead daemon's mounts are in the way of the next one's.
    for directory in [made.directory.as_path(), &bench.root(), &bench.mountpoint()] {
        command(&["umount", "--lazy", directory.as_str()]);
    }
    bench.start_daemon().await;
    let found = disk.find(made.region).await.unwrap().unwrap();
    assert_eq!(fs::read(found.directory.join("region")).unwrap(), b"kept");
    let elsewhere = bench.zfs("tank/nothing", crate::bench::LIMIT);
    let words = refused(datasets::Datasets::list(&elsewhere).await, "disk_missing");
    assert!(words.contains("tank/nothing"), "{words}");
}
