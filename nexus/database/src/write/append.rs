//! Rows that need no transaction of their own: many callers' rows in one statement and one commit.
//!
//! A log takes rows from many writers that know nothing of each other. A statement for each row costs more than the row;
//! so those who come together are written together, in statements of 64, 32, … 1 rows: powers of two, so that there
//! are few texts and each stays prepared. (PostgreSQL is asked for all of them at once first: [`lanes`](super::lanes).)
//!
//! ```text
//!   callers ──► queue ──► SAVEPOINT ─ INSERT … VALUES (…), (…), … ─┬ all ──► RELEASE ─► the group's commit
//!                                                                   └ not ──► ROLLBACK TO, then each caller's by itself
//! ```
//!
//! Each caller hears of its own rows: one that breaks a rule is refused, and takes nobody with it.
//!
//! # Fences
//!
//! Rows of a table with a [`Fence`] are inserted only while another row, the one they belong to, is as the caller believes
//! it to be; rows that are there already are left as they are. [`Appended`] says which it was. The same statement looks and
//! inserts:
//!
//! ```text
//!   INSERT INTO … SELECT new.* FROM (VALUES …) AS new JOIN «the fence, locked for share» ON CONFLICT DO NOTHING
//!        as many as were asked for ──► everybody: Now
//!        fewer ──► ROLLBACK TO, then each caller's by itself ─┬ all ──► Now
//!                                                             └ fewer: do the fences of all hold? ─┬ no ──► undone, Fenced
//!                                                  does what is there say the same? ─┬ no ── yes ◄──┘
//!                                                            undone, Contradicted ◄──┘└ yes ─► Already (Now, if some)
//! ```
//!
//! Nobody is told anything before the commit: what was *already* there may have come with the same group, and what fences it
//! too.
//!
//! **Why a fence that moves misses nothing.** Let A append under an epoch, and let B move the epoch and then read the rows.
//! On SQLite there is one writer: either A's commit is before B's and so before B's reading, or A's statement sees B's.
//! On PostgreSQL A's statement locks the fence's row for share until A has committed, and B's UPDATE needs that row alone:
//!
//! - B's UPDATE comes while A has the lock: it waits until A has committed (or not). So A's rows are committed before B's
//!   move is, and whoever reads after B's commit sees them.
//! - A's statement comes while B has the row: it waits; then, at READ COMMITTED, PostgreSQL looks at the row *as B has left
//!   it*, and the condition on the epoch fails: nothing is inserted, and A hears *fenced*. At REPEATABLE READ it would fail
//!   with a serialisation failure instead, which is as safe, but costs a second run of the whole batch.
//!
//! It is the lock that does it, and no snapshot: so batches run at READ COMMITTED, where they never run a second time for what
//! others do. SERIALIZABLE would do as well, but it tracks what was read by pages, and every batch reads rows that other
//! writers change all the time. One condition falls on B: it reads *after* its commit, in another transaction. A snapshot that
//! was taken before B's UPDATE had waited would be too old.

use super::{
    InDoubt, Writer,
    group::{self, Verdict, into_queue},
    retry,
    transaction::Transaction,
};
use crate::{
    Database, DatabaseError, SqlError,
    dialect::{PLACEHOLDERS_MAX, fenced},
    error::during,
    sql::{Connection, Value, assembled},
};
use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};

/// Rows of one statement at most. More make no difference that could be measured.
const STATEMENT_ROWS_MAX: usize = 64;

/// A table that rows are appended to. Names are constants: they become part of the statement.
#[derive(Debug)]
pub struct AppendTable {
    /// Its name.
    pub name: &'static str,
    /// The columns that each row has a value for.
    pub columns: &'static [&'static str],
    /// What must be there for a row to be appended. None: nothing, and a row that is there already breaks a rule.
    pub fence: Option<Fence>,
}

