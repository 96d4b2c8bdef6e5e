//! A byte of a region's file changes on the disk, anywhere: what was durable is given back as it was, or with a checksum that does
//! not fit, or not at all; and never an older state as if it were the newest.

use camino::Utf8Path;
use durable_fs::{DiskFaults, FaultyDisk, SimDisk, SimMachine, Storage};
use ids::{RegionId, RegionSetId};
use region::{
    BlockSize, Geometry, Identity, List, NewContent, NewRegion, Onto, OpenError, Opening, Position, Region,
    Rule, What, Write, checksum,
};
use std::sync::Arc;
use uuid::Uuid;

const BLOCK: usize = 512;
const BLOCKS: u64 = 400;
const PATH: &str = "region";

fn path() -> &'static Utf8Path {
    Utf8Path::new(PATH)
}

fn open(disk: &(impl Storage + Clone + 'static)) -> Result<Region, OpenError> {
    region::open(Arc::new(disk.clone()), path(), Opening { life: 1, boot: Uuid::nil() })
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

fn look(disk: &(impl Storage + Clone + 'static), applied: Position) -> Became {
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

/// The ring of this region.
const RING: std::ops::Range<u64> = 16 << 10..(16 << 10) + (256 << 10);

#[test]
fn a_part_of_the_ring_that_cannot_be_read_is_like_one_that_is_rotten_wherever_it_is() {
    let mut counts = (0, 0, 0);
    // The system reads a page at a time.
    for offset in RING.step_by(4_096) {
        let bytes = offset..offset + 4_096;
        let (machine, disk, applied) = written();
        machine.power_on();
        let faults = DiskFaults::new();
        faults.make_unreadable(path(), bytes.clone());
        let faulty = FaultyDisk::new(disk.clone(), faults);
        let unreadable = look(&faulty, applied);
        let is_suspect = || open(&faulty).expect("it opened before").control().is_suspect;
        let (machine, disk, applied) = written();
        machine.power_on();
        bytes.clone().for_each(|byte| disk.flip_bit(path(), byte).expect("it is a byte of the file"));
        assert_eq!(unreadable, look(&disk, applied), "{bytes:?}");
        match unreadable {
            Became::AsItWas => counts.0 += 1,
            Became::Refused => counts.1 += 1,
            // The last page, which has the last records and all that says that they were durable.
            Became::Older if is_suspect() => counts.2 += 1,
            other => panic!("{bytes:?}: {other:?}"),
        }
    }
    assert!(counts.0 > 40 && counts.1 > 1 && counts.2 == 1, "{counts:?}");
}

/// A region of which three writes were not synced when its process was killed.
fn unsynced() -> (SimDisk, Position) {
    let (machine, disk, _) = written();
    machine.power_on();
    let mut region = open(&disk).expect("it opens");
    let durable = region.applied();
    for _ in 0..3 {
        let version = region.applied().next();
        let write = Write { version, block: 0, content: NewContent::Zeros(1), onto: Onto::Older };
        region.write(version, &[write]).expect("there is room");
    }
    machine.power_on();
    (disk, durable)
}

#[test]
fn what_was_never_said_to_be_durable_ends_where_it_cannot_be_read_and_the_region_says_that_it_may_lack_some()
{
    let mut found = Vec::new();
    // Where the last of them are.
    for offset in (36 << 10..44 << 10).step_by(128) {
        let (disk, durable) = unsynced();
        let faults = DiskFaults::new();
        // The records of a life lie together: a part of them only.
        faults.make_unreadable(path(), offset..offset + 128);
        let Ok(region) = open(&FaultyDisk::new(disk, faults)) else { continue };
        let (applied, is_suspect) = (region.applied(), region.control().is_suspect);
        let lacks = applied.counter < durable.counter + 3;
        assert!(is_suspect || !lacks, "{offset}: {applied}");
        found.push(lacks);
    }
    assert!(found.contains(&true) && found.contains(&false), "{found:?}");
}

#[test]
fn a_disk_that_gives_nothing_back_is_no_region_without_records() {
    let (disk, durable) = unsynced();
    let faults = DiskFaults::new();
    faults.make_unreadable(path(), RING);
    let disk = FaultyDisk::new(disk, faults.clone());
    assert!(matches!(open(&disk), Err(OpenError::Disk(_))));
    faults.heal();
    assert_eq!(open(&disk).expect("it opens").applied().counter, durable.counter + 3);
}

/// What a region becomes when any part of its journal rots. The journal of this region begins behind the mirrors; what is left of rounds
/// before lies there, too.
fn rot_of_the_journal() -> Vec<Became> {
    let journal = (16 << 10)..(16 << 10) + (40 << 10);
    rot(journal.step_by(331))
}

#[test]
fn a_durable_record_that_rots_is_missed() {
    let became = rot_of_the_journal();
    assert!(!became.contains(&Became::Older) && became.contains(&Became::Refused), "{became:?}");
}

#[test]
fn leaving_out_that_what_was_durable_is_missed_is_noticed() {
    let without = Rule::DurableIsMissed.left_out(rot_of_the_journal);
    assert!(without.contains(&Became::Older), "leaving it out is not noticed: {without:?}");
}

const PAGE: u64 = 4_096;

/// Where super and control are.
const MIRRORS: [u64; 2] = [0, 2 * PAGE];

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
    for mirror in MIRRORS {
        let at = |copy: u64| mirror + copy * PAGE + 100;
        assert!(survives_both_copies(at(0), at(1)));
        assert!(survives_both_copies(at(1), at(0)));
    }
}

#[test]
fn leaving_out_that_copies_are_made_equal_is_noticed() {
    for mirror in MIRRORS {
        assert!(!Rule::CopiesAreEqual.left_out(|| survives_both_copies(mirror + 100, mirror + PAGE + 100)));
    }
}

/// Whether a region lives through a copy that is wrong, and a power that
/// fails at any change of the next opening, however it tears what is written
/// then. The boot is another one, so that the opening has something to say,
/// and has bits everywhere, so that no piece of what is said stays as it was.
fn survives_power_that_fails_while_it_is_mended(wrong: u64) -> bool {
    let opening = |boot| Opening { life: 2, boot: Uuid::from_u128(u128::MAX - boot) };
    let open = |disk: &SimDisk, boot| region::open(Arc::new(disk.clone()), path(), opening(boot));
    for changes in 0.. {
        for seed in 0..24 {
            let (machine, disk, applied) = written();
            machine.crash(seed);
            disk.flip_bit(path(), wrong).expect("it is a byte of the file");
            machine.stop_after_changes(changes);
            if open(&disk, 1).is_ok() {
                assert!(changes > 2, "an opening changes more than that");
                return true;
            }
            assert!(machine.is_off(), "it opens on a disk that works");
            machine.crash(seed);
            if open(&disk, 2).is_err() || look(&disk, applied) != Became::AsItWas {
                return false;
            }
        }
    }
    unreachable!("an opening ends")
}

/// Of super an opening writes the same bytes once more, or, where an older program has written it, some others in one sector: it is not torn.
#[test]
fn while_the_wrong_copy_of_control_is_mended_the_power_may_fail() {
    for copy in [0, 1] {
        assert!(survives_power_that_fails_while_it_is_mended(MIRRORS[1] + copy * PAGE + 100), "{copy}");
    }
}

#[test]
fn leaving_out_that_the_wrong_copy_is_written_first_is_noticed() {
    let second_of_control = MIRRORS[1] + PAGE + 100;
    let survives = || survives_power_that_fails_while_it_is_mended(second_of_control);
    assert!(!Rule::WrongCopyFirst.left_out(survives));
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
