//! `/regions` of a sled: what is made, once, and what is refused and leaves everything as it was.

use crate::{
    call::{Api, Reply},
    stage::{LIMIT, Stage, toml},
};
use camino_tempfile::Utf8TempDir;
use serde_json::{Value, json};
use std::{fs, process::Command};
use testbed::wait_for;
use uuid::Uuid;

/// A sled with a disk for regions that is served.
struct Site {
    stage: Stage,
    sled: Api,
    disk: Uuid,
    temp: Utf8TempDir,
}

impl Site {
    async fn new() -> Site {
        let temp = Utf8TempDir::new().expect("a directory for the test");
        let (disk, dir) = (Uuid::now_v7(), temp.path().join("disk"));
        fs::create_dir(&dir).expect("it is made");
        let program =
            testbed::binaries::beside_this_test().expect("the programs are built").join("sled-agent");
        let prepared = Command::new(program).args(["disk", "prepare", dir.as_str()]).status();
        assert!(prepared.expect("it runs").success());
        let config = toml(&format!(
            "coordinators = []\ndisks = [{{ id = '{disk}', name = 'disk-0', dir = '{dir}' }}]"
        ));
        let stage = Stage::with(|builder| builder.sleds(1).agent_config(config)).await;
        let sled = stage.sled().await;
        let site = Site { stage, sled, disk, temp };
        site.is_served().await;
        site
    }

    async fn is_served(&self) {
        let look = async || match self.sled.get("/disks").await.ok()["disks"][0]["downstairs"].take() {
            served if served["state"] == "running" => Ok(()),
            other => Err(other),
        };
        wait_for("the disk to be served", LIMIT, look).await.expect("it is served");
    }

    /// A region that is to be filled: 1 MiB.
    fn request(&self) -> Value {
        json!({
            "executor_epoch": 5, "disk_id": self.disk, "volume_id": Uuid::now_v7(), "region_set_id": Uuid::now_v7(),
            "block_size": 512, "blocks_per_extent": 256, "extent_count": 8, "encrypted": false
        })
    }

    async fn put(&self, id: Uuid, request: &Value) -> Reply {
        self.sled.put(&format!("/regions/{id}"), request.to_string()).await
    }

    async fn delete(&self, id: Uuid, executor_epoch: u64) -> Reply {
        self.sled.delete(&format!("/regions/{id}?executor_epoch={executor_epoch}")).await
    }

    async fn get(&self, id: Uuid) -> Reply {
        self.sled.get(&format!("/regions/{id}")).await
    }

    /// What a refusal must leave alone.
    async fn standing(&self) -> (Value, usize, Value) {
        let entries = fs::read_dir(self.temp.path().join("disk")).expect("it is there").count();
        let space = self.sled.get("/disks").await.ok()["disks"][0]["space"]["reserved"].take();
        (self.sled.get("/regions").await.ok(), entries, space)
    }
}

/// With this key changed, or without it.
fn with(request: &Value, key: &str, value: Value) -> Value {
    let mut changed = request.clone();
    changed[key] = value;
    changed
}

fn refusal(status: u16, code: &str) -> (u16, String) {
    (status, code.to_owned())
}

