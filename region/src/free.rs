//! Which data blocks may be written over.
//!
//! ```text
//!              take                      its write is committed                 what replaces it is committed
//!   free ─────────────► taken ────────────────────────────────► in the map ─────────────────────────────────► replaced
//!    ▲                    │ its write has failed                                                                   │
//!    ├────────────────────┘                                                  what replaces it is durable           │
//!    └─────────────────────────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! What is replaced is still what a crash may come back to, until what replaces it is durable. So it is kept until then, in
//! the order of the journal's records that replaced it. On the pages of a checkpoint only what is in the map is not free: an
//! opening has no other.
//!
//! What is in a snapshot's map, too, is not free then, but *kept*, until no snapshot has it:
//!
//! ```text
//!   replaced ──what replaces it is durable──► kept by snapshots alone ──the last of them is deleted──► free
//! ```

use crate::{
    bits::Bits,
    fields::{Fields, PutFields},
    layout::{BITS, Layout},
    places::{Places, WORD},
    rules::Rule,
    sealed::{HEADER, Page},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Range,
};

/// The data blocks of a region.
#[derive(Debug)]
pub(crate) struct FreeSpace {
    layout: Layout,
    places: Places,
    /// Those that are in some snapshot; and of these, those that are in the map no more.
    in_snapshots: Bits,
    in_snapshots_alone: Bits,
    /// Those that were replaced, by the record that did it.
    replaced: VecDeque<(u64, Range<u64>)>,
    waiting: u64,
    /// Those that are taken and not in the map yet: where each run starts, and its end.
    taken: BTreeMap<u64, u64>,
    /// Pages of bits that a checkpoint has to write.
    changed: BTreeSet<u64>,
    /// Those that one is writing.
    being_written: BTreeSet<u64>,
}

impl FreeSpace {
    /// Those that it is made with, all of them free.
    pub(crate) fn new(layout: &Layout) -> FreeSpace {
        FreeSpace {
            layout: layout.without_tracts(),
            places: Places::new(layout.data_blocks),
            in_snapshots: Bits::default(),
            in_snapshots_alone: Bits::default(),
            replaced: VecDeque::new(),
            waiting: 0,
            taken: BTreeMap::new(),
            changed: BTreeSet::new(),
            being_written: BTreeSet::new(),
        }
    }

    /// There is one tract more.
    pub(crate) fn grow(&mut self) {
        self.layout.tracts += 1;
        self.places.grow(self.layout.end_of_places());
    }

    /// Pages of bits: those that it is made with, and one for each tract.
    pub(crate) fn pages(&self) -> u64 {
        self.layout.free_pages + self.layout.tracts
    }

    /// Data blocks that are in some snapshot.
    pub(crate) fn in_snapshots(&self) -> u64 {
        self.in_snapshots.count()
    }

    /// Data blocks that are in snapshots alone.
    pub(crate) fn in_snapshots_alone(&self) -> u64 {
        self.in_snapshots_alone.count()
    }

    /// Of these, those that are in the map no more.
    pub(crate) fn not_in_map(&self, places: &Bits) -> u64 {
        places.without_words(|first| !self.in_snapshots_alone.word(first)).count()
    }

    /// Those that are in some snapshot are from now on these. What is in the map no more, and in none of them, is free.
    pub(crate) fn set_in_snapshots(&mut self, now: Bits) {
        let before = std::mem::replace(&mut self.in_snapshots, now);
        for place in self.in_snapshots_alone.without(&self.in_snapshots).iter() {
            self.in_snapshots_alone.clear(place);
            self.places.clear(place..place + 1);
        }
        let used = |first| self.places.word(first) | before.word(first);
        for place in self.in_snapshots.without_words(used).iter() {
            self.places.set(place..place + 1);
            self.in_snapshots_alone.set(place);
        }
    }

    /// The pages of bits that have changed since the last checkpoint began.
    pub(crate) fn begin_checkpoint(&mut self) -> BTreeSet<u64> {
        self.being_written = std::mem::take(&mut self.changed);
        self.being_written.clone()
    }

    /// They are in force.
    pub(crate) fn end_checkpoint(&mut self) {
        self.being_written.clear();
    }

    /// The next one has to write them, too.
    pub(crate) fn abandon_checkpoint(&mut self) {
        self.changed.append(&mut self.being_written);
    }

    /// How many may be taken now.
    pub(crate) fn free(&self) -> u64 {
        self.places.free()
    }

    /// How many will be free once what replaced them is durable.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }

