//! The room that a region's snapshots may come to need. Owns how much that is; who promises it to whom is for whoever has the disk.
//!
//! ```text
//!   what snapshots have, all of it written anew once:  a tract for each part of it        (what they share counts once)
//!   − the tracts that the file has already, but for the last one, which may be holes yet
//!   + a place in the newest one's file for each page of the map
//! ```
//!
//! A clone needs none: nobody writes it, so it has everything once.

use super::{Home, Region, file};
use crate::{
    bits::Bits,
    free::places_of_page,
    layout::Layout,
    open::{Head, OpenError, read_head},
    sealed::PAGE,
    snapshots::file::Named,
};
use camino::Utf8Path;
use durable_fs::Storage;
use std::sync::Arc;

/// Bytes that snapshots of a region may come to take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SnapshotRoom {
    /// Beyond the file that the region was made with, in all.
    pub bytes: u64,
    /// Of these, what the disk has still to give.
    pub missing_bytes: u64,
    /// Of the file that the region was made with.
    pub made_bytes: u64,
}

impl SnapshotRoom {
    /// Of a region whose snapshots have so many data blocks.
    fn of(layout: &Layout, blocks: u64) -> SnapshotRoom {
        let made_bytes = layout.size();
        if blocks == 0 {
            return SnapshotRoom { made_bytes, ..SnapshotRoom::default() };
        }
        let needed = layout.size_with(blocks.div_ceil(layout.tract_blocks));
        let there = layout.size_with(layout.tracts.saturating_sub(1));
        let pages = layout.map_pages * PAGE as u64;
        SnapshotRoom {
            bytes: needed - made_bytes + pages,
            missing_bytes: needed.saturating_sub(there) + pages,
            made_bytes,
        }
    }
}

/// Of the region of this file, whoever has it open. What cannot be read of a snapshot keeps nothing of it.
///
/// # Errors
/// [`OpenError`].
pub fn snapshot_room(storage: Arc<dyn Storage>, path: &Utf8Path) -> Result<SnapshotRoom, OpenError> {
    let home = Home { storage, path: path.to_owned() };
    let looked = home.storage.look_in_place(path)?;
    let Head { layout, control, .. } = read_head(looked.as_ref(), path)?;
    let mut all = Bits::default();
    if control.clone_of.is_none() {
        for (there, named) in home.files()? {
            if !matches!(named, Named::Taken(_)) {
                continue;
            }
            let file = match home.storage.look_in_place(&there) {
                // It was deleted meanwhile.
                Err(error) if error.is_not_found() => continue,
                file => file?,
            };
            let Some(head) = file::read_head(file.as_ref())? else { continue };
            if head.region_salt != layout.salt || head.tracts > layout.tracts {
                continue;
            }
            let used = file::read_used(file.as_ref(), &head, &layout, |page| places_of_page(&layout, page))?;
            used.iter().for_each(|used| all.add(used));
        }
    }
    Ok(SnapshotRoom::of(&layout, all.count()))
}

impl Region {
    /// With all snapshots that it keeps blocks for now.
    pub(super) fn snapshot_room(&self) -> SnapshotRoom {
        let blocks = if self.control.clone_of.is_some() { 0 } else { self.free.in_snapshots() };
        SnapshotRoom::of(&self.layout, blocks)
    }
}
