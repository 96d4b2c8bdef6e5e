//! The snapshots of a region that were deleted, or were to be: none of them is taken any more, however late whoever asks for it is heard.
//!
//! **Problem.** Who deletes a snapshot may be heard before somebody who was to take it: an order that lay in a queue, or was sent twice. What is
//! taken behind the deletion nobody knows of, and nobody deletes.
//!
//! **Theory.** As with regions, an id is used once. Which ones were, a file beside the region's says, of one page. It is made anew with each of them,
//! and takes the place of the one before when it is durable: it is as it was, or as it is to be, wherever the power fails. There is room for
//! [`DELETED_MAX`]: of more, the oldest are forgotten. A page that cannot be read is as one that is not there: what is written is worth more
//! than what is late.
//!
//! ```text
//!   under a temporary name, written and synced ──renamed, the directory synced──► it is kept in mind
//! ```
//!
//! | bytes of the page's body | |
//! |---|---|
//! | 8 | how many |
//! | 16 each | their ids, the oldest first |

use super::{Home, remove_if_there};
use crate::{
    fields::{Fields, PutFields},
    sealed::{HEADER, Kind, Label, PAGE, Page},
};
use camino::Utf8PathBuf;
use durable_fs::StorageError;
use ids::SnapshotId;
use std::{collections::VecDeque, io::IoSlice};
use uuid::Uuid;

/// How many of them a region keeps in mind at most.
pub const DELETED_MAX: usize = 250;

const _: () = assert!(HEADER + 8 + 16 * DELETED_MAX <= PAGE, "they are on one page");

/// Behind the name of the region's file.
const SUFFIX: &str = ".deleted-snapshots";

/// Behind that, while it is made.
const UNFINISHED: &str = ".new";

/// Those of one region, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct Deleted(VecDeque<SnapshotId>);

impl Deleted {
    /// Those that are kept in mind beside a region's file.
    pub(crate) fn find(home: &Home, salt: u64) -> Result<Deleted, StorageError> {
        let [there, _] = deleted_paths(home);
        let file = match home.storage.open_in_place(&there) {
            Err(error) if error.is_not_found() => return Ok(Deleted::default()),
            opened => opened?,
        };
        // A killed process may have left its name in the cache alone, and an id that is known is not kept once more.
        home.sync_directory()?;
        let mut page = [0; PAGE];
        let is_read = file.read_exact_at(0, &mut page).is_ok() && label(salt).check(&page).is_some();
        Ok(Deleted(is_read.then(|| read(&page)).flatten().unwrap_or_default()))
    }

    pub(crate) fn has(&self, snapshot: SnapshotId) -> bool {
        self.0.contains(&snapshot)
    }

    /// One more. On return it is kept in mind durably; or, where there is no room for that, until the region is closed: who deletes a snapshot
    /// makes room, and is not to be kept from that for lack of it.
    pub(crate) fn add(&mut self, home: &Home, salt: u64, snapshot: SnapshotId) -> Result<(), StorageError> {
        if self.has(snapshot) {
            return Ok(());
        }
        let mut ids = self.0.clone();
        ids.push_back(snapshot);
        let too_many = ids.len().saturating_sub(DELETED_MAX);
        ids.drain(..too_many);
        let kept = keep(home, &page_of(&ids, salt));
        if kept.as_ref().map_or_else(StorageError::is_no_space, |()| true) {
            self.0 = ids;
            return Ok(());
        }
        kept
    }
}

fn keep(home: &Home, page: &Page) -> Result<(), StorageError> {
    let [there, unfinished] = deleted_paths(home);
    remove_if_there(home.storage.as_ref(), &unfinished)?;
    let file = home.storage.create_in_place(&unfinished)?;
    file.write_all_at(0, &mut [IoSlice::new(page)])?;
    file.sync_data()?;
    home.storage.rename(&unfinished, &there)?;
    home.sync_directory()
}

/// Where they are, and where they are while that is made.
pub(crate) fn deleted_paths(home: &Home) -> [Utf8PathBuf; 2] {
    let there = Utf8PathBuf::from(format!("{}{SUFFIX}", home.path));
    let unfinished = Utf8PathBuf::from(format!("{there}{UNFINISHED}"));
    [there, unfinished]
}

fn label(salt: u64) -> Label {
    Label { kind: Kind::Deleted, number: 0, salt }
}

fn page_of(ids: &VecDeque<SnapshotId>, salt: u64) -> Page {
    let mut page = [0; PAGE];
    let mut body = &mut page[HEADER..];
    body.put_u64(ids.len() as u64);
    ids.iter().for_each(|id| body.put_u128(id.0.as_u128()));
    label(salt).seal(&mut page, 1);
    page
}

fn read(page: &Page) -> Option<VecDeque<SnapshotId>> {
    let mut fields = Fields(&page[HEADER..]);
    let count = usize::try_from(fields.u64()?).ok().filter(|count| *count <= DELETED_MAX)?;
    (0..count).map(|_| Some(SnapshotId(Uuid::from_u128(fields.u128()?)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_as_there_may_be_are_read_as_they_were_written_and_no_more_than_that() {
        let some = |count: usize| (0..count as u128).map(|id| SnapshotId(Uuid::from_u128(id))).collect();
        for count in [0, 1, DELETED_MAX] {
            let ids: VecDeque<SnapshotId> = some(count);
            assert_eq!(read(&page_of(&ids, 5)), Some(ids));
        }
        let mut page = page_of(&some(DELETED_MAX), 5);
        (&mut page[HEADER..]).put_u64(DELETED_MAX as u64 + 1);
        assert_eq!(read(&page), None);
    }
}
