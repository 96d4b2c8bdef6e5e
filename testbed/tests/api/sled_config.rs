//! The artifact config of a sled: whose word counts, and which.

use crate::{call::Api, stage::Stage};
use serde_json::{Value, json};
use uuid::Uuid;

/// Bytes that a JSON body may have.
const JSON_BYTES_MAX: usize = 8 << 20;

fn config(cluster: Uuid, generation: u64, artifacts: &[String]) -> Value {
    json!({"cluster_id": cluster, "generation": generation, "artifacts": artifacts})
}

async fn put(sled: &Api, config: &Value) -> crate::call::Reply {
    sled.put("/artifacts-config", config.to_string()).await
}

#[tokio::test]
async fn generations_only_grow_and_none_means_two_things() {
    let stage = Stage::lone_sled(|builder| builder).await;
    let sled = stage.sled().await;
    let (cluster, one, two) = (Uuid::now_v7(), "11".repeat(32), "22".repeat(32));
    assert_eq!(sled.get("/artifacts-config").await.refusal(), (404, "no_config".to_owned()));
    assert_eq!(sled.get("/artifacts").await.ok()["generation"], 0);
    let first = config(cluster, 7, std::slice::from_ref(&one));
    for _ in 0..2 {
        assert_eq!(put(&sled, &first).await.ok(), first, "the same again is fine");
    }
    for (refused, code) in [
        (config(cluster, 6, std::slice::from_ref(&one)), "config_generation"),
        (config(cluster, 7, &[]), "config_generation"),
        (config(cluster, 7, &[one.clone(), two.clone()]), "config_generation"),
        (config(Uuid::now_v7(), 8, &[]), "cluster_mismatch"),
        (config(Uuid::now_v7(), 7, std::slice::from_ref(&one)), "cluster_mismatch"),
    ] {
        assert_eq!(put(&sled, &refused).await.refusal(), (409, code.to_owned()), "{refused}");
    }
    assert_eq!(sled.get("/artifacts-config").await.ok(), first);
    let next = config(cluster, 9, &[two]);
    assert_eq!(put(&sled, &next).await.ok(), next, "generations may leave gaps");
    // What was told outlives the agent.
    stage.cluster.kill("sled-a", testbed::KillScope::WholeSled).await.unwrap();
    stage.cluster.restart("sled-a").await.unwrap();
    assert_eq!(sled.get("/artifacts-config").await.ok(), next);
    assert_eq!(put(&sled, &first).await.refusal().1, "config_generation");
}

#[tokio::test]
async fn what_is_no_config_is_refused_and_not_kept() {
    let stage = Stage::lone_sled(|builder| builder).await;
    let sled = stage.sled().await;
    let cluster = Uuid::now_v7();
    for generation in [json!(0), json!(1_u64 << 63)] {
        let mut bad = config(cluster, 1, &[]);
        bad["generation"] = generation;
        assert_eq!(put(&sled, &bad).await.refusal(), (400, "bad_request".to_owned()), "{bad}");
    }
    let hash = "ab".repeat(32);
    for (key, value) in [
        ("generation", json!(-1)),
        ("generation", json!(1.5)),
        ("generation", json!("1")),
        ("cluster_id", json!("x")),
        ("artifacts", json!(["x"])),
        ("artifacts", json!([hash[1..]])),
        ("artifacts", Value::Null),
        ("no_such_key", json!(1)),
    ] {
        let mut bad = config(cluster, 1, &[]);
        bad[key] = value;
        assert_eq!(put(&sled, &bad).await.refusal(), (400, "bad_json".to_owned()), "{bad}");
    }
    let truncated = config(cluster, 1, &[]).to_string();
    let reply = sled.put("/artifacts-config", truncated[..truncated.len() - 1].to_owned()).await;
    assert_eq!(reply.refusal(), (400, "bad_json".to_owned()));
    let oversize = vec![b' '; JSON_BYTES_MAX + 1];
    assert_eq!(sled.put("/artifacts-config", oversize).await.refusal(), (413, "body_too_large".to_owned()));
    assert_eq!(sled.get("/artifacts-config").await.refusal().1, "no_config");
}

#[tokio::test]
async fn without_a_config_nothing_is_taken_fetched_or_deleted() {
    let stage = Stage::lone_sled(|builder| builder).await;
    let sled = stage.sled().await;
    let path = format!("/artifacts/{}", "ab".repeat(32));
    let sources = json!({"sources": ["http://127.0.0.1:1"]}).to_string();
    let no_config = (404, "no_config".to_owned());
    assert_eq!(sled.put(&format!("{path}?generation=1"), "x").await.refusal(), no_config);
    assert_eq!(
        sled.post(&format!("{path}/copy-from-depot?generation=1"), sources).await.refusal(),
        no_config
    );
    assert_eq!(sled.delete(&format!("{path}?generation=1")).await.refusal(), no_config);
}
