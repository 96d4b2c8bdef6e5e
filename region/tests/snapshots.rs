//! What a snapshot costs, what it refuses, and what it says when its file is rotten. That it survives crashes is in `crash`.

use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{DiskFaults, FaultyDisk, Operation, SimDisk, SimMachine, Storage, StorageError};
use ids::{RegionId, RegionSetId, SnapshotId};
use region::{
    BlockSize, Geometry, Held, Identity, List, NewContent, NewRegion, Onto, Opening, Position, Region,
    SNAPSHOTS_MAX, SnapshotAtRest, SnapshotError, SnapshotRoom, TakingEnd, What, Write, WriteError, checksum,
    look_inside, snapshot_room,
};
use std::{io::IoSlice, sync::Arc};
use uuid::Uuid;

const BLOCK: usize = 512;
const BLOCKS: u64 = 3_000;

fn path() -> &'static Utf8Path {
    Utf8Path::new("a.region")
}

fn id(number: u128) -> SnapshotId {
    SnapshotId(Uuid::from_u128(number))
}

fn file_of(number: u128) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("a.region.{}.snapshot", id(number)))
}

fn open(disk: &SimDisk) -> Region {
    let opening = Opening { life: 1, boot: Uuid::nil() };
    region::open(Arc::new(disk.clone()), path(), opening).expect("it opens")
}

fn region() -> (SimDisk, Region) {
    region_on(&SimMachine::new())
}

fn region_on(machine: &SimMachine) -> (SimDisk, Region) {
    let disk = machine.add_disk(1 << 28);
    let geometry = Geometry { block_size: BlockSize::B512, blocks: BLOCKS, is_sealed: false };
    let identity =
        Identity { region: RegionId(Uuid::from_u128(1)), set: RegionSetId(Uuid::from_u128(2)), geometry };
    let new = NewRegion { identity, incarnation: 1, list: List::default(), salt: 3 };
    region::create(&disk, path(), &new).expect("it is made");
    let region = open(&disk);
    (disk, region)
}

fn bytes_of(block: u64, round: u64) -> [u8; BLOCK] {
    [u8::try_from((block * 7 + round * 13) % 251).expect("it is small"); BLOCK]
}

/// Writes these blocks, each the content of this round.
fn write(region: &mut Region, round: u64, blocks: std::ops::Range<u64>) -> Result<u64, WriteError> {
    let bytes: Vec<u8> = blocks.clone().flat_map(|block| bytes_of(block, round)).collect();
    let checksums: Vec<u64> =
        blocks.clone().zip(bytes.chunks_exact(BLOCK)).map(|(block, bytes)| checksum(block, bytes)).collect();
    let applied = region.applied();
    let version = if applied.epoch == 0 { Position { epoch: 1, counter: 1 } } else { applied.next() };
    let content = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &[] };
    region.write(version, &[Write { version, block: blocks.start, content, onto: Onto::Older }])
}

/// All blocks, the content of this round.
fn write_all(region: &mut Region, round: u64) {
    for first in (0..BLOCKS).step_by(250) {
        let written = write(region, round, first..first + 250).or_else(|error| match error {
            WriteError::JournalFull => {
                region.checkpoint().expect("the disk works");
                write(region, round, first..first + 250)
            }
            error => Err(error),
        });
        written.expect("there is room");
        region.sync().expect("the disk works");
    }
}

fn take(region: &mut Region, number: u128) {
    let taking = region.begin_snapshot(id(number)).expect("it may be taken");
    assert!(matches!(region.end_snapshot(taking.run()), Ok(TakingEnd::Taken)));
}

fn delete(region: &mut Region, number: u128) {
    let going = region.begin_delete_snapshot(id(number)).expect("it is there");
    region.end_delete_snapshot(going.run()).expect("the disk works");
}

/// The blocks that do not have the content of this round.
fn wrong_blocks(held: &[Held], bytes: &[u8], round: u64) -> usize {
    assert!(held.iter().all(|held| matches!(held.what, What::Bytes { .. })));
    (0..BLOCKS)
        .zip(bytes.chunks_exact(BLOCK))
        .filter(|(block, bytes)| *bytes != bytes_of(*block, round))
        .count()
}

fn has(region: &mut Region, number: u128, round: u64) -> bool {
    let mut bytes = Vec::new();
    let held = region.read_snapshot(id(number), 0..BLOCKS, &mut bytes).expect("it can be read");
    wrong_blocks(&held, &bytes, round) == 0
}

