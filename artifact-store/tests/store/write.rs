//! PUT: what is refused, who gets a copy, what is left of a write that did not end.

use crate::support::{Artifact, Bench, copies, hash_of, put, read, wait_for, wanting};
use artifact_store::{
    ArtifactStore, DatasetHealth, ErrorClass, FailureCause, StoreError, StoreListing, StoreStep,
};
use bytes::Bytes;
use durable_fs::{PublishStep, Storage};
use ids::Generation;
use std::time::{Duration, Instant};

async fn ready(bench: &Bench, artifacts: &[&Artifact]) -> ArtifactStore {
    let store = bench.open().await;
    store.put_config(wanting(1, artifacts.iter().copied())).await.unwrap();
    store
}

#[tokio::test]
async fn a_copy_is_on_every_disk_listed_and_read_only() {
    let bench = Bench::new();
    let a = Artifact::new(1, 700_000);
    let store = ready(&bench, &[&a]).await;
    let mut revision = store.revision();
    revision.borrow_and_update();
    let report = put(&store, &a).await.unwrap();
    assert_eq!((report.datasets, report.successful_writes, report.size), (2, 2, 700_000));
    assert!(report.failures.is_empty());
    assert!(revision.has_changed().unwrap());
    let listing = store.list().await;
    assert_eq!((copies(&listing, &a), listing.list[&a.hash].size), (2, 700_000));
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
    for disk in 0..2 {
        assert_eq!(bench.raw(disk, &a.path()).unwrap(), a.bytes);
        assert!(bench.disks[disk].metadata(a.path().as_str().into()).unwrap().read_only);
        assert!(bench.names(disk, "tmp").is_empty());
    }
}

#[tokio::test]
async fn a_start_lists_what_was_verified_without_reading_it() {
    let bench = Bench::new();
    let (a, b) = (Artifact::new(1, 70_000), Artifact::new(2, 0));
    let store = ready(&bench, &[&a, &b]).await;
    put(&store, &a).await.unwrap();
    put(&store, &b).await.unwrap();
    store.shutdown().await;
    bench.rot(0, &a);
    let store = bench.open().await;
    let listing = store.list().await;
    assert_eq!((copies(&listing, &a), copies(&listing, &b), listing.unverified), (2, 2, 0));
    assert_eq!(read(&store, b.hash).await.unwrap(), b"", "an artifact may be empty");
}

#[tokio::test]
async fn refusals_come_before_any_byte() {
    let bench = Bench::new();
    let (a, b) = (Artifact::new(1, 10), Artifact::new(2, 10));
    let store = bench.open().await;
    let refused = store.writer(a.hash, Generation(1), None).await.unwrap_err();
    assert_eq!(refused.class(), ErrorClass::NoConfig);
    store.put_config(wanting(3, [&a])).await.unwrap();
    for generation in [2, 4] {
        let refused = store.writer(a.hash, Generation(generation), None).await.unwrap_err();
        assert!(matches!(refused, StoreError::ConfigGeneration { current: Generation(3), .. }));
    }
    let refused = store.writer(b.hash, Generation(3), None).await.unwrap_err();
    assert_eq!(refused.class(), ErrorClass::NotInConfig);
    let too_large = store.writer(a.hash, Generation(3), Some(1 << 40)).await.unwrap_err();
    assert!(matches!(too_large, StoreError::NoSpace { needed, .. } if needed == 1 << 40), "{too_large}");
    assert!(bench.names(0, "tmp").is_empty());
    store.shutdown().await;
    let refused = store.writer(a.hash, Generation(3), None).await.unwrap_err();
    assert!(matches!(refused, StoreError::ShuttingDown));
}

#[tokio::test]
async fn wrong_bytes_and_wrong_lengths_publish_nothing_and_keep_no_space() {
    let bench = Bench::new();
    let a = Artifact::new(1, 600_000);
    let store = ready(&bench, &[&a]).await;
    let wrong = Bytes::from(vec![0; 600_000]);

    let mut writer = store.writer(a.hash, Generation(1), Some(600_000)).await.unwrap();
    writer.write(wrong.clone()).await.unwrap();
    assert_eq!(writer.bytes_written(), 600_000);
    let error = writer.finish().await.unwrap_err();
    assert!(matches!(error, StoreError::DigestMismatch { actual, .. } if actual == hash_of(&wrong)));
    assert!(bench.names(0, "tmp").is_empty() && bench.names(1, "tmp").is_empty());

    let mut writer = store.writer(a.hash, Generation(1), Some(700_000)).await.unwrap();
    writer.write(a.bytes.clone()).await.unwrap();
    let error = writer.finish().await.unwrap_err();
    assert!(matches!(error, StoreError::LengthMismatch { expected: 700_000, actual: 600_000 }));

    let mut writer = store.writer(a.hash, Generation(1), Some(599_999)).await.unwrap();
    let error = writer.write(a.bytes.clone()).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::LengthMismatch);
    drop(writer);

    assert!(store.list().await.list.is_empty());
    assert!(bench.names(0, "artifacts").is_empty() && bench.names(1, "artifacts").is_empty());
}

