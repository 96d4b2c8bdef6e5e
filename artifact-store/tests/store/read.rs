//! GET: right bytes whole, wrong bytes never whole, one disk's trouble is not the reader's.

use crate::support::{Artifact, Bench, copies, put, read, wait_for, wanting};
use artifact_store::{ArtifactStore, DatasetHealth, ErrorClass, StoreError};
use durable_fs::Storage;
use futures::TryStreamExt;
use std::time::Duration;

async fn stored(bench: &Bench, artifact: &Artifact) -> ArtifactStore {
    let store = bench.open().await;
    store.put_config(wanting(1, [artifact])).await.unwrap();
    put(&store, artifact).await.unwrap();
    store
}

#[tokio::test]
async fn a_stream_delivers_the_bytes() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1_000_000);
    let store = stored(&bench, &a).await;
    let reader = store.open_artifact(a.hash).unwrap();
    assert_eq!((reader.size(), reader.length()), (1_000_000, 1_000_000));
    let chunks: Vec<_> = reader.into_stream().try_collect().await.unwrap();
    assert!(chunks.len() > 2);
    assert_eq!(chunks.concat(), a.bytes);
    assert_eq!(store.artifact_size(&a.hash), Some(1_000_000));
}

#[tokio::test]
async fn a_rotten_copy_is_never_served_whole() {
    let bench = Bench::with_disks(1);
    for length in [1_000_000, 262_144, 100] {
        let a = Artifact::new(1, length);
        let store = stored(&bench, &a).await;
        bench.rot(0, &a);
        let mut reader = store.open_artifact(a.hash).unwrap();
        let mut served = 0;
        let error = loop {
            match reader.next_chunk().await {
                Ok(Some(chunk)) => served += chunk.len(),
                Ok(None) => panic!("{served} wrong bytes were served as a success"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::CopyCorrupt { .. }), "{error}");
        assert!(served < length);
        let listing = wait_for(&store, "quarantine", |_| bench.names(0, "quarantine").len() == 1).await;
        assert!(listing.list.is_empty());
        assert_eq!(listing.quarantined[0].hash, a.hash);
        assert_eq!(store.open_artifact(a.hash).unwrap_err().class(), ErrorClass::ArtifactNotFound);
        store.shutdown().await;
        let store = bench.open().await;
        let listing = store.list().await;
        assert!(listing.list.is_empty(), "a start does not list it again");
        assert_eq!(listing.quarantined[0].size, length as u64);
        store.shutdown().await;
        for name in bench.names(0, "quarantine") {
            bench.disks[0].remove(format!("quarantine/{name}").as_str().into()).unwrap();
        }
        bench.disks[0].remove("config.json".into()).unwrap();
        bench.disks[0].remove("verified.log".into()).unwrap();
    }
}

#[tokio::test]
async fn a_rotten_copy_is_replaced_from_the_other_disk() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1_000_000);
    let store = stored(&bench, &a).await;
    bench.rot(0, &a);
    assert!(
        read(&store, a.hash).await.is_err(),
        "bytes were delivered before the end showed that they are wrong"
    );
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes, "the other copy is fine");
    let listing = wait_for(&store, "repair", |listing| copies(listing, &a) == 2).await;
    assert_eq!(listing.quarantined.len(), 1);
    assert_eq!(bench.raw(0, &a.path()).unwrap(), a.bytes);
}

#[tokio::test]
async fn a_small_rotten_copy_falls_over_before_anything_is_delivered() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1000);
    let store = stored(&bench, &a).await;
    bench.rot(0, &a);
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
    wait_for(&store, "repair", |listing| copies(listing, &a) == 2).await;
}

#[tokio::test]
async fn a_failing_disk_is_left_for_the_other_one_at_any_byte() {
    let bench = Bench::new();
    let a = Artifact::new(1, 2_000_000);
    let store = stored(&bench, &a).await;
    let mut reader = store.open_artifact(a.hash).unwrap();
    let mut bytes = reader.next_chunk().await.unwrap().unwrap().to_vec();
    bench.faults[0].fail();
    while let Some(chunk) = reader.next_chunk().await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(bytes, a.bytes);
    let listing = store.list().await;
    assert_eq!((copies(&listing, &a), listing.datasets[0].health), (1, DatasetHealth::Failed));
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
}

