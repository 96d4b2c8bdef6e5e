//! Faults of a disk on command: the other end of the fault socket of the process that serves it. Exists only in one that was started by an
//! agent whose config says `[testing] faults = true`. A fault ends with the process.

use super::files::RegionFiles;
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{DiskFaults, RealDisk, Storage};
use fault_points::{DiskControl, DiskFault};
use ids::RegionId;
use problem::chain;
use region::{Stored, checksum, each_stored, look_outside};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// Blocks that are corrupted at once, at most: they are remembered until all of them are chosen.
const CORRUPT_MAX: u64 = 65_536;

/// Blocks that are remembered beyond those that are wanted, for those that have rotted already.
const SPARE: usize = 1_024;

/// The suffix of a region's file.
const SUFFIX: &str = ".region";

/// Where the process that serves a disk has its fault socket.
pub(super) fn socket(directory: &Utf8Path, disk: &str) -> Utf8PathBuf {
    directory.join(format!("{disk}.faults.sock"))
}

/// One disk that can be faulted.
#[derive(Debug)]
pub(super) struct FaultableDisk {
    name: String,
    /// The disk below the faults.
    sound: RealDisk,
    faults: DiskFaults,
}

/// A block of some region, in the order in which they are corrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Turn {
    /// Decided by the seed.
    lot: u64,
    region: RegionId,
    block: u64,
}

/// Blocks of which some are corrupted.
#[derive(Debug, Default)]
struct Lots {
    /// Each with the size of a block.
    turns: BTreeMap<Turn, (Stored, usize)>,
    /// Regions that could not be looked at, and why.
    not_looked_at: BTreeMap<RegionId, String>,
}

impl FaultableDisk {
    pub(super) fn new(name: &str, sound: RealDisk, faults: DiskFaults) -> FaultableDisk {
        FaultableDisk { name: name.to_owned(), sound, faults }
    }

    /// Flips a bit in each of so many blocks that have bytes and are right, chosen by the seed; in all of them if there are fewer. One that
    /// has rotted already is left: its second flip might be the one that mends it.
    fn corrupt(&self, count: u64, seed: u64) -> Result<Value, String> {
        if count > CORRUPT_MAX {
            return Err(format!("{count} blocks are more than can be corrupted at once: {CORRUPT_MAX}"));
        }
        // Nobody writes meanwhile: where a block is stays true until its bit is flipped.
        let _held = self.faults.hold();
        let wanted = usize::try_from(count).map_err(|error| error.to_string())?;
        let Lots { turns, not_looked_at } = self.lots(wanted + SPARE, seed)?;
        let mut corrupted = Vec::new();
        for (turn, (stored, size)) in turns {
            if corrupted.len() == wanted {
                break;
            }
            let path = RegionFiles::path_on_disk(turn.region, &file_name(turn.region));
            let mut bytes = vec![0; size];
            let file = self.sound.look_in_place(&path).map_err(|error| chain(&error))?;
            file.read_exact_at(stored.offset, &mut bytes).map_err(|error| chain(&error))?;
            if checksum(turn.block, &bytes) != stored.checksum {
                continue;
            }
            let offset = stored.offset + (turn.lot >> 17) % size as u64;
            self.sound.flip_bit(&path, offset).map_err(|error| chain(&error))?;
            corrupted.push(json!({ "region": turn.region, "block": turn.block, "offset": offset }));
        }
        tracing::warn!(disk = self.name, count = corrupted.len(), seed, "blocks corrupted");
        Ok(json!({ "corrupted": corrupted, "not_looked_at": not_looked_at }))
    }

