//! What only ZFS has: quotas and reservations that it keeps itself, mounts that are not there, pools and their daemon.

use crate::{
    bench::{Bench, MIB, SIZE, command, refused},
    faults::fill,
};
use datasets::{Health, Pool, Size};
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
/// refuses others writes that it has reserved room for: that is why the crate's page says to reserve what the quota is, or to see to it otherwise.)
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
    let of_region = made.directory.parent().unwrap();
    for directory in [bench.mountpoint(), bench.root(), of_region.to_owned()] {
        assert!(mounts.contains(&format!(" {directory} ")), "{directory} is not in\n{mounts}");
    }
    command(&["zfs", "unmount", &format!("tank/bobsled/{region}")]);
    let (first, second) = (bench.open(), bench.open());
    let (first, second) = tokio::join!(first.create(region, SIZE), second.create(region, SIZE));
    assert!(first.unwrap().mounted && second.unwrap().mounted);
    assert_eq!(fs::read(made.directory.join("region")).unwrap(), b"kept");
}

/// ZFS calls it mounted, and what is there is empty: whoever looks for a region's snapshots there must not find that it has none.
pub(crate) async fn a_dataset_that_something_hides_is_not_taken_for_an_empty_one(bench: Bench) {
    let disk = bench.open();
    let (region, snapshot) = (RegionId::generate(), SnapshotId::generate());
    let made = disk.create(region, SIZE).await.unwrap();
    fs::write(made.directory.join("region"), "kept").unwrap();
    disk.snapshot(region, snapshot).await.unwrap();
    let mountpoint = made.directory.parent().unwrap();
    command(&["mount", "-t", "tmpfs", "none", mountpoint.as_str()]);
    let words = refused(disk.find(region).await, "not_mounted");
    let (dataset, findmnt) = (format!("tank/bobsled/{region}"), format!("findmnt {mountpoint}"));
    assert!(words.contains(&dataset) && words.contains(&findmnt), "{words}");
    refused(disk.create(region, SIZE).await, "not_mounted");
    assert_eq!(fs::read_dir(mountpoint).unwrap().count(), 0, "something was made there");
    // Others are not kept from theirs.
    assert!(disk.create(RegionId::generate(), SIZE).await.unwrap().mounted);
    command(&["umount", mountpoint.as_str()]);
    assert_eq!(disk.find(region).await.unwrap().unwrap().directory, made.directory);
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
            (Err(error), Health::Faulted | Health::Suspended)
                if matches!(error.code(), "disk_faulted" | "disk_hangs") =>
            {
                Ok(())
            }
            seen => Err(format!("{seen:?}")),
        }
    })
    .await;
}

/// A directory that is made where the root is to be mounted would keep it from ever being mounted.
pub(crate) async fn nothing_is_mounted_below_a_root_that_is_not(bench: Bench) {
    let disk = bench.open();
    let region = RegionId::generate();
    disk.create(region, SIZE).await.unwrap();
    command(&["zfs", "set", "canmount=noauto", "tank/bobsled"]);
    for name in [format!("tank/bobsled/{region}").as_str(), "tank/bobsled"] {
        command(&["zfs", "unmount", name]);
    }
    let other = RegionId::generate();
    refused(disk.find(region).await, "not_mounted");
    refused(disk.create(region, SIZE).await, "not_mounted");
    refused(disk.create(other, SIZE).await, "not_mounted");
    refused(disk.mount(Duration::from_secs(60)).await, "not_mounted");
    assert_eq!(fs::read_dir(bench.root()).unwrap().count(), 0, "something was made there");
    command(&["zfs", "mount", "tank/bobsled"]);
    assert!(disk.find(region).await.unwrap().unwrap().mounted);
    assert_eq!(disk.find(other).await.unwrap(), None, "it was refused before anything was made");
    assert!(disk.create(other, SIZE).await.unwrap().directory.exists());
}

