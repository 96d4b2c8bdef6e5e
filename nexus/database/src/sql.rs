//! One text for both databases: statements with `$N`, values, rows, connections. Owns the thin layer over the driver;
//! where the two databases differ in what they mean is [`dialect`]'s.
//!
//! ```text
//!   sql("… $1 …").bind(value) ──► fetch_all / fetch_one / fetch_optional / execute ──► Row
//!                                            │ on
//!                       a Pool (a read that stands alone) or a Connection (part of a transaction)
//! ```
//!
//! A value is text or a 64-bit integer, or NULL of one of these: what both databases keep and give back alike. Ids and
//! hashes are text, times are RFC 3339 in UTC, documents are JSON in text.
//!
//! Within a transaction a failed statement is the end: every later statement is refused, and the transaction is not
//! committed even if its work thinks better of it. PostgreSQL works so by itself. SQLite would go on, and where it has
//! ended the transaction in the middle of the failed statement, it would even commit what follows one by one.

use crate::{
    SqlError, dialect,
    limits::CALL_LIMIT,
    server::{Server, ServerConnection, silence, within},
    write::transaction::{Purpose, Transaction},
};
use sqlx::{
    AssertSqlSafe, ColumnIndex, PgConnection, Postgres, SqlSafeStr, SqlStr, Sqlite, SqliteConnection,
    pool::PoolConnection,
    postgres::PgRow,
    sqlite::{SqlitePool, SqliteRow},
};
use std::{sync::Arc, time::Duration};
use tokio::{runtime::Handle, time::timeout};

/// Connections that are tried before a loss is told, where nothing was done on the lost ones. The first loss condemns all
/// that were opened before it, so the second try is on a new one.
const TRIES_MAX: u32 = 3;

/// A statement with its values.
#[derive(Clone, Debug)]
pub struct Statement {
    text: SqlStr,
    values: Vec<Value>,
}

/// A value as both databases keep it. NULL has a type, because PostgreSQL asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(Option<String>),
    /// A number.
    Integer(Option<i64>),
}

/// The values of one column, for PostgreSQL: an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
}

impl Column {
    /// Of values of one type.
    pub(crate) fn of(values: impl Iterator<Item = Value>) -> Column {
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        for value in values {
            match value {
                Value::Text(text) => texts.push(text),
                Value::Integer(number) => numbers.push(number),
            }
        }
        assert!(texts.is_empty() || numbers.is_empty(), "a column is of one type");
        if numbers.is_empty() { Column::Text(texts) } else { Column::Integer(numbers) }
    }

    /// The name of its type.
    pub(crate) fn element(&self) -> &'static str {
        match self {
            Column::Text(_) => "text",
            Column::Integer(_) => "bigint",
        }
    }
}

/// A statement of this text, whose placeholders are `$1`, `$2`, …
pub fn sql(text: &'static str) -> Statement {
    Statement { text: text.into_sql_str(), values: Vec::new() }
}

/// A statement whose text was put together from constants; values never become part of it.
pub(crate) fn assembled(text: Arc<str>, values: Vec<Value>) -> Statement {
    Statement { text: AssertSqlSafe(text).into_sql_str(), values }
}

impl Statement {
    /// Gives the next placeholder its value.
    #[must_use]
    pub fn bind(mut self, value: impl Into<Value>) -> Statement {
        self.values.push(value.into());
        self
    }

    /// Runs it; the number of rows that it changed.
    pub async fn execute<'c>(self, on: impl Into<Target<'c>>) -> Result<u64, SqlError> {
        on.into().run(self, Run::Execute).await.map(|answer| answer.affected)
    }

    /// Every row.
    pub async fn fetch_all<'c>(self, on: impl Into<Target<'c>>) -> Result<Vec<Row>, SqlError> {
        on.into().run(self, Run::All).await.map(|answer| answer.rows)
    }

    /// The first row, if there is one.
    pub async fn fetch_optional<'c>(self, on: impl Into<Target<'c>>) -> Result<Option<Row>, SqlError> {
        on.into().run(self, Run::First).await.map(|mut answer| answer.rows.pop())
    }

    /// The first row.
    ///
    /// # Errors
    /// The driver's "no rows" if there is none.
    pub async fn fetch_one<'c>(self, on: impl Into<Target<'c>>) -> Result<Row, SqlError> {
        self.fetch_optional(on).await?.ok_or_else(|| sqlx::Error::RowNotFound.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(Some(text))
    }
}

