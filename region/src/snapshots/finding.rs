//! Finding the snapshots that a region has, beside its file.

use super::{
    Deleted, Snapshot, SnapshotStatus,
    file::{self, Head, Named},
};
use crate::{bits::Bits, fail_stop::FailStop, position::Position, region::Region};
use durable_fs::{InPlaceFile, StorageError};
use ids::SnapshotId;
use std::sync::Arc;

impl Region {
    /// Finds the snapshots that it has, and those that were deleted, and removes what is left of those that were not taken.
    ///
    /// # Errors
    /// If the disk does not say what there is.
    pub(crate) fn find_snapshots(&mut self) -> Result<(), StorageError> {
        let storage = Arc::clone(&self.home.storage);
        for (there, named) in self.home.files()? {
            if named == Named::Unfinished {
                storage.remove(&there)?;
                continue;
            }
            let file: Arc<dyn InPlaceFile> = Arc::from(storage.open_in_place(&there)?);
            file.drop_cache();
            // What a killed process has left in the cache counts as kept.
            file.sync_data()?;
            self.add_found(named, file);
        }
        self.keep_blocks_of_snapshots(None);
        self.deleted = Deleted::find(&self.home, self.layout.salt)?;
        Ok(())
    }

    /// The same of a region that is only looked at: nothing is removed, nothing is synced, and nothing can be written. What each of them is,
    /// and the bytes that are in it alone: neither in the region any more, nor in any other one.
    ///
    /// # Errors
    /// If the disk does not say what there is.
    pub(crate) fn look_at_snapshots(&mut self) -> Result<Vec<(SnapshotStatus, u64)>, StorageError> {
        for (there, named) in self.home.files()? {
            if named != Named::Unfinished {
                self.add_found(named, Arc::from(self.home.storage.look_in_place(&there)?));
            }
        }
        self.keep_blocks_of_snapshots(None);
        let block_bytes = self.identity.geometry.block_size.bytes() as u64;
        let alone = |at: usize| {
            let mut others = Bits::default();
            let all = self.snapshots.iter().enumerate();
            all.filter(|(other, there)| *other != at && !there.is_going)
                .for_each(|(_, there)| others.add(&there.used));
            self.free.not_in_map(&self.snapshots[at].used.without(&others)) * block_bytes
        };
        Ok(self.snapshots.iter().enumerate().map(|(at, there)| (there.status(), alone(at))).collect())
    }

    /// In its place: the oldest is the first.
    fn add_found(&mut self, named: Named, file: Arc<dyn InPlaceFile>) {
        let (id, is_going) = match named {
            Named::Taken(id) => (id, false),
            Named::Deleted(id) => (id, true),
            Named::Unfinished => return,
        };
        let found = self.found_snapshot(id, Arc::new(FailStop::new(file)), is_going);
        let at = self.snapshots.partition_point(|there| there.head.generation <= found.head.generation);
        self.snapshots.insert(at, found);
    }

    fn found_snapshot(&self, snapshot: SnapshotId, file: Arc<FailStop>, is_going: bool) -> Snapshot {
        let nothing = Head {
            snapshot,
            region: self.identity.region,
            region_salt: self.layout.salt,
            salt: 0,
            generation: 0,
            applied: Position::NONE,
            tracts: 0,
            lost: 0,
        };
        let is_ours = |head: &Head| {
            let same = (head.snapshot, head.region, head.region_salt)
                == (snapshot, self.identity.region, self.layout.salt);
            same && head.generation <= self.checkpoints && head.tracts <= self.layout.tracts
        };
        let read = |head: &Head| {
            file::read_used(file.as_ref(), head, &self.layout, |page| self.free.places_of(page))
        };
        let (head, used, broken) = match file::read_head(file.as_ref()) {
            Err(error) => (nothing, None, Some(error.to_string())),
            Ok(None) => (nothing, None, Some("what says that it is a snapshot is rotten".to_owned())),
            Ok(Some(head)) if !is_ours(&head) => {
                (nothing, None, Some("its file is of another region, or of another time".to_owned()))
            }
            Ok(Some(head)) => match read(&head) {
                Ok(Some(used)) => (head, Some(used), None),
                Ok(None) => (head, None, Some("which data blocks it has is rotten".to_owned())),
                Err(error) => (head, None, Some(error.to_string())),
            },
        };
        Snapshot { head, file, used: Arc::new(used.unwrap_or_default()), is_going, broken }
    }
}
