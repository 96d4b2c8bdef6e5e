//! Datasets that fail, vanish and return.

use crate::support::{Artifact, Bench, copies, put, read, wait_for, wanting};
use artifact_store::DatasetHealth;
use durable_fs::Storage;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_failing_disk_is_unlisted_and_counts_again_after_healing() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1000);
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    put(&store, &a).await.unwrap();
    assert_eq!(copies(&store.list().await, &a), 2);
    bench.faults[1].fail();
    let listing = wait_for(&store, "the failure", |listing| copies(listing, &a) == 1).await;
    assert_eq!(listing.datasets[1].health, DatasetHealth::Failed);
    assert!(listing.datasets[1].reason.is_some());
    bench.faults[1].heal();
    let listing = wait_for(&store, "healing", |listing| copies(listing, &a) == 2).await;
    assert_eq!((listing.datasets[1].health, &listing.datasets[1].reason), (DatasetHealth::Healthy, &None));
    assert_eq!(listing.unverified, 0, "its records still fit");
}

#[tokio::test]
async fn a_swapped_disk_is_filled_from_the_other_one() {
    let bench = Bench::new();
    let artifacts: Vec<_> = (0..20).map(|seed| Artifact::new(seed, 1000 + usize::from(seed))).collect();
    let store = bench.open().await;
    store.put_config(wanting(1, &artifacts)).await.unwrap();
    for artifact in &artifacts {
        put(&store, artifact).await.unwrap();
    }
    bench.disks[0].unplug();
    wait_for(&store, "the loss", |listing| listing.datasets[0].health == DatasetHealth::Missing).await;
    for directory in ["artifacts", "trash", "quarantine"] {
        bench.disks[0].plug_in();
        for name in bench.names(0, directory) {
            bench.disks[0].remove(format!("{directory}/{name}").as_str().into()).unwrap();
        }
        bench.disks[0].unplug();
    }
    bench.disks[0].plug_in();
    wait_for(&store, "repair", |listing| artifacts.iter().all(|artifact| copies(listing, artifact) == 2))
        .await;
    for artifact in &artifacts {
        assert_eq!(bench.raw(0, &artifact.path()).unwrap(), artifact.bytes);
    }
}

#[tokio::test]
async fn repair_does_not_copy_rot() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1000);
    bench.disks[1].unplug();
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    put(&store, &a).await.unwrap();
    bench.rot(0, &a);
    bench.disks[1].plug_in();
    let listing = wait_for(&store, "quarantine", |_| bench.names(0, "quarantine").len() == 1).await;
    assert_eq!(copies(&listing, &a), 0);
    assert!(bench.raw(1, &a.path()).is_none());
}

#[tokio::test]
async fn a_disk_that_hangs_does_not_hold_up_the_start() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1000);
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    put(&store, &a).await.unwrap();
    store.shutdown().await;
    bench.faults[0].slow(Duration::from_secs(3600));
    let started = Instant::now();
    let store = bench.open().await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let listing = store.list().await;
    assert_eq!((copies(&listing, &a), listing.datasets[0].health), (1, DatasetHealth::Slow));
    store.put_config(wanting(2, [&a])).await.unwrap();
    bench.faults[0].heal();
    wait_for(&store, "the late disk", |listing| copies(listing, &a) == 2).await;
}

#[tokio::test]
async fn what_a_crashed_write_left_is_removed_when_its_disk_appears() {
    let bench = Bench::new();
    let store = bench.open().await;
    store.put_config(wanting(1, [])).await.unwrap();
    store.shutdown().await;
    bench.disks[1].create_new("tmp/left".into()).unwrap().write_all(b"torn").unwrap();
    bench.disks[1].create_new("config.json.new".into()).unwrap();
    bench.disks[1].unplug();
    let store = bench.open().await;
    bench.disks[1].plug_in();
    wait_for(&store, "the disk", |listing| listing.datasets[1].health == DatasetHealth::Healthy).await;
    assert!(bench.names(1, "tmp").is_empty());
    assert!(!bench.names(1, "").contains(&"config.json.new".to_owned()));
}

#[tokio::test]
async fn a_store_without_disks_finds_them_when_they_appear() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1000);
    bench.disks.iter().for_each(durable_fs::SimDisk::unplug);
    let store = bench.open().await;
    assert!(store.put_config(wanting(1, [&a])).await.is_err());
    bench.disks.iter().for_each(durable_fs::SimDisk::plug_in);
    wait_for(&store, "the disks", |listing| {
        listing.datasets.iter().all(|dataset| dataset.health == DatasetHealth::Healthy)
    })
    .await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    assert_eq!(put(&store, &a).await.unwrap().successful_writes, 2);
}

