//! An encrypted volume whose members are changed by somebody who can make right checksums: no client reads it, and it is healed.

use crate::trio::{SIZE, Trio, Writer};
use region::{SEAL, Seal};
use upstairs::{Job, JobError};

#[test]
fn what_one_session_has_written_a_later_one_reads_and_no_member_can() {
    let mut trio = Trio::new(true);
    let mut first = Writer::start(&mut trio, 1, 7);
    first.write(&mut trio, 3, &[1, 2, 3]);
    first.job(&mut trio, Job::Zero { first: 4, count: 1, is_durable: false }).expect("they are written");
    drop(first);

    let mut second = Writer::start(&mut trio, 2, 7);
    second.write(&mut trio, 5, &[4]);
    let read = second.read(&mut trio, 2, 5).expect("it reads");
    let expected: Vec<u8> = [0, 1, 0, 4, 0].into_iter().flat_map(|fill| vec![fill; SIZE]).collect();
    assert_eq!(read, expected);
    for (member, block) in (0..3).flat_map(|member| [(member, 3), (member, 5)]) {
        let (_, bytes, _) = trio.held(member, block);
        let is_plain = bytes.windows(8).any(|eight| eight.iter().all(|byte| *byte == eight[0]));
        assert!(!is_plain, "block {block} of member {member}: {bytes:?}");
    }
    assert_eq!(second.wrong_seals(), [0; 3]);
}

#[test]
fn a_block_that_was_changed_with_its_checksum_is_read_from_another_member_and_healed() {
    let changes: [fn(&mut Vec<u8>, &mut Seal); 3] = [
        |bytes, _| bytes[17] ^= 1,
        |_, seal| seal[0] ^= 1,
        |bytes, seal| (*bytes, *seal) = (vec![0; SIZE], [0; SEAL]),
    ];
    for change in changes {
        let mut trio = Trio::new(true);
        let mut writer = Writer::start(&mut trio, 1, 7);
        writer.write(&mut trio, 5, &[1, 2, 3]);
        let before = trio.digests();
        trio.forge(1, 6, change);
        assert_ne!(trio.digests(), before);
        for _ in 0..3 {
            assert_eq!(writer.read(&mut trio, 6, 1), Ok(vec![2; SIZE]));
        }
        assert_eq!(
            writer.wrong_seals(),
            [0, 1, 0],
            "each member was read, and the second one was wrong once"
        );
        assert_eq!(trio.digests(), before);
    }
}

#[test]
fn what_two_members_have_wrong_is_healed_from_the_third() {
    for right in 0..3 {
        let mut trio = Trio::new(true);
        let mut writer = Writer::start(&mut trio, 1, 7);
        writer.write(&mut trio, 5, &[1, 2, 3]);
        let before = trio.digests();
        for member in (0..3).filter(|member| *member != right) {
            trio.forge(member, 6, |bytes, _| bytes[17] ^= 1);
        }
        for _ in 0..3 {
            assert_eq!(writer.read(&mut trio, 6, 1), Ok(vec![2; SIZE]));
        }
        assert_eq!(writer.wrong_seals()[right], 0);
        assert_eq!(trio.digests(), before);
    }
}

#[test]
fn another_block_in_the_place_of_one_is_noticed_and_an_older_content_of_it_cannot_be() {
    let mut trio = Trio::new(true);
    let mut writer = Writer::start(&mut trio, 1, 7);
    writer.write(&mut trio, 5, &[1, 2, 3]);
    let (other_seal, other, _) = trio.held(0, 7);
    let (older_seal, older, _) = trio.held(0, 5);
    writer.write(&mut trio, 5, &[9, 9, 9]);
    for member in 0..3 {
        let other = other.clone();
        trio.forge(member, 6, |bytes, seal| (*bytes, *seal) = (other, other_seal));
        let older = older.clone();
        trio.forge(member, 5, |bytes, seal| (*bytes, *seal) = (older, older_seal));
    }
    assert_eq!(writer.read(&mut trio, 6, 1), Err(JobError::WrongSeal { block: 6 }));
    // As docs/BLOCK.md says: all members together can lie about the past.
    assert_eq!(writer.read(&mut trio, 5, 1), Ok(vec![1; SIZE]));
}

#[test]
fn a_block_that_nobody_has_right_is_an_error_of_its_own_and_is_left_as_it_is() {
    let mut trio = Trio::new(true);
    let mut writer = Writer::start(&mut trio, 1, 7);
    writer.write(&mut trio, 5, &[1, 2, 3]);
    for member in 0..3 {
        trio.forge(member, 6, |bytes, _| bytes[member] ^= 1);
    }
    let before = trio.digests();
    let error = writer.read(&mut trio, 5, 3).expect_err("nobody has it");
    assert_eq!(error, JobError::WrongSeal { block: 6 });
    assert_eq!(error.to_string(), "no member has block 6 as it was sealed with the key of the volume");
    assert_eq!(trio.digests(), before);
    assert_eq!(writer.read(&mut trio, 5, 1), Ok(vec![1; SIZE]));
    assert!(writer.wrong_seals().iter().all(|wrong| *wrong > 0), "{:?}", writer.wrong_seals());
}

#[test]
fn with_another_key_nothing_is_read_and_nothing_is_changed() {
    let mut trio = Trio::new(true);
    Writer::start(&mut trio, 1, 7).write(&mut trio, 5, &[1, 2, 3]);
    let before = trio.digests();
    let mut other = Writer::start(&mut trio, 2, 8);
    assert_eq!(other.read(&mut trio, 5, 1), Err(JobError::WrongSeal { block: 5 }));
    assert_eq!(other.read(&mut trio, 1, 1), Ok(vec![0; SIZE]), "what nobody wrote needs no key");
    assert_eq!(trio.digests(), before);
    let mut right = Writer::start(&mut trio, 3, 7);
    assert_eq!(right.read(&mut trio, 5, 1), Ok(vec![1; SIZE]));
}