    /// The first so many blocks in the order that the seed decides.
    fn lots(&self, count: usize, seed: u64) -> Result<Lots, String> {
        let files: Arc<dyn Storage> = Arc::new(RegionFiles::new(Arc::new(self.sound.clone())));
        let entries = files.list(Utf8Path::new("")).map_err(|error| chain(&error))?;
        let Lots { mut turns, mut not_looked_at } = Lots::default();
        for entry in entries {
            let id = entry.name.strip_suffix(SUFFIX).and_then(|id| id.parse::<RegionId>().ok());
            let Some(region) = id else { continue };
            let path = Utf8PathBuf::from(file_name(region));
            let mut look = || {
                let file: Arc<dyn durable_fs::InPlaceFile> = files.look_in_place(&path)?.into();
                let size = look_outside(file.as_ref(), &path)?.identity.geometry.block_size.bytes();
                each_stored(Arc::clone(&files), file, &path, |stored| {
                    let turn = Turn { lot: lot(seed, region, stored.block), region, block: stored.block };
                    turns.insert(turn, (stored, size));
                    if turns.len() > count {
                        turns.pop_last();
                    }
                })
            };
            if let Err(error) = look() {
                not_looked_at.insert(region, chain(&error));
            }
        }
        Ok(Lots { turns, not_looked_at })
    }
}

impl DiskControl for FaultableDisk {
    fn apply(&self, disk: &str, fault: &DiskFault) -> Result<Value, String> {
        if disk != self.name {
            return Err(format!("no disk {disk:?} here; there is {}", self.name));
        }
        match fault {
            DiskFault::Fail => self.faults.fail(),
            DiskFault::Slow { ms } => self.faults.slow(Duration::from_millis(*ms)),
            DiskFault::Full => self.faults.full(),
            DiskFault::Heal => self.faults.heal(),
            DiskFault::Corrupt { count, seed } => return self.corrupt(*count, *seed),
        }
        tracing::warn!(disk, ?fault, "disk fault set");
        Ok(json!({ "disk": disk, "fault": fault }))
    }
}

fn file_name(region: RegionId) -> String {
    format!("{region}{SUFFIX}")
}

