//! Members that are replaced while clients go on. Where some are gone for good: [`gone`].

mod gone;

use crate::trio::{BLOCKS, SIZE, Trio, Writer, named};
use region::List;
use std::num::NonZeroU64;
use upstairs::{FillPhase, Job, Limits, Members, MembersError, PhaseName, Role, Rule, Status};

/// Three members with something written, and so many new ones.
fn volume(new: usize) -> (Trio, Writer) {
    let mut trio = Trio::new(false);
    (0..new).for_each(|_| trio.add(List::default()));
    let mut writer = Writer::start(&mut trio, 1, 0);
    writer.write(&mut trio, 3, &[1, 2, 3, 4]);
    (trio, writer)
}

/// Those of the first three that are in neither are gone.
fn members(wanted: &[usize], leaving: &[usize]) -> Members {
    let of = |numbers: &[usize]| numbers.iter().copied().map(named).collect();
    let is_gone = |number: &usize| !wanted.contains(number) && !leaving.contains(number);
    let gone = (0..3).filter(is_gone).map(|number| named(number).region).collect();
    Members { wanted: of(wanted), leaving: of(leaving), gone }
}

fn wait(trio: &mut Trio, writer: &mut Writer, ticks: u32) {
    for _ in 0..ticks {
        writer.tick_members(trio);
        writer.tick(trio);
    }
}

fn status(writer: &Writer) -> Status {
    writer.upstairs.status(writer.now)
}

/// The members, by their numbers, and whether each is full.
fn roles(writer: &Writer) -> Vec<(u128, Role)> {
    let members = status(writer).members;
    members.iter().map(|member| (member.region.0.as_u128() - 1, member.role)).collect()
}

fn full(writer: &Writer) -> Vec<u128> {
    let list = status(writer).list.expect("it has been active");
    let mut full: Vec<u128> = list.full.iter().map(|region| region.0.as_u128() - 1).collect();
    full.sort_unstable();
    full
}

fn are_the_same(trio: &mut Trio, members: &[usize]) {
    let digests = trio.digests();
    assert!(members.iter().all(|member| digests[*member] == digests[members[0]]), "{digests:?}");
}

#[test]
fn a_healthy_member_stays_full_until_the_new_one_is() {
    let (mut trio, mut writer) = volume(1);
    trio.away = vec![3];
    writer.set_members(&mut trio, &members(&[0, 1, 3], &[2])).unwrap();
    wait(&mut trio, &mut writer, 60);
    assert_eq!(full(&writer), [0, 1, 2], "the new one is not there yet");
    trio.away.clear();
    let mut lists = vec![full(&writer)];
    for _ in 0..40 {
        if lists.last() != Some(&full(&writer)) {
            lists.push(full(&writer));
        }
        writer.write(&mut trio, 20, &[7, 7]);
        wait(&mut trio, &mut writer, 1);
    }
    // All messages arrive at once, so the list without the one that leaves and the one with the new one come in one tick.
    assert_eq!(lists, [[0, 1, 2], [0, 1, 3]]);
    assert!(!writer.upstairs.is_replacing());
    writer.write(&mut trio, 30, &[8]);
    are_the_same(&mut trio, &[0, 1, 3]);
    let digests = trio.digests();
    assert_ne!(digests[2], digests[0], "who has gone gets nothing any more");
    // The same once more changes nothing.
    let before = status(&writer);
    writer.set_members(&mut trio, &members(&[0, 1, 3], &[2])).unwrap();
    assert_eq!(status(&writer), before);
    assert_eq!(roles(&writer).len(), 3);
}

#[test]
fn how_far_a_new_member_is_is_told_until_it_is_full() {
    let (mut trio, mut writer) = volume(1);
    trio.away = vec![3];
    writer.set_members(&mut trio, &members(&[0, 1, 3], &[2])).unwrap();
    let fill = |writer: &Writer, number| {
        let all = status(writer).members;
        let member = all.into_iter().find(|member| member.region == named(number).region);
        let fill = member.expect("it is a member").fill;
        fill.map(|fill| (fill.phase, fill.source, fill.bytes_done, fill.bytes))
    };
    let bytes = BLOCKS * SIZE as u64;
    assert_eq!(fill(&writer, 3), Some((FillPhase::Away, None, 0, bytes)));
    assert_eq!((fill(&writer, 1), fill(&writer, 2)), (None, None), "who is full, or leaves, is not filled");
    // The first one is not there: the next one is the source.
    trio.away = vec![0];
    writer.lose_connection(&mut trio, 0);
    writer.slow = Some(1);
    for _ in 0..8 {
        writer.tick(&mut trio);
    }
    assert_eq!(fill(&writer, 3), Some((FillPhase::Copying, Some(named(1).region), 0, bytes)));
    trio.away.clear();
    writer.arrive(&mut trio);
    wait(&mut trio, &mut writer, 40);
    assert_eq!(fill(&writer, 3), None);
}

