//! SECs, several at a time, each for a bounded number of sagas. steno keeps every saga that has ended for as long as its
//! SEC lives, 6 to 13 KB each; a SEC that panics takes its sagas with it. So a shard that has had its share is retired: it
//! gets no more sagas, and is dropped with its last one.

use crate::{log_store::LogStore, ports::SagaStore};
use ids::SagaId;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};
use steno::SecClient;

/// SECs that take new sagas, at a time. Four gave a quarter more throughput than one on two cores.
const SHARDS: usize = 4;
/// Sagas of one SEC in its life: at 13 KB each, what ended sagas keep stays under 4 × 512 × 13 KB = 27 MB.
const SAGAS_MAX: usize = 512;

/// One SEC and what it writes to.
#[derive(Debug)]
pub(crate) struct Shard {
    pub(crate) sec: SecClient,
    pub(crate) log: Arc<LogStore>,
    /// Every saga that it was ever given: steno refuses an id a second time.
    given: Mutex<BTreeSet<SagaId>>,
}

/// The shards that take new sagas.
#[derive(Debug)]
pub(crate) struct Shards {
    store: Arc<dyn SagaStore>,
    open: Mutex<Vec<Arc<Shard>>>,
}

impl Shards {
    pub(crate) fn new(store: Arc<dyn SagaStore>) -> Shards {
        Shards { store, open: Mutex::new(Vec::new()) }
    }

    /// A shard for a saga, which it has never had. Whoever executes the saga keeps it until the end.
    pub(crate) fn take(&self, id: SagaId) -> Arc<Shard> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|shard| shard.given_count() < SAGAS_MAX);
        // The emptiest: all fill alike.
        let fitting =
            open.iter().filter(|shard| !shard.has_had(id)).min_by_key(|shard| shard.given_count()).cloned();
        let shard = match fitting {
            Some(shard) if open.len() >= SHARDS => shard,
            _ => {
                let shard = Arc::new(Shard::new(&self.store));
                open.push(Arc::clone(&shard));
                shard
            }
        };
        shard.given.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        shard
    }

    /// A shard whose SEC has panicked gets no more sagas.
    pub(crate) fn retire(&self, broken: &Arc<Shard>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|shard| !Arc::ptr_eq(shard, broken));
    }
}

impl Shard {
    fn new(store: &Arc<dyn SagaStore>) -> Shard {
        let log = Arc::new(LogStore::new(Arc::clone(store)));
        let silent = slog::Logger::root(slog::Discard, slog::o!());
        Shard { sec: steno::sec(silent, Arc::clone(&log) as _), log, given: Mutex::new(BTreeSet::new()) }
    }

    fn has_had(&self, id: SagaId) -> bool {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }

    fn given_count(&self) -> usize {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}
