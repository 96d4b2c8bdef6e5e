//! What one member has and another one lacks, and what somebody has changed on purpose meanwhile.

use crate::trio::{SIZE, Trio, Writer};
use region_wire::Haste;
use upstairs::{Job, Limits, MemberState, Role, Rule};

/// The third member was left out, lacks some writes, and is back.
fn one_left_out() -> (Trio, Writer) {
    let mut trio = Trio::new(false);
    Writer::start(&mut trio, 1, 0).write(&mut trio, 3, &[1, 2, 3, 4]);
    trio.away = vec![2];
    let mut writer = Writer::start(&mut trio, 2, 0);
    wait(&mut trio, &mut writer, 12);
    writer.write(&mut trio, 4, &[5, 6]);
    assert_eq!(writer.upstairs.status(writer.now).members[2].role, Role::Filling);
    trio.away.clear();
    (trio, writer)
}

fn wait(trio: &mut Trio, writer: &mut Writer, ticks: u32) {
    for _ in 0..ticks {
        writer.tick_members(trio);
        writer.tick(trio);
    }
}

fn is_full_and_the_same(trio: &mut Trio, writer: &Writer) {
    assert_eq!(writer.upstairs.status(writer.now).members[2].role, Role::Full);
    let digests = trio.digests();
    assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
}

#[test]
fn a_block_of_a_filling_member_that_was_changed_with_its_checksum_is_mended_and_the_member_becomes_full() {
    let (mut trio, mut writer) = one_left_out();
    trio.forge(2, 3, |bytes, _| bytes[7] ^= 1);
    trio.forge(2, 6, |bytes, _| bytes.fill(9));
    wait(&mut trio, &mut writer, 60);
    is_full_and_the_same(&mut trio, &writer);
    let member = writer.upstairs.status(writer.now).members[2].clone();
    assert_eq!((member.wrong_blocks, member.healed_blocks), (2, 2));
}

#[test]
fn so_is_one_of_a_full_member_that_is_brought_up() {
    let mut trio = Trio::new(false);
    let mut writer = Writer::start(&mut trio, 1, 0);
    writer.write(&mut trio, 3, &[1, 2, 3, 4]);
    trio.away = vec![2];
    writer.write(&mut trio, 4, &[5, 6]);
    trio.away.clear();
    trio.forge(2, 3, |bytes, _| bytes[7] ^= 1);
    let writer = Writer::start(&mut trio, 2, 0);
    is_full_and_the_same(&mut trio, &writer);
    assert_eq!(writer.upstairs.status(writer.now).members[2].healed_blocks, 1);
}

fn what_goes_wrong_while_it_is_filled_is_found_by_another_round() {
    let (mut trio, mut writer) = one_left_out();
    trio.behind_an_install = Some(|trio| trio.forge(2, 6, |bytes, _| bytes.fill(9)));
    wait(&mut trio, &mut writer, 60);
    assert!(trio.behind_an_install.is_none(), "something was copied");
    is_full_and_the_same(&mut trio, &writer);
}

#[test]
fn a_member_is_full_when_a_whole_round_has_found_nothing() {
    what_goes_wrong_while_it_is_filled_is_found_by_another_round();
}

#[test]
fn leaving_out_the_quiet_round_is_noticed() {
    Rule::FullAfterAQuietRound.is_missed_by(what_goes_wrong_while_it_is_filled_is_found_by_another_round);
}

/// What was written while the third member was away, its source is still to be sent when both are asked what they have.
fn a_source_that_lags_is_asked_when_it_has_been_sent_everything() {
    let mut trio = Trio::new(false);
    Writer::start(&mut trio, 1, 0).write(&mut trio, 3, &[1, 2, 3, 4]);
    trio.away = vec![2];
    trio.limits = Limits { in_flight_entries: 1, ..trio.limits };
    let mut writer = Writer::start(&mut trio, 2, 0);
    wait(&mut trio, &mut writer, 12);
    let state = |writer: &Writer| writer.upstairs.status(writer.now).members[2].state;
    let comes = |trio: &mut Trio, writer: &mut Writer| {
        trio.away.clear();
        let mut ticks = 0..14;
        while state(writer) != MemberState::Streaming {
            ticks.next().expect("it is back before anybody else is believed to be gone");
            writer.tick(trio);
        }
    };
    let write = |trio: &mut Trio, writer: &mut Writer, first: u64| {
        writer.ask(trio, Job::Write { first, bytes: vec![7; SIZE].into(), is_durable: false });
    };
    // One write is on its way to the source, and the other one is not sent before that is there.
    writer.slow = Some(0);
    comes(&mut trio, &mut writer);
    write(&mut trio, &mut writer, 20);
    trio.away = vec![2];
    writer.lose_connection(&mut trio, 2);
    write(&mut trio, &mut writer, 30);
    comes(&mut trio, &mut writer);
    writer.arrive(&mut trio);
    wait(&mut trio, &mut writer, 60);
    is_full_and_the_same(&mut trio, &writer);
}

