//! Which failure is the saga's: the one that came first, at once, over a restart, and also if the saga is buried.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use ids::SagaId;
use nexus_sagas::{Buried, Cause, EndState, testing::Disk};
use std::sync::Arc;
use world::{Behaviour, Five, Life, World, needs_attention, soon, stuck, words};

/// Of two nodes side by side, the one that waits fails once the other has.
async fn second_fails_after_the_first(world: &World, life: &Life, id: SagaId) {
    soon("the first failure", async {
        while life.engine.status(id).unwrap().failure.is_none() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    world.waiting.subscribe().wait_for(|waiting| *waiting == 1).await.unwrap();
    world.go_on.notify_waiters();
}

#[tokio::test]
async fn of_two_nodes_that_fail_side_by_side_the_first_one_is_told() {
    for (first, second) in [("left", "right"), ("right", "left")] {
        let (world, disk) = (World::new(), Disk::new());
        world.action(first, [Behaviour::Refuse]);
        world.action(second, [Behaviour::WaitAndRefuse]);
        let life = Life::begin(disk.store(), &world);
        let id = life.engine.start::<Five>(&words()).await.unwrap();
        second_fails_after_the_first(&world, &life, id).await;
        let Some(EndState::Failed { failure }) = life.end(id).await else { panic!("it was to fail") };
        assert_eq!(failure.node, first);
    }
}

#[tokio::test]
async fn a_failure_shows_while_the_saga_unwinds_and_after_a_restart() {
    let (world, disk) = (World::new(), Disk::new());
    let (life, id) = stuck(&world, &disk).await;
    assert_eq!(life.engine.status(id).unwrap().failure.unwrap().node, "last");
    soon("the halt", life.engine.halt()).await;
    world.undo("left", [Behaviour::Transient; 4]);
    let life = Life::begin(disk.store(), &world);
    assert_eq!(life.recover().await, 1);
    assert_eq!(life.engine.status(id).unwrap().failure.unwrap().node, "last");
}

/// A saga of which `first` has failed and then `second`, and of which the undo of the node before does not succeed.
async fn stuck_after_two_failures(
    world: &Arc<World>,
    disk: &Disk,
    [first, second]: [&str; 2],
) -> (Life, SagaId) {
    world.action(first, [Behaviour::Refuse]);
    world.action(second, [Behaviour::WaitAndRefuse]);
    world.undo("first", [Behaviour::Transient; 4]);
    let life = Life::begin(disk.store(), world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    second_fails_after_the_first(world, &life, id).await;
    needs_attention(&life, id).await;
    (life, id)
}

#[tokio::test]
async fn of_two_nodes_that_have_failed_the_first_one_is_told_after_a_restart() {
    for both in [["left", "right"], ["right", "left"]] {
        let (world, disk) = (World::new(), Disk::new());
        let (life, id) = stuck_after_two_failures(&world, &disk, both).await;
        soon("the halt", life.engine.halt()).await;
        let life = Life::begin(disk.store(), &world);
        assert_eq!(life.recover().await, 1);
        assert_eq!(life.engine.status(id).unwrap().failure.unwrap().node, both[0]);
        let Some(EndState::Failed { failure }) = life.end(id).await else { panic!("it was to fail") };
        assert_eq!(failure.node, both[0]);
    }
}

#[tokio::test]
async fn of_two_nodes_that_have_failed_the_first_one_is_told_after_a_burial() {
    for both in [["left", "right"], ["right", "left"]] {
        let (world, disk) = (World::new(), Disk::new());
        let (life, id) = stuck_after_two_failures(&world, &disk, both).await;
        soon("the halt", life.engine.halt()).await;
        bury(&Life::begin(disk.store(), &world)).await;
        let Some(EndState::Abandoned { failure, .. }) = disk.saga(id).unwrap().end else {
            panic!("it was to be abandoned")
        };
        assert_eq!(failure.node, both[0]);
    }
}

/// Gives up all that is listed.
async fn bury(life: &Life) {
    for (adopted, stored) in life.take().await {
        let why = Buried { cause: Cause::new("unknown", "no version"), reason: "gone".to_owned() };
        life.engine.bury(adopted, stored, why).await.unwrap();
    }
}

#[tokio::test]
async fn a_burial_keeps_the_failure_and_names_what_has_succeeded_without_a_beginning() {
    let (world, disk) = (World::new(), Disk::new());
    let (life, id) = stuck(&world, &disk).await;
    soon("the halt", life.engine.halt()).await;
    disk.tamper(id, |saga| {
        // As if the line had been lost, and nothing undone.
        saga.events.retain(|event| event.event == "succeeded" || event.event == "failed");
    });
    bury(&Life::begin(disk.store(), &world)).await;
    let Some(EndState::Abandoned { failure, not_undone, .. }) = disk.saga(id).unwrap().end else {
        panic!("it was to be abandoned")
    };
    assert_eq!((failure.node.as_str(), failure.cause.code.as_str()), ("last", "no"));
    assert_eq!(not_undone, ["first", "inner/one", "inner/two", "left", "right"]);
}
