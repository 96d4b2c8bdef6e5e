//! Taking a snapshot: a checkpoint, and a file that names it.

use super::{
    Home, SNAPSHOTS_MAX, Snapshot, SnapshotError, SnapshotRoom,
    file::{self, Head},
};
use crate::{
    bits::Bits,
    fail_stop::FailStop,
    layout::Layout,
    region::{Failed, Region},
    rules::Rule,
    sealed::{PAGE, Page},
    sync::{Checkpoint, CheckpointEnd, Checkpointed},
};
use durable_fs::StorageError;
use ids::SnapshotId;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A snapshot to be taken.
#[derive(Debug)]
#[must_use = "it is not taken before it was run and ended"]
pub struct Taking {
    checkpoint: Checkpoint,
    home: Home,
    layout: Layout,
    head: Head,
    pages: Vec<Page>,
    used: Arc<Bits>,
    room: SnapshotRoom,
}

/// One that was tried to be taken.
#[derive(Debug)]
#[must_use = "the region has to know"]
pub struct Taken {
    checkpointed: Checkpointed,
    head: Head,
    used: Arc<Bits>,
    /// None if the checkpoint has failed, or found no room.
    named: Option<Result<Arc<FailStop>, NotNamed>>,
}

/// Why the file of a snapshot is not there.
#[derive(Debug)]
enum NotNamed {
    /// It is not there, nor will be.
    NotThere(StorageError),
    /// A crash may find it there.
    Unknown(StorageError),
}

/// What has become of a snapshot that was to be taken.
#[derive(Debug)]
#[must_use = "one that found no room was not taken"]
pub enum TakingEnd {
    /// It is there, durably.
    Taken,
    /// There was no room for it, or the disk refused. Everything is as before its begin.
    NotTaken(StorageError),
}

impl Taking {
    /// What the region's snapshots may come to need with this one.
    #[must_use]
    pub fn room(&self) -> SnapshotRoom {
        self.room
    }

    /// Ends it as one that finds no room: whoever has the disk has promised that to others. Waits for the disk, as [`run`](Taking::run) does.
    pub fn refuse(self, why: StorageError) -> Taken {
        let Taking { checkpoint, head, used, .. } = self;
        Taken { checkpointed: checkpoint.run(), head, used, named: Some(Err(NotNamed::NotThere(why))) }
    }

    /// Does what waits for the disk. Its result belongs into [`Region::end_snapshot`].
    pub fn run(self) -> Taken {
        let Taking { checkpoint, home, layout, head, pages, used, .. } = self;
        let file = || {
            let unfinished = file::unfinished_path(&home.path, head.snapshot);
            let storage = home.storage.as_ref();
            let made = file::make(storage, &unfinished, &head, &layout, &pages).and_then(|file| {
                storage.rename(&unfinished, &file::path(&home.path, head.snapshot))?;
                Ok(file)
            });
            let file = made.map_err(|error| {
                // It may hold space that others need; if this fails, too, the next opening removes it.
                let _ = storage.remove(&unfinished);
                NotNamed::NotThere(error)
            })?;
            home.sync_directory().map_err(NotNamed::Unknown)?;
            Ok(Arc::new(FailStop::new(file)))
        };
        if !Rule::SnapshotBehindItsCheckpoint.is_kept() {
            let named = Some(file());
            return Taken { checkpointed: checkpoint.run(), head, used, named };
        }
        let checkpointed = checkpoint.run();
        let named = checkpointed.is_in_force().then(file);
        Taken { checkpointed, head, used, named }
    }
}

impl Region {
    /// Begins to take a snapshot of all that is applied. Nothing else is kept from going on but checkpoints and other snapshots.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn begin_snapshot(&mut self, snapshot: SnapshotId) -> Result<Taking, SnapshotError> {
        self.check_in_use()?;
        if let Some(there) = self.snapshots.iter().find(|there| there.head.snapshot == snapshot) {
            return Err(SnapshotError::Exists { snapshot, applied: there.head.applied });
        }
        if self.deleted.has(snapshot) && Rule::DeletedAreNotTaken.is_kept() {
            return Err(SnapshotError::Deleted(snapshot));
        }
        if self.snapshots.len() >= SNAPSHOTS_MAX {
            return Err(SnapshotError::TooMany);
        }
        if self.is_in_checkpoint || self.snapshot_under_way.is_some() {
            return Err(SnapshotError::Busy);
        }
        let checkpoint = self.begin_checkpoint()?;
        let (mut pages, mut used) = (Vec::new(), Bits::default());
        for number in 0..self.free.pages() {
            let mut page = [0; PAGE];
            self.free.write_page(number, &mut page);
            used.add(&Bits::of_page(&self.free.places_of(number), &page).expect("it was just written"));
            pages.push(page);
        }
        let head = Head {
            snapshot,
            region: self.identity.region,
            region_salt: self.layout.salt,
            salt: self.salt_of(snapshot),
            generation: self.checkpoints + 1,
            applied: self.applied,
            tracts: self.layout.tracts,
            lost: self.lost,
        };
        self.snapshot_under_way = Some(snapshot);
        let used = Arc::new(used);
        if Rule::SnapshotsKeepTheirBlocks.is_kept() {
            self.keep_blocks_of_snapshots(Some(&used));
        }
        let (home, layout, room) = (self.home.clone(), self.layout, self.snapshot_room());
        Ok(Taking { checkpoint, home, layout, head, pages, used, room })
    }

    /// It is there, or it is not.
    ///
    /// # Errors
    /// If the disk refused in a way that leaves unknown what is on it; then the region has failed.
    pub fn end_snapshot(&mut self, taken: Taken) -> Result<TakingEnd, Failed> {
        self.check_in_use()?;
        let Taken { checkpointed, head, used, named } = taken;
        self.snapshot_under_way = None;
        let not_taken = match (self.end_checkpoint(checkpointed)?, named) {
            (CheckpointEnd::InForce, Some(Ok(file))) => {
                self.snapshots.push(Snapshot { head, file, used, is_going: false, broken: None });
                self.keep_blocks_of_snapshots(None);
                return Ok(TakingEnd::Taken);
            }
            (_, Some(Err(NotNamed::Unknown(error)))) => {
                return Err(self.fail("the name of a snapshot cannot be made durable", &error));
            }
            (_, Some(Err(NotNamed::NotThere(error)))) | (CheckpointEnd::NoRoom(error), _) => error,
            (CheckpointEnd::InForce, None) => unreachable!("a file is made when the checkpoint is in force"),
        };
        self.keep_blocks_of_snapshots(None);
        Ok(TakingEnd::NotTaken(not_taken))
    }

    /// Of no other file: no other checkpoint of the region has this number.
    fn salt_of(&self, snapshot: SnapshotId) -> u64 {
        let seed = self.layout.salt ^ (self.checkpoints + 1);
        xxh3_64_with_seed(snapshot.0.as_bytes(), seed)
    }
}
