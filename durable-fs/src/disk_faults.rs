//! The faults of one disk, and their switch: which operations are let through, when, and which fail. What a fault leaves on the disk is
//! [`FaultyDisk`](crate::FaultyDisk)'s. Without a fault it costs one atomic load for each operation.

use crate::error::{Operation, StorageError};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::io::Errno;
use std::{
    ops::Range,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// The faults that are in force on one disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultState {
    /// Every operation fails with EIO, also on files that are open.
    pub failing: bool,
    /// Every operation that needs space fails with ENOSPC.
    pub full: bool,
    /// So many operations that need space still find some.
    pub room: Option<u64>,
    /// Every operation that changes something fails with EROFS.
    pub read_only: bool,
    /// Opening anything fails with EMFILE, as in a process that has run out of descriptors.
    pub out_of_files: bool,
    /// The next operation of that kind fails with that, and nothing else does.
    pub next_fails: Option<(Operation, Errno)>,
    /// Added to every operation.
    pub slow: Duration,
    /// How many hold every operation back.
    pub holders: u32,
}

/// As long as this is there, no operation is begun on the disk; those that come wait.
#[derive(Debug)]
#[must_use = "the disk is held for as long as this is there"]
pub struct HeldDisk(DiskFaults);

impl Drop for HeldDisk {
    fn drop(&mut self) {
        self.0.change(|state| state.holders -= 1);
    }
}

/// The switch of a [`FaultyDisk`](crate::FaultyDisk)'s faults. Clones switch the same disk.
#[derive(Clone, Debug, Default)]
pub struct DiskFaults {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether any fault is set; all that an operation on a sound disk looks at.
    any: AtomicBool,
    state: Mutex<FaultState>,
    /// Parts of files that cannot be read.
    unreadable: Mutex<Vec<(Utf8PathBuf, Range<u64>)>>,
    /// Seeds of what is left of operations that fail: each has another one.
    seeds: AtomicU64,
    /// Wakes the operations that are being slowed down, so that healing takes effect at once.
    changed: Condvar,
}

impl DiskFaults {
    /// No faults.
    #[must_use]
    pub fn new() -> DiskFaults {
        DiskFaults::default()
    }

    /// From now on every operation fails with EIO.
    pub fn fail(&self) {
        self.change(|state| state.failing = true);
    }

    /// From now on every operation takes that much longer. Zero takes this fault back.
    pub fn slow(&self, added: Duration) {
        self.change(|state| state.slow = added);
    }

    /// From now on nothing finds space.
    pub fn full(&self) {
        self.change(|state| state.full = true);
    }

    /// So many operations that need space find some, and then nothing does.
    pub fn full_after(&self, operations: u64) {
        self.change(|state| state.room = Some(operations));
    }

    /// There is space again. Other faults stay.
    pub fn make_room(&self) {
        self.change(|state| (state.full, state.room) = (false, None));
    }

    /// From now on nothing is written, as on a file system that was remounted after an error.
    pub fn read_only(&self) {
        self.change(|state| state.read_only = true);
    }

    /// From now on nothing can be opened for want of descriptors: the process's trouble, not the disk's.
    pub fn out_of_files(&self) {
        self.change(|state| state.out_of_files = true);
    }

    /// The next sync of a file fails, and those after it succeed: as on Linux, where what it was for counts as written from then on.
    pub fn fail_next_sync(&self) {
        self.fail_next(Operation::Sync, Errno::IO);
    }

    /// The next read fails, and those after it succeed: a disk that was away for a moment, or a bad cable.
    pub fn fail_next_read(&self) {
        self.fail_next(Operation::Read, Errno::IO);
    }

    /// The next removal fails, and those after it succeed.
    pub fn fail_next_removal(&self) {
        self.fail_next(Operation::Remove, Errno::IO);
    }

    /// The next file that is opened is not there, and those after it are: a file system that was not mounted for a moment.
    pub fn hide_next_opened(&self) {
        self.fail_next(Operation::Open, Errno::NOENT);
    }

