//! The store's public face: a cheap handle that asks the inventory and sends work to where it is done.

use crate::{
    config::{StoreArtifactsConfig, StoreConfig},
    copy,
    error::StoreError,
    inventory::{DatasetIndex, Event},
    keeper::{COMMANDS_MAX, Keeper, PutConfig},
    reader::ArtifactReader,
    shared::Shared,
    status::{ScrubReport, StoreListing},
    writer::ArtifactWriter,
};
use ids::{ArtifactHash, Generation};
use jiff::Timestamp;
use std::{ops::Range, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};

/// How long a stop waits for disk operations under way. A disk that needs longer may hang, and what it holds was never
/// acknowledged.
const STOP_TIME_MAX: Duration = Duration::from_secs(3);

/// How long a listing waits for file systems to tell their space before it shows what was last seen.
const SPACE_TIME_MAX: Duration = Duration::from_millis(200);

/// A content-addressed store over some datasets. Clones are the same store; it stops when the last one is dropped, or
/// with [`shutdown`](ArtifactStore::shutdown).
#[derive(Clone, Debug)]
pub struct ArtifactStore {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    commands: mpsc::Sender<PutConfig>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        if !self.shared.stop.is_asked() {
            self.shared.stop.ask();
        }
    }
}

impl ArtifactStore {
    /// Opens the store: admits the datasets, without hashing anything, and starts its keeper. Datasets that do not answer
    /// soon, are missing or broken are used when they turn up; with none at all the store still answers.
    ///
    /// Must be called on a tokio runtime with time enabled.
    pub async fn open(config: StoreConfig) -> ArtifactStore {
        let shared = Arc::new(Shared::new(config));
        let (commands, requests) = mpsc::channel(COMMANDS_MAX);
        let mut revision = shared.watch_revision();
        shared.tasks.spawn(Keeper::new(Arc::clone(&shared), requests).run());
        let settled = || shared.look(|inventory| inventory.settled);
        while !settled() && revision.changed().await.is_ok() {}
        ArtifactStore { handle: Arc::new(Handle { shared, commands }) }
    }

    /// What the store should hold; `None` before the first config, or if what was in force cannot be read.
    #[must_use]
    pub fn config(&self) -> Option<Arc<StoreArtifactsConfig>> {
        self.shared().look(|inventory| inventory.in_force.clone())
    }

    /// Puts a config in force. Durable on at least one dataset when this succeeds; answers with what is in force.
    ///
    /// # Errors
    /// [`StoreError::ConfigGeneration`], [`StoreError::ConfigConflict`], [`StoreError::ClusterMismatch`];
    /// [`StoreError::NoHealthyDataset`] if no ledger could be written.
    pub async fn put_config(
        &self,
        config: StoreArtifactsConfig,
    ) -> Result<Arc<StoreArtifactsConfig>, StoreError> {
        self.shared().check_running()?;
        let (reply, answer) = oneshot::channel();
        let put = PutConfig { config: Arc::new(config), reply };
        self.handle.commands.send(put).await.map_err(|_| StoreError::ShuttingDown)?;
        answer.await.map_err(|_| StoreError::ShuttingDown)?
    }

    /// Starts to receive an artifact. `generation` must be the one in force. With `expected_size` the room for it is
    /// reserved on each dataset, and one that has not enough is left out from the start.
    ///
    /// # Errors
    /// [`StoreError::NoConfig`], [`StoreError::ConfigGeneration`], [`StoreError::NotInConfig`], [`StoreError::NoSpace`],
    /// [`StoreError::NoHealthyDataset`].
    pub async fn writer(
        &self,
        hash: ArtifactHash,
        generation: Generation,
        expected_size: Option<u64>,
    ) -> Result<ArtifactWriter, StoreError> {
        self.shared().check_running()?;
        ArtifactWriter::open(Arc::clone(self.shared()), hash, generation, expected_size).await
    }

    /// Bytes of an artifact of which there is a verified copy.
    #[must_use]
    pub fn artifact_size(&self, hash: &ArtifactHash) -> Option<u64> {
        let copies = self.shared().look(|inventory| inventory.readable_copies(hash));
        copies.first().map(|(_, copy)| copy.stamp.size)
    }

    /// Opens an artifact for reading, verified while it is read.
    ///
    /// # Errors
    /// [`StoreError::ArtifactNotFound`] if there is no verified copy.
    pub fn open_artifact(&self, hash: ArtifactHash) -> Result<ArtifactReader, StoreError> {
        self.shared().check_running()?;
        ArtifactReader::open(Arc::clone(self.shared()), hash, None)
    }

