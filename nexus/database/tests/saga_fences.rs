//! What PostgreSQL and a bad wire do to the writers of a saga: adoptions that meet appends at chosen points, and commits
//! whose answers are lost.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "store/proxy.rs"]
#[allow(dead_code, reason = "silence uses more of it")]
mod proxy;
mod sagas_made;
mod store;

use ids::AdoptionEpoch;
use nexus_database::{Database, DatabaseSagaStore};
use nexus_sagas::{Created, EndState, Mark, NodeEvent, SagaStore, StoreFault, Written};
use proxy::{Cut, Proxy};
use sagas_made::{adopt, new_saga, store_of};
use serde_json::json;
use sqlx::{AssertSqlSafe, PgConnection, Row};
use std::time::{Duration, Instant};
use store::Store;

fn line(node: u32) -> NodeEvent {
    sagas_made::line(node, "started")
}

async fn say(connection: &mut PgConnection, words: &str) {
    sqlx::raw_sql(AssertSqlSafe(words.to_owned())).execute(connection).await.unwrap();
}

/// Waits until so many sessions of this database wait for locks.
async fn until_waiting(connection: &mut PgConnection, sessions: i64) {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let row = sqlx::query(
            "SELECT COUNT(*) AS waiting FROM pg_stat_activity \
             WHERE datname = current_database() AND wait_event_type = 'Lock'",
        );
        let waiting: i64 = row.fetch_one(&mut *connection).await.unwrap().get("waiting");
        if waiting == sessions {
            return;
        }
        assert!(Instant::now() < deadline, "{waiting} sessions wait, and not {sessions}");
        tokio::task::yield_now().await;
    }
}

/// Whoever does this to that table waits in the middle of its transaction, as long as somebody has the advisory lock 7.
async fn hold_after(connection: &mut PgConnection, what: &str) {
    say(
        connection,
        "CREATE FUNCTION hold() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END'",
    )
    .await;
    say(connection, &format!("CREATE TRIGGER hold AFTER {what} FOR EACH ROW EXECUTE FUNCTION hold()")).await;
    say(connection, "SELECT pg_advisory_lock(7)").await;
}

