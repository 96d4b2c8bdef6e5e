//! What lies under a volume is copied into it, in known volumes.

use crate::{
    sites::Site,
    world::{Ground, World},
};
use std::{panic::catch_unwind, time::Duration};
use upstairs::{Holds, Job, JobError, Limits};
use volume_layers::{Rule, ScrubError, ScrubPhase, ScrubStatus, ScrubWait};

const BLOCK: u64 = 512;

/// 10 blocks over a file of 8; those of the file are 7, but for one of zeros. None of them is the volume's own.
fn over_a_file(change: impl FnOnce(&mut Site)) -> World {
    let mut site = Site::new(1, 10);
    change(&mut site);
    let mut content = [7; 8];
    content[3] = 0;
    let layers = vec![vec![Ground::Set(site)], vec![Ground::Source(content.map(Some).to_vec())]];
    let mut world = World::new(1, layers, 1, &[7, 7, 7, 0, 7, 7, 7, 7, 0, 0]);
    world.activate();
    world.settle();
    world
}

fn scrub(world: &World) -> ScrubStatus {
    world.scrub().expect("it was begun")
}

/// The scrub has asked the file, and nothing has come.
fn until_it_reads(world: &mut World) {
    assert!(world.start_scrub());
    for _ in 0..100 {
        while world.happen_but_fetch() {}
        if !world.fetches.is_empty() {
            return;
        }
        world.tick();
    }
    panic!("it asks for nothing: {:?}", world.scrub());
}

fn read_all(world: &mut World) {
    world.submit(Job::Read { first: 0, count: 10 });
    world.settle();
}

#[test]
fn when_all_is_its_own_a_volume_needs_no_parent() {
    let mut world = over_a_file(|_| {});
    world.submit(Job::Zero { first: 5, count: 1, is_durable: false });
    world.settle();
    let needed = world.volume.may_drop_parents().expect_err("it shows through");
    assert_eq!((needed.bytes_done, needed.bytes), (0, 8 * BLOCK));
    assert!(!world.drop_parents() && world.start_scrub());
    assert!(!world.drop_parents(), "it has begun, and that is all");
    world.finish_scrub();
    let done = scrub(&world);
    assert_eq!((done.bytes_done, done.copied_bytes, done.zeroed_bytes), (8 * BLOCK, 6 * BLOCK, BLOCK));
    // Behind the parent's end nothing is anybody's. The zeros are the volume's own.
    let held = world.look(0, 10);
    assert_eq!(held, ["3 Bytes", "1 Zeros", "1 Bytes", "1 Zeros", "2 Bytes", "2 Never"]);
    assert!(world.drop_parents());
    assert!(world.drop_parents(), "a second time it is no mistake");
    assert_eq!((world.scrub(), world.volume.has_sources()), (None, false));
    assert_eq!(world.volume.start_scrub(world.now).expect_err("there is none"), ScrubError::NoParent);
    read_all(&mut world);
    assert_eq!(world.look(0, 10), held);
    // Once more of what was copied: it is looked at, and nothing is copied.
    let ground = world.layers.remove(0);
    let file = vec![Ground::Source(vec![Some(9); 8])];
    let mut again = World::new(2, vec![ground, file], 2, &[7, 7, 7, 0, 7, 0, 7, 7, 0, 0]);
    again.activate();
    assert!(again.start_scrub());
    again.finish_scrub();
    assert_eq!((scrub(&again).copied_bytes, scrub(&again).bytes_done), (0, 8 * BLOCK));
    read_all(&mut again);
}

#[test]
fn a_parent_that_cannot_be_read_is_waited_for_and_said() {
    let mut world = over_a_file(|_| {});
    world.errors = 1_000;
    assert!(world.start_scrub());
    for _ in 0..20 {
        while world.happen() {}
        world.tick();
    }
    let waiting = scrub(&world);
    assert_eq!((waiting.phase, waiting.bytes_done), (ScrubPhase::Copying, 0));
    let Some(ScrubWait::Parent(words)) = waiting.waits else { panic!("it waits for nothing: {waiting:?}") };
    assert!(words.contains("it is broken") && words.contains("/base.img"), "{words}");
    // What is not concerned goes on.
    world.submit(Job::Write { first: 9, bytes: vec![0; 512].into(), is_durable: false });
    world.settle();
    world.errors = 0;
    world.finish_scrub();
    assert_eq!(scrub(&world).waits, None);
    assert!(world.drop_parents());
    read_all(&mut world);
}

#[test]
fn one_that_is_silent_is_waited_for_and_said_too() {
    let mut world = over_a_file(|_| {});
    until_it_reads(&mut world);
    assert_eq!(scrub(&world).waits, None);
    (0..5).for_each(|_| world.tick());
    assert!(matches!(scrub(&world).waits, Some(ScrubWait::Parent(_))), "{:?}", world.scrub());
}

#[test]
fn a_scrub_that_is_stopped_copies_nothing_more_until_it_is_started() {
    let mut world = over_a_file(|_| {});
    until_it_reads(&mut world);
    world.stop_scrub();
    world.settle_for(Duration::from_secs(10));
    let stopped = scrub(&world);
    assert_eq!((stopped.phase, stopped.copied_bytes, stopped.waits), (ScrubPhase::Stopped, 0, None));
    assert_eq!(world.look(0, 3), ["3 Bytes"], "it is the file's");
    assert!(world.start_scrub());
    world.finish_scrub();
}

