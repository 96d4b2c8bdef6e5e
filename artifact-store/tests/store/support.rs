//! A store on simulated disks with faults, and the questions that every test asks.

use artifact_store::{
    ArtifactStore, DatasetConfig, StoreArtifactsConfig, StoreConfig, StoreError, StoreListing, WriteReport,
};
use bytes::Bytes;
use durable_fs::{DiskFaults, FaultyDisk, SimDisk, SimMachine, StepPoint, Storage};
use ids::{ArtifactHash, ClusterId, Generation};
use sha2::{Digest, Sha256};
use std::{sync::Arc, time::Duration};

/// Longer than anything here takes on a busy machine; only a failing test waits for it.
const PATIENCE: Duration = Duration::from_secs(20);
/// Bytes of a simulated disk.
pub(crate) const DISK_BYTES: u64 = 64 << 20;

/// Two simulated disks of one machine, each with a switch for faults.
pub(crate) struct Bench {
    pub(crate) machine: SimMachine,
    pub(crate) disks: Vec<SimDisk>,
    pub(crate) faults: Vec<DiskFaults>,
    pub(crate) config: StoreConfig,
}

impl Bench {
    pub(crate) fn new() -> Bench {
        Bench::with_disks(2)
    }

    pub(crate) fn with_disks(count: usize) -> Bench {
        let machine = SimMachine::new();
        let disks: Vec<_> = (0..count).map(|_| machine.add_disk(DISK_BYTES)).collect();
        let faults: Vec<_> = (0..count).map(|_| DiskFaults::new()).collect();
        let datasets = disks.iter().zip(&faults).enumerate().map(|(index, (disk, faults))| DatasetConfig {
            name: format!("m2-{index}"),
            dir: format!("/simulated/m2-{index}").into(),
            storage: Arc::new(FaultyDisk::new(disk.clone(), faults.clone())),
            quota_bytes: None,
        });
        let mut config = StoreConfig::new(datasets.collect());
        config.reserve_bytes = 0;
        config.probe_after = Duration::from_millis(2);
        config.probe_after_max = Duration::from_millis(20);
        config.check_interval = Duration::from_millis(100);
        Bench { machine, disks, faults, config }
    }

    pub(crate) async fn open(&self) -> ArtifactStore {
        ArtifactStore::open(self.config.clone()).await
    }

    /// Stops the store as a power cut would, and opens it on what is left.
    pub(crate) async fn crash(&self, store: ArtifactStore, seed: u64) -> ArtifactStore {
        self.machine.cut_power();
        store.shutdown().await;
        drop(store);
        self.machine.crash(seed);
        self.open().await
    }

    /// The names in a directory of a disk.
    pub(crate) fn names(&self, disk: usize, directory: &str) -> Vec<String> {
        let entries = self.disks[disk].list(directory.into()).unwrap();
        entries.into_iter().map(|entry| entry.name).collect()
    }

    /// The bytes of a file of a disk, past every fault.
    pub(crate) fn raw(&self, disk: usize, path: &str) -> Option<Vec<u8>> {
        let file = self.disks[disk].open(path.into()).ok()?;
        // A power cut may come at any moment.
        let mut bytes = vec![0; usize::try_from(file.metadata().ok()?.size).unwrap()];
        file.read_at(0, &mut bytes).ok()?;
        Some(bytes)
    }

    pub(crate) fn rot(&self, disk: usize, artifact: &Artifact) {
        self.disks[disk].flip_bit(artifact.path().as_str().into(), artifact.bytes.len() as u64 / 2).unwrap();
    }
}

/// Some bytes and their name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) hash: ArtifactHash,
    pub(crate) bytes: Bytes,
}

impl Artifact {
    /// `length` bytes that no other `seed` has.
    pub(crate) fn new(seed: u8, length: usize) -> Artifact {
        let mut state = u32::from(seed) + 1;
        let bytes: Bytes = (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            })
            .collect();
        Artifact { hash: hash_of(&bytes), bytes }
    }

    pub(crate) fn path(&self) -> String {
        format!("artifacts/{}", self.hash)
    }
}

