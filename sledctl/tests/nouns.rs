//! The commands against a coordinator: what they fetch, change, ask for, and how its refusals read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod double;

use axum::{
    Router,
    extract::{Path, Query, Request},
    http::StatusCode,
    routing::{any, delete, get, patch, post},
};
use double::{Double, Program, answer, page, refuse, routes, status};
use nexus_client::{
    pages::{Page, PageQuery},
    releases::{Repository, TrustRoot},
    replication::Replication,
    sleds::Sled,
    tasks::{BackgroundTask, FinishedPass},
};
use problem::{Code, Problem};
use serde_json::{Value, json};
use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering},
};

fn sled(number: usize, policy: &str) -> Sled {
    serde_json::from_value(json!({
        "id": format!("{number:08x}-3c1e-7000-8000-0123456789ab"), "name": format!("sled-{number}"),
        "policy": policy, "liveness": "online", "last_seen_at": "2026-11-20T12:00:00Z",
        "created_at": "2026-11-20T12:00:00Z", "agent_epoch": 1, "agent_url": "http://127.0.1.1:12345",
        "depot_url": "http://127.0.1.1:12348", "artifacts_wanted": 1, "artifacts_complete": 0,
    }))
    .unwrap()
}

fn replication() -> Replication {
    let hash = "ab".repeat(32);
    serde_json::from_value(json!({
        "generation": 5, "fully_replicated": false, "artifacts_complete": 0,
        "artifacts": [{"hash": hash, "name": "kernel", "version": "6.1", "size": 1000, "staged": true}],
        "sleds": [{
            "id": sled(1, "in_service").id, "name": "sled-1", "state": "active", "config_generation": 5,
            "observed_at": null, "datasets_healthy": 2,
            "cells": {&hash: {"copies": 0, "last_error": "no route to sled-2"}},
        }],
    }))
    .unwrap()
}

fn repository(version: &str) -> Repository {
    serde_json::from_value(json!({
        "id": "0191bbbb-0000-7000-8000-000000000001", "system_version": version, "sha256": "ab".repeat(32),
        "file_name": null, "size_bytes": 1000, "artifact_count": 1,
        "trust_root_id": "0191aaaa-0000-7000-8000-000000000001", "created_at": "2026-11-20T12:00:00Z",
        "staged_on": null, "state": "replicated", "sleds_complete": 4, "sleds_total": 4,
    }))
    .unwrap()
}

/// The pass that answers ended well; one after it did not.
fn answered_well() -> BackgroundTask {
    let good = task(None).last.map(|pass| FinishedPass { iteration: 42, ..pass });
    BackgroundTask { answer: good, ..task(Some("disk on fire")) }
}

fn task(error: Option<&str>) -> BackgroundTask {
    let pass = json!({
        "iteration": 43, "trigger": "operator", "started_at": "2026-11-20T12:00:00Z", "duration_seconds": 0.1,
        "error": error, "report": {"puts": 3},
    });
    serde_json::from_value(json!({
        "name": "artifact_replication", "description": "d", "period_seconds": 60.0, "running": null,
        "last": pass, "succeeded": 42, "failed": 0, "failed_in_a_row": 0,
    }))
    .unwrap()
}

/// Sleds in pages of two, whatever the caller asks for.
async fn sleds_in_pages(Query(query): Query<PageQuery>) -> axum::response::Response {
    let start: usize = query.page_token.map_or(0, |token| token.parse().unwrap());
    let items = (start..5.min(start + 2)).map(|number| sled(number, "in_service")).collect();
    let next_page = (start + 2 < 5).then(|| (start + 2).to_string());
    answer(&Page::<Sled> { items, next_page })
}

#[tokio::test]
async fn status_ends_with_6_when_something_is_wrong_and_0_when_not() {
    let healthy = Double::coordinator(routes()).await;
    Program::of(&healthy).run(&["status"]).await.ended(0).shows("all is well");
    let degraded = Router::new().route("/v1/status", get(|| async { answer(&status(&["sled-d"])) }));
    let degraded = Double::coordinator(degraded).await;
    Program::of(&degraded).run(&["status"]).await.ended(6).shows("! sled_offline sled-d: no heartbeat");
    let run = Program::of(&degraded).run(&["status", "-o", "json"]).await.ended(6);
    let json: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(json, serde_json::to_value(status(&["sled-d"])).unwrap());
}

