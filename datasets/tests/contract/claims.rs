//! What holds on a disk that works.

use crate::bench::{Bench, Kind, MIB, SIZE, refused};
use datasets::{Health, QUOTA_BYTES_MAX, Quotas, Size};
use ids::{RegionId, SnapshotId};
use std::{fs, process};

pub(crate) async fn a_dataset_is_made_once_found_and_listed(bench: Bench) {
    let disk = bench.open();
    let region = RegionId::generate();
    assert_eq!(disk.find(region).await.unwrap(), None);
    let made = disk.create(region, SIZE).await.unwrap();
    assert_eq!((made.region, made.size, made.mounted), (region, SIZE, true));
    assert!(made.directory.starts_with(bench.root()), "{}", made.directory);
    fs::write(made.directory.join("region"), vec![7; 3 << 20]).unwrap();
    fs::File::open(made.directory.join("region")).unwrap().sync_all().unwrap();

    let again = bench.open().create(region, SIZE).await.unwrap();
    assert_eq!(again.directory, made.directory);
    assert_eq!(fs::read(again.directory.join("region")).unwrap(), vec![7; 3 << 20]);

    let other = disk.create(RegionId::generate(), SIZE).await.unwrap();
    // What was written is counted at the next transaction of a pool.
    crate::bench::wait_for("what was written to be counted", async || {
        let listing = disk.list().await.unwrap();
        let regions: Vec<_> = listing.datasets.iter().map(|dataset| dataset.region).collect();
        assert_eq!(regions, [region, other.region]);
        assert_eq!(listing.strangers, []);
        let [first, second] = listing.datasets.as_slice() else { unreachable!() };
        assert_eq!(disk.find(region).await.unwrap().unwrap().used_bytes, first.used_bytes);
        let counted = first.used_bytes >= 3 * MIB && first.available_bytes <= 46 * MIB;
        if counted && second.used_bytes < MIB { Ok(()) } else { Err(format!("{listing:?}")) }
    })
    .await;
}

pub(crate) async fn each_region_is_at_one_place_below_the_disks_directory(bench: Bench) {
    let disk = bench.open();
    let root = disk.directory().await.unwrap();
    assert_eq!((&root, disk.disk().await.directory.as_ref()), (&bench.root(), Some(&root)));
    let region = RegionId::generate();
    let made = disk.create(region, SIZE).await.unwrap();
    assert_eq!(made.directory, root.join(region.to_string()).join("data"));
    assert_eq!(made.directory, root.join(datasets::region_files(region)));
    assert_eq!(disk.list().await.unwrap().datasets[0].directory, made.directory);
}

pub(crate) async fn sizes_that_are_none_are_refused(bench: Bench) {
    let disk = bench.open();
    let region = RegionId::generate();
    for (quota_bytes, reservation_bytes) in
        [(0, 0), (MIB - 1, 0), (MIB, MIB + 1), (QUOTA_BYTES_MAX + 1, 0), (u64::MAX, u64::MAX)]
    {
        let size = Size { quota_bytes, reservation_bytes };
        let words = refused(disk.create(region, size).await, "bad_size");
        assert!(words.contains(&quota_bytes.to_string()), "{words}");
    }
    assert_eq!(disk.list().await.unwrap().datasets, []);
    disk.create(region, Size { quota_bytes: MIB, reservation_bytes: 0 }).await.unwrap();
    let largest = Size { quota_bytes: QUOTA_BYTES_MAX, reservation_bytes: 0 };
    assert_eq!(disk.create(RegionId::generate(), largest).await.unwrap().size, largest);
}

pub(crate) async fn another_size_is_refused_and_changes_nothing(bench: Bench) {
    let disk = bench.open();
    let region = RegionId::generate();
    disk.create(region, SIZE).await.unwrap();
    for size in [
        Size { quota_bytes: SIZE.quota_bytes + 1, ..SIZE },
        Size { reservation_bytes: SIZE.reservation_bytes - 1, ..SIZE },
        Size { reservation_bytes: 0, ..SIZE },
    ] {
        let words = refused(disk.create(region, size).await, "size_differs");
        assert!(words.contains(&SIZE.quota_bytes.to_string()), "{words}");
        assert!(words.contains(&size.reservation_bytes.to_string()), "{words}");
    }
    assert_eq!(disk.find(region).await.unwrap().unwrap().size, SIZE);
}