fn bytes_on(disk: &SimDisk, path: &Utf8Path) -> u64 {
    disk.metadata(path).map_or(0, |metadata| metadata.size)
}

#[test]
fn everything_may_be_written_over_again_and_again_and_each_snapshot_has_what_it_had() {
    let (disk, mut region) = region();
    for round in 0..4 {
        write_all(&mut region, round);
        take(&mut region, round.into());
    }
    write_all(&mut region, 4);
    for round in 0..4 {
        assert!(has(&mut region, round.into(), round), "snapshot {round}");
    }
    region.settle().expect("the disk works");
    let mut region = open(&disk);
    for round in 0..4 {
        assert!(has(&mut region, round.into(), round), "snapshot {round} behind an opening");
    }
    let mut bytes = Vec::new();
    let held = region.read(0..BLOCKS, &mut bytes).expect("it can be read");
    assert_eq!(wrong_blocks(&held, &bytes, 4), 0);
}

#[test]
fn a_snapshot_takes_no_room_before_anything_is_written_and_gives_back_what_it_took() {
    let (disk, mut region) = region();
    write_all(&mut region, 0);
    region.checkpoint().expect("the disk works");
    let (room, size) = (region.room() + region.room_after_sync(), bytes_on(&disk, path()));
    take(&mut region, 1);
    assert_eq!(region.room() + region.room_after_sync(), room);
    write_all(&mut region, 1);
    let grown = bytes_on(&disk, path());
    assert!(grown > size, "its blocks have to be somewhere");
    delete(&mut region, 1);
    assert_eq!(bytes_on(&disk, &file_of(1)), 0);
    // All of them are free again, and the next snapshot takes the same.
    for round in 2..6 {
        take(&mut region, round.into());
        write_all(&mut region, round);
        assert!(has(&mut region, round.into(), round - 1));
        delete(&mut region, round.into());
    }
    let again = bytes_on(&disk, path());
    let tract = (grown - size).div_ceil(8) + 4_096 * 3;
    assert!(again <= grown + tract, "{again} bytes, and {grown} the first time");
}

#[test]
fn what_is_deleted_leaves_older_and_newer_ones_as_they_are() {
    let (disk, mut region) = region();
    for round in 0..4 {
        write_all(&mut region, round);
        take(&mut region, round.into());
    }
    // One that has the same pages as the one before it, which are replaced when only it is the newest.
    take(&mut region, 10);
    write_all(&mut region, 9);
    region.checkpoint().expect("the disk works");
    delete(&mut region, 10);
    assert!(has(&mut region, 3, 3));
    delete(&mut region, 1);
    for left in [0, 2, 3] {
        assert!(has(&mut region, left.into(), left), "snapshot {left}");
    }
    delete(&mut region, 3);
    drop(region);
    let mut region = open(&disk);
    let there: Vec<SnapshotId> = region.snapshots().map(|status| status.snapshot).collect();
    assert_eq!(there, [id(0), id(2)]);
    assert!(has(&mut region, 0, 0) && has(&mut region, 2, 2));
}

#[test]
fn what_cannot_be_is_refused_by_name_and_changes_nothing() {
    let (_disk, mut region) = region();
    write_all(&mut region, 0);
    take(&mut region, 1);
    let applied = region.applied();
    let again = region.begin_snapshot(id(1)).expect_err("there is one");
    assert!(matches!(again, SnapshotError::Exists { applied: of, .. } if of == applied), "{again}");
    let none = region.read_snapshot(id(2), 0..1, &mut Vec::new()).expect_err("there is none");
    assert_eq!(none.to_string(), format!("there is no snapshot {}", id(2)));
    assert!(matches!(region.begin_delete_snapshot(id(99)), Err(SnapshotError::None(_))));
    assert!(matches!(region.begin_snapshot(id(99)), Err(SnapshotError::Deleted(_))));
    let checkpoint = region.begin_checkpoint().expect("it is in use");
    assert!(matches!(region.begin_snapshot(id(2)), Err(SnapshotError::Busy)));
    assert!(matches!(region.begin_delete_snapshot(id(1)), Err(SnapshotError::Busy)));
    let _ = region.end_checkpoint(checkpoint.run()).expect("the disk works");
    let taking = region.begin_snapshot(id(2)).expect("it may be taken");
    assert!(matches!(region.begin_snapshot(id(3)), Err(SnapshotError::Busy)));
    assert!(matches!(region.begin_delete_snapshot(id(2)), Err(SnapshotError::Busy)));
    assert!(matches!(region.end_snapshot(taking.run()), Ok(TakingEnd::Taken)));
    let going = region.begin_delete_snapshot(id(2)).expect("it is there");
    assert!(matches!(region.read_snapshot(id(2), 0..1, &mut Vec::new()), Err(SnapshotError::None(_))));
    assert!(matches!(region.begin_snapshot(id(3)), Err(SnapshotError::Busy)));
    region.end_delete_snapshot(going.run()).expect("the disk works");
    for number in 3..2 + SNAPSHOTS_MAX {
        take(&mut region, number as u128);
    }
    let too_many = region.begin_snapshot(id(1_000)).expect_err("there are as many as there may be");
    assert_eq!(too_many.to_string(), "the region has 64 snapshots, and no more than that: delete one first");
    assert!(has(&mut region, 1, 0));
}

