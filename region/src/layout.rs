//! Where everything in a region's file is. Follows from the geometry alone, so it is never stored.
//!
//! ```text
//!   0        8 KiB      16 KiB
//!   ┌────────┬──────────┬─────────┬────────────────┬──────────────┬──────────────┬──────────┐
//!   │ super  │ control  │ journal │ index          │ map          │ free         │ data     │
//!   │ a pair │ a pair   │ a ring  │ pairs of pages │ pairs        │ pairs        │ blocks   │
//!   └────────┴──────────┴─────────┴────────────────┴──────────────┴──────────────┴──────────┘
//! ```
//!
//! The pages of map and free space are the *leaves* of a tree of checksums ([`crate::tree`]); the index has its inner pages.
//!
//! A region with snapshots needs more data blocks than that. Behind the end of what it is made with, its file *grows* by tracts:
//!
//! ```text
//!   ┌─────────────────┬──────────────────┬──────────────┬──────────────────┬──────────────┬──
//!   │ index of group  │ free of tract 0  │ its data     │ free of tract 1  │ its data     │ …     508 tracts are a group
//!   │ a pair          │ a pair           │ blocks       │ a pair           │ blocks       │
//!   └─────────────────┴──────────────────┴──────────────┴──────────────────┴──────────────┴──
//! ```
//!
//! How many tracts there are follows from the length of the file: what makes a record durable that names a block of one makes the length
//! durable, too. *Places* are data blocks by their numbers: first those that the region is made with, then, from the next multiple of
//! [`SEGMENT`] on, those of the tracts.

use crate::{
    map,
    places::SEGMENT,
    sealed::{HEADER, Kind, Label, Mirror, PAGE, PAIR},
    tree::{FAN, LEAVES_MAX, Node},
    write::BATCH_BLOCKS_MAX,
};
use std::ops::Range;

/// Blocks of a region at most: 32 TiB of 4 KiB blocks. What the tree of checksums has leaves for.
pub const BLOCKS_MAX: u64 = 1 << 33;

/// The same of a region with seals, whose leaves have room for fewer blocks: 24 TiB of 4 KiB blocks.
pub const SEALED_BLOCKS_MAX: u64 = 3 << 31;

/// Bytes of the journal, at least and at most; a few of its largest records always fit. A checkpoint is begun when half of it is used.
const JOURNAL_MIN: u64 = 64 << 10;
const JOURNAL_MAX: u64 = 16 << 20;

/// The journal has so many bytes for each block, within its bounds: so that a quarter of it has room for all blocks of a small
/// region, scattered.
const JOURNAL_PER_BLOCK: u64 = 512;

/// Data blocks beyond the region's own: room for what is written while nothing may be overwritten yet. This part of the
/// region, and so many bytes at most; but always enough for one batch, if nothing else waits for a sync.
const SLACK_PART: u64 = 16;
const SLACK_BYTES_MAX: u64 = 256 << 20;

/// A tract has this part of the region's blocks, in whole segments, and no more than one free page has bits for.
const TRACT_PART: u64 = 8;

/// Groups of tracts at most: what the super has room for. They are 4 TiB of 4 KiB blocks.
pub(crate) const GROUPS_MAX: u64 = 64;

/// Data blocks that one free page has a bit for.
pub(crate) const BITS: u64 = (PAGE - HEADER) as u64 * 8;

/// The size of blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BlockSize {
    /// 512 bytes.
    B512,
    /// 4096 bytes.
    B4096,
}

impl BlockSize {
    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> usize {
        match self {
            BlockSize::B512 => 512,
            BlockSize::B4096 => 4096,
        }
    }

    /// Of so many bytes.
    #[must_use]
    pub fn of(bytes: u32) -> Option<BlockSize> {
        match bytes {
            512 => Some(BlockSize::B512),
            4096 => Some(BlockSize::B4096),
            _ => None,
        }
    }
}

