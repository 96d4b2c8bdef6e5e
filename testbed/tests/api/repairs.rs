//! What Upstairs tell of repairs: what is taken, what is refused, and what operators are shown of it.

use crate::{call::Reply, stage::Stage};
use nexus_client::{ClientOptions, SledFacingClient, repairs::RepairNotice};
use serde_json::{Value, json};
use uuid::Uuid;

/// Which notice.
const KINDS: [&str; 3] = ["start", "progress", "finish"];

/// A notice of each kind that is fine, of one repair.
struct Story {
    repair: Value,
}

impl Story {
    fn of(volume: Uuid) -> Story {
        Story {
            repair: json!({
                "id": Uuid::now_v7(), "volume_id": volume, "region_set_id": Uuid::now_v7(),
                "region": {"region_id": Uuid::now_v7(), "incarnation": 2},
                "replaces": {"region_id": Uuid::now_v7(), "incarnation": 1}, "bytes": 1 << 20,
            }),
        }
    }

    fn volume(&self) -> String {
        self.repair["volume_id"].as_str().expect("an id").to_owned()
    }

    fn notice(&self, kind: &str) -> Value {
        let sequence = KINDS.iter().position(|one| *one == kind).expect("a kind") + 1;
        let mut notice = json!({
            "repair": self.repair,
            "stamp": {"epoch": 5, "sequence": sequence, "config_version": 3, "told_at": "2026-11-20T12:00:00Z"},
        });
        let more = match kind {
            "start" => json!({"why": "replaces_leaving"}),
            "progress" => json!({"phase": "copying", "bytes_done": 4_096, "waits": ["disk_room"]}),
            _ => json!({"outcome": "completed"}),
        };
        for (key, value) in more.as_object().expect("an object") {
            notice[key] = value.clone();
        }
        notice
    }

    async fn tell(&self, stage: &Stage, kind: &str, change: impl FnOnce(&mut Value)) -> Reply {
        let mut notice = self.notice(kind);
        change(&mut notice);
        stage.internal.post(&format!("/volumes/{}/repair-{kind}", self.volume()), notice.to_string()).await
    }

    async fn shown(&self, stage: &Stage) -> Value {
        stage.operator.get(&format!("/v1/volumes/{}/repairs", self.volume())).await.ok()["items"].clone()
    }
}

#[tokio::test]
async fn what_is_told_is_shown_whatever_is_said_twice_or_late() {
    let stage = Stage::coordinator("").await;
    let story = Story::of(Uuid::now_v7());
    assert_eq!(story.shown(&stage).await, json!([]));
    for kind in ["finish", "progress", "finish", "start", "start", "progress"] {
        let reply = story.tell(&stage, kind, |_| {}).await;
        assert_eq!((reply.status, reply.body.len()), (204, 0), "{kind}");
    }
    let shown = story.shown(&stage).await;
    let (repair, one) = (&story.repair, &shown[0]);
    for (key, told) in repair.as_object().expect("an object") {
        assert_eq!(&one[key], told, "{key}");
    }
    for (key, value) in [
        ("state", json!("completed")),
        ("why", json!("replaces_leaving")),
        ("phase", json!("copying")),
        ("waits", json!(["disk_room"])),
        ("bytes_done", json!(1 << 20)),
        ("interrupted_by", Value::Null),
        ("finished_at", json!("2026-11-20T12:00:00Z")),
    ] {
        assert_eq!(one[key], value, "{key} of {one}");
    }
    assert_eq!(one["newest"]["sequence"], 3);
    let interrupted = Story::of(Uuid::now_v7());
    interrupted.tell(&stage, "progress", |_| {}).await.ok_empty();
    let running = interrupted.shown(&stage).await;
    assert_eq!((&running[0]["state"], &running[0]["bytes_done"]), (&json!("running"), &json!(4_096)));
    let end = |notice: &mut Value| {
        notice["outcome"] = json!("interrupted");
        notice["interrupted_by"] = json!("newer_epoch");
    };
    interrupted.tell(&stage, "finish", end).await.ok_empty();
    let shown = interrupted.shown(&stage).await;
    assert_eq!(
        (&shown[0]["state"], &shown[0]["interrupted_by"]),
        (&json!("interrupted"), &json!("newer_epoch"))
    );
}

