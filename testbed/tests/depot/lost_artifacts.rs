//! Artifacts whose bytes are nowhere any more: that is said, with what to do about it, and doing that heals it.

use crate::{
    proof,
    scene::{LARGE, Scene},
};
use nexus_client::{
    issues::IssueCode,
    releases::{RepositoryState, UploadStatus},
    replication::ArtifactBlocked,
};
use std::fs;
use testbed::names::M2_NAMES;

#[tokio::test]
pub(crate) async fn an_artifact_that_every_sled_has_lost_needs_an_upload_and_is_healed_by_it() {
    let scene = Scene::start(2).await;
    let release = scene.release("1.0.0", &[("lost", LARGE), ("kept", 50_000)]);
    let other = scene.release("2.0.0", &[("kept", 50_000)]);
    scene.upload(&release).await;
    scene.upload(&other).await;
    proof::everywhere(&scene, &[&release]).await;
    let lost = release.artifacts[0].hash;
    for who in scene.sled_names() {
        scene.kill(&who).await;
        for m2 in M2_NAMES {
            fs::remove_file(scene.artifact_file(&who, m2, &lost)).unwrap();
        }
    }
    for who in scene.sled_names() {
        scene.restart(&who).await;
    }
    scene
        .wait("the loss to be shown", async || {
            let matrix = scene.operator().replication().await.map_err(|error| error.to_string())?;
            let row = matrix.artifacts.iter().find(|row| row.hash == lost);
            let blocked = row.and_then(|row| row.blocked);
            if blocked == Some(ArtifactBlocked::NoSource) { Ok(()) } else { Err(format!("{matrix:?}")) }
        })
        .await;
    let repositories = scene.operator().repositories().await.unwrap();
    let state = |version: &str| repositories.iter().find(|one| one.system_version == version).unwrap().state;
    assert_eq!(state("1.0.0"), RepositoryState::NeedsUpload);
    assert_eq!(state("2.0.0"), RepositoryState::Replicated, "it has lost nothing");
    let issues = scene.system().await.issues;
    assert!(
        issues.iter().any(|issue| issue.is(IssueCode::ArtifactNeedsUpload) && issue.subject == "lost 1.0.0"),
        "{issues:?}"
    );

    let generation = scene.generation().await;
    assert_eq!(scene.upload(&release).await.status, UploadStatus::AlreadyExists);
    proof::everywhere(&scene, &[&release]).await;
    assert_eq!(scene.generation().await, generation);
}
