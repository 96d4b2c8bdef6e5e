//! PostgreSQL neither answers nor breaks the connection: every call ends in time and says what is true, and all goes on by
//! itself when the server does.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "store/outage.rs"]
mod outage;
#[path = "store/proxy.rs"]
#[allow(dead_code, reason = "outages use more of it")]
mod proxy;
mod sagas_made;

use jiff::Timestamp;
use nexus_database::{Database, ErrorClass, during, sagas::SagaFilter, sql::sql};
use nexus_saga_recovery::SagaKey;
use nexus_sagas::{Created, SagaStore, StoreFault, Written};
use outage::Outage;
use proxy::{Cut, Proxy};
use sagas_made::{adopt, created, line, new_saga, store_of, write_line};
use std::{
    future::Future,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

/// A call's limit, and some for a machine that is busy.
const IN_TIME: Duration = Duration::from_secs(10);

async fn in_time<T>(call: impl Future<Output = T>) -> T {
    timeout(IN_TIME, call).await.expect("every call ends in time")
}

#[tokio::test]
async fn while_the_server_is_frozen_every_call_ends_in_time_and_all_goes_on_when_it_thaws() {
    let Some(outage) = Outage::set_up().await else { return };
    let database = &outage.database;
    let store = store_of(database);
    let known = created(&store, "frozen").await;
    let filter = SagaFilter::default();
    database.probe_write().await.unwrap();
    assert_eq!(database.trouble(), None);
    outage.server.freeze().unwrap();

    let (lines, ids) = ([line(0, "started")], [known.id]);
    let calls = async {
        tokio::join!(
            store.append(known, &lines),
            database.probe_write(),
            database.sagas(&filter, None, 1),
            store.unfinished(),
            store.load(&ids),
        )
    };
    let seen = async {
        while database.trouble().is_none() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let calls = async { tokio::join!(in_time(calls), timeout(Duration::from_secs(4), seen)) };
    let ((appended, probed, listed, unfinished, loaded), seen) = Box::pin(calls).await;
    seen.expect("that it does not answer is known before the first call gives up");
    assert!(matches!(appended, Err(StoreFault::NotDone(_) | StoreFault::Unknown(_))), "{appended:?}");
    let probed = probed.unwrap_err();
    assert!(matches!(probed.class(), ErrorClass::Retryable | ErrorClass::CommitUnknown), "{probed:?}");
    assert_eq!(listed.unwrap_err().class(), ErrorClass::Retryable);
    assert!(unfinished.is_err() && loaded.is_err());
    assert!(database.trouble().is_some(), "nothing has answered since");

    outage.server.thaw().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match store.append(known, &lines).await {
            Ok(Written::Now | Written::Already) => break,
            answer => assert!(Instant::now() < deadline, "{answer:?}"),
        }
    }
    assert_eq!(store.append(known, &lines).await, Ok(Written::Already));
    assert_eq!(store.load(&ids).await.unwrap()[0].events, lines);
    assert_eq!(database.trouble(), None);
}

#[tokio::test]
async fn connections_that_fall_silent_are_left_and_new_ones_do_the_work() {
    let Some(outage) = Outage::set_up().await else { return };
    let database = &outage.database;
    let store = store_of(database);
    // Some at once, so that there are several connections.
    let _ = tokio::join!(created(&store, "one"), created(&store, "two"), created(&store, "three"));
    let frozen = outage.server.freeze_sessions().unwrap();
    assert!(frozen > 0);
    let key = in_time(created(&store, "four")).await;
    assert_eq!(in_time(store.append(key, &[line(0, "started")])).await, Ok(Written::Now));
    let begun = Instant::now();
    assert_eq!(store.unfinished().await.unwrap().len(), 4);
    database.probe_write().await.unwrap();
    assert!(
        begun.elapsed() < Duration::from_secs(2),
        "the silent ones are not tried again: {:?}",
        begun.elapsed()
    );
}

/// A commit that the network has swallowed: its transaction holds its locks until the server gives it up, so whoever asks
/// again waits, and then it is done once.
#[tokio::test]
async fn a_commit_that_is_swallowed_is_in_doubt_and_is_asked_for_again_until_it_is_known() {
    let Some(server) = test_postgres::fresh_database().unwrap() else { return };
    let (proxy, location) = Proxy::to(&server).await;
    let database = Database::open(&location).await.unwrap();
    let store = store_of(&database);
    let row = new_saga("swallowed", Timestamp::UNIX_EPOCH);
    proxy.cut(Cut::Silence);
    let unknown = in_time(store.create(&row)).await.unwrap_err();
    assert!(matches!(unknown, StoreFault::Unknown(_)), "{unknown:?}");
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        match in_time(store.create(&row)).await {
            Ok(created) => break assert_eq!(created, Created::Ours),
            Err(fault) => assert!(Instant::now() < deadline, "{fault}"),
        }
    }
    assert_eq!(store.unfinished().await.unwrap().len(), 1);
}

/// Rows are appended by one statement, which the server reads when it comes to it: perhaps after its client has given it up,
/// and others have gone past it. Then it is void.
#[tokio::test]
async fn rows_that_the_server_reads_late_are_void() {
    let Some(outage) = Outage::set_up().await else { return };
    let store = store_of(&outage.database);
    let (again, moved) = (created(&store, "asked for again").await, created(&store, "adopted").await);
    write_line(&store, again, 0, "started").await;
    assert!(outage.server.freeze_sessions().unwrap() > 0);
    let frozen_at = Timestamp::now();
    // Another coordinator, whose connections are new.
    let others = Database::open(&outage.location).await.unwrap();
    let other = store_of(&others);

    let lines = [line(1, "started")];
    let adopting = async {
        // The statement is on its way, or it will find what it would have found late.
        let adopted = in_time(adopt(&other, moved)).await;
        assert!(adopted.is_some());
    };
    let (appended, fenced, ()) =
        tokio::join!(in_time(store.append(again, &lines)), in_time(store.append(moved, &lines)), adopting);
    assert_eq!((appended, fenced), (Ok(Written::Now), Ok(Written::Fenced)));

    outage.server.thaw().unwrap();
    outage.database.close().await;
    let deadline = Instant::now() + Duration::from_secs(60);
    while sessions_before(&others, frozen_at).await > 0 {
        assert!(Instant::now() < deadline, "sessions whose clients are gone end");
        sleep(Duration::from_millis(10)).await;
    }
    let nodes = async |key: SagaKey| {
        let loaded = other.load(&[key.id]).await.unwrap().remove(0);
        loaded.events.iter().map(|event| event.node).collect::<Vec<_>>()
    };
    assert_eq!((nodes(again).await, nodes(moved).await), (vec![0, 1], Vec::new()));
}

/// How many sessions there are that began before.
async fn sessions_before(database: &Database, time: Timestamp) -> i64 {
    let words = "SELECT COUNT(*) AS sessions FROM pg_stat_activity WHERE backend_type = 'client backend' \
                 AND datname = current_database() AND backend_start < CAST($1 AS TIMESTAMPTZ)";
    let time = &time.to_string();
    let read = database.read_at_once("count sessions", |mut tx| {
        Box::pin(async move {
            let row = sql(words).bind(time).fetch_one(&mut *tx).await.map_err(during("count sessions"))?;
            row.try_get::<i64>("sessions").map_err(during("count sessions"))
        })
    });
    read.await.unwrap()
}