/// A row that must be there, with values that the new row has too.
#[derive(Debug)]
pub struct Fence {
    /// Its table.
    pub table: &'static str,
    /// Which column of it is equal to which column of the new row.
    pub equal: &'static [(&'static str, &'static str)],
    /// Columns of the new row, its key among them. A row that is there already is the same if it has the same in all of
    /// them.
    pub same: &'static [&'static str],
}

/// What became of rows whose commit is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "rows that are fenced were not written"]
pub enum Appended {
    /// They are there, and at least one of them is new.
    Now,
    /// They were there.
    Already,
    /// A row that one of them belongs to is not there, or not as it should be. None was written.
    Fenced,
    /// A row with the key of one of them is there, and says something else. None was written.
    Contradicted,
}

/// A caller that is told of the commit.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) tell: oneshot::Sender<Verdict>,
    pub(super) appended: Appended,
    is_in_doubt: bool,
}

impl Waiting {
    /// Of a write that is no rows.
    pub(super) fn of(tell: oneshot::Sender<Verdict>) -> Waiting {
        Waiting { tell, appended: Appended::Now, is_in_doubt: false }
    }

    /// Tells what became of the commit.
    pub(super) fn tell(self, verdict: Verdict) {
        let verdict = match verdict {
            Verdict::Committed(_) => Verdict::Committed(self.appended),
            verdict => in_doubt(self.is_in_doubt, verdict),
        };
        // Whoever has gone away wants to know nothing.
        let _ = self.tell.send(verdict);
    }
}

/// Of rows that may have been written before, nobody can say that they were not.
fn in_doubt(is_in_doubt: bool, verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::NotCommitted(error) | Verdict::Refused(error) if is_in_doubt => Verdict::Unknown(error),
        verdict => verdict,
    }
}

/// One caller's rows.
#[derive(Debug)]
pub(crate) struct Rows {
    table: &'static AppendTable,
    values: Arc<Vec<Value>>,
    pub(super) is_alone: bool,
    tell: oneshot::Sender<Verdict>,
    place: Place,
    /// They may have been written.
    is_in_doubt: bool,
}

/// Rows in the queue. Either their writer takes them, or their caller does, who has waited long enough: whoever comes first.
#[derive(Clone, Debug, Default)]
struct Place(Arc<AtomicBool>);

impl Place {
    fn take(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }
}

impl Rows {
    /// Whether they are to be written: from then on they cannot be withdrawn.
    pub(super) fn take(&self) -> bool {
        self.place.take()
    }

    pub(super) fn is_withdrawn(&self) -> bool {
        self.tell.is_closed()
    }

    /// Whether one statement can take both.
    pub(super) fn goes_with(&self, other: &Rows) -> bool {
        !self.is_alone && std::ptr::eq(self.table, other.table)
    }

    pub(super) fn table(&self) -> &'static AppendTable {
        self.table
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    /// From now on they may have been written.
    pub(super) fn doubt(&mut self) {
        self.is_in_doubt = true;
    }

    pub(super) fn waits_for(self, appended: Appended) -> Waiting {
        Waiting { tell: self.tell, appended, is_in_doubt: self.is_in_doubt }
    }

    pub(super) fn refuse(self, error: SqlError) {
        let _ = self.tell.send(in_doubt(self.is_in_doubt, Verdict::Refused(error)));
    }
}