#[tokio::test]
async fn list_walks_all_pages_and_prints_one() {
    let double = Double::coordinator(Router::new().route("/v1/sleds", get(sleds_in_pages))).await;
    let program = Program::of(&double);
    let run = program.run(&["sled", "list", "--no-headers"]).await.ended(0);
    assert_eq!(run.stdout.lines().count(), 5, "{}", run.stdout);
    let run = program.run(&["sled", "list", "-o", "json"]).await.ended(0);
    let page: Page<Sled> = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(page.items, (0..5).map(|number| sled(number, "in_service")).collect::<Vec<_>>());
    assert_eq!(page.next_page, None);
}

#[tokio::test]
async fn sled_is_shown_by_name_and_by_beginning_of_its_id_with_what_it_misses() {
    let routes = Router::new()
        .route("/v1/sleds", get(sleds_in_pages))
        .route("/v1/replication", get(|| async { answer(&replication()) }));
    let double = Double::coordinator(routes).await;
    let program = Program::of(&double);
    let by_name = program.run(&["sled", "show", "sled-1"]).await.ended(0);
    let by_id = program.run(&["sled", "show", "00000001"]).await.ended(0);
    assert_eq!(by_name.stdout, by_id.stdout);
    by_name.shows("kernel").shows("the last try failed: no route to sled-2");
    let run = program.run(&["sled", "show", "0000"]).await.ended(1);
    run.says("fits more than one sled: sled-0 (").says("hint: give more of it");
    program
        .run(&["sled", "show", "sled-9"])
        .await
        .ended(1)
        .says("no sled is named \"sled-9\"; there are: sled-0 (");
}

#[tokio::test]
async fn matrix_shows_cells_footnotes_and_json() {
    let routes = Router::new().route("/v1/replication", get(|| async { answer(&replication()) })).route(
        "/v1/repositories/{version}/replication",
        get(|| async { refuse(Problem::new(Code::RepositoryNotFound, "no release 9.9")) }),
    );
    let double = Double::coordinator(routes).await;
    let program = Program::of(&double);
    let run = program.run(&["artifact", "matrix"]).await.ended(0);
    run.shows("kernel   6.1     1000 B absent").shows("! sled-1: 1 artifact failed");
    let run = program.run(&["artifact", "matrix", "-o", "json"]).await.ended(0);
    assert_eq!(serde_json::from_str::<Replication>(&run.stdout).unwrap(), replication());
    let run = program.run(&["artifact", "matrix", "9.9"]).await.ended(1);
    run.says("error: no release 9.9 (404 repository_not_found)")
        .says("hint: sledctl repo list")
        .says("request id request-of-the-test");
}

#[tokio::test]
async fn refused_token_says_where_it_came_from() {
    let double = Double::coordinator(routes()).await;
    let stranger = Program::new().with("SLEDCTL_URL", &double.url);
    stranger.run(&["status"]).await.ended(1).says("(401 unauthorized)").says("set SLEDCTL_TOKEN");
    let path = stranger.file("token", b"wrong");
    let run = stranger.run(&["status", "--token-file", &path]).await.ended(1);
    run.says(&format!("does not know the token from file {path}"));
    stranger
        .run(&["status", "--token-file", "/none"])
        .await
        .ended(1)
        .says("token file /none could not be read");
}

#[tokio::test]
async fn answer_that_is_not_ours_is_an_error_with_the_origin_of_the_url() {
    let double = Double::start(Router::new().route("/v1/status", get(|| async { "hello" }))).await;
    let run = Program::of(&double).run(&["status"]).await.ended(1);
    run.says("is not understood").says("comes from SLEDCTL_URL");
    let double =
        Double::start(Router::new().fallback(|| async { (StatusCode::BAD_GATEWAY, "<html>nginx") })).await;
    Program::of(&double).run(&["status"]).await.ended(1).says("without problem+json").says("nginx");
}

#[tokio::test]
async fn deleting_needs_yes_where_nobody_can_be_asked() {
    let deleted: Arc<Mutex<Vec<String>>> = Arc::default();
    let record = Arc::clone(&deleted);
    let routes = Router::new().route(
        "/v1/repositories/{version}",
        get(|Path(version): Path<String>| async move {
            let mut detail = serde_json::to_value(repository(&version)).unwrap();
            detail["artifacts"] = json!([]);
            answer(&detail)
        })
        .delete(|Path(version): Path<String>| async move {
            record.lock().unwrap().push(version);
            StatusCode::NO_CONTENT
        }),
    );
    let double = Double::coordinator(routes).await;
    let program = Program::of(&double);
    program.run(&["repo", "delete", "1.2.3"]).await.ended(2).says("cannot be undone").says("hint: add --yes");
    assert!(deleted.lock().unwrap().is_empty(), "it was deleted without being asked for");
    program.run(&["repo", "delete", "1.2.3", "--yes"]).await.ended(0).says("release 1.2.3 is deleted");
    assert_eq!(*deleted.lock().unwrap(), ["1.2.3"]);
}

