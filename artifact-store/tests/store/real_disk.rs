//! The same store on real directories.

use crate::support::{Artifact, copies, put, read, wait_for, wanting};
use artifact_store::{ArtifactStore, DatasetConfig, DatasetHealth, StoreConfig};
use camino::Utf8Path;
use durable_fs::RealDisk;
use std::{os::unix::fs::PermissionsExt, sync::Arc};

/// A store on real directories, named for the disks.
fn store_on(dir: &Utf8Path, roots: [&str; 2]) -> StoreConfig {
    let datasets = roots.map(|name| {
        let root = dir.join(name);
        DatasetConfig {
            name: name.to_owned(),
            dir: root.clone(),
            storage: Arc::new(RealDisk::new(root)),
            quota_bytes: Some(1 << 30),
        }
    });
    let mut config = StoreConfig::new(datasets.into());
    config.reserve_bytes = 0;
    config
}

/// What somebody may put in an artifact's place.
#[derive(Clone, Copy, Debug)]
enum Stranger {
    Pipe,
    Directory,
    Link,
}

impl Stranger {
    fn take_the_place_of(self, path: &Utf8Path) {
        let _ = std::fs::remove_file(path);
        match self {
            Stranger::Pipe => {
                let (mode, kind) = (rustix::fs::Mode::RUSR, rustix::fs::FileType::Fifo);
                rustix::fs::mknodat(rustix::fs::CWD, path.as_std_path(), kind, mode, 0).unwrap();
            }
            Stranger::Directory => {
                std::fs::create_dir(path).unwrap();
                std::fs::write(path.join("inside"), "x").unwrap();
            }
            Stranger::Link => std::os::unix::fs::symlink("/dev/zero", path).unwrap(),
        }
    }
}

#[tokio::test]
async fn what_is_no_regular_file_is_no_copy_and_is_moved_out_of_the_way() {
    for stranger in [Stranger::Pipe, Stranger::Directory, Stranger::Link] {
        for running in [true, false] {
            let dir = camino_tempfile::tempdir().unwrap();
            for name in ["m2-0", "m2-1"] {
                std::fs::create_dir(dir.path().join(name)).unwrap();
            }
            let config = store_on(dir.path(), ["m2-0", "m2-1"]);
            let a = Artifact::new(1, 300_000);
            let mut store = ArtifactStore::open(config.clone()).await;
            store.put_config(wanting(1, [&a])).await.unwrap();
            put(&store, &a).await.unwrap();
            let path = dir.path().join("m2-0").join(a.path());
            if running {
                stranger.take_the_place_of(&path);
                assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes, "the other copy is read");
                let _ = store.scrub();
            } else {
                store.shutdown().await;
                stranger.take_the_place_of(&path);
                store = ArtifactStore::open(config).await;
            }
            wait_for(&store, "repair", |listing| copies(listing, &a) == 2 && !listing.scrub.running).await;
            assert_eq!(std::fs::read(&path).unwrap(), a.bytes, "{stranger:?}, running: {running}");
            let listing = store.list().await;
            let aside: Vec<_> = listing.quarantined.iter().map(|copy| copy.hash).collect();
            assert_eq!(aside, [a.hash], "{stranger:?}, running: {running}");
            let asked = std::time::Instant::now();
            store.shutdown().await;
            assert!(asked.elapsed().as_secs() < 5, "the shutdown waited for {stranger:?}");
        }
    }
}

#[tokio::test]
async fn one_directory_under_two_names_is_one_dataset_and_one_in_trouble() {
    let dir = camino_tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("m2-0")).unwrap();
    std::os::unix::fs::symlink("m2-0", dir.path().join("m2-1")).unwrap();
    let store = ArtifactStore::open(store_on(dir.path(), ["m2-0", "m2-1"])).await;
    let listing = store.list().await;
    let failed: Vec<_> =
        listing.datasets.iter().filter(|dataset| dataset.health != DatasetHealth::Healthy).collect();
    assert_eq!(failed.len(), 1, "{listing:#?}");
    assert!(failed[0].reason.as_ref().unwrap().contains("a disk of its own"), "{:?}", failed[0].reason);
    std::fs::remove_file(dir.path().join("m2-1")).unwrap();
    std::fs::create_dir(dir.path().join("m2-1")).unwrap();
    wait_for(&store, "a disk of its own", |listing| {
        listing.datasets.iter().all(|dataset| dataset.health == DatasetHealth::Healthy)
    })
    .await;
}

#[tokio::test]
async fn real_directories_hold_survive_and_heal() {
    let dir = camino_tempfile::tempdir().unwrap();
    for name in ["m2-0", "m2-1"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    let config = store_on(dir.path(), ["m2-0", "m2-1"]);
    let a = Artifact::new(1, 3_000_000);
    let store = ArtifactStore::open(config.clone()).await;
    store.put_config(wanting(1, [&a])).await.unwrap();
    assert_eq!(put(&store, &a).await.unwrap().successful_writes, 2);
    let path = dir.path().join("m2-0").join(a.path());
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o444);
    store.shutdown().await;

    let store = ArtifactStore::open(config).await;
    let listing = store.list().await;
    assert_eq!((copies(&listing, &a), listing.unverified), (2, 0));
    assert_eq!(listing.datasets[0].used, 3_000_000);
    assert_eq!(read(&store, a.hash).await.unwrap(), a.bytes);

    RealDisk::new(dir.path().join("m2-0")).flip_bit(a.path().as_str().into(), 1_000_000).unwrap();
    assert!(store.scrub().running);
    wait_for(&store, "repair", |listing| listing.quarantined.len() == 1 && copies(listing, &a) == 2).await;
    assert_eq!(std::fs::read(&path).unwrap(), a.bytes);
}