impl Database {
    /// Appends rows, whose values follow each other row by row. They are committed together, and perhaps with others'.
    /// Without a fence the answer is always [`Appended::Now`].
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
    ) -> Result<Appended, DatabaseError> {
        assert!(values.len().is_multiple_of(table.columns.len()), "a row has a value for each column");
        if values.is_empty() {
            return Ok(Appended::Now);
        }
        let call = self.calls.begin(operation);
        let in_doubt = InDoubt::default();
        let until = Instant::now() + self.limits.call;
        let result = self.append_until(until, operation, table, Arc::new(values), &in_doubt).await;
        let result = result.unwrap_or_else(|| Err(self.unanswered(operation, in_doubt.get())));
        let result = result.map_err(|error| error.of(|| self.write_pool.database()));
        call.ended(&result);
        result
    }

    /// None when the time is over.
    async fn append_until(
        &self,
        until: Instant,
        operation: &'static str,
        table: &'static AppendTable,
        values: Arc<Vec<Value>>,
        in_doubt: &InDoubt,
    ) -> Option<Result<Appended, DatabaseError>> {
        let mut runs = 1;
        loop {
            let (tell, verdict) = oneshot::channel();
            let place = Place::default();
            let (values, place_in_queue) = (Arc::clone(&values), place.clone());
            let is_alone = runs > 1;
            let rows = Rows { table, values, is_alone, tell, place: place_in_queue, is_in_doubt: false };
            if let Err(error) = timeout_at(until, self.hand_over(rows)).await.ok()? {
                return Some(Err(during(operation)(error)));
            }
            let Ok(told) = timeout_at(until, verdict).await else {
                in_doubt.set(!place.take());
                return None;
            };
            match told.unwrap_or_else(|_| Verdict::Unknown(sqlx::Error::PoolClosed.into())) {
                Verdict::Committed(appended) => return Some(Ok(appended)),
                Verdict::NotCommitted(_) if runs == 1 => runs += 1,
                Verdict::NotCommitted(error) | Verdict::Refused(error)
                    if retry::may_run_again(&error) && runs < retry::RUNS_MAX =>
                {
                    timeout_at(until, retry::wait(operation, &mut runs)).await.ok()?;
                }
                Verdict::NotCommitted(source) | Verdict::Refused(source) => {
                    return Some(Err(DatabaseError::Query { operation, source }));
                }
                Verdict::Unknown(source) => {
                    return Some(Err(DatabaseError::CommitUnknown { operation, source }));
                }
            }
        }
    }

    async fn hand_over(&self, rows: Rows) -> Result<(), SqlError> {
        let is_held_up = || self.calls.is_held_up();
        match &self.writer {
            Writer::Group(group) => group.append(rows, is_held_up).await,
            Writer::EachItself(_, lanes) => into_queue(&lanes.queue, rows, &is_held_up).await,
        }
    }
}

/// Inserts the rows of callers of one table in the transaction under way; who is to be told of its end is added to
/// `kept`.
///
/// # Errors
/// The transaction is over. Then everybody was told, or is in `kept`.
pub(super) async fn take_in(
    transaction: &mut Transaction,
    all: Vec<Rows>,
    kept: &mut Vec<Waiting>,
) -> Result<(), SqlError> {
    if all.len() == 1 {
        return one_by_one(transaction, all, kept).await;
    }
    let values: Vec<&[Value]> = all.iter().map(|rows| rows.values.as_slice()).collect();
    match insert_together(transaction, all[0].table, &values).await {
        Ok(()) => {
            kept.extend(all.into_iter().map(|rows| rows.waits_for(Appended::Now)));
            Ok(())
        }
        Err(Failed::Rows(_)) => one_by_one(transaction, all, kept).await,
        Err(Failed::Transaction(error)) => {
            kept.extend(all.into_iter().map(|rows| rows.waits_for(Appended::Now)));
            Err(error)
        }
    }
}

pub(super) async fn one_by_one(
    transaction: &mut Transaction,
    all: Vec<Rows>,
    kept: &mut Vec<Waiting>,
) -> Result<(), SqlError> {
    let mut outcome = Ok(());
    for rows in all {
        if outcome.is_err() {
            kept.push(rows.waits_for(Appended::Now));
            continue;
        }
        // Others may have waited for a lock before: whoever has gone since then was told that nothing is known.
        if rows.is_withdrawn() {
            continue;
        }
        match insert_alone(transaction, rows.table, &rows.values).await {
            Ok(appended) => kept.push(rows.waits_for(appended)),
            Err(Failed::Rows(Why::Error(error))) => rows.refuse(error),
            Err(Failed::Rows(Why::Found(found))) => kept.push(rows.waits_for(found)),
            Err(Failed::Transaction(error)) => {
                kept.push(rows.waits_for(Appended::Now));
                outcome = Err(error);
            }
        }
    }
    outcome
}

