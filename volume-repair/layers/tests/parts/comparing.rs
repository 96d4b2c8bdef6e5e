//! What the members of a volume's region sets have is compared, set by set, and told by the blocks of the volume.

use crate::{
    sites::{BLOCK, Seat, Site},
    world::{Ground, World},
};
use bytes::Bytes;
use upstairs::{CopyCompared, Job};

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
