//! How a region comes to be: made, or opened and brought to the longest right prefix of what was written.
//!
//! | step of making one | a crash after it leaves |
//! |---|---|
//! | a file under a temporary name | that, which [`create`] of the next one removes |
//! | control, super written and synced | the same |
//! | renamed, the directory synced | the region |
//!
//! Opening reads in this order (looking at a region at rest does the same without the first and the last two), and writes only in the last two steps:
//!
//! 1. The system's cache of the file is dropped and the file synced: what is looked at is what the disk has, and what a killed
//!    process had left in the cache is durable before any data block counts as free.
//! 2. Super and control: the newest right copy. Then the tree's index pages and the pages of free space.
//! 3. The records of the journal behind the cut, as long as each continues the one before. One that the medium does not give back is
//!    missing, as one that is rotten is; if that is where the journal ends, the region is *suspect*.
//! 4. The end: the last group of them that has, of all blocks that it or those before it changed, the bytes. Records that
//!    were known to be durable are not asked for theirs. If any record, wherever it is in the ring, says that later ones than
//!    the end were durable, those are rotten.
//! 5. Their changes are made in memory again. Then the snapshots are found: what they have is not free, either.
//! 6. Copies of super or control that differ are made equal: the next change may tear one of them. A super that does not name
//!    all the features of this program does from now on.
//! 7. A record of this life, synced: nothing that lies behind it in the ring continues it.

use crate::{
    control::{CloneOf, Control, List},
    fail_stop::FailStop,
    free::FreeSpace,
    journal::{self, Change, Changed, Found, Journal, Scan, Stamp},
    layout::{BLOCKS_MAX, Layout, SEALED_BLOCKS_MAX},
    map::{Content, Entry},
    pages::Pages,
    position::Position,
    region::{Failed, Point, Region, checksum},
    ring::Ring,
    rules::Rule,
    sealed::{Mirrored, PAGE},
    snapshots::{Deleted, Home, deleted_paths, remove_if_there},
    superblock::{CLONE, Cut, Identity, NAMED, Super, Unusable},
    tree::{FAN, NotRead, Tree},
    write::{NewBlocks, count_lost},
};
use camino::Utf8Path;
use durable_fs::{InPlaceFile, Storage, StorageError};
use ids::SnapshotId;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

/// Behind the name of a file that is not a region yet.
const UNFINISHED: &str = ".new";

/// Why there is no new region.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// There may be no such region.
    #[error("a region has 1 to {BLOCKS_MAX} blocks, or {SEALED_BLOCKS_MAX} with seals, and not {blocks}")]
    Wrong {
        /// How many were asked for.
        blocks: u64,
    },
    /// The disk refused; for lack of room, for example.
    #[error("the region's file cannot be made")]
    Disk(#[from] StorageError),
}

/// Why a region is not opened. Nothing is changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The disk refused.
    #[error("the region's file cannot be opened")]
    Disk(#[from] StorageError),
    /// Neither copy of what says that it is a region is right.
    #[error("{path} is not a region, or what says so is rotten")]
    NotARegion {
        /// The file.
        path: String,
    },
    /// Of a later program, or nonsense.
    #[error("{path} cannot be used by this program: {why}")]
    Unusable {
        /// The file.
        path: String,
        /// In words.
        why: String,
    },
    /// Shorter than its blocks take.
    #[error("{path} has {size} bytes, and its blocks take {needed}: a part of it is missing")]
    Short {
        /// The file.
        path: String,
        /// Bytes that it has.
        size: u64,
        /// Bytes that it must have.
        needed: u64,
    },
    /// What was durable is not there any more.
    #[error("{path} has lost what was durable: {what}")]
    Rotten {
        /// The file.
        path: String,
        /// In words.
        what: String,
    },
    /// The first writing failed.
    #[error("{path} cannot be written")]
    NotWritten {
        /// The file.
        path: String,
        /// Why.
        #[source]
        failed: Failed,
    },
}