#[tokio::test]
async fn a_region_is_made_once_and_destroyed_once_however_often_that_is_asked() {
    let site = Site::new().await;
    let (id, request) = (Uuid::now_v7(), site.request());
    assert_eq!(site.get(id).await.refusal(), refusal(404, "region_not_found"));
    site.delete(id, 1).await.ok_empty();
    let made = site.put(id, &request).await.ok();
    assert_eq!(
        (&made["state"], &made["size"], &made["executor_epoch"]),
        (&json!("created"), &json!(1 << 20), &json!(5))
    );
    assert!(made["address"].as_str().expect("an address").ends_with(":12400"), "{made}");
    let incarnation = made["incarnation"].as_u64().expect("a number");
    let file = site.temp.path().join(format!("disk/{id}/data/{id}.region"));
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&file).expect("it is there"));
    let first = inode();
    assert_eq!(site.put(id, &request).await.ok(), made);
    assert_eq!(site.put(id, &with(&request, "incarnation", incarnation.into())).await.ok(), made);
    assert_eq!((site.get(id).await.ok(), inode()), (made.clone(), first), "it was not made again");
    assert_eq!(site.sled.get("/regions").await.ok(), json!({"items": [made], "next_page": null}));
    let reserved = site.sled.get("/disks").await.ok()["disks"][0]["space"]["reserved"].take();
    assert_eq!(reserved, made["reserved"]);

    // All of it outlives the agent, and so does what a newer coordinator has asked for.
    assert_eq!(site.put(id, &with(&request, "executor_epoch", 7.into())).await.ok()["executor_epoch"], 7);
    site.stage.cluster.kill("sled-a", testbed::KillScope::WholeSled).await.expect("it is killed");
    site.stage.cluster.restart("sled-a").await.expect("it starts");
    site.is_served().await;
    assert_eq!(site.put(id, &request).await.refusal(), refusal(409, "stale_epoch"));
    assert_eq!(site.delete(id, 6).await.refusal(), refusal(409, "stale_epoch"));
    assert_eq!(site.get(id).await.ok(), with(&made, "executor_epoch", 7.into()));

    for _ in 0..2 {
        site.delete(id, 8).await.ok_empty();
    }
    let gone = site.get(id).await.ok();
    assert_eq!(
        (&gone["state"], &gone["address"], &gone["reserved"]),
        (&json!("destroyed"), &Value::Null, &json!(0))
    );
    assert_eq!(
        site.standing().await,
        (json!({"items": [], "next_page": null}), 3, json!(0)),
        "mark, lock and the socket at which clones are ordered"
    );
    let again = with(&request, "executor_epoch", 8.into());
    assert_eq!(site.put(id, &request).await.refusal(), refusal(409, "stale_epoch"));
    for incarnation in [Value::Null, 1.into(), incarnation.into()] {
        let again = with(&again, "incarnation", incarnation);
        assert_eq!(site.put(id, &again).await.refusal(), refusal(409, "region_destroyed"));
    }
    let next = with(&again, "incarnation", (incarnation + 1).into());
    assert_eq!(site.put(id, &next).await.ok()["incarnation"], incarnation + 1);
    site.delete(id, 8).await.ok_empty();
}