/// What it is asked for is not there, and neither is the pool's own dataset: though zfs-fuse calls it ONLINE.
pub(crate) async fn a_pool_that_has_stopped_is_suspended_until_it_is_cleared(bench: Bench) {
    // What was begun before it was seen waits for the pool.
    let disk = bench.open_with_limit(Duration::from_secs(3));
    let region = RegionId::generate();
    let made = disk.create(region, SIZE).await.unwrap();
    let file = made.directory.join("region");
    fs::write(&file, "kept").and_then(|()| fs::File::open(&file)?.sync_all()).unwrap();
    bench.fail();
    crate::bench::wait_for("the pool to notice", async || {
        match disk.create(RegionId::generate(), SIZE).await {
            Err(error) if error.code() == "disk_faulted" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let report = disk.disk().await;
    assert_eq!(report.health, Health::Suspended, "{report:?}");
    assert_eq!(report.pool.unwrap().state, "SUSPENDED");
    let words = report.detail.unwrap();
    assert!(words.contains("SUSPENDED") && words.contains("`zpool clear`"), "{words}");
    for words in
        [refused(disk.find(region).await, "disk_faulted"), refused(disk.list().await, "disk_faulted")]
    {
        assert!(words.contains("tank/bobsled"), "{words}");
    }
    bench.mend();
    command(&["zpool", "clear", "tank"]);
    let disk = bench.open();
    let found = disk.find(region).await.unwrap().unwrap();
    assert_eq!(fs::read(found.directory.join("region")).unwrap(), b"kept");
    assert_eq!(disk.disk().await.health, Health::Healthy);
    disk.create(RegionId::generate(), SIZE).await.unwrap();
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
    let of_region = made.directory.parent().unwrap();
    for directory in [of_region, &bench.root(), &bench.mountpoint()] {
        command(&["umount", "--lazy", directory.as_str()]);
    }
    bench.start_daemon().await;
    let found = disk.find(made.region).await.unwrap().unwrap();
    assert_eq!(fs::read(found.directory.join("region")).unwrap(), b"kept");
    let elsewhere = bench.zfs("tank/nothing", crate::bench::LIMIT);
    let words = refused(datasets::Datasets::list(&elsewhere).await, "disk_missing");
    assert!(words.contains("tank/nothing"), "{words}");
}

pub(crate) async fn each_way_in_which_the_root_is_not_there_has_words_of_its_own(bench: Bench) {
    let disk = bench.open();
    let region = RegionId::generate();
    let made = disk.create(region, SIZE).await.unwrap();
    fs::write(made.directory.join("region"), "kept").unwrap();
    let told = async |code: &str, words: &[&str]| {
        let refusal = refused(disk.directory().await, code);
        let report = disk.disk().await;
        assert_eq!((report.health, report.directory), (Health::Missing, None), "{refusal}");
        let detail = report.detail.unwrap();
        assert!(
            words.iter().all(|word| refusal.contains(word) && detail.contains(word)),
            "{refusal}; {detail}"
        );
    };
    assert_eq!(disk.directory().await.unwrap(), bench.root());

    let dataset = format!("tank/bobsled/{region}");
    for name in [&dataset, "tank/bobsled"] {
        command(&["zfs", "unmount", name]);
    }
    told("not_mounted", &["tank/bobsled is not mounted", "`zfs mount tank/bobsled`"]).await;
    // Looking has changed nothing.
    told("not_mounted", &["canmount=on"]).await;
    command(&["zfs", "mount", "tank/bobsled"]);
    assert_eq!(disk.directory().await.unwrap(), bench.root());

    for nowhere in ["legacy", "none"] {
        command(&["zfs", "set", &format!("mountpoint={nowhere}"), "tank/bobsled"]);
        told("no_mountpoint", &[&format!("{nowhere:?}"), "`zfs set mountpoint="]).await;
    }
    command(&["zfs", "inherit", "mountpoint", "tank/bobsled"]);
    command(&["zfs", "mount", "-a"]);
    assert_eq!(disk.directory().await.unwrap(), bench.root());

    // Where the programs are.
    command(&["mount", "-t", "tmpfs", "none", "/usr/sbin"]);
    told("zfs_missing", &["there is no program z", "install ZFS"]).await;
    command(&["umount", "/usr/sbin"]);

    let nothing = bench.zfs("tank/nothing", crate::bench::LIMIT);
    let words = refused(datasets::Datasets::directory(&nothing).await, "disk_missing");
    assert!(words.contains("dataset does not exist"), "{words}");
    let elsewhere = bench.zfs("pond/bobsled", crate::bench::LIMIT);
    let words = refused(datasets::Datasets::directory(&elsewhere).await, "disk_missing");
    assert!(words.contains("no such pool"), "{words}");
    let found = disk.find(region).await.unwrap().unwrap();
    assert_eq!(fs::read(found.directory.join("region")).unwrap(), b"kept");
}

pub(crate) async fn the_pool_and_what_its_owner_has_set_are_told(bench: Bench) {
    let disk = bench.open();
    let before = disk.disk().await;
    let pool = |quota_bytes, reservation_bytes| {
        Some(Pool { name: "tank".to_owned(), state: "ONLINE".to_owned(), quota_bytes, reservation_bytes })
    };
    assert_eq!((before.pool, before.directory), (pool(None, None), Some(bench.root())));
    command(&["zfs", "set", "quota=64m", "tank/bobsled"]);
    command(&["zfs", "set", "reservation=32m", "tank/bobsled"]);
    let after = disk.disk().await;
    assert_eq!(after.pool, pool(Some(64 * MIB), Some(32 * MIB)));
    let space = after.space.unwrap();
    assert_eq!(space.capacity_bytes, 64 * MIB);
    assert!(space.used_bytes < MIB && space.reservable_bytes < 64 * MIB, "{space:?}");
    let words = refused(
        disk.create(RegionId::generate(), Size { quota_bytes: 80 * MIB, reservation_bytes: 80 * MIB }).await,
        "no_space",
    );
    assert!(words.contains(&(64 * MIB).to_string()), "{words}");
}

pub(crate) async fn a_region_that_is_not_mounted_has_no_place_for_files(bench: Bench) {
    let disk = bench.open();
    let region = RegionId::generate();
    let made = disk.create(region, SIZE).await.unwrap();
    assert!(
        datasets::is_mounted(&format!("tank/bobsled/{region}"), made.directory.parent().unwrap()).unwrap()
    );
    command(&["zfs", "unmount", &format!("tank/bobsled/{region}")]);
    assert!(
        !datasets::is_mounted(&format!("tank/bobsled/{region}"), made.directory.parent().unwrap()).unwrap()
    );
    let error = fs::File::create(made.directory.join("region")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
    assert_eq!(disk.find(region).await.unwrap().unwrap().directory, made.directory);
}
