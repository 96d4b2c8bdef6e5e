//! What SQLite's writes promise when the disk is full, the caller goes away, or the commit fails.

use super::*;
use crate::DatabaseSagaStore;
use crate::{
    ErrorClass,
    connect::{READERS_MAX, options},
    limits::Limits,
    trust_roots::NewTrustRoot,
};
use camino_tempfile::Utf8TempDir;
use ids::{AdoptionEpoch, CoordinatorId, SagaId};
use nexus_saga_recovery::SagaKey;
use nexus_sagas::{Created, NewSaga, NodeEvent, SagaStore, StoreFault};

/// A database that may have so few pages that a few trust roots fill it: SQLite then answers as on a full disk.
async fn small_database() -> (Utf8TempDir, Database) {
    let dir = camino_tempfile::tempdir().unwrap();
    let path = dir.path().join("nexus.db");
    let options = options(&path).pragma("max_page_count", "64");
    let database = Database::open_with(&path, options, Limits::default()).await.unwrap();
    (dir, database)
}

fn root(number: u32) -> NewTrustRoot {
    NewTrustRoot {
        fingerprint: number.to_string(),
        root_json: "x".repeat(30_000),
        version: 1,
        expires: jiff::Timestamp::UNIX_EPOCH,
    }
}

#[tokio::test]
async fn a_full_disk_is_told_each_time_and_room_again_is_all_it_needs() {
    let (dir, database) = small_database().await;
    let mut added = Vec::new();
    let full = loop {
        match database.trust_root_insert(&root(added.len() as u32)).await {
            Ok((row, _)) => added.push(row.id),
            Err(error) => break error,
        }
    };
    assert_eq!(full.class(), ErrorClass::Full, "{full:?}");
    let said = std::error::Error::source(&full).unwrap();
    let file = dir.path().join("nexus.db");
    assert_eq!(said.to_string(), format!("database {file}: (code: 13) database or disk is full"));
    assert!(said.source().is_none(), "it is said once");
    for _ in 0..3 {
        let again = database.trust_root_insert(&root(1000)).await.unwrap_err();
        assert_eq!(again.class(), ErrorClass::Full, "{again:?}");
    }
    database.probe_write().await.unwrap();
    database.trust_root_delete(added[0]).await.unwrap();
    database.trust_root_insert(&root(1000)).await.unwrap();
}

#[tokio::test]
async fn a_write_that_is_given_up_leaves_no_transaction_behind() {
    let (_dir, database) = small_database().await;
    let (began, has_begun) = tokio::sync::oneshot::channel();
    let began = std::sync::Mutex::new(Some(began));
    let writer = database.clone();
    let given_up = tokio::spawn(async move {
        let began = &began;
        writer
            .write("wait", |mut tx| {
                Box::pin(async move {
                    sql("DELETE FROM cluster").execute(&mut *tx).await.map_err(during("wait"))?;
                    let began = began.lock().unwrap().take();
                    began.unwrap().send(()).unwrap();
                    std::future::pending::<Result<(), DatabaseError>>().await
                })
            })
            .await
    });
    has_begun.await.unwrap();
    given_up.abort();
    database.trust_root_insert(&root(1)).await.unwrap();
    database.cluster_id().await.expect("what was given up was rolled back");
}

#[tokio::test]
async fn work_that_fails_changes_nothing() {
    let (_dir, database) = small_database().await;
    let failed = database
        .write("fail", |mut tx| {
            Box::pin(async move {
                sql("DELETE FROM cluster").execute(&mut *tx).await.map_err(during("fail"))?;
                Err::<(), _>(DatabaseError::Corrupt { column: "none", value: String::new() })
            })
        })
        .await;
    assert_eq!(failed.unwrap_err().class(), ErrorClass::Corrupt);
    database.cluster_id().await.unwrap();
    database.probe_write().await.unwrap();
}

#[tokio::test]
async fn a_commit_that_fails_is_in_doubt_and_leaves_no_transaction_behind() {
    let (_dir, database) = small_database().await;
    let operation = "break a rule at the end";
    let write = database.write(operation, |mut tx| {
        Box::pin(async move {
            tx.say("PRAGMA defer_foreign_keys = ON").await.map_err(during(operation))?;
            let orphan =
                "INSERT INTO repository_artifact (repository_id, name, version, kind, target, hash, size)
                          VALUES ('nobody', 'a', '1', 'file', 'a', '00', 1)";
            tx.say(orphan).await.map_err(during(operation))
        })
    });
    let error = write.await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::CommitUnknown, "{error:?}");
    database.probe_write().await.unwrap();
    database.trust_root_insert(&root(1)).await.unwrap();
    assert!(database.wanted().await.unwrap().artifacts.is_empty());
}

