//! One disk's root and what is done there, one durable step at a time. Blocking; the caller chooses thread, order and lock.

use super::{
    layout::{self, GONE, MARK, NEW, Name},
    record,
    room::{self, Claim},
    sharing,
};
use crate::{
    error::DatasetError,
    holders::{Holder, holders_of},
    types::{Dataset, DiskSpace, FileSystem, Listing, STRANGERS_MAX, Size, Snapshot, Stranger},
};
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{Storage, StorageError, write_atomically};
use ids::{RegionId, SnapshotId};
use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    sync::Arc,
};

/// Files and directories of one dataset at most; a region is a file or a few.
const ENTRIES_MAX: usize = 65_536;

/// The root.
#[derive(Clone, Debug)]
pub(super) struct Place {
    root: Utf8PathBuf,
    storage: Arc<dyn Storage>,
}

/// What is known of all datasets of a disk.
pub(super) struct Books {
    pub(super) claims: BTreeMap<RegionId, Claim>,
    pub(super) space: DiskSpace,
    strangers: Vec<Stranger>,
    /// The first record that could not be read: what was promised by it is not known.
    unreadable: Option<DatasetError>,
}

impl Place {
    pub(super) fn new(root: &Utf8Path, storage: Arc<dyn Storage>) -> Place {
        Place { root: root.to_owned(), storage }
    }

    /// Puts the mark on the disk; done if it is there.
    pub(super) fn mark(&self) -> Result<(), DatasetError> {
        match self.read(MARK.into())? {
            Some(_) => self.present(),
            None => write_atomically(&self.storage, "datasets-mark", MARK.into(), &record::of_disk())
                .map_err(|error| self.failed(error)),
        }
    }

    /// Whether the disk is there: an empty directory may be the place where it is to be mounted. And whether it gives anything back: the mark is
    /// read from the medium, for what the system has cached it goes on giving when the medium is gone.
    pub(super) fn present(&self) -> Result<(), DatasetError> {
        let mark = self.root.join(MARK);
        if let Ok(file) = self.storage.open(MARK.into()) {
            file.drop_cache();
        }
        match self.read(MARK.into())? {
            Some(bytes) => {
                record::read_disk(&bytes).map_err(|why| DatasetError::RecordUnreadable { path: mark, why })
            }
            None => Err(self.missing(format!("there is no {mark}"))),
        }
    }

    /// Takes the lock of whoever changes something, waits for it if need be, and removes what a crash has left.
    pub(super) fn lock(&self) -> Result<File, DatasetError> {
        self.present()?;
        let mark = self.root.join(MARK);
        let file = File::open(&mark).map_err(|error| self.io("open", &mark, error))?;
        file.lock().map_err(|error| self.io("lock", &mark, error))?;
        if self.space()?.read_only {
            return Err(DatasetError::DiskReadOnly { disk: self.root.to_string() });
        }
        self.sweep::<RegionId>(Utf8Path::new(""))?;
        Ok(file)
    }

    /// The file system's own figures.
    pub(super) fn space(&self) -> Result<durable_fs::Space, DatasetError> {
        self.storage.space().map_err(|error| self.failed(error))
    }

    /// Who keeps the files.
    pub(super) fn file_system(&self) -> Result<FileSystem, DatasetError> {
        let stat = rustix::fs::statfs(self.root.as_std_path())
            .map_err(|error| self.io("ask for the file system of", &self.root, error.into()))?;
        // The kernel's numbers: linux/magic.h, and OpenZFS's own.
        Ok(match u64::try_from(stat.f_type).unwrap_or_default() {
            0xEF53 => FileSystem::Ext4,
            0x5846_5342 => FileSystem::Xfs,
            0x9123_683E => FileSystem::Btrfs,
            0x0102_1994 => FileSystem::Tmpfs,
            0x2FC1_2FC1 => FileSystem::Zfs,
            other => FileSystem::Other(other),
        })
    }

    /// Whether files can share blocks.
    pub(super) fn reflinks(&self) -> Result<bool, DatasetError> {
        let probe = || self.root.join(format!("{NEW}{}", SnapshotId::generate())).into_std_path_buf();
        sharing::is_possible(&probe(), &probe())
            .map_err(|error| self.io("share blocks on", &self.root, error))
    }

