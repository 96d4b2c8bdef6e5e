//! What a region refuses, and that nothing is changed by it.

use camino::Utf8Path;
use durable_fs::{DiskFaults, FaultyDisk, InPlaceFile, SimDisk, SimMachine, Storage};
use ids::{RegionId, RegionSetId};
use region::{
    BLOCKS_MAX, BlockSize, CreateError, Geometry, Identity, List, NewContent, NewRegion, Onto, OpenError,
    Opening, Position, Region, SEALED_BLOCKS_MAX, Write, WriteError, checksum,
};
use std::{io::IoSlice, sync::Arc};
use uuid::Uuid;

const BLOCK: usize = 512;

fn path() -> &'static Utf8Path {
    Utf8Path::new("region")
}

fn new_region(blocks: u64, is_sealed: bool) -> NewRegion {
    let geometry = Geometry { block_size: BlockSize::B512, blocks, is_sealed };
    let identity =
        Identity { region: RegionId(Uuid::from_u128(1)), set: RegionSetId(Uuid::from_u128(2)), geometry };
    NewRegion { identity, incarnation: 1, list: List::default(), salt: 3 }
}

fn open(disk: &(impl Storage + Clone + 'static)) -> Result<Region, OpenError> {
    region::open(Arc::new(disk.clone()), path(), Opening { life: 1, boot: Uuid::nil() })
}

fn disk() -> SimDisk {
    SimMachine::new().add_disk(1 << 27)
}

fn region_of(blocks: u64, is_sealed: bool) -> Region {
    let disk = disk();
    region::create(&disk, path(), &new_region(blocks, is_sealed)).expect("it is made");
    open(&disk).expect("it opens")
}

const FIRST: Position = Position { epoch: 1, counter: 1 };

#[test]
fn a_region_without_blocks_or_with_too_many_is_not_made() {
    let too_many = [0, BLOCKS_MAX + 1, u64::MAX].map(|blocks| (blocks, false));
    for (blocks, is_sealed) in too_many.into_iter().chain([(SEALED_BLOCKS_MAX + 1, true)]) {
        let disk = disk();
        let refused = region::create(&disk, path(), &new_region(blocks, is_sealed));
        assert!(matches!(refused, Err(CreateError::Wrong { blocks: told }) if told == blocks), "{refused:?}");
        assert!(disk.list(Utf8Path::new("")).expect("it can be listed").is_empty());
    }
}

#[test]
fn a_disk_that_is_too_small_is_left_as_it_was() {
    let disk = SimMachine::new().add_disk(200 << 10);
    let refused = region::create(&disk, path(), &new_region(1_000, false));
    assert!(matches!(refused, Err(CreateError::Disk(_))), "{refused:?}");
    assert!(disk.list(Utf8Path::new("")).expect("it can be listed").is_empty());
    region::create(&disk, path(), &new_region(1, false)).expect("a small one has room");
}

#[test]
fn what_a_crash_has_left_of_one_is_no_obstacle_to_the_next() {
    let disk = disk();
    disk.create_in_place(Utf8Path::new("region.new")).expect("it is made");
    region::create(&disk, path(), &new_region(10, false)).expect("it is made");
    assert_eq!(disk.list(Utf8Path::new("")).expect("it can be listed").len(), 1);
}

fn damaged(damage: impl FnOnce(&dyn InPlaceFile)) -> OpenError {
    let disk = disk();
    region::create(&disk, path(), &new_region(10, false)).expect("it is made");
    damage(disk.open_in_place(path()).expect("it opens").as_ref());
    open(&disk).expect_err("it should be refused")
}

#[test]
fn files_that_are_no_regions_are_refused() {
    let missing = open(&disk()).expect_err("there is none");
    assert!(matches!(missing, OpenError::Disk(_)), "{missing:?}");
    let zeros = |at: u64| {
        move |file: &dyn InPlaceFile| {
            file.write_all_at(at, &mut [IoSlice::new(&[0; 8_192])]).expect("it is written");
        }
    };
    let refused = damaged(zeros(0));
    assert!(matches!(refused, OpenError::NotARegion { .. }), "{refused:?}");
    let refused = damaged(zeros(8_192));
    assert!(matches!(refused, OpenError::Rotten { .. }), "{refused:?}");

    let disk = disk();
    let mut other = disk.create_new(path()).expect("it is made");
    other.write_all(b"a text").expect("it is written");
    let refused = open(&disk).expect_err("it is a text");
    assert!(matches!(refused, OpenError::NotARegion { .. }), "{refused:?}");
    assert_eq!(disk.metadata(path()).expect("it is there").size, 6, "nothing was written to it");
}

#[test]
fn a_region_that_lacks_its_end_is_refused() {
    let disk = disk();
    region::create(&disk, path(), &new_region(10, false)).expect("it is made");
    let size = disk.metadata(path()).expect("it is there").size;
    let mut start = vec![0; 20_000];
    disk.open_in_place(path()).expect("it opens").read_exact_at(0, &mut start).expect("it can be read");
    disk.remove(path()).expect("it is removed");
    disk.create_new(path()).expect("it is made").write_all(&start).expect("it is written");
    let refused = open(&disk).expect_err("it is too short");
    let is_short = matches!(&refused, OpenError::Short { size: 20_000, needed, .. } if *needed == size);
    assert!(is_short, "{refused:?}");
}

#[test]
fn a_write_that_is_none_changes_nothing() {
    let bytes = [5; 2 * BLOCK];
    let checksums = [checksum(0, &bytes[..BLOCK]), checksum(1, &bytes[BLOCK..])];
    let seals = [[0; region::SEAL]; 2];
    let right = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &[] };
    let wrong = [
        (FIRST, 9, right),
        (FIRST, 10, NewContent::Zeros(1)),
        (FIRST, u64::MAX, NewContent::Zeros(2)),
        (FIRST, 0, NewContent::Zeros(0)),
        (FIRST, 0, NewContent::Zeros(11)),
        (FIRST, 0, NewContent::Never(1)),
        (Position::NONE, 0, NewContent::Zeros(1)),
        (FIRST, 0, NewContent::Bytes { bytes: &bytes[1..], checksums: &checksums, seals: &[] }),
        (FIRST, 0, NewContent::Bytes { bytes: &bytes, checksums: &checksums[1..], seals: &[] }),
        (FIRST, 0, NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &seals }),
        (FIRST, 0, NewContent::Bytes { bytes: &[], checksums: &[], seals: &[] }),
        (FIRST, 9, NewContent::Lost { checksums: &checksums, seals: &[] }),
        (FIRST, 0, NewContent::Lost { checksums: &checksums, seals: &seals }),
        (FIRST, 0, NewContent::Lost { checksums: &[], seals: &[] }),
        (Position::NONE, 0, NewContent::Lost { checksums: &checksums, seals: &[] }),
    ];
    let mut region = region_of(10, false);
    for (version, block, content) in wrong {
        let good = Write { version: FIRST, block: 0, content: right, onto: Onto::Older };
        let bad = Write { version, block, content, onto: Onto::Older };
        let refused = region.write(FIRST, &[good, bad]);
        assert!(matches!(refused, Err(WriteError::Wrong { .. })), "{block} {content:?}: {refused:?}");
    }
    assert_eq!((region.applied(), region.room()), (Position::NONE, 20), "the good ones neither");
    let unsealed = Write { version: FIRST, block: 0, content: right, onto: Onto::Older };
    let refused = region_of(10, true).write(FIRST, &[unsealed]);
    assert!(matches!(refused, Err(WriteError::Wrong { .. })), "{refused:?}");
}

