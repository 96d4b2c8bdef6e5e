//! What blocks of a snapshot hold, in one number that nobody can make two contents for. Owns what it is made of.
//!
//! | of | bytes |
//! |---|---|
//! | all | `bobsled snapshot content 1`, block size (4), whether there are seals (1), first block (8), number of blocks (4) |
//! | each block | its version (4 + 8); what it is (1): 0 never written, 1 zeros, 2 bytes |
//! | one with bytes | its checksum (8); its seal (40), where there are seals; its bytes |
//!
//! So who has the same number has the same blocks: what nobody ever wrote, what was zeroed and what was written, by which write, and every byte.
//! It is of what the disk gives back now: bytes that do not have their checksum, or that are lost, have no number.
//!
//! The hash of a whole snapshot is that of the numbers of its *leaves*, in their order: each leaf has as many blocks as 1 MiB holds, the
//! last one what is left.

use region::{Geometry, Held, What, checksum};
use region_wire::{Blocks, WRITE_BYTES_MAX};
use sha2::{Digest, Sha256};
use std::fmt::Write;

const LABEL: &[u8] = b"bobsled snapshot content 1";

/// Bytes of a leaf.
const LEAF_BYTES: usize = WRITE_BYTES_MAX;

/// The number of these blocks; or the first of them that the disk does not give back as it was written.
pub(crate) fn hash(geometry: Geometry, blocks: Blocks, held: &[Held], bytes: &[u8]) -> Result<[u8; 32], u64> {
    let size = geometry.block_size.bytes();
    let mut bytes = bytes.chunks_exact(size);
    let mut hash = Sha256::new();
    hash.update(LABEL);
    hash.update(u32::try_from(size).expect("a block is small").to_le_bytes());
    hash.update([u8::from(geometry.is_sealed)]);
    hash.update(blocks.first.to_le_bytes());
    hash.update(blocks.count.to_le_bytes());
    for (block, held) in blocks.range().zip(held) {
        hash.update(held.version.epoch.to_le_bytes());
        hash.update(held.version.counter.to_le_bytes());
        match held.what {
            What::Never => hash.update([0]),
            What::Zeros => hash.update([1]),
            What::Lost { .. } => return Err(block),
            What::Bytes { checksum: kept, seal } => {
                let own = bytes.next().filter(|own| checksum(block, own) == kept).ok_or(block)?;
                hash.update([2]);
                hash.update(kept.to_le_bytes());
                if geometry.is_sealed {
                    hash.update(seal);
                }
                hash.update(own);
            }
        }
    }
    Ok(hash.finalize().into())
}

/// As people write it.
#[must_use]
pub fn in_hex(hash: &[u8; 32]) -> String {
    hash.iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The leaves of a snapshot, in their order.
pub(crate) fn leaves(geometry: Geometry) -> impl Iterator<Item = Blocks> {
    ranges(geometry, (LEAF_BYTES / geometry.block_size.bytes()) as u64)
}

/// All blocks, so many at a time.
pub(crate) fn ranges(geometry: Geometry, at_once: u64) -> impl Iterator<Item = Blocks> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let first = next;
        let count = at_once.min(geometry.blocks - first);
        next += count;
        (count > 0).then(|| Blocks { first, count: u32::try_from(count).expect("a message is small") })
    })
}

/// The number of all leaves.
#[derive(Debug)]
pub(crate) struct Whole(Sha256);

impl Whole {
    pub(crate) fn new() -> Whole {
        Whole(Sha256::new())
    }

    /// The next leaf's.
    pub(crate) fn add(&mut self, leaf: &[u8; 32]) {
        self.0.update(leaf);
    }

    pub(crate) fn end(self) -> [u8; 32] {
        self.0.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use region::{BlockSize, Position, SEAL};

    const GEOMETRY: Geometry = Geometry { block_size: BlockSize::B512, blocks: 5_000, is_sealed: true };

    fn held(what: What) -> Held {
        Held { version: Position { epoch: 1, counter: 2 }, what }
    }

    fn bytes(fill: u8, seal: u8) -> (Held, Vec<u8>) {
        let own = vec![fill; 512];
        (held(What::Bytes { checksum: checksum(7, &own), seal: [seal; SEAL] }), own)
    }

    #[test]
    fn whatever_differs_is_another_number_and_what_is_wrong_has_none() {
        let one = Blocks { first: 7, count: 1 };
        let of = |geometry, held: Held, bytes: &[u8]| hash(geometry, one, &[held], bytes);
        let (whole, own) = bytes(3, 4);
        let all = [
            of(GEOMETRY, whole, &own),
            of(Geometry { is_sealed: false, ..GEOMETRY }, whole, &own),
            of(GEOMETRY, bytes(3, 5).0, &own),
            of(GEOMETRY, bytes(2, 4).0, &bytes(2, 4).1),
            of(GEOMETRY, Held { version: Position { epoch: 1, counter: 3 }, ..whole }, &own),
            of(GEOMETRY, Held { version: Position { epoch: 2, counter: 2 }, ..whole }, &own),
            of(GEOMETRY, held(What::Zeros), &[]),
            of(GEOMETRY, held(What::Never), &[]),
            hash(GEOMETRY, Blocks { first: 7, count: 2 }, &[held(What::Zeros); 2], &[]),
        ];
        for (at, number) in all.iter().enumerate() {
            assert!(number.is_ok() && !all[..at].contains(number), "{at}");
        }
        let mut rotten = own;
        rotten[9] ^= 1;
        assert_eq!(of(GEOMETRY, whole, &rotten), Err(7));
        assert_eq!(of(GEOMETRY, whole, &[]), Err(7));
        assert_eq!(of(GEOMETRY, held(What::Lost { checksum: 1, seal: [4; SEAL] }), &[]), Err(7));
    }

    #[test]
    fn leaves_have_all_blocks_in_their_order() {
        let all: Vec<_> = leaves(GEOMETRY).map(|blocks| (blocks.first, blocks.count)).collect();
        assert_eq!(all, [(0, 2_048), (2_048, 2_048), (4_096, 904)]);
    }
}