#[tokio::test]
async fn deleting_what_is_not_there_succeeds_and_says_so() {
    let routes = Router::new().route(
        "/v1/repositories/{version}",
        get(|| async {
            refuse(Problem::new(Code::RepositoryNotFound, "no repository of version \"9.9.9\""))
        }),
    );
    let double = Double::coordinator(routes).await;
    let run = Program::of(&double).run(&["repo", "delete", "9.9.9", "--yes"]).await.ended(0);
    run.says("there is no release 9.9.9; nothing was deleted");
}

#[tokio::test]
async fn scrub_is_started_by_name_and_shows_where_it_stands() {
    let scrub =
        json!({"running": true, "bytes_done": 1024, "bytes_total": 4096, "corrupt": 0, "finished_at": null});
    let routes = Router::new().route("/v1/sleds", get(sleds_in_pages)).route(
        "/v1/sleds/{id}/scrub",
        post(|Path(id): Path<String>| async move {
            assert!(id.starts_with("00000001-"), "{id}");
            (StatusCode::ACCEPTED, axum::Json(scrub))
        }),
    );
    let double = Double::coordinator(routes).await;
    let run = Program::of(&double).run(&["sled", "scrub", "sled-1"]).await.ended(0);
    run.shows("scrub  runs, 1.0 KiB of 4.0 KiB verified").says("sledctl sled show sled-1");
}

/// A sled whose last scrub ended at noon, and which is asked for another one: so many looks until that ends.
fn scrubbing(looks: usize, liveness: &'static str) -> Router {
    let shown = move |running: bool, finished_at: &str| {
        let mut shown = serde_json::to_value(sled(1, "in_service")).unwrap();
        shown["liveness"] = liveness.into();
        shown["scrub"] = json!({"running": running, "bytes_done": 4096, "bytes_total": 4096, "corrupt": 3,
                                "finished_at": finished_at});
        shown
    };
    let [noon, later] = ["2026-11-20T12:00:00Z", "2026-11-20T12:30:00Z"];
    let looked = Arc::new(AtomicUsize::new(0));
    let one = move || {
        let nth = looked.fetch_add(1, Ordering::SeqCst);
        let seen = match nth {
            nth if nth >= looks => shown(false, later),
            // The coordinator has not heard yet that the new one runs.
            0 => shown(false, noon),
            _ => shown(true, noon),
        };
        async move { answer(&seen) }
    };
    let started =
        move || async move { (StatusCode::ACCEPTED, axum::Json(shown(true, noon)["scrub"].take())) };
    Router::new()
        .route("/v1/sleds", get(move || async move { page(&[shown(false, noon)]) }))
        .route("/v1/sleds/{id}", get(one))
        .route("/v1/sleds/{id}/scrub", post(started))
}

#[tokio::test]
async fn scrub_that_is_waited_for_ends_with_its_own_end_and_says_what_it_found() {
    let double = Double::coordinator(scrubbing(3, "online")).await;
    let run = Program::of(&double).run(&["sled", "scrub", "sled-1", "--wait", "-o", "json"]).await.ended(0);
    let scrub: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(scrub["finished_at"], "2026-11-20T12:30:00Z");
    assert_eq!(scrub["corrupt"], 3);
}

#[tokio::test]
async fn scrub_that_a_restarted_agent_has_forgotten_is_no_success() {
    let forgotten = || async {
        let mut seen = serde_json::to_value(sled(1, "in_service")).unwrap();
        seen["agent_epoch"] = 2.into();
        answer(&seen)
    };
    let noon = "2026-11-20T12:00:00Z";
    let before = move || async move {
        let mut seen = serde_json::to_value(sled(1, "in_service")).unwrap();
        seen["scrub"] = json!({"running": false, "bytes_done": 1, "bytes_total": 1, "corrupt": 0,
                               "finished_at": noon});
        page(&[seen])
    };
    let started = || async {
        let scrub =
            json!({"running": true, "bytes_done": 0, "bytes_total": 9, "corrupt": 0, "finished_at": null});
        (StatusCode::ACCEPTED, axum::Json(scrub))
    };
    let routes = Router::new()
        .route("/v1/sleds", get(before))
        .route("/v1/sleds/{id}", get(forgotten))
        .route("/v1/sleds/{id}/scrub", post(started));
    let double = Double::coordinator(routes).await;
    let run = Program::of(&double).run(&["sled", "scrub", "sled-1", "--wait"]).await.ended(1);
    run.says("the scrub of sled-1 was not seen through");
}

