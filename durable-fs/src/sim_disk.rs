//! The port in memory, with an exact account of what is synced and what is not. Owns the state of one simulated disk;
//! when its power fails is `sim_machine`'s, what is lost then is `sim_crash`'s.

use crate::{
    error::{Operation, StorageError},
    ports::{Entry, FileMetadata, ReadFile, Space, StepPoint, Storage, WriteFile},
    sim_crash::{Choices, remove_if_same, surviving_file, surviving_names},
    sim_machine::SimMachine,
};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    collections::BTreeMap,
    io::{self, IoSlice},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A simulated time of change moves on by this much with every change, like a clock with a coarse tick.
const CLOCK_STEP_NS: i64 = 4_000_000;
/// The simulated clock starts here: a plausible present, so that code which formats it is exercised.
const CLOCK_START_NS: i64 = 1_700_000_000_000_000_000;

/// What each path of a disk stands for.
pub(crate) type Namespace = BTreeMap<Utf8PathBuf, Node>;

/// What a path stands for: a directory, or the file of that number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    Directory,
    File(u64),
}

/// A change of directories that is not durable yet.
#[derive(Clone, Debug)]
pub(crate) enum NameChange {
    Insert { path: Utf8PathBuf, node: Node },
    Remove { path: Utf8PathBuf, node: Node },
    Rename { from: Utf8PathBuf, to: Utf8PathBuf, node: Node },
}

/// One file: as programs see it, and as it was last synced.
#[derive(Clone, Debug, Default)]
pub(crate) struct SimFile {
    pub(crate) live: Content,
    pub(crate) synced: Content,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) data: Vec<u8>,
    pub(crate) modified_ns: i64,
    pub(crate) read_only: bool,
}

impl Content {
    fn metadata(&self) -> FileMetadata {
        FileMetadata {
            size: self.data.len() as u64,
            modified_ns: self.modified_ns,
            read_only: self.read_only,
            is_file: true,
        }
    }
}

#[derive(Debug)]
pub(crate) struct SimState {
    capacity: u64,
    unplugged: bool,
    clock_ns: i64,
    next_file: u64,
    live: Namespace,
    durable: Namespace,
    pending: Vec<NameChange>,
    files: BTreeMap<u64, SimFile>,
}

impl SimState {
    pub(crate) fn new(capacity: u64) -> SimState {
        SimState {
            capacity,
            unplugged: false,
            clock_ns: CLOCK_START_NS,
            next_file: 0,
            live: Namespace::new(),
            durable: Namespace::new(),
            pending: Vec::new(),
            files: BTreeMap::new(),
        }
    }

    /// Loses what was not synced, as the seed decides.
    pub(crate) fn crash(&mut self, seed: u64) {
        let mut choices = Choices::new(seed);
        self.durable = surviving_names(&self.durable, &self.pending, &mut choices);
        self.live = self.durable.clone();
        self.pending.clear();
        let numbers = self.live.values().filter_map(|node| match node {
            Node::File(number) => Some(*number),
            Node::Directory => None,
        });
        let left: BTreeMap<u64, SimFile> =
            numbers.map(|number| (number, surviving_file(&self.files[&number], &mut choices))).collect();
        self.files = left;
    }

    fn tick(&mut self) -> i64 {
        self.clock_ns += CLOCK_STEP_NS;
        self.clock_ns
    }

    fn used(&self) -> u64 {
        self.live
            .values()
            .filter_map(|node| match node {
                Node::File(number) => Some(self.files[number].live.data.len() as u64),
                Node::Directory => None,
            })
            .sum()
    }

    fn directory(&self, path: &Utf8Path) -> io::Result<()> {
        match self.live.get(path) {
            _ if path.as_str().is_empty() => Ok(()),
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn file(&self, path: &Utf8Path) -> io::Result<u64> {
        match self.live.get(path) {
            Some(Node::File(number)) => Ok(*number),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn insert(&mut self, path: &Utf8Path, node: Node) -> io::Result<()> {
        self.directory(path.parent().unwrap_or(Utf8Path::new("")))?;
        if self.live.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.live.insert(path.to_owned(), node);
        self.pending.push(NameChange::Insert { path: path.to_owned(), node });
        Ok(())
    }

    fn create(&mut self, path: &Utf8Path) -> io::Result<u64> {
        let number = self.next_file;
        self.insert(path, Node::File(number))?;
        self.next_file += 1;
        let live = Content { modified_ns: self.tick(), ..Content::default() };
        self.files.insert(number, SimFile { live, synced: Content::default() });
        Ok(number)
    }

    fn rename(&mut self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
        let inside = |path: &Utf8PathBuf| path.parent() == Some(from);
        let node = match self.live.get(from) {
            // Moving what is inside along is more than any caller needs.
            Some(Node::Directory) if self.live.keys().any(inside) => {
                return Err(io::ErrorKind::DirectoryNotEmpty.into());
            }
            Some(node) => *node,
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        self.directory(to.parent().unwrap_or(Utf8Path::new("")))?;
        if self.live.get(to) == Some(&Node::Directory) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        self.live.remove(from);
        self.live.insert(to.to_owned(), node);
        self.pending.push(NameChange::Rename { from: from.to_owned(), to: to.to_owned(), node });
        Ok(())
    }

    /// Makes the pending changes of that directory durable. A rename into it becomes durable at its new end only; a
    /// rename out of it at both, because the new name comes first.
    fn sync_directory(&mut self, directory: &Utf8Path) -> io::Result<()> {
        self.directory(directory)?;
        let of = |path: &Utf8Path| path.parent().unwrap_or(Utf8Path::new("")) == directory;
        let mut left = Vec::new();
        for change in std::mem::take(&mut self.pending) {
            match change {
                NameChange::Insert { path, node } if of(&path) => drop(self.durable.insert(path, node)),
                NameChange::Remove { path, node } if of(&path) => {
                    remove_if_same(&mut self.durable, &path, node);
                }
                NameChange::Rename { from, to, node } if of(&from) || of(&to) => {
                    self.durable.insert(to, node);
                    if of(&from) {
                        remove_if_same(&mut self.durable, &from, node);
                    } else {
                        left.push(NameChange::Remove { path: from, node });
                    }
                }
                other => left.push(other),
            }
        }
        self.pending = left;
        Ok(())
    }

    fn write(&mut self, number: u64, bytes: &[u8]) -> io::Result<()> {
        if self.used() + bytes.len() as u64 > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let modified_ns = self.tick();
        let live = &mut self.files.get_mut(&number).ok_or(io::ErrorKind::NotFound)?.live;
        live.data.extend_from_slice(bytes);
        live.modified_ns = modified_ns;
        Ok(())
    }
}

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
        self.with_file(Operation::Sync, |file| file.synced = file.live.clone())
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
