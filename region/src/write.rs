//! How a region changes: bytes are *staged* in free data blocks, and *committed* by a group of records in the journal.
//!
//! ```text
//!   bytes ──stage──► staged ──commit──► applied          what is staged is nobody's content, and forgotten by an opening
//!                      └──discard──► free
//! ```
//!
//! | step | a crash after it leaves |
//! |---|---|
//! | bytes written into free data blocks | nothing: they are free |
//! | the map changed in memory | nothing |
//! | the group of records written | all of it, if all of it reached the disk and its bytes did; else nothing |

use crate::{
    journal::{self, CHANGE_BLOCKS_MAX, Change, Changed, Stamp},
    layout::GROUPS_MAX,
    map::{Content, Entry, SEAL, Seal},
    position::Position,
    region::{Failed, Region},
    tree::FAN,
};
use durable_fs::{InPlaceFile, Operation, StorageError};
use std::{
    io::{self, IoSlice},
    ops::Range,
};

/// Blocks of a batch that the journal of any region takes, behind a checkpoint, whatever they are cut into.
pub(crate) const BATCH_BLOCKS_MAX: u64 = 32_768;

/// Bytes that are given to the system at once at most. ext4 keeps what comes in one piece in the cache in one piece, and each
/// later write of a block into a large one costs five times as much as into a small one.
const PIECE: usize = 64 << 10;

/// Blocks that follow each other, and what they are to hold.
#[derive(Clone, Copy, Debug)]
pub struct Write<'a> {
    /// Whose content it is.
    pub version: Position,
    /// The first block.
    pub block: u64,
    /// The content.
    pub content: NewContent<'a>,
    /// Which of the blocks take it.
    pub onto: Onto,
}

/// What blocks are to hold.
#[derive(Clone, Copy, Debug)]
pub enum NewContent<'a> {
    /// What nobody ever wrote, so many blocks of it.
    Never(u64),
    /// Zeros, so many blocks.
    Zeros(u64),
    /// Bytes of whole blocks, with a checksum for each, and a seal where the region has them.
    Bytes {
        /// The bytes.
        bytes: &'a [u8],
        /// Their checksums.
        checksums: &'a [u64],
        /// Their seals.
        seals: &'a [Seal],
    },
    /// Bytes that nobody has right any more.
    Lost {
        /// The checksums that they would have.
        checksums: &'a [u64],
        /// The seals that they would have, where the region has seals.
        seals: &'a [Seal],
    },
}

impl<'a> NewContent<'a> {
    fn blocks(&self) -> u64 {
        match *self {
            NewContent::Never(count) | NewContent::Zeros(count) => count,
            NewContent::Bytes { checksums, .. } | NewContent::Lost { checksums, .. } => {
                checksums.len() as u64
            }
        }
    }

    fn bytes(&self) -> Option<&'a [u8]> {
        if let NewContent::Bytes { bytes, .. } = *self { Some(bytes) } else { None }
    }
}

/// Which blocks take a new content. The others keep what they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onto {
    /// Those whose version is older: writes of the stream, which may come twice.
    Older,
    /// Those whose version is older, or of an epoch before this one: copies for a member that is not full.
    Past {
        /// The present epoch.
        epoch: u32,
    },
    /// Those of this very version: bytes that were right once, for those that are wrong now.
    Same,
}

impl Onto {
    fn takes(self, there: Position, new: Position) -> bool {
        match self {
            Onto::Older => there < new,
            Onto::Past { epoch } => there < new || (there.epoch < epoch && there != new),
            Onto::Same => there == new,
        }
    }
}

/// Writes whose bytes are on the disk, and which nobody sees yet. To be committed or discarded.
#[derive(Debug, Default)]
#[must_use = "the data blocks that it has stay taken until it is committed or discarded"]
pub struct Staged {
    writes: Vec<StagedWrite>,
    pieces: u64,
    blocks: u64,
}

impl Staged {
    /// Puts others behind these.
    pub fn append(&mut self, mut others: Staged) {
        self.writes.append(&mut others.writes);
        self.pieces += others.pieces;
        self.blocks += others.blocks;
    }

