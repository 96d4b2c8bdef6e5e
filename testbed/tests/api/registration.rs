//! Sleds that register: what the coordinator believes, and what it does not.

use crate::{
    call::{Api, Reply},
    stage::Stage,
};
use sample_release::SampleRelease;
use serde_json::{Value, json};
use uuid::Uuid;

/// A registration that is fine.
fn registration() -> Value {
    json!({
        "name": "ghost", "agent_epoch": 5, "address": "127.255.255.254",
        "agent_port": 1, "depot_port": 2, "artifacts_revision": 0,
    })
}

async fn register(stage: &Stage, id: Uuid, change: impl FnOnce(&mut Value)) -> Reply {
    let mut body = registration();
    change(&mut body);
    ghost(stage).put(&format!("/sleds/{id}"), body.to_string()).await
}

/// The sled-facing API as seen by a sled at the registration's address.
fn ghost(stage: &Stage) -> Api {
    stage.internal.called_from("127.255.255.254".parse().expect("an address"))
}

#[tokio::test]
async fn what_no_sled_can_be_is_refused_and_not_noted() {
    let stage = Stage::coordinator("").await;
    let id = Uuid::now_v7();
    let long = "x".repeat(64);
    for (key, bad) in [
        ("name", json!("")),
        ("name", json!(long)),
        ("name", json!("two words")),
        ("name", json!("a/b")),
        ("name", json!("\u{1b}[31m")),
        ("name", json!("é")),
        ("address", json!("0.0.0.0")),
        ("address", json!("::")),
        ("address", json!("224.0.0.1")),
        ("agent_port", json!(0)),
        ("depot_port", json!(0)),
        ("agent_epoch", json!(u64::MAX)),
        ("agent_epoch", json!(i64::MAX)),
        ("agent_epoch", json!((1_u64 << 32) + 1)),
    ] {
        let reply = register(&stage, id, |body| body[key] = bad.clone()).await;
        assert_eq!(reply.refusal(), (400, "bad_request".to_owned()), "{key} {bad}");
    }
    for (key, bad) in [
        ("address", json!("sled-a")),
        ("agent_port", json!(65536)),
        ("agent_epoch", json!(-1)),
        ("name", Value::Null),
    ] {
        let reply = register(&stage, id, |body| body[key] = bad.clone()).await;
        assert_eq!(reply.refusal(), (400, "bad_json".to_owned()), "{key} {bad}");
    }
    assert_eq!(stage.operator.get("/v1/sleds").await.ok()["items"], json!([]));
}

#[tokio::test]
async fn a_sled_serves_where_it_calls_from_and_nowhere_else() {
    let stage = Stage::coordinator("").await;
    let id = Uuid::now_v7();
    let path = format!("/sleds/{id}");
    let elsewhere = stage.internal.put(&path, registration().to_string()).await;
    assert_eq!(elsewhere.refusal(), (409, "sled_identity".to_owned()));
    assert!(elsewhere.problem().detail.contains("127.255.255.254"), "{:?}", elsewhere.problem());
    assert_eq!(stage.operator.get("/v1/sleds").await.ok()["items"], json!([]), "it was noted all the same");
    register(&stage, id, |_| {}).await.ok();
    // Its address cannot be taken over either, not even under a later epoch.
    let mut moved = registration();
    moved["agent_epoch"] = json!(6);
    assert_eq!(stage.internal.put(&path, moved.to_string()).await.refusal().0, 409);
    let shown = stage.operator.get(&format!("/v1/sleds/{id}")).await.ok();
    assert_eq!(shown["agent_url"], "http://127.255.255.254:1");
}