    /// All datasets.
    pub(super) fn books(&self) -> Result<Books, DatasetError> {
        self.present()?;
        let (mut claims, mut strangers, mut unreadable) = (BTreeMap::new(), Vec::new(), None);
        let mut stranger = |name: &str, why: String| {
            if strangers.len() < STRANGERS_MAX {
                strangers.push(Stranger { name: name.to_owned(), why });
            }
        };
        for name in self.names(Utf8Path::new(""))? {
            match layout::read::<RegionId>(&name) {
                Name::Of(region) => match self.claim(region) {
                    Ok(Some(claim)) => drop(claims.insert(region, claim)),
                    // It was destroyed while it was looked at.
                    Ok(None) => {}
                    Err(error @ (DatasetError::RecordUnreadable { .. } | DatasetError::Stranger { .. })) => {
                        stranger(&name, error.to_string());
                        unreadable.get_or_insert(error);
                    }
                    Err(error) => return Err(error),
                },
                Name::Leftover | Name::Own => {}
                Name::Stranger => stranger(&name, "its name is no region's id".to_owned()),
            }
        }
        let disk = self.space()?;
        let all: Vec<Claim> = claims.values().copied().collect();
        let space = room::space(disk.capacity, disk.available, &all);
        Ok(Books { claims, space, strangers, unreadable })
    }

    /// One dataset's directory, as it is told.
    pub(super) fn dataset(&self, region: RegionId, claim: Claim, books: &Books) -> Dataset {
        Dataset {
            region,
            directory: self.root.join(layout::data(&layout::region(region))),
            mounted: true,
            size: claim.size,
            used_bytes: claim.used_bytes,
            available_bytes: claim.available_bytes(&books.space),
        }
    }

    pub(super) fn find(&self, region: RegionId) -> Result<Option<Dataset>, DatasetError> {
        // What is wrong with this one must be said, and what is wrong with others need not be.
        self.present()?;
        let Some(claim) = self.claim(region)? else { return Ok(None) };
        Ok(Some(self.dataset(region, claim, &self.books()?)))
    }

    pub(super) fn list(&self) -> Result<Listing, DatasetError> {
        let books = self.books()?;
        let dataset = |(region, claim): (&RegionId, &Claim)| self.dataset(*region, *claim, &books);
        Ok(Listing {
            datasets: books.claims.iter().map(dataset).collect(),
            strangers: books.strangers.clone(),
        })
    }

    /// What was promised to a region, if it has a dataset.
    pub(super) fn claim(&self, region: RegionId) -> Result<Option<Claim>, DatasetError> {
        let directory = layout::region(region);
        let metadata = match fs::symlink_metadata(self.root.join(&directory)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            other => other.map_err(|error| self.io("look at", &self.root.join(&directory), error))?,
        };
        let place = self.root.join(&directory);
        if !metadata.is_dir() {
            return Err(DatasetError::Stranger { place: place.into(), why: "it is no directory".to_owned() });
        }
        let path = layout::record(&directory);
        let Some(bytes) = self.read(&path)? else {
            // Either it was destroyed just now, or somebody has made a directory of that name.
            let why = "it has no dataset.json".to_owned();
            return if place.exists() {
                Err(DatasetError::Stranger { place: place.into(), why })
            } else {
                Ok(None)
            };
        };
        let size = record::read_dataset(&bytes)
            .map_err(|why| DatasetError::RecordUnreadable { path: self.root.join(path), why })?;
        let used = self.used_bytes(&layout::data(&directory))?;
        let has_snapshots = !self.snapshots(region)?.is_empty();
        Ok(Some(Claim { size, used_bytes: used, has_snapshots }))
    }

    /// Creation, up to the directory that does not count yet. Tells the dataset if it is there.
    pub(super) fn begin(&self, region: RegionId, size: Size) -> Result<Option<Dataset>, DatasetError> {
        let books = self.books()?;
        if let Some(claim) = self.claim(region)? {
            let has = claim.size;
            return if has == size {
                Ok(Some(self.dataset(region, claim, &books)))
            } else {
                Err(DatasetError::SizeDiffers { region, has, wanted: size })
            };
        }
        if let Some(unreadable) = books.unreadable {
            return Err(unreadable);
        }
        if size.reservation_bytes > books.space.reservable_bytes || books.space.reservable_bytes == 0 {
            return Err(DatasetError::NoSpace {
                disk: self.root.to_string(),
                wanted_bytes: size.reservation_bytes,
                reservable_bytes: books.space.reservable_bytes,
                reserved_bytes: books.space.reserved_bytes,
                capacity_bytes: books.space.capacity_bytes,
            });
        }
        let new = layout::beside(&layout::region(region), NEW);
        for directory in [new.clone(), layout::data(&new), new.join("snapshots")] {
            self.storage.create_directory(&directory).map_err(|error| self.failed(error))?;
        }
        Ok(None)
    }