pub(crate) async fn what_is_reserved_is_no_more_than_there_is(bench: Bench) {
    let disk = bench.open();
    let before = disk.disk().await.space.unwrap();
    let too_much = Size { quota_bytes: 1 << 60, reservation_bytes: before.reservable_bytes + (8 << 30) };
    let words = refused(disk.create(RegionId::generate(), too_much).await, "no_space");
    assert!(words.contains(&too_much.reservation_bytes.to_string()), "{words}");
    assert_eq!(disk.list().await.unwrap().datasets, []);
    if bench.kind == Kind::Temporary {
        // Others write there, too: the rest needs figures that only we change.
        return;
    }
    // Some less than what may be: what it takes to keep a dataset's books is not known to the byte.
    let most = Size { quota_bytes: 1 << 40, reservation_bytes: before.reservable_bytes - 4 * MIB };
    let region = RegionId::generate();
    disk.create(region, most).await.unwrap();
    let after = disk.disk().await.space.unwrap();
    assert_eq!(after.reserved_bytes, most.reservation_bytes);
    assert!(after.reservable_bytes <= 4 * MIB, "{after:?}");
    assert!(after.available_bytes > before.available_bytes - 4 * MIB, "{before:?} {after:?}");
    let words = refused(disk.create(RegionId::generate(), SIZE).await, "no_space");
    assert!(words.contains(&most.reservation_bytes.to_string()), "{words}");
    // What is there already needs no room.
    disk.create(region, most).await.unwrap();
    disk.destroy(region).await.unwrap();
    crate::bench::wait_for("the reservation to be free again", async || {
        match disk.create(RegionId::generate(), SIZE).await {
            Ok(_) => Ok(()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await;
}

pub(crate) async fn a_destroyed_dataset_is_gone_with_all_that_was_in_it(bench: Bench) {
    let disk = bench.open();
    let (region, other) = (RegionId::generate(), RegionId::generate());
    disk.destroy(region).await.unwrap();
    let made = disk.create(region, SIZE).await.unwrap();
    let kept = disk.create(other, SIZE).await.unwrap();
    fs::create_dir(made.directory.join("more")).unwrap();
    fs::write(made.directory.join("more/region"), "bytes").unwrap();
    fs::write(kept.directory.join("region"), "kept").unwrap();
    disk.destroy(region).await.unwrap();
    disk.destroy(region).await.unwrap();
    assert!(!made.directory.exists());
    assert_eq!(disk.find(region).await.unwrap(), None);
    assert_eq!(fs::read(kept.directory.join("region")).unwrap(), b"kept");
    // The same name begins anew, with any size.
    let anew = disk.create(region, Size { quota_bytes: 2 * MIB, reservation_bytes: 0 }).await.unwrap();
    assert_eq!(fs::read_dir(anew.directory).unwrap().count(), 0);
}

pub(crate) async fn a_dataset_in_use_stays_and_says_who_uses_it(bench: Bench) {
    let disk = bench.open();
    let region = RegionId::generate();
    let made = disk.create(region, SIZE).await.unwrap();
    let path = made.directory.join("region");
    fs::write(&path, "bytes").unwrap();
    let file = fs::File::open(&path).unwrap();
    let words = refused(disk.destroy(region).await, "dataset_busy");
    assert!(words.contains(&format!("({})", process::id())), "{words}");
    assert_eq!(fs::read(&path).unwrap(), b"bytes");
    drop(file);
    disk.destroy(region).await.unwrap();
    assert!(!path.exists());
}

pub(crate) async fn a_snapshot_keeps_what_was_there_or_is_refused(bench: Bench) {
    let disk = bench.open();
    let (region, snapshot) = (RegionId::generate(), SnapshotId::generate());
    refused(disk.snapshot(region, snapshot).await, "dataset_not_found");
    refused(disk.snapshots(region).await, "dataset_not_found");
    let made = disk.create(region, SIZE).await.unwrap();
    let path = made.directory.join("region");
    fs::write(&path, vec![1; 2 << 20]).unwrap();
    if disk.disk().await.snapshots == Some(false) {
        assert!(!bench.kind.has_reflinks());
        refused(disk.snapshot(region, snapshot).await, "snapshots_unsupported");
        assert_eq!(disk.snapshots(region).await.unwrap(), []);
        refused(disk.open_snapshot(region, snapshot).await, "snapshot_not_found");
        disk.destroy(region).await.unwrap();
        return;
    }
    disk.snapshot(region, snapshot).await.unwrap();
    fs::write(&path, vec![2; 1 << 20]).unwrap();
    // The same one again is the old one.
    disk.snapshot(region, snapshot).await.unwrap();
    let second = SnapshotId::generate();
    disk.snapshot(region, second).await.unwrap();
    let listed: Vec<_> = disk.snapshots(region).await.unwrap().into_iter().map(|found| found.id).collect();
    assert_eq!(listed, [snapshot, second]);
    fs::write(&path, "3").unwrap();

    refused(disk.open_snapshot(region, SnapshotId::generate()).await, "snapshot_not_found");
    let directory = disk.open_snapshot(region, snapshot).await.unwrap();
    assert_eq!(fs::read(directory.join("region")).unwrap(), vec![1; 2 << 20]);
    let other = disk.open_snapshot(region, second).await.unwrap();
    assert_eq!(fs::read(other.join("region")).unwrap(), vec![2; 1 << 20]);
    assert_eq!(fs::read(&path).unwrap(), b"3");
    let words = refused(disk.destroy(region).await, "has_snapshots");
    assert!(words.contains(&snapshot.to_string()) && words.contains("1 more"), "{words}");
    for id in [snapshot, second] {
        disk.close_snapshot(region, id).await.unwrap();
        disk.close_snapshot(region, id).await.unwrap();
        disk.destroy_snapshot(region, id).await.unwrap();
        disk.destroy_snapshot(region, id).await.unwrap();
    }
    assert_eq!(disk.snapshots(region).await.unwrap(), []);
    assert_eq!(fs::read(&path).unwrap(), b"3");
    disk.destroy(region).await.unwrap();
    disk.destroy_snapshot(region, snapshot).await.unwrap();
    disk.close_snapshot(region, snapshot).await.unwrap();
    assert_eq!(disk.list().await.unwrap().datasets, []);
}

pub(crate) async fn an_open_snapshot_stays_and_says_where(bench: Bench) {
    let disk = bench.open();
    let (region, snapshot) = (RegionId::generate(), SnapshotId::generate());
    let made = disk.create(region, SIZE).await.unwrap();
    fs::write(made.directory.join("region"), "kept").unwrap();
    if disk.disk().await.snapshots == Some(false) {
        refused(disk.snapshot(region, snapshot).await, "snapshots_unsupported");
        return;
    }
    disk.snapshot(region, snapshot).await.unwrap();
    let directory = disk.open_snapshot(region, snapshot).await.unwrap();
    // Somebody else finds it open, and opens it at the same place.
    assert_eq!(bench.open().open_snapshot(region, snapshot).await.unwrap(), directory);
    assert_eq!(bench.open().snapshots(region).await.unwrap()[0].opened.as_ref(), Some(&directory));
    let words = refused(disk.destroy_snapshot(region, snapshot).await, "snapshot_busy");
    assert!(words.contains(directory.as_str()), "{words}");

    let file = fs::File::open(directory.join("region")).unwrap();
    let words = refused(disk.destroy_snapshot(region, snapshot).await, "snapshot_busy");
    assert!(words.contains(&format!("({})", process::id())), "{words}");
    let words = refused(disk.close_snapshot(region, snapshot).await, "snapshot_busy");
    assert!(words.contains(&format!("({})", process::id())), "{words}");
    assert_eq!(fs::read(directory.join("region")).unwrap(), b"kept");
    drop(file);
    disk.close_snapshot(region, snapshot).await.unwrap();
    assert_eq!(disk.snapshots(region).await.unwrap()[0].opened, None);
    disk.destroy_snapshot(region, snapshot).await.unwrap();
}

pub(crate) async fn what_is_none_of_ours_is_told_and_never_touched(bench: Bench) {
    let disk = bench.open();
    let (region, taken) = (RegionId::generate(), RegionId::generate());
    disk.create(region, SIZE).await.unwrap();
    let upper = RegionId::generate().to_string().to_uppercase();
    let names = ["notes".to_owned(), upper, taken.to_string()];
    for name in &names {
        match bench.kind {
            Kind::Zfs => crate::bench::command(&["zfs", "create", &format!("tank/bobsled/{name}")]),
            _ => fs::create_dir(bench.root().join(name)).unwrap(),
        }
        fs::write(bench.root().join(name).join("theirs"), name).unwrap();
    }
    let listing = disk.list().await.unwrap();
    assert_eq!(listing.datasets.len(), 1);
    let mut told: Vec<_> = listing.strangers.iter().map(|it| it.name.rsplit('/').next().unwrap()).collect();
    told.sort_unstable();
    let mut expected: Vec<_> = names.iter().map(String::as_str).collect();
    expected.sort_unstable();
    assert_eq!(told, expected);
    let words = refused(disk.create(taken, SIZE).await, "stranger");
    assert!(words.contains(&taken.to_string()), "{words}");
    refused(disk.find(taken).await, "stranger");
    refused(disk.destroy(taken).await, "stranger");
    for name in &names {
        assert_eq!(fs::read_to_string(bench.root().join(name).join("theirs")).unwrap(), *name);
    }
    assert!(disk.find(region).await.unwrap().is_some());
    disk.destroy(region).await.unwrap();
}

pub(crate) async fn two_creators_at_once_make_one_dataset(bench: Bench) {
    for _ in 0..4 {
        let region = RegionId::generate();
        // Of the same size: both have made it.
        let (one, two) = (bench.open(), bench.open());
        let (first, second) = tokio::join!(one.create(region, SIZE), two.create(region, SIZE));
        assert_eq!(first.unwrap().directory, second.unwrap().directory);
        // Of different sizes: one has, and the other is told.
        let region = RegionId::generate();
        let other = Size { quota_bytes: 32 * MIB, reservation_bytes: 0 };
        let (first, second) = tokio::join!(one.create(region, SIZE), two.create(region, other));
        let winner = match (first, second) {
            (Ok(_), Err(error)) => (SIZE, error),
            (Err(error), Ok(_)) => (other, error),
            both => panic!("one of them: {both:?}"),
        };
        assert_eq!(winner.1.code(), "size_differs", "{}", winner.1);
        assert_eq!(one.find(region).await.unwrap().unwrap().size, winner.0);
        for dataset in one.list().await.unwrap().datasets {
            let (first, second) = tokio::join!(one.destroy(dataset.region), two.destroy(dataset.region));
            first.unwrap();
            second.unwrap();
        }
        assert_eq!(one.list().await.unwrap().datasets, []);
    }
}

pub(crate) async fn the_inventory_says_what_the_disk_is(bench: Bench) {
    let disk = bench.open();
    let report = disk.disk().await;
    assert_eq!(report.health, Health::Healthy, "{report:?}");
    assert_eq!(report.detail, None);
    let space = report.space.unwrap();
    assert!(space.used_bytes + space.available_bytes == space.capacity_bytes, "{space:?}");
    assert!(space.reservable_bytes < space.available_bytes, "{space:?}");
    assert_eq!(space.reserved_bytes, 0);
    let named = serde_json::to_value(&report).unwrap();
    match bench.kind {
        Kind::Temporary => return,
        Kind::Ext4 => assert_eq!(named["file_system"], "ext4"),
        Kind::Xfs => assert_eq!(named["file_system"], "xfs"),
        Kind::Btrfs => assert_eq!(named["file_system"], "btrfs"),
        Kind::Zfs => assert_eq!(named["file_system"], "zfs"),
    }
    assert_eq!(report.reflinks, Some(bench.kind.has_reflinks()));
    assert_eq!(report.snapshots, Some(bench.kind.has_reflinks() || bench.kind == Kind::Zfs));
    let quotas = if bench.kind == Kind::Zfs { Quotas::Enforced } else { Quotas::Booked };
    assert_eq!(report.quotas, quotas);
    assert!((200 * MIB..=320 * MIB).contains(&space.capacity_bytes), "{space:?}");
    disk.create(RegionId::generate(), SIZE).await.unwrap();
    assert_eq!(disk.disk().await.space.unwrap().reserved_bytes, SIZE.reservation_bytes);
}