/// What a new region is given.
#[derive(Clone, Debug)]
pub struct NewRegion {
    /// Which one, and how it is made.
    pub identity: Identity,
    /// A random number: which region of this id.
    pub incarnation: u64,
    /// The list that it is made with: the first one of its set, or none.
    pub list: List,
    /// A random number: seeds its checksums.
    pub salt: u64,
}

/// What an opening is given.
#[derive(Clone, Copy, Debug)]
pub struct Opening {
    /// A random number: of this opening.
    pub life: u64,
    /// The boot of the machine: another one than last time means that its power was gone in between.
    pub boot: Uuid,
}

/// Makes a region, with all the space that it will ever take.
///
/// # Errors
/// [`CreateError`]; nothing of it is there, or the temporary file of which the next attempt makes a new one.
pub fn create(storage: &dyn Storage, path: &Utf8Path, new: &NewRegion) -> Result<(), CreateError> {
    create_any(storage, path, new, None)
}

/// The same of one that is to be a clone of a snapshot: nobody may ever write it, and nobody may read it before it is proven.
///
/// # Errors
/// [`CreateError`]; as [`create`].
pub fn create_clone(
    storage: &dyn Storage,
    path: &Utf8Path,
    new: &NewRegion,
    of: SnapshotId,
) -> Result<(), CreateError> {
    create_any(storage, path, new, Some(CloneOf { snapshot: of, proven: None }))
}

fn create_any(
    storage: &dyn Storage,
    path: &Utf8Path,
    new: &NewRegion,
    clone_of: Option<CloneOf>,
) -> Result<(), CreateError> {
    let geometry = new.identity.geometry;
    if !geometry.is_possible() {
        return Err(CreateError::Wrong { blocks: geometry.blocks });
    }
    let unfinished = camino::Utf8PathBuf::from(format!("{path}{UNFINISHED}"));
    remove_if_there(storage, &unfinished)?;
    let made = make(storage, &unfinished, path, (new, clone_of));
    if made.is_err() {
        // It may hold space that others need. If this fails, too, the next attempt removes it.
        let _ = storage.remove(&unfinished);
    }
    made.map_err(CreateError::from)
}

fn make(
    storage: &dyn Storage,
    unfinished: &Utf8Path,
    path: &Utf8Path,
    (new, clone_of): (&NewRegion, Option<CloneOf>),
) -> Result<(), StorageError> {
    let layout = Layout::of(new.identity.geometry, new.salt);
    let file = storage.create_in_place(unfinished)?;
    file.reserve(0, layout.size())?;
    let (incarnation, list) = (new.incarnation, new.list.clone());
    let control = Control { incarnation, list, clone_of, ..Control::default() };
    let mut page = [0; PAGE];
    control.write(&mut page);
    layout.control_mirror().write_twice(file.as_ref(), &mut page, 1)?;
    let tops = Tree::empty(&layout).tops();
    let cut = Cut::default();
    let features = features_of(&control);
    let first = Super { features, identity: new.identity, salt: new.salt, cut, tops, lost: 0 };
    let mut page = [0; PAGE];
    first.write(&mut page);
    Layout::super_mirror().write_twice(file.as_ref(), &mut page, 1)?;
    drop(file);
    storage.rename(unfinished, path)?;
    storage.sync_directory(path.parent().unwrap_or(Utf8Path::new("")))
}

/// What whoever opens such a region must know.
pub(crate) fn features_of(control: &Control) -> u64 {
    if control.clone_of.is_some() { NAMED | CLONE } else { NAMED }
}

/// Removes a region, if it is there, and its snapshots: without it they are nothing. Nobody must have it open.
///
/// # Errors
/// If the disk refuses; the next attempt goes on.
pub fn destroy(storage: Arc<dyn Storage>, path: &Utf8Path) -> Result<(), StorageError> {
    remove_if_there(storage.as_ref(), path)?;
    let home = Home { storage, path: path.to_owned() };
    for (there, _) in home.files()? {
        remove_if_there(home.storage.as_ref(), &there)?;
    }
    for there in deleted_paths(&home) {
        remove_if_there(home.storage.as_ref(), &there)?;
    }
    home.sync_directory()
}