/// What a region is like. Never changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Size of its blocks.
    pub block_size: BlockSize,
    /// How many it has; from 1 to [`BLOCKS_MAX`], or [`SEALED_BLOCKS_MAX`].
    pub blocks: u64,
    /// Whether each block has a seal: what an encrypting writer needs to read it back.
    pub is_sealed: bool,
}

impl Geometry {
    /// Bytes of a region's file: its blocks, room to move, and what is kept about them.
    #[must_use]
    pub fn file_bytes(self) -> u64 {
        Layout::of(self, 0).size()
    }

    /// Whether there may be such a region.
    #[must_use]
    pub fn is_possible(self) -> bool {
        let max = if self.is_sealed { SEALED_BLOCKS_MAX } else { BLOCKS_MAX };
        (1..=max).contains(&self.blocks)
    }
}

/// Where things are, in bytes from the start of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    pub(crate) geometry: Geometry,
    pub(crate) salt: u64,
    pub(crate) journal: u64,
    pub(crate) journal_bytes: u64,
    lower: u64,
    upper: u64,
    leaves: u64,
    pub(crate) map_pages: u64,
    pub(crate) free_pages: u64,
    data: u64,
    /// How many data blocks it is made with.
    pub(crate) data_blocks: u64,
    /// Data blocks of a tract.
    pub(crate) tract_blocks: u64,
    /// How many tracts there are.
    pub(crate) tracts: u64,
}

impl Layout {
    pub(crate) fn of(geometry: Geometry, salt: u64) -> Layout {
        let Geometry { block_size, blocks, is_sealed } = geometry;
        let slack = (blocks / SLACK_PART)
            .min(SLACK_BYTES_MAX / block_size.bytes() as u64)
            .max(blocks.min(BATCH_BLOCKS_MAX));
        let data_blocks = blocks + slack;
        let map_pages = blocks.div_ceil(map::entries(is_sealed) as u64);
        let free_pages = data_blocks.div_ceil(BITS);
        let journal_bytes = (blocks * JOURNAL_PER_BLOCK).next_power_of_two().clamp(JOURNAL_MIN, JOURNAL_MAX);
        let lower_pages = (map_pages + free_pages).div_ceil(FAN);
        let journal = 2 * PAIR;
        let lower = journal + journal_bytes;
        let upper = lower + lower_pages * PAIR;
        let leaves = upper + lower_pages.div_ceil(FAN) * PAIR;
        let data = leaves + (map_pages + free_pages) * PAIR;
        Layout {
            geometry,
            salt,
            journal,
            journal_bytes,
            lower,
            upper,
            leaves,
            map_pages,
            free_pages,
            data,
            data_blocks,
            tract_blocks: (blocks / TRACT_PART / SEGMENT * SEGMENT).clamp(SEGMENT, BITS / SEGMENT * SEGMENT),
            tracts: 0,
        }
    }

    /// As it is made.
    pub(crate) fn without_tracts(self) -> Layout {
        Layout { tracts: 0, ..self }
    }

    #[cfg(test)]
    pub(crate) fn with_data_blocks(self, data_blocks: u64) -> Layout {
        Layout { data_blocks, free_pages: data_blocks.div_ceil(BITS), ..self }
    }

    /// Bytes of the file that it is made with.
    pub(crate) fn size(&self) -> u64 {
        self.data + self.data_blocks * self.block_bytes()
    }

    /// Bytes of the file with so many tracts.
    pub(crate) fn size_with(&self, tracts: u64) -> u64 {
        if tracts == 0 { self.size() } else { self.tract_at(tracts - 1) + self.tract_bytes() }
    }

    /// The tracts that a file of so many bytes has.
    pub(crate) fn tracts_in(&self, size: u64) -> u64 {
        let all = GROUPS_MAX * FAN;
        let (mut least, mut most) = (0, all);
        while least < most {
            let half = (least + most).div_ceil(2);
            if self.size_with(half) <= size { least = half } else { most = half - 1 }
        }
        least
    }