#[tokio::test]
async fn a_dropped_writer_leaves_nothing() {
    let bench = Bench::new();
    let a = Artifact::new(1, 600_000);
    let store = ready(&bench, &[&a]).await;
    let mut writer = store.writer(a.hash, Generation(1), Some(600_000)).await.unwrap();
    writer.write(a.bytes.slice(..500_000)).await.unwrap();
    drop(writer);
    store.shutdown().await;
    for disk in 0..2 {
        assert!(bench.names(disk, "tmp").is_empty() && bench.names(disk, "artifacts").is_empty());
    }
}

#[tokio::test]
async fn what_a_dropped_writer_cannot_remove_is_removed_later() {
    let bench = Bench::new();
    let a = Artifact::new(1, 500_000);
    let store = ready(&bench, &[&a]).await;
    let mut writer = store.writer(a.hash, Generation(1), None).await.unwrap();
    writer.write(a.bytes.clone()).await.unwrap();
    wait_for(&store, "a temporary file", |_| bench.names(0, "tmp").len() == 1).await;
    bench.faults[0].fail_next_removal();
    drop(writer);
    wait_for(&store, "its removal", |_| bench.names(0, "tmp").is_empty()).await;
    let listing =
        wait_for(&store, "the disk", |listing| listing.datasets[0].health == DatasetHealth::Healthy).await;
    assert_eq!(listing.datasets[1].health, DatasetHealth::Healthy);
}

#[tokio::test]
async fn what_is_left_on_a_disk_that_became_read_only_is_removed_once_it_takes_writes_and_its_copies_stay_listed()
 {
    let bench = Bench::new();
    let (a, b) = (Artifact::new(1, 500_000), Artifact::new(2, 10));
    let store = ready(&bench, &[&a, &b]).await;
    put(&store, &b).await.unwrap();
    let mut writer = store.writer(a.hash, Generation(1), None).await.unwrap();
    writer.write(a.bytes.clone()).await.unwrap();
    wait_for(&store, "a temporary file", |_| bench.names(0, "tmp").len() == 1).await;
    bench.faults[0].read_only();
    drop(writer);
    let is_read_only = |listing: &StoreListing| listing.datasets[0].health == DatasetHealth::ReadOnly;
    let listing = wait_for(&store, "the disk to be known as read-only", is_read_only).await;
    assert_eq!((copies(&listing, &b), bench.names(0, "tmp").len()), (2, 1));
    bench.faults[0].heal();
    let is_well = |listing: &StoreListing| listing.datasets[0].health == DatasetHealth::Healthy;
    wait_for(&store, "the disk to take writes", is_well).await;
    wait_for(&store, "the removal", |_| bench.names(0, "tmp").is_empty()).await;
}

#[tokio::test]
async fn a_missing_disk_is_left_out_and_named_and_repaired_when_it_returns() {
    let bench = Bench::new();
    let a = Artifact::new(1, 600_000);
    bench.disks[1].unplug();
    let store = ready(&bench, &[&a]).await;
    let report = put(&store, &a).await.unwrap();
    assert_eq!((report.datasets, report.successful_writes), (2, 1));
    assert_eq!(report.failures[0].dataset, "m2-1");
    assert!(matches!(report.failures[0].cause, FailureCause::NotInUse { .. }));
    assert_eq!(copies(&store.list().await, &a), 1);
    bench.disks[1].plug_in();
    wait_for(&store, "local repair", |listing| copies(listing, &a) == 2).await;
    assert_eq!(bench.raw(1, &a.path()).unwrap(), a.bytes);
}

