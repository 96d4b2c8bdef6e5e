//! What a region is to hold: states, writes, and their bytes.

use rand::{Rng, SeedableRng, rngs::SmallRng};
use region::{Geometry, Held, NewContent, Onto, Position, SEAL, Seal, What, Write, checksum};

/// What a block holds, in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Never,
    Zeros,
    /// The bytes of this seed.
    Bytes(u64),
    /// They would be those of this seed, and nobody has them.
    Lost(u64),
}

/// All blocks at one applied position.
#[derive(Clone, Debug)]
pub(crate) struct State {
    pub(crate) applied: Position,
    pub(crate) blocks: Vec<(Position, Content)>,
}

impl State {
    /// All blocks were read, and hold this.
    pub(crate) fn check(&self, geometry: Geometry, held: &[Held], bytes: &[u8]) {
        assert_eq!(held.len(), self.blocks.len());
        self.check_from(0, geometry, held, bytes);
    }

    /// Some blocks were read, from this one on.
    pub(crate) fn check_from(&self, first: usize, geometry: Geometry, held: &[Held], bytes: &[u8]) {
        let size = geometry.block_size.bytes();
        let mut bytes = bytes.chunks_exact(size);
        for (block, (held, (version, content))) in
            (first as u64..).zip(held.iter().zip(&self.blocks[first..]))
        {
            assert_eq!(held.version, *version, "block {block} at {}", self.applied);
            match (held.what, content) {
                (What::Never, Content::Never) | (What::Zeros, Content::Zeros) => {}
                (What::Bytes { checksum: kept, seal }, Content::Bytes(seed)) => {
                    let bytes = bytes.next().expect("there are bytes for each block that has some");
                    assert_eq!(bytes, bytes_of(*seed, size), "block {block} at {}", self.applied);
                    assert_eq!(kept, checksum(block, bytes));
                    assert_eq!(seal, if geometry.is_sealed { seal_of(*seed) } else { [0; SEAL] });
                }
                (What::Lost { checksum: kept, seal }, Content::Lost(seed)) => {
                    assert_eq!(kept, checksum(block, &bytes_of(*seed, size)));
                    assert_eq!(seal, if geometry.is_sealed { seal_of(*seed) } else { [0; SEAL] });
                }
                (held, expected) => panic!("block {block} has {held:?} in place of {expected:?}"),
            }
        }
        assert!(bytes.next().is_none());
    }

    /// Whether these are the versions of blocks from this one on.
    pub(crate) fn has_versions(&self, first: usize, held: &[Held]) -> bool {
        held.iter().zip(&self.blocks[first..]).all(|(held, (version, _))| held.version == *version)
    }
}

/// A write, in the model.
#[derive(Clone, Debug)]
pub(crate) struct NewBlocks {
    pub(crate) version: Position,
    pub(crate) first: usize,
    pub(crate) content: Vec<Content>,
}

pub(crate) fn bytes_of(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    SmallRng::seed_from_u64(seed).fill(&mut bytes[..]);
    bytes
}

/// Often the same: what an earlier life has left in a data block may be what a later one writes there.
pub(crate) fn some_bytes(random: &mut SmallRng) -> Content {
    Content::Bytes(if random.random_bool(0.7) { random.random_range(0..2) } else { random.random() })
}

pub(crate) fn seal_of(seed: u64) -> Seal {
    let mut seal = [0; SEAL];
    seal[..8].copy_from_slice(&seed.to_le_bytes());
    seal
}

/// The writes with their bytes.
pub(crate) fn with_bytes<T>(
    geometry: Geometry,
    writes: &[NewBlocks],
    act: impl FnOnce(&[Write<'_>]) -> T,
) -> T {
    let size = geometry.block_size.bytes();
    let made: Vec<(Vec<u8>, Vec<u64>, Vec<Seal>)> = writes
        .iter()
        .map(|write| {
            let (mut bytes, mut checksums, mut seals) = (Vec::new(), Vec::new(), Vec::new());
            for (block, content) in (write.first as u64..).zip(&write.content) {
                if let Content::Bytes(seed) | Content::Lost(seed) = content {
                    let block_bytes = bytes_of(*seed, size);
                    checksums.push(checksum(block, &block_bytes));
                    bytes.extend(block_bytes);
                    if geometry.is_sealed {
                        seals.push(seal_of(*seed));
                    }
                }
            }
            (bytes, checksums, seals)
        })
        .collect();
    let writes: Vec<Write<'_>> = writes
        .iter()
        .zip(&made)
        .map(|(write, (bytes, checksums, seals))| Write {
            version: write.version,
            block: write.first as u64,
            content: match write.content[0] {
                Content::Bytes(_) => NewContent::Bytes { bytes, checksums, seals },
                Content::Lost(_) => NewContent::Lost { checksums, seals },
                _ => NewContent::Zeros(write.content.len() as u64),
            },
            onto: Onto::Older,
        })
        .collect();
    act(&writes)
}