    /// Blocks that are in it.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.blocks
    }
}

#[derive(Debug)]
struct StagedWrite {
    version: Position,
    block: u64,
    onto: Onto,
    content: Changed,
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// More blocks, or others, than there are; or bytes, checksums or seals that are not as many; or nobody's version.
    #[error(
        "a write of {blocks} blocks from block {block} on, with {bytes} bytes, {checksums} checksums and {seals} seals, is none"
    )]
    Wrong {
        /// The first block.
        block: u64,
        /// How many.
        blocks: u64,
        /// Bytes that came with it.
        bytes: usize,
        /// Checksums that came with it.
        checksums: usize,
        /// Seals that came with it.
        seals: usize,
    },
    /// Every data block is in use or waits for a sync; after one there may be room.
    #[error("{needed} data blocks are needed, and {free} are free; a sync frees {waiting} more")]
    NoRoom {
        /// That it takes.
        needed: u64,
        /// That there are.
        free: u64,
        /// That a sync would add.
        waiting: u64,
    },
    /// The journal has no room until a checkpoint has made some.
    #[error("the journal has no room until a checkpoint has ended")]
    JournalFull,
    /// More changes at a time than the journal has room for.
    #[error("{blocks} blocks in {pieces} writes are more than the journal takes at a time")]
    TooMuch {
        /// Blocks.
        blocks: u64,
        /// Writes.
        pieces: u64,
    },
    /// The disk refused; nothing is changed.
    #[error("bytes of blocks cannot be written")]
    Disk(#[source] StorageError),
    /// The region is of no use.
    #[error(transparent)]
    Failed(#[from] Failed),
}

impl Region {
    /// Blocks of a batch that always fit, all its writes together: into free data blocks behind a sync, if nothing is staged, and
    /// into the journal behind a checkpoint. At least all blocks of the region, or 32 Ki.
    #[must_use]
    pub fn batch_blocks_max(&self) -> u64 {
        BATCH_BLOCKS_MAX.min(self.layout.data_blocks - self.identity.geometry.blocks)
    }

    /// Writes: stages and commits. Returns how many blocks have taken what was written.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed, or the region has failed.
    pub fn write(&mut self, applied: Position, writes: &[Write<'_>]) -> Result<u64, WriteError> {
        let staged = self.stage(writes)?;
        self.commit(applied, staged).map_err(|(error, staged)| {
            if let Some(staged) = staged {
                self.discard(staged);
            }
            error
        })
    }

    /// Writes bytes where nobody sees them.
    ///
    /// # Errors
    /// [`WriteError`]; nothing is changed.
    pub fn stage(&mut self, writes: &[Write<'_>]) -> Result<Staged, WriteError> {
        self.check_in_use()?;
        let mut needed = 0;
        for write in writes {
            needed += self.check_write(write)?;
        }
        self.grow_for_snapshots(needed)?;
        if needed > self.free.free() {
            let (free, waiting) = (self.free.free(), self.free.waiting());
            return Err(WriteError::NoRoom { needed, free, waiting });
        }
        let mut staged = Staged::default();
        for writes in writes.chunk_by(follows) {
            match self.stage_together(writes) {
                Ok(one) => staged.append(one),
                Err(error) => {
                    self.discard(staged);
                    return Err(WriteError::Disk(error));
                }
            }
        }
        Ok(staged)
    }

    /// What snapshots alone have is room that is missing: the file grows by as much, a tract at a time, when it is needed.
    fn grow_for_snapshots(&mut self, needed: u64) -> Result<(), WriteError> {
        while self.free.in_snapshots_alone() > self.layout.tracts * self.layout.tract_blocks {
            match self.grow() {
                Ok(()) => {}
                Err(error) if needed > self.free.free() => return Err(WriteError::Disk(error)),
                Err(_) => break,
            }
        }
        Ok(())
    }

    fn grow(&mut self) -> Result<(), StorageError> {
        let tracts = self.layout.tracts + 1;
        if tracts > GROUPS_MAX * FAN {
            return Err(StorageError::new(Operation::Reserve, &self.home.path, io::ErrorKind::StorageFull));
        }
        self.file.lengthen(self.layout.size_with(tracts))?;
        self.layout.tracts = tracts;
        self.tree.grow();
        self.free.grow();
        Ok(())
    }

    /// Whether the journal ever has room for so much at a time.
    #[must_use]
    pub fn can_ever_commit(&self, staged: &Staged) -> bool {
        self.journal.ever_has_room(journal::bytes_max(&self.layout, staged.pieces, staged.blocks))
    }

    /// Makes what was staged the content of its blocks, as a whole, and `applied` the position that has been reached. Returns how
    /// many blocks have taken it.
    ///
    /// # Errors
    /// [`WriteError`], and what was staged if it still is; otherwise the region has failed.
    pub fn commit(&mut self, applied: Position, staged: Staged) -> Result<u64, (WriteError, Option<Staged>)> {
        if let Err(failed) = self.check_in_use() {
            return Err((failed.into(), None));
        }
        let bytes = journal::bytes_max(&self.layout, staged.pieces, staged.blocks);
        if !self.can_ever_commit(&staged) {
            let (blocks, pieces) = (staged.blocks, staged.pieces);
            return Err((WriteError::TooMuch { blocks, pieces }, Some(staged)));
        }
        if !self.journal.has_room(bytes) {
            return Err((WriteError::JournalFull, Some(staged)));
        }
        let mut changes = Vec::new();
        for write in staged.writes {
            self.commit_one(write, &mut changes).map_err(|failed| (failed.into(), None))?;
        }
        let stamp = Stamp { durable: self.durable.record, applied, is_end_of_life: false };
        let written = self.journal.append(self.file.as_ref(), stamp, &changes);
        written.map_err(|error| (self.fail("the journal cannot be written", &error).into(), None))?;
        self.applied = applied;
        Ok(changes.iter().map(|change| change.content.count()).sum())
    }

    /// Forgets what was staged.
    pub fn discard(&mut self, staged: Staged) {
        for write in staged.writes {
            if let Changed::Bytes { places, .. } = write.content {
                self.give_back(&places);
            }
        }
    }

    fn give_back(&mut self, runs: &[Range<u64>]) {
        self.free.settle(runs);
        runs.iter().cloned().flatten().for_each(|place| self.free.give_back(place));
    }

    /// The data blocks that a write needs.
    fn check_write(&self, write: &Write<'_>) -> Result<u64, WriteError> {
        let geometry = self.identity.geometry;
        let size = geometry.block_size.bytes();
        let (blocks, sizes) = match write.content {
            NewContent::Never(blocks) | NewContent::Zeros(blocks) => (blocks, None),
            NewContent::Bytes { bytes, checksums, seals } => {
                (checksums.len() as u64, Some((bytes.len(), checksums.len(), seals.len())))
            }
            NewContent::Lost { checksums, seals } => {
                (checksums.len() as u64, Some((checksums.len() * size, checksums.len(), seals.len())))
            }
        };
        let fits = |(bytes, checksums, seals): (usize, usize, usize)| {
            bytes == checksums * size && seals == if geometry.is_sealed { checksums } else { 0 }
        };
        let is_never = matches!(write.content, NewContent::Never(_));
        let end = write.block.checked_add(blocks);
        let is_right = blocks > 0
            && end.is_some_and(|end| end <= geometry.blocks)
            && sizes.is_none_or(fits)
            && is_never == (write.version == Position::NONE);
        if !is_right {
            let (bytes, checksums, seals) = sizes.unwrap_or_default();
            return Err(WriteError::Wrong { block: write.block, blocks, bytes, checksums, seals });
        }
        Ok(if matches!(write.content, NewContent::Bytes { .. }) { blocks } else { 0 })
    }

    /// Writes of blocks that follow each other, all of them of bytes; or one of something else.
    fn stage_together(&mut self, writes: &[Write<'_>]) -> Result<Staged, StorageError> {
        let bytes: Vec<&[u8]> = writes.iter().filter_map(|write| write.content.bytes()).collect();
        let counts: Vec<u64> = writes.iter().map(|write| write.content.blocks()).collect();
        let mut places = Vec::new();
        if !bytes.is_empty() {
            let taken = self.free.take_for_each(writes[0].block, &counts);
            places = taken.expect("it was counted that there are so many");
            if let Err(error) = self.write_places(&places.concat(), &bytes) {
                places.iter().for_each(|places| self.give_back(places));
                return Err(error);
            }
        }
        let (mut places, mut staged) = (places.into_iter(), Staged::default());
        for (Write { version, block, content, onto }, blocks) in writes.iter().zip(counts) {
            let content = match *content {
                NewContent::Never(count) => Changed::Never(count),
                NewContent::Zeros(count) => Changed::Zeros(count),
                NewContent::Bytes { checksums, seals, .. } => {
                    let places = places.next().expect("some were taken for each that has bytes");
                    Changed::Bytes { places, checksums: checksums.to_vec(), seals: seals.to_vec() }
                }
                NewContent::Lost { checksums, seals } => {
                    Changed::Lost { checksums: checksums.to_vec(), seals: seals.to_vec() }
                }
            };
            let writes = vec![StagedWrite { version: *version, block: *block, onto: *onto, content }];
            staged.append(Staged { writes, pieces: 1 + blocks / CHANGE_BLOCKS_MAX as u64, blocks });
        }
        Ok(staged)
    }

    /// Writes these bytes, one slice after the other, into these places, one after the other.
    fn write_places(&self, places: &[Range<u64>], bytes: &[&[u8]]) -> Result<(), StorageError> {
        let size = self.identity.geometry.block_size.bytes();
        let mut bytes = Slices(bytes.to_vec());
        for run in joined(places).into_iter().flat_map(|run| self.layout.parts(run)) {
            let mut left = (run.end - run.start) as usize * size;
            let mut at = self.layout.data_at(run.start);
            if !self.is_full() {
                // One that is filled is read by nobody. What the system keeps of it would take memory from what is of use, and memory that
                // was not used for a while costs more to get than the copy into it.
                self.file.write_through_at(at, &mut bytes.take(left))?;
                continue;
            }
            while left > 0 {
                let piece = left.min(PIECE);
                self.file.write_all_at(at, &mut bytes.take(piece))?;
                at += piece as u64;
                left -= piece;
            }
        }
        Ok(())
    }

    /// Changes the map in memory, and says how.
    fn commit_one(&mut self, write: StagedWrite, changes: &mut Vec<Change>) -> Result<(), Failed> {
        let StagedWrite { version, block, onto, content } = write;
        let count = content.count();
        let record = self.journal.mark().number + 1;
        if let Changed::Bytes { places, .. } = &content {
            self.free.settle(places);
        }
        let mut new = NewBlocks::of(content);
        let Region { file, tree, pages, free, lost, .. } = self;
        let changed = pages.change_each(file.as_ref(), tree, block..block + count, |block, there| {
            let content = new.next();
            if !onto.takes(there.version, version) {
                if let Content::Bytes { place, .. } = content {
                    free.give_back(place);
                }
                return None;
            }
            if let Content::Bytes { place, .. } = there.content {
                free.replace(record, place);
            }
            count_lost(lost, &there.content, &content);
            add_change(changes, version, block, content, !new.seals.is_empty());
            Some(Entry { version, content })
        });
        changed.map_err(|error| self.fail_map(&error))
    }
}

/// Whether the bytes of both are written together.
fn follows(one: &Write<'_>, next: &Write<'_>) -> bool {
    let are_bytes = one.content.bytes().is_some() && next.content.bytes().is_some();
    are_bytes && one.block + one.content.blocks() == next.block
}

/// The same with as few runs as can be.
fn joined(runs: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = Vec::new();
    for run in runs {
        match all.last_mut() {
            Some(last) if last.end == run.start => last.end = run.end,
            _ => all.push(run.clone()),
        }
    }
    all
}

/// Bytes that are taken from the front, and not copied.
struct Slices<'a>(Vec<&'a [u8]>);

impl<'a> Slices<'a> {
    /// The next so many. There are.
    fn take(&mut self, mut count: usize) -> Vec<IoSlice<'a>> {
        let mut taken = Vec::new();
        let mut done = 0;
        for slice in &mut self.0 {
            let (here, rest) = slice.split_at(count.min(slice.len()));
            taken.push(IoSlice::new(here));
            count -= here.len();
            *slice = rest;
            if !rest.is_empty() || count == 0 {
                break;
            }
            done += 1;
        }
        self.0.drain(..done);
        taken
    }
}

/// Keeps count of the blocks that are lost.
pub(crate) fn count_lost(lost: &mut u64, before: &Content, now: &Content) {
    let is_lost = |content: &Content| u64::from(matches!(content, Content::Lost { .. }));
    // What counts is the map; a count that was wrong on the disk is no reason to stop.
    *lost = (*lost + is_lost(now)).saturating_sub(is_lost(before));
}

/// The new content of one block after the other.
pub(crate) struct NewBlocks {
    /// What a block holds that has no checksum.
    bare: Content,
    is_lost: bool,
    places: std::iter::Flatten<std::vec::IntoIter<Range<u64>>>,
    checksums: std::vec::IntoIter<u64>,
    seals: Vec<Seal>,
    at: usize,
}

impl NewBlocks {
    pub(crate) fn of(content: Changed) -> NewBlocks {
        let is_lost = matches!(content, Changed::Lost { .. });
        let (bare, places, checksums, seals) = match content {
            Changed::Never(_) => (Content::Never, Vec::new(), Vec::new(), Vec::new()),
            Changed::Zeros(_) => (Content::Zeros, Vec::new(), Vec::new(), Vec::new()),
            Changed::Bytes { places, checksums, seals } => (Content::Never, places, checksums, seals),
            Changed::Lost { checksums, seals } => (Content::Never, Vec::new(), checksums, seals),
        };
        let (places, checksums) = (places.into_iter().flatten(), checksums.into_iter());
        NewBlocks { bare, is_lost, places, checksums, seals, at: 0 }
    }

    pub(crate) fn next(&mut self) -> Content {
        let Some(checksum) = self.checksums.next() else { return self.bare };
        let seal = self.seals.get(self.at).copied().unwrap_or([0; SEAL]);
        self.at += 1;
        match self.places.next() {
            Some(place) => Content::Bytes { place, checksum, seal },
            None if self.is_lost => Content::Lost { checksum, seal },
            None => self.bare,
        }
    }
}

/// Adds what one block now holds to what the blocks before it do.
fn add_change(changes: &mut Vec<Change>, version: Position, block: u64, content: Content, is_sealed: bool) {
    if let Some(last) = changes.last_mut()
        && last.version == version
        && last.block + last.content.count() == block
    {
        match (&mut last.content, content) {
            (Changed::Never(count), Content::Never) | (Changed::Zeros(count), Content::Zeros) => {
                *count += 1;
                return;
            }
            (Changed::Bytes { places, checksums, seals }, Content::Bytes { place, checksum, seal })
                if checksums.len() < CHANGE_BLOCKS_MAX =>
            {
                match places.last_mut() {
                    Some(run) if run.end == place => run.end += 1,
                    _ => places.push(place..place + 1),
                }
                checksums.push(checksum);
                if is_sealed {
                    seals.push(seal);
                }
                return;
            }
            (Changed::Lost { checksums, seals }, Content::Lost { checksum, seal })
                if checksums.len() < CHANGE_BLOCKS_MAX =>
            {
                checksums.push(checksum);
                if is_sealed {
                    seals.push(seal);
                }
                return;
            }
            _ => {}
        }
    }
    let seals = |seal| if is_sealed { vec![seal] } else { Vec::new() };
    let content = match content {
        Content::Never => Changed::Never(1),
        Content::Zeros => Changed::Zeros(1),
        Content::Bytes { place, checksum, seal } => Changed::Bytes {
            places: std::iter::once(place..place + 1).collect(),
            checksums: vec![checksum],
            seals: seals(seal),
        },
        Content::Lost { checksum, seal } => Changed::Lost { checksums: vec![checksum], seals: seals(seal) },
    };
    changes.push(Change { version, block, content });
}
