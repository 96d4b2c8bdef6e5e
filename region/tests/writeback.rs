//! Files as a system may leave them that writes pages back in any order: what is newest of one part, and what was there before of another.
//! Made by hand, every mixture of the pages in which two states of a region's file differ.
//!
//! A format that trusts its metadata reads old bytes as clean then, or a written block as never written.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::tempdir;
use durable_fs::RealDisk;
use ids::{RegionId, RegionSetId};
use region::{
    BlockSize, Geometry, Identity, List, NewContent, NewRegion, Onto, Opening, Position, Region, What, Write,
    checksum,
};
use std::{fs, sync::Arc};
use uuid::Uuid;

const BLOCK: usize = 4_096;
const PAGE: usize = 4_096;

/// Differing pages of two states at most: all mixtures of them are tried.
const PAGES_MAX: usize = 10;

fn path() -> &'static Utf8Path {
    Utf8Path::new("region")
}

fn open(directory: &Utf8Path, life: u64) -> Region {
    region::open(Arc::new(RealDisk::new(directory)), path(), Opening { life, boot: Uuid::nil() }).unwrap()
}

fn write(region: &mut Region, counter: u64, fill: u8) {
    let (bytes, version) = ([fill; BLOCK], Position { epoch: 1, counter });
    let checksums = [checksum(0, &bytes)];
    let content = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &[] };
    region.write(version, &[Write { version, block: 0, content, onto: Onto::Older }]).unwrap();
    region.sync().unwrap();
}

/// How the second state comes about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Second {
    /// By a record of the journal.
    Written,
    /// By a checkpoint, too.
    Checkpointed,
}

/// The file when block 0 was AA and synced, and when it was BB and synced.
fn two_states(directory: &Utf8Path, second: Second) -> [Vec<u8>; 2] {
    let geometry = Geometry { block_size: BlockSize::B4096, blocks: 4, is_sealed: false };
    let identity =
        Identity { region: RegionId(Uuid::from_u128(1)), set: RegionSetId(Uuid::from_u128(2)), geometry };
    let new = NewRegion { identity, incarnation: 1, list: List::default(), salt: 3 };
    region::create(&RealDisk::new(directory), path(), &new).unwrap();
    let file: Utf8PathBuf = directory.join(path());
    let mut region = open(directory, 1);
    write(&mut region, 1, 0xaa);
    let before = fs::read(&file).unwrap();
    write(&mut region, 2, 0xbb);
    if second == Second::Checkpointed {
        region.checkpoint().unwrap();
    }
    [before, fs::read(&file).unwrap()]
}

/// What became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Became {
    /// It does not open, or has failed with the first read.
    Refused,
    /// Whole, as it was after so many writes.
    State(u64),
    /// A block is wrong, and everybody who reads it sees that.
    Wrong,
}

fn became(directory: &Utf8Path) -> Became {
    let opening = Opening { life: 9, boot: Uuid::nil() };
    let Ok(mut region) = region::open(Arc::new(RealDisk::new(directory)), path(), opening) else {
        return Became::Refused;
    };
    let applied = region.applied().counter;
    let mut bytes = Vec::new();
    // What is found later says so, too.
    let Ok(held) = region.read(0..1, &mut bytes) else { return Became::Refused };
    let What::Bytes { checksum: kept, .. } = held[0].what else { panic!("a written block is {:?}", held[0]) };
    assert_eq!(held[0].version, region.applied());
    if kept != checksum(0, &bytes) {
        return Became::Wrong;
    }
    let fill = [0xaa, 0xbb][usize::try_from(applied).unwrap() - 1];
    assert!(bytes == [fill; BLOCK], "after {applied} writes it reads {:#x} as clean", bytes[0]);
    Became::State(applied)
}

#[test]
fn no_mixture_of_two_states_reads_old_bytes_as_clean_or_a_written_block_as_never_written() {
    for second in [Second::Written, Second::Checkpointed] {
        let directory = tempdir().unwrap();
        let [before, after] = two_states(directory.path(), second);
        let pages = (0..after.len() / PAGE).map(|page| page * PAGE..(page + 1) * PAGE);
        let differing: Vec<_> = pages.filter(|page| before[page.clone()] != after[page.clone()]).collect();
        assert!((2..=PAGES_MAX).contains(&differing.len()), "{second:?}: {differing:?}");
        let mut found = Vec::new();
        for mixture in 0..1_u32 << differing.len() {
            let mut mixed = after.clone();
            for (_, page) in differing.iter().enumerate().filter(|(bit, _)| mixture & 1 << bit != 0) {
                mixed[page.clone()].copy_from_slice(&before[page.clone()]);
            }
            fs::write(directory.path().join(path()), mixed).unwrap();
            found.push(became(directory.path()));
        }
        let count = |wanted| found.iter().filter(|became| **became == wanted).count();
        let all = found.len();
        println!(
            "{second:?}: {all} mixtures: {} as before, {} as after, {} wrong, {} refused",
            count(Became::State(1)),
            count(Became::State(2)),
            count(Became::Wrong),
            count(Became::Refused)
        );
        assert_eq!((found[0], found[all - 1]), (Became::State(2), Became::State(1)), "{second:?}");
    }
}