/// Opens a region.
///
/// # Errors
/// [`OpenError`]; nothing is changed, but for the last one.
pub fn open(storage: Arc<dyn Storage>, path: &Utf8Path, opening: Opening) -> Result<Region, OpenError> {
    let file: Arc<dyn InPlaceFile> = Arc::from(storage.open_in_place(path)?);
    file.drop_cache();
    if Rule::OpeningSyncs.is_kept() {
        file.sync_data()?;
    }
    let found = find(storage, Arc::new(FailStop::new(file)), path, opening.life)?;
    let AtRest { mut region, is_clean, may_lack_some, kept: [top, control_kept], .. } = found;
    region.find_snapshots()?;
    let begun = region.begin_life(opening, is_clean, may_lack_some, [&top, &control_kept]);
    begun.map_err(|failed| OpenError::NotWritten { path: path.to_string(), failed })?;
    Ok(region)
}

/// The first that is read: what says that it is a region, and who may write it.
pub(crate) struct Head {
    pub(crate) top: Super,
    pub(crate) layout: Layout,
    pub(crate) control: Control,
    kept: [Mirrored; 2],
}

pub(crate) fn read_head(file: &dyn InPlaceFile, path: &Utf8Path) -> Result<Head, OpenError> {
    let name = || path.to_string();
    let Some(kept) = Layout::super_mirror().read(file)? else {
        return Err(OpenError::NotARegion { path: name() });
    };
    let unusable = |why: Unusable| OpenError::Unusable { path: name(), why: why.to_string() };
    let top = Super::read(&kept.page).map_err(unusable)?;
    let mut layout = Layout::of(top.identity.geometry, top.salt);
    let size = file.size()?;
    layout.tracts = layout.tracts_in(size);
    let groups = top.tops.groups.len() as u64;
    let needed = layout.size_with(groups.checked_sub(1).map_or(0, |whole| whole * FAN + 1));
    if size < needed {
        return Err(OpenError::Short { path: name(), size, needed });
    }
    let control_kept = layout.control_mirror().read(file)?;
    let control = control_kept.and_then(|kept| Some((Control::read(&kept.page)?, kept)));
    let (control, control_kept) = control.ok_or_else(|| {
        let what = "who may write it is in neither of its places".to_owned();
        OpenError::Rotten { path: name(), what }
    })?;
    Ok(Head { top, layout, control, kept: [kept, control_kept] })
}

/// A region as its file has it: nothing was written yet.
pub(crate) struct AtRest {
    pub(crate) region: Region,
    /// Whether its last life has ended in order.
    pub(crate) is_clean: bool,
    /// Whether there may have been more, where the medium does not give back what is there.
    pub(crate) may_lack_some: bool,
    /// The last write that it was known to have durably, before it was looked at.
    pub(crate) known_durable: Position,
    kept: [Mirrored; 2],
}