pub(crate) fn hash_of(bytes: &[u8]) -> ArtifactHash {
    ArtifactHash(Sha256::digest(bytes).into())
}

/// The cluster that every test belongs to, unless it is about another one.
pub(crate) fn cluster() -> ClusterId {
    ClusterId(uuid::Uuid::from_u128(1))
}

pub(crate) fn wanting<'a>(
    generation: u64,
    artifacts: impl IntoIterator<Item = &'a Artifact>,
) -> StoreArtifactsConfig {
    StoreArtifactsConfig {
        cluster_id: cluster(),
        generation: Generation(generation),
        artifacts: artifacts.into_iter().map(|artifact| artifact.hash).collect(),
    }
}

/// Sends an artifact in chunks of some odd size under the generation in force.
pub(crate) async fn put(store: &ArtifactStore, artifact: &Artifact) -> Result<WriteReport, StoreError> {
    let generation = store.config().ok_or(StoreError::NoConfig)?.generation;
    let size = Some(artifact.bytes.len() as u64);
    let mut writer = store.writer(artifact.hash, generation, size).await?;
    for chunk in artifact.bytes.chunks(50_001) {
        writer.write(artifact.bytes.slice_ref(chunk)).await?;
    }
    writer.finish().await
}

/// Reads an artifact whole.
pub(crate) async fn read(store: &ArtifactStore, hash: ArtifactHash) -> Result<Vec<u8>, StoreError> {
    let mut reader = store.open_artifact(hash)?;
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.next_chunk().await? {
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

/// Waits until the listing is as it should be; panics with the last one otherwise.
pub(crate) async fn wait_for(
    store: &ArtifactStore,
    what: &str,
    holds: impl Fn(&StoreListing) -> bool,
) -> StoreListing {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    let mut revision = store.revision();
    loop {
        revision.borrow_and_update();
        let listing = store.list().await;
        if holds(&listing) {
            return listing;
        }
        assert!(tokio::time::Instant::now() < deadline, "waited in vain for {what}; last: {listing:#?}");
        // Not every change moves the revision, so look again soon in any case.
        let _ = tokio::time::timeout(Duration::from_millis(5), revision.changed()).await;
    }
}

/// Copies that are listed of an artifact.
pub(crate) fn copies(listing: &StoreListing, artifact: &Artifact) -> u32 {
    listing.list.get(&artifact.hash).map_or(0, |listed| listed.copies)
}

/// Holds one disk's procedure right after a step, the first time it comes by, until it is let go.
pub(crate) struct Held {
    arrived: tokio::sync::mpsc::UnboundedReceiver<()>,
    let_go: std::sync::mpsc::Sender<()>,
}

impl Bench {
    /// Makes disk 0 hold right after `point`. Before the store is opened.
    pub(crate) fn hold_at(&mut self, point: StepPoint) -> Held {
        let (arrive, arrived) = tokio::sync::mpsc::unbounded_channel();
        let (let_go, go) = std::sync::mpsc::channel();
        let go = std::sync::Mutex::new(Some(go));
        let disk = FaultyDisk::new(self.disks[0].clone(), self.faults[0].clone()).on_step(move |reached| {
            let go = (reached == point).then(|| go.lock().unwrap().take()).flatten();
            if let Some(go) = go {
                arrive.send(()).unwrap();
                // A test that has failed lets go by dropping its end.
                let _ = go.recv();
            }
        });
        self.config.datasets[0].storage = Arc::new(disk);
        Held { arrived, let_go }
    }
}

impl Held {
    pub(crate) async fn arrival(&mut self) {
        self.arrived.recv().await.unwrap();
    }

    pub(crate) fn let_go(&self) {
        self.let_go.send(()).unwrap();
    }
}