    /// Takes so many for each of some that follow each other, in as few runs as are easily found; the first choice is the run from `home`
    /// on. None if there are not so many.
    pub(crate) fn take_for_each(&mut self, home: u64, counts: &[u64]) -> Option<Vec<Vec<Range<u64>>>> {
        let mut runs = self.places.take(home, counts.iter().sum())?.into_iter();
        let mut rest = 0..0;
        let mut taken_for = |count: &u64| {
            let (mut missing, mut taken) = (*count, Vec::new());
            while missing > 0 {
                if rest.is_empty() {
                    rest = runs.next().expect("so many were taken");
                }
                let here = rest.start..rest.end.min(rest.start + missing);
                rest.start = here.end;
                missing -= here.end - here.start;
                taken.push(here);
            }
            taken
        };
        let taken: Vec<_> = counts.iter().map(&mut taken_for).collect();
        for run in taken.iter().flatten() {
            self.taken.insert(run.start, run.end);
            self.note_changed(run);
        }
        Some(taken)
    }

    /// These runs, as they were taken, are in the map now.
    pub(crate) fn settle(&mut self, runs: &[Range<u64>]) {
        for run in runs {
            let end = self.taken.remove(&run.start);
            assert!(end == Some(run.end), "data blocks {run:?} were not taken like this");
            self.note_changed(run);
        }
    }

    /// Gives back one that was settled, and did not become part of the map after all.
    pub(crate) fn give_back(&mut self, place: u64) {
        self.clear(place..place + 1);
    }

    /// A record of the journal has replaced what is in these.
    pub(crate) fn replace(&mut self, record: u64, place: u64) {
        self.waiting += 1;
        self.changed.insert(self.page_of(place));
        match self.replaced.back_mut() {
            _ if !Rule::ReplacedIsKeptUntilDurable.is_kept() => {
                self.waiting -= 1;
                self.clear(place..place + 1);
            }
            Some((by, run)) if *by == record && run.end == place => run.end += 1,
            _ => self.replaced.push_back((record, place..place + 1)),
        }
    }

    /// All records up to this one are durable: what they replaced is free.
    pub(crate) fn durable(&mut self, record: u64) {
        while let Some((by, run)) = self.replaced.front().cloned()
            && by <= record
        {
            self.waiting -= run.end - run.start;
            self.clear(run);
            self.replaced.pop_front();
        }
    }

    /// Says of one what an opening has found: it is in the map, or no longer.
    pub(crate) fn found(&mut self, place: u64, is_used: bool) {
        match (self.places.is_used(place), is_used) {
            (true, true) if self.in_snapshots_alone.has(place) => {
                self.in_snapshots_alone.clear(place);
                self.note_changed(&(place..place + 1));
            }
            (false, true) => {
                self.places.set(place..place + 1);
                self.note_changed(&(place..place + 1));
            }
            (true, false) => self.clear(place..place + 1),
            _ => {}
        }
    }

    /// Writes one page of bits: those that are in the map now.
    pub(crate) fn write_page(&self, number: u64, page: &mut Page) {
        let Range { start: first, end } = self.places_of(number);
        let mut body = &mut page[HEADER..];
        for word in (first..end).step_by(WORD as usize) {
            let there = if end - word < WORD { (1 << (end - word)) - 1 } else { u64::MAX };
            body.put_u64(self.places.word(word) & !self.in_snapshots_alone.word(word) & there);
        }
        // A run of those that are taken may begin on the page before.
        let taken = self.taken.range(..end).rev().take_while(|(_, behind)| **behind > first);
        let taken = taken.map(|(start, behind)| *start..*behind);
        for run in self.replaced.iter().map(|(_, run)| run.clone()).chain(taken) {
            for place in run.start.max(first)..run.end.min(end) {
                let bit = place - first;
                let byte = HEADER + usize::try_from(bit / 8).expect("a page has fewer");
                page[byte] &= !(1 << (bit % 8));
            }
        }
    }

    /// Takes over one page of bits. False if it has bits that are none.
    pub(crate) fn read_page(&mut self, number: u64, page: &Page) -> bool {
        let Range { start, end } = self.places_of(number);
        let mut fields = Fields(&page[HEADER..]);
        for word in 0..BITS / WORD {
            let first = start + word * WORD;
            let bits = fields.u64().expect("a page has so many words");
            if first >= end && bits != 0 || first < end && !self.places.set_word(first, bits) {
                return false;
            }
        }
        true
    }

    /// The data blocks that a page has bits for.
    pub(crate) fn places_of(&self, page: u64) -> Range<u64> {
        places_of_page(&self.layout, page)
    }

    fn page_of(&self, place: u64) -> u64 {
        match place.checked_sub(self.layout.first_of(0)).filter(|_| place >= self.layout.data_blocks) {
            None => place / BITS,
            Some(grown) => self.layout.free_pages + grown / self.layout.tract_blocks,
        }
    }

    fn note_changed(&mut self, run: &Range<u64>) {
        if !run.is_empty() {
            self.changed.extend(self.page_of(run.start)..=self.page_of(run.end - 1));
        }
    }