#[tokio::test]
async fn a_disk_that_fails_in_the_middle_does_not_keep_the_other_from_its_copy() {
    let bench = Bench::new();
    let a = Artifact::new(1, 3_000_000);
    let store = ready(&bench, &[&a]).await;
    let mut writer = store.writer(a.hash, Generation(1), Some(3_000_000)).await.unwrap();
    writer.write(a.bytes.slice(..1_000_000)).await.unwrap();
    bench.faults[0].fail();
    writer.write(a.bytes.slice(1_000_000..)).await.unwrap();
    let report = writer.finish().await.unwrap();
    assert_eq!((report.datasets, report.successful_writes), (2, 1));
    assert_eq!(report.failures[0].dataset, "m2-0");
    let listing = store.list().await;
    assert_eq!((copies(&listing, &a), listing.datasets[0].health), (1, DatasetHealth::Failed));
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
    bench.faults[0].heal();
    wait_for(&store, "local repair", |listing| copies(listing, &a) == 2).await;
    assert!(bench.names(0, "tmp").is_empty());
}

#[tokio::test]
async fn a_disk_that_fills_up_in_the_middle_does_not_keep_the_other_from_its_copy() {
    let bench = Bench::new();
    let a = Artifact::new(1, 3_000_000);
    let store = ready(&bench, &[&a]).await;
    let mut writer = store.writer(a.hash, Generation(1), None).await.unwrap();
    writer.write(a.bytes.slice(..1_000_000)).await.unwrap();
    bench.faults[1].full();
    writer.write(a.bytes.slice(1_000_000..)).await.unwrap();
    let report = writer.finish().await.unwrap();
    assert_eq!(report.successful_writes, 1);
    assert!(matches!(report.failures[0].cause, FailureCause::NoSpace { .. }), "{}", report.failures[0]);
    assert_eq!(store.list().await.datasets[1].health, DatasetHealth::Full);
    bench.faults[1].heal();
    wait_for(&store, "local repair", |listing| copies(listing, &a) == 2).await;
}

#[tokio::test]
async fn a_full_disk_is_left_out_from_the_start() {
    let bench = Bench::new();
    let a = Artifact::new(1, 100_000);
    let store = ready(&bench, &[&a]).await;
    bench.faults[0].full();
    let report = put(&store, &a).await.unwrap();
    assert_eq!(report.successful_writes, 1);
    assert_eq!(store.list().await.datasets[0].health, DatasetHealth::Full);
    assert!(bench.names(0, "tmp").is_empty());
}

#[tokio::test]
async fn a_small_artifact_that_fits_does_not_hide_that_a_large_one_did_not() {
    let mut bench = Bench::with_disks(1);
    bench.config.datasets[0].quota_bytes = Some(1_000_000);
    let (large, small) = (Artifact::new(1, 2_000_000), Artifact::new(2, 10_000));
    let store = bench.open().await;
    store.put_config(wanting(1, [&large, &small])).await.unwrap();
    assert_eq!(put(&store, &large).await.unwrap_err().class(), ErrorClass::NoSpace);
    put(&store, &small).await.unwrap();
    assert_eq!(store.list().await.datasets[0].health, DatasetHealth::Full);
    store.put_config(wanting(2, [&small])).await.unwrap();
    wait_for(&store, "nothing to be missing", |listing| listing.datasets[0].health == DatasetHealth::Healthy)
        .await;
}

#[tokio::test]
async fn both_full_is_no_space_before_and_in_the_middle() {
    let bench = Bench::new();
    let a = Artifact::new(1, 3_000_000);
    let store = ready(&bench, &[&a]).await;
    let mut writer = store.writer(a.hash, Generation(1), None).await.unwrap();
    writer.write(a.bytes.slice(..1_000_000)).await.unwrap();
    for faults in &bench.faults {
        faults.full();
    }
    let mut result = Ok(());
    for chunk in a.bytes.slice(1_000_000..).chunks(100_000) {
        result = writer.write(a.bytes.slice_ref(chunk)).await;
        if result.is_err() {
            break;
        }
    }
    let error = match result {
        Err(error) => error,
        Ok(()) => writer.finish().await.unwrap_err(),
    };
    assert_eq!(error.class(), ErrorClass::NoSpace, "{error}");
    let error = put(&store, &a).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::NoSpace, "{error}");
    for faults in &bench.faults {
        faults.heal();
    }
    wait_for(&store, "room again", |listing| {
        listing.datasets.iter().all(|dataset| dataset.health == DatasetHealth::Healthy)
    })
    .await;
    assert_eq!(put(&store, &a).await.unwrap().successful_writes, 2);
}

