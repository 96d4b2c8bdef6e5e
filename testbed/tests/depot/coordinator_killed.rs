//! SIGKILL of the coordinator at each instant between an upload's first byte and its last copy: what was acknowledged
//! still reaches every sled, and what was not leaves nothing behind.

use crate::{
    deliveries::Deliveries,
    proof,
    scene::{COORDINATOR, LARGE, Scene},
};
use nexus_client::{
    UploadOptions,
    issues::IssueCode,
    releases::{RepositoryState, UploadStatus},
    replication::{ArtifactBlocked, ReplicationArtifact},
};
use sled_client::artifacts::ArtifactJobState;

#[tokio::test]
pub(crate) async fn killed_between_acknowledgement_and_first_put_it_delivers_in_its_next_life() {
    let scene = Scene::start(3).await;
    let release = scene.release("1.0.0", &[("a", 40_000), ("b", 50_000), ("c", 60_000)]);
    scene.hold(COORDINATOR, "replication.put", 0).await;
    assert_eq!(scene.upload(&release).await.status, UploadStatus::Inserted);
    scene.held(COORDINATOR, "replication.put").await;
    scene.kill(COORDINATOR).await;
    for who in scene.sled_names() {
        let list = scene.listing(&who).await;
        assert!(list.list.is_empty(), "{who} was sent something before the first PUT: {list:?}");
    }
    scene.restart(COORDINATOR).await;
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn killed_in_the_middle_of_puts_it_delivers_in_its_next_life() {
    let scene = Scene::start(3).await;
    let artifacts = [("a", LARGE), ("b", LARGE), ("c", LARGE), ("d", LARGE), ("e", 30_000)];
    let release = scene.release("1.0.0", &artifacts);
    scene.hold(COORDINATOR, "replication.put_chunk", 5).await;
    scene.upload(&release).await;
    scene.held(COORDINATOR, "replication.put_chunk").await;
    scene.kill(COORDINATOR).await;
    let puts = Deliveries::so_far(&scene).puts.len();
    assert!(puts < artifacts.len(), "every PUT had ended");
    scene.restart(COORDINATOR).await;
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn killed_before_the_record_it_has_acknowledged_nothing_and_keeps_nothing() {
    let scene = Scene::start(1).await;
    let release = scene.release("1.0.0", &[("a", 40_000), ("b", 50_000)]);
    let generation = scene.generation().await;
    scene.hold(COORDINATOR, "intake.durable", 0).await;
    let upload = scene.begin_upload(&release, UploadOptions::default());
    scene.held(COORDINATOR, "intake.durable").await;
    let staged = proof::entries(&scene.staging_dir());
    assert!(matches!(&staged[..], [file] if file.ends_with(".zip")), "not durable yet: {staged:?}");
    scene.kill(COORDINATOR).await;
    upload.await.unwrap().expect_err("the upload was acknowledged without a record");
    scene.restart(COORDINATOR).await;
    assert_eq!(proof::entries(&scene.staging_dir()), Vec::<String>::new());
    assert_eq!(scene.operator().repositories().await.unwrap(), []);
    assert_eq!(scene.generation().await, generation);
    assert_eq!(scene.upload(&release).await.status, UploadStatus::Inserted);
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn killed_between_record_and_answer_it_delivers_what_nobody_was_told_of() {
    let scene = Scene::start(2).await;
    let release = scene.release("1.0.0", &[("a", 40_000), ("b", 50_000)]);
    scene.hold(COORDINATOR, "intake.recorded", 0).await;
    let upload = scene.begin_upload(&release, UploadOptions::default());
    scene.held(COORDINATOR, "intake.recorded").await;
    scene.kill(COORDINATOR).await;
    upload.await.unwrap().expect_err("the coordinator was killed before it could answer");
    scene.restart(COORDINATOR).await;
    proof::everywhere(&scene, &[&release]).await;
    let generation = scene.generation().await;
    assert_eq!(scene.upload(&release).await.status, UploadStatus::AlreadyExists);
    assert_eq!(scene.generation().await, generation);
}

#[tokio::test]
pub(crate) async fn restarted_while_no_sled_is_up_it_knows_that_it_does_not_know() {
    let scene = Scene::start(2).await;
    let release = scene.release("1.0.0", &[("a", 40_000), ("b", 50_000)]);
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
    for who in scene.sled_names() {
        scene.kill(&who).await;
    }
    scene.restart(COORDINATOR).await;
    let early = scene.system().await;
    assert!(early.issues.is_empty(), "an alarm before anybody could have been heard: {early:?}");
    scene
        .wait("the holders to be shown as unknown", async || {
            let matrix = scene.matrix().await;
            let unknown = |row: &ReplicationArtifact| row.blocked == Some(ArtifactBlocked::HoldersUnknown);
            if matrix.artifacts.iter().all(unknown) { Ok(()) } else { Err(format!("{matrix:?}")) }
        })
        .await;
    let status = scene
        .wait("both sleds to be shown as offline", async || {
            let status = scene.system().await;
            let offline = status.issues.iter().filter(|issue| issue.is(IssueCode::SledOffline)).count();
            if offline == 2 { Ok(status) } else { Err(format!("{status:?}")) }
        })
        .await;
    assert!(!status.issues.iter().any(|issue| issue.is(IssueCode::ArtifactNeedsUpload)), "{status:?}");
    let repository = scene.operator().repository("1.0.0").await.unwrap().repository;
    assert_ne!(repository.state, RepositoryState::NeedsUpload);
    for who in scene.sled_names() {
        scene.restart(&who).await;
    }
    proof::everywhere(&scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn copies_between_sleds_end_well_while_the_coordinator_is_dead() {
    let scene = Scene::with(|builder| builder.sleds(2).min_replication(1)).await;
    let release = scene.release("1.0.0", &[("a", LARGE)]);
    scene.hold_sleds("copy.piece", 0).await;
    scene.upload(&release).await;
    let target = scene.held_in_some_sled("copy.piece").await;
    scene.kill(COORDINATOR).await;
    scene.free_sleds(&scene.sled_names(), "copy.piece").await;
    let sled = scene.agent(&target);
    scene
        .wait("the copy job to end", async || {
            let jobs = sled.jobs().await.map_err(|error| error.to_string())?.items;
            let succeeded = jobs.len() == 1 && jobs[0].state == ArtifactJobState::Succeeded;
            if succeeded { Ok(()) } else { Err(format!("{jobs:?}")) }
        })
        .await;
    scene.restart(COORDINATOR).await;
    proof::everywhere(&scene, &[&release]).await;
}