    /// They are in the map no more.
    fn clear(&mut self, run: Range<u64>) {
        self.note_changed(&run);
        for place in run {
            if self.in_snapshots.has(place) {
                self.in_snapshots_alone.set(place);
            } else {
                self.places.clear(place..place + 1);
            }
        }
    }
}

/// The data blocks that a page of bits has bits for.
pub(crate) fn places_of_page(layout: &Layout, page: u64) -> Range<u64> {
    match page.checked_sub(layout.free_pages) {
        None => page * BITS..((page + 1) * BITS).min(layout.data_blocks),
        Some(tract) => layout.first_of(tract)..layout.first_of(tract + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        layout::{BlockSize, Geometry},
        sealed::PAGE,
    };
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn one(run: Range<u64>) -> Option<Vec<Range<u64>>> {
        Some(Vec::from([run]))
    }

    /// With so many data blocks.
    fn free_space(count: u64) -> FreeSpace {
        let geometry = Geometry { block_size: BlockSize::B512, blocks: 1, is_sealed: false };
        FreeSpace::new(&Layout::of(geometry, 1).with_data_blocks(count))
    }

    impl FreeSpace {
        fn take(&mut self, home: u64, count: u64) -> Option<Vec<Range<u64>>> {
            // Of two that follow each other, as of one.
            let runs = self.take_for_each(home, &[count / 2, count - count / 2])?;
            runs.iter().zip([count / 2, count - count / 2]).for_each(|(runs, count)| {
                assert_eq!(runs.iter().map(|run| run.end - run.start).sum::<u64>(), count);
            });
            Some(runs.concat())
        }
    }

    #[test]
    fn what_was_replaced_is_free_when_its_record_is_durable() {
        let mut free = free_space(4);
        assert_eq!(free.take(0, 4), Some(vec![0..2, 2..4]));
        free.settle(&[0..2, 2..4]);
        free.replace(7, 1);
        free.replace(7, 2);
        free.replace(8, 0);
        assert_eq!((free.take(0, 1), free.waiting()), (None, 3));
        free.durable(7);
        assert_eq!((free.free(), free.waiting()), (2, 1));
        assert_eq!(free.take(0, 2), Some(vec![1..2, 2..3]));
        free.durable(8);
        assert_eq!(free.take(9, 1), one(0..1));
    }

    proptest! {
        /// Beside a set of numbers; and pages say what is in the map, whatever waits.
        #[test]
        fn no_block_is_given_twice_and_none_is_lost(
            count in 1..900_u64,
            steps in prop::collection::vec((0..3_u8, 0..900_u64, 1..40_u64), 0..60),
        ) {
            let mut free = free_space(count);
            let mut mapped = BTreeSet::new();
            let mut staged = BTreeSet::new();
            let mut waiting: Vec<(u64, u64)> = Vec::new();
            for (record, (what, at, number)) in (1_u64..).zip(steps) {
                match what {
                    0 => {
                        let room = count - mapped.len() as u64 - waiting.len() as u64;
                        let taken = free.take(at, number);
                        prop_assert_eq!(taken.is_some(), number <= room);
                        let runs = taken.unwrap_or_default();
                        let places: Vec<u64> = runs.iter().cloned().flatten().collect();
                        prop_assert!(places.is_empty() || places.len() as u64 == number);
                        // One in three stays taken, as if it were staged.
                        if number % 3 > 0 {
                            free.settle(&runs);
                        } else {
                            staged.extend(&places);
                        }
                        for place in places {
                            prop_assert!(place < count && mapped.insert(place), "{} twice", place);
                            prop_assert!(waiting.iter().all(|(_, there)| *there != place), "{} too early", place);
                        }
                    }
                    1 => {
                        let settled: Vec<u64> = mapped.difference(&staged).copied().collect();
                        let Some(&place) = settled.get(at as usize % settled.len().max(1)) else { continue };
                        mapped.remove(&place);
                        waiting.push((record, place));
                        free.replace(record, place);
                    }
                    _ => {
                        let until = record.saturating_sub(number / 4);
                        waiting.retain(|(by, _)| *by > until);
                        free.durable(until);
                    }
                }
                prop_assert_eq!(free.waiting(), waiting.len() as u64);
                prop_assert_eq!(free.free(), count - mapped.len() as u64 - waiting.len() as u64);
            }
            let mut page = [0; PAGE];
            free.write_page(0, &mut page);
            let mut read = free_space(count);
            prop_assert!(read.read_page(0, &page));
            let used: BTreeSet<u64> = (0..count).filter(|place| read.places.is_used(*place)).collect();
            prop_assert_eq!(used, mapped.difference(&staged).copied().collect::<BTreeSet<u64>>());
        }
    }

    #[test]
    fn bits_of_blocks_that_there_are_not_are_refused() {
        let mut page = [0; PAGE];
        page[HEADER + 2] = 0b10;
        assert!(!free_space(17).read_page(0, &page));
        assert!(free_space(18).read_page(0, &page));
    }
}
