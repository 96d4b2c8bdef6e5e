//! Artifacts on a sled: how it gets them by PUT, how it loses them, how it looks at them.

use crate::{
    call::{Api, Reply},
    source::{hash_of, varied},
    stage::{LIMIT, Stage, bytes_below, toml},
    wire::Wire,
};
use ids::ArtifactHash;
use serde_json::{Value, json};
use testbed::{KillScope, wait_for};
use uuid::Uuid;

/// A lone sled whose config of generation 3 wants these.
pub(crate) async fn sled_that_wants(artifacts: &[ArtifactHash]) -> (Stage, Api) {
    sled_with(artifacts, "").await
}

/// The same, with more of an agent's config.
pub(crate) async fn sled_with(artifacts: &[ArtifactHash], config: &str) -> (Stage, Api) {
    let more = toml(&format!("coordinators = []\n{config}"));
    let stage = Stage::with(|builder| builder.sleds(1).agent_config(more)).await;
    let sled = stage.sled().await;
    want(&sled, Uuid::from_u128(1), 3, artifacts).await;
    (stage, sled)
}

/// Puts a config.
pub(crate) async fn want(sled: &Api, cluster: Uuid, generation: u64, artifacts: &[ArtifactHash]) {
    let config = json!({"cluster_id": cluster, "generation": generation, "artifacts": artifacts});
    sled.put("/artifacts-config", config.to_string()).await.ok();
}

async fn put(sled: &Api, hash: ArtifactHash, generation: u64, bytes: &[u8]) -> Reply {
    sled.put(&format!("/artifacts/{hash}?generation={generation}"), bytes.to_vec()).await
}

/// Bytes of artifacts on both M.2s, whole or half, wanted or not. The store's own two files do not count.
pub(crate) fn bytes_on_disks(stage: &Stage) -> u64 {
    let of_disk = |m2| {
        let disk = stage.cluster.directory().m2_dir("sled-a", m2);
        let rooms = ["artifacts", "tmp", "trash", "quarantine"].map(|room| disk.join(room));
        rooms.iter().filter(|room| room.exists()).map(|room| bytes_below(room)).sum::<u64>()
    };
    ["m2-0", "m2-1"].map(of_disk).iter().sum()
}

/// Waits until nothing is on the disks.
pub(crate) async fn wait_disks_empty(stage: &Stage) {
    let look = async || match bytes_on_disks(stage) {
        0 => Ok(()),
        bytes => Err(format!("{bytes} bytes")),
    };
    wait_for("the disks to be empty", LIMIT, look).await.expect("nothing is kept");
}

/// The names of what the sled lists.
pub(crate) async fn listed(sled: &Api) -> Vec<String> {
    let list = sled.get("/artifacts").await.ok();
    list["list"].as_object().expect("a list").keys().cloned().collect()
}

#[tokio::test]
async fn an_artifact_that_is_wanted_is_put_on_both_disks() {
    let bytes = varied(100_000, 1);
    let hash = hash_of(&bytes);
    let (stage, sled) = sled_that_wants(&[hash]).await;
    for _ in 0..2 {
        let result = put(&sled, hash, 3, &bytes).await.ok();
        assert_eq!(result, json!({"datasets": 2, "successful_writes": 2}));
    }
    let held = &sled.get("/artifacts").await.ok()["list"][hash.to_string()];
    assert_eq!((&held["copies"], &held["size"]), (&json!(2), &json!(100_000)));
    assert_eq!(stage.depot().await.get(&format!("/artifact/sha256/{hash}")).await.body, bytes);
}

#[tokio::test]
async fn an_empty_artifact_is_one_too() {
    let hash = hash_of(b"");
    let (stage, sled) = sled_that_wants(&[hash]).await;
    assert_eq!(put(&sled, hash, 3, b"").await.ok()["successful_writes"], 2);
    let depot = stage.depot().await;
    let whole = depot.get(&format!("/artifact/sha256/{hash}")).await;
    assert_eq!((whole.status, whole.header("content-length")), (200, Some("0")));
}

