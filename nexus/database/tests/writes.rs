//! What a write promises, whichever database is below. The contract suite of the layer over the two.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[macro_use]
mod store;

use ids::CoordinatorId;
use nexus_database::{
    AppendTable, Appended, Database, DatabaseError, ErrorClass, Fence, during, sql::Value, sql::sql,
};
use std::sync::atomic::{AtomicU32, Ordering};
use store::Store;
use tokio::task::JoinSet;

/// A table of these tests: one that any write may use, and nothing else does.
const ENTRIES: AppendTable = AppendTable { name: "entry", columns: &["id", "words", "number"], fence: None };

const OPERATION: &str = "test a write";

async fn run(database: &Database, statement: &'static str) {
    database
        .write(OPERATION, |mut tx| Box::pin(async move { tx_run(&mut tx, statement).await }))
        .await
        .unwrap();
}

async fn tx_run(
    connection: &mut nexus_database::sql::Connection,
    statement: &'static str,
) -> Result<(), DatabaseError> {
    sql(statement).execute(connection).await.map(drop).map_err(during(OPERATION))
}

async fn opened(store: &Store) -> Database {
    let database = store.open().await;
    let ddl = if store.is_postgres() {
        "CREATE TABLE entry (id TEXT COLLATE \"C\" PRIMARY KEY, words TEXT, number BIGINT)"
    } else {
        "CREATE TABLE entry (id TEXT PRIMARY KEY, words TEXT, number BIGINT)"
    };
    run(&database, ddl).await;
    database
}

async fn ids(database: &Database) -> Vec<String> {
    database
        .read_at_once(OPERATION, |mut tx| {
            Box::pin(async move {
                let rows = sql("SELECT id FROM entry ORDER BY id").fetch_all(&mut *tx).await;
                let rows = rows.map_err(during(OPERATION))?;
                Ok(rows.iter().map(|row| row.try_get::<String>("id").unwrap()).collect())
            })
        })
        .await
        .unwrap()
}

async fn insert(database: &Database, id: &str) -> Result<(), DatabaseError> {
    let statement = sql("INSERT INTO entry (id, words, number) VALUES ($1, $2, $3)").bind(id);
    let statement = &statement.bind(None::<String>).bind(1);
    database
        .write(OPERATION, |mut tx| {
            Box::pin(
                async move { statement.clone().execute(&mut *tx).await.map(drop).map_err(during(OPERATION)) },
            )
        })
        .await
}

fn entry(id: &str) -> Vec<Value> {
    vec![id.into(), Value::Text(None), 7.into()]
}

/// Rows that belong to another one.
const LINES: AppendTable = AppendTable {
    name: "entry",
    columns: &["id", "words", "number"],
    fence: Some(Fence { table: "coordinator", equal: &[("id", "words")], same: &["id", "words", "number"] }),
};