/// What an insert fails of.
enum Failed {
    /// The rows, which were undone.
    Rows(Why),
    /// The transaction, which is over.
    Transaction(SqlError),
}

/// Why rows were undone.
enum Why {
    Error(SqlError),
    /// What they have found in their place.
    Found(Appended),
}

/// Inserts rows of several callers: all of them, or none.
async fn insert_together(
    transaction: &mut Transaction,
    table: &'static AppendTable,
    values: &[&[Value]],
) -> Result<(), Failed> {
    begin_one(transaction).await?;
    let values = values.concat();
    let asked = values.len() / table.columns.len();
    match in_statements(transaction.connection(), table, What::Insert, values).await {
        Ok(inserted) if inserted == asked => release_one(transaction).await,
        // Which of them, and why, is found out one by one.
        Ok(_) => undo_one(transaction, Why::Found(Appended::Fenced)).await,
        Err(error) => undo_one(transaction, Why::Error(error)).await,
    }
}

/// Inserts one caller's rows, and says what they found.
async fn insert_alone(
    transaction: &mut Transaction,
    table: &'static AppendTable,
    values: &[Value],
) -> Result<Appended, Failed> {
    begin_one(transaction).await?;
    let asked = values.len() / table.columns.len();
    let connection = transaction.connection();
    let found = match in_statements(connection, table, What::Insert, values.to_vec()).await {
        Ok(inserted) if inserted == asked => Ok(Appended::Now),
        Ok(inserted) => found_there(connection, table, (inserted, asked), values).await,
        Err(error) => Err(error),
    };
    match found {
        Ok(appended @ (Appended::Now | Appended::Already)) => {
            release_one(transaction).await.map(|()| appended)
        }
        Ok(found) => undo_one(transaction, Why::Found(found)).await,
        Err(error) => undo_one(transaction, Why::Error(error)).await,
    }
}

/// What rows have found of which not all were inserted.
async fn found_there(
    connection: &mut Connection,
    table: &'static AppendTable,
    (inserted, asked): (usize, usize),
    values: &[Value],
) -> Result<Appended, SqlError> {
    if in_statements(connection, table, What::CountHeld, values.to_vec()).await? < asked {
        return Ok(Appended::Fenced);
    }
    if in_statements(connection, table, What::CountSame, values.to_vec()).await? < asked {
        return Ok(Appended::Contradicted);
    }
    Ok(if inserted == 0 { Appended::Already } else { Appended::Now })
}

async fn begin_one(transaction: &mut Transaction) -> Result<(), Failed> {
    transaction.connection().say("SAVEPOINT one").await.map_err(Failed::Transaction)
}

async fn release_one(transaction: &mut Transaction) -> Result<(), Failed> {
    transaction.connection().say("RELEASE one").await.map_err(Failed::Transaction)
}

async fn undo_one<T>(transaction: &mut Transaction, why: Why) -> Result<T, Failed> {
    Err(match (group::undo(transaction).await, why) {
        (Ok(()), why) => Failed::Rows(why),
        (Err(_), Why::Error(error)) | (Err(error), Why::Found(_)) => Failed::Transaction(error),
    })
}

/// What is done with rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Insert,
    /// Counts those whose fence holds.
    CountHeld,
    /// Counts those that are there as they are.
    CountSame,
}

/// The number of rows that it was done with.
async fn in_statements(
    connection: &mut Connection,
    table: &'static AppendTable,
    what: What,
    values: Vec<Value>,
) -> Result<usize, SqlError> {
    let width = table.columns.len();
    let mut left = values.len() / width;
    let mut values = values.into_iter();
    let mut done = 0;
    while left > 0 {
        let count = statement_rows(left, width);
        let taken = values.by_ref().take(count * width).collect();
        let statement = assembled(text(table, what, count, connection.is_postgres()), taken);
        done += match what {
            What::Insert => statement.execute(&mut *connection).await?,
            What::CountHeld | What::CountSame => {
                let counted: i64 = statement.fetch_one(&mut *connection).await?.try_get("counted")?;
                counted.unsigned_abs()
            }
        };
        left -= count;
    }
    Ok(usize::try_from(done).expect("as many as there were values for"))
}