#[test]
fn before_the_activation_it_waits_and_what_is_only_read_is_not_scrubbed() {
    let layers = vec![vec![Ground::Set(Site::new(1, 4))], vec![Ground::Source(vec![Some(7); 4])]];
    let mut world = World::new(1, layers, 1, &[7; 4]);
    assert!(world.start_scrub());
    assert_eq!(scrub(&world).waits, Some(ScrubWait::Activation));
    world.activate();
    world.finish_scrub();

    let layers = vec![vec![Ground::Source(vec![None; 4])], vec![Ground::Source(vec![Some(7); 4])]];
    let mut world = World::new(1, layers, 1, &[7; 4]);
    assert_eq!(world.volume.start_scrub(world.now).expect_err("it is only read"), ScrubError::ReadOnly);
    let mut world = World::new(1, vec![vec![Ground::Set(Site::new(1, 4))]], 1, &[0; 4]);
    assert_eq!(world.volume.start_scrub(world.now).expect_err("there is none"), ScrubError::NoParent);
    assert!(world.drop_parents(), "it has none");
}

#[test]
fn clients_that_ask_much_come_first_and_it_ends_all_the_same() {
    let mut world = over_a_file(|_| {});
    // They are not answered as long as the file is not.
    let reads: Vec<_> = (0..8).map(|_| world.submit(Job::Read { first: 7, count: 1 })).collect();
    while world.fetches.len() < reads.len() {
        if !world.happen_but_fetch() {
            world.tick();
        }
    }
    assert!(world.start_scrub());
    while world.happen_but_fetch() {}
    let busy = scrub(&world);
    assert_eq!((busy.waits, busy.bytes_done), (Some(ScrubWait::Clients), 0), "{:?}", world.scrub());
    // It has its share all the same: it looks, and asks the file, which answers it after the others.
    for _ in 0..8 {
        world.tick();
        while world.happen_but_fetch() {}
    }
    assert!(matches!(scrub(&world).waits, Some(ScrubWait::Parent(_))), "{:?}", world.scrub());
    world.finish_scrub();
    assert!(reads.into_iter().all(|read| !world.is_under_way(read)));
}

fn what_was_never_written_when_it_was_asked_is_the_parents() {
    let mut world = over_a_file(|_| {});
    read_all(&mut world);
    let read = world.submit(Job::Read { first: 0, count: 2 });
    let look = world.submit(Job::Look { first: 0, count: 2 });
    // It answers at once, and for long nobody hears it.
    world.mute = Some(world.asked_for_blocks());
    assert!(world.start_scrub());
    while scrub(&world).phase != ScrubPhase::Done {
        assert!(world.happen(), "{:?}", world.scrub());
    }
    assert!(world.drop_parents());
    assert!(world.is_under_way(read) && !world.is_told(read));
    world.mute = None;
    world.settle();
    assert!(!world.is_under_way(read) && !world.is_under_way(look));
    assert_eq!((world.reads, world.volume.has_sources()), (2, false));
    assert_eq!(world.look(0, 2), ["2 Bytes"]);
}

#[test]
fn what_was_begun_sees_through_to_a_parent_that_was_given_up_since() {
    what_was_never_written_when_it_was_asked_is_the_parents();
    let left_out = || {
        Rule::WhatWasBegunSeesThrough.left_out(what_was_never_written_when_it_was_asked_is_the_parents);
    };
    assert!(catch_unwind(left_out).is_err(), "leaving the rule out is noticed");
}

/// A write is left out of a copy because it is under way, and fails; the members take the copy.
fn what_was_left_to_a_write_that_fails_is_copied_after_all() {
    let mut world = over_a_file(|site| {
        site.limits = Limits { window_entries: 2, in_flight_entries: 1, ..Limits::default() };
        site.patience.for_members = Some(Duration::from_millis(500));
    });
    until_it_reads(&mut world);
    [0, 1].into_iter().for_each(|peer| world.turn(peer));
    // Two have a place in the stream, and may be done later; the third has none.
    for first in [9, 8, 2] {
        world.submit(Job::Zero { first, count: 1, is_durable: false });
    }
    for _ in 0..8 {
        world.tick();
        while world.happen_but_fetch() {}
    }
    assert_eq!(world.failed.len(), 3, "{:?}", world.failed);
    assert!(world.failed.iter().all(|error| matches!(error, JobError::TooFewMembers { .. })));
    world.turn_all_back();
    for _ in 0..20 {
        world.tick();
        while world.happen_but_fetch() {}
    }
    world.answer_fetch(0);
    world.finish_scrub();
    assert!(world.drop_parents());
    assert_eq!(world.look(2, 1), [format!("1 {:?}", Holds::Bytes)]);
    world.submit(Job::Read { first: 0, count: 8 });
    world.settle();
}

#[test]
fn a_write_that_fails_costs_nothing_of_the_parent() {
    what_was_left_to_a_write_that_fails_is_copied_after_all();
    let left_out =
        || Rule::FailedWritesStay.left_out(what_was_left_to_a_write_that_fails_is_copied_after_all);
    assert!(catch_unwind(left_out).is_err(), "leaving the rule out is noticed");
}