#[test]
fn a_batch_of_the_size_that_is_told_always_fits_behind_a_sync_and_a_checkpoint() {
    for blocks in [1, 10, 333, 40_000] {
        let mut region = region_of(blocks, true);
        let batch = region.batch_blocks_max();
        assert!(batch >= blocks.min(32_768));
        let bytes: Vec<u8> = vec![1; BLOCK];
        let checksums: Vec<u64> = (0..blocks).map(|block| checksum(block, &bytes)).collect();
        for round in 1..4 {
            // Every second block first, so that nothing that follows is next to what it follows.
            let order = (0..blocks).step_by(2).chain((1..blocks).step_by(2)).cycle();
            let writes: Vec<Write<'_>> = (1..=batch)
                .zip(order)
                .map(|(counter, block)| Write {
                    version: Position { epoch: round, counter },
                    block,
                    content: NewContent::Bytes {
                        bytes: &bytes,
                        checksums: &checksums[block as usize..=block as usize],
                        seals: &[[9; region::SEAL]],
                    },
                    onto: Onto::Older,
                })
                .collect();
            region.sync().expect("the disk works");
            region.checkpoint().expect("the disk works");
            let written = region.write(Position { epoch: round, counter: batch }, &writes);
            assert_eq!(written.expect("it fits"), batch);
        }
    }
}

#[test]
fn a_disk_that_fails_ends_what_it_was_needed_for_and_no_more() {
    let faults = DiskFaults::default();
    let disk = FaultyDisk::new(disk(), faults.clone());
    region::create(&disk, path(), &new_region(10, false)).expect("it is made");
    let mut region = open(&disk).expect("it opens");
    let bytes = [5; BLOCK];
    let checksums = [checksum(0, &bytes)];
    let content = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &[] };
    let write = [Write { version: FIRST, block: 0, content, onto: Onto::Older }];

    faults.full();
    assert!(matches!(region.write(FIRST, &write), Err(WriteError::Disk(_))));
    faults.heal();
    assert!(region.failed().is_none(), "nothing was changed");
    assert_eq!(region.write(FIRST, &write).expect("the disk has room again"), 1);

    faults.fail();
    let failed = region.sync().expect_err("the disk fails");
    faults.heal();
    assert!(failed.to_string().contains("durable"), "{failed}");
    // Nobody knows what is on the disk, whatever it says from now on.
    assert!(region.sync().is_err() && region.write(FIRST, &write).is_err());
    assert!(region.failed().is_some());
    let reopened = open(&disk).expect("it opens");
    assert!(reopened.applied() <= FIRST);
}
