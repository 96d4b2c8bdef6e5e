//! Faults on command, over any other disk: the port's part of `testbed disk fail|slow|heal`. Decides nothing itself;
//! without a fault it costs one atomic load for each operation.

use crate::{
    error::{Operation, StorageError},
    ports::{Entry, FileMetadata, InPlaceFile, ReadFile, RootIdentity, Space, StepPoint, Storage, WriteFile},
};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    fmt,
    io::IoSlice,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
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
    /// Every operation that changes something fails with EROFS.
    pub read_only: bool,
    /// Opening anything fails with EMFILE, as in a process that has run out of descriptors.
    pub out_of_files: bool,
    /// Added to every operation.
    pub slow: Duration,
}

/// The switch of a [`FaultyDisk`]'s faults. Clones switch the same disk.
#[derive(Clone, Debug, Default)]
pub struct DiskFaults {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Whether any fault is set; all that an operation on a sound disk looks at.
    any: AtomicBool,
    state: Mutex<FaultState>,
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

    /// From now on nothing is written, as on a file system that was remounted after an error.
    pub fn read_only(&self) {
        self.change(|state| state.read_only = true);
    }

    /// From now on nothing can be opened for want of descriptors: the process's trouble, not the disk's.
    pub fn out_of_files(&self) {
        self.change(|state| state.out_of_files = true);
    }

    /// Takes every fault back; operations that are being slowed down go on at once.
    pub fn heal(&self) {
        self.change(|state| *state = FaultState::default());
    }

    /// What is in force.
    #[must_use]
    pub fn state(&self) -> FaultState {
        *self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, act: impl FnOnce(&mut FaultState)) {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        act(&mut state);
        self.shared.any.store(*state != FaultState::default(), Ordering::Release);
        self.shared.changed.notify_all();
    }

    /// Lets an operation through, late or not at all.
    fn pass(&self, operation: Operation, path: &Utf8Path) -> Result<(), StorageError> {
        if !self.shared.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let started = Instant::now();
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if state.failing {
                return Err(StorageError::new(operation, path, rustix::io::Errno::IO));
            }
            if state.full && needs_space(operation) {
                return Err(StorageError::new(operation, path, rustix::io::Errno::NOSPC));
            }
            if state.read_only && changes(operation) {
                return Err(StorageError::new(operation, path, rustix::io::Errno::ROFS));
            }
            if state.out_of_files && opens(operation) {
                return Err(StorageError::new(operation, path, rustix::io::Errno::MFILE));
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

/// What is called after each named step, on the thread that made it; may block, which holds the procedure there.
type StepHook = dyn Fn(StepPoint) + Send + Sync;

/// A disk whose faults [`DiskFaults`] commands.
#[derive(Clone)]
pub struct FaultyDisk<S> {
    inner: S,
    faults: DiskFaults,
    on_step: Option<Arc<StepHook>>,
}

impl<S: fmt::Debug> fmt::Debug for FaultyDisk<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyDisk").field("inner", &self.inner).field("faults", &self.faults).finish()
    }
}

impl<S: Storage> FaultyDisk<S> {
    /// `inner`, with the faults that `faults` commands.
    pub fn new(inner: S, faults: DiskFaults) -> FaultyDisk<S> {
        FaultyDisk { inner, faults, on_step: None }
    }

    /// Calls `hook` after each named step, on the thread that made it; while it blocks, the procedure is held there, so
    /// that a process can be killed at a chosen point.
    #[must_use]
    pub fn on_step(mut self, hook: impl Fn(StepPoint) + Send + Sync + 'static) -> FaultyDisk<S> {
        self.on_step = Some(Arc::new(hook));
        self
    }

    /// The disk below the faults.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn writer(&self, file: Box<dyn WriteFile>, path: &Utf8Path) -> Box<dyn WriteFile> {
        Box::new(FaultyFile { inner: file, faults: self.faults.clone(), path: path.to_owned() })
    }

    fn in_place(&self, file: Box<dyn InPlaceFile>, path: &Utf8Path) -> Box<dyn InPlaceFile> {
        Box::new(FaultyFile { inner: file, faults: self.faults.clone(), path: path.to_owned() })
    }
}

