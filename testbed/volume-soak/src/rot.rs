//! Flipping bits in a region's file, and seeing on the disk that they were healed. Knows of the file only that a block's bytes lie in it
//! as they were written, at a multiple of its size; nobody tells where.
//!
//! ```text
//!   every copy of the block's newest write in the file: one bit flipped ──► no copy is right
//!   somebody reads it ──► the Upstairs takes it from another member, and puts it right ──► a copy is right again, elsewhere
//! ```

use crate::block::{BLOCK, claims, first_difference};
use anyhow::{Context, Result};
use camino::Utf8Path;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use std::{collections::BTreeSet, fs::File, os::unix::fs::FileExt};

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// Bits that are flipped in one block at most.
const BITS_MAX: usize = 8;

/// A block, and the write that it is of.
pub(crate) type Written = (u64, u64);

/// Flips some bits of every right copy of these. Which of them there were.
pub(crate) fn flip(path: &Utf8Path, salt: u64, wanted: &[Written], seed: u64) -> Result<BTreeSet<Written>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut flipped = BTreeSet::new();
    let file = File::options().read(true).write(true).open(path);
    let file = file.with_context(|| format!("opening {path}"))?;
    for (offset, written, mut bytes) in copies(&file, path, salt, wanted)? {
        let count = random.random_range(1..=BITS_MAX);
        for bit in (0..BLOCK * 8).choose_multiple(&mut random, count) {
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        file.write_all_at(&bytes, offset).with_context(|| format!("writing {path}"))?;
        flipped.insert(written);
    }
    Ok(flipped)
}

/// Which of these have a right copy.
pub(crate) fn right(path: &Utf8Path, salt: u64, wanted: &[Written]) -> Result<BTreeSet<Written>> {
    let file = File::open(path).with_context(|| format!("opening {path}"))?;
    Ok(copies(&file, path, salt, wanted)?.into_iter().map(|(_, written, _)| written).collect())
}

/// All right copies: where they are, what they are of, and their bytes.
fn copies(
    file: &File,
    path: &Utf8Path,
    salt: u64,
    wanted: &[Written],
) -> Result<Vec<(u64, Written, Vec<u8>)>> {
    let wanted: BTreeSet<Written> = wanted.iter().copied().collect();
    let size = file.metadata().with_context(|| format!("asking for the size of {path}"))?.len();
    let mut found = Vec::new();
    let mut piece = vec![0; PIECE];
    for start in (0..size).step_by(PIECE) {
        let length = usize::try_from(size - start).map_or(PIECE, |left| left.min(PIECE));
        file.read_exact_at(&mut piece[..length], start).with_context(|| format!("reading {path}"))?;
        for (offset, bytes) in (start..).step_by(BLOCK).zip(piece[..length].chunks_exact(BLOCK)) {
            let Some(written) = claims(bytes, salt).filter(|written| wanted.contains(written)) else {
                continue;
            };
            if first_difference(bytes, salt, written.0, written.1).is_none() {
                found.push((offset, written, bytes.to_vec()));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::fill;
    use camino_tempfile::Utf8TempDir;

    #[test]
    fn every_copy_of_what_is_wanted_is_flipped_and_nothing_else() {
        let temp = Utf8TempDir::new().unwrap();
        let path = temp.path().join("region");
        let mut bytes = vec![0; 5 * BLOCK];
        for (place, (block, write)) in [(0, (1, 5)), (1, (1, 4)), (3, (1, 5)), (4, (2, 6))] {
            fill(&mut bytes[place * BLOCK..][..BLOCK], 7, block, write);
        }
        std::fs::write(&path, &bytes).unwrap();
        let wanted = [(1, 5), (9, 9)];
        assert_eq!(flip(&path, 7, &wanted, 3).unwrap(), BTreeSet::from([(1, 5)]));
        assert!(right(&path, 7, &wanted).unwrap().is_empty());
        assert_eq!(right(&path, 7, &[(1, 4), (2, 6)]).unwrap().len(), 2);
        let after = std::fs::read(&path).unwrap();
        let changed: Vec<bool> =
            after.chunks(BLOCK).zip(bytes.chunks(BLOCK)).map(|(one, other)| one != other).collect();
        assert_eq!(changed, [true, false, false, true, false]);
    }
}
