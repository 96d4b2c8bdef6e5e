//! Rows that need no transaction of their own: many callers' rows in one statement and one commit.
//!
//! A log takes rows from many writers that know nothing of each other. A statement for each row costs more than the row;
//! so those who come together are written together, in statements of 64, 32, … 1 rows: powers of two, so that there
//! are few texts and each stays prepared.
//!
//! ```text
//!   callers ──► queue ──► SAVEPOINT ─ INSERT … VALUES (…), (…), … ─┬ well ─► RELEASE ─► the group's commit
//!                                                                   └ not ──► ROLLBACK TO, then each caller's by itself
//! ```
//!
//! Each caller hears of its own rows: one that breaks a rule is refused, and takes nobody with it.

use super::{
    Writer,
    group::{self, Verdict, WRITER_LIMIT},
    retry,
    transaction::{Purpose, Transaction},
};
use crate::{
    Database, DatabaseError, SqlError,
    dialect::PLACEHOLDERS_MAX,
    error::during,
    sql::{Connection, Pool, Value, assembled},
};
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::{
    sync::{Mutex as AsyncMutex, mpsc, oneshot},
    time::timeout,
};

/// Rows of one statement at most. More make no difference that could be measured.
const STATEMENT_ROWS_MAX: usize = 64;

/// Connections to PostgreSQL that append at once: while one waits for its commit, the next one gathers.
const LANES: usize = 4;

/// Callers whose rows wait at most, before PostgreSQL.
const QUEUE_MAX: usize = 1_024;

/// Callers that share a commit at most.
const CALLERS_MAX: usize = 256;

/// A table that rows are appended to. Names are constants: they become part of the statement.
#[derive(Debug)]
pub struct AppendTable {
    /// Its name.
    pub name: &'static str,
    /// The columns that each row has a value for.
    pub columns: &'static [&'static str],
}

/// One caller's rows.
#[derive(Debug)]
pub(crate) struct Rows {
    table: &'static AppendTable,
    values: Arc<Vec<Value>>,
    pub(super) is_alone: bool,
    tell: oneshot::Sender<Verdict>,
}

impl Rows {
    /// Whether one statement can take both.
    pub(super) fn goes_with(&self, other: &Rows) -> bool {
        !self.is_alone && std::ptr::eq(self.table, other.table)
    }

    pub(super) fn refuse(self, error: SqlError) {
        let _ = self.tell.send(Verdict::Refused(error));
    }
}

impl Database {
    /// Appends rows, whose values follow each other row by row. They are committed together, and perhaps with others'.
    ///
    /// # Errors
    /// [`DatabaseError::Query`] where nothing was changed, such as for a row that is there already;
    /// [`DatabaseError::CommitUnknown`].
    ///
    /// # Panics
    /// If the values are not a whole number of rows.
    pub async fn append(
        &self,
        operation: &'static str,
        table: &'static AppendTable,
        values: Vec<Value>,
    ) -> Result<(), DatabaseError> {
        assert!(values.len().is_multiple_of(table.columns.len()), "a row has a value for each column");
        let values = Arc::new(values);
        let mut runs = 1;
        let result = loop {
            let (tell, verdict) = oneshot::channel();
            let rows = Rows { table, values: Arc::clone(&values), is_alone: runs > 1, tell };
            if let Err(error) = self.hand_over(rows).await {
                break Err(during(operation)(error));
            }
            let lost = |_| Verdict::Unknown(sqlx::Error::PoolClosed.into());
            match verdict.await.unwrap_or_else(lost) {
                Verdict::Committed => break Ok(()),
                Verdict::NotCommitted(_) if runs == 1 => runs += 1,
                Verdict::NotCommitted(error) | Verdict::Refused(error)
                    if retry::may_run_again(&error) && runs < retry::RUNS_MAX =>
                {
                    retry::wait(operation, &mut runs).await;
                }
                Verdict::NotCommitted(source) | Verdict::Refused(source) => {
                    break Err(DatabaseError::Query { operation, source });
                }
                Verdict::Unknown(source) => break Err(DatabaseError::CommitUnknown { operation, source }),
            }
        };
        self.health.note(&result);
        result
    }