#[tokio::test]
async fn a_transaction_that_sqlite_has_ended_by_itself_is_no_reason_for_doubt() {
    let (_dir, database) = small_database().await;
    let write = database.write("end early", |mut tx| {
        Box::pin(async move {
            tx.say("ROLLBACK").await.map_err(during("end early"))?;
            Err::<(), _>(DatabaseError::Corrupt { column: "none", value: String::new() })
        })
    });
    write.await.unwrap_err();
    let Pool::Sqlite(pool) = &database.write_pool else { panic!("it is SQLite") };
    let connections = pool.size();
    database.probe_write().await.unwrap();
    assert_eq!((connections, pool.size()), (1, 1));
}

/// Inserts that all wait at once.
async fn insert_all(database: &Database, roots: Vec<NewTrustRoot>) -> Vec<Result<(), DatabaseError>> {
    let mut tasks = tokio::task::JoinSet::new();
    for (number, root) in roots.into_iter().enumerate() {
        let database = database.clone();
        tasks.spawn(async move { (number, database.trust_root_insert(&root).await.map(drop)) });
    }
    let mut results = tasks.join_all().await;
    results.sort_by_key(|(number, _)| *number);
    results.into_iter().map(|(_, result)| result).collect()
}

#[tokio::test]
async fn a_write_that_finds_no_room_takes_none_of_its_group_with_it() {
    let (_dir, database) = small_database().await;
    let small = |number| NewTrustRoot { root_json: "{}".to_owned(), ..root(number) };
    let huge = |number| NewTrustRoot { root_json: "x".repeat(500_000), ..root(number) };
    let results = insert_all(&database, vec![small(0), huge(1), small(2), huge(3), small(4)]).await;
    for (number, result) in results.into_iter().enumerate() {
        match number % 2 {
            0 => result.unwrap_or_else(|error| panic!("{number}: {error:?}")),
            _ => assert_eq!(result.unwrap_err().class(), ErrorClass::Full),
        }
    }
    assert_eq!(database.trust_roots(None, 10).await.unwrap().len(), 3);
}

/// Frames in the write-ahead log tell commits apart: each commit ends in a frame that says the size of the database.
fn commits_in_log(log: &camino::Utf8Path) -> usize {
    let bytes = std::fs::read(log).unwrap();
    let page = u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize;
    let is_commit = |frame: &&[u8]| frame[4..8] != [0; 4];
    bytes[32..].chunks_exact(24 + page).filter(is_commit).count()
}

#[tokio::test]
async fn writes_that_come_together_share_commits() {
    let dir = camino_tempfile::tempdir().unwrap();
    let path = dir.path().join("nexus.db");
    // Without checkpoints, the log keeps every commit.
    let options = options(&path).pragma("wal_autocheckpoint", "0");
    let database = Database::open_with(&path, options, Limits::default()).await.unwrap();
    let log = dir.path().join("nexus.db-wal");
    let before = commits_in_log(&log);
    let small = |number| NewTrustRoot { root_json: "{}".to_owned(), ..root(number) };
    for result in insert_all(&database, (0..200).map(small).collect()).await {
        result.unwrap();
    }
    let commits = commits_in_log(&log) - before;
    assert!((1..=50).contains(&commits), "200 writes took {commits} commits");
}

#[tokio::test]
async fn a_broken_rule_at_the_commit_is_told_to_each_of_the_group_and_the_next_is_well() {
    let (_dir, database) = small_database().await;
    let operation = "break a rule at the end";
    let breaking = database.write(operation, |mut tx| {
        Box::pin(async move {
            tx.say("PRAGMA defer_foreign_keys = ON").await.map_err(during(operation))?;
            let orphan =
                "INSERT INTO repository_artifact (repository_id, name, version, kind, target, hash, size)
                          VALUES ('nobody', 'a', '1', 'file', 'a', '00', 1)";
            tx.say(orphan).await.map_err(during(operation))
        })
    });
    let beside = root(1);
    let (broken, beside) = tokio::join!(breaking, database.trust_root_insert(&beside));
    assert_eq!(broken.unwrap_err().class(), ErrorClass::CommitUnknown);
    // Committed or in doubt, and what it is told is true.
    match beside {
        Ok(_) => assert_eq!(database.trust_roots(None, 10).await.unwrap().len(), 1),
        Err(error) => assert_eq!(error.class(), ErrorClass::CommitUnknown),
    }
    database.trust_root_insert(&root(2)).await.unwrap();
}

