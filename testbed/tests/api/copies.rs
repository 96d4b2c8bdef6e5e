//! Copies from peers: jobs, and peers that are wrong, slow, dead or malicious.

use crate::{
    call::{Api, Reply},
    sled_artifacts::{listed, sled_that_wants, sled_with, wait_disks_empty, want},
    source::{Asked, Script, Source, hash_of, varied},
    stage::{LIMIT, Stage},
};
use ids::ArtifactHash;
use serde_json::{Value, json};
use testbed::wait_for;
use uuid::Uuid;

/// Larger than what a socket takes in one go.
const BYTES: usize = 1 << 20;

async fn copy(sled: &Api, hash: ArtifactHash, request: &Value) -> Reply {
    sled.post(&format!("/artifacts/{hash}/copy-from-depot?generation=3"), request.to_string()).await
}

/// Asks for a copy from these sources; the job as it ended.
async fn ended(sled: &Api, hash: ArtifactHash, sources: &[&str]) -> Value {
    let accepted = copy(sled, hash, &json!({"sources": sources})).await;
    assert_eq!(accepted.status, 202);
    let id = accepted.ok()["job_id"].as_str().expect("an id").to_owned();
    let look = async || {
        let job = sled.get(&format!("/artifact-jobs/{id}?wait_ms=20000")).await.ok();
        let state = job["state"].as_str().expect("a state").to_owned();
        if ["queued", "running"].contains(&state.as_str()) { Err(job.to_string()) } else { Ok(job) }
    };
    wait_for("the job to end", LIMIT, look).await.expect("it ends")
}

/// The job has failed, for its sources' sake, and nothing of it is on the disks.
async fn assert_failed(stage: &Stage, sled: &Api, job: &Value) {
    assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!("source_failed")), "{job}");
    assert_eq!(listed(sled).await, [""; 0]);
    wait_disks_empty(stage).await;
}

/// The job has succeeded, and the sled serves the bytes.
async fn assert_copied(stage: &Stage, job: &Value, bytes: &[u8]) {
    assert_eq!(job["state"], "succeeded", "{job}");
    assert_eq!(job["result"]["successful_writes"], 2, "{job}");
    let read = stage.depot().await.get(&format!("/artifact/sha256/{}", hash_of(bytes))).await;
    assert!(read.body == bytes, "the sled serves other bytes than it was sent");
}

#[tokio::test]
async fn a_copy_tells_how_it_went() {
    let bytes = varied(BYTES, 1);
    let hash = hash_of(&bytes);
    let (stage, sled) = sled_that_wants(&[hash]).await;
    let source = Source::honest(&bytes).await;
    let job = ended(&sled, hash, &[&source.url]).await;
    assert_copied(&stage, &job, &bytes).await;
    assert_eq!((&job["bytes_done"], &job["bytes_total"]), (&json!(BYTES), &json!(BYTES)));
    assert_eq!((&job["source"], &job["hash"]), (&json!(source.url), &json!(hash)));
    assert!(job["error"].is_null() && !job["finished_at"].is_null(), "{job}");
    assert_eq!(source.asked(), [Asked { path: format!("/artifact/sha256/{hash}"), from: None }]);
    assert_eq!(sled.get("/artifact-jobs").await.ok()["items"], json!([job]));
}

#[tokio::test]
async fn one_source_may_be_given_under_its_own_name() {
    let bytes = varied(1_000, 1);
    let hash = hash_of(&bytes);
    let (_stage, sled) = sled_that_wants(&[hash]).await;
    let source = Source::honest(&bytes).await;
    assert_eq!(copy(&sled, hash, &json!({"depot_base_url": source.url})).await.status, 202);
    let held = async || match listed(&sled).await {
        list if list == [hash.to_string()] => Ok(()),
        list => Err(format!("{list:?}")),
    };
    wait_for("the copy", LIMIT, held).await.unwrap();
}

