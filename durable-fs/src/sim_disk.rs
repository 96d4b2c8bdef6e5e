//! The port in memory. Owns the mapping of the port's operations onto the state of one simulated disk, which is
//! `sim_state`'s; when its power fails is `sim_machine`'s.

use crate::{
    error::{Operation, StorageError},
    ports::{Entry, FileMetadata, InPlaceFile, ReadFile, Space, StepPoint, Storage, WriteFile},
    sim_machine::SimMachine,
    sim_state::{Content, NameChange, Node, SimFile, SimState},
};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// What it says about where its bytes are, it says of so many at a time.
const PAGE: u64 = 4_096;

/// A disk in memory that belongs to a [`SimMachine`].
#[derive(Clone, Debug)]
pub struct SimDisk {
    machine: SimMachine,
    state: Arc<Mutex<SimState>>,
}

impl SimDisk {
    pub(crate) fn new(machine: SimMachine, state: Arc<Mutex<SimState>>) -> SimDisk {
        SimDisk { machine, state }
    }

    /// Takes the disk out: its root is not there any more. What it holds stays on it.
    pub fn unplug(&self) {
        self.state().unplugged = true;
    }

    /// Puts the disk back in.
    pub fn plug_in(&self) {
        self.state().unplugged = false;
    }

    /// Changes how many bytes it can hold.
    pub fn set_capacity(&self, capacity: u64) {
        self.state().capacity = capacity;
    }

    /// Flips the lowest bit of one stored byte and leaves size and time of change as they were, as a decaying medium does.
    pub fn flip_bit(&self, path: &Utf8Path, offset: u64) -> Result<(), StorageError> {
        let mut state = self.state();
        let flip = |content: &mut Content| {
            let byte = usize::try_from(offset).ok().and_then(|offset| content.data.get_mut(offset));
            byte.map(|byte| *byte ^= 1).ok_or(io::ErrorKind::UnexpectedEof)
        };
        let result = state.file(path).and_then(|number| {
            let file = state.files.get_mut(&number).ok_or(io::ErrorKind::NotFound)?;
            flip(&mut file.live)?;
            // Bytes that were never synced have no place on the medium that could decay.
            let _ = flip(&mut file.synced);
            Ok(())
        });
        result.map_err(|source| StorageError::new(Operation::Write, path, source))
    }

    fn state(&self) -> MutexGuard<'_, SimState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs one operation, if there is power and the disk is plugged in.
    fn attempt<T>(
        &self,
        life: u64,
        operation: Operation,
        path: &Utf8Path,
        act: impl FnOnce(&mut SimState) -> io::Result<T>,
    ) -> Result<T, StorageError> {
        let changes = !matches!(
            operation,
            Operation::Open | Operation::Read | Operation::List | Operation::Metadata | Operation::Space
        );
        let _power = self.machine.pass(life, changes, operation, path)?;
        let mut state = self.state();
        if state.unplugged {
            return Err(StorageError::new(operation, path, io::ErrorKind::NotFound));
        }
        act(&mut state).map_err(|source| StorageError::new(operation, path, source))
    }

    fn now<T>(
        &self,
        operation: Operation,
        path: &Utf8Path,
        act: impl FnOnce(&mut SimState) -> io::Result<T>,
    ) -> Result<T, StorageError> {
        self.attempt(self.machine.life(), operation, path, act)
    }

    fn handle(&self, number: u64, path: &Utf8Path) -> SimHandle {
        SimHandle { disk: self.clone(), life: self.machine.life(), number, path: path.to_owned() }
    }
}

impl Storage for SimDisk {
    fn create_directory(&self, path: &Utf8Path) -> Result<(), StorageError> {
        self.now(Operation::CreateDirectory, path, |state| state.insert(path, Node::Directory))
    }

    fn create_new(&self, path: &Utf8Path) -> Result<Box<dyn WriteFile>, StorageError> {
        let number = self.now(Operation::Create, path, |state| state.create(path))?;
        Ok(Box::new(self.handle(number, path)))
    }

