//! Uploads that are fine and unusual, or that the world changes under.

use crate::{
    proof,
    scene::{COORDINATOR, Scene},
};
use nexus_client::UploadOptions;
use problem::Code;
use sample_release::SampleRelease;

#[tokio::test]
async fn a_release_whose_targets_are_named_by_sha512_reaches_every_sled() {
    let scene = Scene::start(2).await;
    let release = scene.make(&SampleRelease::small("1.0.0").with_sha512_names());
    // A root says how files are named, so this one is another than the scene's.
    scene.operator().trust_root_add(release.root_json.clone()).await.unwrap();
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
async fn a_trust_root_that_is_deleted_during_an_upload_vouches_for_nothing() {
    let scene = Scene::start(1).await;
    let release = scene.release("1.0.0", &[("a", 50_000)]);
    scene.hold(COORDINATOR, "intake.durable", 0).await;
    let upload = scene.begin_upload(&release, UploadOptions::default());
    scene.held(COORDINATOR, "intake.durable").await;
    for root in scene.operator().trust_roots().await.unwrap() {
        scene.operator().trust_root_delete(root.id).await.unwrap();
    }
    scene.free(COORDINATOR, "intake.durable").await;
    let refusal = upload.await.unwrap().expect_err("nobody vouches for it any more");
    assert!(refusal.is(Code::TrustRootDeleted), "{refusal}");
    assert!(scene.operator().repositories().await.unwrap().is_empty());
    proof::staging_becomes_empty(&scene).await;
}

#[tokio::test]
async fn a_deletion_is_finished_though_its_client_hangs_up() {
    let scene = Scene::start(2).await;
    let release = scene.release("1.0.0", &[("a", 50_000)]);
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
    scene.hold(COORDINATOR, "repository.deleted", 0).await;
    let operator = scene.operator().clone();
    let client = tokio::spawn(async move { operator.repository_delete("1.0.0").await });
    scene.held(COORDINATOR, "repository.deleted").await;
    client.abort();
    client.await.expect_err("it was hung up on");
    scene.free(COORDINATOR, "repository.deleted").await;
    // Far sooner than the timer would find out.
    proof::everywhere(&scene, &[]).await;
}
