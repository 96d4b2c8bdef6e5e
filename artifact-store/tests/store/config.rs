//! Which config is in force: what is accepted, what is refused, what a start finds.

use crate::support::{Artifact, Bench, copies, put, wait_for, wanting};
use artifact_store::{ArtifactStore, DatasetHealth, ErrorClass, StoreConfig, StoreError};
use durable_fs::Storage;
use ids::{ClusterId, Generation};

async fn refusal(store: &ArtifactStore, config: artifact_store::StoreArtifactsConfig) -> StoreError {
    store.put_config(config).await.unwrap_err()
}

#[tokio::test]
async fn generations_only_grow_and_mean_one_set_each() {
    let bench = Bench::new();
    let store = bench.open().await;
    let (a, b) = (Artifact::new(1, 10), Artifact::new(2, 10));
    assert_eq!(store.config(), None);
    assert_eq!(store.list().await.generation, Generation::NONE);
    store.put_config(wanting(5, [&a])).await.unwrap();
    let again = store.put_config(wanting(5, [&a])).await.unwrap();
    assert_eq!(*again, wanting(5, [&a]));

    let lower = refusal(&store, wanting(4, [&a])).await;
    assert!(matches!(
        lower,
        StoreError::ConfigGeneration { attempted: Generation(4), current: Generation(5) }
    ));
    let conflict = refusal(&store, wanting(5, [&a, &b])).await;
    assert!(matches!(conflict, StoreError::ConfigConflict { generation: Generation(5) }));
    assert_eq!(
        (lower.class(), conflict.class()),
        (ErrorClass::ConfigGeneration, ErrorClass::ConfigGeneration)
    );
    let mut foreign = wanting(6, [&a]);
    foreign.cluster_id = ClusterId(uuid::Uuid::from_u128(9));
    assert_eq!(refusal(&store, foreign).await.class(), ErrorClass::ClusterMismatch);

    assert_eq!(*store.config().unwrap(), wanting(5, [&a]), "refusals change nothing");
    store.put_config(wanting(6, [&b])).await.unwrap();
    let store = bench.crash(store, 1).await;
    assert_eq!(*store.config().unwrap(), wanting(6, [&b]));
}

#[tokio::test]
async fn without_any_dataset_the_store_answers_and_refuses() {
    let store = ArtifactStore::open(StoreConfig::new(Vec::new())).await;
    let a = Artifact::new(1, 10);
    assert_eq!(refusal(&store, wanting(1, [&a])).await.class(), ErrorClass::NoHealthyDataset);
    assert_eq!(put(&store, &a).await.unwrap_err().class(), ErrorClass::NoConfig);
    assert_eq!(store.open_artifact(a.hash).unwrap_err().class(), ErrorClass::ArtifactNotFound);
    assert!(store.list().await.datasets.is_empty());
}

#[tokio::test]
async fn a_config_is_accepted_by_one_disk_and_reaches_the_other_when_it_returns() {
    let bench = Bench::new();
    let a = Artifact::new(1, 10);
    bench.disks[0].unplug();
    let store = bench.open().await;
    assert_eq!(store.list().await.datasets[0].health, DatasetHealth::Missing);
    store.put_config(wanting(3, [&a])).await.unwrap();
    bench.disks[0].plug_in();
    wait_for(&store, "the ledger on the returned disk", |_| bench.raw(0, "config.json").is_some()).await;
    store.shutdown().await;
    bench.disks[1].unplug();
    let store = bench.open().await;
    assert_eq!(*store.config().unwrap(), wanting(3, [&a]));
}

#[tokio::test]
async fn the_newest_ledger_counts_and_the_stale_one_is_rewritten() {
    let bench = Bench::new();
    let (a, b) = (Artifact::new(1, 10), Artifact::new(2, 10));
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    wait_for(&store, "both ledgers", |_| bench.raw(1, "config.json") == bench.raw(0, "config.json")).await;
    bench.disks[1].unplug();
    store.put_config(wanting(2, [&a, &b])).await.unwrap();
    store.shutdown().await;
    bench.disks[1].plug_in();
    assert_ne!(bench.raw(0, "config.json"), bench.raw(1, "config.json"));
    let store = bench.open().await;
    assert_eq!(store.config().unwrap().generation, Generation(2));
    wait_for(&store, "both ledgers", |_| bench.raw(1, "config.json") == bench.raw(0, "config.json")).await;
}

#[tokio::test]
async fn a_disk_that_returns_with_a_newer_config_puts_it_in_force() {
    let bench = Bench::new();
    let (a, b) = (Artifact::new(1, 10), Artifact::new(2, 10));
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    wait_for(&store, "both ledgers", |_| bench.raw(1, "config.json") == bench.raw(0, "config.json")).await;
    bench.disks[1].unplug();
    store.put_config(wanting(2, [&a, &b])).await.unwrap();
    put(&store, &b).await.unwrap();
    store.shutdown().await;
    bench.disks[0].unplug();
    bench.disks[1].plug_in();
    let store = bench.open().await;
    assert_eq!(store.config().unwrap().generation, Generation(1), "all that this disk knows");
    bench.disks[0].plug_in();
    let listing = wait_for(&store, "the newer config", |listing| {
        listing.generation == Generation(2) && copies(listing, &b) == 2
    })
    .await;
    assert_eq!(listing.orphan_bytes, 0);
}