#[tokio::test]
async fn scrub_of_a_sled_that_goes_away_is_not_waited_for() {
    let double = Double::coordinator(scrubbing(1000, "offline")).await;
    let run = Program::of(&double).run(&["sled", "scrub", "sled-1", "--wait"]).await.ended(1);
    run.says("the scrub of sled-1 was not seen through");
}

#[tokio::test]
async fn reader_that_has_seen_enough_is_no_error() {
    let routes = routes().route("/v1/sleds", get(sleds_in_pages));
    let double = Double::coordinator(routes).await;
    let program = Program::of(&double);
    for arguments in [&["sled", "list"][..], &["status"], &["--help"], &["completion", "bash"], &["version"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = program.command(arguments).stdout(writer).output().await.unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(!stderr.contains("panicked") && !stderr.contains("error"), "{arguments:?}: {stderr}");
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {stderr}");
    }
}

#[tokio::test]
async fn nobody_listening_on_standard_error_is_no_panic() {
    let double = Double::coordinator(routes()).await;
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let program = Program::of(&double);
    for (arguments, code) in [(&["sled", "list"][..], 1), (&["no-such-command"], 2)] {
        let writer = writer.try_clone().unwrap();
        let output = program.command(arguments).stderr(writer).output().await.unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}");
    }
}

#[tokio::test]
async fn trust_root_is_added_listed_and_deleted_by_beginning_of_its_id() {
    let root: TrustRoot = serde_json::from_value(json!({
        "id": "0191aaaa-0000-7000-8000-000000000001", "fingerprint": "badcafe0".repeat(8), "version": 1,
        "expires": "2027-11-20T00:00:00Z", "created_at": "2026-11-20T12:00:00Z",
    }))
    .unwrap();
    let (listed, added) = (root.clone(), root.clone());
    let routes = Router::new()
        .route(
            "/v1/trust-roots",
            get(|| async move { page(&[listed]) }).post(|body: String| async move {
                if body == "{\"signed\":1}" {
                    answer(&added)
                } else {
                    refuse(Problem::new(Code::RootInvalid, "no root"))
                }
            }),
        )
        .route("/v1/trust-roots/{id}", delete(|| async { StatusCode::NO_CONTENT }));
    let double = Double::coordinator(routes).await;
    let program = Program::of(&double);
    let path = program.file("root.json", b"{\"signed\":1}");
    program.run(&["trust-root", "add", &path]).await.ended(0).shows("badcafe0");
    let other = program.file("other.json", b"{}");
    program.run(&["trust-root", "add", &other]).await.ended(1).says("(400 root_invalid)");
    program.run(&["trust-root", "add", "/none"]).await.ended(1).says("/none could not be read");
    let run = program.run(&["trust-root", "list", "-o", "json"]).await.ended(0);
    assert_eq!(serde_json::from_str::<Page<TrustRoot>>(&run.stdout).unwrap().items, [root]);
    program.run(&["trust-root", "delete", "badcafe0"]).await.ended(2).says("--yes");
    program.run(&["trust-root", "delete", "badcafe0", "--yes"]).await.ended(0).says("is deleted");
    program.run(&["trust-root", "delete", "1234", "--yes"]).await.ended(1).says("no trust root is named");
}

