//! What somebody does who has a member's disk, knows the format, and has not the key: other bytes, with right checksums. The member itself
//! cannot tell.
//!
//! | changed | |
//! |---|---|
//! | the bytes | some of them |
//! | the seal | one bit of it: its session, its counter or its tag |
//! | both | those of another block, as they are: they were sealed with the right key, for another place |

use crate::{
    block::{BLOCK, Seen, see},
    opener::Opener,
    regions,
    rot::Written,
};
use anyhow::{Context, Result, anyhow};
use camino::Utf8Path;
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IteratorRandom};
use region::{NewContent, Onto, Position, SEAL, Seal, What, Write, checksum};
use volume_seals::VolumeKey;

/// A block as the member keeps it.
#[derive(Clone, Debug)]
struct Kept {
    block: u64,
    version: Position,
    bytes: Vec<u8>,
    seal: Seal,
}

/// Forges those of these blocks that hold what they are said to hold, in a file that nobody serves; durable on return. Which they were.
pub(crate) fn forge(
    path: &Utf8Path,
    key: &VolumeKey,
    salt: u64,
    wanted: &[Written],
    seed: u64,
) -> Result<Vec<u64>> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut region = regions::open(path)?.map_err(|error| anyhow!(error))?;
    let mut opener = Opener::of(Some(key), &region);
    let mut all: Vec<Kept> = Vec::new();
    for (block, write) in wanted {
        let mut bytes = Vec::new();
        let held = region.read(*block..block + 1, &mut bytes).with_context(|| format!("reading {path}"))?;
        let [region::Held { version, what: What::Bytes { seal, .. } }] = held[..] else { continue };
        let plain = opener.open(*block, &bytes, seal);
        if plain.is_some_and(|plain| see(&plain, salt, *block) == Seen::Write(*write)) {
            all.push(Kept { block: *block, version, bytes, seal });
        }
    }
    for kept in &all {
        let mut forged = kept.clone();
        let other = all.iter().filter(|other| other.block != kept.block).choose(&mut random);
        match (random.random_range(0..3), other) {
            (0, Some(other)) => forged = Kept { block: kept.block, version: kept.version, ..other.clone() },
            (1, _) => forged.seal[random.random_range(0..SEAL)] ^= 1 << random.random_range(0..8),
            _ => forged.bytes[random.random_range(0..BLOCK)] ^= 1 << random.random_range(0..8),
        }
        let Kept { block, version, bytes, seal } = &forged;
        let (checksums, seals) = ([checksum(*block, bytes)], [*seal]);
        let content = NewContent::Bytes { bytes, checksums: &checksums, seals: &seals };
        let write = Write { version: *version, block: *block, content, onto: Onto::Same };
        region.write(region.applied(), &[write]).with_context(|| format!("forging a block of {path}"))?;
    }
    region.sync().with_context(|| format!("making forged blocks of {path} durable"))?;
    Ok(all.iter().map(|kept| kept.block).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::fill;
    use bytes::Bytes;
    use camino_tempfile::tempdir;
    use durable_fs::RealDisk;
    use ids::{RegionId, RegionSetId};
    use region::{BlockSize, Geometry, Identity, List, NewRegion, Region};
    use uuid::Uuid;
    use volume_seals::{Sealer, SealingSession};

    const BLOCKS: u64 = 40;

    /// A region of sealed blocks, each of the write with its number plus one.
    fn make(dir: &Utf8Path, key: &VolumeKey) -> Region {
        let set = RegionSetId(Uuid::from_u128(9));
        let geometry = Geometry { block_size: BlockSize::B4096, blocks: BLOCKS, is_sealed: true };
        let identity = Identity { region: RegionId(Uuid::from_u128(1)), set, geometry };
        let new = NewRegion { identity, incarnation: 1, list: List::default(), salt: 5 };
        region::create(&RealDisk::new(dir), Utf8Path::new("a.region"), &new).unwrap();
        let mut region = regions::open(&dir.join("a.region")).unwrap().unwrap();
        let mut sealer = Sealer::new(key, set, BlockSize::B4096, SealingSession::random());
        for block in 0..BLOCKS {
            let mut plain = vec![0; BLOCK];
            fill(&mut plain, 7, block, block + 1);
            let sealed = sealer.seal(block, Bytes::from(plain));
            let version = Position { epoch: 1, counter: block + 1 };
            let content = NewContent::Bytes {
                bytes: &sealed.bytes,
                checksums: &sealed.checksums,
                seals: &sealed.seals,
            };
            region.write(version, &[Write { version, block, content, onto: Onto::Older }]).unwrap();
        }
        region.sync().unwrap();
        region
    }

    #[test]
    fn a_forged_block_has_its_checksum_and_version_and_is_not_opened() {
        let (dir, key) = (tempdir().unwrap(), VolumeKey::random());
        let path = dir.path().join("a.region");
        let before = make(dir.path(), &key).look(0..BLOCKS).unwrap();
        // The last one is not of that write.
        let wanted: Vec<Written> = (0..30).map(|block| (block, block + 1)).chain([(30, 99)]).collect();
        assert_eq!(forge(&path, &key, 7, &wanted, 3).unwrap(), (0..30).collect::<Vec<u64>>());
        let mut region = regions::open(&path).unwrap().unwrap();
        let mut opener = Opener::of(Some(&key), &region);
        for block in 0..BLOCKS {
            let mut bytes = Vec::new();
            let held = region.read(block..block + 1, &mut bytes).unwrap()[0];
            let What::Bytes { checksum: kept, seal } = held.what else { panic!("{held:?}") };
            assert_eq!(held.version, before[block as usize].version);
            assert_eq!(checksum(block, &bytes), kept);
            let opened = opener.open(block, &bytes, seal);
            assert_eq!(opened.is_some(), block >= 30, "{block}");
        }
        assert!(
            forge(&path, &VolumeKey::random(), 7, &wanted, 3).unwrap().is_empty(),
            "another key opens nothing"
        );
    }
}
