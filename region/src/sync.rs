//! What makes changes durable, in pieces that need the region only at their beginning and end: so that it may be written and
//! read while the disk works.
//!
//! ```text
//!   begin_sync ──► run: fdatasync ──► end_sync                                     the records up to its begin are durable
//!
//!   begin_checkpoint ──► run: pages, fdatasync, super twice ──► end_checkpoint                 their part of the journal is free
//! ```
//!
//! A checkpoint is cut at the last record at its begin. The sync that makes its pages durable makes that record and its bytes
//! durable, too, and only then the super names them.
//!
//! | step of a checkpoint | a crash after it leaves |
//! |---|---|
//! | pages that snapshots need written into their files ([`crate::snapshots`]), synced | the old checkpoint; they are there twice |
//! | pages written, over halves that do not count | the old checkpoint, and the journal: the super says other checksums |
//! | pages synced | the same |
//! | the first super written and synced | the new checkpoint |
//! | the second super written and synced | the new checkpoint |
//!
//! A file system that has no room for a page, because it promises none (it compresses, or writes elsewhere), costs a checkpoint and no more:
//! nothing of it counts, the pages are written again by the next one, and the journal is as long as it was.

use crate::{
    fail_stop::FailStop,
    journal::Mark,
    layout::Layout,
    open::features_of,
    position::Position,
    region::{Failed, Point, Region},
    rules::Rule,
    sealed::PAGE,
    snapshots::KeptPages,
    superblock::{Cut, Super},
    tree::{NewTree, Node, TreePlan},
};
use durable_fs::{InPlaceFile, StorageError};
use std::sync::Arc;

/// A checkpoint is begun when so much of the journal is used.
const JOURNAL_PERCENT: u64 = 50;

/// A checkpoint is begun when so many pages of the map have changed: 16 MiB of memory.
const CHANGED_PAGES: usize = 4_096;

/// An `fdatasync` to be made.
#[derive(Debug)]
#[must_use = "nothing is durable before it was run and ended"]
pub struct Sync {
    file: Arc<FailStop>,
    point: Point,
}

impl Sync {
    /// The last write that will be durable.
    #[must_use]
    pub fn position(&self) -> Position {
        self.point.position
    }

    /// Makes it. Its result belongs into [`Region::end_sync`].
    pub fn run(self) -> Synced {
        Synced { point: self.point, result: self.file.sync_data() }
    }
}

/// An `fdatasync` that was made.
#[derive(Debug)]
#[must_use = "the region has to know"]
pub struct Synced {
    point: Point,
    result: Result<(), StorageError>,
}

/// Pages to be written.
#[derive(Debug)]
#[must_use = "the journal is not shorter before it was run and ended"]
pub struct Checkpoint {
    file: Arc<FailStop>,
    point: Point,
    mark: Mark,
    kept: Option<KeptPages>,
    plan: TreePlan,
    next_super: Super,
    generation: u64,
}

impl Checkpoint {
    /// Writes them. Its result belongs into [`Region::end_checkpoint`].
    pub fn run(self) -> Checkpointed {
        let (point, mark) = (self.point, self.mark);
        Checkpointed { point, mark, result: self.write() }
    }

    fn write(self) -> Result<NewTree, NotWritten> {
        let Checkpoint { file, kept, plan, mut next_super, generation, .. } = self;
        let file = file.as_ref();
        if let Some(kept) = kept {
            kept.write().map_err(|error| {
                if error.is_no_space() { NotWritten::NoRoom(error) } else { NotWritten::NotKept(error) }
            })?;
        }
        let new = plan.write(file, generation).map_err(|error| {
            // Behind a sync, or a super, nobody knows what is on the disk.
            if error.is_no_space() { NotWritten::NoRoom(error) } else { NotWritten::Failed(error) }
        })?;
        if Rule::PagesBeforeSuper.is_kept() {
            file.sync_data()?;
        }
        next_super.tops.clone_from(&new.tops);
        let mut page = [0; PAGE];
        next_super.write(&mut page);
        Layout::super_mirror().write_twice(file, &mut page, generation)?;
        Ok(new)
    }
}

/// Why a checkpoint is not in force.
#[derive(Debug)]
enum NotWritten {
    NoRoom(StorageError),
    /// What a snapshot needs could not be kept.
    NotKept(StorageError),
    Failed(StorageError),
}

impl From<StorageError> for NotWritten {
    fn from(error: StorageError) -> NotWritten {
        NotWritten::Failed(error)
    }
}

/// Pages that were written.
#[derive(Debug)]
#[must_use = "the region has to know"]
pub struct Checkpointed {
    point: Point,
    mark: Mark,
    result: Result<NewTree, NotWritten>,
}

impl Checkpointed {
    pub(crate) fn is_in_force(&self) -> bool {
        self.result.is_ok()
    }
}

/// What has become of a checkpoint.
#[derive(Debug)]
#[must_use = "one that found no room has made none in the journal"]
pub enum CheckpointEnd {
    /// It is in force.
    InForce,
    /// The file system had no room for it. Everything is as before its begin.
    NoRoom(StorageError),
}

impl Region {
    /// Begins to make all that was applied durable. Several may be under way.
    ///
    /// # Errors
    /// If the region has failed.
    pub fn begin_sync(&mut self) -> Result<Sync, Failed> {
        self.check_in_use()?;
        Ok(Sync { file: Arc::clone(&self.file), point: self.point() })
    }