pub(crate) fn find(
    storage: Arc<dyn Storage>,
    file: Arc<FailStop>,
    path: &Utf8Path,
    life: u64,
) -> Result<AtRest, OpenError> {
    let name = || path.to_string();
    let Head { top: kept, layout, control, kept: [top, control_kept] } = read_head(file.as_ref(), path)?;
    let rotten = |what: String| OpenError::Rotten { path: name(), what };
    let not_read = |error: NotRead| match error {
        NotRead::Disk(error) => OpenError::Disk(error),
        NotRead::Rotten { .. } => rotten(error.to_string()),
    };
    let mut tree = Tree::open(file.as_ref(), &layout, &kept.tops).map_err(not_read)?;
    let mut free = FreeSpace::new(&layout);
    for number in 0..layout.free_pages + layout.tracts {
        if number >= layout.free_pages {
            free.grow();
        }
        let page = tree.read(file.as_ref(), layout.free_leaf(number)).map_err(not_read)?;
        if !free.read_page(number, &page) {
            return Err(rotten(format!("page {number} of free space names blocks that there are not")));
        }
    }
    let mut ring = Ring::new(file.as_ref(), &layout);
    let Scan { found, ends_unreadable } = Journal::scan(&mut ring, &kept.cut)?;
    let durable = found.iter().map(|found| found.record.durable).fold(kept.cut.record, u64::max);
    let found = right_prefix(file.as_ref(), &layout, durable, found);
    // Of a region that was never opened nothing can be lost.
    let is_new = found.is_empty() && kept.cut.record == 0;
    let is_clean = is_new || found.last().is_some_and(|found| found.record.is_end_of_life);
    let end = found.last().map_or(kept.cut.record, |found| found.record.number);
    let durable = match Rule::DurableIsMissed.is_kept() {
        true => durable.max(Journal::durable_behind(&mut ring, end)?),
        false => end,
    };
    if end < durable {
        return Err(rotten(format!(
            "records up to {durable} were durable, and only those up to {end} are right"
        )));
    }
    let mark = found.last().map(|found| found.mark);
    let known = found.iter().rfind(|found| found.record.number <= durable);
    let known_durable = known.map_or(kept.cut.applied, |found| found.record.applied);
    let mut region = Region {
        identity: kept.identity,
        layout,
        control,
        control_changes: control_kept.generation,
        control_relied: control_kept.half,
        tree,
        pages: Pages::new(&layout),
        free,
        journal: Journal::resume(&layout, life, &kept.cut, mark),
        applied: kept.cut.applied,
        durable: Point { record: end, position: kept.cut.applied },
        checkpoints: top.generation,
        is_in_checkpoint: false,
        lost: kept.lost,
        failed: None,
        home: Home { storage, path: path.to_owned() },
        snapshots: Vec::new(),
        deleted: Deleted::default(),
        snapshot_under_way: None,
        file,
    };
    for found in found {
        region.replay(found).map_err(not_read)?;
    }
    region.durable.position = region.applied;
    // The end of one life may be followed by the beginning of another one.
    let (is_clean, may_lack_some) = (is_clean && !ends_unreadable, ends_unreadable);
    Ok(AtRest { region, is_clean, may_lack_some, known_durable, kept: [top, control_kept] })
}

impl Region {
    /// Makes the changes of a record again, in memory.
    fn replay(&mut self, found: Found) -> Result<(), NotRead> {
        let Region { file, tree, pages, free, lost, .. } = self;
        for change in found.record.changes {
            let (version, block) = (change.version, change.block);
            let blocks = block..block + change.content.count();
            let mut new = NewBlocks::of(change.content);
            pages.change_each(file.as_ref(), tree, blocks, |_, there| {
                let content = new.next();
                if let Content::Bytes { place, .. } = there.content {
                    free.found(place, false);
                }
                if let Content::Bytes { place, .. } = content {
                    free.found(place, true);
                }
                count_lost(lost, &there.content, &content);
                Some(Entry { version, content })
            })?;
        }
        self.applied = found.record.applied;
        Ok(())
    }

    /// The first writes of an opening.
    fn begin_life(
        &mut self,
        opening: Opening,
        is_clean: bool,
        may_lack_some: bool,
        kept: [&Mirrored; 2],
    ) -> Result<(), Failed> {
        let [top, control] = kept;
        let makes_equal = Rule::CopiesAreEqual.is_kept();
        // What this life writes, a program that does not know all features would misread: it is told before.
        let is_older = Super::read(&top.page).is_ok_and(|kept| kept.features & NAMED != NAMED);
        if (makes_equal && !top.is_twice) || is_older {
            let mut page = top.page.clone();
            Super::upgrade(&mut page);
            let mut relied = top.half;
            let (file, generation) = (self.file.as_ref(), top.generation);
            let written = Layout::super_mirror().write(file, &mut page, generation, &mut relied);
            written.map_err(|error| self.fail("what says that it is a region cannot be kept", &error))?;
        }
        let had_power = self.control.boot == opening.boot;
        if (makes_equal && !control.is_twice) || !had_power || (may_lack_some && !self.control.is_suspect) {
            let is_suspect = self.control.is_suspect || !(had_power || is_clean) || may_lack_some;
            self.set_control(Control { boot: opening.boot, is_suspect, ..self.control.clone() })?;
        }
        self.say_all_is_durable(false)
    }

