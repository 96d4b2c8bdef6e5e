//! The same store on real directories.

use crate::support::{Artifact, copies, put, read, wait_for, wanting};
use artifact_store::{ArtifactStore, DatasetConfig, StoreConfig};
use durable_fs::RealDisk;
use std::{os::unix::fs::PermissionsExt, sync::Arc};

#[tokio::test]
async fn real_directories_hold_survive_and_heal() {
    let dir = camino_tempfile::tempdir().unwrap();
    let datasets = ["m2-0", "m2-1"].map(|name| {
        let root = dir.path().join(name);
        std::fs::create_dir(&root).unwrap();
        DatasetConfig {
            name: name.to_owned(),
            dir: root.clone(),
            storage: Arc::new(RealDisk::new(root)),
            quota_bytes: Some(1 << 30),
        }
    });
    let mut config = StoreConfig::new(datasets.into());
    config.reserve_bytes = 0;
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