#[tokio::test]
async fn a_damaged_ledger_is_not_an_absent_one() {
    let bench = Bench::new();
    let (a, b) = (Artifact::new(1, 10), Artifact::new(2, 10));
    let store = bench.open().await;
    store.put_config(wanting(7, [&a, &b])).await.unwrap();
    put(&store, &a).await.unwrap();
    wait_for(&store, "both ledgers", |_| bench.raw(1, "config.json") == bench.raw(0, "config.json")).await;
    store.shutdown().await;
    bench.disks[0].flip_bit("config.json".into(), 100).unwrap();
    let store = bench.open().await;
    assert_eq!(store.config().unwrap().generation, Generation(7), "the other disk has it");
    wait_for(&store, "the ledger's repair", |_| bench.raw(0, "config.json") == bench.raw(1, "config.json"))
        .await;
    store.shutdown().await;

    for disk in &bench.disks {
        disk.flip_bit("config.json".into(), 100).unwrap();
    }
    let store = bench.open().await;
    assert_eq!(store.config(), None);
    assert_eq!(store.list().await.list.len(), 0, "without a config nothing is wanted");
    assert!(bench.raw(0, &a.path()).is_some(), "and nothing is deleted");
    let back = refusal(&store, wanting(6, [&b])).await;
    assert!(matches!(back, StoreError::ConfigGeneration { current: Generation(7), .. }), "{back}");
    let mut foreign = wanting(8, [&b]);
    foreign.cluster_id = ClusterId(uuid::Uuid::from_u128(9));
    assert_eq!(refusal(&store, foreign).await.class(), ErrorClass::ClusterMismatch);
    store.put_config(wanting(7, [&a, &b])).await.unwrap();
    assert_eq!(copies(&store.list().await, &a), 2, "its records survived");
}

#[tokio::test]
async fn a_ledger_older_than_what_is_known_to_have_been_in_force_is_not_put_in_force() {
    let bench = Bench::new();
    let (a, b) = (Artifact::new(1, 10), Artifact::new(2, 10));
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    wait_for(&store, "both ledgers", |_| bench.raw(1, "config.json") == bench.raw(0, "config.json")).await;
    bench.disks[1].unplug();
    store.put_config(wanting(2, [&a, &b])).await.unwrap();
    put(&store, &b).await.unwrap();
    store.shutdown().await;
    bench.disks[1].plug_in();
    bench.disks[0].flip_bit("config.json".into(), 100).unwrap();
    let store = bench.open().await;
    assert_eq!(store.config(), None, "generation 1 would delete what generation 2 wants");
    assert!(bench.raw(0, &b.path()).is_some());
    store.put_config(wanting(2, [&a, &b])).await.unwrap();
    wait_for(&store, "both copies", |listing| copies(listing, &b) == 2).await;
}

#[tokio::test]
async fn a_ledger_of_an_unknown_format_keeps_its_disk_out_and_untouched() {
    let bench = Bench::new();
    let store = bench.open().await;
    store.put_config(wanting(1, [])).await.unwrap();
    wait_for(&store, "both ledgers", |_| bench.raw(1, "config.json") == bench.raw(0, "config.json")).await;
    store.shutdown().await;
    let newer = br#"{"format":2}"#;
    bench.disks[1].remove("config.json".into()).unwrap();
    bench.disks[1].create_new("config.json".into()).unwrap().write_all(newer).unwrap();
    let store = bench.open().await;
    let listing = store.list().await;
    assert_eq!(listing.datasets[1].health, DatasetHealth::Failed);
    assert!(listing.datasets[1].reason.as_ref().unwrap().contains("format 2"), "{listing:?}");
    store.put_config(wanting(2, [])).await.unwrap();
    assert_eq!(bench.raw(1, "config.json").unwrap(), newer);
}

#[tokio::test]
async fn a_disk_of_another_cluster_is_not_used() {
    let (ours, theirs) = (Bench::new(), Bench::new());
    let a = Artifact::new(1, 10);
    let store = ours.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    store.shutdown().await;
    let store = theirs.open().await;
    let mut foreign = wanting(9, [&a]);
    foreign.cluster_id = ClusterId(uuid::Uuid::from_u128(9));
    store.put_config(foreign).await.unwrap();
    put(&store, &a).await.unwrap();
    wait_for(&store, "both ledgers", |_| theirs.raw(1, "config.json") == theirs.raw(0, "config.json")).await;
    store.shutdown().await;

    let mut mixed = ours.config.clone();
    mixed.datasets[1] = theirs.config.datasets[1].clone();
    let store = ArtifactStore::open(mixed).await;
    assert_eq!(store.config().unwrap().generation, Generation(1));
    let listing = store.list().await;
    assert_eq!(listing.datasets[1].health, DatasetHealth::Failed);
    assert!(listing.list.is_empty());
    let report = put(&store, &a).await.unwrap();
    assert_eq!((report.datasets, report.successful_writes), (2, 1));
    assert!(report.failures[0].to_string().contains("cluster"), "{}", report.failures[0]);
}

#[tokio::test]
async fn a_config_that_no_disk_takes_is_not_in_force() {
    let bench = Bench::new();
    let a = Artifact::new(1, 10);
    let store = bench.open().await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    for faults in &bench.faults {
        faults.fail();
    }
    let error = refusal(&store, wanting(2, [])).await;
    let StoreError::NoHealthyDataset { failures } = &error else { panic!("{error}") };
    assert_eq!(failures.len(), 2);
    assert_eq!(store.config().unwrap().generation, Generation(1));
    for faults in &bench.faults {
        faults.heal();
    }
    wait_for(&store, "healing", |listing| {
        listing.datasets.iter().all(|dataset| dataset.health == DatasetHealth::Healthy)
    })
    .await;
    store.put_config(wanting(2, [])).await.unwrap();
}