    /// Opens a part of an artifact for reading, **not** verified: who asks for parts hashes the whole.
    ///
    /// # Errors
    /// [`StoreError::ArtifactNotFound`]; [`StoreError::RangeOutside`] if the range is empty or ends behind the artifact.
    pub fn read_range(&self, hash: ArtifactHash, range: Range<u64>) -> Result<ArtifactReader, StoreError> {
        self.shared().check_running()?;
        ArtifactReader::open(Arc::clone(self.shared()), hash, Some(range))
    }

    /// What the store holds.
    pub async fn list(&self) -> StoreListing {
        self.refresh_space().await;
        let shared = self.shared();
        let writing: Vec<u64> =
            shared.datasets.iter().map(|dataset| dataset.reservations.written()).collect();
        shared.look(|inventory| inventory.listing(&shared.config.datasets, &writing))
    }

    /// A number that grows whenever the listing changes: a copy came, went or was set aside, a dataset's health changed,
    /// another config is in force.
    #[must_use]
    pub fn revision(&self) -> watch::Receiver<u64> {
        self.shared().watch_revision()
    }

    /// A number that grows whenever the health of a dataset changes: what a coordinator should not have to wait for. The
    /// [`revision`](ArtifactStore::revision) has grown before it.
    #[must_use]
    pub fn health_revision(&self) -> watch::Receiver<u64> {
        self.shared().watch_health()
    }

    /// Takes an artifact that the config does not want out of use, on every dataset: to the trash. Also fine if there is
    /// none. `generation` must be the one in force.
    ///
    /// # Errors
    /// [`StoreError::NoConfig`], [`StoreError::ConfigGeneration`], [`StoreError::ArtifactWanted`];
    /// [`StoreError::DeleteFailed`] if a dataset could not do it (the store tries again by itself).
    pub async fn delete(&self, hash: ArtifactHash, generation: Generation) -> Result<(), StoreError> {
        let shared = self.shared();
        shared.check_running()?;
        let holders: Vec<DatasetIndex> = shared.look(|inventory| {
            inventory.may_delete(&hash, generation)?;
            let datasets = inventory.datasets.iter().enumerate();
            let holders =
                datasets.filter(|(_, state)| state.health.is_readable() && state.copies.contains_key(&hash));
            Ok::<_, StoreError>(holders.map(|(index, _)| index).collect())
        })?;
        let limit = shared.config.slow_writer_limit;
        let moves = holders.into_iter().map(|dataset| async move {
            let name = || shared.name(dataset).to_owned();
            let slots = Arc::clone(&shared.datasets[dataset].move_slots);
            let moved = async {
                let slot = slots.acquire_owned().await.ok()?;
                shared
                    .run_blocking(move |shared| {
                        let moved = copy::trash(shared, dataset, &[hash]);
                        drop(slot);
                        moved
                    })
                    .await
            };
            match timeout(limit, moved).await {
                Ok(Some(Ok(()))) => Ok(()),
                Ok(Some(Err((hash, source)))) => {
                    Err(StoreError::DeleteFailed { hash, dataset: name(), source })
                }
                Ok(None) => Err(StoreError::ShuttingDown),
                Err(_) => Err(StoreError::DatasetTooSlow { dataset: name(), limit }),
            }
        });
        futures::future::join_all(moves).await.into_iter().collect()
    }

    /// Starts to hash every stored copy, unless that is being done; how far it is. [`list`](ArtifactStore::list) tells on.
    #[must_use]
    pub fn scrub(&self) -> ScrubReport {
        self.shared().apply(Event::ScrubAsked);
        self.shared().ask(|inventory| {
            inventory.end_empty_scrub(Timestamp::now());
            inventory.scrub.report
        })
    }

    /// Stops the keeper, lets running disk operations end (those that hang are left behind), and removes what unfinished
    /// writes have in `tmp`.
    pub async fn shutdown(&self) {
        let shared = self.shared();
        shared.stop.ask();
        shared.writer_slots.close();
        shared.tasks.close();
        let _ = timeout(STOP_TIME_MAX, shared.tasks.wait()).await;
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Asks the file systems for their space, unless somebody just did.
    async fn refresh_space(&self) {
        let shared = self.shared();
        let asked = (0..shared.datasets.len()).filter_map(|dataset| {
            let readable = shared.look(|inventory| inventory.datasets[dataset].health.is_readable());
            let look = shared.datasets[dataset].begin_space_look().filter(|_| readable)?;
            Some(shared.run_blocking(move |shared| {
                crate::admission::check(shared, dataset);
                drop(look);
            }))
        });
        let _ = timeout(SPACE_TIME_MAX, futures::future::join_all(asked)).await;
    }
}
