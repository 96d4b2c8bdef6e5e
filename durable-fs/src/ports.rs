//! The port: what a store needs of the directory it lives in. Blocking; callers choose their threads.

use crate::error::StorageError;
use camino::Utf8Path;
use std::{
    fmt,
    io::{self, IoSlice},
};

/// One mounted directory. Paths are relative to it and use `/`; the root itself is `""`.
///
/// The root need not exist: every operation then fails with "not found", until it appears. No operation makes the root.
pub trait Storage: Send + Sync + fmt::Debug {
    /// Makes a directory. Its entry is durable only after [`sync_directory`](Storage::sync_directory) of its parent.
    fn create_directory(&self, path: &Utf8Path) -> Result<(), StorageError>;

    /// Creates a file that must not exist yet, and opens it for writing from its start.
    fn create_new(&self, path: &Utf8Path) -> Result<Box<dyn WriteFile>, StorageError>;

    /// Opens a file for appending; makes an empty one if there is none.
    fn open_append(&self, path: &Utf8Path) -> Result<Box<dyn WriteFile>, StorageError>;

    /// Opens a file for reading. What is no regular file is refused at once ([`StorageError::is_not_a_file`]): opening a
    /// pipe could wait for ever, and a link could lead anywhere.
    fn open(&self, path: &Utf8Path) -> Result<Box<dyn ReadFile>, StorageError>;

    /// Creates a file that must not exist yet, whose bytes are written and read at any place.
    fn create_in_place(&self, path: &Utf8Path) -> Result<Box<dyn InPlaceFile>, StorageError>;

    /// Opens such a file. What is no regular file is refused as by [`open`](Storage::open).
    fn open_in_place(&self, path: &Utf8Path) -> Result<Box<dyn InPlaceFile>, StorageError>;

    /// Opens such a file to look at it only. On a real disk whatever would write is refused.
    fn look_in_place(&self, path: &Utf8Path) -> Result<Box<dyn InPlaceFile>, StorageError> {
        self.open_in_place(path)
    }

    /// Renames a file; replaces whatever has the new name. A file that is open stays readable under no name.
    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> Result<(), StorageError>;

    /// Makes the directory's entries durable: creations, renames into and out of it, removals.
    fn sync_directory(&self, path: &Utf8Path) -> Result<(), StorageError>;

    /// Removes a file.
    fn remove(&self, path: &Utf8Path) -> Result<(), StorageError>;

    /// The files of a directory (its directories are left out), sorted by name. Entries that vanish while it lists are left out.
    fn list(&self, path: &Utf8Path) -> Result<Vec<Entry>, StorageError>;

    /// The names in a directory that are no regular files (directories, links, pipes, …), sorted. They hold nothing that
    /// this port could read, but they can be in the way; [`rename`](Storage::rename) moves them like files.
    fn list_irregular(&self, path: &Utf8Path) -> Result<Vec<String>, StorageError>;

    /// Size and time of change of a file or a directory; links (but for the root's own) are not followed.
    fn metadata(&self, path: &Utf8Path) -> Result<FileMetadata, StorageError>;

    /// Which directory the root is, whatever path leads to it; `None` where there is no other path.
    fn identity(&self) -> Result<Option<RootIdentity>, StorageError> {
        Ok(None)
    }

    /// The space of the file system that the root is on.
    fn space(&self) -> Result<Space, StorageError>;

    /// Announces that a named durable step is done. A real disk does nothing; a test disk, or a wrapper that holds a
    /// process at a chosen point, may stop here. After an error the caller must do nothing more, as after a power cut.
    fn reached(&self, point: StepPoint) -> Result<(), StorageError> {
        let _ = point;
        Ok(())
    }
}

/// A file that is being written, in order, from its start or (when opened for appending) from its end.
pub trait WriteFile: Send + fmt::Debug {
    /// Writes all the bytes of all the slices.
    fn write_all_vectored(&mut self, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError>;

    /// Writes all the bytes.
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        self.write_all_vectored(&mut [IoSlice::new(bytes)])
    }

    /// Asks for the bytes of that range to be written to the medium soon, without waiting, so that a later
    /// [`sync`](WriteFile::sync) finds little to do. A hint: failures are not reported and nothing is promised.
    fn start_writeback(&mut self, offset: u64, length: u64) {
        let _ = (offset, length);
    }

    /// Makes bytes and metadata durable; the file's *name* is durable only after its directory was synced.
    fn sync(&mut self) -> Result<(), StorageError>;

    /// Sets mode 0444: nobody writes to it by mistake any more. Made durable by the next [`sync`](WriteFile::sync).
    fn set_read_only(&mut self) -> Result<(), StorageError>;

    /// Size and time of change, now.
    fn metadata(&self) -> Result<FileMetadata, StorageError>;
}

