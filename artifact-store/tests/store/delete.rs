//! What is not wanted leaves, by way of the trash, and nothing else does.

use crate::support::{Artifact, Bench, copies, put, read, wait_for, wanting};
use artifact_store::{DatasetHealth, ErrorClass, StoreError, StoreStep};
use durable_fs::Storage;
use ids::Generation;
use std::time::Duration;

#[tokio::test]
async fn delete_is_refused_unless_the_config_of_that_generation_does_not_want_it() {
    let bench = Bench::new();
    let (a, b) = (Artifact::new(1, 1000), Artifact::new(2, 1000));
    let store = bench.open().await;
    assert_eq!(store.delete(a.hash, Generation(1)).await.unwrap_err().class(), ErrorClass::NoConfig);
    store.put_config(wanting(1, [&a])).await.unwrap();
    put(&store, &a).await.unwrap();
    let wanted = store.delete(a.hash, Generation(1)).await.unwrap_err();
    assert!(matches!(wanted, StoreError::ArtifactWanted { generation: Generation(1), .. }));
    let stale = store.delete(b.hash, Generation(2)).await.unwrap_err();
    assert_eq!(stale.class(), ErrorClass::ConfigGeneration);
    store.delete(b.hash, Generation(1)).await.unwrap();
    assert_eq!(copies(&store.list().await, &a), 2);
    store.put_config(wanting(2, [])).await.unwrap();
    store.delete(a.hash, Generation(2)).await.unwrap();
    store.delete(a.hash, Generation(2)).await.unwrap();
    for disk in 0..2 {
        assert!(bench.raw(disk, &a.path()).is_none());
    }
}

#[tokio::test]
async fn what_a_new_config_does_not_want_goes_to_the_trash_by_itself() {
    let bench = Bench::new();
    let (a, b) = (Artifact::new(1, 1000), Artifact::new(2, 500));
    let store = bench.open().await;
    store.put_config(wanting(1, [&a, &b])).await.unwrap();
    put(&store, &a).await.unwrap();
    put(&store, &b).await.unwrap();
    store.put_config(wanting(2, [&b])).await.unwrap();
    let listing =
        wait_for(&store, "the trash", |listing| (listing.trash_bytes, listing.orphan_bytes) == (2000, 0))
            .await;
    assert_eq!((copies(&listing, &a), copies(&listing, &b)), (0, 2));
    assert_eq!((bench.names(0, "trash").len(), bench.names(0, "artifacts").len()), (1, 1));
}

#[tokio::test]
async fn what_was_orphaned_while_the_store_was_down_goes_too() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1000);
    let store = bench.open().await;
    store.put_config(wanting(1, [])).await.unwrap();
    wait_for(&store, "both ledgers", |_| bench.raw(1, "config.json") == bench.raw(0, "config.json")).await;
    store.shutdown().await;
    bench.disks[0].create_new(a.path().as_str().into()).unwrap().write_all(&a.bytes).unwrap();
    let store = bench.open().await;
    wait_for(&store, "the trash", |listing| (listing.trash_bytes, listing.orphan_bytes) == (1000, 0)).await;
}

#[tokio::test]
async fn what_is_wanted_again_comes_back_verified_without_a_write() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1000);
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    put(&store, &a).await.unwrap();
    let verified_at = store.list().await.list[&a.hash].verified_at;
    store.put_config(wanting(2, [])).await.unwrap();
    wait_for(&store, "the trash", |listing| listing.trash_bytes == 2000).await;
    store.put_config(wanting(3, [&a])).await.unwrap();
    let listing = wait_for(&store, "its return", |listing| copies(listing, &a) == 2).await;
    assert_eq!(listing.list[&a.hash].verified_at, verified_at, "the old verification still holds");
    assert_eq!(listing.trash_bytes, 0);
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
}

#[tokio::test]
async fn what_returns_from_the_trash_without_a_record_that_fits_is_hashed_first() {
    let bench = Bench::with_disks(1);
    let (a, b) = (Artifact::new(1, 1000), Artifact::new(2, 1000));
    let store = bench.open().await;
    store.put_config(wanting(1, [&a, &b])).await.unwrap();
    put(&store, &a).await.unwrap();
    put(&store, &b).await.unwrap();
    store.put_config(wanting(2, [])).await.unwrap();
    wait_for(&store, "the trash", |listing| listing.trash_bytes == 2000).await;
    for name in bench.names(0, "trash") {
        // The time of change moves; the bytes of one of them too.
        let more: &[u8] = if name.starts_with(&a.hash.to_string()) { b"" } else { b"x" };
        let path = format!("trash/{name}");
        bench.disks[0].open_append(path.as_str().into()).unwrap().write_all(more).unwrap();
    }
    store.put_config(wanting(3, [&a, &b])).await.unwrap();
    let listing = wait_for(&store, "verification", |listing| {
        copies(listing, &a) == 1 && listing.quarantined.len() == 1
    })
    .await;
    assert_eq!(copies(&listing, &b), 0);
    assert_eq!(listing.quarantined[0].hash, b.hash);
}

#[tokio::test]
async fn the_trash_is_purged_after_its_grace() {
    let mut bench = Bench::new();
    bench.config.trash_grace = Duration::from_millis(50);
    let a = Artifact::new(1, 1000);
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    put(&store, &a).await.unwrap();
    store.put_config(wanting(2, [])).await.unwrap();
    wait_for(&store, "the purge", |listing| {
        listing.trash_bytes == 0 && bench.names(0, "trash").is_empty() && bench.names(1, "trash").is_empty()
    })
    .await;
    assert!(bench.raw(0, &a.path()).is_none());
}