impl From<&String> for Value {
    fn from(text: &String) -> Value {
        Value::Text(Some(text.clone()))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(Some(text.to_owned()))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Value {
        Value::Text(text)
    }
}

impl From<&Option<String>> for Value {
    fn from(text: &Option<String>) -> Value {
        Value::Text(text.clone())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Integer(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Value {
        Value::Integer(number)
    }
}

/// One row of an answer.
#[derive(Debug)]
pub struct Row {
    values: Values,
    /// Of whose database.
    pool: Pool,
}

#[derive(Debug)]
enum Values {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl Row {
    /// A column's value.
    pub fn try_get<'r, T>(&'r self, column: &str) -> Result<T, SqlError>
    where
        T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite> + sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
        for<'a> &'a str: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    {
        match &self.values {
            Values::Sqlite(row) => sqlx::Row::try_get(row, column),
            Values::Postgres(row) => sqlx::Row::try_get(row, column),
        }
        .map_err(|error| SqlError::from(error).of(|| self.database()))
    }

    /// The file, or the server and its database, that it is in.
    pub(crate) fn database(&self) -> String {
        self.pool.database()
    }
}

/// Connections for reads that stand alone. Cheap to clone.
#[derive(Clone, Debug)]
pub enum Pool {
    /// SQLite's.
    Sqlite(SqlitePool),
    /// PostgreSQL's.
    Postgres(Server),
}

impl Pool {
    /// Takes a connection, waiting for one if need be.
    pub(crate) async fn acquire(&self) -> Result<Connection, SqlError> {
        let link = match self {
            Pool::Sqlite(pool) => pool.acquire().await.map(Link::Sqlite),
            Pool::Postgres(pool) => pool.acquire().await.map(Link::Postgres),
        };
        let link = link.map_err(|error| SqlError::from(error).of(|| self.database()))?;
        Ok(Connection { link, failure: None, pool: self.clone() })
    }

    /// The file, or the server and its database; no password.
    pub(crate) fn database(&self) -> String {
        match self {
            Pool::Sqlite(pool) => pool.connect_options().get_filename().display().to_string(),
            Pool::Postgres(server) => server.database(),
        }
    }

    /// Begins a transaction. On a connection that turns out to be lost nothing was done yet, so another one is tried.
    pub(crate) async fn begin(&self, purpose: Purpose) -> Result<Transaction, SqlError> {
        let mut tries = 1;
        loop {
            match Transaction::begin(self.acquire().await?, purpose).await {
                Err(error) if tries < TRIES_MAX && dialect::is_connection_lost(error.driver()) => tries += 1,
                result => return result,
            }
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Pool::Sqlite(pool) => pool.close().await,
            Pool::Postgres(pool) => pool.close().await,
        }
    }
}

/// One connection. Dropped, it goes back to its pool.
#[derive(Debug)]
pub struct Connection {
    link: Link,
    failure: Option<SqlError>,
    /// The one that it is of.
    pool: Pool,
}

#[derive(Debug)]
enum Link {
    Sqlite(PoolConnection<Sqlite>),
    Postgres(ServerConnection),
}

impl Connection {
    /// Says a few words that have no values and no answer, whatever failed before.
    pub(crate) async fn say(&mut self, words: &'static str) -> Result<(), SqlError> {
        let limit = match &self.link {
            Link::Sqlite(_) => CALL_LIMIT,
            Link::Postgres(link) => link.answer_limit,
        };
        self.say_within(limit, words).await
    }

    /// As [`say`](Self::say), of words that PostgreSQL may take so long for.
    pub(crate) async fn say_within(&mut self, limit: Duration, words: &'static str) -> Result<(), SqlError> {
        match &mut self.link {
            Link::Sqlite(link) => sqlx::raw_sql(words).execute(&mut **link).await.map(drop),
            Link::Postgres(link) => {
                let said = match link.ask() {
                    Ok(asked) => within(limit, sqlx::raw_sql(words).execute(asked)).await,
                    Err(error) => Err(error),
                };
                link.heard(said).map(drop)
            }
        }
        .map_err(|error| SqlError::from(error).of(|| self.pool.database()))
    }

    /// The failure of a statement since the last time that this was asked.
    pub(crate) fn take_failure(&mut self) -> Option<SqlError> {
        self.failure.take()
    }

    /// Closes it instead of giving it back: nobody knows what is open on it.
    ///
    /// A connection to SQLite is a thread, and one that waits for a disk that hangs ends when the disk lets it. Until then
    /// it keeps its place in the pool: else each caller that gives up would leave one more thread behind. A connection to
    /// PostgreSQL is gone as soon as it is dropped.
    pub(crate) fn abandon(self) {
        match self.link {
            Link::Sqlite(link) => match Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn(link.close())),
                // The runtime has ended, and with it everybody who would wait for a place.
                Err(_) => drop(link.detach()),
            },
            Link::Postgres(link) => link.abandon(),
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.link, Link::Postgres(_))
    }

    /// Whether whoever has kept it may use it as if it had just been taken from the pool.
    pub(crate) fn is_trusted(&self) -> bool {
        match &self.link {
            Link::Sqlite(_) => true,
            Link::Postgres(link) => self.failure.is_none() && link.is_trusted(),
        }
    }

