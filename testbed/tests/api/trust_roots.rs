//! Trust roots: what is one, what is the same one, and what its absence means.

use crate::stage::Stage;
use sample_release::{Keys, SampleRelease};
use serde_json::{Value, json};

/// Sends bytes as a trust root; the refusal's detail.
async fn refused(stage: &Stage, bytes: impl Into<reqwest::Body>) -> String {
    let reply = stage.operator.post("/v1/trust-roots", bytes).await;
    assert_eq!(reply.refusal(), (400, "root_invalid".to_owned()));
    reply.problem().detail
}

fn changed(root: &[u8], change: impl FnOnce(&mut Value)) -> Vec<u8> {
    let mut root: Value = serde_json::from_slice(root).expect("a root is JSON");
    change(&mut root);
    root.to_string().into_bytes()
}

#[tokio::test]
async fn what_is_no_root_that_signs_itself_is_refused_with_the_reason() {
    let stage = Stage::shared().await;
    let before = stage.operator.get("/v1/trust-roots").await.ok();
    let root = stage.root_json();
    refused(&stage, "").await;
    refused(&stage, "garbage").await;
    refused(&stage, "{}").await;
    refused(&stage, vec![0xff, 0xfe]).await;
    refused(&stage, changed(&root, |root| root["signed"]["_type"] = json!("targets"))).await;
    let unsigned = refused(&stage, changed(&root, |root| root["signatures"] = json!([]))).await;
    assert!(unsigned.contains("does not sign itself"), "{unsigned}");
    let altered = refused(&stage, changed(&root, |root| root["signed"]["version"] = json!(7))).await;
    assert!(altered.contains("does not sign itself"), "{altered}");
    let too_large = stage.operator.post("/v1/trust-roots", vec![b' '; (1 << 20) + 1]).await;
    assert_eq!(too_large.refusal(), (413, "body_too_large".to_owned()));
    assert_eq!(stage.operator.get("/v1/trust-roots").await.ok(), before);
}

#[tokio::test]
async fn the_same_root_again_is_the_same_trust_root() {
    let stage = Stage::coordinator("").await;
    let stranger = Keys::generate().unwrap();
    let temp = camino_tempfile::tempdir().unwrap();
    let root = SampleRelease::small("0.0.0").make(&stranger, &temp.path().join("x.zip")).unwrap().root_json;
    let first = stage.operator.post("/v1/trust-roots", root.clone()).await;
    let second = stage.operator.post("/v1/trust-roots", root).await;
    assert_eq!(first.status, 201);
    assert_eq!(second.status, 200);
    assert_eq!(first.ok(), second.ok());
    let id = first.ok()["id"].as_str().unwrap().to_owned();
    assert_eq!(stage.operator.get(&format!("/v1/trust-roots/{id}")).await.ok(), first.ok());
}

#[tokio::test]
async fn nobodys_word_counts_once_his_root_is_gone_and_what_he_vouched_for_stays() {
    let stage = Stage::coordinator("").await;
    assert_eq!(stage.upload(&stage.make(&SampleRelease::small("1.0.0")), "").await.status, 201);
    let path = format!("/v1/trust-roots/{}", stage.root_id);
    for _ in 0..2 {
        assert_eq!(stage.operator.delete(&path).await.status, 204);
    }
    assert_eq!(stage.operator.get(&path).await.refusal(), (404, "trust_root_not_found".to_owned()));
    let release = stage.make(&SampleRelease::small("2.0.0"));
    assert_eq!(stage.upload(&release, "").await.refusal(), (400, "no_trust_roots".to_owned()));
    let stranger = Stage::coordinator("").await;
    assert_eq!(stage.operator.post("/v1/trust-roots", stranger.root_json()).await.status, 201);
    assert_eq!(stage.upload(&release, "").await.refusal(), (400, "unknown_root".to_owned()));
    assert_eq!(stage.operator.get("/v1/repositories/1.0.0").await.ok()["trust_root_id"], stage.root_id);
    // The root that is added again vouches again, under an id of its own.
    assert_eq!(stage.operator.post("/v1/trust-roots", stage.root_json()).await.status, 201);
    assert_eq!(stage.upload(&release, "").await.status, 201);
}

#[tokio::test]
async fn trust_roots_that_are_not_there_are_told_as_such() {
    let stage = Stage::shared().await;
    let path = "/v1/trust-roots/00000000-0000-7000-8000-000000000000";
    assert_eq!(stage.operator.get(path).await.refusal(), (404, "trust_root_not_found".to_owned()));
    assert_eq!(stage.operator.delete(path).await.status, 204);
}