    async fn hand_over(&self, rows: Rows) -> Result<(), SqlError> {
        let handed = timeout(WRITER_LIMIT, async {
            match &self.writer {
                Writer::Group(group) => group.append(rows).await,
                Writer::EachItself(_, appender) => appender.queue.send(rows).await.is_ok(),
            }
        });
        match handed.await {
            Ok(true) => Ok(()),
            Ok(false) => Err(sqlx::Error::PoolClosed.into()),
            Err(_) => Err(sqlx::Error::PoolTimedOut.into()),
        }
    }
}

/// The way to the tasks that append to PostgreSQL.
#[derive(Clone, Debug)]
pub(crate) struct Appender {
    queue: mpsc::Sender<Rows>,
}

impl Appender {
    /// Starts the tasks.
    pub(crate) fn start(pool: &Pool) -> Appender {
        let (queue, rows) = mpsc::channel(QUEUE_MAX);
        let rows = Arc::new(AsyncMutex::new(rows));
        for _ in 0..LANES {
            tokio::spawn(lane(pool.clone(), Arc::clone(&rows)));
        }
        Appender { queue }
    }
}

async fn lane(pool: Pool, queue: Arc<AsyncMutex<mpsc::Receiver<Rows>>>) {
    while let Some(all) = gather(&queue).await {
        append_all(&pool, all).await;
    }
}

/// What has queued up for one table, and waits for the first of it.
async fn gather(queue: &AsyncMutex<mpsc::Receiver<Rows>>) -> Option<Vec<Rows>> {
    let mut queue = queue.lock().await;
    let mut all = vec![queue.recv().await?];
    while all.len() < CALLERS_MAX && !all[0].is_alone {
        let Ok(more) = queue.try_recv() else { break };
        all.push(more);
    }
    Some(all)
}

async fn append_all(pool: &Pool, all: Vec<Rows>) {
    let begun = async { Transaction::begin(pool.acquire().await?, Purpose::Write).await };
    let mut transaction = match begun.await {
        Ok(transaction) => transaction,
        Err(error) => return all.into_iter().for_each(|rows| rows.refuse(error.clone())),
    };
    let mut kept = Vec::new();
    let mut rest = all;
    let mut outcome = Ok(());
    while outcome.is_ok() && !rest.is_empty() {
        let table = rest[0].table;
        let (now, later) = rest.into_iter().partition(|rows| std::ptr::eq(rows.table, table));
        rest = later;
        outcome = take_in(&mut transaction, now, &mut kept).await;
    }
    let verdict = match outcome {
        Ok(()) => match transaction.commit().await {
            Ok(_connection) => Verdict::Committed,
            Err(error) if crate::dialect::is_rolled_back(error.driver()) => Verdict::NotCommitted(error),
            Err(error) => Verdict::Unknown(error),
        },
        Err(error) => {
            transaction.roll_back().await;
            Verdict::NotCommitted(error)
        }
    };
    kept.extend(rest.into_iter().map(|rows| rows.tell));
    group::tell(kept, &verdict);
}

/// Inserts the rows of callers of one table in the transaction under way; who is to be told of its end is added to
/// `kept`.
///
/// # Errors
/// The transaction is over. Then everybody was told, or is in `kept`.
pub(super) async fn take_in(
    transaction: &mut Transaction,
    all: Vec<Rows>,
    kept: &mut Vec<oneshot::Sender<Verdict>>,
) -> Result<(), SqlError> {
    let values: Vec<&[Value]> = all.iter().map(|rows| rows.values.as_slice()).collect();
    match insert(transaction, all[0].table, &values).await {
        Ok(()) => {
            kept.extend(all.into_iter().map(|rows| rows.tell));
            Ok(())
        }
        Err(Failed::Rows(error)) if all.len() == 1 => {
            all.into_iter().for_each(|rows| rows.refuse(error.clone()));
            Ok(())
        }
        Err(Failed::Rows(_)) => one_by_one(transaction, all, kept).await,
        Err(Failed::Transaction(error)) => {
            kept.extend(all.into_iter().map(|rows| rows.tell));
            Err(error)
        }
    }
}

