//! Room on a dataset: what artifacts may still take, and what running writes have been promised.

use durable_fs::Space;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What one running write was promised, and what it has taken of it.
#[derive(Clone, Copy, Debug, Default)]
struct Promise {
    reserved: u64,
    written: u64,
}

impl Promise {
    /// What it takes of a quota: its bytes on disk, and those that are still to come.
    fn whole(self) -> u64 {
        self.reserved.max(self.written)
    }

    /// What the file system does not know of yet.
    fn to_come(self) -> u64 {
        self.reserved.saturating_sub(self.written)
    }
}

/// The promises of one dataset.
#[derive(Debug, Default)]
pub(crate) struct Reservations {
    promises: Mutex<Promises>,
}

#[derive(Debug, Default)]
struct Promises {
    next: u64,
    running: BTreeMap<u64, Promise>,
}

/// What bounds a dataset, as seen just now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) quota_bytes: Option<u64>,
    /// Bytes of the file system that are never given to artifacts: records and renames must go on when it is full.
    pub(crate) reserve_bytes: u64,
    /// Bytes of stored files: copies, trash, quarantine.
    pub(crate) stored_bytes: u64,
    /// The file system's.
    pub(crate) space: Space,
}

/// The right of a running write to some bytes; given back when dropped.
#[derive(Debug)]
pub(crate) struct Reservation {
    reservations: Arc<Reservations>,
    number: u64,
}

impl Reservations {
    /// Promises `needed` bytes, or says how many could be.
    pub(crate) fn reserve(self: &Arc<Self>, needed: u64, bounds: &Bounds) -> Result<Reservation, u64> {
        let mut promises = self.lock();
        let room = promises.room(bounds);
        // Of a write of unknown length only one byte is sure.
        if room < needed.max(1) {
            return Err(room);
        }
        let number = promises.next;
        promises.next += 1;
        promises.running.insert(number, Promise { reserved: needed, written: 0 });
        Ok(Reservation { reservations: Arc::clone(self), number })
    }

    /// Bytes that running writes have in `tmp` now.
    pub(crate) fn written(&self) -> u64 {
        self.lock().running.values().map(|promise| promise.written).sum()
    }

    fn lock(&self) -> MutexGuard<'_, Promises> {
        self.promises.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Promises {
    fn room(&self, bounds: &Bounds) -> u64 {
        let to_come: u64 = self.running.values().map(|promise| promise.to_come()).sum();
        let by_disk = bounds.space.available.saturating_sub(to_come).saturating_sub(bounds.reserve_bytes);
        let whole: u64 = self.running.values().map(|promise| promise.whole()).sum();
        let by_quota = bounds
            .quota_bytes
            .map_or(u64::MAX, |quota| quota.saturating_sub(bounds.stored_bytes).saturating_sub(whole));
        by_disk.min(by_quota)
    }
}

impl Reservation {
    /// Counts bytes that are about to be written. What was not promised must fit into what is left of the quota; the
    /// error says how much that is.
    pub(crate) fn take(&self, bytes: u64, bounds: impl FnOnce() -> Bounds) -> Result<(), u64> {
        let mut promises = self.reservations.lock();
        let promise = promises.running.get(&self.number).copied().unwrap_or_default();
        let beyond = (promise.written + bytes).saturating_sub(promise.whole());
        if beyond > 0 {
            let bounds = bounds();
            if bounds.quota_bytes.is_some() {
                let room = promises.room(&Bounds {
                    space: Space { capacity: u64::MAX, available: u64::MAX, read_only: false },
                    ..bounds
                });
                if room < beyond {
                    return Err(room);
                }
            }
        }
        if let Some(promise) = promises.running.get_mut(&self.number) {
            promise.written += bytes;
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.reservations.lock().running.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(quota: Option<u64>, stored: u64, available: u64) -> Bounds {
        Bounds {
            quota_bytes: quota,
            reserve_bytes: 10,
            stored_bytes: stored,
            space: Space { capacity: 1000, available, read_only: false },
        }
    }

    #[test]
    fn promises_add_up_and_are_given_back() {
        let reservations = Arc::new(Reservations::default());
        let first = reservations.reserve(60, &bounds(Some(100), 0, 1000)).unwrap();
        assert_eq!(reservations.reserve(41, &bounds(Some(100), 0, 1000)).unwrap_err(), 40);
        let second = reservations.reserve(40, &bounds(Some(100), 0, 1000)).unwrap();
        assert_eq!(reservations.reserve(0, &bounds(Some(100), 0, 1000)).unwrap_err(), 0);
        drop((first, second));
        reservations.reserve(100, &bounds(Some(100), 0, 1000)).unwrap();
    }

    #[test]
    fn the_reserve_is_kept_of_the_file_system_and_not_of_the_quota() {
        let reservations = Arc::new(Reservations::default());
        assert_eq!(reservations.reserve(101, &bounds(Some(100), 0, 1000)).unwrap_err(), 100);
        assert_eq!(reservations.reserve(41, &bounds(Some(100), 0, 50)).unwrap_err(), 40);
        drop(reservations.reserve(5, &bounds(Some(5), 0, 1000)).unwrap());
    }

    #[test]
    fn what_was_written_is_not_counted_twice_against_the_file_system() {
        let reservations = Arc::new(Reservations::default());
        let first = reservations.reserve(60, &bounds(None, 0, 110)).unwrap();
        first.take(60, || unreachable!("it was promised")).unwrap();
        assert_eq!(reservations.written(), 60);
        reservations.reserve(40, &bounds(None, 0, 50)).unwrap();
    }

    #[test]
    fn a_write_of_unknown_length_stops_at_the_quota() {
        let reservations = Arc::new(Reservations::default());
        let write = reservations.reserve(0, &bounds(Some(100), 50, 1000)).unwrap();
        write.take(50, || bounds(Some(100), 50, 1000)).unwrap();
        assert_eq!(write.take(1, || bounds(Some(100), 50, 1000)).unwrap_err(), 0);
    }
}