    /// Creation: the record, synced.
    pub(super) fn write_record(&self, region: RegionId, size: Size) -> Result<(), DatasetError> {
        let new = layout::beside(&layout::region(region), NEW);
        let bytes = record::of_dataset(size);
        write_atomically(&self.storage, "datasets-create", &layout::record(&new), &bytes)
            .map_err(|error| self.failed(error))
    }

    /// Creation: from now on it counts.
    pub(super) fn publish(&self, path: &Utf8Path) -> Result<(), DatasetError> {
        self.rename(&layout::beside(path, NEW), path)
    }

    /// Destruction: from now on it does not count. Tells whether there was something.
    pub(super) fn unname(&self, path: &Utf8Path) -> Result<(), DatasetError> {
        self.rename(path, &layout::beside(path, GONE))
    }

    /// Destruction: its bytes.
    pub(super) fn remove_unnamed(&self, path: &Utf8Path) -> Result<(), DatasetError> {
        self.remove_tree(&layout::beside(path, GONE))
    }

    /// A snapshot, up to the directory that does not count yet.
    pub(super) fn share(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError> {
        self.sweep::<SnapshotId>(&layout::snapshots(region))?;
        let new = layout::beside(&layout::snapshot(region, snapshot), NEW);
        self.storage.create_directory(&new).map_err(|error| self.failed(error))?;
        let from = self.root.join(layout::data(&layout::region(region)));
        let shared =
            sharing::share_tree(from.as_std_path(), self.root.join(layout::data(&new)).as_std_path());
        shared.map_err(|error| self.io("make a snapshot of", &from, error))?;
        self.storage.sync_directory(&new).map_err(|error| self.failed(error))
    }

    /// The snapshots of a region; none if it has no dataset.
    pub(super) fn snapshots(&self, region: RegionId) -> Result<Vec<Snapshot>, DatasetError> {
        let mut snapshots = Vec::new();
        for name in self.names(&layout::snapshots(region))? {
            if let Name::Of(id) = layout::read::<SnapshotId>(&name) {
                let directory = layout::snapshot(region, id);
                let opened = self.read(&layout::open_sign(&directory))?;
                let at = self.root.join(layout::data(&directory));
                snapshots.push(Snapshot { id, opened: opened.map(|_| at) });
            }
        }
        Ok(snapshots)
    }

    /// Opens a snapshot, durably; tells where.
    pub(super) fn open(&self, region: RegionId, snapshot: SnapshotId) -> Result<Utf8PathBuf, DatasetError> {
        let directory = layout::snapshot(region, snapshot);
        write_atomically(&self.storage, "datasets-open", &layout::open_sign(&directory), b"open\n")
            .map_err(|error| self.failed(error))?;
        Ok(self.root.join(layout::data(&directory)))
    }

    /// Closes it, durably.
    pub(super) fn close(&self, region: RegionId, snapshot: SnapshotId) -> Result<(), DatasetError> {
        let directory = layout::snapshot(region, snapshot);
        self.storage.remove(&layout::open_sign(&directory)).map_err(|error| self.failed(error))?;
        self.storage.sync_directory(&directory).map_err(|error| self.failed(error))
    }

    /// Who has something below `path` open.
    pub(super) fn holders(&self, path: &Utf8Path) -> Result<Vec<Holder>, DatasetError> {
        let path = self.root.join(path);
        // The kernel tells where files are by paths without links.
        let real = path.canonicalize_utf8().map_err(|error| self.io("find", &path, error))?;
        holders_of(&real).map_err(|error| self.io("look for processes with files of", &path, error))
    }

    /// Removes what unfinished procedures have left in a directory.
    pub(super) fn sweep<Id>(&self, directory: &Utf8Path) -> Result<(), DatasetError>
    where
        Id: std::str::FromStr + std::fmt::Display,
    {
        for name in self.names(directory)? {
            if matches!(layout::read::<Id>(&name), Name::Leftover) {
                self.remove_tree(&directory.join(name))?;
            }
        }
        Ok(())
    }

    fn rename(&self, from: &Utf8Path, to: &Utf8Path) -> Result<(), DatasetError> {
        self.storage.rename(from, to).map_err(|error| self.failed(error))?;
        let parent = to.parent().unwrap_or(Utf8Path::new(""));
        self.storage.sync_directory(parent).map_err(|error| self.failed(error))
    }

    fn remove_tree(&self, path: &Utf8Path) -> Result<(), DatasetError> {
        let path = self.root.join(path);
        let removed = match fs::remove_dir_all(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => fs::remove_file(&path),
            other => other,
        };
        match removed {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other.map_err(|error| self.io("remove", &path, error)),
        }
    }

    /// Bytes that the files below a directory take. What vanishes meanwhile takes none.
    fn used_bytes(&self, directory: &Utf8Path) -> Result<u64, DatasetError> {
        let (mut used, mut entries, mut open) = (0_u64, 0, vec![self.root.join(directory)]);
        while let Some(directory) = open.pop() {
            let failed = |error| self.io("count the bytes of", &directory, error);
            let listing = match directory.read_dir_utf8() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(failed)?,
            };
            for entry in listing {
                let entry = entry.map_err(failed)?;
                entries += 1;
                if entries > ENTRIES_MAX {
                    let error = io::Error::other(format!("there are more than {ENTRIES_MAX} files"));
                    return Err(failed(error));
                }
                match entry.metadata() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(failed(error)),
                    Ok(metadata) if metadata.is_dir() => open.push(entry.path().to_owned()),
                    // The unit of st_blocks is 512 bytes on every file system of Linux.
                    Ok(metadata) => used = used.saturating_add(metadata.blocks().saturating_mul(512)),
                }
            }
        }
        Ok(used)
    }

    /// All names in a directory; none if it is not there.
    fn names(&self, directory: &Utf8Path) -> Result<Vec<String>, DatasetError> {
        let files = match self.storage.list(directory) {
            Err(error) if error.is_not_found() && !directory.as_str().is_empty() => return Ok(Vec::new()),
            other => other.map_err(|error| self.failed(error))?,
        };
        let mut names = match self.storage.list_irregular(directory) {
            Err(error) if error.is_not_found() && !directory.as_str().is_empty() => return Ok(Vec::new()),
            other => other.map_err(|error| self.failed(error))?,
        };
        names.extend(files.into_iter().map(|entry| entry.name));
        names.sort();
        Ok(names)
    }

    /// A small file; `None` if it is not there.
    fn read(&self, path: &Utf8Path) -> Result<Option<Vec<u8>>, DatasetError> {
        let read = || {
            let file = self.storage.open(path)?;
            // One byte more than is right, so that a longer one is seen as wrong.
            let mut bytes = vec![0; usize::try_from(record::BYTES_MAX).unwrap_or(usize::MAX) + 1];
            let length = file.read_at(0, &mut bytes)?;
            bytes.truncate(length);
            Ok(bytes)
        };
        match read() {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(self.failed(error)),
        }
    }

    fn missing(&self, why: String) -> DatasetError {
        DatasetError::DiskMissing { disk: self.root.to_string(), why }
    }

    /// What a failed operation of the port says about the disk.
    fn failed(&self, error: StorageError) -> DatasetError {
        let disk = self.root.to_string();
        if error.is_no_space() {
            DatasetError::DiskFull { disk }
        } else if error.is_read_only() {
            DatasetError::DiskReadOnly { disk }
        } else if error.is_not_found() && !self.root.exists() {
            self.missing("there is no such directory".to_owned())
        } else {
            DatasetError::Storage(error)
        }
    }

    /// The same of another operation.
    fn io(&self, operation: &'static str, path: &Utf8Path, source: io::Error) -> DatasetError {
        let disk = self.root.to_string();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DatasetError::DiskFull { disk },
            io::ErrorKind::ReadOnlyFilesystem => DatasetError::DiskReadOnly { disk },
            _ => DatasetError::Io { operation, path: path.to_owned(), source },
        }
    }
}

/// Not there: also below something that is no directory.
fn is_absent(error: &StorageError) -> bool {
    error.is_not_found() || error.source.kind() == io::ErrorKind::NotADirectory
}