#[test]
fn a_disk_without_room_costs_the_snapshot_and_nothing_else() {
    let (disk, mut region) = region();
    write_all(&mut region, 0);
    disk.set_capacity(bytes_on(&disk, path()) + 4_096);
    let taking = region.begin_snapshot(id(1)).expect("it may be taken");
    assert!(
        matches!(region.end_snapshot(taking.run()), Ok(TakingEnd::NotTaken(error)) if error.is_no_space())
    );
    assert_eq!(region.snapshots().count(), 0);
    assert_eq!(disk.list(Utf8Path::new("")).expect("it can be read").len(), 1, "nothing is left of it");
    write_all(&mut region, 1);
    disk.set_capacity(1 << 28);
    take(&mut region, 1);
    // What is written over needs room that there is not: the write is refused, and everything is as it was.
    disk.set_capacity(bytes_on(&disk, path()) + bytes_on(&disk, &file_of(1)));
    let mut refused = None;
    for first in (0..BLOCKS).step_by(100).chain((0..BLOCKS).step_by(100)).chain((0..BLOCKS).step_by(100)) {
        region.sync().expect("the disk works");
        match write(&mut region, 2, first..first + 100) {
            Ok(_) => {}
            Err(WriteError::JournalFull) => region.checkpoint().expect("the disk works"),
            Err(error) => refused = Some(error),
        }
    }
    assert!(matches!(refused, Some(WriteError::Disk(error)) if error.is_no_space()));
    assert!(has(&mut region, 1, 1));
    disk.set_capacity(1 << 28);
    write_all(&mut region, 3);
    assert!(has(&mut region, 1, 1));
}

#[test]
fn a_rotten_bit_anywhere_in_its_file_never_gives_another_content() {
    let (disk, mut region) = region();
    write_all(&mut region, 0);
    take(&mut region, 1);
    write_all(&mut region, 1);
    region.checkpoint().expect("the disk works");
    region.settle().expect("the disk works");
    let size = bytes_on(&disk, &file_of(1));
    assert!(size > 0 && size.is_multiple_of(4_096));
    let (mut whole, mut broken) = (0, 0);
    for page in 0..size / 4_096 {
        for at in [9, 17, 40, 2_000] {
            disk.flip_bit(&file_of(1), page * 4_096 + at).expect("it is there");
            let mut region = open(&disk);
            let mut bytes = Vec::new();
            match region.read_snapshot(id(1), 0..BLOCKS, &mut bytes) {
                Ok(held) => {
                    assert_eq!(wrong_blocks(&held, &bytes, 0), 0, "byte {at} of page {page}");
                    whole += 1;
                }
                Err(SnapshotError::Broken { .. }) => broken += 1,
                Err(error) => panic!("byte {at} of page {page}: {error}"),
            }
            // The region itself is as it was, and what is broken can be deleted.
            let mut bytes = Vec::new();
            let held = region.read(0..BLOCKS, &mut bytes).expect("it can be read");
            assert_eq!(wrong_blocks(&held, &bytes, 1), 0);
            region.settle().expect("the disk works");
            disk.flip_bit(&file_of(1), page * 4_096 + at).expect("it is there");
        }
    }
    assert!(whole == 8 && broken > 50, "{whole} were read, {broken} were refused");
    let mut region = open(&disk);
    assert!(has(&mut region, 1, 0));
    let head = disk.open_in_place(&file_of(1)).expect("it is there");
    head.write_all_at(0, &mut [IoSlice::new(&[0; 8_192])]).expect("the disk works");
    region.settle().expect("the disk works");
    let mut region = open(&disk);
    let status = region.snapshots().next().expect("it is told");
    assert!(status.broken.is_some_and(|why| why.contains("rotten")));
    delete(&mut region, 1);
    assert_eq!(region.snapshots().count(), 0);
}