#[tokio::test]
async fn the_typed_clients_say_and_read_the_same() {
    let stage = Stage::coordinator("").await;
    let story = Story::of(Uuid::now_v7());
    let options = |token: &str| ClientOptions { token: Some(token.to_owned()), ..ClientOptions::default() };
    let sled = SledFacingClient::new(&stage.internal.url, &options(&stage.tokens.sled)).expect("a client");
    for kind in KINDS {
        let notice: RepairNotice =
            serde_json::from_value(json!({kind: story.notice(kind)})).expect("it is one");
        sled.repair(&notice).await.expect("it is taken");
    }
    let operator = nexus_client::OperatorClient::new(&stage.operator.url, &options(&stage.tokens.operator))
        .expect("a client");
    let volume = story.volume().parse().expect("an id");
    let repairs = operator.volume_repairs(volume).await.expect("it is listed");
    assert_eq!(serde_json::to_value(repairs).expect("it is data"), story.shown(&stage).await);
}

#[tokio::test]
async fn what_is_no_notice_is_refused_by_name_and_not_noted() {
    let stage = Stage::coordinator("").await;
    let story = Story::of(Uuid::now_v7());
    let over = json!(1_u64 << 63);
    // Of every kind, then of one of them; the pointer to what is bad, and a word of the refusal.
    let everywhere = [
        ("/repair/bytes", json!(0), "bad_request", "counts from 1"),
        ("/repair/bytes", over.clone(), "bad_request", "size"),
        ("/repair/bytes", json!(-1), "bad_json", "-1"),
        ("/repair/region/incarnation", over.clone(), "bad_request", "incarnation"),
        ("/repair/region/incarnation", json!(-1), "bad_json", "-1"),
        ("/repair/replaces/incarnation", over.clone(), "bad_request", "replaced"),
        ("/repair/region", story.repair["replaces"].clone(), "bad_request", "place of itself"),
        ("/repair/id", json!("mine"), "bad_json", "UUID"),
        ("/repair/more", json!(1), "bad_json", "more"),
        ("/stamp/more", json!(1), "bad_json", "more"),
        ("/more", json!(1), "bad_json", "more"),
        ("/repair/region/more", json!(1), "bad_json", "more"),
        ("/stamp/sequence", json!(0), "bad_request", "sequence"),
        ("/stamp/sequence", over.clone(), "bad_request", "sequence"),
        ("/stamp/sequence", json!(-1), "bad_json", "-1"),
        ("/stamp/sequence", json!(1.5), "bad_json", "1.5"),
        ("/stamp/epoch", json!(0), "bad_request", "epoch"),
        ("/stamp/epoch", json!(1_u64 << 32), "bad_json", "4294967296"),
        ("/stamp/config_version", over.clone(), "bad_request", "config_version"),
        ("/stamp/told_at", json!("noon"), "bad_json", "year"),
    ];
    let of_one = [
        ("start", "/why", json!("boredom"), "bad_json", "replaces_gone, replaces_leaving, catches_up"),
        ("start", "/why", json!("unrecognized"), "bad_json", "the reason"),
        ("start", "/why", json!("catches_up"), "bad_request", "takes nobody's place"),
        ("progress", "/phase", json!("resting"), "bad_json", "making_durable"),
        ("progress", "/waits", json!(["list", "godot"]), "bad_json", "too_few_members"),
        ("progress", "/bytes_done", json!((1 << 20) + 1), "bad_request", "of 1048576"),
        ("progress", "/bytes_done", json!(u64::MAX), "bad_request", "of 1048576"),
        ("progress", "/bytes_done", json!(-1), "bad_json", "-1"),
        ("finish", "/outcome", json!("abandoned"), "bad_json", "completed, interrupted"),
        ("finish", "/outcome", json!("interrupted"), "bad_request", "interrupted_by"),
        ("finish", "/interrupted_by", json!("newer_epoch"), "bad_request", "leave `interrupted_by` out"),
        ("finish", "/interrupted_by", json!("lightning"), "bad_json", "member_dismissed"),
    ];
    let of_each = everywhere
        .iter()
        .flat_map(|(at, bad, code, words)| KINDS.map(|kind| (kind, *at, bad.clone(), *code, *words)));
    for (kind, at, bad, code, words) in of_each.chain(of_one) {
        let reply = story.tell(&stage, kind, |notice| set(notice, at, bad.clone())).await;
        assert_eq!(reply.refusal(), (400, code.to_owned()), "{kind} {at} {bad}");
        let detail = reply.problem().detail;
        assert!(detail.contains(words), "{kind} {at} {bad}: {detail}");
    }
    assert_eq!(story.shown(&stage).await, json!([]), "it was noted all the same");
}

