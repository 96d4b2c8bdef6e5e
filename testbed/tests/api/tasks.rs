//! Background tasks as operators see and push them.

use crate::stage::Stage;

const TASK: &str = "/v1/background-tasks/artifact_replication";

#[tokio::test]
async fn tasks_are_listed_and_shown_with_what_they_did_last() {
    let stage = Stage::shared().await;
    let list = stage.operator.get("/v1/background-tasks").await.ok();
    let names: Vec<&str> =
        list["items"].as_array().unwrap().iter().filter_map(|task| task["name"].as_str()).collect();
    assert_eq!(names, ["artifact_replication", "staging_cleanup"]);
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
        let done = |task: &serde_json::Value| task["last"]["iteration"].as_u64().unwrap_or(0);
        let running = before["running"]["iteration"].as_u64().unwrap_or(0);
        let after = stage.operator.post(&format!("{TASK}/activate?wait=true"), "").await.ok();
        assert!(done(&after) > done(&before).max(running), "{before} and then {after}");
        assert!(after["last"]["error"].is_null(), "{after}");
    }
}

#[tokio::test]
async fn an_activation_without_waiting_is_answered_at_once() {
    let stage = Stage::shared().await;
    for path in [format!("{TASK}/activate"), format!("{TASK}/activate?wait=false")] {
        assert_eq!(stage.operator.post(&path, "").await.ok()["name"], "artifact_replication");
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
    }
}