    /// Writes a record that says so, and syncs it.
    fn say_all_is_durable(&mut self, is_end_of_life: bool) -> Result<(), Failed> {
        if !self.journal.has_room(journal::bytes_max(&self.layout, 0, 0)) {
            if self.is_in_checkpoint {
                // What is durable is so without being said.
                return Ok(());
            }
            self.checkpoint()?;
        }
        let stamp = Stamp { durable: self.durable.record, applied: self.applied, is_end_of_life };
        let written = self.journal.append(self.file.as_ref(), stamp, &[]);
        written.map_err(|error| self.fail("the journal cannot be written", &error))?;
        if Rule::LifeBeginsDurably.is_kept() { self.sync().map(drop) } else { Ok(()) }
    }

    /// Makes everything durable, and says so, as the last thing that is done with it: the next opening has nothing to look for.
    ///
    /// # Errors
    /// If the disk refuses; then the region has failed.
    pub fn settle(&mut self) -> Result<(), Failed> {
        self.sync()?;
        self.say_all_is_durable(true)?;
        self.fail_because("it was closed");
        Ok(())
    }
}

/// The groups of records that count: up to the last one that has, of all blocks, the bytes that they hold at it. Those that are
/// not newer than `durable` are believed to have theirs.
fn right_prefix(file: &dyn InPlaceFile, layout: &Layout, durable: u64, mut found: Vec<Found>) -> Vec<Found> {
    let mut looked_at = BTreeMap::new();
    loop {
        let is_end = |found: &Found| found.record.is_last || !Rule::GroupIsWhole.is_kept();
        let end = found.iter().rposition(is_end).map_or(0, |last| last + 1);
        found.truncate(end);
        let unproven = found.iter().filter(|found| found.record.number > durable);
        let mut in_force = BTreeMap::new();
        for Found { record, .. } in unproven {
            for change in &record.changes {
                in_force.extend(bytes_of(record.number, change));
            }
        }
        let wrong = in_force.into_iter().filter_map(|(block, bytes)| Some((block, bytes?)));
        let wrong = wrong.filter(|(block, bytes)| {
            !*looked_at.entry(*bytes).or_insert_with(|| bytes.are_there(file, layout, *block))
        });
        let Some(first_wrong) = wrong.map(|(_, bytes)| bytes.record).min() else { return found };
        if !Rule::EndHasItsBytes.is_kept() {
            return found;
        }
        // Whatever is between is wrong with it: it was not replaced there.
        found.retain(|found| found.record.number < first_wrong);
        if !Rule::BytesInForceAtTheEnd.is_kept() {
            return found;
        }
    }
}

/// Which bytes a block is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Bytes {
    record: u64,
    place: u64,
    checksum: u64,
}

impl Bytes {
    fn are_there(&self, file: &dyn InPlaceFile, layout: &Layout, block: u64) -> bool {
        let mut bytes = vec![0; layout.geometry.block_size.bytes()];
        let read = file.read_exact_at(layout.data_at(self.place), &mut bytes);
        read.is_ok() && checksum(block, &bytes) == self.checksum
    }
}

/// The blocks of a change, with the bytes that they are to have, if any.
fn bytes_of(record: u64, change: &Change) -> Vec<(u64, Option<Bytes>)> {
    match &change.content {
        Changed::Never(_) | Changed::Zeros(_) | Changed::Lost { .. } => {
            (change.block..change.block + change.content.count()).map(|block| (block, None)).collect()
        }
        Changed::Bytes { places, checksums, .. } => {
            let places = places.iter().cloned().flatten();
            let bytes =
                places.zip(checksums).map(|(place, &checksum)| Some(Bytes { record, place, checksum }));
            (change.block..).zip(bytes).collect()
        }
    }
}
