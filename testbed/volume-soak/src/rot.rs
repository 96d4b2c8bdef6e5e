//! Flipping bits in a region's file, and seeing on the disk that they were healed. Knows of the file only that a block's bytes lie in it
//! as its member was sent them, at a multiple of its size; nobody tells where.
//!
//! ```text
//!   every copy of the block's newest write in the file: one bit flipped ──► no copy is right
//!   somebody reads it ──► the Upstairs takes it from another member, and puts it right ──► a copy is right again, elsewhere
//! ```

use crate::{
    block::{BLOCK, Seen, fill, see},
    opener::Opener,
    regions,
};
use anyhow::{Context, Result, anyhow};
use camino::Utf8Path;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    os::unix::fs::FileExt,
};
use volume_seals::VolumeKey;

/// Bytes that are read at a time.
const PIECE: usize = 1 << 20;

/// Bits that are flipped in one block at most.
const BITS_MAX: usize = 8;

/// A block, and the write that it is of.
pub(crate) type Written = (u64, u64);

/// The bytes that a member was sent of some blocks.
pub(crate) type Sent = BTreeMap<Vec<u8>, Written>;

/// Of a volume that is not encrypted: what clients have written.
pub(crate) fn sent_as_written(salt: u64, wanted: &[Written]) -> Sent {
    let bytes = |(block, write): Written| {
        let mut bytes = vec![0; BLOCK];
        fill(&mut bytes, salt, block, write);
        bytes
    };
    wanted.iter().map(|written| (bytes(*written), *written)).collect()
}

/// Of an encrypted one: what the region has, where it has it. Reads a copy of the file, `copy`, which is removed again; nobody may write the file
/// meanwhile.
pub(crate) fn sent_sealed(
    path: &Utf8Path,
    copy: &Utf8Path,
    key: &VolumeKey,
    salt: u64,
    wanted: &[Written],
) -> Result<Sent> {
    std::fs::copy(path, copy).with_context(|| format!("copying {path}"))?;
    let mut region = regions::open(copy)?.map_err(|error| anyhow!(error))?;
    let mut opener = Opener::of(Some(key), &region);
    let mut sent = Sent::new();
    for (block, write) in wanted {
        let mut bytes = Vec::new();
        let held = region.read(*block..block + 1, &mut bytes).with_context(|| format!("reading {copy}"))?;
        let [region::Held { what: region::What::Bytes { seal, .. }, .. }] = held[..] else { continue };
        let plain = opener.open(*block, &bytes, seal);
        if plain.is_some_and(|plain| see(&plain, salt, *block) == Seen::Write(*write)) {
            sent.insert(bytes, (*block, *write));
        }
    }
    drop(region);
    std::fs::remove_file(copy).with_context(|| format!("removing {copy}"))?;
    Ok(sent)
}

/// Flips some bits of every right copy of these. Which of them there were.
pub(crate) fn flip(path: &Utf8Path, sent: &Sent, seed: u64) -> Result<BTreeSet<Written>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut flipped = BTreeSet::new();
    let file = File::options().read(true).write(true).open(path);
    let file = file.with_context(|| format!("opening {path}"))?;
    for (offset, written, mut bytes) in copies(&file, path, sent)? {
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
pub(crate) fn right(path: &Utf8Path, sent: &Sent) -> Result<BTreeSet<Written>> {
    let file = File::open(path).with_context(|| format!("opening {path}"))?;
    Ok(copies(&file, path, sent)?.into_iter().map(|(_, written, _)| written).collect())
}

/// All right copies: where they are, what they are of, and their bytes.
fn copies(file: &File, path: &Utf8Path, sent: &Sent) -> Result<Vec<(u64, Written, Vec<u8>)>> {
    let size = file.metadata().with_context(|| format!("asking for the size of {path}"))?.len();
    let mut found = Vec::new();
    let mut piece = vec![0; PIECE];
    for start in (0..size).step_by(PIECE) {
        let length = usize::try_from(size - start).map_or(PIECE, |left| left.min(PIECE));
        file.read_exact_at(&mut piece[..length], start).with_context(|| format!("reading {path}"))?;
        for (offset, bytes) in (start..).step_by(BLOCK).zip(piece[..length].chunks_exact(BLOCK)) {
            if let Some(written) = sent.get(bytes) {
                found.push((offset, *written, bytes.to_vec()));
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let sent = sent_as_written(7, &[(1, 5), (9, 9)]);
        assert_eq!(flip(&path, &sent, 3).unwrap(), BTreeSet::from([(1, 5)]));
        assert!(right(&path, &sent).unwrap().is_empty());
        assert_eq!(right(&path, &sent_as_written(7, &[(1, 4), (2, 6)])).unwrap().len(), 2);
        let after = std::fs::read(&path).unwrap();
        let changed: Vec<bool> =
            after.chunks(BLOCK).zip(bytes.chunks(BLOCK)).map(|(one, other)| one != other).collect();
        assert_eq!(changed, [true, false, false, true, false]);
    }
}
