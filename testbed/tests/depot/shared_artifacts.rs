//! Repositories come and go: an artifact stays for as long as some repository has it, and the generation moves exactly
//! when the set of wanted artifacts does.

use crate::{proof, scene::Scene};
use ids::ArtifactHash;
use nexus_client::releases::UploadStatus;
use problem::Code;
use testbed::names::M2_NAMES;

async fn is_gone(scene: &Scene, hash: &ArtifactHash) {
    for who in scene.sled_names() {
        let refusal = scene.depot_of(&who).get(hash, 0).await.expect_err("the depot serves it");
        assert!(refusal.is(Code::ArtifactNotFound), "{refusal}");
        for m2 in M2_NAMES {
            assert!(!scene.artifact_file(&who, m2, hash).exists(), "{who}/{m2} has it under its name");
        }
    }
    let refusal = scene.operator().artifact(hash).await.expect_err("the coordinator still knows it");
    assert!(refusal.is(Code::ArtifactNotFound), "{refusal}");
}

#[tokio::test]
pub(crate) async fn deleting_a_repository_takes_away_its_own_artifacts_and_leaves_shared_ones() {
    let scene = Scene::start(3).await;
    let first = scene.release("1.0.0", &[("shared", 90_000), ("own-1", 40_000)]);
    let second = scene.release("2.0.0", &[("shared", 90_000), ("own-2", 50_000)]);
    let part = scene.release("3.0.0", &[("shared", 90_000)]);
    let own = first.artifacts[1].hash;
    let start = scene.generation().await;
    let moved = async || scene.generation().await.0 - start.0;

    assert_eq!(scene.upload(&first).await.status, UploadStatus::Inserted);
    assert_eq!(scene.upload(&second).await.status, UploadStatus::Inserted);
    assert_eq!(moved().await, 2);
    assert_eq!(scene.upload(&part).await.status, UploadStatus::Inserted);
    assert_eq!(moved().await, 2, "a release that brings nothing new moved the generation");
    proof::everywhere(&scene, &[&first, &second]).await;

    scene.operator().repository_delete("1.0.0").await.unwrap();
    assert_eq!(moved().await, 3);
    proof::everywhere(&scene, &[&second]).await;
    is_gone(&scene, &own).await;
    scene.operator().repository_delete("1.0.0").await.unwrap();
    scene.operator().repository_delete("3.0.0").await.unwrap();
    assert_eq!(moved().await, 3, "deleting what nobody misses moved the generation");

    assert_eq!(scene.upload(&second).await.status, UploadStatus::AlreadyExists);
    assert_eq!(moved().await, 3, "uploading the same again moved the generation");

    assert_eq!(scene.upload(&first).await.status, UploadStatus::Inserted);
    assert_eq!(moved().await, 4);
    proof::everywhere(&scene, &[&first, &second]).await;
}

#[tokio::test]
pub(crate) async fn deleting_the_last_repository_empties_every_sled_also_one_that_was_away() {
    let scene = Scene::start(2).await;
    let release = scene.release("1.0.0", &[("a", 90_000), ("b", 40_000)]);
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
    scene.kill("sled-b").await;
    scene.operator().repository_delete("1.0.0").await.unwrap();
    proof::on_sleds(&scene, &scene.sleds_but("sled-b"), &[]).await;
    scene.restart("sled-b").await;
    proof::everywhere(&scene, &[]).await;
    for artifact in &release.artifacts {
        is_gone(&scene, &artifact.hash).await;
    }
}

#[tokio::test]
pub(crate) async fn a_release_deleted_in_the_middle_of_its_replication_leaves_nothing() {
    let scene = Scene::start(2).await;
    let release = scene.release("1.0.0", &[("a", 900_000), ("b", 800_000)]);
    let other = scene.release("2.0.0", &[("c", 70_000)]);
    scene.hold_sleds("artifact.put_piece", 1).await;
    scene.upload(&release).await;
    scene.held_in_some_sled("artifact.put_piece").await;
    scene.operator().repository_delete("1.0.0").await.unwrap();
    scene.upload(&other).await;
    scene.free_sleds(&scene.sled_names(), "artifact.put_piece").await;
    proof::everywhere(&scene, &[&other]).await;
}