#[tokio::test]
async fn requests_that_name_no_usable_source_are_refused_and_start_nothing() {
    let hash = hash_of(b"wanted");
    let (_stage, sled) = sled_that_wants(&[hash]).await;
    let good = "http://127.0.0.1:1";
    for request in [
        json!({}),
        json!({"sources": []}),
        json!({"depot_base_url": good, "sources": [good]}),
        json!({"sources": vec![good; 17]}),
        json!({"sources": [""]}),
        json!({"sources": ["127.0.0.1:1"]}),
        json!({"sources": ["https://127.0.0.1:1"]}),
        json!({"sources": ["ftp://127.0.0.1:1"]}),
        json!({"sources": ["file:///etc/passwd"]}),
        json!({"sources": ["http://user:word@127.0.0.1:1"]}),
        json!({"sources": ["http://127.0.0.1:1/artifact"]}),
        json!({"sources": ["http://127.0.0.1:1?x=1"]}),
        json!({"sources": ["http://127.0.0.1:1#x"]}),
        json!({"sources": ["http://127.0.0.1:99999"]}),
        json!({"sources": [good, "https://127.0.0.1:1"]}),
        json!({"depot_base_url": "file:///etc/passwd"}),
    ] {
        assert_eq!(copy(&sled, hash, &request).await.refusal(), (400, "bad_request".to_owned()), "{request}");
    }
    for request in [json!(7), json!({"sources": good}), json!({"sources": [1]}), json!({"source": good})] {
        assert_eq!(copy(&sled, hash, &request).await.refusal(), (400, "bad_json".to_owned()), "{request}");
    }
    let one = json!({"sources": [good]});
    let stranger = hash_of(b"not wanted");
    assert_eq!(copy(&sled, stranger, &one).await.refusal(), (409, "not_in_config".to_owned()));
    for generation in [2, 4] {
        let path = format!("/artifacts/{hash}/copy-from-depot?generation={generation}");
        assert_eq!(sled.post(&path, one.to_string()).await.refusal(), (409, "config_generation".to_owned()));
    }
    assert_eq!(sled.get("/artifact-jobs").await.ok(), json!({"items": [], "next_page": null}));
}

#[tokio::test]
async fn sources_that_cannot_deliver_fail_the_job_each_with_its_reason() {
    let bytes = varied(BYTES, 1);
    let hash = hash_of(&bytes);
    let (stage, sled) = sled_that_wants(&[hash]).await;
    let dead = Source::dead().await;
    let absent = Source::start(|_| Script::bare("404 Not Found\r\ncontent-length: 0")).await;
    let elsewhere =
        format!("302 Found\r\nlocation: {}\r\ncontent-length: 0", Source::honest(&bytes).await.url);
    let redirect = Source::start(move |_| Script::bare(&elsewhere)).await;
    let rude = Source::start(|_| Script::bare("nonsense")).await;
    let sources = [dead.as_str(), &absent.url, &redirect.url, &rude.url];
    let job = ended(&sled, hash, &sources).await;
    assert_failed(&stage, &sled, &job).await;
    let detail = job["error"]["detail"].as_str().unwrap();
    assert!(sources.iter().all(|source| detail.contains(source)), "not all have a reason: {detail}");
}

#[tokio::test]
async fn wrong_bytes_fail_the_job_and_are_not_stored() {
    let bytes = varied(BYTES, 1);
    let hash = hash_of(&bytes);
    let (stage, sled) = sled_that_wants(&[hash]).await;
    let mut flipped = bytes.clone();
    flipped[BYTES / 2] ^= 1;
    for wrong in [flipped, bytes[..BYTES - 1].to_vec(), Vec::new(), varied(BYTES, 2)] {
        let liar = Source::start(move |_| Script::whole(&wrong)).await;
        let job = ended(&sled, hash, &[&liar.url]).await;
        assert_failed(&stage, &sled, &job).await;
        assert!(job["error"]["detail"].as_str().unwrap().contains(&liar.url), "{job}");
    }
}

#[tokio::test]
async fn a_source_that_dies_is_followed_by_the_next_from_the_byte_that_was_reached() {
    let bytes = varied(BYTES, 1);
    let hash = hash_of(&bytes);
    let (stage, sled) = sled_that_wants(&[hash]).await;
    let half = bytes[..BYTES / 2].to_vec();
    let dying = Source::start(move |_| Script::announcing(BYTES as u64, &half)).await;
    let good = Source::honest(&bytes).await;
    let job = ended(&sled, hash, &[&dying.url, &good.url]).await;
    assert_copied(&stage, &job, &bytes).await;
    assert_eq!(job["bytes_done"], BYTES);
    let asked: Vec<Option<u64>> = good.asked().iter().map(|asked| asked.from).collect();
    assert_eq!(asked, [Some(BYTES as u64 / 2)], "bytes were fetched twice");
}

