//! Looking at a region that nobody has open: it tells what an opening finds, and changes nothing.

use camino::Utf8Path;
use durable_fs::{InPlaceFile, SimDisk, SimMachine, Storage};
use ids::{RegionId, RegionSetId};
use region::{
    BlockSize, Geometry, Identity, Inside, List, NewContent, NewRegion, Onto, OpenError, Opening, Position,
    Region, Write, checksum, look_inside, look_outside,
};
use std::{io::IoSlice, sync::Arc};
use uuid::Uuid;

const PATH: &str = "region";
const BLOCK: usize = 512;

fn path() -> &'static Utf8Path {
    Utf8Path::new(PATH)
}

fn made() -> SimDisk {
    let disk = SimMachine::new().add_disk(1 << 20);
    let geometry = Geometry { block_size: BlockSize::B512, blocks: 8, is_sealed: false };
    let identity =
        Identity { region: RegionId(Uuid::from_u128(1)), set: RegionSetId(Uuid::from_u128(2)), geometry };
    let new = NewRegion { identity, incarnation: 5, list: List::default(), salt: 3 };
    region::create(&disk, path(), &new).expect("it is made");
    disk
}

fn open(disk: &SimDisk) -> Region {
    region::open(Arc::new(disk.clone()), path(), Opening { life: 1, boot: Uuid::nil() }).expect("it opens")
}

fn file(disk: &SimDisk) -> Arc<dyn InPlaceFile> {
    Arc::from(disk.open_in_place(path()).expect("it is there"))
}

fn inside(disk: &SimDisk) -> Inside {
    look_inside(Arc::new(disk.clone()), file(disk), path()).expect("it is a region")
}

fn bytes(disk: &SimDisk) -> Vec<u8> {
    let file = file(disk);
    let mut all = vec![0; usize::try_from(file.size().expect("it has a size")).expect("it is small")];
    file.read_exact_at(0, &mut all).expect("it is read");
    all
}

fn write(region: &mut Region, counter: u64) {
    let (version, content) = (Position { epoch: 1, counter }, [counter as u8; BLOCK]);
    let checksums = [checksum(counter, &content)];
    let content = NewContent::Bytes { bytes: &content, checksums: &checksums, seals: &[] };
    region
        .write(version, &[Write { version, block: counter, content, onto: Onto::Older }])
        .expect("there is room");
}

#[test]
fn a_region_that_was_never_opened_is_clean_and_empty() {
    let disk = made();
    let outside = look_outside(file(&disk).as_ref(), path()).expect("it is a region");
    assert_eq!((outside.identity.region, outside.control.incarnation), (RegionId(Uuid::from_u128(1)), 5));
    let inside = inside(&disk);
    assert!(inside.is_clean && inside.blocks_with_bytes == 0 && inside.room >= 8);
    assert_eq!(inside.blocks_lost, 0);
    assert_eq!((inside.applied, inside.checkpoints), (Position::NONE, 0));
}

#[test]
fn what_is_told_is_what_an_opening_finds_and_nothing_is_changed() {
    let disk = made();
    let mut region = open(&disk);
    write(&mut region, 1);
    region.sync().expect("it is synced");
    write(&mut region, 2);
    write(&mut region, 3);
    drop(region);

    let before = bytes(&disk);
    let told = inside(&disk);
    assert!(before == bytes(&disk), "looking has changed it");
    assert!(!told.is_clean);
    assert_eq!((told.applied.counter, told.blocks_with_bytes), (3, 3));
    assert_eq!(told.durable.counter, 1, "the sync was said by the records after it");

    let mut region = open(&disk);
    assert_eq!(region.applied(), told.applied);
    region.settle().expect("it is closed in order");
    let closed = inside(&disk);
    assert!(closed.is_clean && closed.durable == closed.applied && closed.applied == told.applied);
}

#[test]
fn blocks_that_are_lost_are_counted_across_openings_and_checkpoints_and_until_they_are_written() {
    let disk = made();
    let mut region = open(&disk);
    let lose = |region: &mut Region, counter: u64| {
        let version = Position { epoch: 1, counter };
        let content = NewContent::Lost { checksums: &[5, 6], seals: &[] };
        let write = Write { version, block: counter, content, onto: Onto::Older };
        region.write(version, &[write]).expect("it needs no room");
    };
    lose(&mut region, 1);
    region.checkpoint().expect("the disk works");
    lose(&mut region, 4);
    region.settle().expect("it is closed in order");
    let told = inside(&disk);
    assert_eq!((told.blocks_lost, told.blocks_with_bytes), (4, 0));
    let mut region = open(&disk);
    write(&mut region, 5);
    region.checkpoint().expect("the disk works");
    assert_eq!(region.lost_blocks(), 3);
    drop(region);
    assert_eq!(inside(&disk).blocks_lost, 3);
}

#[test]
fn what_is_no_region_is_refused_by_name() {
    let disk = made();
    let zeros = vec![0; 8 << 10];
    file(&disk).write_all_at(0, &mut [IoSlice::new(&zeros)]).expect("it is written");
    assert!(matches!(look_outside(file(&disk).as_ref(), path()), Err(OpenError::NotARegion { .. })));
    assert!(matches!(
        look_inside(Arc::new(disk.clone()), file(&disk), path()),
        Err(OpenError::NotARegion { .. })
    ));
}
