//! Verification of what is stored: after a start without records, and on demand.

use crate::support::{Artifact, Bench, copies, put, wait_for, wanting};
use artifact_store::{ScrubCause, StoreListing};
use durable_fs::Storage;
use jiff::Timestamp;
use std::{num::NonZeroU64, time::Duration};

#[tokio::test]
async fn unrecorded_copies_are_unlisted_until_they_are_hashed() {
    let bench = Bench::with_disks(1);
    let (a, b) = (Artifact::new(1, 300_000), Artifact::new(2, 1000));
    let store = bench.open().await;
    store.put_config(wanting(1, [&a, &b])).await.unwrap();
    put(&store, &a).await.unwrap();
    put(&store, &b).await.unwrap();
    store.shutdown().await;
    bench.disks[0].remove("verified.log".into()).unwrap();
    bench.rot(0, &b);
    let store = bench.open().await;
    let listing =
        wait_for(&store, "verification", |listing| listing.unverified == 0 && listing.quarantined.len() == 1)
            .await;
    assert_eq!((copies(&listing, &a), copies(&listing, &b)), (1, 0));
    store.shutdown().await;
    let store = bench.open().await;
    assert_eq!(copies(&store.list().await, &a), 1, "what was hashed once has its record again");
}

#[tokio::test]
async fn a_scrub_finds_rot_and_repair_heals_it() {
    let bench = Bench::new();
    let artifacts: Vec<_> = (0..5).map(|seed| Artifact::new(seed, 100_000)).collect();
    let store = bench.open().await;
    store.put_config(wanting(1, &artifacts)).await.unwrap();
    for artifact in &artifacts {
        put(&store, artifact).await.unwrap();
    }
    let before = store.list().await;
    bench.rot(1, &artifacts[3]);
    let started = store.scrub();
    assert_eq!((started.running, started.bytes_total), (true, 1_000_000));
    let listing = wait_for(&store, "the scrub", |listing| !listing.scrub.running).await;
    assert_eq!(
        (listing.scrub.bytes_done, listing.scrub.bytes_total, listing.scrub.corrupt),
        (1_000_000, 1_000_000, 1)
    );
    assert!(listing.scrub.finished_at.is_some());
    let listing = wait_for(&store, "repair", |listing| copies(listing, &artifacts[3]) == 2).await;
    assert_eq!(listing.quarantined[0].dataset, "m2-1");
    assert!(listing.list[&artifacts[0].hash].verified_at >= before.list[&artifacts[0].hash].verified_at);
}

#[tokio::test]
async fn a_scrub_keeps_to_its_rate_and_a_shutdown_does_not_wait_for_it() {
    let mut bench = Bench::with_disks(1);
    bench.config.scrub_bytes_per_second = NonZeroU64::new(1);
    let a = Artifact::new(1, 100_000);
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    put(&store, &a).await.unwrap();
    assert!(store.scrub().running);
    wait_for(&store, "progress", |listing| listing.scrub.bytes_done == 100_000).await;
    assert!(store.scrub().running, "a day is not over yet; asking again starts nothing");
    let asked = std::time::Instant::now();
    store.shutdown().await;
    assert!(asked.elapsed().as_secs() < 5);
}

#[tokio::test]
async fn a_scrub_of_nothing_ends_at_once() {
    let bench = Bench::new();
    let store = bench.open().await;
    let report = store.scrub();
    assert!(!report.running && report.finished_at.is_some());
}

#[tokio::test]
async fn what_was_verified_long_ago_is_verified_again_and_rot_is_found_though_nobody_asked() {
    let mut bench = Bench::new();
    bench.config.scrub_after = Duration::from_secs(3600);
    let (old, new) = (Artifact::new(1, 100_000), Artifact::new(2, 50_000));
    let store = bench.open().await;
    store.put_config(wanting(1, [&old, &new])).await.unwrap();
    put(&store, &old).await.unwrap();
    let arrived = wait_for(&store, "both copies", |listing| copies(listing, &old) == 2).await;
    assert_eq!(arrived.scrub.cause, None, "nothing is old yet");
    store.shutdown().await;
    bench.rot(1, &old);
    let age = Timestamp::now().duration_since(arrived.list[&old.hash].verified_at);
    bench.config.scrub_after = Duration::try_from(age).unwrap();
    let store = bench.open().await;
    // So small an age is reached again at once: scrub follows scrub, and what stays of the first is what it found.
    let listing = wait_for(&store, "the rot", |listing| listing.quarantined.len() == 1).await;
    assert_eq!(listing.scrub.cause, Some(ScrubCause::Age));
    wait_for(&store, "repair", |listing| copies(listing, &old) == 2 && listing.quarantined.len() == 1).await;
    let verified_at = arrived.list[&old.hash].verified_at;
    wait_for(&store, "new records", |listing| listing.list[&old.hash].verified_at > verified_at).await;
}

#[tokio::test]
async fn a_quarantine_that_a_person_empties_is_noticed() {
    let mut bench = Bench::with_disks(1);
    bench.config.datasets[0].quota_bytes = Some(150_000);
    let a = Artifact::new(1, 100_000);
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    put(&store, &a).await.unwrap();
    bench.rot(0, &a);
    assert!(store.scrub().running);
    // Listed as soon as it is known to be bad, and moved a moment later.
    let moved =
        |listing: &StoreListing| listing.quarantined.len() == 1 && bench.names(0, "quarantine").len() == 1;
    let listing = wait_for(&store, "the rot to be set aside", moved).await;
    assert_eq!(listing.datasets[0].used, 100_000, "it takes room there");
    for name in bench.names(0, "quarantine") {
        bench.disks[0].remove(format!("quarantine/{name}").as_str().into()).unwrap();
    }
    let listing = wait_for(&store, "the emptied quarantine", |listing| listing.quarantined.is_empty()).await;
    assert_eq!(listing.datasets[0].used, 0);
}

#[tokio::test]
async fn a_scrub_of_everything_takes_the_place_of_one_of_old_copies() {
    let mut bench = Bench::with_disks(1);
    bench.config.scrub_after = Duration::ZERO;
    bench.config.scrub_bytes_per_second = NonZeroU64::new(1);
    let artifacts = [Artifact::new(1, 1000), Artifact::new(2, 1000)];
    let store = bench.open().await;
    store.put_config(wanting(1, &artifacts)).await.unwrap();
    put(&store, &artifacts[0]).await.unwrap();
    wait_for(&store, "the scrub of the old copy", |listing| {
        listing.scrub.cause == Some(ScrubCause::Age) && listing.scrub.bytes_done == 1000
    })
    .await;
    put(&store, &artifacts[1]).await.unwrap();
    let asked = store.scrub();
    assert_eq!((asked.cause, asked.bytes_total), (Some(ScrubCause::Asked), 2000));
    let stopping = std::time::Instant::now();
    store.shutdown().await;
    assert!(stopping.elapsed().as_secs() < 5);
}
