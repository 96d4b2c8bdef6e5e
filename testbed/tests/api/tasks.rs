//! Background tasks as operators see and push them.

use crate::stage::Stage;
use reqwest::Method;
use serde_json::{Value, json};

const TASK: &str = "/v1/background-tasks/artifact_replication";

#[tokio::test]
async fn tasks_are_listed_and_shown_with_what_they_did_last() {
    let stage = Stage::shared().await;
    let list = stage.operator.get("/v1/background-tasks").await.ok();
    let names: Vec<&str> =
        list["items"].as_array().unwrap().iter().filter_map(|task| task["name"].as_str()).collect();
    assert_eq!(names, documented(), "docs/TASKS.md has a row for each");
    assert!(list["next_page"].is_null());
    let task = stage.operator.get(TASK).await.ok();
    assert!(task["last"]["report"].is_object(), "{task}");
    assert!(task["succeeded"].as_u64() > Some(0));
    assert!(!task["description"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn waiting_for_an_activation_waits_for_a_pass_that_began_after_it() {
    let stage = Stage::shared().await;
    for _ in 0..3 {
        let before = stage.operator.get(TASK).await.ok();
        let number = |pass: &Value| pass["iteration"].as_u64().unwrap_or(0);
        let after = stage.operator.post(&format!("{TASK}/activate?wait=true"), "").await.ok();
        let answer = &after["answer"];
        let began_before = number(&before["last"]).max(number(&before["running"]));
        assert!(number(answer) > began_before, "{before} and then {after}");
        assert!(number(&after["last"]) >= number(answer), "{after}");
        assert!(answer["error"].is_null(), "{after}");
        assert_eq!(answer["outcome"], "succeeded");
        assert!(answer["trigger"].as_str().unwrap().contains("operator"), "{after}");
    }
}

#[tokio::test]
async fn an_activation_without_waiting_is_answered_at_once() {
    let stage = Stage::shared().await;
    for path in [format!("{TASK}/activate"), format!("{TASK}/activate?wait=false")] {
        let task = stage.operator.post(&path, "").await.ok();
        assert_eq!(task["name"], "artifact_replication");
        assert!(task.get("answer").is_none(), "nothing was waited for: {task}");
    }
    let refusal = stage.operator.post(&format!("{TASK}/activate?wait=perhaps"), "").await.refusal();
    assert_eq!(refusal, (400, "bad_request".to_owned()));
}

#[tokio::test]
async fn a_task_that_is_not_there_is_told_as_such() {
    let stage = Stage::shared().await;
    for name in ["none", "ARTIFACT_REPLICATION", "artifact_replication%20"] {
        let path = format!("/v1/background-tasks/{name}");
        assert_eq!(stage.operator.get(&path).await.refusal(), (404, "task_not_found".to_owned()), "{name}");
        for query in ["", "?wait=true"] {
            let reply = stage.operator.post(&format!("{path}/activate{query}"), "").await;
            assert_eq!(reply.refusal(), (404, "task_not_found".to_owned()), "{name}{query}");
        }
        for verb in ["pause", "resume"] {
            let reply = stage.operator.post(&format!("{path}/{verb}"), "").await;
            assert_eq!(reply.refusal(), (404, "task_not_found".to_owned()), "{name} {verb}");
        }
    }
}

/// The tasks that the documentation lists.
fn documented() -> Vec<&'static str> {
    let table =
        include_str!("../../../docs/TASKS.md").split("\n## ").find(|it| it.starts_with("The tasks\n"));
    let rows = table.expect("a chapter of the tasks").lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split('`').next()).collect()
}

/// The one task that other tests do without.
const HELD: &str = "/v1/background-tasks/staging_cleanup";

#[tokio::test]
async fn a_task_is_held_released_and_switched_at_run_time() {
    let stage = Stage::shared().await;
    let post = async |what: &str| stage.operator.post(&format!("{HELD}/{what}"), "").await;
    let task = post("pause?for_seconds=3600&reason=a%20fault").await.ok();
    assert_eq!(task["paused"]["reason"], "a fault");
    assert!(task["paused"]["until"].is_string() && task["next_at"].is_string(), "{task}");
    for query in ["", "?wait=true"] {
        let reply = post(&format!("activate{query}")).await;
        assert!(reply.problem().detail.contains("a fault"), "{reply:?}");
        assert_eq!(reply.refusal(), (409, "task_paused".to_owned()));
    }
    let status = stage.operator.get("/v1/status").await.ok();
    let issues = status["issues"].as_array().unwrap();
    let paused = issues.iter().find(|issue| issue["code"] == "task_paused").expect("it is an issue");
    assert_eq!(paused["subject"], "staging_cleanup");
    let task = post("pause").await.ok();
    assert_eq!(task["paused"]["until"], Value::Null, "the second pause has no end");
    let metrics = String::from_utf8(stage.operator.get("/metrics").await.body).unwrap();
    assert!(metrics.contains(r#"bobsled_background_task_paused{task="staging_cleanup"} 1.0"#), "{metrics}");
    assert_eq!(post("resume").await.ok()["paused"], Value::Null);
    assert_eq!(post("resume").await.ok()["paused"], Value::Null, "there is nothing left to resume");
    assert_eq!(post("activate?wait=true").await.ok()["answer"]["outcome"], "succeeded");

    let patch = async |body: Value| stage.operator.call(Method::PATCH, HELD, body.to_string()).await;
    let task = patch(json!({"periodic": false})).await.ok();
    assert_eq!((&task["periodic"], &task["next_at"]), (&json!(false), &Value::Null));
    assert_eq!(post("activate?wait=true").await.ok()["answer"]["outcome"], "succeeded");
    let task = patch(json!({"periodic": true})).await.ok();
    assert_eq!(task["periodic"], true);
}

#[tokio::test]
async fn an_order_to_a_task_that_makes_no_sense_is_refused() {
    let stage = Stage::shared().await;
    let long = "x".repeat(201);
    for query in
        ["for_seconds=0", "for_seconds=31536001", "for_seconds=-1", "for=60", &format!("reason={long}")]
    {
        let reply = stage.operator.post(&format!("{TASK}/pause?{query}"), "").await;
        assert_eq!(reply.refusal(), (400, "bad_request".to_owned()), "{query}");
    }
    for body in ["{}", r#"{"periodic": "no"}"#, r#"{"periodic": false, "paused": true}"#] {
        let reply = stage.operator.call(Method::PATCH, TASK, body).await;
        assert_eq!(reply.refusal(), (400, "bad_json".to_owned()), "{body}");
    }
    let task = stage.operator.get(TASK).await.ok();
    assert_eq!((&task["periodic"], &task["paused"]), (&json!(true), &Value::Null), "nothing was changed");
}
