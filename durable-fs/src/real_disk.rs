//! The port on a directory of the host. Every operation starts from the root's path, not from a descriptor of it, so
//! that a directory that was not there at start (a disk plugged in later) is found when it appears.

use crate::{
    direct::Direct,
    error::{NotAFile, Operation, StorageError},
    ports::{
        Entry, FileMetadata, InPlaceFile, ReadFile, RootIdentity, Space, Storage, WriteFile,
        append_over_zeros, write_fully,
    },
};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::{
    buffer::spare_capacity,
    fs::{
        Advice, FallocateFlags, Mode, OFlags, SeekFrom, StatVfsMountFlags, Timespec, Timestamps, fadvise,
        fallocate, fchmod, futimens, seek, statvfs,
    },
    io::{Errno, pread, pwritev},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, IoSlice, Write},
    num::NonZeroU64,
    os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt},
    sync::{Mutex, PoisonError},
};

/// Slices handed to one `writev`; the kernel takes 1024 at most.
const SLICES_PER_WRITE_MAX: usize = 1024;

/// What is added to opening any file: a link is not followed, and a pipe or a device is not waited for. Regular files
/// know nothing of it.
const PLAINLY: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// A directory of the host.
#[derive(Clone, Debug)]
pub struct RealDisk {
    root: Utf8PathBuf,
}

impl RealDisk {
    /// The directory at `root`, which need not exist yet.
    #[must_use]
    pub fn new(root: impl Into<Utf8PathBuf>) -> RealDisk {
        RealDisk { root: root.into() }
    }

    /// Flips the lowest bit of one stored byte and leaves size and time of change as they were, as a decaying medium does. For tests and drills.
    pub fn flip_bit(&self, path: &Utf8Path, offset: u64) -> Result<(), StorageError> {
        let path = self.root.join(path);
        let flip = || -> io::Result<()> {
            let before = fs::metadata(&path)?;
            // A separate descriptor for reading; the one for writing needs the mode bit back for a moment.
            let reader = File::open(&path)?;
            fchmod(&reader, Mode::RUSR | Mode::WUSR)?;
            let writer = OpenOptions::new().write(true).open(&path)?;
            let mut byte = [0];
            reader.read_exact_at(&mut byte, offset)?;
            writer.write_all_at(&[byte[0] ^ 1], offset)?;
            writer.sync_all()?;
            fchmod(&reader, Mode::from_raw_mode(before.mode()))?;
            let seconds = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
            futimens(
                &writer,
                &Timestamps {
                    last_access: seconds(before.atime(), before.atime_nsec()),
                    last_modification: seconds(before.mtime(), before.mtime_nsec()),
                },
            )?;
            Ok(())
        };
        flip().map_err(|source| StorageError::new(Operation::Write, &path, source))
    }

    fn attempt<T>(
        &self,
        operation: Operation,
        path: &Utf8Path,
        act: impl FnOnce(&Utf8Path) -> io::Result<T>,
    ) -> Result<T, StorageError> {
        // `join("")` would add a trailing slash to the root.
        let path = if path.as_str().is_empty() { self.root.clone() } else { self.root.join(path) };
        act(&path).map_err(|source| StorageError { operation, path, source })
    }

    fn open_file(
        &self,
        operation: Operation,
        path: &Utf8Path,
        options: &mut OpenOptions,
    ) -> Result<RealFile, StorageError> {
        let file = self.attempt(operation, path, |path| {
            let file = options.custom_flags(flags(PLAINLY)).open(path).map_err(plain_or_not)?;
            if file.metadata()?.is_file() { Ok(file) } else { Err(NotAFile.into()) }
        })?;
        let (path, failed_sync) = (self.root.join(path), Mutex::new(None));
        Ok(RealFile { file, direct: Direct::default(), path, failed_sync })
    }

    /// What a directory has, in no order: names, and what is known of them without following links.
    fn entries(&self, path: &Utf8Path) -> Result<Vec<(String, fs::Metadata)>, StorageError> {
        self.attempt(Operation::List, path, |path| {
            let mut entries = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let metadata = match entry.metadata() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    other => other?,
                };
                // A name that is not UTF-8 is none of ours; nobody could address it through this port.
                let Ok(name) = entry.file_name().into_string() else { continue };
                entries.push((name, metadata));
            }
            Ok(entries)
        })
    }
}

impl Storage for RealDisk {
    fn create_directory(&self, path: &Utf8Path) -> Result<(), StorageError> {
        self.attempt(Operation::CreateDirectory, path, |path| fs::create_dir(path))
    }

