//! Faults on command, over any other disk: the port's part of `testbed disk fail|slow|heal`. Decides nothing itself: its [`DiskFaults`]
//! say which operations fail.

use crate::{
    disk_faults::{DiskFaults, FaultState},
    error::{Operation, StorageError},
    ports::{Entry, FileMetadata, InPlaceFile, ReadFile, RootIdentity, Space, StepPoint, Storage, WriteFile},
};
use camino::{Utf8Path, Utf8PathBuf};
use std::{fmt, io::IoSlice, sync::Arc};

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

    fn look_in_place(&self, path: &Utf8Path) -> Result<Box<dyn InPlaceFile>, StorageError> {
        self.faults.pass(Operation::Open, path)?;
        Ok(self.in_place(self.inner.look_in_place(path)?, path))
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
        self.faults.pass_read(&self.path, &(offset..offset + buffer.len() as u64))?;
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

impl FaultyFile<dyn InPlaceFile> {
    /// A write that fails leaves any part of itself.
    fn write_a_part(&self, offset: u64, slices: &[IoSlice<'_>]) {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        // Whole quarters, of an operation that goes through or does not.
        let quarters = usize::try_from(self.faults.next_seed() % 5).expect("it is less than 5");
        let part = &bytes[..bytes.len() * quarters / 4];
        let _ = self.inner.write_all_at(offset, &mut [IoSlice::new(part)]);
    }
}

impl InPlaceFile for FaultyFile<dyn InPlaceFile> {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        self.faults.pass_read(&self.path, &(offset..offset + buffer.len() as u64))?;
        self.inner.read_exact_at(offset, buffer)
    }

    fn append_exact_at(&self, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), StorageError> {
        self.faults.pass_read(&self.path, &(offset..offset + length as u64))?;
        self.inner.append_exact_at(offset, length, into)
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        self.inner.next_data(offset)
    }

    fn write_all_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError> {
        if let Err(error) = self.faults.pass(Operation::Write, &self.path) {
            self.write_a_part(offset, slices);
            return Err(error);
        }
        self.inner.write_all_at(offset, slices)
    }

    fn write_through_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError> {
        if let Err(error) = self.faults.pass(Operation::Write, &self.path) {
            self.write_a_part(offset, slices);
            return Err(error);
        }
        self.inner.write_through_at(offset, slices)
    }

    fn reserve(&self, offset: u64, length: u64) -> Result<(), StorageError> {
        self.faults.pass(Operation::Reserve, &self.path)?;
        self.inner.reserve(offset, length)
    }

    fn lengthen(&self, length: u64) -> Result<(), StorageError> {
        self.faults.pass(Operation::Reserve, &self.path)?;
        self.inner.lengthen(length)
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        if let Err(error) = self.faults.pass(Operation::Sync, &self.path) {
            self.inner.forget_unsynced(self.faults.next_seed());
            return Err(error);
        }
        self.inner.sync_data()
    }

    fn drop_cache(&self) {
        self.inner.drop_cache();
    }

    fn forget_unsynced(&self, seed: u64) {
        self.inner.forget_unsynced(seed);
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
    use std::{io, sync::Mutex, time::Duration};

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
    fn a_disk_with_room_for_two_takes_two_and_then_none_until_there_is_room() {
        let (disk, faults) = disk();
        faults.full_after(2);
        let create = |name: &str| disk.create_directory(name.into());
        assert!(create("a").is_ok() && create("b").is_ok());
        assert!(create("c").is_err_and(|error| error.is_no_space()));
        assert!(create("d").is_err(), "it stays full");
        faults.make_room();
        assert!(create("e").is_ok());
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

    fn written(disk: &FaultyDisk<crate::SimDisk>) -> Box<dyn InPlaceFile> {
        let file = disk.create_in_place("f".into()).unwrap();
        disk.sync_directory("".into()).unwrap();
        file.write_all_at(0, &mut [IoSlice::new(&[1; 4096])]).unwrap();
        file.sync_data().unwrap();
        file
    }

    fn content(file: &dyn InPlaceFile) -> Vec<u8> {
        let mut bytes = vec![9; 4096];
        file.read_exact_at(0, &mut bytes).unwrap();
        bytes
    }

    /// Any pieces of it: none, all, or a mixture, over enough failures.
    #[test]
    fn what_a_failed_sync_was_for_is_seen_until_the_cache_is_dropped_and_no_later_sync_brings_it_back() {
        let mut left = std::collections::BTreeSet::new();
        let faults = DiskFaults::new();
        for round in 0..60 {
            let machine = SimMachine::new();
            let disk = FaultyDisk::new(machine.add_disk(1 << 20), faults.clone());
            let mut file = written(&disk);
            file.write_all_at(0, &mut [IoSlice::new(&[2; 4096])]).unwrap();
            faults.fail_next_sync();
            assert_eq!(file.sync_data().unwrap_err().source.raw_os_error(), Some(5));
            file.sync_data().unwrap();
            assert_eq!(content(&*file), [2; 4096], "it is in the cache");
            if round % 2 == 0 {
                file.drop_cache();
            } else {
                machine.crash(round);
                file = disk.open_in_place("f".into()).unwrap();
            }
            let found = content(&*file);
            left.insert(found.iter().filter(|byte| **byte == 2).count());
            assert!(found.iter().all(|byte| [1, 2].contains(byte)));
        }
        assert!(left.contains(&0) && left.contains(&4096) && left.len() > 5, "{left:?}");
    }

    #[test]
    fn what_is_written_behind_a_failed_sync_is_durable_with_the_next_one() {
        for seed in 0..20 {
            let machine = SimMachine::new();
            let faults = DiskFaults::new();
            let disk = FaultyDisk::new(machine.add_disk(1 << 20), faults.clone());
            let file = written(&disk);
            file.write_all_at(0, &mut [IoSlice::new(&[2; 4096])]).unwrap();
            faults.fail_next_sync();
            file.sync_data().unwrap_err();
            file.write_all_at(512, &mut [IoSlice::new(&[3; 512])]).unwrap();
            file.sync_data().unwrap();
            machine.crash(seed);
            let found = content(&*disk.open_in_place("f".into()).unwrap());
            assert_eq!(found[512..1024], [3; 512]);
        }
    }

    #[test]
    fn a_write_that_fails_leaves_any_part_of_itself() {
        let (disk, faults) = disk();
        let file = written(&disk);
        faults.fail();
        let mut left = std::collections::BTreeSet::new();
        for byte in 2..12 {
            file.write_all_at(0, &mut [IoSlice::new(&[byte; 4096])]).unwrap_err();
            faults.heal();
            left.insert(content(&*file).iter().filter(|there| **there == byte).count());
            faults.fail();
        }
        assert_eq!(left, [0, 1024, 2048, 3072, 4096].into());
    }

    #[test]
    fn what_is_unreadable_fails_alone_and_is_read_again_when_it_is_healed() {
        let (disk, faults) = disk();
        let file = written(&disk);
        faults.make_unreadable("f".into(), 512..1024);
        let read = |offset| file.read_exact_at(offset, &mut [0; 256]);
        assert!(read(0).is_ok() && read(256).is_ok() && read(1024).is_ok());
        for offset in [400, 512, 1000] {
            assert_eq!(read(offset).unwrap_err().source.raw_os_error(), Some(5));
        }
        faults.heal();
        assert!(read(512).is_ok());
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
    fn who_holds_the_disk_keeps_everybody_waiting_also_when_it_is_healed() {
        let (disk, faults) = disk();
        let file = written(&disk);
        let (first, second) = (faults.hold(), faults.hold());
        let (ended, ends) = std::sync::mpsc::channel();
        let writer = std::thread::spawn(move || {
            file.write_all_at(0, &mut [IoSlice::new(&[2; 4096])]).unwrap();
            ended.send(()).unwrap();
            content(&*file)
        });
        faults.heal();
        drop(first);
        // What was not let through is not there, however long one waits: so a short time is enough.
        assert!(ends.recv_timeout(Duration::from_millis(50)).is_err());
        let below = disk.inner().open("f".into()).unwrap();
        let mut byte = [0];
        below.read_at(0, &mut byte).unwrap();
        assert_eq!(byte, [1]);
        faults.fail();
        faults.heal();
        drop(second);
        assert_eq!(writer.join().unwrap(), [2; 4096]);
        assert_eq!(faults.state(), FaultState::default());
    }

    #[test]
    fn bytes_that_are_appended_are_read_like_others() {
        let (disk, faults) = disk();
        let file = written(&disk);
        let mut read = vec![7];
        file.append_exact_at(8, 4, &mut read).unwrap();
        assert_eq!(read, [7, 1, 1, 1, 1]);
        faults.make_unreadable("f".into(), 10..11);
        assert!(file.append_exact_at(8, 4, &mut read).is_err() && disk.look_in_place("f".into()).is_ok());
        faults.fail();
        assert!(disk.look_in_place("f".into()).is_err() && file.append_exact_at(0, 4, &mut read).is_err());
        assert_eq!(read.len(), 5);
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
