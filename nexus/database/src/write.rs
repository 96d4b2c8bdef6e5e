//! The one way to write: begins, commits, rolls back, and never leaves a transaction half open.
//!
//! ```text
//!   acquire ──► BEGIN IMMEDIATE ──► work ──► COMMIT ──► the connection goes back
//!                     │               │         │
//!                     └──── failed ───┴─────────┴──► ROLLBACK ──┬─► no transaction is open: it goes back
//!                                                               └─► in doubt: it is closed, and the pool opens another
//!                dropped anywhere (the caller went away) ───────────► in doubt
//! ```
//!
//! A full or failing disk makes SQLite end a transaction by itself, in the middle of a statement. Whoever counts
//! transactions beside SQLite then counts wrongly from that moment on, and refuses every later write. So nobody counts
//! here: SQLite is told in words, and what it answers to `ROLLBACK` decides whether the connection is used again.
//!
//! The work is a closure that may be run again: ids and times are made before it, and it touches nothing but its
//! transaction. Today it runs once; a database that asks for serialisation retries, or a group of writes that shares
//! one commit, needs to change nothing but this file.

use crate::{
    Database, DatabaseError,
    error::during,
    rows::{self, key},
};
use sqlx::{Sqlite, SqliteConnection, SqlitePool, pool::PoolConnection};
use std::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// The connection in a transaction that writes. It holds the write lock from its start, so that what it reads is still
/// true when it writes.
pub(crate) type Connection = SqliteConnection;

/// What a write works on, for `'t`; what the work borrows (`'w`) outlives it.
pub(crate) struct Tx<'t, 'w: 't> {
    connection: &'t mut Connection,
    work: PhantomData<&'w ()>,
}

/// The work under way. An async closure would say the same in fewer words, but whether it may move between threads is
/// more than today's compiler can tell.
pub(crate) type Working<'t, T> = Pin<Box<dyn Future<Output = Result<T, DatabaseError>> + Send + 't>>;

impl Deref for Tx<'_, '_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.connection
    }
}

impl DerefMut for Tx<'_, '_> {
    fn deref_mut(&mut self) -> &mut Connection {
        self.connection
    }
}

/// Whether the last write was kept from its end by the disk, and none has been written since.
#[derive(Clone, Debug, Default)]
pub(crate) struct WriteHealth {
    failed: Arc<AtomicBool>,
}

impl WriteHealth {
    fn note<T>(&self, result: &Result<T, DatabaseError>) {
        self.failed.store(result.is_err(), Ordering::Relaxed);
    }
}

impl Database {
    /// Runs `work` in a transaction of its own and commits it. With an error of `work`, nothing is changed.
    ///
    /// # Errors
    /// Those of `work`; [`DatabaseError::Query`] where nothing was changed; [`DatabaseError::CommitUnknown`].
    pub(crate) async fn write<'w, T>(
        &self,
        operation: &'static str,
        work: impl for<'t> Fn(Tx<'t, 'w>) -> Working<'t, T>,
    ) -> Result<T, DatabaseError> {
        let result = attempt(&self.write, operation, End::Commit, work).await;
        self.health.note(&result);
        result
    }

    /// Proves that a write can be made now: the lock can be had, and a row changed. As long as the last write has
    /// failed, the proof is a commit, because only that needs the disk; in peace it costs no disk access.
    ///
    /// # Errors
    /// As for every write.
    pub async fn probe_write(&self) -> Result<(), DatabaseError> {
        let operation = "try a write";
        let end = if self.health.failed.load(Ordering::Relaxed) { End::Commit } else { End::RollBack };
        let now = rows::now();
        let result = attempt(&self.write, operation, end, |mut tx| {
            Box::pin(async move {
                sqlx::query(
                    "INSERT INTO write_probe (singleton, written_at) VALUES (1, $1)
                 ON CONFLICT (singleton) DO UPDATE SET written_at = excluded.written_at",
                )
                .bind(key(&now))
                .execute(&mut *tx)
                .await
                .map(drop)
                .map_err(during(operation))
            })
        })
        .await;
        self.health.note(&result);
        result
    }
}

/// How a transaction whose work went well ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Commit,
    RollBack,
}