#[tokio::test]
async fn expunging_needs_the_name_once_more() {
    let policies: Arc<Mutex<Vec<Value>>> = Arc::default();
    let record = Arc::clone(&policies);
    let routes = Router::new()
        .route("/v1/sleds", get(sleds_in_pages))
        .route("/v1/replication", get(|| async { answer(&replication()) }))
        .route(
            "/v1/sleds/{id}",
            patch(|body: String| async move {
                let update: Value = serde_json::from_str(&body).unwrap();
                let policy = update["policy"].as_str().unwrap().to_owned();
                record.lock().unwrap().push(update);
                answer(&sled(1, &policy))
            }),
        );
    let double = Double::coordinator(routes).await;
    let program = Program::of(&double);
    let expunge = ["sled", "set-policy", "sled-1", "expunged"];
    program.run(&expunge).await.ended(2).says("hint: add --confirm sled-1");
    let wrong = [expunge.as_slice(), &["--confirm", "sled-2"]].concat();
    program.run(&wrong).await.ended(1).says("nothing was changed");
    assert!(policies.lock().unwrap().is_empty(), "it was expunged without being confirmed");
    let right = [expunge.as_slice(), &["--confirm", "sled-1"]].concat();
    program.run(&right).await.ended(0).says("sled-1 is expunged from now on");
    program.run(&["sled", "set-policy", "sled-1", "no_provision"]).await.ended(0);
    assert_eq!(*policies.lock().unwrap(), [json!({"policy": "expunged"}), json!({"policy": "no_provision"})]);
}

#[tokio::test]
async fn holding_a_task_sends_what_was_said_and_tells_how_it_ends() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let hear = move |request: Request| {
        let heard = Arc::clone(&heard);
        async move {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 1000).await.unwrap();
            let body = String::from_utf8_lossy(&body).into_owned();
            heard.lock().unwrap().push(format!("{} {} {body}", head.method, head.uri).trim().to_owned());
            answer(&task(None))
        }
    };
    let double = Double::coordinator(Router::new().route("/v1/{*path}", any(hear))).await;
    let program = Program::of(&double);
    let pause = ["task", "pause", "gc", "--for", "30m", "--reason", "a fault"];
    program.run(&pause).await.ended(0).says("is paused until its time is over, or: sledctl task resume");
    program.run(&["task", "pause", "gc"]).await.ended(0).says("until the coordinator restarts");
    program.run(&["task", "resume", "gc"]).await.ended(0);
    program.run(&["task", "periodic", "gc", "off"]).await.ended(0).says("until the coordinator restarts");
    program.run(&["task", "periodic", "gc", "on"]).await.ended(0);
    let expected = [
        "POST /v1/background-tasks/gc/pause?for_seconds=1800&reason=a+fault",
        "POST /v1/background-tasks/gc/pause",
        "POST /v1/background-tasks/gc/resume",
        r#"PATCH /v1/background-tasks/gc {"periodic":false}"#,
        r#"PATCH /v1/background-tasks/gc {"periodic":true}"#,
    ];
    assert_eq!(*asked.lock().unwrap(), expected);
    program.run(&["task", "pause", "gc", "--for", "5"]).await.ended(2).says("say 90s, 30m, 2h or 1d");
    program.run(&["task", "periodic", "gc", "perhaps"]).await.ended(2);
    assert_eq!(asked.lock().unwrap().len(), expected.len(), "what is not understood is not sent");
}

#[tokio::test]
async fn activating_a_task_that_is_paused_fails_with_the_way_out() {
    let refused = || async { refuse(Problem::new(Code::TaskPaused, "gc is paused (a fault)")) };
    let routes = Router::new().route("/v1/background-tasks/gc/activate", post(refused));
    let double = Double::coordinator(routes).await;
    let refused = Program::of(&double).run(&["task", "activate", "gc"]).await.ended(1);
    refused.says("gc is paused (a fault)").says("sledctl task resume");
}

#[tokio::test]
async fn activating_a_task_waits_for_its_pass_and_fails_with_it() {
    let routes = Router::new()
        .route("/v1/background-tasks/good/activate", post(|| async { answer(&task(None)) }))
        .route("/v1/background-tasks/later_bad/activate", post(|| async { answer(&answered_well()) }))
        .route("/v1/background-tasks/bad/activate", post(|| async { answer(&task(Some("disk on fire"))) }))
        .route("/v1/background-tasks", get(|| async { page(&[task(None)]) }));
    let double = Double::coordinator(routes).await;
    let program = Program::of(&double);
    program.run(&["task", "activate", "good", "--wait"]).await.ended(0).shows("puts 3");
    program
        .run(&["task", "activate", "bad", "--wait"])
        .await
        .ended(1)
        .says("pass 43 of task")
        .says("disk on fire");
    program.run(&["task", "activate", "bad"]).await.ended(0);
    program.run(&["task", "activate", "later_bad", "--wait"]).await.ended(0).shows("report of pass 42");
    program.run(&["task", "list"]).await.ended(0).shows("artifact_replication idle");
}
