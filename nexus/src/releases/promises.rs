//! Room that is promised to uploads and not written yet.
//!
//! What is written shows in the directory's own figures, so a promise shrinks with every byte that is kept. An upload
//! that declares its length gets all of it at once; one that doesn't gets more with every piece. The lock is held
//! while the room is looked at, and a byte leaves its promise after it was written: so a byte is for a moment counted
//! twice, never not at all, and two uploads are never promised the same room.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
};

/// What every upload that runs may still write.
#[derive(Clone, Debug, Default)]
pub(super) struct Promises {
    ledger: Arc<Mutex<Ledger>>,
}

#[derive(Debug, Default)]
struct Ledger {
    opened: u64,
    /// Bytes promised and not written, by promise.
    outstanding: BTreeMap<u64, u64>,
}

impl Ledger {
    fn total(&self) -> u64 {
        self.outstanding.values().sum()
    }
}

/// One upload's promise. It ends when its last handle is dropped.
#[derive(Clone, Debug)]
pub(super) struct Promise {
    entry: Arc<Entry>,
}

#[derive(Debug)]
struct Entry {
    promises: Promises,
    number: u64,
}

/// Why no more is promised.
#[derive(Debug)]
pub(super) struct Short {
    /// Bytes that may still be written to the directory.
    pub(super) available: u64,
    /// Those of them that are promised.
    pub(super) promised: u64,
}

impl Promises {
    /// A promise of nothing yet.
    pub(super) fn open(&self) -> Promise {
        let mut ledger = self.lock();
        ledger.opened += 1;
        let number = ledger.opened;
        ledger.outstanding.insert(number, 0);
        Promise { entry: Arc::new(Entry { promises: self.clone(), number }) }
    }

    #[cfg(test)]
    pub(super) fn outstanding(&self) -> u64 {
        self.lock().total()
    }

    fn lock(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("nothing panics while it holds numbers")
    }
}

impl Promise {
    /// Promises `more` bytes if there is room for them beside everything that is promised; `available` tells the room.
    pub(super) fn grow<E>(
        &self,
        more: u64,
        available: impl FnOnce() -> Result<u64, E>,
    ) -> Result<Result<(), Short>, E> {
        let mut ledger = self.entry.promises.lock();
        let available = available()?;
        let promised = ledger.total();
        if more > available.saturating_sub(promised) {
            return Ok(Err(Short { available, promised }));
        }
        *ledger.outstanding.entry(self.entry.number).or_default() += more;
        Ok(Ok(()))
    }

    /// These bytes are written: the directory shows them from now on.
    pub(super) fn keep(&self, bytes: u64) {
        if let Some(outstanding) = self.entry.promises.lock().outstanding.get_mut(&self.entry.number) {
            *outstanding = outstanding.saturating_sub(bytes);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.promises.lock().outstanding.remove(&self.number);
    }
}