on_both! {
    async fn nothing_is_appended_at_once_and_changes_nothing_for_what_follows(store: Store) {
        let database = opened(&store).await;
        static TABLE: AppendTable = LINES;
        assert_eq!(database.append(OPERATION, &TABLE, Vec::new()).await.unwrap(), Appended::Now);
        let owner = CoordinatorId::generate();
        database.coordinator_start(owner, "any", "0").await.unwrap();
        let owner = owner.to_string();
        for (id, whose, expected) in [
            ("a", owner.as_str(), Appended::Now),
            ("a", owner.as_str(), Appended::Already),
            ("b", "nobody", Appended::Fenced),
        ] {
            let row = vec![Value::from(id), whose.into(), 1.into()];
            assert_eq!(database.append(OPERATION, &TABLE, row).await.unwrap(), expected, "{id} {whose}");
        }
        assert_eq!(ids(&database).await, ["a"]);
    }

    async fn text_is_ordered_and_compared_by_bytes(store: Store) {
        let database = opened(&store).await;
        let names = ["b", "B", "a-b", "ab", "a", "Ä", "ä", "0", "~"];
        for name in names {
            insert(&database, name).await.unwrap();
        }
        let mut by_bytes = names.map(str::to_owned);
        by_bytes.sort();
        assert_eq!(ids(&database).await, by_bytes);
        // A page that begins after a key has exactly what follows it in the order.
        let after = database
            .read_at_once(OPERATION, |mut tx| {
                Box::pin(async move {
                    let page = sql("SELECT id FROM entry WHERE id > $1 ORDER BY id").bind("a-b");
                    page.fetch_all(&mut *tx).await.map_err(during(OPERATION))
                })
            })
            .await
            .unwrap();
        assert_eq!(after.len(), by_bytes.iter().filter(|name| name.as_str() > "a-b").count());
    }

    async fn values_come_back_as_they_went(store: Store) {
        let database = opened(&store).await;
        let given = [(Some("τέξτ \" ' \n".to_owned()), Some(i64::MIN)), (None, None), (Some(String::new()), Some(i64::MAX))];
        for (number, (text, integer)) in given.iter().enumerate() {
            let values = vec![number.to_string().into(), text.into(), Value::from(*integer)];
            assert_eq!(database.append(OPERATION, &ENTRIES, values).await.unwrap(), Appended::Now);
        }
        let rows = database
            .read_at_once(OPERATION, |mut tx| {
                Box::pin(async move {
                    let all = sql("SELECT words, number FROM entry ORDER BY id");
                    all.fetch_all(&mut *tx).await.map_err(during(OPERATION))
                })
            })
            .await
            .unwrap();
        let read: Vec<(Option<String>, Option<i64>)> =
            rows.iter().map(|row| (row.try_get("words").unwrap(), row.try_get("number").unwrap())).collect();
        assert_eq!(read, given);
    }

    async fn writes_that_read_first_lose_no_update(store: Store) {
        let database = opened(&store).await;
        run(&database, "INSERT INTO entry (id, words, number) VALUES ('counter', NULL, 0)").await;
        let mut tasks = JoinSet::new();
        for _ in 0..16 {
            let database = database.clone();
            tasks.spawn(async move {
                database
                    .write(OPERATION, |mut tx| {
                        Box::pin(async move {
                            let row = sql("SELECT number FROM entry WHERE id = 'counter'").fetch_one(&mut *tx).await;
                            let number: i64 = row.map_err(during(OPERATION))?.try_get("number").unwrap();
                            let update = sql("UPDATE entry SET number = $1 WHERE id = 'counter'").bind(number + 1);
                            update.execute(&mut *tx).await.map(drop).map_err(during(OPERATION))
                        })
                    })
                    .await
                    .unwrap();
            });
        }
        tasks.join_all().await;
        let sum = database
            .read_at_once(OPERATION, |mut tx| {
                Box::pin(async move {
                    let sum = sql("SELECT CAST(COALESCE(SUM(number), 0) AS BIGINT) AS total FROM entry");
                    sum.fetch_one(&mut *tx).await.map_err(during(OPERATION))
                })
            })
            .await
            .unwrap();
        assert_eq!(sum.try_get::<i64>("total").unwrap(), 16);
    }

    async fn a_write_that_fails_takes_nothing_of_its_neighbours_with_it(store: Store) {
        let database = opened(&store).await;
        insert(&database, "taken").await.unwrap();
        let mut tasks = JoinSet::new();
        for number in 0..40 {
            let database = database.clone();
            tasks.spawn(async move {
                let id = if number % 2 == 0 { "taken".to_owned() } else { format!("{number:02}") };
                (number, insert(&database, &id).await)
            });
        }
        for (number, result) in tasks.join_all().await {
            match number % 2 {
                0 => assert_eq!(result.unwrap_err().class(), ErrorClass::Failed),
                _ => result.unwrap(),
            }
        }
        assert_eq!(ids(&database).await.len(), 21);
    }

    async fn a_failed_statement_ends_its_transaction_even_if_the_work_goes_on(store: Store) {
        let database = opened(&store).await;
        insert(&database, "taken").await.unwrap();
        let swallowed = database.write(OPERATION, |mut tx| {
            Box::pin(async move {
                tx_run(&mut tx, "INSERT INTO entry (id) VALUES ('before')").await?;
                let _ = tx_run(&mut tx, "INSERT INTO entry (id) VALUES ('taken')").await;
                let _ = tx_run(&mut tx, "INSERT INTO entry (id) VALUES ('after')").await;
                Ok(())
            })
        });
        assert!(matches!(swallowed.await.unwrap_err(), DatabaseError::Query { .. }));
        assert_eq!(ids(&database).await, ["taken"]);
        insert(&database, "next").await.unwrap();
    }

    async fn a_caller_that_goes_away_leaves_nothing_behind(store: Store) {
        let database = opened(&store).await;
        let (began, has_begun) = tokio::sync::oneshot::channel();
        let began = std::sync::Mutex::new(Some(began));
        let writer = database.clone();
        let given_up = tokio::spawn(async move {
            let began = &began;
            writer
                .write(OPERATION, |mut tx| {
                    Box::pin(async move {
                        tx_run(&mut tx, "INSERT INTO entry (id) VALUES ('given up')").await?;
                        let began = began.lock().unwrap().take();
                        began.unwrap().send(()).unwrap();
                        std::future::pending::<Result<(), DatabaseError>>().await
                    })
                })
                .await
        });
        has_begun.await.unwrap();
        given_up.abort();
        insert(&database, "given up").await.unwrap();
        assert_eq!(ids(&database).await, ["given up"]);
    }

    async fn a_probe_changes_nothing_and_succeeds(store: Store) {
        let database = opened(&store).await;
        database.probe_write().await.unwrap();
        let probes = database
            .read_at_once(OPERATION, |mut tx| {
                Box::pin(async move {
                    sql("SELECT singleton FROM write_probe").fetch_all(&mut *tx).await.map_err(during(OPERATION))
                })
            })
            .await
            .unwrap();
        assert!(probes.is_empty());
    }

    async fn reads_at_once_are_of_one_moment(store: Store) {
        let database = &opened(&store).await;
        let (before, after) = database
            .read_at_once(OPERATION, |mut tx| {
                Box::pin(async move {
                    let count = "SELECT COUNT(*) AS entries FROM entry";
                    let before = sql(count).fetch_one(&mut *tx).await.map_err(during(OPERATION))?;
                    insert(database, "meanwhile").await?;
                    let after = sql(count).fetch_one(&mut *tx).await.map_err(during(OPERATION))?;
                    let entries = |row: &nexus_database::sql::Row| row.try_get::<i64>("entries").unwrap();
                    Ok((entries(&before), entries(&after)))
                })
            })
            .await
            .unwrap();
        assert_eq!((before, after), (0, 0));
        assert_eq!(ids(database).await, ["meanwhile"]);
    }

    async fn appended_rows_of_many_callers_are_all_there(store: Store) {
        let database = opened(&store).await;
        let mut tasks = JoinSet::new();
        for caller in 0..100 {
            let database = database.clone();
            tasks.spawn(async move {
                let rows = (0..3).flat_map(|row| entry(&format!("{caller:03}-{row}"))).collect();
                assert_eq!(database.append(OPERATION, &ENTRIES, rows).await.unwrap(), Appended::Now);
            });
        }
        tasks.join_all().await;
        assert_eq!(ids(&database).await.len(), 300);
    }

    async fn appended_rows_that_break_a_rule_are_refused_and_only_they(store: Store) {
        let database = opened(&store).await;
        assert_eq!(database.append(OPERATION, &ENTRIES, entry("taken")).await.unwrap(), Appended::Now);
        let mut tasks = JoinSet::new();
        for number in 0..30 {
            let database = database.clone();
            tasks.spawn(async move {
                let mut rows = entry(&format!("{number:02}"));
                if number % 3 == 0 {
                    rows.extend(entry("taken"));
                }
                (number, database.append(OPERATION, &ENTRIES, rows).await)
            });
        }
        for (number, result) in tasks.join_all().await {
            assert_eq!(result.is_err(), number % 3 == 0, "{number}: {result:?}");
        }
        assert_eq!(ids(&database).await.len(), 21);
    }

    async fn rows_that_wait_to_be_appended_are_written_before_the_database_closes(store: Store) {
        let database = opened(&store).await;
        let append = |number: u32| database.append(OPERATION, &ENTRIES, entry(&format!("{number:02}")));
        // Polled in this order: all of them wait when the closing begins.
        let appending = futures::future::join_all((0..20).map(append));
        let (appended, ()) = futures::future::join(appending, database.close()).await;
        for (number, appended) in appended.into_iter().enumerate() {
            assert!(matches!(appended, Ok(Appended::Now)), "{number}: {appended:?}");
        }
        assert_eq!(ids(&store.open().await).await.len(), 20);
    }

    async fn what_is_open_can_be_opened_again_and_a_closed_one_refuses(store: Store) {
        let database = opened(&store).await;
        insert(&database, "kept").await.unwrap();
        let (one, two) = tokio::join!(store.open(), store.open());
        assert_eq!(one.cluster_id().await.unwrap(), two.cluster_id().await.unwrap());
        one.close().await;
        database.close().await;
        assert!(insert(&database, "late").await.is_err());
        assert!(database.append(OPERATION, &ENTRIES, entry("late")).await.is_err());
        assert_eq!(ids(&two).await, ["kept"]);
    }
}