/// Every file of a disk, by its name, with its bytes.
fn files(disk: &SimDisk) -> Vec<(String, Vec<u8>)> {
    let entries = disk.list(Utf8Path::new("")).expect("it says");
    let bytes = |name: &str| {
        let file = disk.open_in_place(Utf8Path::new(name)).expect("it is there");
        let mut all = vec![0; usize::try_from(file.size().expect("it has a size")).expect("it is small")];
        file.read_exact_at(0, &mut all).expect("it is read");
        all
    };
    entries.into_iter().map(|entry| (entry.name.clone(), bytes(&entry.name))).collect()
}

fn look(disk: &SimDisk) -> Vec<SnapshotAtRest> {
    let file = Arc::from(disk.look_in_place(path()).expect("it is there"));
    look_inside(Arc::new(disk.clone()), file, path()).expect("it is a region").snapshots
}

#[test]
fn looking_tells_each_snapshot_and_what_it_alone_has_and_changes_nothing() {
    let (disk, mut region) = region();
    assert_eq!(look(&disk), []);
    write_all(&mut region, 0);
    take(&mut region, 1);
    write(&mut region, 1, 0..250).expect("there is room");
    take(&mut region, 2);
    take(&mut region, 3);
    write(&mut region, 2, 0..100).expect("there is room");
    write(&mut region, 2, 1_000..1_010).expect("there is room");
    region.settle().expect("the disk works");
    drop(region);
    // What was not taken yet is not touched, either, though an opening removes it.
    let unfinished = Utf8PathBuf::from(format!("{}.new", file_of(9)));
    disk.create_in_place(&unfinished).expect("it is made");
    let before = files(&disk);
    let told = look(&disk);
    assert!(files(&disk) == before, "looking has changed something");
    // The first one has 250 blocks that nobody else has. The other two have 100 that only they have, none of them alone; 10 are in all three.
    let told: Vec<(SnapshotId, u64, bool)> = told
        .iter()
        .map(|there| (there.status.snapshot, there.bytes_alone / BLOCK as u64, there.status.is_going))
        .collect();
    assert_eq!(told, [(id(1), 250, false), (id(2), 0, false), (id(3), 0, false)]);
    let mut region = open(&disk);
    delete(&mut region, 2);
    drop(region.begin_delete_snapshot(id(1)).expect("it is there"));
    drop(region);
    let told: Vec<(SnapshotId, u64, bool)> = look(&disk)
        .iter()
        .map(|there| (there.status.snapshot, there.bytes_alone / BLOCK as u64, there.status.is_going))
        .collect();
    // One that goes keeps nothing from being free.
    assert_eq!(told, [(id(1), 0, true), (id(3), 110, false)]);
}

#[test]
fn the_digest_of_a_snapshot_is_that_of_the_region_at_that_time() {
    let (disk, mut region) = region();
    write_all(&mut region, 0);
    let then = region.digest(0..BLOCKS).expect("it can be read");
    take(&mut region, 1);
    write(&mut region, 1, 7..8).expect("there is room");
    assert_ne!(region.digest(0..BLOCKS).expect("it can be read"), then);
    assert_eq!(region.digest_snapshot(id(1), 0..BLOCKS).expect("it can be read"), then);
    region.settle().expect("the disk works");
    assert_eq!(open(&disk).digest_snapshot(id(1), 0..BLOCKS).expect("it can be read"), then);
}

#[test]
fn one_that_cannot_be_read_gets_nothing_and_is_written_no_more() {
    let (disk, mut region) = region();
    // Pages that nobody ever wrote are as old as anything can be.
    take(&mut region, 1);
    take(&mut region, 2);
    write_all(&mut region, 0);
    region.checkpoint().expect("the disk works");
    region.settle().expect("the disk works");
    let file = disk.open_in_place(&file_of(1)).expect("it is there");
    file.write_all_at(0, &mut [IoSlice::new(&[0; 8_192])]).expect("the disk works");
    let content = || {
        let mut bytes = Vec::new();
        let size = usize::try_from(bytes_on(&disk, &file_of(1))).expect("it is small");
        file.append_exact_at(0, size, &mut bytes).expect("it can be read");
        bytes
    };
    let before = content();
    let mut region = open(&disk);
    delete(&mut region, 2);
    write_all(&mut region, 1);
    region.checkpoint().expect("the disk works");
    assert!(content() == before, "whatever it is, it is not ours to write");
}

