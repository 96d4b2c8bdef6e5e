//! What is said of blocks without reading them, in one known volume.

use crate::{
    sites::Site,
    world::{Ground, World},
};
use upstairs::Job;

/// 10 blocks over a file of 4 and one that was never written.
#[test]
fn a_look_goes_through_to_the_parent_and_says_no_more_than_is_known() {
    let layers = vec![
        vec![Ground::Set(Site::new(1, 10))],
        vec![Ground::Source([7, 0, 7, 7].map(Some).to_vec()), Ground::Set(Site::new(2, 2))],
    ];
    let mut world = World::new(1, layers, 1, &[7, 0, 7, 7, 0, 0, 0, 0, 0, 0]);
    world.activate();
    world.submit(Job::Zero { first: 2, count: 1, is_durable: false });
    world.settle();
    // Of the file it is not known that a block of it is zeros: all of it is bytes. Behind the border of a part it is asked again.
    assert_eq!(world.look(0, 10), ["2 Bytes", "1 Zeros", "1 Bytes"]);
    assert_eq!(world.look(3, 7), ["1 Bytes"]);
    assert_eq!(world.look(4, 6), ["6 Never"]);
    assert_eq!(world.look(9, 1), ["1 Never"]);
}