impl<S: Storage> Storage for FaultyDisk<S> {
    fn create_directory(&self, path: &Utf8Path) -> Result<(), StorageError> {
        self.faults.pass(Operation::CreateDirectory, path)?;
        self.inner.create_directory(path)
    }

    fn create_new(&self, path: &Utf8Path) -> Result<Box<dyn WriteFile>, StorageError> {
        self.faults.pass(Operation::Create, path)?;
        Ok(self.writer(self.inner.create_new(path)?, path))
    }

    fn open_append(&self, path: &Utf8Path) -> Result<Box<dyn WriteFile>, StorageError> {
        self.faults.pass(Operation::OpenAppend, path)?;
        Ok(self.writer(self.inner.open_append(path)?, path))
    }

    fn open(&self, path: &Utf8Path) -> Result<Box<dyn ReadFile>, StorageError> {
        self.faults.pass(Operation::Open, path)?;
        let inner = self.inner.open(path)?;
        Ok(Box::new(FaultyFile { inner, faults: self.faults.clone(), path: path.to_owned() }))
    }

    fn create_in_place(&self, path: &Utf8Path) -> Result<Box<dyn InPlaceFile>, StorageError> {
        self.faults.pass(Operation::Create, path)?;
        Ok(self.in_place(self.inner.create_in_place(path)?, path))
    }

    fn open_in_place(&self, path: &Utf8Path) -> Result<Box<dyn InPlaceFile>, StorageError> {
        self.faults.pass(Operation::Open, path)?;
        Ok(self.in_place(self.inner.open_in_place(path)?, path))
    }

    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> Result<(), StorageError> {
        self.faults.pass(Operation::Rename, from)?;
        self.inner.rename(from, to)
    }

    fn sync_directory(&self, path: &Utf8Path) -> Result<(), StorageError> {
        self.faults.pass(Operation::SyncDirectory, path)?;
        self.inner.sync_directory(path)
    }

    fn remove(&self, path: &Utf8Path) -> Result<(), StorageError> {
        self.faults.pass(Operation::Remove, path)?;
        self.inner.remove(path)
    }

    fn list(&self, path: &Utf8Path) -> Result<Vec<Entry>, StorageError> {
        self.faults.pass(Operation::List, path)?;
        self.inner.list(path)
    }

    fn list_irregular(&self, path: &Utf8Path) -> Result<Vec<String>, StorageError> {
        self.faults.pass(Operation::List, path)?;
        self.inner.list_irregular(path)
    }

    fn metadata(&self, path: &Utf8Path) -> Result<FileMetadata, StorageError> {
        self.faults.pass(Operation::Metadata, path)?;
        self.inner.metadata(path)
    }

    fn identity(&self) -> Result<Option<RootIdentity>, StorageError> {
        self.faults.pass(Operation::Metadata, Utf8Path::new(""))?;
        self.inner.identity()
    }

    fn space(&self) -> Result<Space, StorageError> {
        self.faults.pass(Operation::Space, Utf8Path::new(""))?;
        let space = self.inner.space()?;
        let FaultState { full, read_only, .. } = self.faults.state();
        let available = if full { 0 } else { space.available };
        Ok(Space { available, read_only: space.read_only || read_only, ..space })
    }

    fn reached(&self, point: StepPoint) -> Result<(), StorageError> {
        if let Some(hook) = &self.on_step {
            hook(point);
        }
        self.inner.reached(point)
    }
}

#[derive(Debug)]
struct FaultyFile<F: ?Sized> {
    faults: DiskFaults,
    path: Utf8PathBuf,
    inner: Box<F>,
}

impl WriteFile for FaultyFile<dyn WriteFile> {
    fn write_all_vectored(&mut self, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError> {
        self.faults.pass(Operation::Write, &self.path)?;
        self.inner.write_all_vectored(slices)
    }

    fn start_writeback(&mut self, offset: u64, length: u64) {
        self.inner.start_writeback(offset, length);
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.faults.pass(Operation::Sync, &self.path)?;
        self.inner.sync()
    }

    fn set_read_only(&mut self) -> Result<(), StorageError> {
        self.faults.pass(Operation::SetReadOnly, &self.path)?;
        self.inner.set_read_only()
    }

    fn metadata(&self) -> Result<FileMetadata, StorageError> {
        self.faults.pass(Operation::Metadata, &self.path)?;
        self.inner.metadata()
    }
}

impl ReadFile for FaultyFile<dyn ReadFile> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        self.faults.pass(Operation::Read, &self.path)?;
        self.inner.read_at(offset, buffer)
    }

    fn metadata(&self) -> Result<FileMetadata, StorageError> {
        self.faults.pass(Operation::Metadata, &self.path)?;
        self.inner.metadata()
    }

    fn drop_cache(&self) {
        self.inner.drop_cache();
    }
}