    fn fail_next(&self, operation: Operation, errno: Errno) {
        self.change(|state| state.next_fails = Some((operation, errno)));
    }

    /// From now on these bytes of a file cannot be read.
    pub fn make_unreadable(&self, path: &Utf8Path, bytes: Range<u64>) {
        self.unreadable().push((path.to_owned(), bytes));
        self.change(|_| {});
    }

    /// Holds back every operation that begins from now on, whatever is wrong with the disk.
    pub fn hold(&self) -> HeldDisk {
        self.change(|state| state.holders += 1);
        HeldDisk(self.clone())
    }

    /// Takes every fault back; operations that are being slowed down go on at once. Who holds the disk goes on holding it.
    pub fn heal(&self) {
        self.unreadable().clear();
        self.change(|state| *state = FaultState { holders: state.holders, ..FaultState::default() });
    }

    /// What is in force.
    #[must_use]
    pub fn state(&self) -> FaultState {
        *self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, act: impl FnOnce(&mut FaultState)) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut state);
        let any = *state != FaultState::default() || !self.unreadable().is_empty();
        self.shared.any.store(any, Ordering::Release);
        self.shared.changed.notify_all();
    }

    fn unreadable(&self) -> MutexGuard<'_, Vec<(Utf8PathBuf, Range<u64>)>> {
        self.shared.unreadable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn next_seed(&self) -> u64 {
        self.shared.seeds.fetch_add(1, Ordering::Relaxed)
    }

    /// Lets the reading of a part of a file through.
    pub(crate) fn pass_read(&self, path: &Utf8Path, bytes: &Range<u64>) -> Result<(), StorageError> {
        self.pass(Operation::Read, path)?;
        if !self.shared.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let is_hit = |(of, there): &(Utf8PathBuf, Range<u64>)| {
            of == path && there.start < bytes.end && bytes.start < there.end
        };
        if self.unreadable().iter().any(is_hit) {
            return Err(StorageError::new(Operation::Read, path, Errno::IO));
        }
        Ok(())
    }

    /// Lets an operation through, late or not at all.
    pub(crate) fn pass(&self, operation: Operation, path: &Utf8Path) -> Result<(), StorageError> {
        if !self.shared.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let started = Instant::now();
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.holders > 0 {
                state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if state.failing {
                return Err(StorageError::new(operation, path, Errno::IO));
            }
            if let Some((_, errno)) = state.next_fails.take_if(|(failing, _)| *failing == operation) {
                return Err(StorageError::new(operation, path, errno));
            }
            if let Some(room) = &mut state.room
                && needs_space(operation)
            {
                match room.checked_sub(1) {
                    Some(less) => *room = less,
                    None => state.full = true,
                }
            }
            if state.full && needs_space(operation) {
                return Err(StorageError::new(operation, path, Errno::NOSPC));
            }
            if state.read_only && changes(operation) {
                return Err(StorageError::new(operation, path, Errno::ROFS));
            }
            if state.out_of_files && opens(operation) {
                return Err(StorageError::new(operation, path, Errno::MFILE));
            }
            let Some(left) = state.slow.checked_sub(started.elapsed()).filter(|left| !left.is_zero()) else {
                return Ok(());
            };
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn needs_space(operation: Operation) -> bool {
    use Operation::{Create, CreateDirectory, OpenAppend, Reserve, Write};
    matches!(operation, Create | CreateDirectory | OpenAppend | Reserve | Write)
}

fn changes(operation: Operation) -> bool {
    use Operation::{Create, CreateDirectory, OpenAppend, Remove, Rename, Reserve, SetReadOnly, Write};
    matches!(
        operation,
        Create | CreateDirectory | OpenAppend | Remove | Rename | Reserve | SetReadOnly | Write
    )
}

fn opens(operation: Operation) -> bool {
    use Operation::{Create, List, Open, OpenAppend, SyncDirectory};
    matches!(operation, Create | List | Open | OpenAppend | SyncDirectory)
}