#[tokio::test]
async fn what_is_no_region_or_not_this_one_is_refused_and_changes_nothing() {
    let site = Site::new().await;
    let (id, other, request) = (Uuid::now_v7(), Uuid::now_v7(), site.request());
    site.put(id, &request).await.ok();
    let before = site.standing().await;
    for (key, value) in [
        ("disk_id", json!("x")),
        ("block_size", json!("512")),
        ("extent_count", json!(-1)),
        ("executor_epoch", Value::Null),
        ("encrypted", json!(0)),
        ("no_such_key", json!(1)),
        ("source", json!("127.0.0.1:12400")),
        ("members", json!([{"region_id": other}])),
        ("members", json!([{"region_id": other, "incarnation": 1, "address": "127.0.0.1:1"}])),
    ] {
        let bad = with(&request, key, value);
        assert_eq!(site.put(other, &bad).await.refusal(), refusal(400, "bad_json"), "{bad}");
    }
    let member = |id: Uuid, incarnation: u64| json!({"region_id": id, "incarnation": incarnation});
    let many: Vec<Value> = (0..8).map(|_| member(Uuid::now_v7(), 1)).chain([member(other, 1)]).collect();
    for (key, value) in [
        ("executor_epoch", json!(0)),
        ("executor_epoch", json!(1_u64 << 53)),
        ("block_size", json!(1024)),
        ("block_size", json!(0)),
        ("blocks_per_extent", json!(0)),
        ("extent_count", json!(0)),
        ("extent_count", json!(u64::MAX)),
        ("extent_count", json!(1_u64 << 26)),
        ("incarnation", json!(0)),
        ("incarnation", json!(1_u64 << 53)),
        ("members", json!([member(Uuid::now_v7(), 1)])),
        ("members", json!([member(other, 0)])),
        ("members", json!([member(other, 1), member(other, 2)])),
        ("members", json!(many)),
    ] {
        let bad = with(&request, key, value);
        assert_eq!(site.put(other, &bad).await.refusal(), refusal(400, "bad_region"), "{bad}");
    }
    let two = with(&with(&request, "incarnation", 2.into()), "members", json!([member(other, 1)]));
    assert_eq!(site.put(other, &two).await.refusal(), refusal(400, "bad_region"));
    let from = json!({"region_id": Uuid::now_v7(), "incarnation": 1, "address": "127.0.0.1:12400"});
    let source = |members: Value| json!({"snapshot_id": Uuid::now_v7(), "members": members});
    let read_only = with(&request, "read_only", json!(true));
    let itself = json!([{"region_id": other, "incarnation": 1, "address": "127.0.0.1:12400"}]);
    for bad in [
        read_only.clone(),
        with(&request, "source", source(json!([from]))),
        with(&read_only, "source", source(json!([]))),
        with(&read_only, "source", source(json!([from, from]))),
        with(&read_only, "source", source(itself)),
        with(&with(&read_only, "source", source(json!([from]))), "members", json!([member(other, 1)])),
    ] {
        assert_eq!(site.put(other, &bad).await.refusal(), refusal(400, "bad_region"), "{bad}");
    }
    let elsewhere = with(&request, "disk_id", json!(Uuid::now_v7()));
    assert_eq!(site.put(other, &elsewhere).await.refusal(), refusal(404, "disk_not_found"));
    let huge = with(&request, "extent_count", json!(1_u64 << 24));
    assert_eq!(site.put(other, &huge).await.refusal(), refusal(507, "no_space"));
    // The id that is there, with anything else.
    for (key, value) in [
        ("volume_id", json!(Uuid::now_v7())),
        ("region_set_id", json!(Uuid::now_v7())),
        ("block_size", json!(4096)),
        ("blocks_per_extent", json!(128)),
        ("extent_count", json!(4)),
        ("encrypted", json!(true)),
        ("incarnation", json!(1)),
    ] {
        let refused = site.put(id, &with(&request, key, value)).await;
        assert_eq!(refused.refusal(), refusal(409, "region_conflict"));
        assert!(refused.problem().detail.contains(key), "{}", refused.problem());
    }
    let path = format!("/regions/{id}");
    assert_eq!(site.sled.put("/regions/x", request.to_string()).await.refusal(), refusal(400, "bad_request"));
    assert_eq!(site.sled.delete(&path).await.refusal(), refusal(400, "bad_request"));
    assert_eq!(
        site.sled.delete(&format!("{path}?executor_epoch=0")).await.refusal(),
        refusal(400, "bad_region")
    );
    assert_eq!(
        site.sled.delete(&format!("{path}?executor_epoch=9&force=1")).await.refusal(),
        refusal(400, "bad_request")
    );
    for refused in [site.put(id, &with(&request, "executor_epoch", 4.into())).await, site.delete(id, 4).await]
    {
        assert_eq!(refused.refusal(), refusal(409, "stale_epoch"));
    }
    let stranger = site.sled.with_token(None);
    assert_eq!(stranger.put(&path, request.to_string()).await.refusal(), refusal(401, "unauthorized"));
    assert_eq!(
        stranger.delete(&format!("{path}?executor_epoch=9")).await.refusal(),
        refusal(401, "unauthorized")
    );
    assert_eq!(site.get(other).await.refusal(), refusal(404, "region_not_found"));
    assert_eq!(site.standing().await, before);
}