impl InPlaceFile for FaultyFile<dyn InPlaceFile> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.faults.pass(Operation::Read, &self.path)?;
        self.inner.read_exact_at(offset, buffer)
    }

    fn write_all_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError> {
        self.faults.pass(Operation::Write, &self.path)?;
        self.inner.write_all_at(offset, slices)
    }

    fn reserve(&self, offset: u64, length: u64) -> Result<(), StorageError> {
        self.faults.pass(Operation::Reserve, &self.path)?;
        self.inner.reserve(offset, length)
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        self.faults.pass(Operation::Sync, &self.path)?;
        self.inner.sync_data()
    }

    fn size(&self) -> Result<u64, StorageError> {
        self.faults.pass(Operation::Metadata, &self.path)?;
        self.inner.size()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SimMachine;
    use std::io;

    fn disk() -> (FaultyDisk<crate::SimDisk>, DiskFaults) {
        let faults = DiskFaults::new();
        (FaultyDisk::new(SimMachine::new().add_disk(1 << 20), faults.clone()), faults)
    }

    #[test]
    fn failing_reaches_files_that_are_open() {
        let (disk, faults) = disk();
        let mut written = disk.create_new("a".into()).unwrap();
        written.write_all(b"x").unwrap();
        let read = disk.open("a".into()).unwrap();
        faults.fail();
        assert!(written.write_all(b"y").is_err());
        assert!(written.sync().is_err());
        assert!(read.read_at(0, &mut [0]).is_err());
        assert_eq!(disk.metadata("a".into()).unwrap_err().source.raw_os_error(), Some(5));
        faults.heal();
        assert_eq!(read.read_at(0, &mut [0]).unwrap(), 1);
    }

    #[test]
    fn full_refuses_writes_and_lets_reads_and_removals_through() {
        let (disk, faults) = disk();
        disk.create_new("a".into()).unwrap().write_all(b"x").unwrap();
        faults.full();
        assert!(disk.create_new("b".into()).unwrap_err().is_no_space());
        assert_eq!(disk.space().unwrap().available, 0);
        assert_eq!(disk.open("a".into()).unwrap().read_at(0, &mut [0; 4]).unwrap(), 1);
        disk.remove("a".into()).unwrap();
    }

    #[test]
    fn a_step_holds_until_its_hook_returns() {
        let (held, holds) = std::sync::mpsc::channel();
        let (let_go, go) = std::sync::mpsc::channel::<()>();
        let go = Mutex::new(go);
        let disk =
            FaultyDisk::new(SimMachine::new().add_disk(1 << 20), DiskFaults::new()).on_step(move |point| {
                held.send(point).unwrap();
                go.lock().unwrap().recv().unwrap();
            });
        let storage: Arc<dyn Storage> = Arc::new(disk.clone());
        let writer =
            std::thread::spawn(move || crate::write_atomically(&storage, "test", "a".into(), b"x").unwrap());
        for step in crate::PublishStep::ALL {
            assert_eq!(holds.recv().unwrap(), step.of("test"));
            let named = disk.metadata("a".into()).is_ok();
            assert_eq!(named, step >= crate::PublishStep::Renamed, "held right after {step:?}");
            let_go.send(()).unwrap();
        }
        writer.join().unwrap();
    }

    #[test]
    fn healing_ends_a_slowed_operation_at_once() {
        let (disk, faults) = disk();
        faults.slow(Duration::from_secs(3600));
        let (started, starts) = std::sync::mpsc::channel();
        let slowed = std::thread::spawn(move || {
            started.send(()).unwrap();
            disk.list("".into()).map(drop).map_err(|error| error.source.kind())
        });
        starts.recv().unwrap();
        faults.heal();
        assert_eq!(slowed.join().unwrap(), Ok::<(), io::ErrorKind>(()));
    }
}
