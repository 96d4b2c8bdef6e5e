//! A store in memory that follows a script: dies before or after its k-th write, lies about one, refuses some.
//!
//! A [`Disk`] outlives its stores, as a disk does processes. Each [`MemoryStore`] is one life: when it has died, every call
//! to it waits for ever, and [`MemoryStore::died`] says so; the test halts that life's engine and begins the next one on
//! the same disk.

use crate::{
    ports::{Created, SagaStore, StoreFault, Written},
    types::{Attention, EndState, Mark, NewSaga, NodeEvent, StoredSaga},
};
use async_trait::async_trait;
use ids::{AdoptionEpoch, SagaId};
use jiff::Timestamp;
use nexus_saga_recovery::{SagaKey, UnfinishedSaga};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// What is durable.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    data: Arc<Mutex<Data>>,
}

#[derive(Debug, Default)]
struct Data {
    sagas: BTreeMap<SagaId, StoredSaga>,
    signals: BTreeMap<(SagaId, String), Value>,
    timers: BTreeMap<(SagaId, String), Timestamp>,
}

/// What is to happen at a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incident {
    /// The process dies, and the write is not durable.
    DieBefore,
    /// The process dies, and the write is durable.
    DieAfter,
    /// The store refuses it.
    NotDone,
    /// The answer is lost, and the write is durable.
    UnknownDone,
    /// The answer is lost, and the write is not durable.
    UnknownNotDone,
    /// It is not answered; not durable.
    Stall,
    /// It waits for [`MemoryStore::release`].
    Hold,
}

/// One life's store.
#[derive(Debug)]
pub struct MemoryStore {
    disk: Disk,
    script: BTreeMap<u64, Incident>,
    writes: Mutex<u64>,
    dead: CancellationToken,
    held: Notify,
    spoilt_timers: AtomicBool,
}

impl Disk {
    /// Empty.
    #[must_use]
    pub fn new() -> Disk {
        Disk::default()
    }

    /// A life without incidents.
    #[must_use]
    pub fn store(&self) -> Arc<MemoryStore> {
        self.scripted([])
    }

    /// A life with incidents, by the number of the write (from 1).
    #[must_use]
    pub fn scripted(&self, script: impl IntoIterator<Item = (u64, Incident)>) -> Arc<MemoryStore> {
        Arc::new(MemoryStore {
            disk: self.clone(),
            script: script.into_iter().collect(),
            writes: Mutex::new(0),
            dead: CancellationToken::new(),
            held: Notify::new(),
            spoilt_timers: AtomicBool::new(false),
        })
    }

    /// Everything about a saga.
    #[must_use]
    pub fn saga(&self, id: SagaId) -> Option<StoredSaga> {
        self.lock().sagas.get(&id).cloned()
    }

    /// The ids of all sagas.
    #[must_use]
    pub fn ids(&self) -> Vec<SagaId> {
        self.lock().sagas.keys().copied().collect()
    }

    /// Another coordinator adopts a saga, whose epoch grows by one.
    pub fn adopt(&self, id: SagaId) -> Option<SagaKey> {
        let mut data = self.lock();
        let saga = data.sagas.get_mut(&id)?;
        saga.row.key.epoch = AdoptionEpoch(saga.row.key.epoch.0 + 1);
        Some(saga.row.key)
    }

    /// Changes a row behind everybody's back.
    pub fn tamper(&self, id: SagaId, change: impl FnOnce(&mut StoredSaga)) {
        if let Some(saga) = self.lock().sagas.get_mut(&id) {
            change(saga);
        }
    }

    /// Forgets what has ended, as retention does.
    pub fn prune(&self) {
        self.lock().sagas.retain(|_, saga| saga.end.is_none());
    }