    /// The place behind the last one.
    pub(crate) fn end_of_places(&self) -> u64 {
        if self.tracts == 0 { self.data_blocks } else { self.first_of(self.tracts) }
    }

    /// The first place of a tract.
    pub(crate) fn first_of(&self, tract: u64) -> u64 {
        self.data_blocks.next_multiple_of(SEGMENT) + tract * self.tract_blocks
    }

    /// Whether there are these places.
    pub(crate) fn has(&self, places: &Range<u64>) -> bool {
        places.end <= self.data_blocks
            || (places.start >= self.first_of(0) && places.end <= self.end_of_places())
    }

    /// Where a data block is.
    pub(crate) fn data_at(&self, place: u64) -> u64 {
        match place.checked_sub(self.first_of(0)).filter(|_| place >= self.data_blocks) {
            None => self.data + place * self.block_bytes(),
            Some(grown) => {
                let tract = grown / self.tract_blocks;
                self.tract_at(tract) + PAIR + (grown % self.tract_blocks) * self.block_bytes()
            }
        }
    }

    /// The parts of a run that follow each other in the file, too.
    pub(crate) fn parts(&self, run: Range<u64>) -> impl Iterator<Item = Range<u64>> + use<> {
        let (first, tract_blocks, mut rest) = (self.first_of(0), self.tract_blocks, run);
        std::iter::from_fn(move || {
            let start = rest.start;
            let border = match start.checked_sub(first) {
                None => first,
                Some(grown) => first + (grown / tract_blocks + 1) * tract_blocks,
            };
            let part = start..rest.end.min(border);
            rest.start = part.end;
            (!part.is_empty()).then_some(part)
        })
    }

    fn block_bytes(&self) -> u64 {
        self.geometry.block_size.bytes() as u64
    }

    fn tract_bytes(&self) -> u64 {
        PAIR + self.tract_blocks * self.block_bytes()
    }

    fn group_at(&self, group: u64) -> u64 {
        let group_bytes = PAIR + FAN * self.tract_bytes();
        self.size().next_multiple_of(PAGE as u64) + group * group_bytes
    }

    fn tract_at(&self, tract: u64) -> u64 {
        self.group_at(tract / FAN) + PAIR + tract % FAN * self.tract_bytes()
    }

    /// Pages of the map, and behind them those of free space.
    pub(crate) fn leaf_pages(&self) -> u64 {
        let leaves = self.map_pages + self.free_pages;
        assert!(leaves <= LEAVES_MAX, "a region with {leaves} leaves is too large");
        leaves
    }

    /// The leaf that is a page of free space: those that it is made with, and then one for each tract.
    pub(crate) fn free_leaf(&self, page: u64) -> Node {
        match page.checked_sub(self.free_pages) {
            None => Node::Leaf(self.map_pages + page),
            Some(tract) => Node::Tract(tract),
        }
    }

    /// A page of the tree: where its pair is, and what it says of itself.
    pub(crate) fn page(&self, node: Node) -> (u64, Label) {
        let (start, kind, number) = match node {
            Node::Leaf(number) if number < self.map_pages => (self.leaves, Kind::Map, number),
            Node::Leaf(number) => (self.leaves, Kind::Free, number),
            Node::Lower(number) => (self.lower, Kind::Lower, number),
            Node::Upper(number) => (self.upper, Kind::Upper, number),
            Node::Tract(number) => {
                let label = Label { kind: Kind::Tract, number, salt: self.salt };
                return (self.tract_at(number), label);
            }
            Node::Group(number) => {
                let label = Label { kind: Kind::Group, number, salt: self.salt };
                return (self.group_at(number), label);
            }
        };
        (start + number * PAIR, Label { kind, number, salt: self.salt })
    }

    pub(crate) fn super_mirror() -> Mirror {
        // Its reader does not know the salt yet: it is in there.
        Mirror { offset: 0, label: Label { kind: Kind::Super, number: 0, salt: 0 } }
    }

