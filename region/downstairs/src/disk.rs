//! The regions of one disk: a file for each, named for it. Owns which of them are open.
//!
//! ```text
//!   on the disk ──somebody asks for it──► open ──nobody has been connected for a while──► settled, and on the disk
//! ```

use crate::{
    member::Member,
    room::{self, BeingTaken},
};
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{Space, Storage, StorageError};
use ids::{RegionId, SnapshotId};
use region::{CreateError, NewRegion, OpenError, Opening, Outside, SnapshotRoom, Taken, Taking};
use std::{fs, io, sync::Arc};
use uuid::Uuid;

/// What names end with.
const SUFFIX: &str = ".region";

/// Where Linux says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why a region of a disk is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// There is none.
    #[error("there is no region {region} on this disk")]
    NoRegion {
        /// Which was asked for.
        region: RegionId,
    },
    /// There is one already.
    #[error("region {region} is on this disk already")]
    Exists {
        /// Which was to be made.
        region: RegionId,
    },
    /// It is there, and is not opened.
    #[error("region {region} cannot be opened")]
    Open {
        /// Which.
        region: RegionId,
        /// Why.
        #[source]
        source: OpenError,
    },
    /// It is not made.
    #[error("region {region} cannot be made")]
    Create {
        /// Which.
        region: RegionId,
        /// Why.
        #[source]
        source: CreateError,
    },
    /// The disk does not say what it has, or does not give it up.
    #[error("the regions of the disk cannot be worked on")]
    Storage(#[from] StorageError),
    /// The machine does not say what is needed.
    #[error("cannot read {path}")]
    Machine {
        /// The file that says it.
        path: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The regions of one disk.
#[derive(Clone, Debug)]
pub struct Disk {
    storage: Arc<dyn Storage>,
    /// Where nobody else keeps room for snapshots: what is promised to those that are being taken.
    being_taken: Option<BeingTaken>,
}

impl Disk {
    /// Those in this directory.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>) -> Disk {
        Disk { storage, being_taken: None }
    }

    /// Sees to it that snapshots find the room that they may come to need, or are refused: nobody else does on the disk, such as a file
    /// system with a quota for each region.
    #[must_use]
    pub fn with_room_for_snapshots(self) -> Disk {
        Disk { being_taken: Some(BeingTaken::default()), ..self }
    }

    /// Takes a snapshot, or refuses it for lack of room. Waits for the disk.
    pub(crate) fn take_snapshot(&self, region: RegionId, taking: Taking) -> Taken {
        let Some(being_taken) = &self.being_taken else { return taking.run() };
        match room::promise(self, being_taken, region, taking.room()) {
            Ok(_until_it_is_there) => taking.run(),
            Err(error) => taking.refuse(error),
        }
    }

    /// What the snapshots of one may come to take, whoever has it open.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn snapshot_room(&self, region: RegionId) -> Result<SnapshotRoom, DiskError> {
        let room = region::snapshot_room(Arc::clone(&self.storage), &path(region));
        room.map_err(|source| DiskError::Open { region, source })
    }

    pub(crate) fn space(&self) -> Result<Space, StorageError> {
        self.storage.space()
    }

    /// Which there are.
    ///
    /// # Errors
    /// If the disk does not say.
    pub fn regions(&self) -> Result<Vec<RegionId>, DiskError> {
        let entries = self.storage.list(Utf8Path::new(""))?;
        let id = |name: &str| name.strip_suffix(SUFFIX)?.parse().ok();
        Ok(entries.iter().filter_map(|entry| id(&entry.name)).collect())
    }

    /// Makes one.
    ///
    /// # Errors
    /// [`DiskError`]; then it is not there.
    pub fn create(&self, new: &NewRegion) -> Result<(), DiskError> {
        let region = new.identity.region;
        if self.regions()?.contains(&region) {
            return Err(DiskError::Exists { region });
        }
        let created = region::create(self.storage.as_ref(), &path(region), new);
        created.map_err(|source| DiskError::Create { region, source })
    }

    /// Makes one that is to be a clone of a snapshot.
    ///
    /// # Errors
    /// [`DiskError`]; then it is not there.
    pub fn create_clone(&self, new: &NewRegion, of: SnapshotId) -> Result<(), DiskError> {
        let region = new.identity.region;
        if self.regions()?.contains(&region) {
            return Err(DiskError::Exists { region });
        }
        let created = region::create_clone(self.storage.as_ref(), &path(region), new, of);
        created.map_err(|source| DiskError::Create { region, source })
    }

    /// What can be told of one that may be open, without opening it.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn look(&self, region: RegionId) -> Result<Outside, DiskError> {
        let path = path(region);
        let file = match self.storage.look_in_place(&path) {
            Err(error) if error.is_not_found() => return Err(DiskError::NoRegion { region }),
            file => file?,
        };
        region::look_outside(file.as_ref(), &path).map_err(|source| DiskError::Open { region, source })
    }

    /// The snapshots that one has, by the names of their files.
    ///
    /// # Errors
    /// If the disk does not say.
    pub fn snapshots(&self, region: RegionId) -> Result<Vec<SnapshotId>, DiskError> {
        Ok(region::named_snapshots(Arc::clone(&self.storage), &path(region))?)
    }

    /// Removes one, if it is there, and its snapshots. Nobody must have it open.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn destroy(&self, region: RegionId) -> Result<(), DiskError> {
        Ok(region::destroy(Arc::clone(&self.storage), &path(region))?)
    }

    /// Opens one.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(&self, region: RegionId) -> Result<Member, DiskError> {
        let opening = Opening { life: random(), boot: boot()? };
        match region::open(Arc::clone(&self.storage), &path(region), opening) {
            Ok(opened) => Ok(Member::new(opened)),
            Err(OpenError::Disk(error)) if error.source.kind() == io::ErrorKind::NotFound => {
                Err(DiskError::NoRegion { region })
            }
            Err(source) => Err(DiskError::Open { region, source }),
        }
    }
}

fn path(region: RegionId) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{region}{SUFFIX}"))
}

fn random() -> u64 {
    let (high, low) = Uuid::new_v4().as_u64_pair();
    high ^ low
}

fn boot() -> Result<Uuid, DiskError> {
    let text = fs::read_to_string(BOOT_ID).map_err(|source| DiskError::Machine { path: BOOT_ID, source })?;
    Uuid::parse_str(text.trim()).map_err(|error| DiskError::Machine {
        path: BOOT_ID,
        source: io::Error::new(io::ErrorKind::InvalidData, error),
    })
}
