//! `op …` with the real program: what it asks for, what it shows, how refusals and absences read.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod double;

use axum::{
    Router,
    extract::{Path, Query, Request},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use double::{Double, Program, answer, interrupted, page, refuse, routes};
use nexus_client::{
    pages::Page,
    sagas::{Saga, SagaDetail, SagaQuery, SagaState},
};
use problem::{Code, Problem};
use serde_json::{Value, json};
use std::{
    process::Stdio,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    sync::Notify,
};

/// The id of the saga with this number; those with larger numbers are younger.
fn id(number: u64) -> String {
    format!("{number:08x}-3c1e-7000-8000-0123456789ab")
}

fn saga(number: u64, state: SagaState) -> Saga {
    let created = jiff::Timestamp::from_second(1_795_000_000 + i64::try_from(number).unwrap()).unwrap();
    serde_json::from_value(json!({
        "id": id(number), "kind": "demo", "version": 1, "state": state,
        "coordinator": "0191dddd-0000-7000-8000-000000000001", "executing": !state.is_ended(),
        "created_at": created, "ended_at": state.is_ended().then_some(created),
    }))
    .unwrap()
}

/// A saga with a first node that has succeeded, and a second one that is in a state of its own.
fn detail(number: u64, state: SagaState, second: &str) -> SagaDetail {
    let mut detail = serde_json::to_value(saga(number, state)).unwrap();
    detail["params"] = json!({"sleep_ms": 0});
    detail["nodes"] =
        json!([{"node": "first", "state": "succeeded"}, {"node": "inner/one", "state": second}]);
    if state == SagaState::Failed {
        detail["failure"] = json!({"node": "inner/one", "code": "told_to", "message": "no", "attempts": 1});
    }
    serde_json::from_value(detail).unwrap()
}

/// A coordinator with these sagas, newest first, which answers pages of at most 1000.
fn with_sagas(sagas: Vec<Saga>) -> Router {
    let sagas = Arc::new(sagas);
    let list = move |Query(query): Query<SagaQuery>| async move {
        let fits = |saga: &&Saga| {
            query.state.is_none_or(|state| saga.state == state)
                && query.kind.as_ref().is_none_or(|kind| saga.kind == *kind)
        };
        let start: usize = query.page_token.map_or(0, |token| token.parse().unwrap());
        let limit = query.limit.unwrap_or(100).min(1000) as usize;
        let all: Vec<&Saga> = sagas.iter().filter(fits).collect();
        let items: Vec<Saga> = all.iter().skip(start).take(limit).map(|saga| (*saga).clone()).collect();
        let next_page = (start + limit < all.len()).then(|| (start + limit).to_string());
        answer(&Page { items, next_page })
    };
    Router::new().route("/v1/sagas", get(list))
}

/// What a coordinator of this cluster refuses with; the codes of sagas are the coordinator's business.
fn refusal(status: u16, code: &str, detail: &str) -> Response {
    refuse(Problem { status, code: code.into(), ..Problem::new(Code::BadRequest, detail) })
}

/// Answers one thing after the other, and the last one for ever.
fn script(answers: Vec<Box<dyn Fn() -> Response + Send + Sync>>) -> Router {
    let (answers, asked) = (Arc::new(answers), Arc::new(AtomicUsize::new(0)));
    let next = move || async move {
        let place = asked.fetch_add(1, Ordering::SeqCst).min(answers.len() - 1);
        answers[place]()
    };
    routes().route("/v1/sagas/{id}", get(next))
}

fn shown(detail: SagaDetail) -> Box<dyn Fn() -> Response + Send + Sync> {
    Box::new(move || answer(&detail))
}

fn away() -> Box<dyn Fn() -> Response + Send + Sync> {
    Box::new(|| refuse(Problem::new(Code::Unavailable, "the coordinator is starting")))
}

fn torn() -> Box<dyn Fn() -> Response + Send + Sync> {
    Box::new(|| panic!("this is how a handler tears its connection"))
}

#[tokio::test]
async fn list_shows_what_has_not_ended_however_old_and_the_newest_that_have() {
    let mut sagas: Vec<Saga> = (100..2000).rev().map(|number| saga(number, SagaState::Succeeded)).collect();
    sagas.push(saga(7, SagaState::NeedsAttention));
    let double = Double::coordinator(with_sagas(sagas)).await;
    let program = Program::of(&double);
    let run = program.run(&["op", "list"]).await.ended(0);
    assert_eq!(run.stdout.lines().count(), 1 + 1 + 10 + 1, "{}", run.stdout);
    let run = run.shows("needs_attention").shows("000007cf-3c1e");
    run.shows("1 that have not ended, the newest 10 that have; there are more: --state S, --limit N, --all");
    let run = program.run(&["op", "list", "--limit", "3"]).await.ended(0);
    assert_eq!(run.stdout.lines().count(), 1 + 3 + 1, "{}", run.stdout);
    run.shows("the newest 3; there are more");
    let run = program.run(&["op", "list", "--all", "--no-headers"]).await.ended(0);
    assert_eq!(run.stdout.lines().count(), 1901);
    let run = program.run(&["op", "list", "--state", "needs-attention", "--kind", "demo"]).await.ended(0);
    assert_eq!(run.stdout.lines().count(), 1 + 1, "{}", run.stdout);
    let run = program.run(&["op", "list", "--kind", "other"]).await.ended(0);
    run.says("no such saga; to try one: sledctl op demo");
}

#[tokio::test]
async fn list_shows_a_hundred_unfinished_sagas_of_each_state_and_ten_ended_ones_of_all_states() {
    let state = |number| match number % 4 {
        0 => SagaState::Succeeded,
        1 => SagaState::Failed,
        2 => SagaState::Abandoned,
        _ => SagaState::Waiting,
    };
    let sagas: Vec<Saga> = (0..480).rev().map(|number| saga(number, state(number))).collect();
    let double = Double::coordinator(with_sagas(sagas)).await;
    let run = Program::of(&double).run(&["op", "list"]).await.ended(0);
    let ids: Vec<&str> = run.stdout.lines().skip(1).take(110).map(|row| &row[..13]).collect();
    assert!(ids.is_sorted_by(|one, other| one > other), "not newest first:\n{}", run.stdout);
    assert_eq!(run.stdout.matches(" waiting ").count(), 100);
    run.shows("\nthe newest 100 that have not ended, the newest 10 that have; there are more: ");
}

#[tokio::test]
async fn list_for_programs_is_one_page_with_all_items() {
    let sagas: Vec<Saga> = (0..1500).rev().map(|number| saga(number, SagaState::Failed)).collect();
    let double = Double::coordinator(with_sagas(sagas.clone())).await;
    let program = Program::of(&double);
    let run = program.run(&["op", "list", "-o", "json"]).await.ended(0);
    let page: Page<Saga> = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((page.items, page.next_page), (sagas.clone(), None));
    let run = program.run(&["op", "list", "-o", "json", "--limit", "1200"]).await.ended(0);
    assert_eq!(serde_json::from_str::<Page<Saga>>(&run.stdout).unwrap().items, sagas[..1200]);
}

#[tokio::test]
async fn saga_is_shown_by_its_id_and_by_the_beginning_of_it() {
    let routes = with_sagas(vec![
        saga(0x1234_5678, SagaState::Running),
        saga(0x1234_0000, SagaState::Failed),
    ])
    .route(
        "/v1/sagas/{id}",
        get(|Path(asked): Path<String>| async move {
            if asked == id(0x1234_5678) {
                return answer(&detail(0x1234_5678, SagaState::Running, "running"));
            }
            refusal(404, "saga_not_found", "no saga has this id")
        }),
    )
    .route(
        "/v1/sagas/{id}/events",
        get(|| async {
            page(&json!([{"number": 1, "time": "2026-11-20T12:00:00Z", "node": "first", "event": "started",
                          "adoption_epoch": 0}]))
        }),
    );
    let double = Double::coordinator(routes).await;
    let program = Program::of(&double);
    let by_id = program.run(&["op", "show", &id(0x1234_5678)]).await.ended(0);
    let by_beginning = program.run(&["op", "show", "12345"]).await.ended(0);
    assert_eq!(by_id.stdout, by_beginning.stdout);
    by_id.shows("nodes     1 of 2 done").shows("inner/one running");
    program.run(&["op", "show", "12345", "--events"]).await.ended(0).shows("EVENT");
    let run = program.run(&["op", "show", "12345", "--events", "-o", "json"]).await.ended(0);
    let json: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!((&json["id"], &json["events"][0]["event"]), (&json!(id(0x1234_5678)), &json!("started")));
    let run = program.run(&["op", "show", "1234"]).await.ended(1);
    run.says(&format!("\"1234\" fits more than one saga: {} (demo, running), ", id(0x1234_5678)))
        .says("hint: give more of it");
    program.run(&["op", "show", "123"]).await.ended(1).says("no saga is named \"123\"");
    let run = program.run(&["op", "show", "99999"]).await.ended(1);
    run.says("no saga is named \"99999\"; there are: ").says("hint: give a whole id, or ").says("op list");
    let run = program.run(&["op", "show", &id(9)]).await.ended(1);
    run.says("error: no saga has this id (404 saga_not_found)").says("request id request-of-the-test");
}

#[tokio::test]
async fn beginning_of_an_id_is_found_behind_ten_thousand_ended_ones_if_it_has_not_ended() {
    let mut sagas: Vec<Saga> =
        (0..10_001).rev().map(|number| saga(0x2000_0000 + number, SagaState::Succeeded)).collect();
    sagas.push(saga(0x1234_5678, SagaState::Waiting));
    let asked = Arc::new(Mutex::new(String::new()));
    let heard = Arc::clone(&asked);
    let cancel = |Path(id): Path<String>| async move {
        *heard.lock().unwrap() = id;
        answer(&saga(0x1234_5678, SagaState::Waiting))
    };
    let routes = with_sagas(sagas).route("/v1/sagas/{id}/cancel", post(cancel));
    let double = Double::coordinator(routes).await;
    let program = Program::of(&double);
    program.run(&["op", "cancel", "1234"]).await.ended(0).says("no further node begins");
    assert_eq!(*asked.lock().unwrap(), id(0x1234_5678));
    program.run(&["op", "cancel", "20000000"]).await.ended(1).says("no saga is named \"20000000\"");
}

/// A coordinator that notes every call that changes something, and answers with this saga.
fn recording(seen: &Arc<Mutex<Vec<String>>>, detail: SagaDetail) -> Router {
    let seen = Arc::clone(seen);
    let brief = detail.saga.clone();
    let hear = move |request: Request| async move {
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1000).await.unwrap();
        let body = String::from_utf8_lossy(&body).into_owned();
        seen.lock().unwrap().push(format!("{} {} {body}", head.method, head.uri).trim().to_owned());
        answer(&brief)
    };
    let show = move || async move { answer(&detail) };
    Router::new().route("/v1/sagas/{id}", get(show)).route("/v1/sagas/{id}/{verb}", any(hear))
}