#[test]
fn what_the_source_of_a_copy_is_still_to_be_sent_is_missed_by_nobody() {
    a_source_that_lags_is_asked_when_it_has_been_sent_everything();
}

#[test]
fn leaving_out_that_both_are_asked_at_the_same_position_is_noticed() {
    Rule::SamePosition.is_missed_by(a_source_that_lags_is_asked_when_it_has_been_sent_everything);
}

#[test]
fn one_that_was_changed_at_the_source_is_not_copied_and_is_healed_by_the_other_two() {
    for is_filled in [false, true] {
        let mut trio = Trio::new(false);
        let mut writer = Writer::start(&mut trio, 1, 0);
        writer.write(&mut trio, 3, &[1, 2, 3, 4]);
        trio.away = vec![2];
        if is_filled {
            writer = Writer::start(&mut trio, 2, 0);
            wait(&mut trio, &mut writer, 12);
        }
        writer.write(&mut trio, 4, &[5, 6]);
        trio.away.clear();
        // The first of those that have all is the source.
        trio.forge(0, 3, |bytes, _| bytes.fill(9));
        let mut writer = Writer::start(&mut trio, 3, 0);
        wait(&mut trio, &mut writer, 60);
        is_full_and_the_same(&mut trio, &writer);
        assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![1; SIZE]), "filled: {is_filled}");
        let status = writer.upstairs.status(writer.now);
        assert_eq!((status.members[0].wrong_blocks, status.members[0].healed_blocks), (1, 1));
        assert_eq!(status.members[2].wrong_blocks, 0, "it was right");
    }
}

#[test]
fn a_member_is_filled_although_nobody_has_a_block_right_that_it_has_otherwise() {
    let mut trio = Trio::new(true);
    Writer::start(&mut trio, 1, 7).write(&mut trio, 3, &[1, 2, 3, 4]);
    trio.away = vec![2];
    let mut writer = Writer::start(&mut trio, 2, 7);
    wait(&mut trio, &mut writer, 12);
    writer.write(&mut trio, 4, &[5, 6]);
    for member in 0..2 {
        trio.forge(member, 3, |bytes, seal| {
            bytes.fill(9);
            seal[0] ^= 1;
        });
    }
    trio.away.clear();
    wait(&mut trio, &mut writer, 60);
    let status = writer.upstairs.status(writer.now);
    assert_eq!((status.members[2].role, status.totals.lost_blocks), (Role::Full, 0));
    // It was the only one that had it right, and is now read from.
    assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![1; SIZE]));
    wait(&mut trio, &mut writer, 4);
    is_full_and_the_same(&mut trio, &writer);
}

#[test]
fn copies_let_clients_go_first_while_they_ask_something_and_only_then() {
    for (is_asking, expected) in [(false, Haste::Alone), (true, Haste::Later)] {
        let (mut trio, mut writer) = one_left_out();
        if is_asking {
            // Who has not heard of it is neither of the two that a copy is made between.
            writer.slow = Some(1);
            writer.ask(&mut trio, Job::Write { first: 20, bytes: vec![7; SIZE].into(), is_durable: false });
        }
        let mut ticks = 0..14;
        while writer.hastes.is_empty() {
            ticks.next().expect("it is copied before anybody is believed to be gone");
            writer.tick(&mut trio);
        }
        assert!(writer.hastes.iter().all(|haste| *haste == expected), "{:?}", writer.hastes);
        writer.hastes.clear();
        writer.arrive(&mut trio);
        writer.slow = None;
        wait(&mut trio, &mut writer, 60);
        is_full_and_the_same(&mut trio, &writer);
        writer.read(&mut trio, 3, 1).expect("it is there");
        assert_eq!(writer.hastes.last(), Some(&Haste::Client));
    }
}
