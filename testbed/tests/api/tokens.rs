//! Who may call what, asked of every call of every API. A call that is added later is covered by being described.

use crate::{
    call::Api,
    document::Call,
    stage::Stage,
    wire::{Answer, Wire},
};
use reqwest::Method;

/// Asks without sending the large body that is announced; a server that asks for it answers 100.
async fn announce(api: &Api, call: &Call) -> Answer {
    let mut wire = Wire::connect(api.address()).await;
    let (method, path) = (&call.method, call.sample_path());
    let body = "content-length: 1000000\r\nexpect: 100-continue\r\nconnection: close\r\n";
    wire.send(format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{}{body}\r\n", api.authorization())).await;
    if call.method == Method::HEAD { wire.head().await } else { wire.answer().await }
}

/// Every call of an API whose callers must say who they are, with tokens that do not get in.
async fn check_guarded(api: &Api, strangers: &[&str]) {
    let guarded = api.document.calls.iter().filter(|call| !call.open);
    let mut checked = 0;
    for call in guarded {
        let seen = format!("{} {}{}", call.method, api.url, call.path);
        for token in [None, Some("not-a-token-of-anybody")] {
            let answer = announce(&api.with_token(token), call).await;
            assert_eq!((answer.status, answer.code().as_str()), (401, "unauthorized"), "{seen}");
            assert_eq!(answer.header("www-authenticate"), Some("Bearer"), "{seen}");
        }
        for token in strangers {
            let answer = announce(&api.with_token(Some(token)), call).await;
            assert_eq!((answer.status, answer.code().as_str()), (403, "forbidden"), "{seen}");
        }
        assert!(call.statuses.contains(&401) && call.statuses.contains(&403), "{seen} does not describe it");
        checked += 1;
    }
    assert!(checked > 1, "{} guards nothing", api.url);
}

#[tokio::test]
async fn no_call_of_the_operator_api_is_for_strangers_or_sleds() {
    let stage = Stage::shared().await;
    check_guarded(&stage.operator, &[&stage.tokens.sled]).await;
}

#[tokio::test]
async fn no_call_of_the_sled_facing_api_is_for_strangers() {
    let stage = Stage::shared().await;
    check_guarded(&stage.internal, &[]).await;
    // The coordinator's token is for the way to sleds; towards the coordinator it stands for nobody.
    let path = "/sleds/00000000-0000-7000-8000-000000000000";
    let as_coordinator = stage.internal.with_token(Some(&stage.tokens.coordinator));
    assert_eq!(as_coordinator.put(path, "{}").await.refusal().0, 401);
    let as_operator = stage.internal.with_token(Some(&stage.tokens.operator));
    assert_eq!(as_operator.put(path, "{}").await.refusal(), (400, "bad_json".to_owned()));
}

#[tokio::test]
async fn no_call_of_the_sled_api_is_for_strangers() {
    let stage = Stage::shared().await;
    let sled = stage.sled().await;
    check_guarded(&sled, &[]).await;
    // A sled's token is for the way to coordinators.
    assert_eq!(sled.with_token(Some(&stage.tokens.sled)).get("/inventory").await.refusal().0, 401);
    assert_eq!(sled.with_token(Some(&stage.tokens.operator)).get("/inventory").await.status, 200);
}

#[tokio::test]
async fn what_is_for_everybody_needs_no_token() {
    let stage = Stage::shared().await;
    let (sled, depot) = (stage.sled().await, stage.depot().await);
    for api in [&stage.operator, &stage.internal, &sled, &depot] {
        let anybody = api.with_token(None);
        for path in ["/healthz", "/readyz", "/openapi.json"] {
            assert_eq!(anybody.get(path).await.status, 200, "{}{path}", api.url);
        }
    }
    assert!(depot.document.calls.iter().all(|call| call.open), "the depot's reads are public");
    let read = depot.get(&format!("/artifact/sha256/{}", "00".repeat(32))).await;
    assert_eq!(read.refusal(), (404, "artifact_not_found".to_owned()));
}

#[tokio::test]
async fn a_path_that_is_not_there_is_told_only_to_those_who_may_know() {
    let stage = Stage::shared().await;
    assert_eq!(stage.operator.with_token(None).get("/v1/nothing").await.refusal().0, 401);
    assert_eq!(stage.operator.get("/v1/nothing").await.refusal(), (404, "no_such_route".to_owned()));
}
