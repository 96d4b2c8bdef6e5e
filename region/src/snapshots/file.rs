//! The file of a snapshot: what it is of, which data blocks it has, and those pages of its map that the region has changed since.
//!
//! ```text
//!   0        8 KiB
//!   ┌────────┬─────────────────────────────────┬───────────────────────────────────────────────┐
//!   │ head   │ used: a page for each free page │ kept: a place for each page of the map        │
//!   │ a pair │ of the region                   │ holes, where the region has not changed it    │
//!   └────────┴─────────────────────────────────┴───────────────────────────────────────────────┘
//! ```
//!
//! | field of the head | bytes | |
//! |---|---|---|
//! | format | 4 | refused if it is not this one |
//! | snapshot, region | 16 + 16 | |
//! | salt of the region's file | 8 | of which file it is a snapshot |
//! | salt | 8 | random, of this file: what is in every other checksum |
//! | generation | 8 | the checkpoint whose map it is |
//! | applied | 4 + 6 | the position at that checkpoint |
//! | tracts | 8 | that the region had |
//! | lost | 8 | blocks that were lost |
//!
//! Head and used pages are written once, before the file has its name. A kept page is written once, too, and has the generation in which the
//! region had made it. Nothing is ever written over, so a place has the page that it is for, or none.

use crate::{
    bits::Bits,
    fields::{Fields, PutFields},
    layout::Layout,
    position::Position,
    sealed::{HEADER, Kind, Label, Mirror, PAGE, PAIR, Page, generation},
};
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{InPlaceFile, Storage, StorageError};
use ids::{RegionId, SnapshotId};
use std::{io::IoSlice, ops::Range, sync::Arc};
use uuid::Uuid;

const FORMAT: u32 = 1;

/// Between the name of the region's file and the snapshot's id, and behind that.
const SUFFIX: &str = ".snapshot";

/// Behind the name of one that is not taken yet, and of one that is deleted and not gone yet.
const UNFINISHED: &str = ".new";
const DELETED: &str = ".deleted";

/// The generation of the head: it is written once.
const ONCE: u64 = 1;

/// What a snapshot is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) snapshot: SnapshotId,
    pub(crate) region: RegionId,
    pub(crate) region_salt: u64,
    pub(crate) salt: u64,
    /// The checkpoint whose map it is.
    pub(crate) generation: u64,
    pub(crate) applied: Position,
    pub(crate) tracts: u64,
    pub(crate) lost: u64,
}

/// What a file beside a region's is, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Taken(SnapshotId),
    Unfinished,
    Deleted(SnapshotId),
}

impl Named {
    /// Of a file in the directory of the region's; none if it is no snapshot of that one.
    pub(crate) fn of(region: &Utf8Path, name: &str) -> Option<Named> {
        let rest = name.strip_prefix(region.file_name()?)?.strip_prefix('.')?;
        if rest.ends_with(&format!("{SUFFIX}{UNFINISHED}")) {
            return Some(Named::Unfinished);
        }
        let (rest, is_deleted) = match rest.strip_suffix(DELETED) {
            Some(rest) => (rest, true),
            None => (rest, false),
        };
        let id = rest.strip_suffix(SUFFIX)?.parse().ok()?;
        Some(if is_deleted { Named::Deleted(id) } else { Named::Taken(id) })
    }
}

/// Where a snapshot of a region is.
pub(crate) fn path(region: &Utf8Path, snapshot: SnapshotId) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{region}.{snapshot}{SUFFIX}"))
}

/// Where it is once it is deleted, until nobody needs it.
pub(crate) fn deleted_path(region: &Utf8Path, snapshot: SnapshotId) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{}{DELETED}", path(region, snapshot)))
}

/// Makes the file of a snapshot, under a name that does not count yet.
///
/// | step | a crash after it leaves |
/// |---|---|
/// | a file under a temporary name | that, which an opening of the region removes |
/// | used pages and head written and synced | the same |
pub(crate) fn make(
    storage: &dyn Storage,
    unfinished: &Utf8Path,
    head: &Head,
    layout: &Layout,
    used: &[Page],
) -> Result<Arc<dyn InPlaceFile>, StorageError> {
    super::remove_if_there(storage, unfinished)?;
    let file: Arc<dyn InPlaceFile> = Arc::from(storage.create_in_place(unfinished)?);
    for (number, page) in (0..).zip(used) {
        let mut page = *page;
        used_label(head, number).seal(&mut page, head.generation);
        file.write_all_at(used_at(number), &mut [IoSlice::new(&page)])?;
    }
    file.lengthen(kept_at(head, layout, layout.map_pages))?;
    let mut page = [0; PAGE];
    head.write(&mut page);
    head_mirror().write_twice(file.as_ref(), &mut page, ONCE)?;
    Ok(file)
}

/// Where it is while it is not taken yet.
pub(crate) fn unfinished_path(region: &Utf8Path, snapshot: SnapshotId) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{}{UNFINISHED}", path(region, snapshot)))
}

