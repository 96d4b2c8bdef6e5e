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

use crate::{
    map,
    sealed::{HEADER, Kind, Label, Mirror, PAGE, PAIR},
    tree::{FAN, LEAVES_MAX, Node},
    write::BATCH_BLOCKS_MAX,
};

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
    /// How many data blocks there are.
    pub(crate) data_blocks: u64,
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
        }
    }

    /// Bytes of the whole file.
    pub(crate) fn size(&self) -> u64 {
        self.data_at(self.data_blocks)
    }

    /// Where a data block is.
    pub(crate) fn data_at(&self, place: u64) -> u64 {
        self.data + place * self.geometry.block_size.bytes() as u64
    }

    /// Pages of the map, and behind them those of free space.
    pub(crate) fn leaf_pages(&self) -> u64 {
        let leaves = self.map_pages + self.free_pages;
        assert!(leaves <= LEAVES_MAX, "a region with {leaves} leaves is too large");
        leaves
    }

    /// The leaf of a page of free space.
    pub(crate) fn free_leaf(&self, page: u64) -> u64 {
        self.map_pages + page
    }

    /// A page of the tree: where its pair is, and what it says of itself.
    pub(crate) fn page(&self, node: Node) -> (u64, Label) {
        let (start, kind, number) = match node {
            Node::Leaf(number) if number < self.map_pages => (self.leaves, Kind::Map, number),
            Node::Leaf(number) => (self.leaves, Kind::Free, number),
            Node::Lower(number) => (self.lower, Kind::Lower, number),
            Node::Upper(number) => (self.upper, Kind::Upper, number),
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
                    assert_eq!(layout.page(Node::Leaf(layout.free_leaf(0))).1.kind, Kind::Free);
                    assert_eq!(layout.data_at(0) % PAGE as u64, 0);
                    assert!(layout.data_blocks > blocks && layout.data_blocks < 1 << 47);
                    assert!(layout.map_pages * map::entries(is_sealed) as u64 >= blocks);
                }
            }
        }
    }

    #[test]
    fn what_a_region_takes_beside_its_blocks_is_a_twelfth() {
        let two_gib = Geometry { block_size: BlockSize::B4096, blocks: 1 << 19, is_sealed: false };
        let more = two_gib.file_bytes() as f64 / f64::from(1 << 30) / 2.0 - 1.0;
        assert!((0.07..0.1).contains(&more), "{more}");
    }
}
