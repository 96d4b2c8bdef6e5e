//! Words of an operator that a saga does not take, each with its code; nothing changes.

use crate::scene::{COORDINATOR, Scene, code, refusal};
use ids::SagaId;
use nexus_client::{
    issues::IssueCode,
    sagas::{DemoSaga, SagaSignal, SagaState, SagaWaitQuery},
};
use nexus_database::{Database, during, sql::sql};
use reqwest::Method;
use serde_json::Value;

async fn every_verb(scene: &Scene, id: SagaId) -> Vec<(u16, String)> {
    let signal = SagaSignal { name: "proceed".to_owned(), value: Value::Null };
    vec![
        refusal(scene.operator.saga_cancel(id).await),
        refusal(scene.operator.saga_retry(id).await),
        refusal(scene.abandon(id, "why not").await),
        refusal(scene.operator.saga_signal(id, &signal).await),
    ]
}

#[tokio::test]
pub(crate) async fn a_saga_that_is_not_there_takes_nothing() {
    let scene = Scene::start().await;
    let id = SagaId::generate();
    let not_there = code(404, "saga_not_found");
    assert_eq!(every_verb(&scene, id).await, vec![not_there.clone(); 4]);
    assert_eq!(refusal(scene.operator.saga(id, &SagaWaitQuery::default()).await), not_there);
    assert_eq!(refusal(scene.operator.saga(id, &SagaWaitQuery { wait_seconds: Some(1) }).await), not_there);
    assert_eq!(refusal(scene.operator.saga_events(id).await), not_there);
}

#[tokio::test]
pub(crate) async fn a_saga_that_has_ended_takes_nothing_in_this_life_and_the_next() {
    let scene = Scene::start().await;
    let id = scene.begin(DemoSaga::default()).await;
    for _ in 0..2 {
        scene.ended(id).await;
        assert_eq!(every_verb(&scene, id).await, vec![code(409, "saga_ended"); 4]);
        scene.kill_and_restart().await;
    }
    scene.succeeds_with_every_node_once(id).await;
}

#[tokio::test]
pub(crate) async fn a_saga_that_waits_for_no_operator_is_neither_retried_nor_given_up() {
    let scene = Scene::start().await;
    let id = scene.begin_waiting(DemoSaga::default()).await;
    assert_eq!(refusal(scene.operator.saga_retry(id).await), code(409, "saga_needs_no_attention"));
    assert_eq!(refusal(scene.abandon(id, "why not").await), code(409, "saga_needs_no_attention"));
    scene.proceed(id).await;
    scene.succeeds_with_every_node_once(id).await;
}

#[tokio::test]
pub(crate) async fn a_saga_that_nobody_executes_takes_signals_and_says_what_it_waits_for() {
    let scene = Scene::start().await;
    let id = scene.begin_waiting(DemoSaga::default()).await;
    scene.stop(COORDINATOR).await.expect("it stops");
    set_version(&scene, id, 99).await;
    scene.restart(COORDINATOR).await.expect("it starts");
    let report = scene.pass("saga_recovery").await.report;
    assert_eq!(report["last_pass"]["waiting_for_version"], 1, "{report}");
    assert_eq!(report["last_pass"]["found"], 1, "{report}");
    let saga = scene.saga(id).await.saga;
    assert_eq!((saga.state, saga.executing), (SagaState::Waiting, false), "{saga:?}");
    assert!(saga.waits_for.as_ref().is_some_and(|it| it.contains("version 99 of demo")), "{saga:?}");
    assert!(saga.cannot_go_on, "{saga:?}");
    assert_eq!(scene.issues(IssueCode::SagaWaitsForVersion).await.len(), 1);
    let not_executing = code(409, "saga_not_executing");
    assert_eq!(refusal(scene.operator.saga_cancel(id).await), not_executing);
    assert_eq!(refusal(scene.operator.saga_retry(id).await), not_executing);
    scene.proceed(id).await;
    scene.stop(COORDINATOR).await.expect("it stops");
    set_version(&scene, id, 1).await;
    scene.restart(COORDINATOR).await.expect("it starts");
    scene.succeeds_with_every_node_once(id).await;
}

#[tokio::test]
pub(crate) async fn a_saga_that_nobody_can_go_on_with_is_abandoned_and_names_what_is_left() {
    let scene = Scene::start().await;
    let id = scene.begin_waiting(DemoSaga::default()).await;
    scene.stop(COORDINATOR).await.expect("it stops");
    set_version(&scene, id, 99).await;
    scene.restart(COORDINATOR).await.expect("it starts");
    scene.pass("saga_recovery").await;
    scene.abandon(id, "that version is gone").await.expect("it is given up");
    let saga = scene.saga(id).await.saga;
    assert_eq!(saga.state, SagaState::Abandoned, "{saga:?}");
    assert_eq!(saga.abandoned_because.as_deref(), Some("that version is gone"));
    let mut left = saga.not_undone.clone();
    left.sort();
    let mut begun =
        vec!["begin", "left", "middle", "right", "join", "red", "green", "blue", "gather", "wait"];
    begun.extend(["inner/open", "inner/north", "inner/east", "inner/south", "inner/close"]);
    begun.sort_unstable();
    assert_eq!(left, begun);
    let report = scene.pass("saga_recovery").await.report;
    assert_eq!(report["last_pass"]["found"], 0, "{report}");
}