#[tokio::test]
async fn regions_are_listed_in_pages_and_a_disk_that_is_away_is_said() {
    let site = Site::new().await;
    let mut ids: Vec<Uuid> = Vec::new();
    for _ in 0..3 {
        ids.push(Uuid::now_v7());
        site.put(ids[ids.len() - 1], &site.request()).await.ok();
    }
    let (mut seen, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = site.sled.get(&format!("/regions{query}")).await.ok();
        seen.extend(page["items"].as_array().expect("a list").iter().map(|region| region["id"].clone()));
        let Some(next) = page["next_page"].as_str() else { break };
        query = format!("?limit=2&page_token={next}");
    }
    assert_eq!(json!(seen), json!(ids));
    assert_eq!(site.sled.get("/regions?limit=0").await.refusal(), refusal(400, "bad_request"));
    assert_eq!(site.sled.get("/regions?page_token=7b7d").await.refusal(), refusal(400, "bad_page_token"));
    // As if it were not mounted.
    let (disk, away) = (site.temp.path().join("disk"), site.temp.path().join("away"));
    fs::rename(&disk, &away).expect("it is moved");
    fs::create_dir(&disk).expect("the place is there");
    let told = site.get(ids[0]).await.ok();
    assert_eq!((&told["state"], &told["used"]), (&json!("created"), &Value::Null), "nobody knows better");
    assert!(told["reason"].as_str().expect("it says why").contains("is not there"), "{told}");
    assert_eq!(site.sled.get("/disks").await.ok()["disks"][0]["health"], "missing");
    for refused in [site.put(Uuid::now_v7(), &site.request()).await, site.delete(ids[0], 9).await] {
        assert_eq!(refused.refusal(), refusal(503, "disk_unusable"));
    }
    assert_eq!(fs::read_dir(&disk).expect("it is there").count(), 0, "nothing is made where no disk is");
    fs::remove_dir(&disk).expect("it is empty");
    fs::rename(&away, &disk).expect("it is moved back");
    for id in ids {
        site.delete(id, 9).await.ok_empty();
    }
}

#[tokio::test]
async fn a_call_that_was_on_its_way_makes_nothing_of_what_is_given_up_and_takes_no_right_back() {
    let site = Site::new().await;
    let (never, id, request) = (Uuid::now_v7(), Uuid::now_v7(), site.request());
    site.put(id, &request).await.ok();
    let before = site.standing().await;
    // One region is destroyed before its PUT has come, the other one refused to somebody newer.
    site.delete(never, 8).await.ok_empty();
    let newer = with(&with(&request, "executor_epoch", 8.into()), "extent_count", 4.into());
    assert_eq!(site.put(id, &newer).await.refusal(), refusal(409, "region_conflict"));
    site.stage.cluster.kill("sled-a", testbed::KillScope::WholeSled).await.expect("it is killed");
    site.stage.cluster.restart("sled-a").await.expect("it starts");
    site.is_served().await;
    for late in [never, id] {
        assert_eq!(site.put(late, &request).await.refusal(), refusal(409, "stale_epoch"));
        assert_eq!(site.delete(late, 7).await.refusal(), refusal(409, "stale_epoch"));
    }
    let of_the_same = with(&request, "executor_epoch", 8.into());
    let refused = site.put(never, &of_the_same).await;
    assert_eq!(refused.refusal(), refusal(409, "region_destroyed"));
    assert!(refused.problem().detail.contains("before it was made"), "{}", refused.problem());
    assert_eq!(site.get(never).await.refusal(), refusal(404, "region_not_found"));
    let (regions, entries, reserved) = site.standing().await;
    assert_eq!((&regions["items"][0]["executor_epoch"], &regions["items"][1]), (&json!(8), &Value::Null));
    assert_eq!((entries, reserved), (before.1, before.2));
    // Who is newer than both makes it.
    assert_eq!(site.put(never, &with(&request, "executor_epoch", 9.into())).await.ok()["state"], "created");
    site.delete(never, 9).await.ok_empty();
    site.delete(id, 8).await.ok_empty();
}

#[tokio::test]
async fn a_region_whose_set_is_not_said_is_of_the_one_that_has_its_volumes_id() {
    let site = Site::new().await;
    let (id, mut request) = (Uuid::now_v7(), site.request());
    request.as_object_mut().expect("an object").remove("region_set_id");
    let made = site.put(id, &request).await.ok();
    assert_eq!((&made["region_set_id"], &made["state"]), (&request["volume_id"], &json!("created")));
    for said in [Value::Null, request["volume_id"].clone()] {
        assert_eq!(site.put(id, &with(&request, "region_set_id", said)).await.ok(), made);
    }
    let other = with(&request, "region_set_id", json!(Uuid::now_v7()));
    assert_eq!(site.put(id, &other).await.refusal(), refusal(409, "region_conflict"));
    site.delete(id, 5).await.ok_empty();
}
