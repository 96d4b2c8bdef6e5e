//! What SQLite's writes promise when the disk, or another process, holds up the one writer.
//!
//! A statement that waits for a lock, without end, stands for one that waits for a disk: the thread of the connection is in
//! a call that nothing breaks off. With the journal in a file of its own, COMMIT itself waits for readers.

use super::*;
use crate::{
    DatabaseSagaStore, ErrorClass, connect::options, limits::Limits, sagas::SagaFilter,
    trust_roots::NewTrustRoot,
};
use camino_tempfile::Utf8TempDir;
use ids::{AdoptionEpoch, CoordinatorId, SagaId};
use nexus_saga_recovery::SagaKey;
use nexus_sagas::{Created, NewSaga, NodeEvent, SagaStore, StoreFault, Written};
use sqlx::{
    Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use std::time::{Duration, Instant};

const LIMITS: Limits = Limits {
    call: Duration::from_millis(400),
    reader: Duration::from_millis(400),
    slow_after: Duration::from_millis(100),
};

/// Longer than any test: whoever waits for a lock is held up.
const WITHOUT_END: Duration = Duration::from_secs(600);

struct Scene {
    database: Database,
    /// Another process, as it were.
    other: SqliteConnection,
    _dir: Utf8TempDir,
}

async fn scene(journal: SqliteJournalMode) -> Scene {
    let dir = camino_tempfile::tempdir().unwrap();
    let path = dir.path().join("nexus.db");
    let options = options(&path).busy_timeout(WITHOUT_END).journal_mode(journal);
    let database = Database::open_with(&path, options, LIMITS).await.unwrap();
    let other = SqliteConnectOptions::new().filename(&path).journal_mode(journal);
    let other = SqliteConnection::connect_with(&other).await.unwrap();
    Scene { database, other, _dir: dir }
}

impl Scene {
    async fn say(&mut self, words: &'static str) {
        sqlx::raw_sql(words).execute(&mut self.other).await.unwrap();
    }

    /// From now on no write begins.
    async fn hold_up(&mut self) {
        self.say("BEGIN IMMEDIATE").await;
    }

    /// From now on writes begin, and no COMMIT comes back.
    async fn hold_up_commits(&mut self) {
        self.say("BEGIN; SELECT COUNT(*) FROM cluster").await;
    }

    async fn let_go(&mut self) {
        self.say("ROLLBACK").await;
    }

    async fn until_well(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = self.database.probe_write().await {
            assert!(Instant::now() < deadline, "{error:?}");
            // What is refused at once leaves nobody else time.
            tokio::task::yield_now().await;
        }
    }
}

fn root(number: usize) -> NewTrustRoot {
    NewTrustRoot {
        fingerprint: number.to_string(),
        root_json: "{}".to_owned(),
        version: 1,
        expires: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn saga() -> NewSaga {
    NewSaga {
        key: SagaKey { id: SagaId::generate(), epoch: AdoptionEpoch::default() },
        creation: uuid::Uuid::new_v4(),
        kind: "held up".to_owned(),
        version: 1,
        digest: String::new(),
        params: serde_json::Value::Null,
        dag: serde_json::Value::Null,
        created: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn line() -> NodeEvent {
    NodeEvent { node: 0, event: "started".to_owned(), body: serde_json::Value::Null }
}

#[tokio::test]
async fn a_write_that_never_began_is_certainly_not_done_and_is_left_out_later() {
    let mut scene = scene(SqliteJournalMode::Wal).await;
    let store = DatabaseSagaStore::new(scene.database.clone(), CoordinatorId::generate(), 1);
    let known = saga();
    assert_eq!(store.create(&known).await, Ok(Created::Ours));
    assert_eq!(scene.database.trouble(), None);
    scene.hold_up().await;
    let first = scene.database.trust_root_insert(&root(0)).await.unwrap_err();
    assert_eq!(first.class(), ErrorClass::Retryable, "{first:?}");
    // These wait behind the first one, which the writer has begun with.
    let new = saga();
    let events = [line()];
    let begun = Instant::now();
    let (created, appended) = tokio::join!(store.create(&new), store.append(known.key, &events));
    assert!(begun.elapsed() < LIMITS.call * 10, "{:?}", begun.elapsed());
    assert!(matches!(created, Err(StoreFault::NotDone(_))), "{created:?}");
    assert!(matches!(appended, Err(StoreFault::NotDone(_))), "{appended:?}");
    let trouble = scene.database.trouble().expect("it is told");
    assert!(trouble.words.contains("nexus.db: no answer within 0.4 s"), "{}", trouble.words);

    scene.let_go().await;
    scene.until_well().await;
    assert_eq!(scene.database.trouble(), None, "and over when it is over");
    assert!(scene.database.trust_roots(None, 10).await.unwrap().is_empty());
    assert_eq!(scene.database.sagas(&SagaFilter::default(), None, 10).await.unwrap().len(), 1);
    let appended = store.append(known.key, &events).await;
    assert_eq!(appended, Ok(Written::Now), "what was withdrawn is not there");
}

#[tokio::test]
async fn a_commit_that_does_not_come_back_is_in_doubt_and_may_take_effect_later() {
    let mut scene = scene(SqliteJournalMode::Delete).await;
    let store = DatabaseSagaStore::new(scene.database.clone(), CoordinatorId::generate(), 1);
    scene.hold_up_commits().await;
    let new = saga();
    let unknown = store.create(&new).await.unwrap_err();
    assert!(matches!(unknown, StoreFault::Unknown(_)), "{unknown:?}");
    let again = store.create(&new).await.unwrap_err();
    assert!(matches!(again, StoreFault::NotDone(_)), "it waits behind the first attempt: {again:?}");

    scene.let_go().await;
    scene.until_well().await;
    assert_eq!(store.unfinished().await.unwrap().len(), 1, "the writer went on with what it had begun");
    assert_eq!(store.create(&new).await, Ok(Created::Ours), "and whoever asks again hears so");
    let others = NewSaga { creation: uuid::Uuid::new_v4(), ..new };
    assert_eq!(store.create(&others).await, Ok(Created::Others));
}

#[tokio::test]
async fn appended_rows_that_were_taken_are_in_doubt() {
    let mut scene = scene(SqliteJournalMode::Delete).await;
    let store = DatabaseSagaStore::new(scene.database.clone(), CoordinatorId::generate(), 1);
    let known = saga();
    assert_eq!(store.create(&known).await, Ok(Created::Ours));
    scene.hold_up_commits().await;
    let unknown = store.append(known.key, &[line()]).await.unwrap_err();
    assert!(matches!(unknown, StoreFault::Unknown(_)), "{unknown:?}");
    scene.let_go().await;
    scene.until_well().await;
    assert_eq!(store.append(known.key, &[line()]).await, Ok(Written::Already));
}

#[tokio::test]
async fn trouble_is_told_while_the_first_write_still_waits() {
    let mut scene = scene(SqliteJournalMode::Wal).await;
    scene.hold_up().await;
    let new = root(0);
    let told = async {
        loop {
            if let Some(trouble) = scene.database.trouble() {
                break trouble;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        trouble = told => assert!(trouble.words.contains("has had no answer"), "{}", trouble.words),
        result = scene.database.trust_root_insert(&new) => panic!("{result:?} was told first"),
    }
}

#[tokio::test]
async fn what_finds_no_place_in_the_queue_is_refused_at_once_while_the_writer_is_held_up() {
    let mut scene = scene(SqliteJournalMode::Wal).await;
    let queue = group::QUEUE_MAX;
    scene.hold_up().await;
    let first = scene.database.trust_root_insert(&root(0)).await.unwrap_err();
    assert_eq!(first.class(), ErrorClass::Retryable, "{first:?}");
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..queue {
        let database = scene.database.clone();
        tasks.spawn(async move { database.trust_root_insert(&root(number)).await.unwrap_err() });
    }
    for error in tasks.join_all().await {
        assert_eq!(error.class(), ErrorClass::Retryable, "{error:?}");
    }
    // Those have given up, and their places are taken until the writer comes to them.
    let begun = Instant::now();
    let late = scene.database.trust_root_insert(&root(0)).await.unwrap_err();
    let words = crate::error::words(&late);
    assert!(words.contains("nexus.db: it is held up, and 1024 writes wait for it already"), "{words}");
    assert!(begun.elapsed() < LIMITS.call, "{:?}", begun.elapsed());
    scene.let_go().await;
    scene.until_well().await;
    assert!(scene.database.trust_roots(None, 10).await.unwrap().is_empty(), "all of them were withdrawn");
}

#[tokio::test]
async fn reads_go_on_while_writes_are_held_up() {
    let mut scene = scene(SqliteJournalMode::Wal).await;
    scene.hold_up().await;
    scene.database.trust_root_insert(&root(0)).await.unwrap_err();
    assert!(scene.database.trust_roots(None, 10).await.unwrap().is_empty());
}