/// As if another version of the coordinator had begun it. Nobody else may have the database.
async fn set_version(scene: &Scene, id: SagaId, version: i64) {
    let database = Database::open(scene.database()).await.expect("the database is there");
    let (operation, id) = ("change the version of a saga", &id.to_string());
    let changed = database.write(operation, |mut tx| {
        Box::pin(async move {
            let update = sql("UPDATE saga SET version = $1 WHERE id = $2").bind(version).bind(id);
            update.execute(&mut *tx).await.map_err(during(operation))
        })
    });
    assert_eq!(changed.await.expect("it is written"), 1);
    database.close().await;
}

#[tokio::test]
pub(crate) async fn bodies_and_queries_that_make_no_sense_are_refused_with_their_codes() {
    let scene = Scene::start().await;
    let id = scene.begin_waiting(DemoSaga::default()).await;
    let token = scene.record().expect("the record is there").tokens.operator;
    let call = async |method: Method, path: &str, body: &str| {
        let url = format!("{}/v1/sagas{path}", scene.operator.base_url());
        let request = reqwest::Client::new().request(method, url).bearer_auth(&token);
        let answer = request.header("content-type", "application/json").body(body.to_owned()).send().await;
        let answer = answer.expect("it answers");
        let status = answer.status().as_u16();
        let problem: Value = answer.json().await.expect("a refusal is a problem");
        (status, problem["code"].as_str().unwrap_or_default().to_owned())
    };
    let long = "x".repeat(1_001);
    for (path, body, wanted) in [
        ("/demo".to_owned(), "{\"fail\":1}".to_owned(), "bad_json"),
        ("/demo".to_owned(), "{\"sleep_ms\":-1}".to_owned(), "bad_json"),
        ("/demo".to_owned(), "{\"id\":\"no id\"}".to_owned(), "bad_json"),
        ("/demo".to_owned(), "not JSON".to_owned(), "bad_json"),
        (format!("/{id}/abandon"), "{}".to_owned(), "bad_json"),
        (format!("/{id}/abandon"), "{\"reason\":\"\"}".to_owned(), "bad_request"),
        (format!("/{id}/abandon"), format!("{{\"reason\":\"{long}\"}}"), "bad_request"),
        (format!("/{id}/signal"), "{}".to_owned(), "bad_json"),
        (format!("/{id}/signal"), "{\"name\":\"\"}".to_owned(), "bad_request"),
        (format!("/{id}/signal"), format!("{{\"name\":\"{}\"}}", &long[..101]), "bad_request"),
        (format!("/{id}/abandon"), "{\"reason\":\"r\",\"force\":true}".to_owned(), "bad_json"),
        (format!("/{id}/signal"), "{\"name\":\"n\",\"values\":1}".to_owned(), "bad_json"),
        (
            format!("/{id}/signal"),
            format!("{{\"name\":\"n\",\"value\":\"{}\"}}", "x".repeat(65_535)),
            "bad_request",
        ),
        (format!("/{id}/cancel"), "{\"reason\":\"r\"}".to_owned(), "bad_json"),
        (format!("/{id}/retry"), "{\"node\":\"left\"}".to_owned(), "bad_json"),
        ("/no-id/cancel".to_owned(), String::new(), "bad_request"),
    ] {
        assert_eq!(call(Method::POST, &path, &body).await, code(400, wanted), "{path} {body}");
    }
    for path in [
        format!("/{id}?wait_seconds=0"),
        format!("/{id}?wait_seconds=26"),
        "/no-id".to_owned(),
        "?state=asleep".to_owned(),
        "?limit=0".to_owned(),
        "?limit=1001".to_owned(),
    ] {
        assert_eq!(call(Method::GET, &path, "").await, code(400, "bad_request"), "{path}");
    }
    for path in ["?page_token=x".to_owned(), format!("/{id}/events?page_token=x")] {
        assert_eq!(call(Method::GET, &path, "").await, code(400, "bad_page_token"), "{path}");
    }
    scene.proceed(id).await;
    scene.succeeds_with_every_node_once(id).await;
}

#[tokio::test]
pub(crate) async fn the_first_value_of_a_signal_stays_and_only_so_many_are_kept() {
    let scene = Scene::start().await;
    let id = scene.begin_waiting(DemoSaga::default()).await;
    let signal = |name: &str, value: Value| SagaSignal { name: name.to_owned(), value };
    for (value, kept) in [(1, true), (1, true), (2, false)] {
        let answer = scene.operator.saga_signal(id, &signal("note", value.into())).await;
        assert_eq!(answer.expect("it is answered").kept, kept, "{value}");
    }
    for number in 1..32 {
        let answer = scene.operator.saga_signal(id, &signal(&format!("n{number}"), Value::Null)).await;
        assert!(answer.expect("it is kept").kept);
    }
    let one_more = scene.operator.saga_signal(id, &signal("n32", Value::Null)).await;
    assert_eq!(refusal(one_more), code(409, "saga_signals_full"));
    assert!(scene.operator.saga_signal(id, &signal("note", 1.into())).await.expect("it is there").kept);
    let shown = scene.saga(id).await.signals;
    assert_eq!(shown.len(), 32);
    assert!(shown.contains(&signal("note", 1.into())), "{shown:?}");
    scene.operator.saga_cancel(id).await.expect("it is cancelled");
    scene.ended(id).await;
}