async fn attempt<'w, T>(
    pool: &SqlitePool,
    operation: &'static str,
    end: End,
    work: impl for<'t> Fn(Tx<'t, 'w>) -> Working<'t, T>,
) -> Result<T, DatabaseError> {
    let mut transaction = Transaction::begin(pool, operation).await?;
    let result = work(Tx { connection: transaction.connection(), work: PhantomData }).await;
    match (&result, end) {
        (Ok(_), End::Commit) => transaction.commit(operation).await?,
        _ => transaction.roll_back().await,
    }
    result
}

/// A connection on which a transaction may be open. Dropped before it was ended, it is closed.
struct Transaction {
    /// None once it was given back.
    connection: Option<PoolConnection<Sqlite>>,
}

impl Transaction {
    async fn begin(pool: &SqlitePool, operation: &'static str) -> Result<Transaction, DatabaseError> {
        let connection = pool.acquire().await.map_err(during(operation))?;
        let mut transaction = Transaction { connection: Some(connection) };
        if let Err(source) = say(transaction.connection(), "BEGIN IMMEDIATE").await {
            transaction.roll_back().await;
            return Err(during(operation)(source));
        }
        Ok(transaction)
    }

    fn connection(&mut self) -> &mut Connection {
        self.connection.as_mut().expect("the connection is given back only at the end")
    }

    async fn commit(mut self, operation: &'static str) -> Result<(), DatabaseError> {
        match say(self.connection(), "COMMIT").await {
            Ok(()) => {
                self.give_back();
                Ok(())
            }
            Err(source) => {
                self.roll_back().await;
                Err(DatabaseError::of_commit(operation, source))
            }
        }
    }

    async fn roll_back(mut self) {
        let connection = self.connection();
        // SQLite refuses ROLLBACK when it has ended the transaction by itself. Then the next one can begin.
        let is_idle = say(connection, "ROLLBACK").await.is_ok()
            || (say(connection, "BEGIN").await.is_ok() && say(connection, "ROLLBACK").await.is_ok());
        if is_idle {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        self.connection = None;
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            tracing::warn!("a connection to the database whose state is in doubt is closed");
            drop(connection.detach());
        }
    }
}

async fn say(connection: &mut Connection, words: &'static str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(words).execute(connection).await.map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorClass, connect::options, trust_roots::NewTrustRoot};
    use camino_tempfile::Utf8TempDir;

    /// A database that may have so few pages that a few trust roots fill it: SQLite then answers as on a full disk.
    async fn small_database() -> (Utf8TempDir, Database) {
        let dir = camino_tempfile::tempdir().unwrap();
        let path = dir.path().join("nexus.db");
        let options = options(&path).pragma("max_page_count", "64");
        let database = Database::open_with(&path, options).await.unwrap();
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
        let (_dir, database) = small_database().await;
        let mut added = Vec::new();
        let full = loop {
            match database.trust_root_insert(&root(added.len() as u32)).await {
                Ok((row, _)) => added.push(row.id),
                Err(error) => break error,
            }
        };
        assert_eq!(full.class(), ErrorClass::Full, "{full:?}");
        let said = std::error::Error::source(&full).unwrap();
        assert_eq!(said.to_string(), "(code: 13) database or disk is full");
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
                        sqlx::query("DELETE FROM cluster").execute(&mut *tx).await.map_err(during("wait"))?;
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
                    sqlx::query("DELETE FROM cluster").execute(&mut *tx).await.map_err(during("fail"))?;
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
                say(&mut tx, "PRAGMA defer_foreign_keys = ON").await.map_err(during(operation))?;
                let orphan =
                    "INSERT INTO repository_artifact (repository_id, name, version, kind, target, hash, size)
                              VALUES ('nobody', 'a', '1', 'file', 'a', '00', 1)";
                say(&mut tx, orphan).await.map_err(during(operation))
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
                say(&mut tx, "ROLLBACK").await.map_err(during("end early"))?;
                Err::<(), _>(DatabaseError::Corrupt { column: "none", value: String::new() })
            })
        });
        write.await.unwrap_err();
        let connections = database.write.size();
        database.probe_write().await.unwrap();
        assert_eq!((connections, database.write.size()), (1, 1));
    }
}
