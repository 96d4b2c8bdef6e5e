//! An open region: what it knows, and what may be asked of it at any time. How it comes to be is [`mod@crate::open`]'s, how it changes
//! [`crate::write`]'s, what makes changes durable [`crate::sync`]'s.
//!
//! ```text
//!      create                     open ── another, a newer or a rotten one ──► refused, nothing changed
//!         │                        │
//!         ▼                        ▼
//!       a file ─────────────► in use ── a record, a sync, a checkpoint or a map page has failed ──► failed: until it is opened again
//! ```

use crate::{
    control::{Control, Member},
    fail_stop::FailStop,
    free::FreeSpace,
    journal::Journal,
    layout::Layout,
    map::{Content, Entry, Seal},
    pages::Pages,
    position::Position,
    reading,
    sealed::{Half, PAGE},
    snapshots::{Deleted, Home, Snapshot},
    superblock::Identity,
    tree::{NotRead, Tree},
};
use durable_fs::{InPlaceFile, StorageError};
use ids::SnapshotId;
use std::{fmt, ops::Range, sync::Arc};
use xxhash_rust::xxh3::{Xxh3, xxh3_64_with_seed};

/// What a block's bytes are checked by: of this block, so that those of another one are wrong. Who writes makes it, and who reads
/// checks it; between them nobody has to.
#[must_use]
pub fn checksum(block: u64, bytes: &[u8]) -> u64 {
    xxh3_64_with_seed(bytes, block)
}

/// What is known of a block, for whoever reads it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Whose content it is.
    pub version: Position,
    /// The content.
    pub what: What,
}

/// Which content a block has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// Nobody ever wrote it.
    Never,
    /// Zeros, which were written.
    Zeros,
    /// Bytes, of this checksum and seal.
    Bytes {
        /// Their [`checksum`], as their writer made it.
        checksum: u64,
        /// Zeros in a region without seals.
        seal: Seal,
    },
    /// Bytes that nobody had right any more when this region was to get them. Of this checksum and seal they would be right.
    Lost {
        /// Their [`checksum`], as their writer made it.
        checksum: u64,
        /// Zeros in a region without seals.
        seal: Seal,
    },
}

impl What {
    /// What its writer has made of the block: bytes that are lost here are what they are where somebody has them.
    #[must_use]
    pub fn as_written(self) -> What {
        match self {
            What::Lost { checksum, seal } => What::Bytes { checksum, seal },
            what => what,
        }
    }
}

/// Nobody knows what is on the disk, or nobody can read what says so. The region is of no use until it is opened again.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the region has failed: {why}")]
pub struct Failed {
    why: Arc<str>,
}

/// How far something is: the journal's record, and the position that was applied with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Point {
    pub(crate) record: u64,
    pub(crate) position: Position,
}

/// A region that is open. Its calls block on the disk; whoever needs more at a time brings a lock and threads.
#[derive(Debug)]
pub struct Region {
    pub(crate) file: Arc<FailStop>,
    pub(crate) identity: Identity,
    pub(crate) layout: Layout,
    pub(crate) control: Control,
    pub(crate) control_changes: u64,
    /// The copy of it that is right, whatever becomes of the next change.
    pub(crate) control_relied: Half,
    pub(crate) tree: Tree,
    pub(crate) pages: Pages,
    pub(crate) free: FreeSpace,
    pub(crate) journal: Journal,
    pub(crate) applied: Position,
    pub(crate) durable: Point,
    pub(crate) checkpoints: u64,
    pub(crate) is_in_checkpoint: bool,
    /// Blocks that are lost.
    pub(crate) lost: u64,
    pub(crate) failed: Option<Failed>,
    pub(crate) home: Home,
    /// The oldest first.
    pub(crate) snapshots: Vec<Snapshot>,
    /// Those that are not taken any more.
    pub(crate) deleted: Deleted,
    /// The one that is being taken, or goes.
    pub(crate) snapshot_under_way: Option<SnapshotId>,
}

