//! Blocks that nobody has right: they are lost, and nothing else is.

use crate::trio::{BLOCKS, SIZE, Trio, Writer, named};
use region::{List, NewContent, Onto, Position, SEAL, Write, checksum};
use upstairs::{JobError, Members};

/// Writes a block of one member alone, behind all that it has: with right checksums, and sealed by nobody.
fn write_alone(trio: &mut Trio, member: usize, block: u64) {
    let (bytes, seals) = ([block as u8; SIZE], [[3; SEAL]]);
    let checksums = [checksum(block, &bytes)];
    let region = trio.members[member].region_mut();
    let version = region.applied().next();
    let content = NewContent::Bytes { bytes: &bytes, checksums: &checksums, seals: &seals };
    let write = Write { version, block, content, onto: Onto::Older };
    assert_eq!(region.write(version, &[write]).expect("it is written"), 1);
}

#[test]
fn a_block_that_only_the_longest_member_has_and_has_wrong_stops_nobody() {
    for longest in 0..3 {
        let mut trio = Trio::new(true);
        Writer::start(&mut trio, 1, 7).write(&mut trio, 5, &[1, 2, 3]);
        write_alone(&mut trio, longest, 6);
        let mut writer = Writer::start(&mut trio, 2, 7);
        assert_eq!(writer.upstairs.status(writer.now).totals.lost_blocks, 2);
        // What was there before is not given back as if it were the newest.
        assert_eq!(writer.read(&mut trio, 5, 3), Err(JobError::WrongSeal { block: 6 }));
        assert_eq!(writer.read(&mut trio, 5, 1), Ok(vec![1; SIZE]));
        assert_eq!(writer.read(&mut trio, 7, 1), Ok(vec![3; SIZE]));
        assert_eq!(writer.upstairs.status(writer.now).totals.unreadable_reads, 1);
        let digests = trio.digests();
        assert!(digests.iter().all(|digest| *digest == digests[0]), "members that are full are the same");
        let lost = trio.members.iter().map(|member| member.region().lost_blocks());
        assert_eq!(lost.sum::<u64>(), 2, "whoever has bytes keeps them");

        writer.write(&mut trio, 6, &[9]);
        assert_eq!(writer.read(&mut trio, 6, 1), Ok(vec![9; SIZE]));
        assert!(trio.members.iter().all(|member| member.region().lost_blocks() == 0));
    }
}

#[test]
fn bytes_that_are_right_again_heal_those_for_whom_they_were_lost() {
    let mut trio = Trio::new(true);
    Writer::start(&mut trio, 1, 7).write(&mut trio, 5, &[1, 2, 3]);
    let (seal, right, version) = trio.held(1, 6);
    for member in 0..3 {
        let checksums = [checksum(6, &right)];
        let region = trio.members[member].region_mut();
        let content = NewContent::Lost { checksums: &checksums, seals: &[seal] };
        let write = Write { version, block: 6, content, onto: Onto::Same };
        assert_eq!(region.write(region.applied(), &[write]).expect("it is written"), 1);
    }
    let mut writer = Writer::start(&mut trio, 2, 7);
    assert_eq!(writer.read(&mut trio, 6, 1), Err(JobError::Unreadable { block: 6 }));
    let (checksums, seals) = ([checksum(6, &right)], [seal]);
    let content = NewContent::Bytes { bytes: &right, checksums: &checksums, seals: &seals };
    let region = trio.members[1].region_mut();
    region
        .write(region.applied(), &[Write { version, block: 6, content, onto: Onto::Same }])
        .expect("it is written");
    for _ in 0..3 {
        assert_eq!(writer.read(&mut trio, 6, 1), Ok(vec![2; SIZE]));
    }
    assert!(trio.members.iter().all(|member| member.region().lost_blocks() == 0), "all of them are healed");
}

#[test]
fn a_read_of_blocks_that_each_somebody_else_has_right_is_answered() {
    let mut trio = Trio::new(true);
    let mut writer = Writer::start(&mut trio, 1, 7);
    writer.write(&mut trio, 5, &[1, 2, 3]);
    for member in 0..3 {
        trio.forge(member, 5 + member as u64, |bytes, _| bytes[17] ^= 1);
    }
    let expected: Vec<u8> = [1, 2, 3].into_iter().flat_map(|fill| vec![fill; SIZE]).collect();
    let read = writer.read(&mut trio, 5, 3);
    assert_eq!(read, Ok(expected));
}

/// A new member is filled from the first one. Of the second, full one nothing comes any more; the third one was left out.
#[test]
fn blocks_of_which_only_one_who_is_away_may_tell_hold_up_no_others() {
    const WAITING: u64 = 16;
    const OTHER: u64 = 30;
    let mut trio = Trio::new(true);
    trio.limits.range_blocks = BLOCKS / 2;
    trio.add(List::default());
    Writer::start(&mut trio, 1, 0).write(&mut trio, 0, &[6; BLOCKS as usize]);
    let right: Vec<_> = (0..BLOCKS).map(|block| trio.held(1, block)).collect();
    trio.away = vec![2, 3];
    let wanted = [0, 3, 2].map(named).to_vec();
    let members = Members { wanted, leaving: vec![named(1)], gone: Vec::new() };
    let mut writer = Writer::start_of(members, &mut trio, 2);
    let mut wait = |trio: &mut Trio, ticks| (0..ticks).for_each(|_| writer.tick(trio));
    wait(&mut trio, 60);
    for block in (0..WAITING).chain([OTHER]) {
        trio.forge(0, block, |bytes, _| bytes[3] ^= 1);
    }
    (0..WAITING).for_each(|block| trio.forge(2, block, |bytes, _| bytes[4] ^= 1));
    trio.away = vec![1, 2, 3];
    wait(&mut trio, 60);
    trio.away = vec![1];
    wait(&mut trio, 60);
    assert_eq!(trio.held(3, OTHER), right[OTHER as usize], "the third one has it");
    let mut bytes = Vec::new();
    let held = trio.members[3].region_mut().read(0..WAITING, &mut bytes).expect("it reads");
    assert!(held.iter().all(|held| held.version == Position::NONE), "they wait, and are not lost: {held:?}");
    // The one that was waited for has them all right.
    trio.away.clear();
    wait(&mut trio, 200);
    (0..BLOCKS).for_each(|block| assert_eq!(trio.held(3, block), right[block as usize]));
}
