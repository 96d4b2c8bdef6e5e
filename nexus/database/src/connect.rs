//! Opening and closing a database.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | reads | a few connections | a pool, also for writes |
//! | writes | one connection, for good, in one task ([`group`](crate::write::group)) | the pool |
//! | durable at commit | WAL, `synchronous = FULL` | `synchronous_commit`, switched on where the server's default is `off` |

use crate::{
    DatabaseError, Location, SqlError, cluster, migrate,
    sql::{Pool, sql},
    write::{
        WriteHealth, Writer,
        append::Appender,
        group::{Group, WRITER_LIMIT},
    },
};
use camino::Utf8Path;
use sqlx::{
    Connection, PgConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::time::Duration;

/// Readers of SQLite at once, with those that were given up and have not ended yet. Reads are short; a handful keeps them from
/// waiting for each other.
pub(crate) const READERS_MAX: u32 = 4;

/// How long a read waits for one of them. They take milliseconds each; longer than this, the disk hangs, and whoever reads is
/// told so instead of waiting with all the others.
pub(crate) const READER_LIMIT: Duration = Duration::from_secs(10);

/// Connections of one coordinator to PostgreSQL, whose default is 100 in all: room for several coordinators.
const POSTGRES_CONNECTIONS_MAX: u32 = 16;

/// How long a statement waits for another process (a backup, a second coordinator on this file) to let go.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// How long one waits for a connection to PostgreSQL. A server that restarts is there again by then.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The coordinator's durable state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    location: Location,
    pub(crate) read: Pool,
    pub(crate) writer: Writer,
    /// The connection that the writer has.
    pub(crate) write_pool: Pool,
    pub(crate) health: WriteHealth,
}

impl Database {
    /// Opens the database, creates the file if it is not there, and brings the schema up to date.
    ///
    /// # Errors
    /// [`DatabaseError::Open`], [`DatabaseError::Migrate`], [`DatabaseError::NewerSchema`], and those of a write.
    pub async fn open(location: impl Into<Location>) -> Result<Database, DatabaseError> {
        match location.into() {
            Location::Sqlite(path) => Database::open_with(&path, options(&path), READER_LIMIT).await,
            Location::Postgres(server) => {
                let pool = postgres_pool(server.options.as_ref().clone()).await;
                let location = Location::Postgres(server);
                let pool = pool.map_err(|source| cannot_open(&location, source))?;
                let appender = Appender::start(&pool);
                let writer = Writer::EachItself(pool.clone(), appender);
                Database::begin(location, pool.clone(), pool, writer).await
            }
        }
    }

    pub(crate) async fn open_with(
        path: &Utf8Path,
        options: SqliteConnectOptions,
        reader_limit: Duration,
    ) -> Result<Database, DatabaseError> {
        let location = Location::from(path);
        // The writer stays for good: as long as one connection is open, its log stays, and a full disk keeps nobody
        // from opening another one.
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(WRITER_LIMIT)
            .connect_with(options.clone())
            .await
            .map_err(|source| cannot_open(&location, source))?;
        let read = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(reader_limit)
            .connect_lazy_with(options);
        let write = Pool::Sqlite(write);
        let writer = Writer::Group(Group::start(write.clone()));
        Database::begin(location, Pool::Sqlite(read), write, writer).await
    }

    async fn begin(
        location: Location,
        read: Pool,
        write_pool: Pool,
        writer: Writer,
    ) -> Result<Database, DatabaseError> {
        migrate::run(&write_pool, &location).await?;
        let database = Database { location, read, writer, write_pool, health: WriteHealth::default() };
        cluster::ensure(&database).await?;
        Ok(database)
    }

    /// Where it is.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Bytes of the database: of the file and its write-ahead log, or as the server counts them. 0 where it can not be
    /// told.
    pub async fn size_bytes(&self) -> u64 {
        match &self.location {
            Location::Sqlite(path) => ["", "-wal"]
                .iter()
                .filter_map(|suffix| std::fs::metadata(format!("{path}{suffix}")).ok())
                .map(|metadata| metadata.len())
                .sum(),
            Location::Postgres(_) => {
                let row =
                    sql("SELECT pg_database_size(current_database()) AS size").fetch_one(&self.read).await;
                row.ok().and_then(|row| crate::rows::unsigned(&row, "size").ok()).unwrap_or_default()
            }
        }
    }

    /// Lets go of the database; running statements and queued writes end first.
    pub async fn close(&self) {
        self.read.close().await;
        if let Writer::Group(group) = &self.writer {
            group.close().await;
        }
        self.write_pool.close().await;
    }
}

pub(crate) fn cannot_open(location: &Location, source: impl Into<SqlError>) -> DatabaseError {
    DatabaseError::Open { database: location.to_string(), source: source.into() }
}

pub(crate) fn options(path: &Utf8Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_LIMIT)
}

/// A pool, and the proof that the server answers.
pub(crate) async fn postgres_pool(options: PgConnectOptions) -> Result<Pool, sqlx::Error> {
    // A pool would try until its limit and then say only that time is up.
    PgConnection::connect_with(&options).await?.close().await?;
    let pool = PgPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS_MAX)
        .acquire_timeout(CONNECT_LIMIT)
        .after_connect(|connection, _| {
            Box::pin(async move {
                // What is acknowledged must be durable. A server that waits for more than its own disk keeps doing so.
                let durable = "SELECT set_config('synchronous_commit', 'on', false)
                               WHERE current_setting('synchronous_commit') = 'off'";
                sqlx::query(durable).execute(&mut *connection).await?;
                // Every statement of ours has its index. A planner that believes a table to be small reads all of it; then
                // it locks all of it against serialisable writes, and goes on so when the table has grown.
                let by_index = "SELECT set_config('enable_seqscan', 'off', false),
                                       set_config('enable_bitmapscan', 'off', false), set_config('jit', 'off', false)";
                sqlx::query(by_index).execute(connection).await.map(drop)
            })
        })
        .connect_lazy_with(options);
    Ok(Pool::Postgres(pool))
}