    fn create_new(&self, path: &Utf8Path) -> Result<Box<dyn WriteFile>, StorageError> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o644);
        Ok(Box::new(self.open_file(Operation::Create, path, &mut options)?))
    }

    fn open_append(&self, path: &Utf8Path) -> Result<Box<dyn WriteFile>, StorageError> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o644);
        Ok(Box::new(self.open_file(Operation::OpenAppend, path, &mut options)?))
    }

    fn open(&self, path: &Utf8Path) -> Result<Box<dyn ReadFile>, StorageError> {
        let mut options = OpenOptions::new();
        options.read(true);
        Ok(Box::new(self.open_file(Operation::Open, path, &mut options)?))
    }

    fn create_in_place(&self, path: &Utf8Path) -> Result<Box<dyn InPlaceFile>, StorageError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o644);
        Ok(Box::new(self.open_file(Operation::Create, path, &mut options)?))
    }

    fn open_in_place(&self, path: &Utf8Path) -> Result<Box<dyn InPlaceFile>, StorageError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        Ok(Box::new(self.open_file(Operation::Open, path, &mut options)?))
    }

    fn look_in_place(&self, path: &Utf8Path) -> Result<Box<dyn InPlaceFile>, StorageError> {
        Ok(Box::new(self.open_file(Operation::Open, path, OpenOptions::new().read(true))?))
    }

    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> Result<(), StorageError> {
        self.attempt(Operation::Rename, from, |from| fs::rename(from, self.root.join(to)))
    }

    fn sync_directory(&self, path: &Utf8Path) -> Result<(), StorageError> {
        self.attempt(Operation::SyncDirectory, path, |path| {
            let mut options = OpenOptions::new();
            options.read(true).custom_flags(flags(OFlags::DIRECTORY)).open(path)?.sync_all()
        })
    }

    fn remove(&self, path: &Utf8Path) -> Result<(), StorageError> {
        self.attempt(Operation::Remove, path, |path| fs::remove_file(path))
    }

    fn list(&self, path: &Utf8Path) -> Result<Vec<Entry>, StorageError> {
        let mut entries = self.entries(path)?;
        entries.retain(|(_, metadata)| metadata.is_file());
        entries.sort_by(|(a, _), (b, _)| a.cmp(b));
        let entry = |(name, metadata)| Entry { name, metadata: from_host(&metadata) };
        Ok(entries.into_iter().map(entry).collect())
    }

    fn list_irregular(&self, path: &Utf8Path) -> Result<Vec<String>, StorageError> {
        let entries = self.entries(path)?.into_iter();
        let mut names: Vec<String> =
            entries.filter(|(_, metadata)| !metadata.is_file()).map(|(name, _)| name).collect();
        names.sort();
        Ok(names)
    }

    fn metadata(&self, path: &Utf8Path) -> Result<FileMetadata, StorageError> {
        let is_root = path.as_str().is_empty();
        self.attempt(Operation::Metadata, path, |path| {
            let metadata = if is_root { fs::metadata(path) } else { fs::symlink_metadata(path) };
            Ok(from_host(&metadata?))
        })
    }

    fn identity(&self) -> Result<Option<RootIdentity>, StorageError> {
        self.attempt(Operation::Metadata, Utf8Path::new(""), |path| {
            let metadata = fs::metadata(path)?;
            Ok(Some(RootIdentity { device: metadata.dev(), inode: metadata.ino() }))
        })
    }

    fn space(&self) -> Result<Space, StorageError> {
        self.attempt(Operation::Space, Utf8Path::new(""), |path| {
            let stat = statvfs(path.as_std_path())?;
            Ok(Space {
                capacity: stat.f_blocks.saturating_mul(stat.f_frsize),
                available: stat.f_bavail.saturating_mul(stat.f_frsize),
                read_only: stat.f_flag.contains(StatVfsMountFlags::RDONLY),
            })
        })
    }
}

/// An open file of the host, for reading or for writing.
#[derive(Debug)]
struct RealFile {
    file: File,
    direct: Direct,
    path: Utf8PathBuf,
    /// The first sync of a file that is written in place that has failed. The system tells of a failed writeback once, to
    /// whoever happens to sync next; here everybody is told, from then on.
    failed_sync: Mutex<Option<i32>>,
}

impl RealFile {
    fn attempt<T>(&self, operation: Operation, result: io::Result<T>) -> Result<T, StorageError> {
        result.map_err(|source| StorageError::new(operation, &self.path, source))
    }
}