/// Breaks the connection in its first `losses` runs.
async fn with_lost_connections(database: &Database, losses: u32) -> (Result<(), DatabaseError>, u32) {
    let runs = &AtomicU32::new(0);
    let result = database
        .write(OPERATION, |mut tx| {
            Box::pin(async move {
                tx_run(&mut tx, "INSERT INTO entry (id) VALUES ('one')").await?;
                if runs.fetch_add(1, Ordering::Relaxed) < losses {
                    tx_run(&mut tx, "SELECT pg_terminate_backend(pg_backend_pid())").await?;
                }
                Ok(())
            })
        })
        .await;
    (result, runs.load(Ordering::Relaxed))
}

#[tokio::test]
async fn postgres_a_connection_lost_before_the_commit_is_no_failure() {
    let Some(store) = Store::postgres() else { return };
    let database = opened(&store).await;
    let (result, runs) = with_lost_connections(&database, 2).await;
    result.unwrap();
    assert_eq!(runs, 3);
    assert_eq!(ids(&database).await, ["one"]);
}

#[tokio::test]
async fn postgres_a_write_that_never_succeeds_gives_up() {
    let Some(store) = Store::postgres() else { return };
    let database = opened(&store).await;
    let (result, runs) = with_lost_connections(&database, u32::MAX).await;
    assert_eq!(result.unwrap_err().class(), ErrorClass::Retryable);
    assert_eq!(runs, 12);
}

