//! Reading a snapshot: each page of its map is looked for where it may be.

use super::{SnapshotError, file::Head};
use crate::{
    map::{self, Entry},
    region::{Held, Region, check_range, digest_of, held},
    rules::Rule,
    sealed::{Page, generation},
    tree::{Node, NotRead},
};
use ids::SnapshotId;
use std::ops::Range;

impl Region {
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
}
