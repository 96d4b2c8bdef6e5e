//! The map's pages that are in memory.
//!
//! ```text
//!   on disk ──read──► clean ──changed──► changed ──checkpoint begins──► written (and perhaps changed again) ──ends──► clean
//!              ◄──forgotten──┘
//! ```
//!
//! What is changed, or being written, stays until a checkpoint has it.

use crate::{
    layout::Layout,
    map::{self, Entry},
    sealed::Page,
    tree::{Node, NotRead, Tree},
};
use durable_fs::InPlaceFile;
use std::{collections::BTreeMap, ops::Range, sync::Arc};

/// Clean pages that are kept at most: they are in the system's cache, too.
const CLEAN_MAX: usize = 1_024;

/// The pages.
#[derive(Debug)]
pub(crate) struct Pages {
    per_page: u64,
    is_sealed: bool,
    there: BTreeMap<u64, Cached>,
    changed: usize,
    being_written: usize,
}

#[derive(Debug)]
struct Cached {
    page: Arc<Page>,
    is_changed: bool,
    is_being_written: bool,
}

impl Pages {
    pub(crate) fn new(layout: &Layout) -> Pages {
        let is_sealed = layout.geometry.is_sealed;
        let per_page = map::entries(is_sealed) as u64;
        Pages { per_page, is_sealed, there: BTreeMap::new(), changed: 0, being_written: 0 }
    }

    /// Pages that have changed since the last checkpoint began.
    pub(crate) fn changed(&self) -> usize {
        self.changed
    }

    /// Forgets what is on the disk as it is here.
    pub(crate) fn forget_clean(&mut self) {
        self.there.retain(|_, cached| cached.is_changed || cached.is_being_written);
    }

    /// Shows what is known of these blocks, one after the other.
    pub(crate) fn for_each(
        &mut self,
        file: &dyn InPlaceFile,
        tree: &mut Tree,
        mut blocks: Range<u64>,
        mut show: impl FnMut(u64, Entry),
    ) -> Result<(), NotRead> {
        let (per_page, is_sealed) = (self.per_page, self.is_sealed);
        while !blocks.is_empty() {
            let number = blocks.start / per_page;
            let end = blocks.end.min((number + 1) * per_page);
            let page = &self.cached(file, tree, number)?.page;
            for block in blocks.start..end {
                show(block, map::entry(page, index(block % per_page), is_sealed));
            }
            blocks.start = end;
        }
        Ok(())
    }

    /// Shows what is known of these blocks, one after the other, and puts in its place what is returned, if anything.
    pub(crate) fn change_each(
        &mut self,
        file: &dyn InPlaceFile,
        tree: &mut Tree,
        mut blocks: Range<u64>,
        mut change: impl FnMut(u64, Entry) -> Option<Entry>,
    ) -> Result<(), NotRead> {
        let (per_page, is_sealed) = (self.per_page, self.is_sealed);
        while !blocks.is_empty() {
            let number = blocks.start / per_page;
            let end = blocks.end.min((number + 1) * per_page);
            let cached = self.cached(file, tree, number)?;
            let mut is_changed = false;
            for block in blocks.start..end {
                let at = index(block % per_page);
                if let Some(entry) = change(block, map::entry(&cached.page, at, is_sealed)) {
                    map::set_entry(Arc::make_mut(&mut cached.page), at, is_sealed, &entry);
                    is_changed = true;
                }
            }
            if is_changed && !cached.is_changed {
                cached.is_changed = true;
                self.changed += 1;
            }
            blocks.start = end;
        }
        Ok(())
    }

    /// The pages that have changed, as they are now.
    pub(crate) fn begin_checkpoint(&mut self) -> Vec<(u64, Arc<Page>)> {
        assert!(self.being_written == 0, "one checkpoint at a time");
        self.being_written = std::mem::take(&mut self.changed);
        let changed = self.there.iter_mut().filter(|(_, cached)| cached.is_changed);
        let written = changed.map(|(number, cached)| {
            cached.is_changed = false;
            cached.is_being_written = true;
            (*number, Arc::clone(&cached.page))
        });
        written.collect()
    }

    /// They are durable, and the checkpoint is in force.
    pub(crate) fn end_checkpoint(&mut self) {
        self.being_written = 0;
        self.there.values_mut().for_each(|cached| cached.is_being_written = false);
    }

    /// The next one has to write them, too.
    pub(crate) fn abandon_checkpoint(&mut self) {
        self.being_written = 0;
        for cached in self.there.values_mut().filter(|cached| cached.is_being_written) {
            cached.is_being_written = false;
            self.changed += usize::from(!cached.is_changed);
            cached.is_changed = true;
        }
    }

    fn cached(
        &mut self,
        file: &dyn InPlaceFile,
        tree: &mut Tree,
        number: u64,
    ) -> Result<&mut Cached, NotRead> {
        if !self.there.contains_key(&number) {
            let page = Arc::from(tree.read(file, Node::Leaf(number))?);
            self.forget_some();
            self.there.insert(number, Cached { page, is_changed: false, is_being_written: false });
        }
        Ok(self.there.get_mut(&number).expect("it is there or was just put there"))
    }

    /// Makes room before one more is put there.
    fn forget_some(&mut self) {
        if self.there.len() < CLEAN_MAX + self.changed + self.being_written {
            return;
        }
        // Which of them does not matter much; every second one spares the others a walk.
        let mut is_spared = false;
        self.there.retain(|_, cached| {
            is_spared = !is_spared;
            is_spared || cached.is_changed || cached.is_being_written
        });
    }
}

fn index(number: u64) -> usize {
    usize::try_from(number).expect("a page has few entries")
}
