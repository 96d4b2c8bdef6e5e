//! Where the sagas of a run are durable: in memory, or in any store of sagas there is.

use async_trait::async_trait;
use ids::SagaId;
use jiff::Timestamp;
use nexus_saga_recovery::{SagaKey, UnfinishedSaga};
use nexus_sagas::{
    Attention, Created, EndState, Mark, NewSaga, NodeEvent, SagaStore, StoreFault, StoredSaga, Written,
    testing::Disk,
};
use serde_json::Value;
use std::{fmt, future::Future, sync::Arc};
use tokio::runtime::Handle;

/// A kind of durability.
pub trait Backend: Send + Sync {
    /// For people.
    fn name(&self) -> &str;

    /// That of one run.
    fn session(&self) -> Box<dyn Session>;

    /// Whether everything happens within the run's own runtime: then its time is virtual, and a run that hangs is found
    /// at once.
    fn is_within_the_run(&self) -> bool;

    /// How many runs at a time are worth while.
    fn runs_at_a_time(&self) -> usize;
}

/// The durability of one run. Other runs may share the place: a saga's id is the run's own.
#[async_trait]
pub trait Session: Send + Sync {
    /// The store as coordinator `number` has it, from 1. It is asked for anew in each life of a coordinator.
    fn store(&self, number: u32) -> Arc<dyn SagaStore>;
}

/// In memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory;

impl Backend for Memory {
    fn name(&self) -> &str {
        "memory"
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(Disk::new())
    }

    fn is_within_the_run(&self) -> bool {
        true
    }

    fn runs_at_a_time(&self) -> usize {
        std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
    }
}

#[async_trait]
impl Session for Disk {
    fn store(&self, _: u32) -> Arc<dyn SagaStore> {
        Disk::store(self)
    }
}

type StoreOf = Arc<dyn Fn(u32) -> Arc<dyn SagaStore> + Send + Sync>;

/// A real store. Its calls run on a runtime of its own, as those to a database run in another process: a run that ends,
/// or a coordinator that dies, takes nothing of it along.
#[derive(Clone)]
pub struct Real {
    name: String,
    runtime: Handle,
    store: StoreOf,
    runs_at_a_time: usize,
}

impl fmt::Debug for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Real")
            .field("name", &self.name)
            .field("runs_at_a_time", &self.runs_at_a_time)
            .finish_non_exhaustive()
    }
}

impl Real {
    /// A store over something that lives on `runtime`, which has threads of its own. `store` is told the coordinator's
    /// number, from 1. Runs at a time: stores with group commit want several.
    pub fn new(
        name: impl Into<String>,
        runtime: Handle,
        runs_at_a_time: usize,
        store: impl Fn(u32) -> Arc<dyn SagaStore> + Send + Sync + 'static,
    ) -> Real {
        Real { name: name.into(), runtime, store: Arc::new(store), runs_at_a_time }
    }
}

impl Backend for Real {
    fn name(&self) -> &str {
        &self.name
    }

    fn session(&self) -> Box<dyn Session> {
        Box::new(self.clone())
    }

    fn is_within_the_run(&self) -> bool {
        false
    }

    fn runs_at_a_time(&self) -> usize {
        self.runs_at_a_time
    }
}

#[async_trait]
impl Session for Real {
    fn store(&self, number: u32) -> Arc<dyn SagaStore> {
        Arc::new(Elsewhere { runtime: self.runtime.clone(), store: (self.store)(number) })
    }
}

/// A store whose calls run on another runtime.
#[derive(Debug)]
struct Elsewhere {
    runtime: Handle,
    store: Arc<dyn SagaStore>,
}

impl Elsewhere {
    async fn call<T, Calling>(
        &self,
        call: impl FnOnce(Arc<dyn SagaStore>) -> Calling,
    ) -> Result<T, StoreFault>
    where
        T: Send + 'static,
        Calling: Future<Output = Result<T, StoreFault>> + Send + 'static,
    {
        let answer = self.runtime.spawn(call(Arc::clone(&self.store))).await;
        answer.unwrap_or_else(|error| Err(StoreFault::Unknown(error.to_string())))
    }
}

#[async_trait]
impl SagaStore for Elsewhere {
    async fn create(&self, saga: &NewSaga) -> Result<Created, StoreFault> {
        let saga = saga.clone();
        self.call(|store| async move { store.create(&saga).await }).await
    }

    async fn append(&self, key: SagaKey, events: &[NodeEvent]) -> Result<Written, StoreFault> {
        let events = events.to_vec();
        self.call(|store| async move { store.append(key, &events).await }).await
    }

    async fn end(&self, key: SagaKey, end: &EndState, last: &[NodeEvent]) -> Result<Written, StoreFault> {
        let (end, last) = (end.clone(), last.to_vec());
        self.call(|store| async move { store.end(key, &end, &last).await }).await
    }

    async fn mark(&self, key: SagaKey, mark: &Mark) -> Result<Written, StoreFault> {
        let mark = mark.clone();
        self.call(|store| async move { store.mark(key, &mark).await }).await
    }

    async fn set_attention(
        &self,
        key: SagaKey,
        attention: Option<&Attention>,
    ) -> Result<Written, StoreFault> {
        let attention = attention.cloned();
        self.call(|store| async move { store.set_attention(key, attention.as_ref()).await }).await
    }

    async fn put_signal(&self, saga: SagaId, name: &str, value: &Value) -> Result<(), StoreFault> {
        let (name, value) = (name.to_owned(), value.clone());
        self.call(|store| async move { store.put_signal(saga, &name, &value).await }).await
    }

    async fn signal(&self, saga: SagaId, name: &str) -> Result<Option<Value>, StoreFault> {
        let name = name.to_owned();
        self.call(|store| async move { store.signal(saga, &name).await }).await
    }

    async fn timer(&self, saga: SagaId, name: &str, due: Timestamp) -> Result<Timestamp, StoreFault> {
        let name = name.to_owned();
        self.call(|store| async move { store.timer(saga, &name, due).await }).await
    }

    async fn adopt(&self, sagas: &[SagaKey]) -> Result<Vec<SagaKey>, StoreFault> {
        let sagas = sagas.to_vec();
        self.call(|store| async move { store.adopt(&sagas).await }).await
    }

    async fn load(&self, sagas: &[SagaId]) -> Result<Vec<StoredSaga>, StoreFault> {
        let sagas = sagas.to_vec();
        self.call(|store| async move { store.load(&sagas).await }).await
    }

    async fn unfinished(&self) -> Result<Vec<UnfinishedSaga>, StoreFault> {
        self.call(|store| async move { store.unfinished().await }).await
    }
}