#[tokio::test]
async fn a_source_without_ranges_sends_all_again_and_what_is_there_is_skipped() {
    let bytes = varied(BYTES, 1);
    let hash = hash_of(&bytes);
    let (stage, sled) = sled_that_wants(&[hash]).await;
    let start = bytes[..100_001].to_vec();
    let dying = Source::start(move |_| Script::announcing(BYTES as u64, &start)).await;
    let all = bytes.clone();
    let plain = Source::start(move |_| Script::whole(&all)).await;
    assert_copied(&stage, &ended(&sled, hash, &[&dying.url, &plain.url]).await, &bytes).await;
}

#[tokio::test]
async fn a_good_source_wins_over_liars_of_every_kind_in_any_order() {
    let bytes = varied(100_000, 1);
    let hash = hash_of(&bytes);
    type Lie = Box<dyn Fn() -> Script + Send + Sync>;
    let liars: Vec<(&str, Lie)> = vec![
        ("other bytes", Box::new(|| Script::whole(&varied(100_000, 2)))),
        ("too short", Box::new(|| Script::whole(&varied(10, 2)))),
        ("too long", Box::new(|| Script::whole(&varied(200_000, 2)))),
        ("nothing", Box::new(|| Script::whole(b""))),
        ("half of other bytes", Box::new(|| Script::announcing(100_000, &varied(50_000, 2)))),
        ("half of a shorter one", Box::new(|| Script::announcing(20_000, &varied(10_000, 2)))),
        ("half of a longer one", Box::new(|| Script::announcing(200_000, &varied(150_000, 2)))),
        ("more than an artifact may have", Box::new(|| Script::announcing(1 << 40, &varied(10_000, 2)))),
        ("more than there is room for", Box::new(|| Script::announcing(1_900_000, &varied(10_000, 2)))),
        ("no end", Box::new(Script::endless)),
        ("a range that nobody asked for", Box::new(|| Script::rest(&varied(100_000, 2), 7))),
    ];
    let config = "artifacts.artifact_bytes_max = 2000000";
    for (kind, lie) in liars {
        let liar = Source::start(move |_| lie()).await;
        let good = Source::honest(&bytes).await;
        let (stage, sled) = sled_with_room(&[hash], config, 1_000_000).await;
        let job = ended(&sled, hash, &[&liar.url, &good.url]).await;
        assert_eq!(job["state"], "succeeded", "after {kind}: {job}");
        assert_copied(&stage, &job, &bytes).await;
    }
}

/// A lone sled whose disks have room for so many bytes.
async fn sled_with_room(artifacts: &[ArtifactHash], config: &str, bytes: u64) -> (Stage, Api) {
    let more = crate::stage::toml(&format!("coordinators = []\n{config}"));
    let stage = Stage::with(|builder| builder.sleds(1).agent_config(more).m2_quota_bytes(bytes)).await;
    let sled = stage.sled().await;
    want(&sled, Uuid::from_u128(1), 3, artifacts).await;
    (stage, sled)
}

#[tokio::test]
async fn a_source_without_an_end_is_left_at_the_limit() {
    let hash = hash_of(b"wanted");
    let (stage, sled) = sled_with(&[hash], "artifacts.artifact_bytes_max = 1000000").await;
    let endless = Source::start(|_| Script::endless()).await;
    let job = ended(&sled, hash, &[&endless.url]).await;
    assert_failed(&stage, &sled, &job).await;
    assert!(job["bytes_done"].as_u64() <= Some(1_000_000), "{job}");
}

#[tokio::test]
async fn an_artifact_for_which_there_is_no_room_fails_the_job_as_that() {
    let bytes = varied(100_000, 1);
    let hash = hash_of(&bytes);
    let (_stage, sled) = sled_with_room(&[hash], "", 50_000).await;
    let source = Source::honest(&bytes).await;
    let job = ended(&sled, hash, &[&source.url]).await;
    assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!("no_space")), "{job}");
}