#[test]
fn all_members_are_replaced_at_once() {
    let (mut trio, mut writer) = volume(3);
    writer.set_members(&mut trio, &members(&[3, 4, 5], &[0, 1, 2])).unwrap();
    for _ in 0..100 {
        wait(&mut trio, &mut writer, 1);
        assert!(full(&writer).len() >= 2);
    }
    assert_eq!(full(&writer), [3, 4, 5]);
    writer.write(&mut trio, 30, &[8]);
    are_the_same(&mut trio, &[3, 4, 5]);
    assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![1; SIZE]));
}

#[test]
fn one_that_leaves_makes_no_room_for_one_that_is_full_already() {
    let (mut trio, mut writer) = volume(2);
    trio.away = vec![4];
    writer.set_members(&mut trio, &members(&[0, 3, 4], &[1, 2])).unwrap();
    wait(&mut trio, &mut writer, 60);
    assert_eq!(full(&writer).len(), 3, "the second new one is not there yet");
    trio.away.clear();
    wait(&mut trio, &mut writer, 60);
    assert_eq!(full(&writer), [0, 3, 4]);
}

#[test]
fn who_begins_while_a_member_leaves_knows_that_one_too() {
    let (mut trio, mut writer) = volume(1);
    let change = members(&[0, 1, 3], &[2]);
    // The new one is not there, and the second one goes: what is acknowledged is on the first and on the one that leaves.
    trio.away = vec![3];
    writer.set_members(&mut trio, &change).unwrap();
    wait(&mut trio, &mut writer, 4);
    trio.away = vec![1, 3];
    writer.write(&mut trio, 3, &[9]);
    drop(writer);
    let mut writer = Writer::start_of(change, &mut trio, 2);
    wait(&mut trio, &mut writer, 20);
    assert_eq!(full(&writer), [0, 2]);
    assert_eq!(writer.read(&mut trio, 3, 1), Ok(vec![9; SIZE]));
    trio.away.clear();
    wait(&mut trio, &mut writer, 60);
    assert_eq!(roles(&writer), [(0, Role::Full), (1, Role::Full), (3, Role::Full)]);
    are_the_same(&mut trio, &[0, 1, 3]);
}

#[test]
fn what_would_lose_data_or_makes_no_sense_is_refused_and_changes_nothing() {
    let (mut trio, mut writer) = volume(3);
    wait(&mut trio, &mut writer, 4);
    let before = status(&writer);
    let region = |number| named(number).region;
    let unsaid = Members { gone: Vec::new(), ..members(&[0, 1, 3], &[]) };
    let refused = MembersError::NotGone { members: vec![region(2)] };
    assert_eq!(writer.set_members(&mut trio, &unsaid), Err(refused));
    for (change, refused) in [
        (members(&[0], &[]), MembersError::Count(1)),
        (members(&[0, 1, 2, 3], &[]), MembersError::Count(4)),
        (members(&[0, 1], &[2, 3, 4, 5]), MembersError::LeavingCount(4)),
        (members(&[0, 1, 1], &[]), MembersError::Twice(region(1))),
        (members(&[0, 1, 3], &[1]), MembersError::Twice(region(1))),
        (members(&[0, 1, 3], &[]), MembersError::Here { members: vec![region(2)] }),
        (members(&[0, 3, 4], &[]), MembersError::Here { members: vec![region(1), region(2)] }),
        (members(&[3, 4, 5], &[]), MembersError::NobodyStays),
    ] {
        assert_eq!(writer.set_members(&mut trio, &change), Err(refused.clone()));
        assert_eq!(status(&writer), before, "{refused}");
    }
}

#[test]
fn before_it_is_active_nobody_is_gone() {
    let (mut trio, _) = volume(3);
    trio.away = vec![0, 1, 2, 3, 4, 5];
    let mut idle = Writer::idle(&trio, 2, 0, upstairs::Patience::default());
    let gone = idle.set_members(&mut trio, &members(&[0, 1, 3], &[]));
    assert_eq!(gone, Err(MembersError::NotActive));
    idle.set_members(&mut trio, &members(&[0, 1, 3], &[2])).expect("all that there were stay");
    assert_eq!(roles(&idle).len(), 4);
    let mut waiting = Writer::start_of(members(&[0, 1, 2], &[]), &mut trio, 2);
    let gone = waiting.set_members(&mut trio, &members(&[0, 1, 3], &[]));
    assert_eq!(gone, Err(MembersError::NotActive));
    waiting.set_members(&mut trio, &members(&[0, 1, 3], &[2])).expect("all that there were stay");
    trio.away = vec![1];
    wait(&mut trio, &mut waiting, 60);
    assert_eq!(waiting.read(&mut trio, 3, 1), Ok(vec![1; SIZE]));
    trio.away.clear();
    wait(&mut trio, &mut waiting, 60);
    assert_eq!(full(&waiting), [0, 1, 3]);
}