/// The health of a dataset, and the revisions before and after `change` showed in it.
async fn health_after(
    store: &artifact_store::ArtifactStore,
    expected: DatasetHealth,
    change: impl FnOnce(),
) -> artifact_store::DatasetReport {
    let before = store.list().await;
    let mut health = store.health_revision();
    let told = *health.borrow_and_update();
    change();
    let after = wait_for(store, "the health", |listing| listing.datasets[1].health == expected).await;
    let woken = tokio::time::timeout(Duration::from_secs(10), health.wait_for(|number| *number > told)).await;
    woken.expect("somebody is woken").unwrap();
    assert!(*store.revision().borrow() > before.revision);
    let report = after.datasets[1].clone();
    assert!(report.since >= before.datasets[1].since && report.since.is_some());
    report
}

#[tokio::test]
async fn every_change_of_health_is_told_with_its_reason_and_since_when() {
    let mut bench = Bench::new();
    bench.config.slow_writer_limit = Duration::from_millis(50);
    let a = Artifact::new(1, 1000);
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    put(&store, &a).await.unwrap();
    let well = |report: artifact_store::DatasetReport| assert_eq!(report.reason, None);
    let ill = |report: artifact_store::DatasetReport| assert!(report.reason.is_some(), "{report:?}");

    // Nobody writes or reads: the listing's own look at the disks finds these.
    ill(health_after(&store, DatasetHealth::Failed, || bench.faults[1].fail()).await);
    well(health_after(&store, DatasetHealth::Healthy, || bench.faults[1].heal()).await);
    ill(health_after(&store, DatasetHealth::ReadOnly, || bench.faults[1].read_only()).await);
    assert_eq!(copies(&store.list().await, &a), 2, "what is read-only can be read");
    well(health_after(&store, DatasetHealth::Healthy, || bench.faults[1].heal()).await);
    ill(health_after(&store, DatasetHealth::Missing, || bench.disks[1].unplug()).await);
    well(health_after(&store, DatasetHealth::Healthy, || bench.disks[1].plug_in()).await);
    // A look that hangs is overdue after a while.
    ill(health_after(&store, DatasetHealth::Slow, || bench.faults[1].slow(Duration::from_secs(3600))).await);
    well(health_after(&store, DatasetHealth::Healthy, || bench.faults[1].heal()).await);
}

#[tokio::test]
async fn a_disk_that_was_read_only_at_the_start_is_read_and_takes_writes_once_it_can() {
    let bench = Bench::new();
    let (a, b) = (Artifact::new(1, 1000), Artifact::new(2, 1000));
    let store = bench.open().await;
    store.put_config(wanting(1, [&a, &b])).await.unwrap();
    put(&store, &a).await.unwrap();
    store.shutdown().await;
    bench.disks[1].create_new("tmp/left".into()).unwrap();
    bench.faults[1].read_only();
    let store = bench.open().await;
    let listing = store.list().await;
    assert_eq!((listing.datasets[1].health, copies(&listing, &a)), (DatasetHealth::ReadOnly, 2));
    assert_eq!(put(&store, &b).await.unwrap().successful_writes, 1);
    bench.faults[1].heal();
    wait_for(&store, "repair", |listing| copies(listing, &b) == 2).await;
}

#[tokio::test]
async fn a_process_without_descriptors_blames_no_disk_and_no_copy() {
    let bench = Bench::new();
    let (a, b) = (Artifact::new(1, 1000), Artifact::new(2, 1000));
    let store = bench.open().await;
    store.put_config(wanting(1, [&a, &b])).await.unwrap();
    put(&store, &a).await.unwrap();
    bench.faults.iter().for_each(durable_fs::DiskFaults::out_of_files);
    assert!(read(&store, a.hash).await.is_err());
    assert!(put(&store, &b).await.is_err());
    let _ = store.scrub();
    wait_for(&store, "the scrub", |listing| !listing.scrub.running).await;
    let _ = tokio::time::timeout(Duration::from_millis(300), store.put_config(wanting(2, [&a, &b]))).await;
    let listing = store.list().await;
    assert!(listing.quarantined.is_empty(), "{listing:#?}");
    assert_eq!(copies(&listing, &a), 2);
    assert!(listing.datasets.iter().all(|dataset| dataset.health == DatasetHealth::Healthy), "{listing:#?}");
    bench.faults.iter().for_each(durable_fs::DiskFaults::heal);
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
    let generation = store.config().unwrap().generation.0;
    store.put_config(wanting(generation + 1, [&a, &b])).await.unwrap();
    assert_eq!(put(&store, &b).await.unwrap().successful_writes, 2);
}

#[tokio::test]
async fn a_start_without_descriptors_opens_the_disks_later() {
    let bench = Bench::new();
    bench.faults.iter().for_each(durable_fs::DiskFaults::out_of_files);
    let store = bench.open().await;
    let listing = store.list().await;
    assert!(listing.datasets.iter().all(|dataset| dataset.health == DatasetHealth::Slow), "{listing:#?}");
    bench.faults.iter().for_each(durable_fs::DiskFaults::heal);
    wait_for(&store, "the disks", |listing| {
        listing.datasets.iter().all(|dataset| dataset.health == DatasetHealth::Healthy)
    })
    .await;
}
