//! Deleting a snapshot: at once none any more, and then what is left of it goes.

use super::{Home, Snapshot, SnapshotError, file, remove_if_there};
use crate::{layout::Layout, region::Region, rules::Rule, sealed::generation};
use durable_fs::{InPlaceFile, StorageError};
use ids::SnapshotId;

/// A snapshot that is to go.
#[derive(Debug)]
#[must_use = "it is not gone before it was run and ended"]
pub struct Going {
    home: Home,
    layout: Layout,
    snapshot: Snapshot,
    /// The next older one that stays, and can be read.
    older: Option<Snapshot>,
}

/// One that was tried to let go.
#[derive(Debug)]
#[must_use = "the region has to know"]
pub struct Gone {
    snapshot: SnapshotId,
    result: Result<(), StorageError>,
}

impl Going {
    /// Does what waits for the disk. Its result belongs into [`Region::end_delete_snapshot`].
    pub fn run(self) -> Gone {
        Gone { snapshot: self.snapshot.head.snapshot, result: self.let_go() }
    }

    fn let_go(&self) -> Result<(), StorageError> {
        if let Some(older) = self.older.as_ref().filter(|_| Rule::OlderOnesGetItsPages.is_kept()) {
            let (mut is_needed, own) = (false, &self.snapshot);
            for number in 0..self.layout.map_pages {
                let Some(page) = own.kept(&self.layout, number)? else { continue };
                if generation(&page) > older.head.generation {
                    continue;
                }
                // One that is there may be from an attempt that has failed before it was durable.
                is_needed = true;
                if older.kept(&self.layout, number)?.is_none() {
                    file::write_kept(older.file.as_ref(), &older.head, &self.layout, number, &page)?;
                }
            }
            if is_needed {
                older.file.sync_data()?;
            }
        }
        let path = file::deleted_path(&self.home.path, self.snapshot.head.snapshot);
        remove_if_there(self.home.storage.as_ref(), &path)?;
        self.home.sync_directory()
    }
}

impl Region {
    /// Begins to delete a snapshot: on return it is none any more, durably. What is left of it takes room until it has gone. Also one that is not
    /// there is not taken from then on: whoever asks for it may be late.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn begin_delete_snapshot(&mut self, snapshot: SnapshotId) -> Result<Going, SnapshotError> {
        self.check_in_use()?;
        // It may be taken just now.
        if self.snapshot_under_way == Some(snapshot) && Rule::WhatIsTakenIsWaitedFor.is_kept() {
            return Err(SnapshotError::Busy);
        }
        // First of all: whatever becomes of this, it is not taken any more.
        self.deleted.add(&self.home, self.layout.salt, snapshot)?;
        self.begin_discard_snapshot(snapshot)
    }

    /// The same of one that may be taken again under its name: a clone's, of which nothing was proven, or one that is going already.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn begin_discard_snapshot(&mut self, snapshot: SnapshotId) -> Result<Going, SnapshotError> {
        self.check_in_use()?;
        let found = self.snapshots.iter().position(|there| there.head.snapshot == snapshot);
        let at = found.ok_or(SnapshotError::None(snapshot))?;
        // A checkpoint may be about to give it pages.
        if self.is_in_checkpoint || self.snapshot_under_way.is_some() {
            return Err(SnapshotError::Busy);
        }
        let deleted = file::deleted_path(&self.home.path, snapshot);
        match self.home.storage.rename(&file::path(&self.home.path, snapshot), &deleted) {
            // It was begun before.
            Err(error) if error.is_not_found() => {}
            renamed => renamed?,
        }
        self.home.sync_directory()?;
        self.snapshots[at].is_going = true;
        self.snapshot_under_way = Some(snapshot);
        self.keep_blocks_of_snapshots(None);
        let older = self.snapshots[..at].iter().rfind(|older| older.keeps()).cloned();
        let (home, layout) = (self.home.clone(), self.layout);
        Ok(Going { home, layout, snapshot: self.snapshots[at].clone(), older })
    }

    /// It is gone, or goes on to be going.
    ///
    /// # Errors
    /// If the disk refused: to be tried again.
    pub fn end_delete_snapshot(&mut self, gone: Gone) -> Result<(), SnapshotError> {
        self.check_in_use()?;
        self.snapshot_under_way = None;
        gone.result?;
        self.snapshots.retain(|there| there.head.snapshot != gone.snapshot);
        Ok(())
    }

    /// Whether one is deleted, and nobody lets it go just now.
    #[must_use]
    pub fn snapshot_to_let_go(&self) -> Option<SnapshotId> {
        let is_free = self.snapshot_under_way.is_none() && !self.is_in_checkpoint && self.failed.is_none();
        self.snapshots.iter().find(|there| there.is_going && is_free).map(|there| there.head.snapshot)
    }
}