/// A file that is being read, at any position, by any number of threads.
pub trait ReadFile: Send + Sync + fmt::Debug {
    /// Reads at `offset` until the buffer is full or the file ends; tells how many bytes were read.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError>;

    /// Size and time of change, now.
    fn metadata(&self) -> Result<FileMetadata, StorageError>;

    /// Forgets cached bytes of the file, so that the next read comes from the medium: a check of stored bytes that
    /// reads memory checks nothing. A hint.
    fn drop_cache(&self) {}
}

/// A file that is written and read at any place, by any number of threads. What lies behind its end, and what was never
/// written, reads as zeros.
pub trait InPlaceFile: Send + Sync + fmt::Debug {
    /// Reads at `offset` until the buffer is full.
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError>;

    /// Reads so many bytes at `offset`, and puts them behind what is there.
    fn append_exact_at(&self, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), StorageError> {
        append_over_zeros(length, into, |bytes| self.read_exact_at(offset, bytes))
    }

    /// Where from `offset` on the first bytes are that may be something else than zeros. None if there are none up to the file's end.
    /// A hint: who cannot tell says that it is here, and who reads there finds out.
    fn next_data(&self, offset: u64) -> Option<u64> {
        Some(offset)
    }

    /// Writes all the bytes of all the slices, one after the other, from `offset` on. After an error any part of them may be
    /// there.
    fn write_all_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError>;

    /// The same of bytes that nobody reads soon: they are not kept in the system's cache, where that can be.
    fn write_through_at(&self, offset: u64, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError> {
        self.write_all_at(offset, slices)
    }

    /// Takes the space for the bytes from `offset` on, so that writing them finds it. The file is then at least so long.
    /// A file system that cannot promise space makes the file longer and promises nothing.
    fn reserve(&self, offset: u64, length: u64) -> Result<(), StorageError>;

    /// Makes the file at least so long. The bytes that it is longer by are zeros, and take no space before they are written: then there
    /// may be none.
    fn lengthen(&self, length: u64) -> Result<(), StorageError>;

    /// Makes durable what was written before the call, and with it the file's length. Unsynced writes may reach the medium
    /// in any order, torn, or not at all; after an error nobody knows what is there, and a later success says nothing about
    /// what this one was for.
    fn sync_data(&self) -> Result<(), StorageError>;

    /// Bytes up to its end.
    fn size(&self) -> Result<u64, StorageError>;

    /// Forgets cached bytes of the file that are not waiting to be written, so that the next read comes from the medium: after
    /// a sync that failed the cache has what the medium may never have got. A hint.
    fn drop_cache(&self) {}

    /// What a sync leaves that fails, for disks whose faults are made on purpose: any part of what was not synced reaches the medium, as
    /// the seed decides, and the rest never will, though it is read until the cache is dropped, and a later sync succeeds. On a real
    /// disk this does nothing: there a sync that fails does it.
    fn forget_unsynced(&self, seed: u64) {
        let _ = seed;
    }
}

/// Puts so many bytes behind what is there, and reads over them; none of them stays if that fails.
pub(crate) fn append_over_zeros(
    length: usize,
    into: &mut Vec<u8>,
    read: impl FnOnce(&mut [u8]) -> Result<(), StorageError>,
) -> Result<(), StorageError> {
    let start = into.len();
    into.resize(start + length, 0);
    let read = read(&mut into[start..]);
    if read.is_err() {
        into.truncate(start);
    }
    read
}

/// What a file says about its content without being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileMetadata {
    /// Bytes.
    pub size: u64,
    /// When the content last changed: nanoseconds since 1970 on the file system's clock.
    pub modified_ns: i64,
    /// Whether mode bits forbid writing.
    pub read_only: bool,
    /// Whether it is a regular file.
    pub is_file: bool,
}

/// Two paths with the same one lead to the same directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RootIdentity {
    /// The file system.
    pub device: u64,
    /// The directory on it.
    pub inode: u64,
}

/// One file of a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, without the directory.
    pub name: String,
    /// Its metadata.
    pub metadata: FileMetadata,
}

/// The space of a file system, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// What it can hold in all.
    pub capacity: u64,
    /// What may still be written.
    pub available: u64,
    /// Whether the file system takes no writes at all.
    pub read_only: bool,
}

/// A named place in a named procedure: `artifact/renamed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepPoint {
    /// The procedure.
    pub procedure: &'static str,
    /// The step that is done.
    pub step: &'static str,
}

impl fmt::Display for StepPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.procedure, self.step)
    }
}

/// The loop of a vectored write that the operating system may cut short at any byte.
pub(crate) fn write_fully(
    mut slices: &mut [IoSlice<'_>],
    mut write: impl FnMut(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<()> {
    // Empty slices first: a write of nothing returns 0, which would look like a full device.
    IoSlice::advance_slices(&mut slices, 0);
    while !slices.is_empty() {
        match write(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