#[tokio::test]
async fn what_is_not_wanted_not_meant_or_not_the_artifact_is_refused_and_not_kept() {
    let (wanted, stranger) = (varied(50_000, 1), varied(50_000, 2));
    let (hash, other) = (hash_of(&wanted), hash_of(&stranger));
    let (stage, sled) = sled_that_wants(&[hash]).await;
    assert_eq!(put(&sled, other, 3, &stranger).await.refusal(), (409, "not_in_config".to_owned()));
    for generation in [0, 2, 4] {
        assert_eq!(
            put(&sled, hash, generation, &wanted).await.refusal(),
            (409, "config_generation".to_owned())
        );
    }
    let mismatch = put(&sled, hash, 3, &stranger).await;
    assert_eq!(mismatch.refusal(), (400, "digest_mismatch".to_owned()));
    let detail = mismatch.problem().detail;
    assert!(detail.contains(&hash.to_string()) && detail.contains(&other.to_string()), "{detail}");
    assert_eq!(put(&sled, hash, 3, &wanted[..49_999]).await.refusal().1, "digest_mismatch");
    for query in ["", "?generation=x", "?generation=-1"] {
        let reply = sled.put(&format!("/artifacts/{hash}{query}"), wanted.clone()).await;
        assert_eq!(reply.refusal(), (400, "bad_request".to_owned()), "{query}");
    }
    assert_eq!(listed(&sled).await, [""; 0]);
    wait_disks_empty(&stage).await;
}

#[tokio::test]
async fn refusals_that_need_no_byte_ask_for_none() {
    let hash = hash_of(b"wanted");
    let (_stage, sled) = sled_with(&[hash], "artifacts.artifact_bytes_max = 1000").await;
    for (path, length, code) in [
        (format!("/artifacts/{hash}?generation=3"), 1001, "body_too_large"),
        (format!("/artifacts/{hash}?generation=2"), 6, "config_generation"),
        (format!("/artifacts/{}?generation=3", "00".repeat(32)), 6, "not_in_config"),
        (format!("/artifacts/{hash}"), 6, "bad_request"),
    ] {
        let mut wire = Wire::connect(sled.address()).await;
        let lines = format!("content-length: {length}\r\nexpect: 100-continue\r\n{}", sled.authorization());
        wire.send(format!("PUT {path} HTTP/1.1\r\nhost: x\r\n{lines}\r\n")).await;
        assert_eq!(wire.answer().await.code(), code, "{path}");
    }
    let chunks = futures::stream::iter((0..2).map(|_| Ok::<_, std::io::Error>(vec![0u8; 600])));
    let endless =
        sled.put(&format!("/artifacts/{hash}?generation=3"), reqwest::Body::wrap_stream(chunks)).await;
    assert_eq!(endless.refusal(), (413, "body_too_large".to_owned()));
}

#[tokio::test]
async fn a_sender_that_goes_away_leaves_nothing() {
    let bytes = varied(200_000, 1);
    let hash = hash_of(&bytes);
    let (stage, sled) = sled_that_wants(&[hash]).await;
    let faults = stage.cluster.fault_client("sled-a").unwrap();
    faults.hold("artifact.put_piece", 0).await.unwrap();
    let mut wire = Wire::connect(sled.address()).await;
    let lines = format!("content-length: {}\r\n{}", bytes.len(), sled.authorization());
    wire.send(format!("PUT /artifacts/{hash}?generation=3 HTTP/1.1\r\nhost: x\r\n{lines}\r\n")).await;
    wire.send(&bytes[..100_000]).await;
    tokio::time::timeout(LIMIT, faults.wait_held("artifact.put_piece")).await.unwrap().unwrap();
    drop(wire);
    faults.release("artifact.put_piece").await.unwrap();
    wait_disks_empty(&stage).await;
    assert_eq!(put(&sled, hash, 3, &bytes).await.ok()["successful_writes"], 2);
}

#[tokio::test]
async fn an_artifact_for_which_there_is_no_room_is_refused_before_it_is_sent() {
    let bytes = varied(100_000, 1);
    let hash = hash_of(&bytes);
    let stage = Stage::lone_sled(|builder| builder.m2_quota_bytes(50_000)).await;
    let sled = stage.sled().await;
    want(&sled, Uuid::from_u128(1), 3, &[hash]).await;
    let mut wire = Wire::connect(sled.address()).await;
    let lines = format!("content-length: 100000\r\nexpect: 100-continue\r\n{}", sled.authorization());
    wire.send(format!("PUT /artifacts/{hash}?generation=3 HTTP/1.1\r\nhost: x\r\n{lines}\r\n")).await;
    let problem = wire.answer().await.problem();
    assert_eq!((problem.status, problem.code.as_str()), (507, "no_space"));
    assert!(problem.detail.contains("100000"), "{problem}");
    assert_eq!(put(&sled, hash, 3, &bytes).await.refusal(), (507, "no_space".to_owned()));
    assert_eq!(listed(&sled).await, [""; 0]);
}

