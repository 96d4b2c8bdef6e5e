//! Snapshots: what a region held at one moment, kept without a copy of anything.
//!
//! **Problem.** The content of a moment has to stay, whatever is written afterwards, at the cost of what is written and not of what there
//! is; taking it must not hold up writers for longer than a checkpoint's begin does; and it must be whole or not there, wherever the power fails.
//!
//! **Theory.** Bytes are never written over anyhow: a snapshot keeps the data blocks of its moment from being free, and the map that names
//! them. That map is the one of a checkpoint, made for it, whose *generation* is the snapshot's. Each page of the map says in which generation it was
//! written. So a page that is in force and not newer than the snapshot is the snapshot's, too; before a checkpoint replaces such a
//! page, it is written into the newest snapshot's own file, where every older one looks, too.
//!
//! ```text
//!   taking ──checkpoint is in force──► its file is made ──is named──► taken ──deleted: renamed──► going ──older ones have its pages──► gone
//!      │                                     │
//!      └── no room, an error ────────────────┴──► not taken, nothing is left of it
//!
//!   which page of the map is a snapshot's:   its own ──none──► the next newer one's own ──none──► … ──none──► the one in force
//!                                            if none of these is of its generation or an older one, it is rotten, and never a newer one
//! ```
//!
//! | step of taking one | a crash after it leaves |
//! |---|---|
//! | its data blocks are not free any more, in memory | no snapshot |
//! | the checkpoint is in force | no snapshot |
//! | the file under a temporary name | the same; an opening removes that |
//! | renamed, the directory synced | the snapshot: no page of its map was replaced, and none of its data blocks was free meanwhile |
//!
//! | step of deleting one | a crash after it leaves |
//! |---|---|
//! | renamed, the directory synced | one that is going: its pages are there for older ones |
//! | pages that the next older one needs are in its own file, synced | the same |
//! | the file is removed, the directory synced | nothing |

use crate::{
    bits::Bits,
    fail_stop::FailStop,
    layout::Layout,
    map::{self, Entry},
    position::Position,
    region::{Failed, Held, Region, check_range, digest_of, held},
    rules::Rule,
    sealed::{PAGE, Page, generation},
    snapshot_file::{self, Head, Named},
    sync::{Checkpoint, CheckpointEnd, Checkpointed},
    tree::{Node, NotRead},
};
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{InPlaceFile, Storage, StorageError};
use ids::SnapshotId;
use std::{ops::Range, sync::Arc};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Snapshots of a region at most: each of them costs memory for the bits of its data blocks, and a look at its file for each page.
pub const SNAPSHOTS_MAX: usize = 64;

/// Where a region's files are.
#[derive(Clone, Debug)]
pub(crate) struct Home {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) path: Utf8PathBuf,
}

impl Home {
    fn directory(&self) -> &Utf8Path {
        self.path.parent().unwrap_or(Utf8Path::new(""))
    }

    /// The files of its snapshots, and what they are by their names.
    fn files(&self) -> Result<Vec<(Utf8PathBuf, Named)>, StorageError> {
        let entries = self.storage.list(self.directory())?;
        let named = |name: &str| Some((self.directory().join(name), Named::of(&self.path, name)?));
        Ok(entries.iter().filter_map(|entry| named(&entry.name)).collect())
    }

    fn sync_directory(&self) -> Result<(), StorageError> {
        self.storage.sync_directory(self.directory())
    }
}

/// A snapshot that a region has.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) head: Head,
    file: Arc<FailStop>,
    used: Arc<Bits>,
    /// Whether it is deleted, and there for older ones alone.
    is_going: bool,
    /// Why it cannot be read any more.
    broken: Option<String>,
}

/// What is told of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotStatus {
    /// Which one.
    pub snapshot: SnapshotId,
    /// The last write that it has.
    pub applied: Position,
    /// Blocks that were lost then.
    pub lost_blocks: u64,
    /// Whether it is deleted, and not gone yet.
    pub is_going: bool,
    /// Why it cannot be read any more.
    pub broken: Option<String>,
}