/// What the file says that it is; none if it does not say it.
pub(crate) fn read_head(file: &dyn InPlaceFile) -> Result<Option<Head>, StorageError> {
    Ok(head_mirror().read(file)?.and_then(|kept| Head::read(&kept.page)))
}

/// The data blocks that it has; none if that cannot be told any more.
pub(crate) fn read_used(
    file: &dyn InPlaceFile,
    head: &Head,
    layout: &Layout,
    places_of: impl Fn(u64) -> Range<u64>,
) -> Result<Option<Bits>, StorageError> {
    let mut all = Bits::default();
    for number in 0..layout.free_pages + head.tracts {
        let Some(page) = read_page(file, used_at(number), used_label(head, number))? else { return Ok(None) };
        let Some(bits) = Bits::of_page(&places_of(number), &page) else { return Ok(None) };
        all.add(&bits);
    }
    Ok(Some(all))
}

/// The page of the map that it has of its own, if it has this one.
pub(crate) fn read_kept(
    file: &dyn InPlaceFile,
    head: &Head,
    layout: &Layout,
    number: u64,
) -> Result<Option<Box<Page>>, StorageError> {
    read_page(file, kept_at(head, layout, number), kept_label(head, number))
}

/// Gives it a page of the map, as the region had it in the generation that the page says.
pub(crate) fn write_kept(
    file: &dyn InPlaceFile,
    head: &Head,
    layout: &Layout,
    number: u64,
    page: &Page,
) -> Result<(), StorageError> {
    let mut page = *page;
    let made = generation(&page);
    kept_label(head, number).seal(&mut page, made);
    file.write_all_at(kept_at(head, layout, number), &mut [IoSlice::new(&page)])
}

fn read_page(file: &dyn InPlaceFile, offset: u64, label: Label) -> Result<Option<Box<Page>>, StorageError> {
    let mut page = Box::new([0; PAGE]);
    file.read_exact_at(offset, page.as_mut_slice())?;
    Ok(label.check(&page).map(|_| page))
}

fn head_mirror() -> Mirror {
    // Its reader does not know the salt yet: it is in there.
    Mirror { offset: 0, label: Label { kind: Kind::Snapshot, number: 0, salt: 0 } }
}

fn used_label(head: &Head, number: u64) -> Label {
    Label { kind: Kind::Used, number, salt: head.salt }
}

fn kept_label(head: &Head, number: u64) -> Label {
    Label { kind: Kind::Kept, number, salt: head.salt }
}

fn used_at(number: u64) -> u64 {
    PAIR + number * PAGE as u64
}

fn kept_at(head: &Head, layout: &Layout, number: u64) -> u64 {
    used_at(layout.free_pages + head.tracts + number)
}

impl Head {
    fn write(&self, page: &mut Page) {
        let mut body = &mut page[HEADER..];
        body.put_u32(FORMAT);
        body.put_u128(self.snapshot.0.as_u128());
        body.put_u128(self.region.0.as_u128());
        body.put_u64(self.region_salt);
        body.put_u64(self.salt);
        body.put_u64(self.generation);
        body.put_position(self.applied);
        body.put_u64(self.tracts);
        body.put_u64(self.lost);
        body.fill(0);
    }

    fn read(page: &Page) -> Option<Head> {
        let mut fields = Fields(&page[HEADER..]);
        if fields.u32()? != FORMAT {
            return None;
        }
        Some(Head {
            snapshot: SnapshotId(Uuid::from_u128(fields.u128()?)),
            region: RegionId(Uuid::from_u128(fields.u128()?)),
            region_salt: fields.u64()?,
            salt: fields.u64()?,
            generation: fields.u64()?,
            applied: fields.position()?,
            tracts: fields.u64()?,
            lost: fields.u64()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_no_later_format_is() {
        let head = Head {
            snapshot: SnapshotId(Uuid::from_u128(1)),
            region: RegionId(Uuid::from_u128(2)),
            region_salt: 3,
            salt: 4,
            generation: 5,
            applied: Position { epoch: 6, counter: 7 },
            tracts: 8,
            lost: 9,
        };
        let mut page = [0; PAGE];
        head.write(&mut page);
        assert_eq!(Head::read(&page), Some(head));
        page[HEADER] = 2;
        assert_eq!(Head::read(&page), None);
    }

    #[test]
    fn names_say_what_a_file_is_and_of_which_region() {
        let region = Utf8Path::new("disk/a.region");
        let id = SnapshotId(Uuid::from_u128(1));
        let named = |path: Utf8PathBuf| Named::of(region, path.file_name().unwrap());
        assert_eq!(named(path(region, id)), Some(Named::Taken(id)));
        assert_eq!(named(unfinished_path(region, id)), Some(Named::Unfinished));
        assert_eq!(named(deleted_path(region, id)), Some(Named::Deleted(id)));
        for other in
            ["a.region", "a.region.new", "b.region.x.snapshot", "a.region.x.snapshot", "a.region..snapshot"]
        {
            assert_eq!(named(Utf8PathBuf::from(other)), None, "{other}");
        }
    }
}