    /// What was applied at its begin is durable, and what it replaced may be written over. Returns the position.
    ///
    /// # Errors
    /// If the disk refused. Then nobody knows what is on it, also not after a later success: the region has failed.
    pub fn end_sync(&mut self, synced: Synced) -> Result<Position, Failed> {
        self.check_in_use()?;
        synced.result.map_err(|error| self.fail_sync("what was written cannot be made durable", &error))?;
        self.note_durable(synced.point);
        Ok(self.durable.position)
    }

    /// Makes all that was applied durable, and waits for it.
    ///
    /// # Errors
    /// If the disk refuses; then the region has failed.
    pub fn sync(&mut self) -> Result<Position, Failed> {
        let sync = self.begin_sync()?;
        self.end_sync(sync.run())
    }

    /// Whether a checkpoint is to be begun.
    #[must_use]
    pub fn wants_checkpoint(&self) -> bool {
        let is_time = self.journal.used_percent() >= JOURNAL_PERCENT || self.pages.changed() >= CHANGED_PAGES;
        is_time && !self.is_in_checkpoint && self.failed.is_none()
    }

    /// Whether there is anything for a checkpoint to write, and none writes it.
    #[must_use]
    pub fn may_checkpoint(&self) -> bool {
        self.pages.changed() > 0 && !self.is_in_checkpoint && self.failed.is_none()
    }

    /// Keeps no more in memory than it must: what is on the disk is read again when it is needed.
    pub fn rest(&mut self) {
        self.pages.forget_clean();
    }

    /// Whether one was begun and has not ended.
    #[must_use]
    pub fn is_in_checkpoint(&self) -> bool {
        self.is_in_checkpoint
    }

    /// Begins a checkpoint.
    ///
    /// # Errors
    /// If the region has failed.
    ///
    /// # Panics
    /// If one is under way.
    pub fn begin_checkpoint(&mut self) -> Result<Checkpoint, Failed> {
        self.check_in_use()?;
        assert!(!self.is_in_checkpoint, "one checkpoint at a time");
        let pages = self.pages.begin_checkpoint();
        let numbers: Vec<u64> = pages.iter().map(|(number, _)| *number).collect();
        let kept = match self.pages_to_keep(&numbers) {
            Ok(kept) => kept,
            Err(error) => return Err(self.fail_map(&error)),
        };
        let mut leaves: Vec<_> = pages.into_iter().map(|(number, page)| (Node::Leaf(number), page)).collect();
        for number in self.free.begin_checkpoint() {
            let leaf = self.layout.free_leaf(number);
            // Which half counts is known of pages that were read.
            if let Err(error) = self.tree.read(self.file.as_ref(), leaf) {
                return Err(self.fail_map(&error));
            }
            let mut page = [0; PAGE];
            self.free.write_page(number, &mut page);
            leaves.push((leaf, Arc::new(page)));
        }
        self.is_in_checkpoint = true;
        let mark = self.journal.mark();
        let cut = Cut { record: mark.number, next_at: mark.head, chain: mark.chain, applied: self.applied };
        Ok(Checkpoint {
            file: Arc::clone(&self.file),
            point: self.point(),
            mark,
            kept,
            plan: self.tree.plan(leaves),
            next_super: Super {
                features: features_of(&self.control),
                identity: self.identity,
                salt: self.layout.salt,
                cut,
                tops: self.tree.tops(),
                lost: self.lost,
            },
            generation: self.checkpoints + 1,
        })
    }

    /// If it is in force, the journal before its begin may be written over.
    ///
    /// # Errors
    /// If the disk refused; then the region has failed.
    pub fn end_checkpoint(&mut self, checkpointed: Checkpointed) -> Result<CheckpointEnd, Failed> {
        self.check_in_use()?;
        let Checkpointed { point, mark, result } = checkpointed;
        let new = match result {
            Ok(new) => new,
            Err(NotWritten::NoRoom(error)) => {
                if Rule::AbandonedIsWrittenAgain.is_kept() {
                    self.pages.abandon_checkpoint();
                    self.free.abandon_checkpoint();
                } else {
                    self.pages.end_checkpoint();
                    self.free.end_checkpoint();
                }
                self.is_in_checkpoint = false;
                return Ok(CheckpointEnd::NoRoom(error));
            }
            // Nothing of it is in force, and the next opening finds what the medium has.
            Err(NotWritten::NotKept(error)) => {
                return Err(self.fail("a page that a snapshot needs cannot be kept", &error));
            }
            Err(NotWritten::Failed(error)) => {
                return Err(self.fail_sync("a checkpoint cannot be written", &error));
            }
        };
        self.tree.put_in_force(new);
        self.pages.end_checkpoint();
        self.free.end_checkpoint();
        self.journal.release(&mark);
        self.checkpoints += 1;
        self.is_in_checkpoint = false;
        self.note_durable(point);
        Ok(CheckpointEnd::InForce)
    }

    /// Makes a checkpoint, and waits for it.
    ///
    /// # Errors
    /// If the disk refuses, or has no room; then the region has failed.
    ///
    /// # Panics
    /// If one is under way.
    pub fn checkpoint(&mut self) -> Result<(), Failed> {
        let checkpoint = self.begin_checkpoint()?;
        match self.end_checkpoint(checkpoint.run())? {
            CheckpointEnd::InForce => Ok(()),
            CheckpointEnd::NoRoom(error) => Err(self.fail("there is no room for a checkpoint", &error)),
        }
    }

    fn point(&self) -> Point {
        Point { record: self.journal.mark().number, position: self.applied }
    }

    pub(crate) fn note_durable(&mut self, point: Point) {
        if point.record >= self.durable.record {
            self.durable = point;
            self.free.durable(point.record);
        }
    }
}