/// Why a snapshot is not taken, read or deleted. Nothing is changed.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There is one of that id already, or it is going.
    #[error("there is a snapshot {snapshot} already, of position {applied}")]
    Exists {
        /// Which.
        snapshot: SnapshotId,
        /// What it is of.
        applied: Position,
    },
    /// There is none of that id.
    #[error("there is no snapshot {0}")]
    None(SnapshotId),
    /// There are as many as there may be.
    #[error("the region has {SNAPSHOTS_MAX} snapshots, and no more than that: delete one first")]
    TooMany,
    /// A checkpoint, or another snapshot, is under way.
    #[error("a checkpoint or a snapshot is under way: try again when it has ended")]
    Busy,
    /// It cannot be read.
    #[error("snapshot {snapshot} cannot be read: {why}")]
    Broken {
        /// Which.
        snapshot: SnapshotId,
        /// In words.
        why: String,
    },
    /// The disk refused.
    #[error("the files of snapshots cannot be worked on")]
    Disk(#[from] StorageError),
    /// The region is of no use.
    #[error(transparent)]
    Failed(#[from] Failed),
}

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
    /// Does what waits for the disk. Its result belongs into [`Region::end_snapshot`].
    pub fn run(self) -> Taken {
        let Taking { checkpoint, home, layout, head, pages, used } = self;
        let file = || {
            let unfinished = snapshot_file::unfinished_path(&home.path, head.snapshot);
            let storage = home.storage.as_ref();
            let made = snapshot_file::make(storage, &unfinished, &head, &layout, &pages).and_then(|file| {
                storage.rename(&unfinished, &snapshot_file::path(&home.path, head.snapshot))?;
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

/// A snapshot that is to go.
#[derive(Debug)]
#[must_use = "it is not gone before it was run and ended"]
pub struct Going {
    home: Home,
    layout: Layout,
    snapshot: Snapshot,
    /// The next older one that stays.
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
            let (mut has_written, own) = (false, &self.snapshot);
            for number in 0..self.layout.map_pages {
                let Some(page) = own.kept(&self.layout, number)? else { continue };
                if generation(&page) <= older.head.generation && older.kept(&self.layout, number)?.is_none() {
                    snapshot_file::write_kept(older.file.as_ref(), &older.head, &self.layout, number, &page)?;
                    has_written = true;
                }
            }
            if has_written {
                older.file.sync_data()?;
            }
        }
        let path = snapshot_file::deleted_path(&self.home.path, self.snapshot.head.snapshot);
        snapshot_file::remove_if_there(self.home.storage.as_ref(), &path)?;
        self.home.sync_directory()
    }
}

impl Snapshot {
    fn kept(&self, layout: &Layout, number: u64) -> Result<Option<Box<Page>>, StorageError> {
        snapshot_file::read_kept(self.file.as_ref(), &self.head, layout, number)
    }

    fn status(&self) -> SnapshotStatus {
        SnapshotStatus {
            snapshot: self.head.snapshot,
            applied: self.head.applied,
            lost_blocks: self.head.lost,
            is_going: self.is_going,
            broken: self.broken.clone(),
        }
    }
}

/// Pages of the map that a checkpoint replaces and a snapshot needs.
#[derive(Debug)]
pub(crate) struct KeptPages {
    snapshot: Snapshot,
    layout: Layout,
    pages: Vec<(u64, Box<Page>)>,
}

impl KeptPages {
    /// Writes them, durably.
    pub(crate) fn write(&self) -> Result<(), StorageError> {
        let Snapshot { file, head, .. } = &self.snapshot;
        for (number, page) in &self.pages {
            snapshot_file::write_kept(file.as_ref(), head, &self.layout, *number, page)?;
        }
        if Rule::KeptPagesFirst.is_kept() { file.sync_data() } else { Ok(()) }
    }
}

impl Region {
    /// Its snapshots, the oldest first.
    pub fn snapshots(&self) -> impl Iterator<Item = SnapshotStatus> + '_ {
        self.snapshots.iter().map(Snapshot::status)
    }

    /// Begins to take a snapshot of all that is applied. Nothing else is kept from going on but checkpoints and other snapshots.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn begin_snapshot(&mut self, snapshot: SnapshotId) -> Result<Taking, SnapshotError> {
        self.check_in_use()?;
        if let Some(there) = self.snapshots.iter().find(|there| there.head.snapshot == snapshot) {
            return Err(SnapshotError::Exists { snapshot, applied: there.head.applied });
        }
        if self.snapshots.len() >= SNAPSHOTS_MAX {
            return Err(SnapshotError::TooMany);
        }
        if self.is_in_checkpoint || self.is_snapshot_under_way {
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
        self.is_snapshot_under_way = true;
        let used = Arc::new(used);
        if Rule::SnapshotsKeepTheirBlocks.is_kept() {
            self.keep_blocks_of_snapshots(Some(&used));
        }
        Ok(Taking { checkpoint, home: self.home.clone(), layout: self.layout, head, pages, used })
    }

    /// It is there, or it is not.
    ///
    /// # Errors
    /// If the disk refused in a way that leaves unknown what is on it; then the region has failed.
    pub fn end_snapshot(&mut self, taken: Taken) -> Result<TakingEnd, Failed> {
        self.check_in_use()?;
        let Taken { checkpointed, head, used, named } = taken;
        self.is_snapshot_under_way = false;
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

    /// Begins to delete a snapshot: on return it is none any more, durably. What is left of it takes room until it has gone.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub fn begin_delete_snapshot(&mut self, snapshot: SnapshotId) -> Result<Going, SnapshotError> {
        self.check_in_use()?;
        let found = self.snapshots.iter().position(|there| there.head.snapshot == snapshot);
        let at = found.ok_or(SnapshotError::None(snapshot))?;
        // A checkpoint may be about to give it pages.
        if self.is_in_checkpoint || self.is_snapshot_under_way {
            return Err(SnapshotError::Busy);
        }
        let deleted = snapshot_file::deleted_path(&self.home.path, snapshot);
        match self.home.storage.rename(&snapshot_file::path(&self.home.path, snapshot), &deleted) {
            // It was begun before.
            Err(error) if error.source.kind() == std::io::ErrorKind::NotFound => {}
            renamed => renamed?,
        }
        self.home.sync_directory()?;
        self.snapshots[at].is_going = true;
        self.is_snapshot_under_way = true;
        self.keep_blocks_of_snapshots(None);
        let older = self.snapshots[..at].iter().rfind(|older| !older.is_going).cloned();
        let (home, layout) = (self.home.clone(), self.layout);
        Ok(Going { home, layout, snapshot: self.snapshots[at].clone(), older })
    }

    /// It is gone, or goes on to be going.
    ///
    /// # Errors
    /// If the disk refused: to be tried again.
    pub fn end_delete_snapshot(&mut self, gone: Gone) -> Result<(), SnapshotError> {
        self.check_in_use()?;
        self.is_snapshot_under_way = false;
        gone.result?;
        self.snapshots.retain(|there| there.head.snapshot != gone.snapshot);
        Ok(())
    }

    /// What these blocks held, and behind `bytes` the bytes of those that held some, as [`Region::read`] gives them.
    ///
    /// # Errors
    /// [`SnapshotError`].
    ///
    /// # Panics
    /// If it has no such blocks.
    pub fn read_snapshot(
        &mut self,
        snapshot: SnapshotId,
        blocks: Range<u64>,
        bytes: &mut Vec<u8>,
    ) -> Result<Vec<Held>, SnapshotError> {
        let entries = self.entries_of(snapshot, blocks)?;
        self.read_entries(&entries, bytes);
        Ok(entries.iter().map(held).collect())
    }

    /// What these blocks held.
    ///
    /// # Errors
    /// [`SnapshotError`].
    ///
    /// # Panics
    /// If it has no such blocks.
    pub fn look_snapshot(
        &mut self,
        snapshot: SnapshotId,
        blocks: Range<u64>,
    ) -> Result<Vec<Held>, SnapshotError> {
        let entries = self.entries_of(snapshot, blocks)?;
        Ok(entries.iter().map(held).collect())
    }

    /// What these blocks held, in one number, as [`Region::digest`] says it: of a region that has held the same it is the same.
    ///
    /// # Errors
    /// [`SnapshotError`].
    ///
    /// # Panics
    /// If it has no such blocks.
    pub fn digest_snapshot(
        &mut self,
        snapshot: SnapshotId,
        blocks: Range<u64>,
    ) -> Result<u128, SnapshotError> {
        let is_sealed = self.identity.geometry.is_sealed;
        Ok(digest_of(&self.look_snapshot(snapshot, blocks)?, is_sealed))
    }

    fn entries_of(
        &mut self,
        snapshot: SnapshotId,
        mut blocks: Range<u64>,
    ) -> Result<Vec<Entry>, SnapshotError> {
        self.check_in_use()?;
        check_range(&blocks, self.identity.geometry.blocks);
        let found =
            self.snapshots.iter().position(|there| there.head.snapshot == snapshot && !there.is_going);
        let at = found.ok_or(SnapshotError::None(snapshot))?;
        let is_sealed = self.identity.geometry.is_sealed;
        let per_page = map::entries(is_sealed) as u64;
        let mut all = Vec::new();
        while !blocks.is_empty() {
            let number = blocks.start / per_page;
            let end = blocks.end.min((number + 1) * per_page);
            let page = self.page_of_snapshot(at, number)?;
            let here = blocks.start - number * per_page..end - number * per_page;
            all.extend(here.map(|at| {
                map::entry(&page, usize::try_from(at).expect("a page has few entries"), is_sealed)
            }));
            blocks.start = end;
        }
        Ok(all)
    }

    /// A page of the map of that one of the snapshots.
    fn page_of_snapshot(&mut self, at: usize, number: u64) -> Result<Box<Page>, SnapshotError> {
        let Region { tree, file, snapshots, layout, .. } = self;
        let Head { snapshot, generation: newest, .. } = snapshots[at].head;
        let broken = |why: String| SnapshotError::Broken { snapshot, why };
        if let Some(why) = &snapshots[at].broken {
            return Err(broken(why.clone()));
        }
        let is_its = |page: &Page| generation(page) <= newest || !Rule::NoNewerPageIsTaken.is_kept();
        let in_force = tree.read(file.as_ref(), Node::Leaf(number));
        if let Ok(page) = &in_force
            && is_its(page)
        {
            return Ok(page.clone());
        }
        for newer in &snapshots[at..] {
            if let Some(page) = newer.kept(layout, number)?.filter(|page| is_its(page)) {
                return Ok(page);
            }
        }
        Err(broken(match in_force {
            Err(NotRead::Disk(error)) => error.to_string(),
            _ => format!("page {number} of its map is not there, or rotten"),
        }))
    }

    /// Of no other file: no other checkpoint of the region has this number.
    fn salt_of(&self, snapshot: SnapshotId) -> u64 {
        let seed = self.layout.salt ^ (self.checkpoints + 1);
        xxh3_64_with_seed(snapshot.0.as_bytes(), seed)
    }

    /// Whether one is deleted, and nobody lets it go just now.
    #[must_use]
    pub fn snapshot_to_let_go(&self) -> Option<SnapshotId> {
        let is_free = !self.is_snapshot_under_way && !self.is_in_checkpoint && self.failed.is_none();
        self.snapshots.iter().find(|there| there.is_going && is_free).map(|there| there.head.snapshot)
    }

    /// The pages of the map that the newest snapshot needs, of those that a checkpoint replaces.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub(crate) fn pages_to_keep(&mut self, numbers: &[u64]) -> Result<Option<KeptPages>, NotRead> {
        let keeps = |there: &&Snapshot| !there.is_going && there.broken.is_none();
        let newest = self.snapshots.iter().rfind(keeps).cloned();
        let Some(newest) = newest.filter(|_| Rule::ReplacedPagesAreKept.is_kept()) else { return Ok(None) };
        let mut pages = Vec::new();
        for number in numbers {
            let page = self.tree.read(self.file.as_ref(), Node::Leaf(*number))?;
            if generation(&page) <= newest.head.generation {
                pages.push((*number, page));
            }
        }
        Ok((!pages.is_empty()).then_some(KeptPages { snapshot: newest, layout: self.layout, pages }))
    }

    /// Of all that are there, and of one that is being taken.
    fn keep_blocks_of_snapshots(&mut self, one_more: Option<&Bits>) {
        let mut all = Bits::default();
        for there in self.snapshots.iter().filter(|there| !there.is_going) {
            all.add(&there.used);
        }
        one_more.into_iter().for_each(|used| all.add(used));
        self.free.set_in_snapshots(all);
    }

    /// Finds the snapshots that it has, and removes what is left of those that were not taken.
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
            snapshot_file::read_used(file.as_ref(), head, &self.layout, |page| self.free.places_of(page))
        };
        let (head, used, broken) = match snapshot_file::read_head(file.as_ref()) {
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
