//! Sleds that are away, late, new or stopped: nobody waits for them, and they catch up by themselves.

use crate::{
    proof,
    scene::{LARGE, Scene},
};
use nexus_client::replication::ReplicationSledState;
use std::time::Duration;
use testbed::{status::NodeState, wait_for};

/// How soon a sled that is back has everything. A promise of the project, not a test's patience.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(5);

async fn is_paused(scene: &Scene, who: &str) -> bool {
    let status = scene.status().await.expect("the record is there");
    status.nodes.iter().any(|node| node.name == who && node.state == NodeState::Paused)
}

#[tokio::test]
pub(crate) async fn a_sled_that_was_dead_during_the_upload_catches_up_within_five_seconds() {
    let scene = Scene::start(3).await;
    let release = scene.release("1.0.0", &[("a", LARGE), ("b", LARGE), ("c", 50_000), ("d", 0)]);
    scene.kill("sled-b").await;
    scene.upload(&release).await;
    proof::on_sleds(&scene, &scene.sleds_but("sled-b"), &[&release]).await;
    scene.restart("sled-b").await;
    let wanted = proof::hashes(&[&release]);
    wait_for("sled-b to catch up", CATCH_UP_LIMIT, async || {
        proof::holds_twice(&scene, "sled-b", &wanted).await
    })
    .await
    .unwrap();
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn a_sled_that_is_added_later_gets_everything() {
    let scene = Scene::start(2).await;
    let first = scene.release("1.0.0", &[("a", LARGE), ("b", 50_000)]);
    let second = scene.release("2.0.0", &[("a", LARGE), ("c", 60_000)]);
    scene.upload(&first).await;
    scene.upload(&second).await;
    proof::everywhere(&scene, &[&first, &second]).await;
    scene.add_sled().await.unwrap();
    scene.wait_in_service().await.unwrap();
    assert_eq!(scene.sled_names().len(), 3);
    proof::everywhere(&scene, &[&first, &second]).await;
}

#[tokio::test]
pub(crate) async fn a_sled_that_is_stopped_before_the_upload_delays_nobody_and_catches_up() {
    let scene = Scene::start(3).await;
    let release = scene.release("1.0.0", &[("a", LARGE), ("b", LARGE), ("c", LARGE), ("d", 50_000)]);
    scene.pause("sled-b").unwrap();
    scene.upload(&release).await;
    proof::on_sleds(&scene, &scene.sleds_but("sled-b"), &[&release]).await;
    assert!(is_paused(&scene, "sled-b").await, "the others may have waited for it");
    let seen =
        scene.column("sled-b", "sled-b to be shown as away", |it| it.state != ReplicationSledState::Active);
    assert!(seen.await.cells.is_empty());
    scene.resume("sled-b").unwrap();
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn a_sled_that_is_stopped_in_the_middle_of_a_put_delays_nobody_and_catches_up() {
    let scene = Scene::start(3).await;
    let release = scene.release("1.0.0", &[("a", LARGE), ("b", LARGE), ("c", LARGE), ("d", 50_000)]);
    scene.hold("sled-b", "artifact.put_piece", 2).await;
    scene.upload(&release).await;
    scene.held("sled-b", "artifact.put_piece").await;
    scene.pause("sled-b").unwrap();
    proof::on_sleds(&scene, &scene.sleds_but("sled-b"), &[&release]).await;
    assert!(is_paused(&scene, "sled-b").await, "the others may have waited for it");
    scene.resume("sled-b").unwrap();
    scene.free("sled-b", "artifact.put_piece").await;
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn a_source_that_is_stopped_in_the_middle_of_a_copy_delays_nobody_and_catches_up() {
    let scene = Scene::start(3).await;
    let release = scene.release("1.0.0", &[("a", LARGE), ("b", LARGE), ("c", LARGE), ("d", 50_000)]);
    scene.hold_sleds("depot.piece", 1).await;
    scene.upload(&release).await;
    let source = scene.held_in_some_sled("depot.piece").await;
    scene.pause(&source).unwrap();
    let others = scene.sleds_but(&source);
    scene.free_sleds(&others, "depot.piece").await;
    proof::on_sleds(&scene, &others, &[&release]).await;
    assert!(is_paused(&scene, &source).await, "the others may have waited for it");
    scene.resume(&source).unwrap();
    scene.free(&source, "depot.piece").await;
    proof::everywhere(&scene, &[&release]).await;
}