#[test]
fn a_region_that_is_removed_takes_its_snapshots_along_and_it_may_be_tried_again() {
    let (disk, mut region) = region();
    for round in 0..3 {
        write_all(&mut region, round);
        take(&mut region, round.into());
    }
    drop(region);
    let other = Utf8Path::new("b.region");
    disk.create_in_place(other).expect("it is made");
    for _ in 0..2 {
        region::destroy(Arc::new(disk.clone()), path()).expect("the disk works");
        let left: Vec<String> = disk
            .list(Utf8Path::new(""))
            .expect("it can be read")
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(left, [other.as_str()]);
    }
}

#[test]
fn what_an_attempt_to_let_one_go_did_not_make_durable_is_not_taken_for_durable_by_the_next_one() {
    for seed in 0..20 {
        let machine = SimMachine::new();
        let (disk, mut region) = region_on(&machine);
        write_all(&mut region, 0);
        take(&mut region, 1);
        take(&mut region, 2);
        write_all(&mut region, 1);
        // What both have goes into the newer one.
        region.checkpoint().expect("the disk works");
        drop(region);
        let faults = DiskFaults::new();
        let faulty = Arc::new(FaultyDisk::new(disk.clone(), faults.clone()));
        let opening = Opening { life: 1, boot: Uuid::nil() };
        let mut region = region::open(faulty, path(), opening).expect("it opens");
        let going = region.begin_delete_snapshot(id(2)).expect("it is there");
        faults.fail_next_sync();
        assert!(region.end_delete_snapshot(going.run()).is_err());
        for _ in 0..2 {
            let Some(left) = region.snapshot_to_let_go() else { break };
            let going = region.begin_delete_snapshot(left).expect("it is there");
            // It may be of use again only when it is opened anew.
            let _ = region.end_delete_snapshot(going.run());
        }
        drop(region);
        machine.crash(seed);
        let mut region = open(&disk);
        assert!(has(&mut region, 1, 0), "seed {seed}");
        while let Some(left) = region.snapshot_to_let_go() {
            delete(&mut region, left.0.as_u128());
        }
        drop(region);
        machine.crash(seed);
        assert!(has(&mut open(&disk), 1, 0), "seed {seed}, behind the deletion");
    }
}

#[test]
fn the_room_that_snapshots_may_come_to_need_is_told_before_it_is_and_shrinks_as_it_is_taken() {
    let (disk, mut region) = region();
    let told = || snapshot_room(Arc::new(disk.clone()), path()).expect("it is told");
    let made_bytes = bytes_on(&disk, path());
    assert_eq!(told(), SnapshotRoom { bytes: 0, missing_bytes: 0, made_bytes });
    write_all(&mut region, 0);
    let taking = region.begin_snapshot(id(1)).expect("it may be taken");
    let room = taking.room();
    assert!(matches!(region.end_snapshot(taking.run()), Ok(TakingEnd::Taken)));
    assert_eq!(told(), room);
    let all = BLOCKS * BLOCK as u64;
    assert!(room.bytes == room.missing_bytes && (all..all + all / 4).contains(&room.bytes), "{room:?}");
    // Another one of the same has nothing of its own.
    take(&mut region, 2);
    assert_eq!(told(), room);
    write_all(&mut region, 1);
    let written = told();
    assert_eq!((written.bytes, written.made_bytes), (room.bytes, made_bytes));
    assert!(written.missing_bytes < room.bytes / 4, "{written:?}");
    // It was enough.
    assert!(bytes_on(&disk, path()) <= made_bytes + room.bytes);
    take(&mut region, 3);
    assert!(told().bytes > room.bytes + all, "{:?}", told());
    for number in 1..=3 {
        delete(&mut region, number);
    }
    assert_eq!(told(), SnapshotRoom { bytes: 0, missing_bytes: 0, made_bytes });
}

#[test]
fn a_snapshot_that_is_refused_for_lack_of_room_leaves_everything_as_it_was() {
    let (disk, mut region) = region();
    write_all(&mut region, 0);
    let taking = region.begin_snapshot(id(1)).expect("it may be taken");
    let source = std::io::Error::from(std::io::ErrorKind::StorageFull);
    let taken = taking.refuse(StorageError::new(Operation::Reserve, path(), source));
    assert!(matches!(region.end_snapshot(taken), Ok(TakingEnd::NotTaken(error)) if error.is_no_space()));
    assert_eq!((region.snapshots().count(), bytes_on(&disk, &file_of(1))), (0, 0));
    write_all(&mut region, 1);
    take(&mut region, 1);
    assert!(has(&mut region, 1, 1));
}