async fn one_by_one(
    transaction: &mut Transaction,
    all: Vec<Rows>,
    kept: &mut Vec<oneshot::Sender<Verdict>>,
) -> Result<(), SqlError> {
    let mut outcome = Ok(());
    for rows in all {
        if outcome.is_err() {
            kept.push(rows.tell);
            continue;
        }
        match insert(transaction, rows.table, &[&rows.values]).await {
            Ok(()) => kept.push(rows.tell),
            Err(Failed::Rows(error)) => rows.refuse(error),
            Err(Failed::Transaction(error)) => {
                kept.push(rows.tell);
                outcome = Err(error);
            }
        }
    }
    outcome
}

/// What an insert fails of.
enum Failed {
    /// The rows; they were undone.
    Rows(SqlError),
    /// The transaction, which is over.
    Transaction(SqlError),
}

async fn insert(
    transaction: &mut Transaction,
    table: &'static AppendTable,
    values: &[&[Value]],
) -> Result<(), Failed> {
    transaction.connection().say("SAVEPOINT one").await.map_err(Failed::Transaction)?;
    match insert_in_statements(transaction.connection(), table, values).await {
        Ok(()) => transaction.connection().say("RELEASE one").await.map_err(Failed::Transaction),
        Err(error) => match group::undo(transaction).await {
            Ok(()) => Err(Failed::Rows(error)),
            Err(_) => Err(Failed::Transaction(error)),
        },
    }
}

async fn insert_in_statements(
    connection: &mut Connection,
    table: &'static AppendTable,
    values: &[&[Value]],
) -> Result<(), SqlError> {
    let width = table.columns.len();
    let values = values.concat();
    let mut left = values.len() / width;
    let mut values = values.into_iter();
    while left > 0 {
        let count = statement_rows(left, width);
        let taken = values.by_ref().take(count * width).collect();
        assembled(text(table, count), taken).execute(&mut *connection).await?;
        left -= count;
    }
    Ok(())
}

/// Rows of the next statement, where so many are left.
fn statement_rows(left: usize, width: usize) -> usize {
    let most = left.min(STATEMENT_ROWS_MAX).min(PLACEHOLDERS_MAX / width).max(1);
    1 << most.ilog2()
}

/// The statement that inserts so many rows; made once.
fn text(table: &'static AppendTable, rows: usize) -> Arc<str> {
    static TEXTS: Mutex<BTreeMap<(&str, usize), Arc<str>>> = Mutex::new(BTreeMap::new());
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(texts.entry((table.name, rows)).or_insert_with(|| written(table, rows).into()))
}

fn written(table: &AppendTable, rows: usize) -> String {
    let width = table.columns.len();
    let mut text = format!("INSERT INTO {} ({}) VALUES ", table.name, table.columns.join(", "));
    for row in 0..rows {
        text.push_str(if row == 0 { "(" } else { ", (" });
        for column in 0..width {
            let comma = if column == 0 { "" } else { ", " };
            write!(text, "{comma}${}", row * width + column + 1).expect("a string takes what is written");
        }
        text.push(')');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_have_powers_of_two_rows_and_no_more_values_than_may_be() {
        let all = |mut left: usize, width| {
            let mut counts = Vec::new();
            while left > 0 {
                counts.push(statement_rows(left, width));
                left -= counts[counts.len() - 1];
            }
            counts
        };
        assert_eq!(all(150, 6), [64, 64, 16, 4, 2]);
        assert_eq!(all(3, 20_000), [1, 1, 1]);
        let table = AppendTable { name: "t", columns: &["a", "b"] };
        assert_eq!(written(&table, 2), "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)");
    }
}