#[tokio::test]
async fn asking_again_joins_the_job_and_cancelling_ends_it() {
    let bytes = varied(BYTES, 1);
    let hash = hash_of(&bytes);
    let (stage, sled) = sled_that_wants(&[hash]).await;
    let start = bytes[..100_000].to_vec();
    let slow = Source::start(move |_| Script::announcing(BYTES as u64, &start).then_hang()).await;
    let request = json!({"sources": [slow.url]});
    let id = copy(&sled, hash, &request).await.ok()["job_id"].as_str().unwrap().to_owned();
    assert_eq!(copy(&sled, hash, &request).await.ok()["job_id"], id);
    let path = format!("/artifact-jobs/{id}");
    let moving = async || {
        let job = sled.get(&path).await.ok();
        if job["state"] == "running" && job["bytes_done"] == 100_000 { Ok(job) } else { Err(job.to_string()) }
    };
    let job = wait_for("the first bytes", LIMIT, moving).await.unwrap();
    assert_eq!((&job["bytes_total"], &job["source"]), (&json!(BYTES), &json!(slow.url)));
    let waited = std::time::Instant::now();
    assert_eq!(sled.get(&format!("{path}?wait_ms=300")).await.ok()["state"], "running");
    assert!(waited.elapsed() >= std::time::Duration::from_millis(300), "the long poll was short");
    let poll = format!("{path}?wait_ms=20000");
    let (polled, cancelled) = tokio::join!(sled.get(&poll), sled.delete(&path));
    assert_eq!(cancelled.status, 204);
    assert_eq!(
        (&polled.ok()["state"], &polled.ok()["error"]["code"]),
        (&json!("cancelled"), &json!("cancelled"))
    );
    assert_eq!(sled.delete(&path).await.status, 204, "what has ended stays as it is");
    assert_eq!(sled.get(&path).await.ok()["state"], "cancelled");
    wait_disks_empty(&stage).await;
    let good = Source::honest(&bytes).await;
    let again = ended(&sled, hash, &[&good.url]).await;
    assert_ne!(again["id"], id);
    assert_copied(&stage, &again, &bytes).await;
}

#[tokio::test]
async fn a_job_that_is_not_there_is_told_as_such() {
    let (_stage, sled) = sled_that_wants(&[]).await;
    let path = format!("/artifact-jobs/{}", Uuid::now_v7());
    assert_eq!(sled.get(&path).await.refusal(), (404, "job_not_found".to_owned()));
    assert_eq!(sled.get(&format!("{path}?wait_ms=20000")).await.refusal(), (404, "job_not_found".to_owned()));
    assert_eq!(sled.delete(&path).await.refusal(), (404, "job_not_found".to_owned()));
    assert_eq!(sled.get(&format!("{path}?wait_ms=-1")).await.refusal(), (400, "bad_request".to_owned()));
}

#[tokio::test]
async fn a_copy_that_is_no_longer_wanted_when_it_begins_is_cancelled() {
    let (first, second) = (varied(1_000, 1), varied(1_000, 2));
    let (one, two) = (hash_of(&first), hash_of(&second));
    let (_stage, sled) = sled_with(&[one, two], "artifacts.copies_at_once = 1").await;
    let hanging = Source::start(|_| Script::announcing(1_000, b"half").then_hang()).await;
    let busy = copy(&sled, one, &json!({"sources": [hanging.url]})).await.ok();
    let path = |accepted: &Value| format!("/artifact-jobs/{}", accepted["job_id"].as_str().unwrap());
    let begun = async || match sled.get(&path(&busy)).await.ok() {
        job if job["bytes_done"] == 4 => Ok(()),
        job => Err(job.to_string()),
    };
    wait_for("the first job to hold the only slot", LIMIT, begun).await.unwrap();
    let good = Source::honest(&second).await;
    let queued = copy(&sled, two, &json!({"sources": [good.url]})).await.ok();
    assert_eq!(sled.get(&path(&queued)).await.ok()["state"], "queued");
    want(&sled, Uuid::from_u128(1), 4, &[one]).await;
    assert_eq!(sled.delete(&path(&busy)).await.status, 204);
    let job = sled.get(&format!("{}?wait_ms=20000", path(&queued))).await.ok();
    assert_eq!(job["state"], "cancelled", "{job}");
    assert_eq!(listed(&sled).await, [""; 0]);
}
