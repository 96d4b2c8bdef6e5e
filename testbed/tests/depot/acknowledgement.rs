//! `?wait=replicated`: the answer comes when `min_replication` sleds hold verified copies of everything, and not before.

use crate::{
    proof,
    scene::{COORDINATOR, LARGE, Scene},
};
use nexus_client::{UploadOptions, issues::IssueCode, sleds::SledPolicy};
use problem::Code;

fn waiting(seconds: Option<u32>) -> UploadOptions {
    UploadOptions { wait_replicated: true, wait_seconds: seconds, ..UploadOptions::default() }
}

#[tokio::test]
pub(crate) async fn the_answer_waits_for_the_last_copy_of_enough_sleds() {
    let scene = Scene::start(3).await;
    let release = scene.release("1.0.0", &[("a", LARGE), ("b", 80_000)]);
    // The larger one is sent first, to some sled; two others have to copy it, and one of them stops half-way.
    scene.hold_sleds("copy.piece", 0).await;
    let upload = scene.begin_upload(&release, waiting(None));
    let late = scene.held_in_some_sled("copy.piece").await;
    let others = scene.sleds_but(&late);
    scene.free_sleds(&others, "copy.piece").await;
    proof::on_sleds(&scene, &others, &[&release]).await;
    assert!(!upload.is_finished(), "answered before {late} had everything: {:?}", upload.await);
    scene.free(&late, "copy.piece").await;
    let answer = upload.await.unwrap().unwrap();
    let holders = [&late].into_iter().chain(&others);
    for who in holders {
        proof::holds_twice(&scene, who, &proof::hashes(&[&release])).await.unwrap();
        let id = scene.agent(who).inventory().await.unwrap().sled_id;
        assert!(answer.durable_on.contains(&id.to_string()), "{who} is not named in {answer:?}");
    }
}

#[tokio::test]
pub(crate) async fn with_too_few_sleds_the_answer_is_not_replicated_and_the_release_is_kept() {
    let scene = Scene::start(3).await;
    let release = scene.release("1.0.0", &[("a", LARGE), ("b", 80_000)]);
    scene.kill("sled-c").await;
    let upload = scene.begin_upload(&release, waiting(Some(1)));
    let refusal = upload.await.unwrap().expect_err("two sleds are fewer than three");
    assert!(refusal.is(Code::NotReplicated), "{refusal}");
    assert!(refusal.problem().unwrap().retry_after_seconds.is_some(), "{refusal:?}");
    assert_eq!(scene.operator().repositories().await.unwrap().len(), 1);
    assert!(!proof::entries(&scene.staging_dir()).is_empty(), "the bytes went before enough sleds had them");
    scene.restart("sled-c").await;
    proof::everywhere(&scene, &[&release]).await;
    let again = scene.begin_upload(&release, waiting(None));
    again.await.unwrap().expect("it is replicated already");
}

#[tokio::test]
pub(crate) async fn with_fewer_sleds_than_an_upload_needs_the_refusal_and_the_status_say_so() {
    let scene = Scene::start(2).await;
    let gone = scene.agent("sled-b").inventory().await.unwrap().sled_id;
    scene.operator().sled_set_policy(gone, SledPolicy::Expunged).await.unwrap();
    let release = scene.release("1.0.0", &[("a", 50_000)]);
    let refusal = scene.begin_upload(&release, waiting(Some(1))).await.unwrap().expect_err("one is too few");
    let hint = refusal.problem().unwrap().hint.clone().unwrap_or_default();
    assert!(refusal.is(Code::NotReplicated) && hint.contains("min_replication"), "{refusal:?}");
    let issues = scene.system().await.issues;
    assert!(issues.iter().any(|issue| issue.is(IssueCode::MinReplicationUnreachable)), "{issues:?}");
    proof::on_sleds(&scene, &["sled-a".to_owned()], &[&release]).await;
    scene.add_sled().await.unwrap();
    proof::on_sleds(&scene, &["sled-a".to_owned(), "sled-c".to_owned()], &[&release]).await;
    proof::staging_becomes_empty(&scene).await;
    assert_eq!(scene.system().await.issues, []);
}

#[tokio::test]
pub(crate) async fn the_uploaded_bytes_stay_until_enough_sleds_have_them_also_over_a_restart() {
    let scene = Scene::start(3).await;
    let release = scene.release("1.0.0", &[("a", LARGE), ("b", 80_000)]);
    scene.kill("sled-c").await;
    scene.upload(&release).await;
    proof::on_sleds(&scene, &scene.sleds_but("sled-c"), &[&release]).await;
    scene.restart(COORDINATOR).await;
    proof::on_sleds(&scene, &scene.sleds_but("sled-c"), &[&release]).await;
    let staged = proof::entries(&scene.staging_dir());
    assert_eq!(staged.len(), 1, "two of three sleds have it, and it is not staged any more: {staged:?}");
    scene.restart("sled-c").await;
    proof::everywhere(&scene, &[&release]).await;
}