    /// Runs a statement of PostgreSQL that is its own transaction: its values are whole columns, and then a number. What it
    /// answers does not matter, and a failure is of no consequence for what follows.
    pub(crate) async fn run_by_columns(
        &mut self,
        text: Arc<str>,
        columns: Vec<Column>,
        number: i64,
    ) -> Result<(), SqlError> {
        let said = match &mut self.link {
            Link::Sqlite(_) => Err(sqlx::Error::Protocol("SQLite has no arrays".to_owned())),
            Link::Postgres(link) => {
                let mut query = sqlx::query::<Postgres>(AssertSqlSafe(text).into_sql_str());
                for column in columns {
                    query = match column {
                        Column::Text(values) => query.bind(values),
                        Column::Integer(values) => query.bind(values),
                    };
                }
                let limit = link.answer_limit;
                let said = match link.ask() {
                    Ok(asked) => within(limit, query.bind(number).execute(asked)).await,
                    Err(error) => Err(error),
                };
                link.heard(said)
            }
        };
        said.map(drop).map_err(|error| SqlError::from(error).of(|| self.pool.database()))
    }

    async fn run(&mut self, statement: Statement, run: Run) -> Result<Answer<Row>, SqlError> {
        if self.failure.is_some() {
            let words = "an earlier statement of this transaction has failed";
            return Err(sqlx::Error::Protocol(words.to_owned()).into());
        }
        let answer = match &mut self.link {
            Link::Sqlite(link) => run_sqlite(link, statement, run).await,
            Link::Postgres(link) => {
                let limit = link.answer_limit;
                let answer = match link.ask() {
                    Ok(asked) => within(limit, run_postgres(asked, statement, run)).await,
                    Err(error) => Err(error),
                };
                link.heard(answer)
            }
        };
        let of_here = |answer: Answer<Values>| {
            let row = |values| Row { values, pool: self.pool.clone() };
            Answer { rows: answer.rows.into_iter().map(row).collect(), affected: answer.affected }
        };
        answer.map(of_here).map_err(|error| {
            let error = SqlError::from(error).of(|| self.pool.database());
            self.failure = Some(error.clone());
            error
        })
    }
}

/// Where a statement runs.
#[derive(Debug)]
pub enum Target<'c> {
    /// On any connection, by itself.
    Pool(&'c Pool),
    /// As part of what this connection does.
    Connection(&'c mut Connection),
}

impl<'c> From<&'c Pool> for Target<'c> {
    fn from(pool: &'c Pool) -> Target<'c> {
        Target::Pool(pool)
    }
}

impl<'c> From<&'c mut Connection> for Target<'c> {
    fn from(connection: &'c mut Connection) -> Target<'c> {
        Target::Connection(connection)
    }
}

impl Target<'_> {
    async fn run(self, statement: Statement, run: Run) -> Result<Answer<Row>, SqlError> {
        match self {
            Target::Pool(pool) => {
                let answer = run_alone(pool, statement, run);
                timeout(CALL_LIMIT, answer)
                    .await
                    .unwrap_or_else(|_| Err(SqlError::from(silence(CALL_LIMIT)).of(|| pool.database())))
            }
            Target::Connection(connection) => connection.run(statement, run).await,
        }
    }
}

/// A read that finds its connection lost is asked again, on another one.
async fn run_alone(pool: &Pool, statement: Statement, run: Run) -> Result<Answer<Row>, SqlError> {
    let mut tries = if matches!(run, Run::Execute) { TRIES_MAX } else { 1 };
    loop {
        match pool.acquire().await?.run(statement.clone(), run).await {
            Err(error) if tries < TRIES_MAX && dialect::is_connection_lost(error.driver()) => tries += 1,
            result => return result,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Run {
    Execute,
    First,
    All,
}

#[derive(Default)]
struct Answer<R> {
    rows: Vec<R>,
    affected: u64,
}

/// The same for each driver: their types have nothing in common that could be named.
macro_rules! run_on {
    ($name:ident, $database:ty, $connection:ty, $row:path) => {
        async fn $name(
            link: &mut $connection,
            statement: Statement,
            run: Run,
        ) -> Result<Answer<Values>, sqlx::Error> {
            let mut query = sqlx::query::<$database>(statement.text);
            for value in statement.values {
                query = match value {
                    Value::Text(text) => query.bind(text),
                    Value::Integer(number) => query.bind(number),
                };
            }
            Ok(match run {
                Run::Execute => {
                    Answer { affected: query.execute(&mut *link).await?.rows_affected(), rows: Vec::new() }
                }
                Run::First => Answer {
                    rows: query.fetch_optional(&mut *link).await?.map($row).into_iter().collect(),
                    affected: 0,
                },
                Run::All => Answer {
                    rows: query.fetch_all(&mut *link).await?.into_iter().map($row).collect(),
                    affected: 0,
                },
            })
        }
    };
}

run_on!(run_sqlite, Sqlite, SqliteConnection, Values::Sqlite);
run_on!(run_postgres, Postgres, PgConnection, Values::Postgres);
