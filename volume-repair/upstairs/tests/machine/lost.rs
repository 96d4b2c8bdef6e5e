//! Blocks that nobody has right: they are lost, and nothing else is.

use crate::trio::{SIZE, Trio, Writer};
use region::{NewContent, Onto, SEAL, Write, checksum};
use upstairs::JobError;

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
