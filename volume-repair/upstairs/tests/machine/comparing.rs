//! Every copy is read and compared: what is wrong is found in members that no read has asked, and mended where somebody has it right.

use crate::trio::{BLOCKS, SIZE, Trio, Writer, named};
use region::{NewContent, Onto, Write, checksum};
use upstairs::{CopyCompared, Job, JobError, Patience};

fn compared(member: usize, blocks: u64) -> CopyCompared {
    CopyCompared { blocks, ..CopyCompared::new(named(member).region) }
}

/// Somebody writes bytes in place of what one member has, of the same version, with their checksum.
fn overwrite(trio: &mut Trio, member: usize, block: u64, fill: u8) {
    let region = trio.members[member].region_mut();
    let version = region.look(block..block + 1).expect("it is looked at")[0].version;
    let bytes = [fill; SIZE];
    let checksums = [checksum(block, &bytes)];
    let content = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &[] };
    let write = Write { version, block, content, onto: Onto::Same };
    assert_eq!(region.write(region.applied(), &[write]).expect("it is written"), 1);
}

#[test]
fn copies_that_are_the_same_are_told_to_be_and_all_of_each_was_looked_at() {
    for is_sealed in [false, true] {
        let mut trio = Trio::new(is_sealed);
        let mut writer = Writer::start(&mut trio, 1, 7);
        writer.write(&mut trio, 5, &[1, 2, 3]);
        writer.job(&mut trio, Job::Zero { first: 6, count: 1, is_durable: false }).expect("it is done");
        let found = writer.compare(&mut trio, 0, BLOCKS);
        assert_eq!(found, (0..3).map(|member| (member, compared(member, BLOCKS))).collect());
        assert_eq!(
            writer.compare(&mut trio, 4, 3),
            (0..3).map(|member| (member, compared(member, 3))).collect()
        );
    }
}

#[test]
fn two_of_three_say_which_one_was_changed_and_it_is_mended_whoever_it_is() {
    for member in 0..3 {
        let mut trio = Trio::new(false);
        let mut writer = Writer::start(&mut trio, 1, 7);
        writer.write(&mut trio, 5, &[1, 2, 3]);
        writer.job(&mut trio, Job::Zero { first: 6, count: 1, is_durable: false }).expect("it is done");
        let digests = trio.digests();
        trio.forge(member, 5, |bytes, _| bytes[9] ^= 1);
        overwrite(&mut trio, member, 6, 77);
        let found = writer.compare(&mut trio, 0, BLOCKS);
        for (number, told) in found {
            let wrong = if number == member { 2 } else { 0 };
            assert_eq!(told, CopyCompared { wrong, healed: wrong, ..compared(number, BLOCKS) });
        }
        assert_eq!(trio.digests(), digests);
    }
}

#[test]
fn where_nobody_can_say_who_is_right_all_stays_as_it_is_and_is_told() {
    let mut trio = Trio::new(false);
    let mut writer = Writer::start(&mut trio, 1, 7);
    writer.write(&mut trio, 5, &[1, 2, 3]);
    trio.forge(0, 6, |bytes, _| bytes[0] ^= 1);
    trio.forge(1, 6, |bytes, _| bytes[0] ^= 2);
    let digests = trio.digests();
    let found = writer.compare(&mut trio, 0, BLOCKS);
    let differs = |number| CopyCompared { differing: 1, first_left: Some(6), ..compared(number, BLOCKS) };
    assert_eq!(found, (0..3).map(|number| (number, differs(number))).collect());
    assert_eq!(trio.digests(), digests);
}

#[test]
fn a_block_that_the_key_has_not_sealed_is_mended_also_if_only_one_other_member_is_there() {
    let mut trio = Trio::new(true);
    trio.away = vec![2];
    let mut writer = Writer::start(&mut trio, 1, 7);
    for _ in 0..400 {
        writer.tick(&mut trio);
    }
    writer.write(&mut trio, 5, &[1, 2, 3]);
    let digests = trio.digests();
    trio.forge(1, 6, |bytes, _| bytes[0] ^= 1);
    let found = writer.compare(&mut trio, 0, BLOCKS);
    let mended = CopyCompared { wrong: 1, healed: 1, ..compared(1, BLOCKS) };
    let all = [(0, compared(0, BLOCKS)), (1, mended), (2, compared(2, 0))];
    assert_eq!(found, all.into(), "who is away was not looked at");
    assert_eq!(writer.wrong_seals(), [0, 1, 0]);
    assert_eq!(trio.digests(), digests);
}

