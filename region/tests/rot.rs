//! A byte of a region's file changes on the disk, anywhere: what was durable is given back as it was, or with a checksum that does
//! not fit, or not at all; and never an older state as if it were the newest.

use camino::Utf8Path;
use durable_fs::{SimDisk, SimMachine};
use ids::{RegionId, RegionSetId};
use region::{
    BlockSize, Geometry, Identity, List, NewContent, NewRegion, Onto, OpenError, Opening, Position, Region,
    Rule, What, Write, checksum,
};
use uuid::Uuid;

const BLOCK: usize = 512;
const BLOCKS: u64 = 400;
const PATH: &str = "region";

fn path() -> &'static Utf8Path {
    Utf8Path::new(PATH)
}

fn open(disk: &SimDisk) -> Result<Region, OpenError> {
    region::open(disk, path(), Opening { life: 1, boot: Uuid::nil() })
}

fn bytes_of(block: u64, round: u64) -> [u8; BLOCK] {
    [u8::try_from((block * 7 + round) % 251).expect("it is small"); BLOCK]
}

/// Writes all blocks from `first` on, ten at a time, with a sync behind each write.
fn write_round(region: &mut Region, round: u64) {
    for first in (0..BLOCKS).step_by(10) {
        let bytes: Vec<u8> = (first..first + 10).flat_map(|block| bytes_of(block, round)).collect();
        let checksums: Vec<u64> =
            bytes.chunks_exact(BLOCK).zip(first..).map(|(bytes, block)| checksum(block, bytes)).collect();
        let version = Position { epoch: 1, counter: region.applied().counter + 1 };
        let content = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &[] };
        let write = Write { version, block: first, content, onto: Onto::Older };
        region.write(version, &[write]).expect("there is room");
        region.sync().expect("the disk works");
    }
}

/// A disk with a region: three rounds of writes, a checkpoint behind the first and the second one.
fn written() -> (SimMachine, SimDisk, Position) {
    let machine = SimMachine::new();
    let disk = machine.add_disk(1 << 24);
    let geometry = Geometry { block_size: BlockSize::B512, blocks: BLOCKS, is_sealed: false };
    let identity =
        Identity { region: RegionId(Uuid::from_u128(1)), set: RegionSetId(Uuid::from_u128(2)), geometry };
    let new = NewRegion { identity, incarnation: 1, list: List::default(), salt: 3 };
    region::create(&disk, path(), &new).expect("it is made");
    let mut region = open(&disk).expect("it opens");
    for round in 0..2 {
        write_round(&mut region, round);
        region.checkpoint().expect("the disk works");
    }
    write_round(&mut region, 2);
    region.settle().expect("the disk works");
    let applied = region.applied();
    (machine, disk, applied)
}

/// What became of a region one of whose bytes has changed.
#[derive(Debug, PartialEq, Eq)]
enum Became {
    Refused,
    Failed,
    SomeBlocksWrong,
    AsItWas,
    Older,
    Other,
}

fn look(disk: &SimDisk, applied: Position) -> Became {
    let Ok(mut region) = open(disk) else { return Became::Refused };
    if region.applied() < applied {
        return Became::Older;
    }
    let mut became = Became::AsItWas;
    for block in 0..BLOCKS {
        let mut bytes = Vec::new();
        let Ok(held) = region.read(block..block + 1, &mut bytes) else { return Became::Failed };
        let What::Bytes { checksum: kept, .. } = held[0].what else { return Became::Other };
        if checksum(block, &bytes) != kept {
            became = Became::SomeBlocksWrong;
        } else if bytes != bytes_of(block, 2) {
            return Became::Other;
        }
    }
    became
}

/// What became of it, for every one of these offsets by itself.
fn rot(offsets: impl IntoIterator<Item = u64>) -> Vec<Became> {
    let became = offsets.into_iter().map(|offset| {
        let (machine, disk, applied) = written();
        machine.power_on();
        disk.flip_bit(path(), offset).expect("it is a byte of the file");
        look(&disk, applied)
    });
    became.collect()
}

fn file_bytes() -> u64 {
    Geometry { block_size: BlockSize::B512, blocks: BLOCKS, is_sealed: false }.file_bytes()
}

#[test]
fn no_changed_byte_is_taken_for_right_and_none_brings_an_older_state_back() {
    let step = 2_003;
    let became = rot((0..file_bytes()).step_by(step));
    let count = |what: &Became| became.iter().filter(|became| *became == what).count();
    assert_eq!((count(&Became::Older), count(&Became::Other)), (0, 0), "{became:?}");
    assert!(count(&Became::SomeBlocksWrong) > 50, "{became:?}");
    assert!(count(&Became::Refused) > 0, "{became:?}");
}

#[test]
fn a_durable_record_that_rots_is_missed() {
    // The journal of this region begins behind the mirrors; what is left of rounds before lies there, too.
    let journal = (16 << 10)..(16 << 10) + (40 << 10);
    let is_older = |became: &Became| *became == Became::Older;
    let offsets = || journal.clone().step_by(331);
    let became = rot(offsets());
    assert!(!became.iter().any(is_older) && became.contains(&Became::Refused), "{became:?}");
    let without = Rule::DurableIsMissed.left_out(|| rot(offsets()));
    assert!(without.iter().any(is_older), "leaving it out is not noticed: {without:?}");
}

/// Whether a region lives through the rot of one copy and then, an opening later, of the other.
fn survives_both_copies(first: u64, second: u64) -> bool {
    let (machine, disk, applied) = written();
    for offset in [first, second] {
        machine.power_on();
        disk.flip_bit(path(), offset).expect("it is a byte of the file");
        if look(&disk, applied) != Became::AsItWas {
            return false;
        }
    }
    true
}

#[test]
fn of_super_and_control_either_copy_may_rot_and_is_mended_by_the_next_opening() {
    const PAGE: u64 = 4_096;
    for mirror in [0, 2 * PAGE] {
        let at = |copy: u64| mirror + copy * PAGE + 100;
        assert!(survives_both_copies(at(0), at(1)));
        assert!(survives_both_copies(at(1), at(0)));
        assert!(!Rule::CopiesAreEqual.left_out(|| survives_both_copies(at(0), at(1))));
    }
}

#[test]
fn a_half_of_a_page_that_does_not_count_may_rot() {
    let (machine, disk, applied) = written();
    machine.power_on();
    let mut region = open(&disk).expect("it opens");
    region.checkpoint().expect("the disk works");
    region.settle().expect("the disk works");
    drop(region);
    // Of both halves of each page behind the journal, one counts.
    let became = |offset: u64| {
        machine.power_on();
        disk.flip_bit(path(), offset).expect("it is a byte of the file");
        let became = look(&disk, applied);
        machine.power_on();
        disk.flip_bit(path(), offset).expect("it is a byte of the file");
        became
    };
    let pages = (16 << 10) + (256 << 10);
    let halves: Vec<Became> = (0..10).map(|page| became(pages + page * 4_096 + 1_000)).collect();
    for pair in halves.chunks_exact(2) {
        assert!(pair.contains(&Became::AsItWas) || pair == [Became::Refused, Became::Refused], "{halves:?}");
        assert!(!pair.contains(&Became::Older) && !pair.contains(&Became::Other), "{halves:?}");
    }
    assert!(halves.contains(&Became::Refused) || halves.contains(&Became::Failed), "{halves:?}");
}