    pub(crate) fn control_mirror(&self) -> Mirror {
        Mirror { offset: PAIR, label: Label { kind: Kind::Control, number: 0, salt: self.salt } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_each_other_in_pages_and_the_largest_region_still_fits_the_tree() {
        for block_size in [BlockSize::B512, BlockSize::B4096] {
            for (is_sealed, most) in [(false, BLOCKS_MAX), (true, SEALED_BLOCKS_MAX)] {
                for blocks in [1, 1000, 1 << 19, most] {
                    let layout = Layout::of(Geometry { block_size, blocks, is_sealed }, 1);
                    assert_eq!(layout.journal, layout.control_mirror().offset + PAIR);
                    assert_eq!(layout.page(Node::Lower(0)).0, layout.journal + layout.journal_bytes);
                    let lower = layout.leaf_pages().div_ceil(FAN);
                    assert_eq!(layout.page(Node::Lower(lower)).0, layout.page(Node::Upper(0)).0);
                    let upper = lower.div_ceil(FAN);
                    assert_eq!(layout.page(Node::Upper(upper)).0, layout.page(Node::Leaf(0)).0);
                    assert_eq!(layout.page(Node::Leaf(layout.leaf_pages())).0, layout.data_at(0));
                    assert_eq!(layout.page(layout.free_leaf(0)).1.kind, Kind::Free);
                    assert_eq!(layout.data_at(0) % PAGE as u64, 0);
                    assert!(layout.data_blocks > blocks && layout.data_blocks < 1 << 47);
                    assert!(layout.map_pages * map::entries(is_sealed) as u64 >= blocks);
                }
            }
        }
    }

    #[test]
    fn tracts_follow_each_other_in_the_file_as_their_places_do_and_its_length_tells_how_many_there_are() {
        for blocks in [1, 400, 3_000, 1 << 19] {
            let geometry = Geometry { block_size: BlockSize::B512, blocks, is_sealed: false };
            let mut layout = Layout::of(geometry, 1);
            assert_eq!((layout.end_of_places(), layout.tracts_in(layout.size())), (layout.data_blocks, 0));
            layout.tracts = FAN + 3;
            let mut end = layout.size();
            for tract in 0..layout.tracts {
                let (free, label) = layout.page(Node::Tract(tract));
                assert_eq!((label.kind, label.number, free % PAGE as u64), (Kind::Tract, tract, 0));
                let first = if tract % FAN == 0 { layout.page(Node::Group(tract / FAN)).0 } else { free };
                assert!((end..end + PAGE as u64).contains(&first), "tract {tract}");
                let places = layout.first_of(tract)..layout.first_of(tract + 1);
                assert_eq!(layout.data_at(places.start), free + PAIR);
                assert_eq!(layout.data_at(places.end - 1) + 512, layout.size_with(tract + 1));
                assert!(layout.has(&places));
                end = layout.size_with(tract + 1);
                assert_eq!([layout.tracts_in(end - 1), layout.tracts_in(end)], [tract, tract + 1]);
            }
            let end = layout.end_of_places();
            assert!(!layout.has(&(end..end + 1)));
            let hole = layout.data_blocks..layout.first_of(0);
            assert!(hole.is_empty() || !layout.has(&hole));
            let border = layout.first_of(1);
            let parts: Vec<_> = layout.parts(border - 3..border + 2).collect();
            assert_eq!(parts, [border - 3..border, border..border + 2]);
            assert!(layout.parts(0..1).eq(std::iter::once(0..1)));
        }
    }

    #[test]
    fn what_a_region_takes_beside_its_blocks_is_a_twelfth() {
        let two_gib = Geometry { block_size: BlockSize::B4096, blocks: 1 << 19, is_sealed: false };
        let more = two_gib.file_bytes() as f64 / f64::from(1 << 30) / 2.0 - 1.0;
        assert!((0.07..0.1).contains(&more), "{more}");
    }
}