#[tokio::test]
async fn with_every_disk_failing_a_read_says_so() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1000);
    let store = stored(&bench, &a).await;
    for faults in &bench.faults {
        faults.fail();
    }
    let error = read(&store, a.hash).await.unwrap_err();
    assert!(matches!(error, StoreError::CopyUnreadable { .. }), "{error}");
    assert_eq!(read(&store, a.hash).await.unwrap_err().class(), ErrorClass::ArtifactNotFound);
    for faults in &bench.faults {
        faults.heal();
    }
    wait_for(&store, "healing", |listing| copies(listing, &a) == 2).await;
    assert!(store.list().await.quarantined.is_empty(), "the copies were not at fault");
}

/// A store that has its only copy on disk 0, and reads nothing by itself.
async fn with_one_copy(bench: &Bench, artifact: &Artifact) -> ArtifactStore {
    bench.disks[1].unplug();
    let store = stored(bench, artifact).await;
    assert_eq!(copies(&store.list().await, artifact), 1);
    store
}

#[tokio::test]
async fn the_last_copy_is_not_set_aside_for_one_read_that_failed() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1000);
    let store = with_one_copy(&bench, &a).await;
    bench.faults[0].fail_next_read();
    let error = read(&store, a.hash).await.unwrap_err();
    assert!(matches!(error, StoreError::CopyUnreadable { .. }), "{error}");
    let listing = wait_for(&store, "its hashing", |listing| copies(listing, &a) == 1).await;
    assert_eq!((listing.quarantined.len(), listing.unverified), (0, 0));
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
}

#[tokio::test]
async fn nobody_reads_a_suspect_again_before_its_pause_is_over() {
    let mut bench = Bench::new();
    bench.config.probe_after = Duration::from_secs(3600);
    bench.config.probe_after_max = Duration::from_secs(3600);
    let a = Artifact::new(1, 1000);
    let store = with_one_copy(&bench, &a).await;
    let mut others: Vec<_> = (0..2).map(|_| store.open_artifact(a.hash).unwrap()).collect();
    for _ in 0..2 {
        bench.faults[0].fail_next_read();
        drop(read(&store, a.hash).await);
    }
    while let Some(mut other) = others.pop() {
        drop(other.next_chunk().await);
    }
    bench.faults[0].fail_next_read();
    let _ = store.scrub();
    let listing = wait_for(&store, "the scrub", |listing| listing.scrub.finished_at.is_some()).await;
    assert_eq!((listing.unverified, listing.quarantined.len(), bench.names(0, "artifacts").len()), (1, 0, 1));
}

#[tokio::test]
async fn the_last_copy_is_not_forgotten_because_it_was_not_found_once() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1000);
    let store = with_one_copy(&bench, &a).await;
    bench.faults[0].hide_next_opened();
    let error = read(&store, a.hash).await.unwrap_err();
    assert!(matches!(error, StoreError::CopyUnreadable { .. }), "{error}");
    wait_for(&store, "its hashing", |listing| copies(listing, &a) == 1).await;
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
}

#[tokio::test]
async fn a_copy_that_stays_unreadable_is_set_aside_and_repaired() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1000);
    let store = stored(&bench, &a).await;
    bench.faults[0].make_unreadable(a.path().as_str().into(), 500..501);
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
    wait_for(&store, "quarantine", |listing| !listing.quarantined.is_empty()).await;
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
    bench.faults[0].heal();
    let listing = wait_for(&store, "repair", |listing| copies(listing, &a) == 2).await;
    assert!(
        listing.quarantined.iter().all(|copy| copy.dataset == "m2-0" && copy.size == 1000),
        "{listing:?}"
    );
    assert_eq!(bench.raw(0, &a.path()).unwrap(), a.bytes);
}

#[tokio::test]
async fn a_hanging_disk_is_left_for_the_other_one() {
    let mut bench = Bench::new();
    bench.config.slow_writer_limit = Duration::from_millis(100);
    let a = Artifact::new(1, 1000);
    let store = stored(&bench, &a).await;
    bench.faults[0].slow(Duration::from_secs(3600));
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
    assert_eq!(store.list().await.datasets[0].health, DatasetHealth::Slow);
    bench.faults[0].heal();
}

