//! Keyset pages: bounds, tokens, and lists that change while they are walked.

use crate::{call::Api, stage::Stage};
use sample_release::{Keys, SampleRelease};
use serde_json::Value;

/// The lists that are pages, and what their items are known by.
const LISTS: [(&str, &str); 4] =
    [("/v1/trust-roots", "id"), ("/v1/repositories", "id"), ("/v1/sleds", "id"), ("/v1/artifacts", "hash")];

/// One page: its items by their keys, and the next one's token.
async fn page(
    api: &Api,
    list: &str,
    key: &str,
    limit: u32,
    token: Option<&str>,
) -> (Vec<String>, Option<String>) {
    let token = token.map(|token| format!("&page_token={token}")).unwrap_or_default();
    let page = api.get(&format!("{list}?limit={limit}{token}")).await.ok();
    let items = page["items"].as_array().expect("items");
    let keys = items.iter().map(|item| item[key].as_str().expect("a key").to_owned()).collect();
    (keys, page["next_page"].as_str().map(str::to_owned))
}

/// Every item of a list, in pages of that size.
async fn walk(api: &Api, list: &str, key: &str, limit: u32) -> Vec<String> {
    let (mut all, mut token) = page(api, list, key, limit, None).await;
    while let Some(next) = token {
        let (items, after) = page(api, list, key, limit, Some(&next)).await;
        assert!(!items.is_empty(), "a page was promised and is empty");
        all.extend(items);
        token = after;
    }
    all
}

async fn add_trust_root(stage: &Stage) -> String {
    let temp = camino_tempfile::tempdir().expect("a directory");
    let keys = Keys::generate().expect("randomness");
    let release = SampleRelease::small("0.0.0").make(&keys, &temp.path().join("x.zip"));
    let root = release.expect("the release is made").root_json;
    stage.operator.post("/v1/trust-roots", root).await.ok()["id"].as_str().expect("an id").to_owned()
}

async fn upload(stage: &Stage, version: &str) {
    let release = stage.make(&SampleRelease::new(version).seeded(version, version, "file", 100, false));
    assert_eq!(stage.upload(&release, "").await.status, 201);
}

#[tokio::test]
async fn limits_outside_the_bounds_and_tokens_that_are_none_are_refused() {
    let stage = Stage::shared().await;
    for (list, _) in LISTS {
        for bad in ["limit=0", "limit=1001", "limit=-1", "limit=many", "limit=4294967296", "limit=1&limit=2"]
        {
            let refusal = stage.operator.get(&format!("{list}?{bad}")).await.refusal();
            assert_eq!(refusal, (400, "bad_request".to_owned()), "{list}?{bad}");
        }
        for bad in ["", "x", "00", "7b7d", "7b2276223a312c226166746572223a317d", &"00".repeat(1000)] {
            let refusal = stage.operator.get(&format!("{list}?page_token={bad}")).await.refusal();
            assert_eq!(refusal, (400, "bad_page_token".to_owned()), "{list}?page_token={bad}");
        }
        for good in ["limit=1", "limit=1000", ""] {
            assert_eq!(stage.operator.get(&format!("{list}?{good}")).await.status, 200, "{list}?{good}");
        }
    }
}

#[tokio::test]
async fn pages_of_any_size_show_every_item_once_in_one_order_and_tokens_stay_with_their_list() {
    let stage = Stage::coordinator("").await;
    let mut roots = vec![stage.root_id.clone()];
    for number in 0..4 {
        roots.push(add_trust_root(&stage).await);
        upload(&stage, &format!("1.0.{number}")).await;
        register(&stage, number).await;
    }
    let mut tokens = Vec::new();
    for (list, key) in LISTS {
        let all = walk(&stage.operator, list, key, 1000).await;
        assert!(all.len() >= 4, "{list} has only {}", all.len());
        for limit in 1..=4 {
            assert_eq!(walk(&stage.operator, list, key, limit).await, all, "{list} by {limit}");
        }
        tokens.push((list, page(&stage.operator, list, key, 1, None).await.1.expect("there is more")));
    }
    assert_eq!(walk(&stage.operator, "/v1/trust-roots", "id", 2).await, roots, "the oldest is first");
    for (list, _) in LISTS {
        for (origin, token) in &tokens {
            let reply = stage.operator.get(&format!("{list}?page_token={token}")).await;
            if list == *origin {
                assert_eq!(reply.status, 200);
            } else {
                assert_eq!(reply.refusal().1, "bad_page_token", "{list} took a token of {origin}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_there_all_along_is_shown_once_while_others_come_and_go() {
    let stage = Stage::coordinator("").await;
    for number in 0..6 {
        upload(&stage, &format!("1.0.{number}")).await;
    }
    let versions = async |token: Option<&str>| {
        page(&stage.operator, "/v1/repositories", "system_version", 2, token).await
    };
    // Newest first: what comes now comes before the first page, what goes now was on either side of the token.
    let (mut seen, mut token) = versions(None).await;
    assert_eq!(seen, ["1.0.5", "1.0.4"]);
    upload(&stage, "2.0.0").await;
    for gone in ["1.0.4", "1.0.2"] {
        assert_eq!(stage.operator.delete(&format!("/v1/repositories/{gone}")).await.status, 204);
    }
    while let Some(next) = token {
        let (items, after) = versions(Some(&next)).await;
        seen.extend(items);
        token = after;
    }
    assert_eq!(seen, ["1.0.5", "1.0.4", "1.0.3", "1.0.1", "1.0.0"]);
}

/// Registers a sled that is not there; nobody answers at its address.
async fn register(stage: &Stage, number: u16) {
    let id = uuid::Uuid::now_v7();
    let body = serde_json::json!({
        "name": format!("ghost-{number}"), "agent_epoch": 1, "address": "127.255.255.254",
        "agent_port": 1 + number, "depot_port": 1 + number, "artifacts_revision": 0,
    });
    let ghost = stage.internal.called_from("127.255.255.254".parse().expect("an address"));
    let reply = ghost.put(&format!("/sleds/{id}"), body.to_string()).await;
    assert_eq!(reply.ok()["heartbeat_ms"].is_u64(), Value::Bool(true));
}
