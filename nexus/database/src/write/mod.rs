//! The one way to write.
//!
//! - [`transaction`]: begins, commits, rolls back, and never leaves a transaction half open.
//! - [`group`]: SQLite, where one task owns the one connection that writes, and writes share commits.
//! - [`retry`]: PostgreSQL, where writes run side by side and the database may ask for one again.
//! - [`append`]: rows that need no transaction of their own, many callers in one statement. [`lanes`]: PostgreSQL's way to
//!   do it.
//!
//! The work of a write is a closure that may be run again: ids and times are made before it, and it touches nothing but
//! its transaction. What it returns is believed only once it was committed.

pub(crate) mod append;
pub(crate) mod group;
pub(crate) mod lanes;
mod retry;
pub(crate) mod transaction;

use crate::{
    Database, DatabaseError, SqlError, Trouble,
    error::during,
    rows::{self, key},
    server::silence,
    sql::{Connection, Pool, sql},
};
use std::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
    pin::Pin,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};
use tokio::time::timeout;
use transaction::Purpose;

/// What a write works on, for `'t`; what the work borrows (`'w`) outlives it. Its connection is in a transaction; what
/// it reads is still true when it commits.
#[derive(Debug)]
pub struct Tx<'t, 'w: 't> {
    connection: &'t mut Connection,
    work: PhantomData<&'w ()>,
}

/// The work under way. An async closure would say the same in fewer words, but whether it may move between threads is
/// more than today's compiler can tell.
pub type Working<'t, T> = Pin<Box<dyn Future<Output = Result<T, DatabaseError>> + Send + 't>>;

impl<'t> Tx<'t, '_> {
    fn on(connection: &'t mut Connection) -> Self {
        Tx { connection, work: PhantomData }
    }
}

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

/// Who writes.
#[derive(Clone, Debug)]
pub(crate) enum Writer {
    /// One task, for everybody.
    Group(group::Group),
    /// Everybody, on a connection of the pool; rows to append go to those who gather them.
    EachItself(Pool, lanes::Lanes),
}

/// Whether COMMIT was asked for, and no answer has said that it did nothing.
#[derive(Debug, Default)]
pub(crate) struct InDoubt(AtomicBool);

impl InDoubt {
    fn set(&self, in_doubt: bool) {
        self.0.store(in_doubt, Ordering::Relaxed);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a transaction whose work went well ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Commit,
    RollBack,
}

impl Database {
    /// Runs `work` in a transaction of its own and commits it. With an error of `work`, nothing is changed. The work
    /// may run more than once; of all runs only the last one counts.
    ///
    /// # Errors
    /// Those of `work`; [`DatabaseError::Query`] where nothing was changed; [`DatabaseError::CommitUnknown`].
    pub async fn write<'w, T>(
        &self,
        operation: &'static str,
        work: impl for<'t> Fn(Tx<'t, 'w>) -> Working<'t, T>,
    ) -> Result<T, DatabaseError> {
        self.write_for(Purpose::Write, operation, work).await
    }