#[tokio::test]
async fn a_disk_that_hangs_in_the_middle_of_a_read_is_left_for_the_other_one() {
    let mut bench = Bench::new();
    bench.config.slow_writer_limit = Duration::from_millis(100);
    let a = Artifact::new(1, 3_000_000);
    let store = stored(&bench, &a).await;
    let mut reader = store.open_artifact(a.hash).unwrap();
    let mut bytes = reader.next_chunk().await.unwrap().unwrap().to_vec();
    bench.faults[0].slow(Duration::from_secs(3600));
    while let Some(chunk) = reader.next_chunk().await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(bytes, a.bytes);
    bench.faults[0].heal();
}

#[test]
fn a_disk_that_hangs_leaves_the_threads_of_the_other_ones() {
    let threads = 2 * artifact_store::BLOCKING_THREADS_PER_DATASET;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).max_blocking_threads(threads).enable_all().build().unwrap();
    runtime.block_on(async {
        let mut bench = Bench::new();
        bench.config.slow_writer_limit = Duration::from_millis(400);
        let a = Artifact::new(1, 1_000_000);
        let store = stored(&bench, &a).await;
        bench.faults[0].slow(Duration::from_secs(3600));
        // Whoever finds a disk slow tells the others, so many must come before the first one finds out.
        let readers = (0..2 * threads).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { read(&store, a.hash).await })
        });
        let readers: Vec<_> = readers.collect();
        for reader in readers {
            let bytes =
                tokio::time::timeout(Duration::from_secs(20), reader).await.expect("a thread is left");
            assert_eq!(bytes.unwrap().unwrap(), a.bytes);
        }
        assert_eq!(store.list().await.datasets[0].health, DatasetHealth::Slow);
        bench.faults[0].heal();
    });
}

#[tokio::test]
async fn a_changed_or_vanished_file_is_not_served() {
    let bench = Bench::new();
    let a = Artifact::new(1, 1000);
    let store = stored(&bench, &a).await;
    bench.disks[0].open_append(a.path().as_str().into()).unwrap().write_all(b"more").unwrap();
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
    wait_for(&store, "repair", |listing| copies(listing, &a) == 2 && !listing.quarantined.is_empty()).await;
    bench.disks[0].remove(a.path().as_str().into()).unwrap();
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);
    wait_for(&store, "repair", |_| bench.raw(0, &a.path()).is_some()).await;
    assert_eq!(bench.raw(0, &a.path()).unwrap(), a.bytes);
}

#[tokio::test]
async fn ranges_are_cut_exactly_and_checked() {
    let bench = Bench::new();
    let a = Artifact::new(1, 700_000);
    let store = stored(&bench, &a).await;
    for range in [0..1, 0..700_000, 262_143..262_145, 699_999..700_000] {
        let reader = store.read_range(a.hash, range.clone()).unwrap();
        assert_eq!((reader.size(), reader.length()), (700_000, range.end - range.start));
        let chunks: Vec<_> = reader.into_stream().try_collect().await.unwrap();
        let expected = &a.bytes[usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap()];
        assert_eq!(chunks.concat(), expected, "{range:?}");
    }
    for range in [5..5, 0..700_001, 700_000..700_001] {
        let error = store.read_range(a.hash, range).unwrap_err();
        assert_eq!(error.class(), ErrorClass::RangeNotSatisfiable);
    }
    let unknown = Artifact::new(2, 1);
    assert_eq!(store.read_range(unknown.hash, 0..1).unwrap_err().class(), ErrorClass::ArtifactNotFound);
}

#[tokio::test]
async fn a_reader_keeps_its_file_while_the_artifact_is_written_again_or_deleted() {
    let bench = Bench::with_disks(1);
    let a = Artifact::new(1, 2_000_000);
    let store = stored(&bench, &a).await;
    let mut reader = store.open_artifact(a.hash).unwrap();
    let mut bytes = reader.next_chunk().await.unwrap().unwrap().to_vec();
    put(&store, &a).await.unwrap();
    store.put_config(wanting(2, [])).await.unwrap();
    wait_for(&store, "the trash", |listing| listing.trash_bytes == 2_000_000).await;
    while let Some(chunk) = reader.next_chunk().await.unwrap() {
        bytes.extend_from_slice(&chunk);
    }
    assert_eq!(bytes, a.bytes);
}