/// What the HTTP edge answers with 507: certainly not done, and for want of space. Events of other sagas do not suffer for it.
#[tokio::test]
async fn a_full_disk_takes_no_sagas_and_takes_them_again_when_there_is_room() {
    let (_dir, database) = small_database().await;
    let store = DatabaseSagaStore::new(database.clone(), CoordinatorId::generate(), 1);
    let saga = |bytes| NewSaga {
        key: SagaKey { id: SagaId::generate(), epoch: AdoptionEpoch::default() },
        creation: uuid::Uuid::new_v4(),
        kind: "large".to_owned(),
        version: 1,
        digest: String::new(),
        params: serde_json::Value::String("x".repeat(bytes)),
        dag: serde_json::Value::Null,
        created: jiff::Timestamp::UNIX_EPOCH,
    };
    let small = saga(1);
    assert_eq!(store.create(&small).await, Ok(Created::Ours));
    let line = |node, bytes| NodeEvent {
        node,
        event: "started".to_owned(),
        body: serde_json::Value::String("x".repeat(bytes)),
    };
    let is_no_space = |fault: &StoreFault| matches!(fault, StoreFault::NoSpace(_));
    for _ in 0..3 {
        assert!(is_no_space(&store.create(&saga(500_000)).await.unwrap_err()));
        let (huge, little) = (line(1, 500_000), line(0, 1));
        let (huge, beside) =
            tokio::join!(store.append(small.key, std::slice::from_ref(&huge)), database.probe_write());
        assert!(is_no_space(&huge.unwrap_err()));
        beside.unwrap();
        let _ = store.append(small.key, &[little]).await.unwrap();
    }
    let loaded = store.load(&[small.key.id]).await.unwrap();
    assert_eq!(loaded[0].events, [line(0, 1)]);
    assert_eq!(store.create(&saga(1_000)).await, Ok(Created::Ours), "there is room for this one");
}

/// Reads for some seconds, in one step that nothing interrupts: as on a disk that hangs.
async fn read_slowly(
    database: Database,
    has_begun: tokio::sync::oneshot::Sender<()>,
) -> Result<(), DatabaseError> {
    let slow = "WITH RECURSIVE counted (number) AS
                    (SELECT 1 UNION ALL SELECT number + 1 FROM counted WHERE number < 10000000)
                SELECT COUNT(*) AS all_of_them FROM counted";
    let has_begun = std::sync::Mutex::new(Some(has_begun));
    let has_begun = &has_begun;
    database
        .read_at_once("read slowly", |mut tx| {
            Box::pin(async move {
                let begun = has_begun.lock().unwrap().take().unwrap();
                let reading = sql(slow).fetch_all(&mut *tx);
                begun.send(()).unwrap();
                reading.await.map(drop).map_err(during("read slowly"))
            })
        })
        .await
}

#[tokio::test]
async fn readers_that_are_given_up_keep_their_places_until_they_have_ended() {
    let dir = camino_tempfile::tempdir().unwrap();
    let path = dir.path().join("nexus.db");
    let limits = Limits { reader: Duration::from_millis(100), ..Limits::default() };
    let database = Database::open_with(&path, options(&path), limits).await.unwrap();
    for _ in 0..READERS_MAX {
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let reader = tokio::spawn(read_slowly(database.clone(), begun));
        has_begun.await.unwrap();
        tokio::task::yield_now().await;
        reader.abort();
        assert!(reader.await.unwrap_err().is_cancelled());
    }
    let Pool::Sqlite(pool) = &database.read else { panic!("it is SQLite") };
    for _ in 0..3 {
        let refused = database.trust_roots(None, 1).await.unwrap_err();
        assert_eq!(refused.class(), ErrorClass::Retryable, "{refused:?}");
        let (begun, _has_begun) = tokio::sync::oneshot::channel();
        let refused = read_slowly(database.clone(), begun).await.unwrap_err();
        assert_eq!(refused.class(), ErrorClass::Retryable, "{refused:?}");
        assert!(pool.size() <= READERS_MAX, "{}", pool.size());
    }
    database.trust_root_insert(&root(1)).await.expect("writers do not wait for readers");
    let deadline = std::time::Instant::now() + Duration::from_secs(120);
    while let Err(error) = database.trust_roots(None, 1).await {
        assert!(
            std::time::Instant::now() < deadline,
            "readers that have ended give their places back: {error}"
        );
    }
}
