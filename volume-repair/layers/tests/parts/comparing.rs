//! What the members of a volume's region sets have is compared, set by set, and told by the blocks of the volume.

use crate::{
    sites::{BLOCK, Seat, Site},
    world::{Ground, World},
};
use bytes::Bytes;
use std::time::Duration;
use upstairs::{CopyCompared, Job, JobId, JobsStatus};
use volume_layers::{ScrubWait, VolumeStatus};

/// 6 blocks of one set, 4 of a file, and 8 of another set.
#[test]
fn the_sets_of_a_volume_are_compared_and_parts_that_are_one_copy_are_not() {
    let layers = vec![vec![
        Ground::Set(Site::new(1, 6)),
        Ground::Source([7; 4].map(Some).to_vec()),
        Ground::Set(Site::new(2, 8)),
    ]];
    let mut world = World::new(1, layers, 1, &[0; 18]);
    world.activate();
    world.submit(Job::Compare { first: 4, count: 10 });
    world.settle();
    assert_eq!(world.failed, []);
    let mut told: Vec<u64> = world.compared.iter().map(|copy| copy.blocks).collect();
    told.sort_unstable();
    assert_eq!(told, [2, 2, 2, 4, 4, 4]);
}

#[test]
fn what_is_left_is_told_by_its_place_in_the_volume() {
    let layers = vec![vec![Ground::Set(Site::new(1, 6)), Ground::Set(Site::new(2, 8))]];
    let mut world = World::new(1, layers, 1, &[0; 14]);
    world.activate();
    world.submit(Job::Write { first: 9, bytes: Bytes::from(crate::world::block(5)), is_durable: true });
    world.settle();
    let Ground::Set(site) = &mut world.layers[0][1] else { panic!("it is a set") };
    let regions: Vec<_> = site.members.iter().map(Seat::region).collect();
    for (fill, seat) in (1..).zip(&mut site.members[..2]) {
        seat.overwrite(3, &[fill; BLOCK]);
    }
    world.submit(Job::Compare { first: 8, count: 6 });
    world.settle();
    let differs =
        |region| CopyCompared { blocks: 6, differing: 1, first_left: Some(9), ..CopyCompared::new(region) };
    world.compared.sort();
    let mut expected: Vec<CopyCompared> = regions.into_iter().map(differs).collect();
    expected.sort();
    assert_eq!(world.compared, expected);
}

fn jobs(world: &World) -> Vec<JobsStatus> {
    world.volume.status(world.now).sets().map(|set| set.jobs).collect()
}

/// A set of 10 blocks over a file, of which nothing arrives from two members any more.
fn without_members() -> World {
    let layers = vec![vec![Ground::Set(Site::new(1, 10))], vec![Ground::Source([7; 10].map(Some).to_vec())]];
    let mut world = World::new(1, layers, 1, &[7; 10]);
    world.activate();
    world.settle();
    world.turn(0);
    world.turn(1);
    world
}

#[test]
fn comparisons_are_no_clients_and_one_that_nobody_waits_for_ends() {
    let mut world = without_members();
    let asked: Vec<JobId> = (0..8).map(|first| world.submit(Job::Compare { first, count: 2 })).collect();
    world.settle_for(Duration::from_secs(2));
    assert!(world.start_scrub());
    world.settle_for(Duration::from_secs(2));
    // It is the members that it waits for: 8 clients would be many.
    let waits = world.scrub().expect("it was begun").waits;
    assert!(!matches!(waits, Some(ScrubWait::Clients)), "{waits:?}");
    let under_way = |world: &World| match world.volume.status(world.now) {
        VolumeStatus::Layers(status) => (status.jobs_under_way, jobs(world)[0].background),
        VolumeStatus::Upstairs(_) => panic!("it has layers"),
    };
    let (before, background) = under_way(&world);
    assert_eq!(before, 8);
    for (given_up, id) in (1..).zip(asked) {
        world.give_up(id);
        assert_eq!(under_way(&world), (8 - given_up, background - given_up));
    }
    assert_eq!(world.compared, [], "nothing is said of them");
}

#[test]
fn what_is_copied_from_a_parent_is_asked_of_a_set_behind_clients() {
    let mut world = without_members();
    assert!(world.start_scrub());
    world.settle_for(Duration::from_secs(2));
    let jobs = jobs(&world)[0];
    let all = jobs.waiting + jobs.reads + jobs.writes + jobs.flushes;
    assert!(all > 0 && all == jobs.background, "{jobs:?}");
}