    fn open_append(&self, path: &Utf8Path) -> Result<Box<dyn WriteFile>, StorageError> {
        let number = self.now(Operation::OpenAppend, path, |state| match state.file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => state.create(path),
            other => other,
        })?;
        Ok(Box::new(self.handle(number, path)))
    }

    fn open(&self, path: &Utf8Path) -> Result<Box<dyn ReadFile>, StorageError> {
        let number = self.now(Operation::Open, path, |state| state.file(path))?;
        Ok(Box::new(self.handle(number, path)))
    }

    fn create_in_place(&self, path: &Utf8Path) -> Result<Box<dyn InPlaceFile>, StorageError> {
        let number = self.now(Operation::Create, path, |state| state.create(path))?;
        Ok(Box::new(self.handle(number, path)))
    }

    fn open_in_place(&self, path: &Utf8Path) -> Result<Box<dyn InPlaceFile>, StorageError> {
        let number = self.now(Operation::Open, path, |state| state.file(path))?;
        Ok(Box::new(self.handle(number, path)))
    }

    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> Result<(), StorageError> {
        self.now(Operation::Rename, from, |state| state.rename(from, to))
    }

    fn sync_directory(&self, path: &Utf8Path) -> Result<(), StorageError> {
        self.now(Operation::SyncDirectory, path, |state| state.sync_directory(path))
    }

    fn remove(&self, path: &Utf8Path) -> Result<(), StorageError> {
        self.now(Operation::Remove, path, |state| {
            let node = Node::File(state.file(path)?);
            state.live.remove(path);
            state.pending.push(NameChange::Remove { path: path.to_owned(), node });
            Ok(())
        })
    }

    fn list(&self, path: &Utf8Path) -> Result<Vec<Entry>, StorageError> {
        self.now(Operation::List, path, |state| {
            state.directory(path)?;
            let inside = state.live.iter().filter(|(entry, _)| entry.parent() == Some(path));
            let files = inside.filter_map(|(entry, node)| match node {
                Node::File(number) => {
                    let name = entry.file_name().unwrap_or_default().to_owned();
                    Some(Entry { name, metadata: state.files[number].live.metadata() })
                }
                Node::Directory => None,
            });
            Ok(files.collect())
        })
    }

    fn list_irregular(&self, path: &Utf8Path) -> Result<Vec<String>, StorageError> {
        self.now(Operation::List, path, |state| {
            state.directory(path)?;
            let inside = state.live.iter().filter(|(entry, node)| {
                **node == Node::Directory && !entry.as_str().is_empty() && entry.parent() == Some(path)
            });
            Ok(inside.filter_map(|(entry, _)| entry.file_name().map(str::to_owned)).collect())
        })
    }

    fn metadata(&self, path: &Utf8Path) -> Result<FileMetadata, StorageError> {
        self.now(Operation::Metadata, path, |state| match state.directory(path) {
            Ok(()) => Ok(FileMetadata { is_file: false, ..Content::default().metadata() }),
            Err(_) => Ok(state.files[&state.file(path)?].live.metadata()),
        })
    }

    fn space(&self) -> Result<Space, StorageError> {
        self.now(Operation::Space, Utf8Path::new(""), |state| {
            let available = state.capacity.saturating_sub(state.used());
            Ok(Space { capacity: state.capacity, available, read_only: false })
        })
    }

    fn reached(&self, point: StepPoint) -> Result<(), StorageError> {
        self.machine.step(point)
    }
}

/// An open file of a simulated disk.
#[derive(Debug)]
struct SimHandle {
    disk: SimDisk,
    life: u64,
    number: u64,
    path: Utf8PathBuf,
}

impl SimHandle {
    fn attempt<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut SimState) -> io::Result<T>,
    ) -> Result<T, StorageError> {
        self.disk.attempt(self.life, operation, &self.path, act)
    }

    fn with_file<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut SimFile) -> T,
    ) -> Result<T, StorageError> {
        self.attempt(operation, |state| {
            Ok(act(state.files.get_mut(&self.number).ok_or(io::ErrorKind::NotFound)?))
        })
    }
}

impl WriteFile for SimHandle {
    fn write_all_vectored(&mut self, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.attempt(Operation::Write, |state| state.write(self.number, &bytes))
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        self.with_file(Operation::Sync, SimFile::sync)
    }

    fn set_read_only(&mut self) -> Result<(), StorageError> {
        self.with_file(Operation::SetReadOnly, |file| file.live.read_only = true)
    }

    fn metadata(&self) -> Result<FileMetadata, StorageError> {
        self.with_file(Operation::Metadata, |file| file.live.metadata())
    }
}

impl ReadFile for SimHandle {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        self.with_file(Operation::Read, |file| {
            let data = &file.live.data;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(data.len());
            let length = buffer.len().min(data.len() - start);
            buffer[..length].copy_from_slice(&data[start..start + length]);
            length
        })
    }

    fn metadata(&self) -> Result<FileMetadata, StorageError> {
        self.with_file(Operation::Metadata, |file| file.live.metadata())
    }
}

impl InPlaceFile for SimHandle {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let read = self.read_at(offset, buffer)?;
        buffer[read..].fill(0);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        let found = self.with_file(Operation::Read, |file| {
            let from = usize::try_from(offset).unwrap_or(usize::MAX).min(file.live.data.len());
            let there = file.live.data[from..].iter().position(|byte| *byte != 0);
            // As real ones do, it tells of pages.
            there.map(|at| offset.max((offset + at as u64) / PAGE * PAGE))
        });
        found.unwrap_or(Some(offset))
    }

    fn write_all_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError> {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.attempt(Operation::Write, |state| state.write_at(self.number, offset, &bytes))
    }

    fn reserve(&self, offset: u64, length: u64) -> Result<(), StorageError> {
        self.attempt(Operation::Reserve, |state| state.lengthen(self.number, offset + length))
    }

    fn lengthen(&self, length: u64) -> Result<(), StorageError> {
        self.attempt(Operation::Reserve, |state| state.lengthen(self.number, length))
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        self.with_file(Operation::Sync, SimFile::sync)
    }

    fn drop_cache(&self) {
        // Without power there is no cache.
        let _ = self.with_file(Operation::Read, SimFile::drop_cache);
    }

    fn forget_unsynced(&self, seed: u64) {
        let _ = self.with_file(Operation::Sync, |file| file.fail_sync(seed));
    }

    fn size(&self) -> Result<u64, StorageError> {
        self.with_file(Operation::Metadata, |file| file.live.data.len() as u64)
    }
}
