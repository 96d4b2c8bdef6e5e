//! SIGKILL of a sled in the middle of receiving, copying or serving: the others go on without it, it keeps nothing
//! half-written, and when it is back it gets the rest.

use crate::{
    proof,
    scene::{LARGE, Scene},
};
use nexus_client::replication::ArtifactBlocked;
use sample_release::MadeRelease;
use testbed::names::M2_NAMES;

fn several(scene: &Scene) -> MadeRelease {
    scene.release(
        "1.0.0",
        &[("a", LARGE), ("b", LARGE), ("c", LARGE), ("d", LARGE), ("e", LARGE), ("f", 30_000)],
    )
}

/// Kills a sled that is held while it receives, once its disks have taken notice.
async fn kill_with_half_written_files(scene: &Scene, who: &str) {
    let half_written = || M2_NAMES.map(|m2| proof::entries(&scene.directory().m2_dir(who, m2).join("tmp")));
    scene
        .wait("a half-written file on each M.2", async || match half_written() {
            [one, other] if !one.is_empty() && !other.is_empty() => Ok(()),
            found => Err(format!("{found:?}")),
        })
        .await;
    scene.kill(who).await;
    assert!(half_written().iter().all(|files| !files.is_empty()), "they were cleaned up before the restart");
}

#[tokio::test]
pub(crate) async fn killed_in_the_middle_of_a_put_it_gets_everything_when_it_is_back() {
    let scene = Scene::start(3).await;
    let release = several(&scene);
    scene.hold("sled-a", "artifact.put_piece", 2).await;
    scene.upload(&release).await;
    scene.held("sled-a", "artifact.put_piece").await;
    kill_with_half_written_files(&scene, "sled-a").await;
    proof::on_sleds(&scene, &scene.sleds_but("sled-a"), &[&release]).await;
    scene.restart("sled-a").await;
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn killed_in_the_middle_of_a_copy_it_gets_everything_when_it_is_back() {
    let scene = Scene::start(3).await;
    let release = several(&scene);
    scene.hold("sled-b", "copy.piece", 1).await;
    scene.upload(&release).await;
    scene.held("sled-b", "copy.piece").await;
    kill_with_half_written_files(&scene, "sled-b").await;
    proof::on_sleds(&scene, &scene.sleds_but("sled-b"), &[&release]).await;
    scene.restart("sled-b").await;
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn a_source_killed_in_the_middle_of_a_copy_is_replaced_by_another() {
    let scene = Scene::start(3).await;
    let release = several(&scene);
    scene.hold_sleds("depot.piece", 1).await;
    scene.upload(&release).await;
    let source = scene.held_in_some_sled("depot.piece").await;
    scene.kill(&source).await;
    let others = scene.sleds_but(&source);
    scene.free_sleds(&others, "depot.piece").await;
    proof::on_sleds(&scene, &others, &[&release]).await;
    scene.restart(&source).await;
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn when_the_only_source_is_killed_the_others_wait_for_it_and_say_so() {
    // One sled is enough for the uploaded bytes to go.
    let scene = Scene::with(|builder| builder.sleds(3).min_replication(1)).await;
    let release = scene.release("1.0.0", &[("a", LARGE)]);
    scene.hold_sleds("depot.piece", 1).await;
    scene.upload(&release).await;
    let source = scene.held_in_some_sled("depot.piece").await;
    proof::staging_becomes_empty(&scene).await;
    scene.kill(&source).await;
    let others = scene.sleds_but(&source);
    scene.free_sleds(&others, "depot.piece").await;
    scene
        .wait("the artifact to be shown as out of reach", async || {
            let matrix = scene.operator().replication().await.map_err(|error| error.to_string())?;
            let blocked = matrix.artifacts[0].blocked == Some(ArtifactBlocked::HoldersUnavailable);
            if blocked { Ok(()) } else { Err(format!("{matrix:?}")) }
        })
        .await;
    scene.restart(&source).await;
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn when_every_sled_that_was_sent_it_is_killed_the_next_one_is_sent_it() {
    let scene = Scene::with(|builder| builder.sleds(3).min_replication(2)).await;
    let release = scene.release("1.0.0", &[("a", LARGE)]);
    let hash = release.artifacts[0].hash;
    // Nobody gets it from a peer: the coordinator has to send it, more often than min_replication in the end.
    scene.hold_sleds("depot.piece", 0).await;
    scene.upload(&release).await;
    let mut alive = scene.sled_names();
    while alive.len() > 1 {
        let holder = scene
            .wait("one of the sleds that live to hold it", async || {
                for who in &alive {
                    if scene.listing(who).await.list.contains_key(&hash) {
                        return Ok(who.clone());
                    }
                }
                Err("nobody has it".to_owned())
            })
            .await;
        scene.kill(&holder).await;
        alive.retain(|who| *who != holder);
    }
    proof::on_sleds(&scene, &alive, &[&release]).await;
    scene.free_sleds(&alive, "depot.piece").await;
    for who in scene.sleds_but(&alive[0]) {
        scene.restart(&who).await;
    }
    proof::everywhere(&scene, &[&release]).await;
}