#[test]
fn one_that_has_ended_is_told_why() {
    let (mut trio, mut writer) = volume(1);
    let _later = Writer::start(&mut trio, 2, 0);
    let _ = writer.ask(&mut trio, Job::Flush);
    wait(&mut trio, &mut writer, 8);
    assert_eq!(status(&writer).phase, PhaseName::Fenced);
    let refused = writer.set_members(&mut trio, &members(&[0, 1, 3], &[2]));
    assert!(matches!(refused, Err(MembersError::Ended { .. })), "{refused:?}");
}

fn who_was_away_for_a_moment_gets_what_it_lacks() {
    let (mut trio, mut writer) = volume(0);
    let list = status(&writer).list;
    trio.away = vec![2];
    writer.write(&mut trio, 9, &[5]);
    wait(&mut trio, &mut writer, 60);
    trio.away.clear();
    wait(&mut trio, &mut writer, 60);
    assert_eq!(status(&writer).list, list, "nobody was left out");
    are_the_same(&mut trio, &[0, 1, 2]);
}

#[test]
fn what_a_full_member_lacks_is_kept_for_it() {
    who_was_away_for_a_moment_gets_what_it_lacks();
}

#[test]
fn leaving_out_that_a_member_is_left_out_before_anything_is_skipped_is_noticed() {
    Rule::RemovedBeforeSkipped.is_missed_by(who_was_away_for_a_moment_gets_what_it_lacks);
}

/// For less than 10 s.
fn one_is_away_while_another_one_leaves() -> (Trio, Writer) {
    let (mut trio, mut writer) = volume(1);
    trio.away = vec![1];
    writer.lose_connection(&mut trio, 1);
    writer.set_members(&mut trio, &members(&[0, 1, 3], &[2])).expect("one is replaced");
    wait(&mut trio, &mut writer, 30);
    (trio, writer)
}

#[test]
fn a_full_member_that_is_away_makes_room_for_a_new_one_and_is_filled_when_it_is_back() {
    let (mut trio, mut writer) = one_is_away_while_another_one_leaves();
    assert_eq!(full(&writer), [0, 1, 2], "for a while it is waited for");
    wait(&mut trio, &mut writer, 20);
    assert_eq!(full(&writer), [0, 2, 3]);
    trio.away = vec![0, 1];
    writer.lose_connection(&mut trio, 0);
    writer.write(&mut trio, 7, &[8]);
    trio.away.clear();
    wait(&mut trio, &mut writer, 80);
    assert_eq!(full(&writer), [0, 1, 3]);
    assert!(!writer.upstairs.is_replacing());
    are_the_same(&mut trio, &[0, 1, 3]);
}

#[test]
fn a_full_member_that_is_back_soon_makes_no_room() {
    let (mut trio, mut writer) = one_is_away_while_another_one_leaves();
    trio.away.clear();
    let mut lists = vec![full(&writer)];
    for _ in 0..60 {
        wait(&mut trio, &mut writer, 1);
        lists.push(full(&writer));
    }
    lists.dedup();
    assert_eq!(lists, [[0, 1, 2], [0, 1, 3]]);
}

fn writes_onto_what_is_still_to_be_copied_go_to_a_new_member_with_the_copy() {
    let (mut trio, _) = volume(1);
    trio.limits.range_blocks = 4;
    let mut writer = Writer::start(&mut trio, 2, 0);
    // The source does not answer, and a few ranges are asked for.
    trio.away = vec![0];
    writer.set_members(&mut trio, &members(&[0, 1, 3], &[2])).expect("a member may be replaced");
    assert_eq!(roles(&writer).last(), Some(&(3, Role::Filling)));
    writer.ask(&mut trio, Job::Write { first: 2, bytes: vec![21; SIZE].into(), is_durable: false });
    writer.ask(&mut trio, Job::Write { first: 38, bytes: vec![22; SIZE].into(), is_durable: false });
    let has = |trio: &mut Trio, block: u64| {
        let [new, other] =
            [3, 1].map(|at| trio.members[at].region_mut().look(block..block + 1).expect("it is read"));
        new == other
    };
    assert!(has(&mut trio, 2), "it is looked at already: this one it gets at once");
    assert!(!has(&mut trio, 38), "this one comes with the copy");
    // What was lost is noticed by the silence.
    wait(&mut trio, &mut writer, 60);
    trio.away.clear();
    wait(&mut trio, &mut writer, 60);
    assert_eq!(full(&writer), [0, 1, 3]);
    assert!(has(&mut trio, 38));
    are_the_same(&mut trio, &[0, 1, 3]);
}