/// Rows of the next statement, where so many are left.
fn statement_rows(left: usize, width: usize) -> usize {
    let most = left.min(STATEMENT_ROWS_MAX).min(PLACEHOLDERS_MAX / width).max(1);
    1 << most.ilog2()
}

/// A statement's text, of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TextOf {
    /// One for so many rows, for that; whether it is PostgreSQL's.
    Rows(usize, What, bool),
    /// PostgreSQL's that inserts all rows or none.
    All,
}

/// The statement for so many rows.
fn text(table: &'static AppendTable, what: What, rows: usize, is_postgres: bool) -> Arc<str> {
    made_once(table, TextOf::Rows(rows, what, is_postgres), || written(table, what, rows, is_postgres))
}

/// A text, which is made when it is asked for first.
pub(super) fn made_once(
    table: &'static AppendTable,
    which: TextOf,
    make: impl FnOnce() -> String,
) -> Arc<str> {
    // Which table, by its address: two may have one name, and different fences.
    static TEXTS: Mutex<BTreeMap<(usize, TextOf), Arc<str>>> = Mutex::new(BTreeMap::new());
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    let made = texts.entry((std::ptr::from_ref(table).addr(), which));
    Arc::clone(made.or_insert_with(|| make().into()))
}

fn written(table: &AppendTable, what: What, rows: usize, is_postgres: bool) -> String {
    let new = placeholders(table.columns.len(), rows);
    let Some(fence) = &table.fence else { return format!("{} VALUES {new}", into(table)) };
    let new = format!("(VALUES {new}) AS new");
    match what {
        What::CountHeld => {
            format!("SELECT COUNT(*) AS counted FROM {}", held(table, fence, is_postgres, &new))
        }
        What::CountSame => {
            let same =
                |column: &&str| format!("{}.{column} = new.column{}", table.name, number_of(table, column));
            let same: Vec<String> = fence.same.iter().map(same).collect();
            let same = same.join(" AND ");
            format!("SELECT COUNT(*) AS counted FROM {new} JOIN {} ON {same}", table.name)
        }
        What::Insert => insert_fenced(table, fence, is_postgres, &new),
    }
}

fn into(table: &AppendTable) -> String {
    format!("INSERT INTO {} ({})", table.name, table.columns.join(", "))
}

/// Inserts those of the new rows whose fence holds, and that are not there. `new` has that name, and `column1`, `column2`, …
pub(super) fn insert_fenced(table: &AppendTable, fence: &Fence, is_postgres: bool, new: &str) -> String {
    let columns: Vec<String> =
        (1..=table.columns.len()).map(|number| format!("new.column{number}")).collect();
    let held = held(table, fence, is_postgres, new);
    format!("{} SELECT {} FROM {held} ON CONFLICT DO NOTHING", into(table), columns.join(", "))
}

/// The new rows whose fence holds.
fn held(table: &AppendTable, fence: &Fence, is_postgres: bool, new: &str) -> String {
    let equal: Vec<_> = fence.equal.iter().map(|(of, new)| (*of, number_of(table, new))).collect();
    fenced(is_postgres, new, fence.table, &equal)
}

fn number_of(table: &AppendTable, column: &str) -> usize {
    let at = table.columns.iter().position(|name| *name == column);
    at.expect("a fence is of columns of its table") + 1
}

/// `($1, $2), ($3, $4)`.
fn placeholders(width: usize, rows: usize) -> String {
    let mut text = String::new();
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
        let table = AppendTable { name: "t", columns: &["a", "b"], fence: None };
        assert_eq!(written(&table, What::Insert, 2, false), "INSERT INTO t (a, b) VALUES ($1, $2), ($3, $4)");
    }
}