#[test]
fn a_block_that_everybody_has_wrong_is_told_and_the_rest_is_mended() {
    let mut trio = Trio::new(true);
    let mut writer = Writer::start(&mut trio, 1, 7);
    writer.write(&mut trio, 5, &[1, 2, 3]);
    for member in 0..3 {
        trio.forge(member, 6, |bytes, _| bytes[member] ^= 1);
    }
    trio.forge(2, 7, |bytes, _| bytes[1] ^= 1);
    let found = writer.compare(&mut trio, 0, BLOCKS);
    for (number, told) in found {
        let (wrong, healed) = if number == 2 { (2, 1) } else { (1, 0) };
        assert_eq!((told.blocks, told.wrong, told.healed), (BLOCKS, wrong, healed));
        assert_eq!(told.first_left, Some(6));
    }
}

#[test]
fn more_blocks_than_are_healed_at_a_time_are_all_healed() {
    let mut trio = Trio::new(true);
    let mut writer = Writer::start(&mut trio, 1, 7);
    writer.write(&mut trio, 0, &[5; BLOCKS as usize]);
    let digests = trio.digests();
    for block in 0..BLOCKS {
        trio.forge(0, block, |bytes, _| bytes[3] ^= 8);
        trio.forge(1, block, |bytes, _| bytes[3] ^= 9);
    }
    let found = writer.compare(&mut trio, 0, BLOCKS);
    let told: Vec<(u64, u64)> = found.values().map(|told| (told.wrong, told.healed)).collect();
    assert_eq!(told, [(BLOCKS, BLOCKS), (BLOCKS, BLOCKS), (0, 0)], "64 are healed at a time");
    assert_eq!(trio.digests(), digests);
}

#[test]
fn whoever_does_not_wait_for_ever_is_told_that_nobody_is_there_to_be_compared() {
    let mut trio = Trio::new(false);
    let patience = Patience { for_members: Some(std::time::Duration::from_secs(20)), for_room: None };
    let mut writer = Writer::start_with(&mut trio, 1, 7, patience);
    trio.away = vec![0, 1, 2];
    let job = writer.ask(&mut trio, Job::Compare { first: 0, count: BLOCKS });
    assert_eq!(writer.end_of(job), None);
    for _ in 0..400 {
        writer.tick(&mut trio);
    }
    assert!(matches!(writer.end_of(job), Some(Err(JobError::TooFewMembers { .. }))));
    let out = writer.job(&mut trio, Job::Compare { first: 1, count: BLOCKS });
    assert_eq!(out, Err(JobError::OutOfRange { first: 1, end: BLOCKS + 1, blocks: BLOCKS }));
}

/// Of one member nothing arrives any more after it has answered some of what it was asked; another one has a block that two agree is wrong.
#[test]
fn who_is_lost_in_the_middle_is_not_waited_for_and_heals_nobody() {
    for member in 0..3 {
        let mut trio = Trio::new(false);
        let mut writer = Writer::start(&mut trio, 1, 7);
        writer.write(&mut trio, 5, &[1, 2, 3]);
        trio.forge((member + 1) % 3, 6, |bytes, _| bytes[0] ^= 1);
        writer.lost_behind_a_read = Some(member);
        let found = writer.compare(&mut trio, 0, BLOCKS);
        let left: Vec<(usize, u64, u64)> =
            found.iter().map(|(number, told)| (*number, told.blocks, told.differing)).collect();
        // The last one to answer is heard before it is lost, and the block is mended by then.
        let differing = u64::from(member != 2);
        let told = |number| if number == member { (number, 0, 0) } else { (number, BLOCKS, differing) };
        assert_eq!(left, (0..3).map(told).collect::<Vec<_>>());
    }
}

/// Of blocks that it has wrong, and of those that differ.
#[test]
fn what_was_found_in_one_that_is_lost_before_it_is_mended_is_told() {
    let mut trio = Trio::new(false);
    let mut writer = Writer::start(&mut trio, 1, 7);
    writer.write(&mut trio, 5, &[1, 2, 3, 4]);
    trio.forge(2, 6, |bytes, _| bytes[0] ^= 1);
    for member in 0..2 {
        trio.forge(member, 7, |bytes, _| bytes[member] ^= 1);
    }
    // The last one to answer: all was found by then.
    writer.lost_behind_a_read = Some(2);
    let found = writer.compare(&mut trio, 0, BLOCKS);
    let differs =
        |number, blocks| CopyCompared { differing: 1, first_left: Some(7), ..compared(number, blocks) };
    let lost = CopyCompared { wrong: 1, first_left: Some(6), ..differs(2, 0) };
    assert_eq!(found, [(0, differs(0, BLOCKS)), (1, differs(1, BLOCKS)), (2, lost)].into());
}