    /// As [`write`](Self::write), for work whose every statement is right by itself, whatever others commit between two of
    /// them: it names the state that it changes (`WHERE epoch = $2`), and what it reads it does not rely on. PostgreSQL does
    /// not have to run such work again for the sake of others.
    ///
    /// # Errors
    /// As for [`write`](Self::write).
    pub(crate) async fn write_row_wise<'w, T>(
        &self,
        operation: &'static str,
        work: impl for<'t> Fn(Tx<'t, 'w>) -> Working<'t, T>,
    ) -> Result<T, DatabaseError> {
        self.write_for(Purpose::RowWise, operation, work).await
    }

    async fn write_for<'w, T>(
        &self,
        purpose: Purpose,
        operation: &'static str,
        work: impl for<'t> Fn(Tx<'t, 'w>) -> Working<'t, T>,
    ) -> Result<T, DatabaseError> {
        self.attempt(purpose, operation, End::Commit, work).await
    }

    /// Runs `work` on what the database holds at one moment; it can not change anything.
    ///
    /// # Errors
    /// Those of `work`, and [`DatabaseError::Query`].
    pub async fn read_at_once<'w, T>(
        &self,
        operation: &'static str,
        work: impl for<'t> FnOnce(Tx<'t, 'w>) -> Working<'t, T>,
    ) -> Result<T, DatabaseError> {
        let reading = async {
            let mut transaction = self.read.begin(Purpose::Read).await.map_err(during(operation))?;
            let result = work(Tx::on(transaction.connection())).await;
            transaction.roll_back().await;
            result
        };
        timeout(self.limits.call, reading).await.unwrap_or_else(|_| Err(self.unanswered(operation, false)))
    }

    /// Proves that a write can be made now: the lock can be had, and a row changed. As long as the last write has
    /// failed, the proof is a commit, because only that needs the disk; in peace it costs no disk access.
    ///
    /// # Errors
    /// As for every write.
    pub async fn probe_write(&self) -> Result<(), DatabaseError> {
        let operation = "try a write";
        let end = if self.calls.has_failed() { End::Commit } else { End::RollBack };
        let now = rows::now();
        self.attempt(Purpose::Write, operation, end, |mut tx| {
            Box::pin(async move { write_probe(&mut tx, now).await.map_err(during(operation)) })
        })
        .await
    }

    /// Why the database does not answer, if it does not; from memory.
    #[must_use]
    pub fn trouble(&self) -> Option<Trouble> {
        self.calls.trouble()
    }

    /// As [`trouble`](Self::trouble), for whoever cannot wait as long for a write that is under way.
    #[must_use]
    pub fn trouble_after(&self, slow_after: Duration) -> Option<Trouble> {
        self.calls.trouble_after(slow_after)
    }

    async fn attempt<'w, T>(
        &self,
        purpose: Purpose,
        operation: &'static str,
        end: End,
        work: impl for<'t> Fn(Tx<'t, 'w>) -> Working<'t, T>,
    ) -> Result<T, DatabaseError> {
        let call = self.calls.begin(operation);
        let in_doubt = InDoubt::default();
        let writing = Writing { purpose, operation, end, in_doubt: &in_doubt };
        let written = async {
            match &self.writer {
                Writer::Group(group) => group.write(&writing, || self.calls.is_held_up(), work).await,
                Writer::EachItself(pool, _) => retry::write(pool, &writing, work).await,
            }
        };
        let result = match timeout(self.limits.call, written).await {
            Ok(result) => result,
            Err(_) => Err(self.unanswered(operation, in_doubt.get())),
        };
        let result = result.map_err(|error| error.of(|| self.write_pool.database()));
        call.ended(&result);
        result
    }

    /// What whoever has waited to the limit is told.
    fn unanswered(&self, operation: &'static str, in_doubt: bool) -> DatabaseError {
        let source = SqlError::from(silence(self.limits.call)).of(|| self.write_pool.database());
        match in_doubt {
            true => DatabaseError::CommitUnknown { operation, source },
            false => DatabaseError::Query { operation, source },
        }
    }
}

/// What is asked for, beside the work.
struct Writing<'a> {
    purpose: Purpose,
    operation: &'static str,
    end: End,
    in_doubt: &'a InDoubt,
}

async fn write_probe(connection: &mut Connection, now: jiff::Timestamp) -> Result<(), SqlError> {
    sql("INSERT INTO write_probe (singleton, written_at) VALUES (1, $1)
         ON CONFLICT (singleton) DO UPDATE SET written_at = excluded.written_at")
    .bind(key(&now))
    .execute(connection)
    .await
    .map(drop)
}

/// What came of the work. A statement that failed has the last word, whatever the work made of it.
fn judge<T>(
    connection: &mut Connection,
    operation: &'static str,
    result: Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    match (result, connection.take_failure()) {
        (Ok(_), Some(source)) => Err(DatabaseError::Query { operation, source }),
        (result, _) => result,
    }
}

#[cfg(test)]
mod hang_tests;
#[cfg(test)]
mod tests;
