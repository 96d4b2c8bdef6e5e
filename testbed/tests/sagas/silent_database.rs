//! A database that neither answers nor fails: operators are answered all the same and told why, a stop waits for nothing, and
//! all goes on by itself once it answers.
//!
//! SQLite is held up by another connection that has the write lock and keeps it, so that each of the coordinator's writes
//! waits as it would for a disk; its reads go on. PostgreSQL is a server of the test's own, whose processes are stopped with
//! SIGSTOP: nothing of it answers.

use crate::scene::{COORDINATOR, LIMIT, Scene, code, refusal};
use camino_tempfile::Utf8TempDir;
use ids::SagaId;
use nexus_client::{
    ClientError,
    issues::IssueCode,
    sagas::{DemoSaga, SagaQuery, SagaSignal, SagaState, SagaWaitQuery},
};
use serde_json::Value;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{
    fs::{self, Permissions},
    future::Future,
    os::unix::fs::PermissionsExt,
    time::{Duration, Instant},
};
use test_postgres::{Programs, Standing, is_required};
use tokio::time::timeout;

/// What operators are promised, and some for a busy machine.
const ANSWERED: Duration = Duration::from_secs(12);

/// A status is answered from memory.
const STATUS_ANSWERED: Duration = Duration::from_secs(4);

/// From SIGTERM to the end of the process.
const STOPPED: Duration = Duration::from_millis(3_500);

async fn refused_in_time<T: std::fmt::Debug>(call: impl Future<Output = Result<T, ClientError>>) {
    let answer = timeout(ANSWERED, call).await.expect("it is answered in time");
    assert_eq!(refusal(answer), code(503, "database_unavailable"));
}

/// Waits until status says that the database does not answer; each look is itself answered in time.
async fn is_told(scene: &Scene) {
    scene
        .look("the issue", async || {
            let issues = scene.issues(IssueCode::DatabaseUnavailable);
            let issues = timeout(STATUS_ANSWERED, issues).await.expect("status is answered in time");
            if issues.is_empty() { Err("no issue yet".to_owned()) } else { Ok(()) }
        })
        .await;
}

/// Waits until status says no such thing any more.
async fn is_over(scene: &Scene) {
    scene
        .look("the end of the issue", async || {
            let issues = scene.issues(IssueCode::DatabaseUnavailable).await;
            if issues.is_empty() { Ok(()) } else { Err(format!("{issues:?}")) }
        })
        .await;
}

async fn signal(scene: &Scene, id: SagaId) -> Result<(), ClientError> {
    let signal = SagaSignal { name: "proceed".to_owned(), value: Value::Null };
    scene.operator.saga_signal(id, &signal).await.map(drop)
}

/// Stops it, with a client that waits for the end of a saga; both end in time.
async fn stops_in_time(scene: &Scene, id: SagaId) {
    let query = SagaWaitQuery { wait_seconds: Some(25) };
    let asked = Instant::now();
    let (stopped, waited) = tokio::join!(scene.stop(COORDINATOR), scene.operator.saga(id, &query));
    let took = asked.elapsed();
    assert!(stopped.expect("it was running"), "it had to be killed");
    assert!(took < STOPPED, "{took:?}");
    drop(waited);
}

/// The write lock, until this is dropped.
async fn lock(scene: &Scene) -> SqliteConnection {
    let file = scene.directory().state_dir(COORDINATOR).join("nexus.db");
    let options = SqliteConnectOptions::new().filename(&file).busy_timeout(LIMIT);
    let mut other = SqliteConnection::connect_with(&options).await.expect("it opens");
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.expect("the lock is free");
    other
}