/// Puts a value at a pointer, whose last key may be new.
fn set(notice: &mut Value, at: &str, value: Value) {
    let (object, key) = at.rsplit_once('/').expect("a pointer");
    notice.pointer_mut(object).expect("it is there")[key] = value;
}

#[tokio::test]
async fn another_volumes_path_too_long_a_body_and_other_tokens_are_refused() {
    let stage = Stage::coordinator("").await;
    let story = Story::of(Uuid::now_v7());
    let coordinator = stage.internal.with_token(Some(&stage.tokens.coordinator));
    for kind in KINDS {
        let notice = story.notice(kind).to_string();
        let elsewhere = Uuid::now_v7();
        let reply = stage.internal.post(&format!("/volumes/{elsewhere}/repair-{kind}"), notice.clone()).await;
        assert_eq!(reply.refusal(), (400, "bad_request".to_owned()), "{kind}");
        let detail = reply.problem().detail;
        assert!(detail.contains(&elsewhere.to_string()) && detail.contains(&story.volume()), "{detail}");
        let path = format!("/volumes/{}/repair-{kind}", story.volume());
        let long = format!("{}{notice}", " ".repeat(64 << 10));
        assert_eq!(stage.internal.post(&path, long).await.refusal(), (413, "body_too_large".to_owned()));
        for api in [&coordinator, &stage.internal.with_token(None)] {
            assert_eq!(api.post(&path, notice.clone()).await.refusal(), (401, "unauthorized".to_owned()));
        }
        // Operators have an API of their own, which knows no such call.
        assert_eq!(stage.operator.post(&path, notice).await.refusal(), (404, "no_such_route".to_owned()));
    }
    let path = format!("/v1/volumes/{}/repairs", story.volume());
    let sled = stage.operator.with_token(Some(&stage.tokens.sled));
    assert_eq!(sled.get(&path).await.refusal(), (403, "forbidden".to_owned()));
    assert_eq!(story.shown(&stage).await, json!([]), "it was noted all the same");
}

#[tokio::test]
async fn one_id_for_two_repairs_is_a_conflict_that_names_both() {
    let stage = Stage::coordinator("").await;
    let story = Story::of(Uuid::now_v7());
    story.tell(&stage, "start", |_| {}).await.ok_empty();
    let before = story.shown(&stage).await;
    for kind in KINDS {
        let other = Uuid::now_v7();
        let change = |notice: &mut Value| set(notice, "/repair/region/region_id", json!(other));
        let reply = story.tell(&stage, kind, change).await;
        assert_eq!(reply.refusal(), (409, "repair_conflict".to_owned()), "{kind}");
        let detail = reply.problem().detail;
        let ours = story.repair["region"]["region_id"].as_str().expect("an id");
        assert!(detail.contains(ours) && detail.contains(&other.to_string()), "{detail}");
    }
    let contrary = story.tell(&stage, "start", |notice| set(notice, "/why", json!("replaces_gone"))).await;
    assert_eq!(contrary.refusal(), (409, "repair_conflict".to_owned()));
    assert_eq!(story.shown(&stage).await, before);
}

#[tokio::test]
async fn repairs_are_pages_of_their_volume() {
    let stage = Stage::coordinator("").await;
    let volume = Uuid::now_v7();
    let mut ids = Vec::new();
    for _ in 0..5 {
        let story = Story::of(volume);
        story.tell(&stage, "start", |_| {}).await.ok_empty();
        ids.insert(0, story.repair["id"].clone());
    }
    let (mut walked, mut token) = (Vec::new(), String::new());
    loop {
        let page = stage.operator.get(&format!("/v1/volumes/{volume}/repairs?limit=2{token}")).await.ok();
        walked.extend(page["items"].as_array().expect("items").iter().map(|item| item["id"].clone()));
        let Some(next) = page["next_page"].as_str() else { break };
        token = format!("&page_token={next}");
    }
    assert_eq!(walked, ids, "newest first, each once");
    for (query, code) in [("limit=0", "bad_request"), ("page_token=00", "bad_page_token")] {
        let reply = stage.operator.get(&format!("/v1/volumes/{volume}/repairs?{query}")).await;
        assert_eq!(reply.refusal(), (400, code.to_owned()), "{query}");
    }
}