#[tokio::test]
async fn no_usable_disk_is_told_with_the_reason_of_each() {
    let bench = Bench::new();
    let a = Artifact::new(1, 10);
    let store = ready(&bench, &[&a]).await;
    bench.faults[0].fail();
    bench.disks[1].unplug();
    let error = put(&store, &a).await.unwrap_err();
    let StoreError::NoHealthyDataset { failures } = &error else { panic!("{error}") };
    assert_eq!(failures.len(), 2);
    let text = error.to_string();
    assert!(text.contains("m2-0") && text.contains("m2-1"), "{text}");
    let healths: Vec<_> = store.list().await.datasets.iter().map(|dataset| dataset.health).collect();
    assert_eq!(healths, [DatasetHealth::Failed, DatasetHealth::Missing]);
}

#[tokio::test]
async fn a_slow_disk_is_left_out_instead_of_holding_up_the_other() {
    let mut bench = Bench::new();
    bench.config.slow_writer_limit = Duration::from_millis(200);
    let a = Artifact::new(1, 4_000_000);
    let store = ready(&bench, &[&a]).await;
    let mut writer = store.writer(a.hash, Generation(1), Some(4_000_000)).await.unwrap();
    bench.faults[1].slow(Duration::from_secs(3600));
    let started = Instant::now();
    for chunk in a.bytes.chunks(100_000) {
        writer.write(a.bytes.slice_ref(chunk)).await.unwrap();
    }
    let report = writer.finish().await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(report.successful_writes, 1);
    assert!(matches!(report.failures[0].cause, FailureCause::TooSlow { .. }), "{}", report.failures[0]);
    assert_eq!(store.list().await.datasets[1].health, DatasetHealth::Slow);
    bench.faults[1].heal();
    wait_for(&store, "local repair", |listing| copies(listing, &a) == 2).await;
    store.shutdown().await;
    assert!(bench.names(1, "tmp").is_empty());
}

#[tokio::test]
async fn a_disk_that_crawls_overdraws_its_account() {
    let mut bench = Bench::new();
    bench.config.slow_writer_limit = Duration::from_millis(200);
    let a = Artifact::new(1, 24_000_000);
    let store = ready(&bench, &[&a]).await;
    // Never once longer than the limit, but 90 pieces of 100 ms each would cost the other disk nine seconds.
    bench.faults[0].slow(Duration::from_millis(100));
    let started = Instant::now();
    let report = put(&store, &a).await.unwrap();
    assert!(started.elapsed() < Duration::from_secs(6), "{:?}", started.elapsed());
    assert_eq!((report.successful_writes, report.failures.len()), (1, 1));
    assert!(matches!(report.failures[0].cause, FailureCause::TooSlow { .. }), "{}", report.failures[0]);
    bench.faults[0].heal();
    wait_for(&store, "local repair", |listing| copies(listing, &a) == 2).await;
}

#[tokio::test]
async fn disks_that_all_hang_end_the_write_with_an_error() {
    let mut bench = Bench::new();
    bench.config.slow_writer_limit = Duration::from_millis(50);
    let a = Artifact::new(1, 4_000_000);
    let store = ready(&bench, &[&a]).await;
    let mut writer = store.writer(a.hash, Generation(1), Some(4_000_000)).await.unwrap();
    for faults in &bench.faults {
        faults.slow(Duration::from_secs(3600));
    }
    let mut result = Ok(());
    for chunk in a.bytes.chunks(100_000) {
        result = writer.write(a.bytes.slice_ref(chunk)).await;
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result.unwrap_err().class(), ErrorClass::NoHealthyDataset);
    for faults in &bench.faults {
        faults.heal();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_writes_of_one_artifact_at_once_both_succeed() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1_000_000);
    let store = ready(&bench, &[&a]).await;
    let writes = (0..4).map(|_| {
        let (store, a) = (store.clone(), a.clone());
        tokio::spawn(async move { put(&store, &a).await })
    });
    for write in writes.collect::<Vec<_>>() {
        assert_eq!(write.await.unwrap().unwrap().successful_writes, 2);
    }
    assert_eq!(copies(&store.list().await, &a), 2);
    let store = bench.crash(store, 3).await;
    assert_eq!(copies(&wait_for(&store, "verification", |l| l.unverified == 0).await, &a), 2);
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
}

#[tokio::test]
async fn writing_again_heals_a_rotten_copy() {
    let bench = Bench::with_disks(1);
    let a = Artifact::new(1, 100_000);
    let store = ready(&bench, &[&a]).await;
    put(&store, &a).await.unwrap();
    bench.rot(0, &a);
    put(&store, &a).await.unwrap();
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
}