/// Which turn a block has: by nothing but the seed and which block it is.
fn lot(seed: u64, region: RegionId, block: u64) -> u64 {
    let (high, low) = region.0.as_u64_pair();
    [high, low, block].into_iter().fold(seed, |mixed, next| {
        // The end of splitmix64, which mixes every bit into every other one.
        let mut mixed = (mixed ^ next).wrapping_add(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::{Datasets, Directories, Size};
    use ids::RegionSetId;
    use region::{
        BlockSize, Geometry, Held, Identity, List, NewContent, NewRegion, Onto, Opening, Position, Region,
        What,
    };
    use std::collections::BTreeSet;
    use uuid::Uuid;

    const BLOCKS: u64 = 64;

    /// A disk with a region, whose first half was written.
    async fn disk(dir: &Utf8Path) -> (FaultableDisk, RegionId) {
        let datasets = Directories::open(dir, Duration::from_secs(60));
        datasets.prepare().await.unwrap();
        let region = RegionId::generate();
        let size = Size { quota_bytes: 4 << 20, reservation_bytes: 4 << 20 };
        datasets.create(region, size).await.unwrap();
        let geometry = Geometry { block_size: BlockSize::B4096, blocks: BLOCKS, is_sealed: false };
        let identity = Identity { region, set: RegionSetId::generate(), geometry };
        let new = NewRegion { identity, incarnation: 1, list: List::default(), salt: 1 };
        let files: Arc<dyn Storage> = Arc::new(RegionFiles::new(Arc::new(RealDisk::new(dir))));
        region::create(files.as_ref(), Utf8Path::new(&file_name(region)), &new).unwrap();
        let mut opened = open(dir, region);
        write(&mut opened);
        opened.settle().unwrap();
        (FaultableDisk::new("disk-0", RealDisk::new(dir), DiskFaults::new()), region)
    }

    fn open(dir: &Utf8Path, region: RegionId) -> Region {
        let files: Arc<dyn Storage> = Arc::new(RegionFiles::new(Arc::new(RealDisk::new(dir))));
        region::open(files, Utf8Path::new(&file_name(region)), Opening { life: 1, boot: Uuid::nil() })
            .unwrap()
    }

    fn write(region: &mut Region) {
        let bytes: Vec<u8> = (0..BLOCKS / 2).flat_map(|block| [block as u8 + 1; 4096]).collect();
        let checksums: Vec<u64> =
            bytes.chunks_exact(4096).zip(0..).map(|(bytes, block)| checksum(block, bytes)).collect();
        let version = Position { epoch: 1, counter: 1 };
        let content = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &[] };
        region.write(version, &[region::Write { version, block: 0, content, onto: Onto::Older }]).unwrap();
        region.sync().unwrap();
    }

    /// Blocks whose bytes do not have their checksums.
    fn rotten(dir: &Utf8Path, region: RegionId) -> BTreeSet<u64> {
        let mut region = open(dir, region);
        let mut rotten = BTreeSet::new();
        for block in 0..BLOCKS {
            let mut bytes = Vec::new();
            let held = region.read(block..block + 1, &mut bytes).unwrap();
            if let [Held { what: What::Bytes { checksum: expected, .. }, .. }] = held[..]
                && checksum(block, &bytes) != expected
            {
                rotten.insert(block);
            }
        }
        rotten
    }

    fn chosen(answer: &Value) -> BTreeSet<u64> {
        let corrupted = answer["corrupted"].as_array().expect("a list").iter();
        corrupted.map(|one| one["block"].as_u64().expect("a block")).collect()
    }

    #[tokio::test]
    async fn so_many_blocks_that_have_bytes_rot_chosen_by_the_seed_and_none_twice() {
        let temp = camino_tempfile::tempdir().unwrap();
        let (disk, region) = disk(temp.path()).await;
        let before =
            std::fs::read(temp.path().join(RegionFiles::path_on_disk(region, &file_name(region)))).unwrap();
        let turns = disk.lots(5, 7).unwrap().turns;
        assert!(
            turns.keys().eq(disk.lots(5, 7).unwrap().turns.keys())
                && !turns.keys().eq(disk.lots(5, 8).unwrap().turns.keys())
        );
        let first = chosen(&disk.corrupt(5, 7).unwrap());
        assert_eq!((first.len(), first.clone()), (5, turns.keys().map(|turn| turn.block).collect()));
        let after =
            std::fs::read(temp.path().join(RegionFiles::path_on_disk(region, &file_name(region)))).unwrap();
        let changed: u32 = before.iter().zip(&after).map(|(one, other)| (one ^ other).count_ones()).sum();
        assert_eq!((changed, rotten(temp.path(), region)), (5, first.clone()));
        // The same seed again: those that are rotten stay so, and others follow, until there are no more.
        let second = chosen(&disk.corrupt(BLOCKS, 7).unwrap());
        assert!(second.is_disjoint(&first) && second.len() == BLOCKS as usize / 2 - 5);
        assert_eq!(rotten(temp.path(), region).len(), BLOCKS as usize / 2);
        assert!(chosen(&disk.corrupt(3, 1).unwrap()).is_empty());
        assert!(disk.corrupt(CORRUPT_MAX + 1, 1).unwrap_err().contains("65536"));
        // What is no region is told, and the others rot.
        let other = RegionId::generate();
        let path = temp.path().join(RegionFiles::path_on_disk(other, &file_name(other)));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, [9; 20_000]).unwrap();
        let answer = disk.corrupt(1, 1).unwrap();
        assert!(
            answer["not_looked_at"][other.to_string()].as_str().unwrap().contains("not a region"),
            "{answer}"
        );
    }

    #[test]
    fn another_disks_name_is_refused() {
        let disk = FaultableDisk::new("disk-0", RealDisk::new("/nowhere"), DiskFaults::new());
        assert!(disk.apply("disk-1", &DiskFault::Fail).unwrap_err().contains("there is disk-0"));
        disk.apply("disk-0", &DiskFault::Fail).unwrap();
        assert!(disk.faults.state().failing);
    }
}