impl Region {
    /// Which one, and how it is made.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.identity
    }

    /// Itself, as a list names it.
    #[must_use]
    pub fn member(&self) -> Member {
        Member { region: self.identity.region, incarnation: self.control.incarnation }
    }

    /// Whether it is full by the list that it has.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.control.list.full.contains(&self.member())
    }

    /// Who may write, and who is full.
    #[must_use]
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// Changes that: durable on return, on both copies, with all that was written before.
    ///
    /// # Errors
    /// If the disk refuses; then the region has failed, and nobody knows which of the two is there.
    pub fn set_control(&mut self, control: Control) -> Result<(), Failed> {
        self.check_in_use()?;
        let mut page = [0; PAGE];
        control.write(&mut page);
        let (file, generation) = (self.file.as_ref(), self.control_changes + 1);
        let written =
            self.layout.control_mirror().write(file, &mut page, generation, &mut self.control_relied);
        written.map_err(|error| self.fail_sync("who may write cannot be kept", &error))?;
        self.control_changes += 1;
        self.control = control;
        Ok(())
    }

    /// Changes that in memory alone, as a program would that forgets the rest.
    #[cfg(feature = "mutants")]
    pub fn forge_control(&mut self, control: Control) {
        self.control = control;
    }

    /// The last write that it has.
    #[must_use]
    pub fn applied(&self) -> Position {
        self.applied
    }

    /// The last write that it would have after a power cut.
    #[must_use]
    pub fn durable(&self) -> Position {
        self.durable.position
    }

    /// Blocks that may be written now, whichever they are. What was replaced counts when it is durable.
    #[must_use]
    pub fn room(&self) -> u64 {
        self.free.free()
    }

    /// Blocks that a sync would add to that.
    #[must_use]
    pub fn room_after_sync(&self) -> u64 {
        self.free.waiting()
    }

    /// Blocks of which it has a version and not the bytes, because nobody had them right.
    #[must_use]
    pub fn lost_blocks(&self) -> u64 {
        self.lost
    }

    /// Why it is of no use any more.
    #[must_use]
    pub fn failed(&self) -> Option<&Failed> {
        self.failed.as_ref()
    }

    /// What is durable is read from the disk from now on: the system's cache forgets it.
    pub fn drop_cache(&self) {
        self.file.drop_cache();
    }

    /// What these blocks hold, and behind `bytes` the bytes of those that hold some. Bytes that the disk does not give back are
    /// zeros: like those that it has changed, they do not have the checksum.
    ///
    /// # Errors
    /// If its map cannot be read; then it has failed.
    ///
    /// # Panics
    /// If it has no such blocks.
    pub fn read(&mut self, blocks: Range<u64>, bytes: &mut Vec<u8>) -> Result<Vec<Held>, Failed> {
        let mut entries = Vec::new();
        self.each_entry(blocks, |entry| entries.push(entry))?;
        self.read_entries(&entries, bytes);
        Ok(entries.iter().map(held).collect())
    }

    /// What these blocks hold.
    ///
    /// # Errors
    /// If its map cannot be read; then it has failed.
    ///
    /// # Panics
    /// If it has no such blocks.
    pub fn look(&mut self, blocks: Range<u64>) -> Result<Vec<Held>, Failed> {
        let mut all = Vec::new();
        self.each_entry(blocks, |entry| all.push(held(&entry)))?;
        Ok(all)
    }

    /// What these blocks hold, in one number: who has the same one has the same versions of the same content. Whether the bytes are
    /// there, right, rotten or lost, is not in it.
    ///
    /// # Errors
    /// If its map cannot be read; then it has failed.
    ///
    /// # Panics
    /// If it has no such blocks.
    pub fn digest(&mut self, blocks: Range<u64>) -> Result<u128, Failed> {
        let is_sealed = self.identity.geometry.is_sealed;
        Ok(digest_of(&self.look(blocks)?, is_sealed))
    }

    pub(crate) fn each_entry(
        &mut self,
        blocks: Range<u64>,
        mut show: impl FnMut(Entry),
    ) -> Result<(), Failed> {
        self.check_in_use()?;
        check_range(&blocks, self.identity.geometry.blocks);
        let Region { file, tree, pages, .. } = self;
        let shown = pages.for_each(file.as_ref(), tree, blocks, |_, entry| show(entry));
        shown.map_err(|error| self.fail_map(&error))
    }

    /// The bytes of those that have some.
    pub(crate) fn read_entries(&self, entries: &[Entry], bytes: &mut Vec<u8>) {
        let size = self.identity.geometry.block_size.bytes();
        reading::read_entries((self.file.as_ref(), &self.layout, size), entries, bytes);
    }

    /// Whoever uses it has tried often enough: it is of no use from now on.
    pub fn give_up(&mut self, error: &StorageError) -> Failed {
        self.fail("the disk goes on refusing writes", error)
    }

    pub(crate) fn check_in_use(&self) -> Result<(), Failed> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    /// It is of no use from now on.
    pub(crate) fn fail(&mut self, what: &str, error: &StorageError) -> Failed {
        self.fail_because(format!("{what}: {error}: {}", error.source))
    }

    /// What was written, and is not durable yet, may be gone though the power is there, and nobody would know at the next opening. So it
    /// is said where that looks, if the disk still takes anything: the region is *suspect*.
    pub(crate) fn fail_sync(&mut self, what: &str, error: &StorageError) -> Failed {
        let mut page = [0; PAGE];
        Control { is_suspect: true, ..self.control.clone() }.write(&mut page);
        // Newer than a change that may be there, and that nobody was answered for. On a file of its own, whose syncs may succeed: what
        // they make durable is this page.
        let generation = self.control_changes + 2;
        let file = self.file.for_last_words();
        let _ = self.layout.control_mirror().write(file, &mut page, generation, &mut self.control_relied);
        self.fail(what, error)
    }

    pub(crate) fn fail_map(&mut self, error: &NotRead) -> Failed {
        match error {
            NotRead::Disk(error) => self.fail("its map cannot be read", error),
            NotRead::Rotten { .. } => self.fail_because(format!("its map is rotten: {error}")),
        }
    }

    pub(crate) fn fail_because(&mut self, why: impl fmt::Display) -> Failed {
        let failed = Failed { why: why.to_string().into() };
        self.failed.get_or_insert(failed).clone()
    }
}

