//! Two lives of a region in which the same bytes are written to the same place: what the first one wrote and lost never comes
//! back as a continuation of what the second one did.

use camino::Utf8Path;
use durable_fs::{SimDisk, SimMachine};
use ids::{RegionId, RegionSetId};
use region::{
    BlockSize, Geometry, Identity, List, NewContent, NewRegion, Onto, Opening, Position, Region, Rule, Write,
    checksum,
};
use std::sync::Arc;
use uuid::Uuid;

const BLOCK: usize = 512;
const CRASHES: u64 = 100;

fn open(disk: &SimDisk, life: u64) -> Region {
    region::open(
        Arc::new(disk.clone()),
        Utf8Path::new("region"),
        Opening { life, boot: Uuid::from_u128(life.into()) },
    )
    .expect("it opens")
}

fn write(region: &mut Region, version: Position, block: u64, content: NewContent<'_>) {
    let write = Write { version, block, content, onto: Onto::Older };
    region.write(version, &[write]).expect("there is room");
}

/// What the second life finds of the first one's two writes, and the third one of all three.
fn two_crashes(first: u64, second: u64) -> (Position, Position) {
    let machine = SimMachine::new();
    let disk = machine.add_disk(1 << 20);
    let geometry = Geometry { block_size: BlockSize::B512, blocks: 8, is_sealed: false };
    let identity =
        Identity { region: RegionId(Uuid::from_u128(1)), set: RegionSetId(Uuid::from_u128(2)), geometry };
    let new = NewRegion { identity, incarnation: 1, list: List::default(), salt: 3 };
    region::create(&disk, Utf8Path::new("region"), &new).expect("it is made");
    let bytes = [7; BLOCK];
    let same = NewContent::Bytes { bytes: &bytes, checksums: &[checksum(3, &bytes)], seals: &[] };

    let mut region = open(&disk, 1);
    write(&mut region, Position { epoch: 1, counter: 1 }, 3, same);
    write(&mut region, Position { epoch: 1, counter: 2 }, 5, NewContent::Zeros(1));
    machine.crash(first);
    let mut region = open(&disk, 2);
    let found = region.applied();
    write(&mut region, Position { epoch: 2, counter: 1 }, 3, same);
    machine.crash(second);
    (found, open(&disk, 3).applied())
}

/// Pairs of crashes behind which the first life's last write is there, though the second one had not found it.
fn resurrections() -> usize {
    let lost: Vec<u64> = (0..CRASHES).filter(|first| two_crashes(*first, 0).0 == Position::NONE).collect();
    assert!(lost.len() > 10 && lost.len() < 90, "{} of {CRASHES} crashes lost both", lost.len());
    let pairs = lost.iter().flat_map(|first| (0..CRASHES).map(move |second| (*first, second)));
    pairs.filter(|(first, second)| two_crashes(*first, *second).1.epoch == 1).count()
}

#[test]
fn what_an_opening_did_not_find_never_comes_back() {
    assert_eq!(resurrections(), 0);
}

#[test]
fn leaving_out_that_a_life_begins_durably_is_noticed() {
    let without = Rule::LifeBeginsDurably.left_out(resurrections);
    assert!(without > 0, "an opening that begins with nothing durable is not noticed");
}
