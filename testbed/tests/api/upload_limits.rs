//! Uploads that are too large, too many, too slow, or that nobody has room for.

use crate::{
    stage::{LIMIT, Stage},
    wire::Wire,
};
use sample_release::SampleRelease;
use std::time::Duration;
use testbed::wait_for;

/// More than the sockets' buffers hold.
const LARGE: usize = 8 << 20;

/// The head of an upload of so many bytes, with more lines of the caller's own.
fn head(stage: &Stage, bytes: usize, more: &str) -> String {
    let authorization = stage.operator.authorization();
    format!(
        "PUT /v1/repositories HTTP/1.1\r\nhost: x\r\ncontent-length: {bytes}\r\n{authorization}{more}\r\n"
    )
}

async fn wire(stage: &Stage) -> Wire {
    Wire::connect(stage.operator.address()).await
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_a_byte_of_it() {
    let stage = Stage::coordinator("release.upload_bytes_max = 1000000").await;
    let before = stage.standing().await;
    let mut polite = wire(&stage).await;
    polite.send(head(&stage, 1_000_001, "expect: 100-continue\r\n")).await;
    let problem = polite.answer().await.problem();
    assert_eq!((problem.status, problem.code.as_str()), (413, "body_too_large"));
    assert!(problem.detail.contains("1000000") && problem.detail.contains("1000001"), "{problem}");
    // Who sends all the same gets to read why.
    assert_eq!(stage.operator.put("/v1/repositories", vec![0; LARGE]).await.refusal().1, "body_too_large");
    assert_eq!(stage.standing().await, before);
}

#[tokio::test]
async fn a_body_that_does_not_tell_its_length_is_refused_where_it_passes_the_limit() {
    let stage = Stage::coordinator("release.upload_bytes_max = 100000").await;
    let before = stage.standing().await;
    let mut wire = wire(&stage).await;
    let authorization = stage.operator.authorization();
    wire.send(format!(
        "PUT /v1/repositories HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n{authorization}\r\n"
    ))
    .await;
    for _ in 0..11 {
        wire.send(format!("{:x}\r\n{}\r\n", 10_000, "x".repeat(10_000))).await;
    }
    let problem = wire.answer().await.problem();
    assert_eq!((problem.status, problem.code.as_str()), (413, "body_too_large"));
    stage.wait_unstaged().await;
    assert_eq!(stage.standing().await, before);
}

#[tokio::test]
async fn an_upload_without_room_is_refused_before_a_byte_of_it() {
    let stage = Stage::coordinator("release.staging_quota_bytes = 20000").await;
    let before = stage.standing().await;
    let mut polite = wire(&stage).await;
    polite.send(head(&stage, 20_001, "expect: 100-continue\r\n")).await;
    let problem = polite.answer().await.problem();
    assert_eq!((problem.status, problem.code.as_str()), (507, "no_space"));
    assert!(problem.detail.contains("20001") && problem.hint.is_some(), "{problem:?}");
    assert_eq!(stage.operator.put("/v1/repositories", vec![0; LARGE]).await.refusal().1, "no_space");
    assert_eq!(stage.standing().await, before);
}

#[tokio::test]
async fn an_upload_that_outgrows_the_room_is_refused_and_gives_it_back() {
    let stage = Stage::coordinator("release.staging_quota_bytes = 20000").await;
    let chunks = futures::stream::iter((0..64).map(|_| Ok::<_, std::io::Error>(vec![0u8; 1024])));
    let reply = stage.operator.put("/v1/repositories", reqwest::Body::wrap_stream(chunks)).await;
    assert_eq!(reply.refusal(), (507, "no_space".to_owned()));
    stage.wait_unstaged().await;
    assert_eq!(stage.operator.put("/v1/repositories", vec![0; 20_000]).await.refusal().1, "not_a_zip");
}

#[tokio::test]
async fn an_upload_more_than_there_may_be_is_told_when_to_come_back() {
    let stage = Stage::coordinator("release.uploads_at_once = 1").await;
    let mut first = wire(&stage).await;
    first.send(head(&stage, 10, "")).await;
    first.send("1234").await;
    staged(&stage, 1).await;
    let mut second = wire(&stage).await;
    second.send(head(&stage, LARGE, "expect: 100-continue\r\n")).await;
    let answer = second.answer().await;
    assert_eq!((answer.status, answer.code().as_str()), (429, "too_many_requests"));
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
    assert_eq!(stage.operator.put("/v1/repositories", vec![0; LARGE]).await.refusal().0, 429);
    first.send("567890").await;
    assert_eq!(first.answer().await.code(), "not_a_zip");
    assert_eq!(stage.operator.put("/v1/repositories", "x").await.refusal().1, "not_a_zip");
}

#[tokio::test]
async fn a_client_that_goes_away_in_the_middle_leaves_nothing_and_frees_its_slot() {
    let stage = Stage::coordinator("release.uploads_at_once = 1").await;
    let before = stage.standing().await;
    for _ in 0..3 {
        let mut leaver = wire(&stage).await;
        leaver.send(head(&stage, LARGE, "")).await;
        leaver.send(vec![0; 100_000]).await;
        staged(&stage, 1).await;
        drop(leaver);
        stage.wait_unstaged().await;
    }
    let free = async || match stage.operator.put("/v1/repositories", "x").await.refusal() {
        (400, _) => Ok(()),
        refusal => Err(format!("{refusal:?}")),
    };
    wait_for("the slot to be free", LIMIT, free).await.unwrap();
    assert_eq!(stage.standing().await, before);
}

#[tokio::test]
async fn a_coordinator_that_is_killed_in_the_middle_of_an_upload_forgets_it() {
    let stage = Stage::coordinator("").await;
    let mut leaver = wire(&stage).await;
    leaver.send(head(&stage, LARGE, "")).await;
    leaver.send(vec![0; 100_000]).await;
    staged(&stage, 1).await;
    stage.cluster.kill("nexus-1", testbed::KillScope::WholeSled).await.unwrap();
    assert_eq!(stage.staged_files().len(), 1, "the kill came too late to prove anything");
    stage.cluster.restart("nexus-1").await.unwrap();
    assert_eq!(stage.staged_files(), [""; 0]);
}

#[tokio::test]
async fn a_release_that_is_not_replicated_in_time_is_stored_all_the_same() {
    let stage = Stage::coordinator("").await;
    let release = stage.make(&SampleRelease::small("1.0.0"));
    let reply = stage.upload(&release, "?wait=replicated&wait_seconds=0").await;
    assert_eq!(reply.refusal(), (503, "not_replicated".to_owned()));
    assert!(reply.problem().retry_after_seconds.is_some());
    let kept = stage.operator.get("/v1/repositories/1.0.0").await.ok();
    assert_eq!(kept["state"], "replicating");
    assert_eq!(stage.staged_files().len(), 1);
}

#[tokio::test]
async fn a_sled_without_room_is_shown_as_the_reason() {
    // Enough for all but the giant.
    let stage = Stage::with(|builder| builder.sleds(1).m2_quota_bytes(70_000)).await;
    stage.cluster.wait_in_service().await.unwrap();
    let release = SampleRelease::small("1.0.0").seeded("giant", "1.0.0", "file", 100_000, false);
    assert_eq!(stage.upload(&stage.make(&release), "").await.status, 201);
    let told = async || {
        let issues = stage.operator.get("/v1/status").await.ok()["issues"].clone();
        let has = |code: &str, subject: &str, word: &str| {
            issues.as_array().expect("a list").iter().any(|issue| {
                let detail = issue["detail"].as_str().expect("words");
                issue["code"] == code && issue["subject"] == subject && detail.contains(word)
            })
        };
        let told = has("m2_full", "sled-a/m2-0", "100000") && has("transfer_failing", "sled-a", "no_space");
        if told { Ok(()) } else { Err(issues.to_string()) }
    };
    wait_for("the status to say that there is no room", LIMIT, told).await.unwrap();
    let replication = stage.operator.get("/v1/replication").await.ok();
    assert_eq!(replication["fully_replicated"], false);
    assert_eq!(stage.staged_files().len(), 1, "the only copy of the giant was given up");
}

/// Waits until so many uploads have a file.
async fn staged(stage: &Stage, count: usize) {
    let look = async || match stage.staged_files() {
        files if files.len() == count => Ok(()),
        files => Err(files.join(", ")),
    };
    wait_for("the upload to begin", Duration::from_secs(20), look).await.expect("it begins");
}