impl WriteFile for RealFile {
    fn write_all_vectored(&mut self, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError> {
        let mut file = &self.file;
        let result = write_fully(slices, |slices| {
            file.write_vectored(&slices[..slices.len().min(SLICES_PER_WRITE_MAX)])
        });
        self.attempt(Operation::Write, result)
    }

    fn start_writeback(&mut self, offset: u64, length: u64) {
        // Linux starts writing dirty pages of the range when told that they are not needed; pages that are under
        // writeback stay cached. `sync_file_range` would say it more plainly, but no safe binding offers it.
        let _ = fadvise(&self.file, offset, NonZeroU64::new(length), Advice::DontNeed);
    }

    fn sync(&mut self) -> Result<(), StorageError> {
        // Not fdatasync: the time of change is part of what the callers record about a file.
        self.attempt(Operation::Sync, self.file.sync_all())
    }

    fn set_read_only(&mut self) -> Result<(), StorageError> {
        let mode = Mode::RUSR | Mode::RGRP | Mode::ROTH;
        self.attempt(Operation::SetReadOnly, fchmod(&self.file, mode).map_err(io::Error::from))
    }

    fn metadata(&self) -> Result<FileMetadata, StorageError> {
        self.attempt(Operation::Metadata, self.file.metadata().map(|metadata| from_host(&metadata)))
    }
}

impl ReadFile for RealFile {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<usize, StorageError> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.attempt(Operation::Read, Err(error)),
            }
        }
        Ok(filled)
    }

    fn metadata(&self) -> Result<FileMetadata, StorageError> {
        self.attempt(Operation::Metadata, self.file.metadata().map(|metadata| from_host(&metadata)))
    }

    fn drop_cache(&self) {
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
    }
}

impl InPlaceFile for RealFile {
    fn read_exact_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), StorageError> {
        let read = self.read_at(offset, buffer)?;
        buffer[read..].fill(0);
        Ok(())
    }

    fn append_exact_at(&self, offset: u64, length: usize, into: &mut Vec<u8>) -> Result<(), StorageError> {
        let start = into.len();
        if into.capacity() - start != length {
            return append_over_zeros(length, into, |bytes| self.read_exact_at(offset, bytes));
        }
        // Memory that is written over at once need not be zeros before.
        while into.len() < start + length {
            let at = offset + (into.len() - start) as u64;
            match pread(&self.file, spare_capacity(into), at) {
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    into.truncate(start);
                    return self.attempt(Operation::Read, Err(error.into()));
                }
            }
        }
        into.resize(start + length, 0);
        Ok(())
    }

    fn next_data(&self, offset: u64) -> Option<u64> {
        // Nobody reads or writes where the file's own position is.
        match seek(&self.file, SeekFrom::Data(offset)) {
            Ok(at) => Some(at),
            Err(Errno::NXIO) => None,
            Err(_) => Some(offset),
        }
    }

    fn write_all_at(&self, mut offset: u64, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError> {
        let result = write_fully(slices, |slices| {
            let written = pwritev(&self.file, &slices[..slices.len().min(SLICES_PER_WRITE_MAX)], offset)?;
            offset += written as u64;
            Ok(written)
        });
        self.attempt(Operation::Write, result)
    }

    fn write_through_at(&self, offset: u64, mut slices: &mut [IoSlice<'_>]) -> Result<(), StorageError> {
        let written = self.attempt(Operation::Write, self.direct.write(&self.file, offset, slices))?;
        IoSlice::advance_slices(&mut slices, written);
        if slices.is_empty() {
            return Ok(());
        }
        self.write_all_at(offset + written as u64, slices)
    }

    fn reserve(&self, offset: u64, length: u64) -> Result<(), StorageError> {
        if length == 0 {
            return Ok(());
        }
        let reserved = match fallocate(&self.file, FallocateFlags::empty(), offset, length) {
            // It has no such promise to give (ZFS); the length is what is left of it.
            Err(Errno::OPNOTSUPP) => return self.lengthen(offset + length),
            reserved => reserved.map_err(io::Error::from),
        };
        self.attempt(Operation::Reserve, reserved)
    }

    fn lengthen(&self, length: u64) -> Result<(), StorageError> {
        let lengthened = self
            .file
            .metadata()
            .and_then(|metadata| if metadata.len() < length { self.file.set_len(length) } else { Ok(()) });
        self.attempt(Operation::Reserve, lengthened)
    }

    fn sync_data(&self) -> Result<(), StorageError> {
        let mut failed = self.failed_sync.lock().unwrap_or_else(PoisonError::into_inner);
        let result = match *failed {
            Some(error) => Err(io::Error::from_raw_os_error(error)),
            None => self.file.sync_data(),
        };
        if let Err(error) = &result {
            *failed = Some(error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()));
        }
        self.attempt(Operation::Sync, result)
    }

    fn size(&self) -> Result<u64, StorageError> {
        self.attempt(Operation::Metadata, self.file.metadata().map(|metadata| metadata.len()))
    }

    fn drop_cache(&self) {
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
    }
}

/// Flags as the standard library wants them.
fn flags(flags: OFlags) -> i32 {
    i32::try_from(flags.bits()).expect("the kernel's open flags are an int")
}

/// Tells what a refusal to open means: a link that is not followed, and a socket, are no regular files.
fn plain_or_not(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::LOOP | Errno::NXIO) => NotAFile.into(),
        _ => error,
    }
}

fn from_host(metadata: &fs::Metadata) -> FileMetadata {
    FileMetadata {
        size: metadata.len(),
        modified_ns: metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec()),
        read_only: metadata.permissions().readonly(),
        is_file: metadata.is_file(),
    }
}