#[tokio::test]
async fn a_write_that_the_config_stops_wanting_is_discarded_at_the_last_moment() {
    let bench = Bench::new();
    let a = Artifact::new(1, 100_000);
    let store = ready(&bench, &[&a]).await;
    let mut writer = store.writer(a.hash, Generation(1), None).await.unwrap();
    writer.write(a.bytes.clone()).await.unwrap();
    store.put_config(wanting(2, [])).await.unwrap();
    let error = writer.finish().await.unwrap_err();
    assert!(matches!(error, StoreError::NotInConfig { generation: Generation(2), .. }), "{error}");
    for disk in 0..2 {
        assert!(bench.names(disk, "artifacts").is_empty() && bench.names(disk, "trash").is_empty());
    }
}

#[tokio::test]
async fn a_write_goes_on_under_a_newer_config_that_still_wants_it() {
    let bench = Bench::new();
    let (a, b) = (Artifact::new(1, 100_000), Artifact::new(2, 10));
    let store = ready(&bench, &[&a]).await;
    let mut writer = store.writer(a.hash, Generation(1), None).await.unwrap();
    writer.write(a.bytes.clone()).await.unwrap();
    store.put_config(wanting(2, [&a, &b])).await.unwrap();
    assert_eq!(writer.finish().await.unwrap().successful_writes, 2);
}

#[tokio::test]
async fn promises_to_running_writes_count_against_the_quota() {
    let mut bench = Bench::new();
    for dataset in &mut bench.config.datasets {
        dataset.quota_bytes = Some(1_000_000);
    }
    let (a, b) = (Artifact::new(1, 600_000), Artifact::new(2, 600_000));
    let store = ready(&bench, &[&a, &b]).await;
    let running = store.writer(a.hash, Generation(1), Some(600_000)).await.unwrap();
    let error = store.writer(b.hash, Generation(1), Some(600_000)).await.unwrap_err();
    assert!(matches!(error, StoreError::NoSpace { needed: 600_000, available: 400_000 }), "{error}");
    drop(running);
    store.shutdown().await;
    let store = bench.open().await;
    put(&store, &b).await.unwrap();
    let listing = store.list().await;
    assert_eq!((listing.datasets[0].capacity, listing.datasets[0].used), (1_000_000, 600_000));
    // Of unknown length: found out at the quota, and nothing is kept.
    let mut writer = store.writer(a.hash, Generation(1), None).await.unwrap();
    let error = match writer.write(a.bytes.clone()).await {
        Err(error) => error,
        Ok(()) => writer.finish().await.unwrap_err(),
    };
    assert_eq!(error.class(), ErrorClass::NoSpace, "{error}");
    assert_eq!(bench.names(0, "artifacts"), [b.hash.to_string()]);
}

#[tokio::test]
async fn small_chunks_arrive_whole() {
    let bench = Bench::new();
    let a = Artifact::new(1, 900_001);
    let store = ready(&bench, &[&a]).await;
    let mut writer = store.writer(a.hash, Generation(1), None).await.unwrap();
    for chunk in a.bytes.chunks(97) {
        writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
    }
    writer.finish().await.unwrap();
    assert_eq!(bench.raw(0, &a.path()).unwrap(), a.bytes);
}

#[tokio::test]
async fn a_copy_that_is_published_while_a_bad_one_is_set_aside_waits_for_that_and_stays() {
    let mut bench = Bench::with_disks(1);
    let mut held = bench.hold_at(StoreStep::QuarantineMoved.point());
    let a = Artifact::new(1, 1000);
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    put(&store, &a).await.unwrap();
    bench.rot(0, &a);
    assert!(read(&store, a.hash).await.is_err());
    held.arrival().await;
    // The bad copy has its new name, its entry in the inventory is not changed yet, and the lock of its hash is held.
    let mut again = tokio::spawn({
        let (store, a) = (store.clone(), a.clone());
        async move { put(&store, &a).await }
    });
    // The PUT has written and synced its file, and can go no further.
    let sealed = PublishStep::Synced.of(artifact_store::ARTIFACT_PROCEDURE);
    let twice = || bench.machine.steps_reached().iter().filter(|step| **step == sealed).count() == 2;
    wait_for(&store, "the new copy to be sealed", |_| twice()).await;
    let ended = tokio::time::timeout(Duration::from_millis(200), &mut again).await;
    assert!(ended.is_err() && bench.raw(0, &a.path()).is_none(), "published past the lock");
    held.let_go();
    assert_eq!(again.await.unwrap().unwrap().successful_writes, 1);
    let listing = store.list().await;
    assert_eq!((copies(&listing, &a), listing.quarantined.len()), (1, 1));
    assert_eq!(bench.raw(0, &a.path()).unwrap(), a.bytes);
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
}
