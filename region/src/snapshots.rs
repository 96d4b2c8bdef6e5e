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
//! | its id is among those that were deleted, durably | the snapshot; it may be read, and be deleted, and once it is it is not taken again |
//! | renamed, the directory synced | one that is going: its pages are there for older ones |
//! | pages that the next older one needs are in its own file, synced | the same |
//! | the file is removed, the directory synced | nothing |

//!
//! [`taking`], [`deleting`], [`reading`], [`finding`] (at an opening); [`mod@file`]: what is in the file of one. [`deleted`]: those that are not
//! taken any more. [`room`]: what they may come to need.

mod deleted;
mod deleting;
mod file;
mod finding;
mod reading;
mod room;
mod taking;

pub use deleted::DELETED_MAX;
pub(crate) use deleted::{Deleted, deleted_paths};
pub use deleting::{Going, Gone};
pub use room::{SnapshotRoom, snapshot_room};
pub use taking::{Taken, Taking, TakingEnd};

use crate::{
    bits::Bits,
    fail_stop::FailStop,
    layout::Layout,
    position::Position,
    region::{Failed, Region},
    rules::Rule,
    sealed::{Page, generation},
    tree::{Node, NotRead},
};
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{InPlaceFile, Storage, StorageError};
use file::{Head, Named};
use ids::SnapshotId;
use std::sync::Arc;

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
    pub(crate) fn files(&self) -> Result<Vec<(Utf8PathBuf, Named)>, StorageError> {
        let entries = self.storage.list(self.directory())?;
        let named = |name: &str| Some((self.directory().join(name), Named::of(&self.path, name)?));
        Ok(entries.iter().filter_map(|entry| named(&entry.name)).collect())
    }

    pub(crate) fn sync_directory(&self) -> Result<(), StorageError> {
        self.storage.sync_directory(self.directory())
    }
}

/// The snapshots that the region of this file has by the names of their files: taken, and not deleted. Nothing is opened.
///
/// # Errors
/// If the disk does not say.
pub fn named_snapshots(storage: Arc<dyn Storage>, path: &Utf8Path) -> Result<Vec<SnapshotId>, StorageError> {
    let files = Home { storage, path: path.to_owned() }.files()?;
    let taken = |(_, named)| match named {
        Named::Taken(snapshot) => Some(snapshot),
        Named::Unfinished | Named::Deleted(_) => None,
    };
    Ok(files.into_iter().filter_map(taken).collect())
}

/// Removes a file, if it is there.
pub(crate) fn remove_if_there(storage: &dyn Storage, path: &Utf8Path) -> Result<(), StorageError> {
    match storage.remove(path) {
        Err(error) if error.is_not_found() => Ok(()),
        removed => removed,
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
    /// It was deleted, or was to be, and is not taken any more.
    #[error("snapshot {0} was deleted, and is not taken again")]
    Deleted(SnapshotId),
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

impl Snapshot {
    /// Whether it is to get what a snapshot needs.
    fn keeps(&self) -> bool {
        !self.is_going && self.broken.is_none()
    }

    fn kept(&self, layout: &Layout, number: u64) -> Result<Option<Box<Page>>, StorageError> {
        file::read_kept(self.file.as_ref(), &self.head, layout, number)
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
            file::write_kept(file.as_ref(), head, &self.layout, *number, page)?;
        }
        if Rule::KeptPagesFirst.is_kept() { file.sync_data() } else { Ok(()) }
    }
}

impl Region {
    /// Its snapshots, the oldest first.
    pub fn snapshots(&self) -> impl Iterator<Item = SnapshotStatus> + '_ {
        self.snapshots.iter().map(Snapshot::status)
    }

    /// The pages of the map that the newest snapshot needs, of those that a checkpoint replaces.
    ///
    /// # Errors
    /// If the map cannot be read.
    pub(crate) fn pages_to_keep(&mut self, numbers: &[u64]) -> Result<Option<KeptPages>, NotRead> {
        let newest = self.snapshots.iter().rfind(|there| there.keeps()).cloned();
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
}