#[tokio::test]
async fn an_adoption_waits_for_an_append_under_way_and_finds_its_event() {
    let Some(store) = Store::postgres() else { return };
    let database = store.open().await;
    let (old, new) = (store_of(&database), store_of(&database));
    let saga = new_saga("fenced", jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(old.create(&saga).await, Ok(Created::Ours));
    let mut side = store.side_door().await;
    hold_after(&mut side, "INSERT ON saga_event").await;

    let (id, key) = (saga.key.id, saga.key);
    let append = tokio::spawn(async move { old.append(key, &[line(1)]).await });
    until_waiting(&mut side, 1).await;
    let adoption = tokio::spawn(async move {
        let epoch = adopt(&new, key).await;
        (epoch, new.load(&[id]).await.unwrap().remove(0))
    });
    until_waiting(&mut side, 2).await;
    assert!(!adoption.is_finished(), "the adoption waits");
    say(&mut side, "SELECT pg_advisory_unlock(7)").await;

    assert_eq!(append.await.unwrap(), Ok(Written::Now));
    let (epoch, loaded) = adoption.await.unwrap();
    assert_eq!((epoch, loaded.row.key.epoch), (Some(AdoptionEpoch(1)), AdoptionEpoch(1)));
    assert_eq!(loaded.events, [line(1)], "what was answered as written is found");
}

#[tokio::test]
async fn an_append_waits_for_an_adoption_under_way_and_is_fenced() {
    let Some(store) = Store::postgres() else { return };
    let database = store.open().await;
    let (old, new) = (store_of(&database), store_of(&database));
    let saga = new_saga("fenced", jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(old.create(&saga).await, Ok(Created::Ours));
    let mut side = store.side_door().await;
    hold_after(&mut side, "UPDATE ON saga").await;

    let (id, key) = (saga.key.id, saga.key);
    let adopter = new.clone();
    let adoption = tokio::spawn(async move { adopt(&adopter, key).await });
    until_waiting(&mut side, 1).await;
    let append = tokio::spawn(async move { old.append(key, &[line(1)]).await });
    until_waiting(&mut side, 2).await;
    assert!(!append.is_finished(), "the append waits");
    say(&mut side, "SELECT pg_advisory_unlock(7)").await;

    assert_eq!(adoption.await.unwrap(), Some(AdoptionEpoch(1)));
    assert_eq!(append.await.unwrap(), Ok(Written::Fenced));
    assert!(new.load(&[id]).await.unwrap()[0].events.is_empty());
}

#[tokio::test]
async fn an_adoption_that_is_rolled_back_fences_nobody() {
    let Some(store) = Store::postgres() else { return };
    let database = store.open().await;
    let old = store_of(&database);
    let saga = new_saga("fenced", jiff::Timestamp::UNIX_EPOCH);
    assert_eq!(old.create(&saga).await, Ok(Created::Ours));
    let mut side = store.side_door().await;
    let mut other = store.side_door().await;
    say(&mut other, "BEGIN; UPDATE saga SET adoption_epoch = 1").await;
    let (keeper, key) = (old.clone(), saga.key);
    let append = tokio::spawn(async move { keeper.append(key, &[line(1)]).await });
    until_waiting(&mut side, 1).await;
    say(&mut other, "ROLLBACK").await;
    assert_eq!(append.await.unwrap(), Ok(Written::Now));
}

/// One life of a saga over a wire that may be cut.
async fn over_a_proxy() -> Option<(Proxy, DatabaseSagaStore)> {
    let server = test_postgres::fresh_database().unwrap()?;
    let (proxy, location) = Proxy::to(&server).await;
    let database = Database::open(&location).await.unwrap();
    Some((proxy, store_of(&database)))
}

async fn doubt(cut: Cut, after: Written, created_after: Created) {
    let Some((proxy, store)) = over_a_proxy().await else { return };
    let is_unknown = |fault: &StoreFault| matches!(fault, StoreFault::Unknown(_));
    let saga = new_saga("fenced", jiff::Timestamp::UNIX_EPOCH);
    let key = saga.key;

    proxy.cut(cut);
    assert!(is_unknown(&store.create(&saga).await.unwrap_err()));
    assert_eq!(store.create(&saga).await, Ok(created_after));

    // The same rows are tried once more by themselves, and that says what the first attempt did.
    proxy.cut(cut);
    assert_eq!(store.append(key, &[line(0)]).await, Ok(after));
    assert!(!proxy.is_whole());

    proxy.cut_times(cut, 2);
    assert!(is_unknown(&store.append(key, &[line(1)]).await.unwrap_err()));
    assert!(!proxy.is_whole());
    assert_eq!(store.append(key, &[line(1)]).await, Ok(after));

    proxy.cut_times(cut, 2);
    assert!(is_unknown(&store.mark(key, &Mark::CancelRequested).await.unwrap_err()));
    assert_eq!(store.mark(key, &Mark::CancelRequested).await, Ok(after));

    proxy.cut_times(cut, 2);
    assert!(is_unknown(&store.put_signal(key.id, "go", &json!(1)).await.unwrap_err()));
    store.put_signal(key.id, "go", &json!(1)).await.unwrap();
    assert_eq!(store.signal(key.id, "go").await, Ok(Some(json!(1))));

    let end = EndState::Succeeded { output: json!(2) };
    proxy.cut(cut);
    assert!(is_unknown(&store.end(key, &end, &[]).await.unwrap_err()));
    assert_eq!(store.end(key, &end, &[]).await, Ok(after));
    let loaded = store.load(&[key.id]).await.unwrap().remove(0);
    assert_eq!((loaded.events.len(), loaded.marks.len(), loaded.end), (2, 1, Some(end)));
}

#[tokio::test]
async fn a_write_whose_answer_is_lost_is_in_doubt_and_is_found_when_asked_for_again() {
    doubt(Cut::Answer, Written::Already, Created::Ours).await;
}

#[tokio::test]
async fn a_write_whose_commit_is_lost_is_in_doubt_and_is_done_when_asked_for_again() {
    doubt(Cut::Commit, Written::Now, Created::Ours).await;
}