#[test]
fn a_new_member_is_sent_what_it_was_looked_at_for_and_the_rest_with_the_copy() {
    writes_onto_what_is_still_to_be_copied_go_to_a_new_member_with_the_copy();
}

#[test]
fn passing_over_a_write_whose_blocks_were_looked_at_is_noticed() {
    Rule::PassedOverBeforeItIsLookedAt
        .is_missed_by(writes_onto_what_is_still_to_be_copied_go_to_a_new_member_with_the_copy);
}

#[test]
fn a_member_is_filled_no_faster_than_was_said_and_clients_do_not_wait_for_that() {
    let (run, rate) = (4 * SIZE as u64, 4 * SIZE as u64);
    let mut trio = Trio::new(false);
    trio.add(List::default());
    trio.limits = Limits { range_blocks: 4, repair_rate: NonZeroU64::new(rate), ..trio.limits };
    let mut writer = Writer::start(&mut trio, 1, 0);
    writer.write(&mut trio, 0, &(1..=40).collect::<Vec<u8>>());
    let since = writer.now;
    writer.set_members(&mut trio, &members(&[0, 1, 3], &[2])).expect("a member may be replaced");
    let bytes = BLOCKS * SIZE as u64;
    while full(&writer) != [0, 1, 3] {
        wait(&mut trio, &mut writer, 1);
        writer.write(&mut trio, 0, &[99]);
        let seconds = (writer.now - since).as_secs_f64();
        assert!(seconds <= 1.0 + bytes as f64 / rate as f64, "it is not done after {seconds} s");
        let Some(copy) = status(&writer).copy else { continue };
        assert_eq!(copy.bytes_per_second_max, Some(rate));
        // What half a second gives, and one run.
        let at_most = rate as f64 * (seconds + 0.5) + run as f64;
        let done = (copy.blocks_done * SIZE as u64) as f64;
        assert!(done <= at_most, "{done} bytes after {seconds} s");
    }
    let seconds = (writer.now - since).as_secs_f64();
    assert!(seconds >= bytes as f64 / rate as f64 - 1.5, "it was done after {seconds} s");
    are_the_same(&mut trio, &[0, 1, 3]);
}

#[test]
fn how_fast_a_member_is_filled_may_be_said_while_it_is_filled() {
    let mut trio = Trio::new(false);
    trio.add(List::default());
    trio.limits = Limits { range_blocks: 4, repair_rate: NonZeroU64::new(1), ..trio.limits };
    let mut writer = Writer::start(&mut trio, 1, 0);
    writer.write(&mut trio, 0, &(1..=40).collect::<Vec<u8>>());
    writer.set_members(&mut trio, &members(&[0, 1, 3], &[2])).expect("a member may be replaced");
    for _ in 0..20 {
        wait(&mut trio, &mut writer, 1);
    }
    let before = status(&writer).copy.expect("it takes years");
    let repair = before.to;
    assert_eq!(before.bytes_per_second_max, Some(1));
    // It is the same copy that goes on, faster.
    let rate = NonZeroU64::new(4 * SIZE as u64);
    writer.upstairs.set_repair_rate(rate);
    wait(&mut trio, &mut writer, 1);
    let copy = status(&writer).copy.expect("it goes on");
    assert_eq!((copy.to, copy.bytes_per_second_max), (repair, rate.map(NonZeroU64::get)));
    assert!(copy.blocks_done >= before.blocks_done);
    writer.upstairs.set_repair_rate(None);
    assert_eq!(status(&writer).copy.and_then(|copy| copy.bytes_per_second_max), None);
    let since = writer.now;
    while full(&writer) != [0, 1, 3] {
        wait(&mut trio, &mut writer, 1);
        assert!((writer.now - since).as_secs() < 10, "nothing holds it up");
    }
    are_the_same(&mut trio, &[0, 1, 3]);
}

#[test]
fn a_member_that_clients_may_wait_for_is_brought_up_as_fast_as_it_goes() {
    let mut trio = Trio::new(false);
    trio.limits = Limits { range_blocks: 4, repair_rate: NonZeroU64::new(1), ..trio.limits };
    let mut writer = Writer::start(&mut trio, 1, 0);
    trio.away = vec![1];
    writer.write(&mut trio, 0, &(1..=40).collect::<Vec<u8>>());
    drop(writer);
    // The one that lacks it all is needed.
    trio.away = vec![2];
    let mut writer = Writer::start(&mut trio, 2, 0);
    wait(&mut trio, &mut writer, 8);
    assert_eq!(status(&writer).phase, PhaseName::Active);
}