#[tokio::test]
async fn what_the_config_wants_is_not_deleted_and_what_is_not_there_is_deleted_already() {
    let bytes = varied(1_000, 1);
    let hash = hash_of(&bytes);
    let (stage, sled) = sled_that_wants(&[hash]).await;
    put(&sled, hash, 3, &bytes).await.ok();
    let path = format!("/artifacts/{hash}");
    let delete = async |generation: u64| sled.delete(&format!("{path}?generation={generation}")).await;
    assert_eq!(delete(3).await.refusal(), (409, "artifact_wanted".to_owned()));
    want(&sled, Uuid::from_u128(1), 4, &[]).await;
    assert_eq!(delete(3).await.refusal(), (409, "config_generation".to_owned()));
    let depot = stage.depot().await;
    for _ in 0..2 {
        assert_eq!(delete(4).await.status, 204);
    }
    let read = depot.get(&format!("/artifact/sha256/{hash}")).await;
    assert_eq!(read.refusal(), (404, "artifact_not_found".to_owned()));
    let list = sled.get("/artifacts").await.ok();
    assert_eq!((&list["orphan_bytes"], &list["list"]), (&json!(0), &json!({})));
    assert_eq!(list["trash_bytes"], 2_000, "it goes to the trash first");
}

#[tokio::test]
async fn a_scrub_is_accepted_and_finds_what_has_rotted() {
    let bytes = varied(100_000, 1);
    let hash = hash_of(&bytes);
    let (stage, sled) = sled_that_wants(&[hash]).await;
    put(&sled, hash, 3, &bytes).await.ok();
    let scrubbed = async || {
        let accepted = sled.post("/artifacts/scrub", "").await;
        assert_eq!(accepted.status, 202);
        let look = async || {
            let scrub = sled.get("/artifacts").await.ok()["scrub"].clone();
            let ended = scrub["running"] == false && !scrub["finished_at"].is_null();
            if ended { Ok(scrub) } else { Err(scrub.to_string()) }
        };
        wait_for("the scrub to end", LIMIT, look).await.unwrap()
    };
    let clean = scrubbed().await;
    assert_eq!(
        (&clean["corrupt"], &clean["bytes_done"], &clean["bytes_total"]),
        (&json!(0), &json!(200_000), &json!(200_000))
    );
    let disk = testbed::DiskName::parse("sled-a/m2-0").unwrap();
    stage.cluster.disk_fault(&disk, testbed::DiskFault::Corrupt { count: 1, seed: 1 }).await.unwrap();
    let found = async || {
        scrubbed().await;
        let list = sled.get("/artifacts").await.ok();
        let quarantined = list["quarantined"].as_array().map_or(0, Vec::len);
        let copies = list["list"][hash.to_string()]["copies"].as_u64();
        if quarantined == 1 && copies == Some(2) { Ok(()) } else { Err(list.to_string()) }
    };
    wait_for("the rotten copy to be set aside and replaced", LIMIT, found).await.unwrap();
}

#[tokio::test]
async fn inventory_and_disks_say_what_the_sled_is_and_has() {
    let (stage, sled) = sled_that_wants(&[]).await;
    let inventory = sled.get("/inventory").await.ok();
    assert_eq!((&inventory["name"], &inventory["agent_epoch"]), (&json!("sled-a"), &json!(1)));
    let disks = sled.get("/disks").await.ok();
    assert_eq!(
        disks,
        json!({ "items": inventory["datasets"], "disks": inventory["disks"], "next_page": null })
    );
    let names: Vec<&Value> = disks["items"].as_array().unwrap().iter().map(|disk| &disk["name"]).collect();
    assert_eq!(names, ["m2-0", "m2-1"]);
    stage.cluster.kill("sled-a", KillScope::WholeSled).await.unwrap();
    stage.cluster.restart("sled-a").await.unwrap();
    let after = sled.get("/inventory").await.ok();
    assert_eq!((&after["sled_id"], &after["agent_epoch"]), (&inventory["sled_id"], &json!(2)));
}