    fn lock(&self) -> MutexGuard<'_, Data> {
        self.data.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MemoryStore {
    /// Waits until this life has died.
    pub async fn died(&self) {
        self.dead.cancelled().await;
    }

    /// Lets a write that is held go on, or the next one that is to be.
    pub fn release(&self) {
        self.held.notify_one();
    }

    /// From now on timers cannot be read.
    pub fn spoil_timers(&self) {
        self.spoilt_timers.store(true, Ordering::Relaxed);
    }

    /// Writes so far, answered or not.
    #[must_use]
    pub fn writes(&self) -> u64 {
        *self.writes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn write<T>(&self, change: impl FnOnce(&mut Data) -> T + Send) -> Result<T, StoreFault> {
        let incident = if self.dead.is_cancelled() {
            Some(Incident::Stall)
        } else {
            let mut writes = self.writes.lock().unwrap_or_else(PoisonError::into_inner);
            *writes += 1;
            self.script.get(&*writes).copied()
        };
        let lost = || StoreFault::Unknown("the answer is lost".to_owned());
        match incident {
            None => return Ok(change(&mut self.disk.lock())),
            Some(Incident::NotDone) => return Err(StoreFault::NotDone("refused".to_owned())),
            Some(Incident::UnknownNotDone) => return Err(lost()),
            Some(Incident::UnknownDone) => {
                change(&mut self.disk.lock());
                return Err(lost());
            }
            Some(Incident::DieBefore) => self.dead.cancel(),
            Some(Incident::DieAfter) => {
                change(&mut self.disk.lock());
                self.dead.cancel();
            }
            Some(Incident::Hold) => {
                self.held.notified().await;
                return Ok(change(&mut self.disk.lock()));
            }
            Some(Incident::Stall) => {}
        }
        std::future::pending().await
    }

    async fn fenced(
        &self,
        key: SagaKey,
        change: impl FnOnce(&mut StoredSaga) -> Written + Send,
    ) -> Result<Written, StoreFault> {
        self.write(move |data| match data.sagas.get_mut(&key.id) {
            Some(saga) if saga.row.key == key => change(saga),
            _ => Written::Fenced,
        })
        .await
    }
}

#[async_trait]
impl SagaStore for MemoryStore {
    async fn create(&self, saga: &NewSaga) -> Result<Created, StoreFault> {
        self.write(|data| {
            let stored = data.sagas.entry(saga.key.id).or_insert_with(|| StoredSaga {
                row: saga.clone(),
                events: Vec::new(),
                marks: Vec::new(),
                attention: None,
                end: None,
            });
            if stored.row.creation == saga.creation { Created::Ours } else { Created::Others }
        })
        .await
    }

    async fn append(&self, key: SagaKey, events: &[NodeEvent]) -> Result<Written, StoreFault> {
        self.fenced(key, |saga| append(saga, events)).await
    }

    async fn end(&self, key: SagaKey, end: &EndState, last: &[NodeEvent]) -> Result<Written, StoreFault> {
        self.fenced(key, |saga| {
            if saga.end.is_some() {
                return Written::Already;
            }
            let _ = append(saga, last);
            saga.end = Some(end.clone());
            saga.attention = None;
            Written::Now
        })
        .await
    }

    async fn mark(&self, key: SagaKey, mark: &Mark) -> Result<Written, StoreFault> {
        self.fenced(key, |saga| {
            if saga.marks.contains(mark) {
                return Written::Already;
            }
            saga.marks.push(mark.clone());
            Written::Now
        })
        .await
    }

    async fn set_attention(
        &self,
        key: SagaKey,
        attention: Option<&Attention>,
    ) -> Result<Written, StoreFault> {
        self.fenced(key, |saga| {
            saga.attention = attention.cloned();
            Written::Now
        })
        .await
    }

    async fn put_signal(&self, saga: SagaId, name: &str, value: &Value) -> Result<(), StoreFault> {
        self.write(|data| {
            data.signals.entry((saga, name.to_owned())).or_insert_with(|| value.clone());
        })
        .await
    }

    async fn signal(&self, saga: SagaId, name: &str) -> Result<Option<Value>, StoreFault> {
        Ok(self.disk.lock().signals.get(&(saga, name.to_owned())).cloned())
    }

    async fn timer(&self, saga: SagaId, name: &str, due: Timestamp) -> Result<Timestamp, StoreFault> {
        if self.spoilt_timers.load(Ordering::Relaxed) {
            return Err(StoreFault::NotDone("a timer cannot be read".to_owned()));
        }
        self.write(|data| *data.timers.entry((saga, name.to_owned())).or_insert(due)).await
    }

    async fn adopt(&self, sagas: &[SagaKey]) -> Result<Vec<SagaKey>, StoreFault> {
        self.write(|data| {
            let mut adopted = Vec::new();
            for key in sagas {
                let Some(saga) = data.sagas.get_mut(&key.id) else { continue };
                if saga.row.key == *key && saga.end.is_none() {
                    saga.row.key.epoch = AdoptionEpoch(key.epoch.0 + 1);
                    adopted.push(saga.row.key);
                }
            }
            adopted
        })
        .await
    }

    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<StoredSaga>, StoreFault> {
        let data = self.disk.lock();
        Ok(sagas.iter().filter_map(|id| data.sagas.get(id).cloned()).collect())
    }

    async fn unfinished(&self) -> Result<Vec<UnfinishedSaga>, StoreFault> {
        let data = self.disk.lock();
        let unfinished = data.sagas.values().filter(|saga| saga.end.is_none());
        Ok(unfinished
            .map(|saga| UnfinishedSaga {
                key: saga.row.key,
                kind: saga.row.kind.clone(),
                version: saga.row.version,
            })
            .collect())
    }
}

/// Those that are not there yet; none if one of the others says something else.
fn append(saga: &mut StoredSaga, events: &[NodeEvent]) -> Written {
    let known = |event: &NodeEvent| {
        let same = |other: &&NodeEvent| (other.node, &other.event) == (event.node, &event.event);
        saga.events.iter().find(same)
    };
    if events.iter().any(|event| known(event).is_some_and(|known| known.body != event.body)) {
        return Written::Contradicted;
    }
    let new: Vec<_> = events.iter().filter(|event| known(event).is_none()).cloned().collect();
    if new.is_empty() {
        return Written::Already;
    }
    saga.events.extend(new);
    Written::Now
}
