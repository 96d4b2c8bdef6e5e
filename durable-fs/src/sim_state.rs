//! What a simulated disk holds, with an exact account of what is synced and what is not: names, files, and the changes of
//! directories that are not durable yet. Owns that state and its rules; the port on it is `sim_disk`'s, when the power fails
//! is `sim_machine`'s, what is lost then is `sim_crash`'s.

use crate::{
    ports::FileMetadata,
    sim_crash::{Choices, left_in_place, remove_if_same, surviving_file, surviving_names},
};
use camino::{Utf8Path, Utf8PathBuf};
use std::{collections::BTreeMap, io};

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
    /// Writes in place since then, in order: where, and what.
    pub(crate) unsynced: Vec<(u64, Vec<u8>)>,
    /// Whether a sync has failed since: then programs may see what the medium never gets.
    pub(crate) has_forgotten: bool,
}

impl SimFile {
    /// A sync that fails, of a file that is written in place: some pieces reach the medium, and the rest counts as written, too.
    pub(crate) fn fail_sync(&mut self, seed: u64) {
        if !self.unsynced.is_empty() {
            self.synced = left_in_place(self, &mut Choices::new(seed));
            self.unsynced.clear();
            self.has_forgotten = true;
        }
    }

    /// What was not waiting to be written is read from the medium.
    pub(crate) fn drop_cache(&mut self) {
        if !std::mem::take(&mut self.has_forgotten) {
            return;
        }
        let length = self.live.data.len();
        // All that there is of it: what is not synced is in the list of writes.
        self.live = self.synced.clone();
        self.live.data.resize(length, 0);
        for (offset, bytes) in &self.unsynced {
            let start = usize::try_from(*offset).expect("it was written in memory");
            self.live.data[start..start + bytes.len()].copy_from_slice(bytes);
        }
    }

    pub(crate) fn sync(&mut self) {
        let in_place = std::mem::take(&mut self.unsynced);
        if in_place.is_empty() && self.has_forgotten {
            return;
        }
        if in_place.is_empty() {
            self.synced = self.live.clone();
            return;
        }
        // What was written in place is all that differs, in a file that may be large.
        self.synced.data.resize(self.live.data.len(), 0);
        for (offset, bytes) in in_place {
            let start = usize::try_from(offset).expect("it was written in memory");
            let written = start..start + bytes.len();
            self.synced.data[written.clone()].copy_from_slice(&self.live.data[written]);
        }
        self.synced.modified_ns = self.live.modified_ns;
        self.synced.read_only = self.live.read_only;
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) data: Vec<u8>,
    pub(crate) modified_ns: i64,
    pub(crate) read_only: bool,
}

impl Content {
    pub(crate) fn metadata(&self) -> FileMetadata {
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
    pub(crate) capacity: u64,
    pub(crate) unplugged: bool,
    clock_ns: i64,
    next_file: u64,
    pub(crate) live: Namespace,
    durable: Namespace,
    pub(crate) pending: Vec<NameChange>,
    pub(crate) files: BTreeMap<u64, SimFile>,
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

    pub(crate) fn used(&self) -> u64 {
        self.live
            .values()
            .filter_map(|node| match node {
                Node::File(number) => Some(self.files[number].live.data.len() as u64),
                Node::Directory => None,
            })
            .sum()
    }

    pub(crate) fn directory(&self, path: &Utf8Path) -> io::Result<()> {
        match self.live.get(path) {
            _ if path.as_str().is_empty() => Ok(()),
            Some(Node::Directory) => Ok(()),
            Some(Node::File(_)) => Err(io::ErrorKind::NotADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn file(&self, path: &Utf8Path) -> io::Result<u64> {
        match self.live.get(path) {
            Some(Node::File(number)) => Ok(*number),
            Some(Node::Directory) => Err(io::ErrorKind::IsADirectory.into()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    pub(crate) fn insert(&mut self, path: &Utf8Path, node: Node) -> io::Result<()> {
        self.directory(path.parent().unwrap_or(Utf8Path::new("")))?;
        if self.live.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        self.live.insert(path.to_owned(), node);
        self.pending.push(NameChange::Insert { path: path.to_owned(), node });
        Ok(())
    }

    pub(crate) fn create(&mut self, path: &Utf8Path) -> io::Result<u64> {
        let number = self.next_file;
        self.insert(path, Node::File(number))?;
        self.next_file += 1;
        let live = Content { modified_ns: self.tick(), ..Content::default() };
        self.files.insert(number, SimFile { live, ..SimFile::default() });
        Ok(number)
    }

    pub(crate) fn rename(&mut self, from: &Utf8Path, to: &Utf8Path) -> io::Result<()> {
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
    pub(crate) fn sync_directory(&mut self, directory: &Utf8Path) -> io::Result<()> {
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

    pub(crate) fn write(&mut self, number: u64, bytes: &[u8]) -> io::Result<()> {
        if self.used() + bytes.len() as u64 > self.capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let modified_ns = self.tick();
        let live = &mut self.files.get_mut(&number).ok_or(io::ErrorKind::NotFound)?.live;
        live.data.extend_from_slice(bytes);
        live.modified_ns = modified_ns;
        Ok(())
    }

    pub(crate) fn write_at(&mut self, number: u64, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.lengthen(number, offset + bytes.len() as u64)?;
        let modified_ns = self.tick();
        let file = self.files.get_mut(&number).ok_or(io::ErrorKind::NotFound)?;
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::FileTooLarge)?;
        file.live.data[start..start + bytes.len()].copy_from_slice(bytes);
        file.live.modified_ns = modified_ns;
        file.unsynced.push((offset, bytes.to_vec()));
        Ok(())
    }

    /// Makes a file at least so long.
    pub(crate) fn lengthen(&mut self, number: u64, length: u64) -> io::Result<()> {
        let (used, capacity) = (self.used(), self.capacity);
        let file = self.files.get_mut(&number).ok_or(io::ErrorKind::NotFound)?;
        let bytes = usize::try_from(length).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let added = bytes.saturating_sub(file.live.data.len()) as u64;
        if added == 0 {
            return Ok(());
        }
        if used + added > capacity {
            return Err(io::ErrorKind::StorageFull.into());
        }
        file.live.data.resize(bytes, 0);
        // A write in place of nothing: what there was stays, whether or not the length does.
        file.unsynced.push((length, Vec::new()));
        Ok(())
    }
}