/// Of what blocks hold, or held at a snapshot.
pub(crate) fn digest_of(all: &[Held], is_sealed: bool) -> u128 {
    let mut digest = Xxh3::new();
    for held in all {
        digest.update(&held.version.epoch.to_le_bytes());
        digest.update(&held.version.counter.to_le_bytes());
        match held.what {
            What::Never => digest.update(&[0]),
            What::Zeros => digest.update(&[1]),
            What::Bytes { checksum, seal } | What::Lost { checksum, seal } => {
                digest.update(&[2]);
                digest.update(&checksum.to_le_bytes());
                // Bytes that nobody can open are not the same as those that somebody can.
                if is_sealed {
                    digest.update(&seal);
                }
            }
        }
    }
    digest.digest128()
}

/// What is told of a block.
pub(crate) fn held(entry: &Entry) -> Held {
    let what = match entry.content {
        Content::Never => What::Never,
        Content::Zeros => What::Zeros,
        Content::Bytes { checksum, seal, .. } => What::Bytes { checksum, seal },
        Content::Lost { checksum, seal } => What::Lost { checksum, seal },
    };
    Held { version: entry.version, what }
}

/// Whoever asks for others has a mistake.
pub(crate) fn check_range(blocks: &Range<u64>, count: u64) {
    assert!(
        blocks.start <= blocks.end && blocks.end <= count,
        "blocks {blocks:?} of a region that has {count}"
    );
}
