//! An answer that has waited for a parent is not told when somebody else may be writing by now.

use crate::{
    sites::{FromMember, Site},
    world::{Ground, World},
};
use region::Promotion;
use region_wire::Reply;
use std::{panic::catch_unwind, time::Duration};
use upstairs::{Job, JobError, JobId};
use uuid::Uuid;
use volume_layers::Rule;

/// A volume over a file, with a read that waits for the file alone.
fn waiting_for_the_file() -> (World, JobId) {
    let layers = vec![vec![Ground::Set(Site::new(1, 10))], vec![Ground::Source(vec![Some(7); 10])]];
    let mut world = World::new(1, layers, 1, &[7; 10]);
    world.activate();
    let read = world.submit(Job::Read { first: 2, count: 3 });
    while world.fetches.is_empty() {
        if !world.happen_but_fetch() {
            world.tick();
        }
    }
    assert!(world.is_under_way(read) && !world.is_told(read));
    (world, read)
}

fn a_fenced_volume_tells_nothing_of_it() {
    let (mut world, read) = waiting_for_the_file();
    let by = Promotion { epoch: 2, session: Uuid::from_u128(2) };
    world.say_as_member(0, FromMember::Reply(Reply::Fenced(by)));
    world.answer_fetch(0);
    assert!(!world.is_under_way(read));
    assert_eq!((&world.failed[..], world.reads), (&[JobError::Fenced { by, ours: 1 }][..], 0));
}

fn a_volume_whose_members_are_silent_waits_with_it() {
    let (mut world, read) = waiting_for_the_file();
    world.now += Duration::from_secs(5);
    world.answer_fetch(0);
    assert!(world.is_under_way(read) && !world.is_told(read));
    // It asks its members whether they are there; they are.
    world.settle();
    assert!(!world.is_under_way(read));
    assert_eq!(world.reads, 1);
}

#[test]
fn what_was_never_written_is_told_while_the_right_to_say_so_is_there() {
    a_fenced_volume_tells_nothing_of_it();
    a_volume_whose_members_are_silent_waits_with_it();
}

#[test]
fn leaving_out_that_late_answers_need_the_right_is_noticed() {
    let is_noticed = |scene: fn()| catch_unwind(|| Rule::LateAnswersNeedTheRight.left_out(scene)).is_err();
    assert!(is_noticed(a_fenced_volume_tells_nothing_of_it));
    assert!(is_noticed(a_volume_whose_members_are_silent_waits_with_it));
}

#[test]
fn what_is_asked_before_the_activation_waits_for_it_also_in_a_file() {
    let mut world = World::new(1, vec![vec![Ground::Source(vec![Some(7); 10])]], 1, &[7; 10]);
    let read = world.submit(Job::Read { first: 2, count: 3 });
    assert!(world.fetches.is_empty() && world.is_under_way(read));
    world.activate();
    world.settle();
    assert_eq!((world.reads, world.is_under_way(read)), (1, false));
    world.submit(Job::Zero { first: 0, count: 1, is_durable: false });
    assert_eq!(world.failed, [JobError::ReadOnly]);
}

#[test]
fn a_part_that_cannot_be_read_is_an_error_that_says_which_block_of_the_volume() {
    let layers = vec![vec![Ground::Set(Site::new(1, 5)), Ground::Source(vec![Some(7); 5])]];
    let mut world = World::new(1, layers, 1, &[0, 0, 0, 0, 0, 7, 7, 7, 7, 7]);
    world.activate();
    world.errors = 1_000;
    let read = world.submit(Job::Read { first: 2, count: 1 });
    world.submit(Job::Read { first: 7, count: 2 });
    world.settle();
    assert!(!world.is_under_way(read) && world.reads == 1, "the other part is read");
    let (source_name, why) = ("/base.img".to_owned(), "it is broken".to_owned());
    assert_eq!(world.failed, [JobError::NotFetched { block: 7, source_name, why }]);
}