#[tokio::test]
async fn postgres_a_commit_whose_answer_is_lost_is_in_doubt_and_not_repeated() {
    let Some(store) = Store::postgres() else { return };
    let database = opened(&store).await;
    run(
        &database,
        "CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN PERFORM pg_terminate_backend(pg_backend_pid()); PERFORM pg_sleep(10); RETURN NULL; END'",
    )
    .await;
    run(
        &database,
        "CREATE CONSTRAINT TRIGGER die AFTER INSERT ON entry DEFERRABLE INITIALLY DEFERRED
         FOR EACH ROW EXECUTE FUNCTION die()",
    )
    .await;
    let runs = &AtomicU32::new(0);
    let result = database
        .write(OPERATION, |mut tx| {
            Box::pin(async move {
                runs.fetch_add(1, Ordering::Relaxed);
                tx_run(&mut tx, "INSERT INTO entry (id) VALUES ('one')").await
            })
        })
        .await;
    assert_eq!(result.unwrap_err().class(), ErrorClass::CommitUnknown);
    assert_eq!(runs.load(Ordering::Relaxed), 1);
    database.probe_write().await.unwrap();
}

#[tokio::test]
async fn postgres_an_unreachable_server_is_named_without_a_password() {
    let dir = camino_tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "hunter2").unwrap();
    let url = "postgres://nexus@127.0.0.1:1/bobsled";
    let location = nexus_database::Location::parse(url, Some(&file), &file).unwrap();
    let error = Database::open(location).await.unwrap_err();
    assert!(error.to_string().contains(url), "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
    assert_eq!(error.class(), ErrorClass::Retryable);
}