#[tokio::test]
async fn an_agent_that_tells_more_than_is_known_is_understood() {
    let stage = Stage::coordinator("").await;
    let reply = register(&stage, Uuid::now_v7(), |body| body["of_a_later_year"] = json!({"x": 1})).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn an_earlier_life_a_clone_and_an_expunged_sled_are_refused_each_under_its_code() {
    let stage = Stage::coordinator("").await;
    let id = Uuid::now_v7();
    let first = register(&stage, id, |_| {}).await.ok();
    assert_eq!(first["heartbeat_ms"].as_u64(), Some(1000));
    assert_eq!(
        register(&stage, id, |_| {}).await.ok(),
        first,
        "a heartbeat is answered like the registration"
    );
    let stale = register(&stage, id, |body| body["agent_epoch"] = json!(4)).await;
    assert_eq!(stale.refusal(), (409, "stale_epoch".to_owned()));
    let clone = register(&stage, id, |body| body["agent_port"] = json!(7)).await;
    assert_eq!(clone.refusal(), (409, "sled_identity".to_owned()));
    assert!(clone.problem().detail.contains("127.255.255.254:1"), "{:?}", clone.problem());
    let conflicts = async || {
        let status = stage.operator.get("/v1/status").await.ok();
        let issues = status["issues"].as_array().expect("a list").clone();
        let of_identity = issues.into_iter().filter(|issue| issue["code"] == "sled_identity_conflict");
        of_identity.map(|issue| issue["detail"].as_str().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    let shown = conflicts().await;
    assert!(shown.len() == 1 && shown[0].contains("http://127.255.255.254:7"), "{shown:?}");
    let moved = register(&stage, id, |body| {
        body["agent_port"] = json!(7);
        body["agent_epoch"] = json!(6);
    });
    assert_eq!(moved.await.status, 200, "a new life may be elsewhere");
    assert_eq!(conflicts().await, [""; 0], "whoever was refused is the sled now");
    let expunge = json!({"policy": "expunged"}).to_string();
    let patch = async |body: String| {
        stage.operator.call(reqwest::Method::PATCH, &format!("/v1/sleds/{id}"), body).await
    };
    assert_eq!(patch(expunge).await.ok()["policy"], "expunged");
    let gone = register(&stage, id, |body| body["agent_epoch"] = json!(7)).await;
    assert_eq!(gone.refusal(), (409, "sled_expunged".to_owned()));
}

/// The codes of the issues about a sled, and the words of those that say it is refused.
async fn issues_of(stage: &Stage, name: &str) -> (Vec<String>, String) {
    let status = stage.operator.get("/v1/status").await.ok();
    let issues = status["issues"].as_array().expect("a list").clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (mut codes, mut words) = (Vec::new(), String::new());
    for issue in issues.iter().filter(|issue| issue["subject"] == name) {
        if issue["code"] == "sled_refused" {
            words = format!("{} {}", text(&issue["detail"]), text(&issue["hint"]));
        }
        codes.push(text(&issue["code"]));
    }
    (codes, words)
}

#[tokio::test]
async fn a_sled_whose_state_was_restored_is_shown_as_refused_with_the_epoch_to_set_and_not_as_offline() {
    let stage = Stage::coordinator("").await;
    let id = Uuid::now_v7();
    register(&stage, id, |_| {}).await.ok();
    let restored = async || register(&stage, id, |body| body["agent_epoch"] = json!(3)).await;
    let look = async || {
        let refused = restored().await;
        assert_eq!(refused.refusal(), (409, "stale_epoch".to_owned()));
        assert!(refused.problem().hint.is_some_and(|hint| hint.contains("agent_epoch")));
        let sled = stage.operator.get(&format!("/v1/sleds/{id}")).await.ok();
        if sled["liveness"] == "offline" { Ok(()) } else { Err(sled.to_string()) }
    };
    let limit = std::time::Duration::from_secs(30);
    testbed::wait_for("the sled to count as offline", limit, look).await.expect("it is silent");
    let (codes, words) = issues_of(&stage, "ghost").await;
    assert_eq!(codes, ["sled_refused"]);
    assert!(words.contains("agent_epoch in its sled.json to 5"), "{words}");
    register(&stage, id, |body| body["agent_epoch"] = json!(6)).await.ok();
    assert!(!issues_of(&stage, "ghost").await.0.contains(&"sled_refused".to_owned()), "it is taken now");
}

#[tokio::test]
async fn a_sled_that_calls_from_another_address_is_shown_before_it_was_ever_taken() {
    let stage = Stage::coordinator("").await;
    let id = Uuid::now_v7();
    let elsewhere = stage.internal.put(&format!("/sleds/{id}"), registration().to_string()).await;
    assert_eq!(elsewhere.refusal(), (409, "sled_identity".to_owned()));
    let hint = elsewhere.problem().hint.unwrap_or_default();
    assert!(hint.contains("address") && !hint.contains("state directory"), "{hint}");
    let (codes, words) = issues_of(&stage, "ghost").await;
    assert_eq!(codes, ["sled_refused"]);
    assert!(words.contains("127.255.255.254") && words.contains("in the agent's config"), "{words}");
    register(&stage, id, |_| {}).await.ok();
    let expunge = json!({"policy": "expunged"}).to_string();
    stage.operator.call(reqwest::Method::PATCH, &format!("/v1/sleds/{id}"), expunge).await.ok();
    assert_eq!(issues_of(&stage, "ghost").await.0, [""; 0], "nothing is said of a sled that was expunged");
}

#[tokio::test]
async fn an_address_belongs_to_the_sled_that_registered_it_last() {
    let stage = Stage::coordinator("").await;
    let (old, new) = (Uuid::now_v7(), Uuid::now_v7());
    register(&stage, old, |_| {}).await.ok();
    register(&stage, new, |body| body["name"] = json!("rebuilt")).await.ok();
    let shown = async |id: Uuid| stage.operator.get(&format!("/v1/sleds/{id}")).await.ok();
    assert_eq!(shown(new).await["agent_url"], "http://127.255.255.254:1");
    assert_ne!(shown(old).await["agent_url"], "http://127.255.255.254:1");
}

#[tokio::test]
async fn expunging_is_for_good_and_policies_that_are_none_are_refused() {
    let stage = Stage::coordinator("").await;
    let id = Uuid::now_v7();
    register(&stage, id, |_| {}).await.ok();
    let patch = async |id: Uuid, policy: &str| {
        let body = json!({"policy": policy}).to_string();
        stage.operator.call(reqwest::Method::PATCH, &format!("/v1/sleds/{id}"), body).await
    };
    assert_eq!(patch(id, "retired").await.refusal(), (400, "bad_json".to_owned()));
    assert_eq!(patch(Uuid::now_v7(), "in_service").await.refusal(), (404, "sled_not_found".to_owned()));
    for policy in ["no_provision", "in_service", "expunged", "expunged"] {
        assert_eq!(patch(id, policy).await.ok()["policy"], policy);
    }
    for policy in ["in_service", "no_provision"] {
        assert_eq!(patch(id, policy).await.refusal(), (409, "sled_expunged".to_owned()), "{policy}");
    }
    let release = stage.make(&SampleRelease::small("1.0.0"));
    assert_eq!(stage.upload(&release, "").await.status, 201);
    let shown = stage.operator.get(&format!("/v1/sleds/{id}")).await.ok();
    assert_eq!((&shown["policy"], &shown["artifacts_wanted"]), (&json!("expunged"), &json!(0)));
    assert_eq!(shown.get("reason").unwrap_or(&Value::Null), &Value::Null, "nobody asks it any more");
}