#[tokio::test]
async fn verbs_send_what_was_said_and_tell_what_follows() {
    let seen = Arc::default();
    let double = Double::coordinator(recording(&seen, detail(1, SagaState::NeedsAttention, "undoing"))).await;
    let (program, id) = (Program::of(&double), id(1));
    let watch = format!("sledctl op watch {id}");
    program.run(&["op", "cancel", &id]).await.ended(0).shows("saga      ").says(&watch);
    program.run(&["op", "retry", &id]).await.ended(0).says("its undos are tried again").says(&watch);
    program.run(&["op", "signal", &id, "proceed"]).await.ended(0).says("signal proceed is kept for it");
    let value = ["op", "signal", &id, "proceed", "--value", "-1"];
    program.run(&value).await.ended(0);
    let abandon = ["op", "abandon", &id, "--reason", "the sled burned down"];
    let run = program.run(&abandon).await.ended(2);
    run.says(&format!("abandoning saga {id} (demo) cannot be undone")).says("hint: add --yes");
    assert_eq!(seen.lock().unwrap().len(), 4, "it was abandoned without being asked for");
    let run = program.run(&[abandon.as_slice(), &["--yes"]].concat()).await.ended(0);
    run.says("is given up; what these nodes made may stay: first, inner/one");
    let path = format!("POST /v1/sagas/{id}");
    let expected = [
        format!("{path}/cancel"),
        format!("{path}/retry"),
        format!(r#"{path}/signal {{"name":"proceed","value":null}}"#),
        format!(r#"{path}/signal {{"name":"proceed","value":-1}}"#),
        format!(r#"{path}/abandon {{"reason":"the sled burned down"}}"#),
    ];
    assert_eq!(*seen.lock().unwrap(), expected);
    program.run(&["op", "abandon", &id]).await.ended(2).says("--reason");
    program
        .run(&["op", "signal", &id, "proceed", "--value", "go"])
        .await
        .ended(2)
        .says("text needs its quotes");
    assert_eq!(seen.lock().unwrap().len(), expected.len(), "what is not understood is not sent");
}

#[tokio::test]
async fn refused_verbs_say_why() {
    let ended = || async { answer(&detail(1, SagaState::Succeeded, "succeeded")) };
    let verb = |Path((_, verb)): Path<(String, String)>| async move {
        if verb == "signal" {
            return refusal(409, "saga_not_executed_here", "saga is executed by nexus-2");
        }
        refusal(409, "saga_ended", "saga has succeeded 3 min ago")
    };
    let routes = Router::new().route("/v1/sagas/{id}", get(ended)).route("/v1/sagas/{id}/{verb}", post(verb));
    let double = Double::coordinator(routes).await;
    let (program, id) = (Program::of(&double), id(1));
    for verb in [&["cancel", &id][..], &["retry", &id], &["abandon", &id, "--reason", "r"]] {
        let run = program.run(&[&["op"], verb].concat()).await.ended(1);
        assert_eq!(run.stdout, "", "{verb:?}");
        run.says("error: saga has succeeded 3 min ago (409 saga_ended)");
    }
    let run = program.run(&["op", "signal", &id, "proceed"]).await.ended(1);
    run.says("(409 saga_not_executed_here)").says("request id request-of-the-test");
}

#[tokio::test]
async fn watching_tells_each_change_and_ends_with_the_end() {
    let answers = vec![
        shown(detail(1, SagaState::Running, "pending")),
        shown(detail(1, SagaState::Running, "running")),
        shown(detail(1, SagaState::Running, "running")),
        shown(detail(1, SagaState::Succeeded, "succeeded")),
    ];
    let double = Double::coordinator(script(answers)).await;
    let program = Program::of(&double);
    let run = program.run(&["op", "watch", &id(1)]).await.ended(0).shows("state     succeeded");
    let expected = "  first succeeded\nrunning, 1 of 2 done\n  inner/one running\n  inner/one succeeded\n\
                    succeeded, 2 of 2 done\n";
    let (first, rest) = run.stderr.split_once('\n').unwrap();
    assert!(first.starts_with(&format!("saga {} (demo), accepted ", id(1))), "{first}");
    assert_eq!(rest, expected);
    let run = program.run(&["op", "watch", &id(1), "-o", "json"]).await.ended(0);
    let ended: SagaDetail = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(ended, detail(1, SagaState::Succeeded, "succeeded"));
}

#[tokio::test]
async fn watching_asks_the_coordinator_to_wait() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let look = move |request: Request| async move {
        heard.lock().unwrap().push(request.uri().query().unwrap_or_default().to_owned());
        let state = if heard.lock().unwrap().len() < 2 { SagaState::Running } else { SagaState::Succeeded };
        answer(&detail(1, state, "succeeded"))
    };
    let double = Double::coordinator(Router::new().route("/v1/sagas/{id}", get(look))).await;
    Program::of(&double).run(&["op", "watch", &id(1)]).await.ended(0);
    assert_eq!(*asked.lock().unwrap(), ["", "wait_seconds=1"]);
}

#[tokio::test]
async fn watching_what_does_not_succeed_fails_with_it() {
    let double = Double::coordinator(script(vec![shown(detail(1, SagaState::Failed, "failed"))])).await;
    let run = Program::of(&double).run(&["op", "watch", &id(1)]).await.ended(1).shows("state     failed");
    run.says("failed, and every effect is undone: inner/one: no (told_to, 1 attempt)")
        .says(&format!("hint: sledctl op show {} --events", id(1)));
    let mut given_up = detail(1, SagaState::Abandoned, "undoing");
    given_up.saga.not_undone = vec!["first".into()];
    let double = Double::coordinator(script(vec![shown(given_up)])).await;
    let run = Program::of(&double).run(&["op", "watch", &id(1)]).await.ended(1);
    run.says("was abandoned; may be left behind: first");
}

#[tokio::test]
async fn watching_says_what_it_waits_for_and_what_to_type() {
    let mut waiting = detail(1, SagaState::Waiting, "running");
    waiting.saga.waits_for = Some("signal proceed".into());
    let answers = vec![shown(waiting), shown(detail(1, SagaState::Succeeded, "succeeded"))];
    let double = Double::coordinator(script(answers)).await;
    let run = Program::of(&double).run(&["op", "watch", &id(1)]).await.ended(0);
    let run = run.says("waiting, 1 of 2 done: waits for signal proceed\n");
    run.says(&format!("\n  sledctl op signal {} proceed\n", id(1)));
}

#[tokio::test]
async fn watching_survives_a_coordinator_that_goes_away_and_comes_back() {
    // A read whose connection breaks is sent again at once, so it takes several to be noticed.
    let answers = vec![
        shown(detail(1, SagaState::Running, "running")),
        torn(),
        torn(),
        torn(),
        away(),
        shown(detail(1, SagaState::Succeeded, "succeeded")),
    ];
    let double = Double::coordinator(script(answers)).await;
    let run = Program::of(&double).run(&["op", "watch", &id(1)]).await.ended(0);
    assert_eq!(run.stderr.matches("the coordinator does not answer (").count(), 1, "{}", run.stderr);
    run.says("the saga goes on once it is back").says("the coordinator answers again, after ");
}

#[tokio::test]
async fn watching_gives_up_when_told_to_and_at_once_where_nobody_ever_answered() {
    let double =
        Double::coordinator(script(vec![shown(detail(1, SagaState::Running, "running")), away()])).await;
    let program = Program::of(&double);
    let run = program.run(&["op", "watch", &id(1), "--give-up-after", "1s"]).await.ended(1);
    run.says("the coordinator has not answered for 1 s; what it does goes on").says("hint: sledctl status");
    let nobody = Program::new().with("SLEDCTL_URL", "http://127.0.0.1:9");
    nobody.run(&["op", "watch", &id(1)]).await.ended(1).says("no answer from the coordinator at ");
}

#[tokio::test]
async fn saga_that_is_gone_ends_the_watching() {
    let gone: Box<dyn Fn() -> Response + Send + Sync> =
        Box::new(|| refusal(404, "saga_not_found", "no saga has this id"));
    let double =
        Double::coordinator(script(vec![shown(detail(1, SagaState::Running, "running")), gone])).await;
    Program::of(&double).run(&["op", "watch", &id(1)]).await.ended(1).says("(404 saga_not_found)");
}

#[tokio::test]
async fn interrupted_watching_says_that_the_saga_goes_on() {
    let double = Double::coordinator(script(vec![shown(detail(1, SagaState::Running, "running"))])).await;
    let program = Program::of(&double);
    let mut child = program.command(&["op", "watch", &id(1)]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    while !lines.next_line().await.unwrap().unwrap().starts_with("running, ") {}
    let process = rustix::process::Pid::from_raw(child.id().unwrap().cast_signed()).unwrap();
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    let said = lines.next_line().await.unwrap().unwrap();
    assert!(
        said.contains(&format!("interrupted while watching: the saga goes on; sledctl op watch {}", id(1))),
        "{said}"
    );
    assert_eq!(child.wait().await.unwrap().code(), Some(130));
}

/// A coordinator that begins demo sagas, and notes how many calls it had at once at most; each `refused`-th is refused.
#[derive(Clone)]
struct Demos {
    begun: Arc<AtomicU64>,
    at_once: Arc<Mutex<(u64, u64)>>,
    bodies: Arc<Mutex<Vec<Value>>>,
    refused: u64,
}

impl Demos {
    fn refusing(refused: u64) -> Demos {
        Demos { begun: Arc::default(), at_once: Arc::default(), bodies: Arc::default(), refused }
    }

    fn routes(&self) -> Router {
        let demos = self.clone();
        let begin = move |body: String| async move { demos.begin(&body).await };
        routes().route("/v1/sagas/demo", post(begin)).route(
            "/v1/sagas/{id}",
            get(|Path(asked): Path<String>| async move {
                let number = u64::from_str_radix(&asked[..8], 16).unwrap();
                let state = if number % 2 == 0 { SagaState::Succeeded } else { SagaState::Failed };
                answer(&detail(number, state, "succeeded"))
            }),
        )
    }

    async fn begin(&self, body: &str) -> Response {
        {
            let mut at_once = self.at_once.lock().unwrap();
            at_once.0 += 1;
            at_once.1 = at_once.1.max(at_once.0);
            self.bodies.lock().unwrap().push(serde_json::from_str(body).unwrap());
        }
        // Others get their turn, so that what comes at once is seen at once.
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        self.at_once.lock().unwrap().0 -= 1;
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        if self.refused > 0 && number.is_multiple_of(self.refused) {
            return refusal(400, "demo_node_unknown", "the demo has no node \"nowhere\"");
        }
        (StatusCode::ACCEPTED, axum::Json(json!({"id": id(number)}))).into_response()
    }
}

#[tokio::test]
async fn demo_sends_what_was_said_and_prints_the_ids() {
    let demos = Demos::refusing(0);
    let double = Double::coordinator(demos.routes()).await;
    let program = Program::of(&double);
    let run = program.run(&["op", "demo"]).await.ended(0).says("note: 1 of 1 accepted in ");
    assert_eq!(run.stdout, format!("{}\n", id(1)));
    let options = ["--wait-for-signal", "--sleep", "250", "--fail-at", "left", "--stuck-at", "first"];
    program.run(&[&["op", "demo"], options.as_slice()].concat()).await.ended(0);
    let said = json!({"wait_for_signal": true, "sleep_ms": 250, "fail_at": "left", "stuck_at": "first"});
    assert_eq!(*demos.bodies.lock().unwrap(), [json!({"wait_for_signal": false, "sleep_ms": 0}), said]);
    let run =
        program.run(&["op", "demo", "--count", "30", "--concurrency", "1", "-o", "json"]).await.ended(0);
    let expected: Vec<Value> = (3..33).map(|number| json!({"id": id(number)})).collect();
    let printed: Value = serde_json::from_str(&run.stdout).unwrap();
    assert_eq!(printed, json!({"items": expected, "next_page": null}));
    for wrong in
        [["--count", "0"], ["--concurrency", "0"], ["--concurrency", "1000"], ["--give-up-after", "1s"]]
    {
        program.run(&[&["op", "demo"], wrong.as_slice()].concat()).await.ended(2);
    }
    assert_eq!(demos.begun.load(Ordering::SeqCst), 32, "what is not understood is not sent");
}

#[tokio::test]
async fn many_demo_sagas_are_a_summary_and_never_more_calls_at_once_than_said() {
    let demos = Demos::refusing(0);
    let double = Double::coordinator(demos.routes()).await;
    let program = Program::of(&double);
    let run = program.run(&["op", "demo", "--count", "200", "--concurrency", "8"]).await.ended(0);
    run.shows("accepted  200 of 200 demo sagas\n").shows(" per s\n").says("starting sagas 1 of 200");
    let most = demos.at_once.lock().unwrap().1;
    assert!((2..=8).contains(&most), "{most} calls at once");
}

#[tokio::test]
async fn refused_demo_sagas_are_counted_and_the_first_refusal_is_shown() {
    let demos = Demos::refusing(4);
    let double = Double::coordinator(demos.routes()).await;
    let program = Program::of(&double);
    let run = program.run(&["op", "demo", "--count", "40"]).await.ended(1);
    let run = run.shows("accepted  30 of 40 demo sagas").shows("refused   10\n");
    let run = run.says("error: 10 of 40 calls did not succeed; the first error:\n");
    run.says("error: the demo has no node \"nowhere\" (400 demo_node_unknown)\n").says("request id ");
    let demos = Demos::refusing(1);
    let double = Double::coordinator(demos.routes()).await;
    let run = Program::of(&double).run(&["op", "demo", "--fail-at", "nowhere"]).await.ended(1);
    assert_eq!((run.stdout.as_str(), run.stderr.matches("error:").count()), ("", 1), "{}", run.stderr);
    run.says("error: the demo has no node \"nowhere\"");
}

#[tokio::test]
async fn demo_sagas_without_an_answer_are_not_said_to_be_refused() {
    let nobody = Program::new().with("SLEDCTL_URL", "http://127.0.0.1:9");
    let run = nobody.run(&["op", "demo", "--count", "25"]).await.ended(1);
    run.shows("unanswered  25; they may have been accepted").says("no answer from the coordinator at ");
}

#[tokio::test]
async fn demo_waits_for_ends_and_counts_them() {
    let demos = Demos::refusing(0);
    let double = Double::coordinator(demos.routes()).await;
    let program = Program::of(&double);
    let run = program.run(&["op", "demo", "--count", "40", "--wait"]).await.ended(0);
    run.shows("ended      20 succeeded, 20 failed\n").says("waiting for ends 1 of 40");
    let run =
        program.run(&["op", "demo", "--count", "2", "--concurrency", "1", "--wait", "-o", "json"]).await;
    let run = run.ended(0).says("; 1 succeeded, 1 failed after ");
    let printed: Value = serde_json::from_str(&run.stdout).unwrap();
    let items = json!([{"id": id(41), "state": "failed"}, {"id": id(42), "state": "succeeded"}]);
    assert_eq!(printed["items"], items);
}

#[tokio::test]
async fn demo_does_not_wait_for_an_operator_and_says_what_to_type() {
    let begin = || async { (StatusCode::ACCEPTED, axum::Json(json!({"id": id(1)}))) };
    let stuck = shown(detail(1, SagaState::NeedsAttention, "undoing"));
    let double = Double::coordinator(script(vec![stuck]).route("/v1/sagas/demo", post(begin))).await;
    let run = Program::of(&double).run(&["op", "demo", "--wait"]).await.ended(0);
    run.says("; 1 needs_attention after ").says(&format!("sledctl op retry {}", id(1)));
}

#[tokio::test]
async fn abandoning_what_goes_on_is_not_asked_about_because_it_is_refused() {
    let seen = Arc::default();
    let double = Double::coordinator(recording(&seen, detail(1, SagaState::Running, "running"))).await;
    let id = id(1);
    Program::of(&double).run(&["op", "abandon", &id, "--reason", "why not"]).await;
    assert_eq!(*seen.lock().unwrap(), [format!(r#"POST /v1/sagas/{id}/abandon {{"reason":"why not"}}"#)]);
}

#[tokio::test]
async fn a_signal_that_came_too_late_is_said_not_to_be_kept() {
    let mut answered = serde_json::to_value(saga(1, SagaState::Waiting)).unwrap();
    answered["kept"] = false.into();
    let shown = saga(1, SagaState::Waiting);
    let routes = Router::new()
        .route("/v1/sagas/{id}", get(move || async move { answer(&shown) }))
        .route("/v1/sagas/{id}/signal", post(move || async move { axum::Json(answered) }));
    let double = Double::coordinator(routes).await;
    let run = Program::of(&double).run(&["op", "signal", &id(1), "proceed"]).await.ended(0);
    run.says("it had a signal proceed before, with another value, which stays");
}

#[tokio::test]
async fn demo_waits_for_a_coordinator_that_is_away_and_counts_ends_that_it_never_learns() {
    let begin = || async { (StatusCode::ACCEPTED, axum::Json(json!({"id": id(1)}))) };
    let ended = shown(detail(1, SagaState::Succeeded, "succeeded"));
    let answers = vec![shown(detail(1, SagaState::Running, "running")), away(), away(), ended];
    let double = Double::coordinator(script(answers).route("/v1/sagas/demo", post(begin))).await;
    let run = Program::of(&double).run(&["op", "demo", "--wait"]).await.ended(0);
    run.says("; 1 succeeded after ");
    let double = Double::coordinator(script(vec![away()]).route("/v1/sagas/demo", post(begin))).await;
    let run = Program::of(&double).run(&["op", "demo", "--wait", "--give-up-after", "1s"]).await.ended(1);
    run.says("; 1 unknown after ").says("error: the coordinator has not answered for 1 s");
}

#[tokio::test]
async fn interrupted_demo_prints_what_was_accepted_and_that_it_goes_on() {
    let (first, asked) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let tell = Arc::clone(&asked);
    let begin = move || async move {
        if first.fetch_add(1, Ordering::SeqCst) > 0 {
            tell.notify_one();
            std::future::pending::<()>().await;
        }
        (StatusCode::ACCEPTED, axum::Json(json!({"id": id(1)})))
    };
    let double = Double::coordinator(routes().route("/v1/sagas/demo", post(begin))).await;
    let program = Program::of(&double);
    let run = interrupted(&program, &["op", "demo", "--count", "3", "--concurrency", "1"], &asked).await;
    assert_eq!(run.stdout, format!("{}\n", id(1)), "{run:?}");
    run.ended(130).says("interrupted while starting sagas: 1 were accepted (and perhaps 1 more) and go on");
}

#[tokio::test]
async fn completion_knows_every_verb() {
    let run = Program::new().run(&["completion", "bash"]).await.ended(0);
    for verb in ["list", "show", "watch", "cancel", "retry", "abandon", "signal", "demo"] {
        assert!(run.stdout.contains(&format!("sledctl__subcmd__op__subcmd__{verb})")), "{verb}");
    }
}