#[tokio::test]
async fn the_trash_is_purged_at_once_when_its_room_is_needed_and_never_what_is_wanted() {
    let mut bench = Bench::with_disks(1);
    bench.config.datasets[0].quota_bytes = Some(2_500_000);
    let (a, b, c) = (Artifact::new(1, 1_000_000), Artifact::new(2, 1_000_000), Artifact::new(3, 1_000_000));
    let store = bench.open().await;
    store.put_config(wanting(1, [&a, &b])).await.unwrap();
    put(&store, &a).await.unwrap();
    put(&store, &b).await.unwrap();
    store.put_config(wanting(2, [&b, &c])).await.unwrap();
    wait_for(&store, "the trash", |listing| listing.trash_bytes == 1_000_000).await;
    put(&store, &c).await.unwrap();
    let listing = store.list().await;
    assert_eq!((copies(&listing, &b), copies(&listing, &c), listing.trash_bytes), (1, 1, 0));
    store.put_config(wanting(3, [&a, &b, &c])).await.unwrap();
    assert_eq!(put(&store, &a).await.unwrap_err().class(), ErrorClass::NoSpace);
    let listing = store.list().await;
    assert_eq!((copies(&listing, &b), copies(&listing, &c)), (1, 1));
    assert_eq!(listing.datasets[0].health, DatasetHealth::Full);
}

#[tokio::test(flavor = "multi_thread")]
async fn wanting_and_not_wanting_in_turn_never_lists_what_is_not_there() {
    let bench = Bench::new();
    let a = Artifact::new(1, 10_000);
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    put(&store, &a).await.unwrap();
    for round in 1..40 {
        store.put_config(wanting(2 * round, [])).await.unwrap();
        if round % 3 == 0 {
            // Races with the keeper's own reconciliation.
            let _ = store.delete(a.hash, Generation(2 * round)).await;
        }
        store.put_config(wanting(2 * round + 1, [&a])).await.unwrap();
        if copies(&store.list().await, &a) > 0 {
            assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes, "round {round}");
        }
    }
    wait_for(&store, "its return", |listing| copies(listing, &a) == 2).await;
    let store = bench.crash(store, 5).await;
    wait_for(&store, "its return", |listing| copies(listing, &a) == 2).await;
}

/// Two artifacts in the order in which the store goes through them.
fn in_order() -> (Artifact, Artifact) {
    let (a, b) = (Artifact::new(1, 1000), Artifact::new(2, 1000));
    if a.hash < b.hash { (a, b) } else { (b, a) }
}

#[tokio::test]
async fn a_deletion_that_was_planned_spares_what_a_newer_config_wants() {
    let mut bench = Bench::with_disks(1);
    let mut held = bench.hold_at(StoreStep::TrashMoved.point());
    let (first, second) = in_order();
    let store = bench.open().await;
    store.put_config(wanting(1, [&first, &second])).await.unwrap();
    put(&store, &first).await.unwrap();
    put(&store, &second).await.unwrap();
    store.put_config(wanting(2, [])).await.unwrap();
    held.arrival().await;
    store.put_config(wanting(3, [&second])).await.unwrap();
    assert_eq!(copies(&store.list().await, &second), 1);
    held.let_go();
    let listing =
        wait_for(&store, "the trash", |listing| (listing.trash_bytes, listing.orphan_bytes) == (1000, 0))
            .await;
    assert_eq!(copies(&listing, &second), 1);
    let moved =
        bench.machine.steps_reached().into_iter().filter(|step| *step == StoreStep::TrashMoved.point());
    assert_eq!(moved.count(), 1, "what is wanted was not even moved for a moment");
}

#[tokio::test]
async fn a_purge_that_was_planned_spares_what_a_newer_config_wants() {
    let mut bench = Bench::with_disks(1);
    let store = bench.open().await;
    let (first, second) = in_order();
    store.put_config(wanting(1, [&first, &second])).await.unwrap();
    put(&store, &first).await.unwrap();
    put(&store, &second).await.unwrap();
    store.put_config(wanting(2, [])).await.unwrap();
    wait_for(&store, "the trash", |listing| listing.trash_bytes == 2000).await;
    store.shutdown().await;
    bench.config.trash_grace = Duration::ZERO;
    let mut held = bench.hold_at(StoreStep::Purged.point());
    let store = bench.open().await;
    held.arrival().await;
    store.put_config(wanting(3, [&first, &second])).await.unwrap();
    held.let_go();
    let listing = wait_for(&store, "its return", |listing| {
        listing.list.len() == 1 && listing.trash_bytes == 0 && listing.orphan_bytes == 0
    })
    .await;
    let purged = bench.machine.steps_reached().into_iter().filter(|step| *step == StoreStep::Purged.point());
    assert_eq!((purged.count(), listing.list.len()), (1, 1));
}

#[tokio::test]
async fn what_is_wanted_again_while_it_is_being_moved_comes_back() {
    let mut bench = Bench::with_disks(1);
    let mut held = bench.hold_at(StoreStep::TrashMoved.point());
    let a = Artifact::new(1, 1000);
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    put(&store, &a).await.unwrap();
    store.put_config(wanting(2, [])).await.unwrap();
    held.arrival().await;
    store.put_config(wanting(3, [&a])).await.unwrap();
    assert_eq!(copies(&store.list().await, &a), 0, "nobody is told that it is there");
    held.let_go();
    wait_for(&store, "its return", |listing| copies(listing, &a) == 1).await;
}