#[tokio::test]
async fn while_sqlite_is_held_up_operators_are_answered_and_then_all_goes_on() {
    let scene = Scene::start().await;
    let waiting = scene.begin_waiting(DemoSaga::default()).await;
    let other = lock(&scene).await;
    let new = DemoSaga { id: Some(SagaId::generate()), ..DemoSaga::default() };
    tokio::join!(
        refused_in_time(scene.operator.saga_demo(&new)),
        refused_in_time(signal(&scene, waiting)),
        refused_in_time(scene.operator.saga_cancel(waiting)),
        is_told(&scene),
    );
    let listed = scene.operator.sagas(&SagaQuery::default()).await.expect("reads go on");
    assert!(listed.items.iter().any(|saga| saga.id == waiting));
    other.close().await.expect("it lets go");

    is_over(&scene).await;
    let id = scene.operator.saga_demo(&new).await.expect("it is there, or begun now").id;
    scene.succeeds_with_every_node_once(id).await;
    // To cancel it was not taken back: it waits in the coordinator until the database takes it.
    assert_eq!(scene.ended(waiting).await.saga.state, SagaState::Failed);
}

#[tokio::test]
async fn a_stop_does_not_wait_while_sqlite_is_held_up() {
    let scene = Scene::start().await;
    let waiting = scene.begin_waiting(DemoSaga::default()).await;
    let other = lock(&scene).await;
    is_told(&scene).await;
    stops_in_time(&scene, waiting).await;
    other.close().await.expect("it lets go");
    scene.restart(COORDINATOR).await.expect("it starts");
    scene.waits_for(waiting, "the signal proceed").await;
    scene.proceed(waiting).await;
    scene.succeeds_with_every_node_once(waiting).await;
}

#[tokio::test]
pub(crate) async fn a_stop_ends_long_polls_at_once() {
    let scene = Scene::start().await;
    let waiting = scene.begin_waiting(DemoSaga::default()).await;
    stops_in_time(&scene, waiting).await;
}

/// A server of this test's own. It is thawed and ended with the test.
struct OwnServer(Standing);

impl Drop for OwnServer {
    fn drop(&mut self) {
        let _ = self.0.thaw();
        let _ = self.0.end(true);
    }
}

#[tokio::test]
async fn while_postgresql_is_frozen_operators_are_answered_and_then_all_goes_on() {
    if Programs::find().is_none() && !is_required() {
        eprintln!("left out: there is no PostgreSQL on this machine");
        return;
    }
    let temp = Utf8TempDir::new().expect("a directory for the server");
    // The server's user must reach it.
    fs::set_permissions(temp.path(), Permissions::from_mode(0o755)).expect("it is ours");
    let server = OwnServer(Standing::at(&temp.path().join("postgres")));
    server.0.start().expect("it starts");
    let url = server.0.database("silent").expect("a database");
    let scene = Scene::with(|builder| builder.external_database(&url, &server.0.password_file())).await;
    let waiting = scene.begin_waiting(DemoSaga::default()).await;
    let asleep = scene.begin(DemoSaga { sleep_ms: 2_000, ..DemoSaga::default() }).await;

    server.0.freeze().expect("it is ours");
    let all = SagaQuery::default();
    let new = DemoSaga { id: Some(SagaId::generate()), ..DemoSaga::default() };
    tokio::join!(
        refused_in_time(scene.operator.saga_demo(&new)),
        refused_in_time(scene.operator.sagas(&all)),
        refused_in_time(signal(&scene, waiting)),
        is_told(&scene),
    );
    server.0.thaw().expect("it is ours");
    is_over(&scene).await;
    let id = scene.operator.saga_demo(&new).await.expect("it is there, or begun now").id;
    scene.succeeds_with_every_node_once(id).await;
    scene.succeeds_with_every_node_once(asleep).await;
    signal(&scene, waiting).await.expect("it is taken");
    scene.succeeds_with_every_node_once(waiting).await;

    let last = scene.begin_waiting(DemoSaga::default()).await;
    server.0.freeze().expect("it is ours");
    is_told(&scene).await;
    stops_in_time(&scene, last).await;
    server.0.thaw().expect("it is ours");
    scene.restart(COORDINATOR).await.expect("it starts");
    scene.proceed(last).await;
    scene.succeeds_with_every_node_once(last).await;
}
