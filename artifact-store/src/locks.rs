//! Who may touch which file of a dataset: publishing, trashing, restoring and setting aside one artifact exclude each
//! other; admission excludes them all. Held by blocking threads around a few disk operations, never by a task.

use ids::ArtifactHash;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Artifacts share this many locks by their first bits: bounded, and two that share one only wait for a rename.
const SHARDS: usize = 32;

/// The locks of one dataset.
#[derive(Debug, Default)]
pub(crate) struct HashLocks {
    all: RwLock<()>,
    shards: [Mutex<()>; SHARDS],
}

/// The lock of one artifact. A thread holds one of these at a time.
#[derive(Debug)]
pub(crate) struct HashGuard<'a> {
    _shard: MutexGuard<'a, ()>,
    _all: RwLockReadGuard<'a, ()>,
}

impl HashLocks {
    /// Waits for the lock of `hash`.
    pub(crate) fn hold(&self, hash: &ArtifactHash) -> HashGuard<'_> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        let shard = usize::from(hash.0[0]) % SHARDS;
        let shard = self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner);
        HashGuard { _shard: shard, _all: all }
    }

    /// Waits until nobody holds the lock of any artifact.
    pub(crate) fn hold_all(&self) -> RwLockWriteGuard<'_, ()> {
        self.all.write().unwrap_or_else(PoisonError::into_inner)
    }
}
