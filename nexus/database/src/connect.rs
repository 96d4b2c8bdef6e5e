//! Opening and closing a database.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | reads | a few connections | a pool, also for writes |
//! | writes | one connection, for good, in one task ([`group`](crate::write::group)) | the pool |
//! | durable at commit | WAL, `synchronous = FULL` | `synchronous_commit`, switched on where the server's default is `off` |

use crate::{
    DatabaseError, Location, SqlError,
    calls::Calls,
    cluster,
    limits::{ANSWER_LIMIT, BUSY_LIMIT, Limits},
    migrate,
    server::Server,
    sql::{Pool, sql},
    write::{Writer, group::Group, lanes::Lanes},
};
use camino::Utf8Path;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

/// Readers of SQLite at once, with those that were given up and have not ended yet. Reads are short; a handful keeps them from
/// waiting for each other.
pub(crate) const READERS_MAX: u32 = 4;

/// The coordinator's durable state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    location: Location,
    pub(crate) read: Pool,
    pub(crate) writer: Writer,
    /// The connection that the writer has.
    pub(crate) write_pool: Pool,
    pub(crate) calls: Calls,
    pub(crate) limits: Limits,
}

impl Database {
    /// Opens the database, creates the file if it is not there, and brings the schema up to date.
    ///
    /// # Errors
    /// [`DatabaseError::Open`], [`DatabaseError::Migrate`], [`DatabaseError::NewerSchema`], and those of a write.
    pub async fn open(location: impl Into<Location>) -> Result<Database, DatabaseError> {
        match location.into() {
            Location::Sqlite(path) => Database::open_with(&path, options(&path), Limits::default()).await,
            Location::Postgres(server) => {
                let pool = Server::connect(server.options.as_ref().clone(), ANSWER_LIMIT).await;
                let location = Location::Postgres(server);
                let pool = Pool::Postgres(pool.map_err(|source| cannot_open(&location, source))?);
                let lanes = Lanes::start(&pool);
                let writer = Writer::EachItself(pool.clone(), lanes);
                Database::begin(location, pool.clone(), pool, writer, Limits::default()).await
            }
        }
    }

    pub(crate) async fn open_with(
        path: &Utf8Path,
        options: SqliteConnectOptions,
        limits: Limits,
    ) -> Result<Database, DatabaseError> {
        let location = Location::from(path);
        // The writer stays for good: as long as one connection is open, its log stays, and a full disk keeps nobody
        // from opening another one.
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(limits.call)
            .connect_with(options.clone())
            .await
            .map_err(|source| cannot_open(&location, source))?;
        let read = SqlitePoolOptions::new()
            .max_connections(READERS_MAX)
            .acquire_timeout(limits.reader)
            .connect_lazy_with(options);
        let write = Pool::Sqlite(write);
        let writer = Writer::Group(Group::start(write.clone()));
        Database::begin(location, Pool::Sqlite(read), write, writer, limits).await
    }

    async fn begin(
        location: Location,
        read: Pool,
        write_pool: Pool,
        writer: Writer,
        limits: Limits,
    ) -> Result<Database, DatabaseError> {
        migrate::run(&write_pool, &location).await?;
        let calls = Calls::new(limits.slow_after);
        let database = Database { location, read, writer, write_pool, calls, limits };
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

    /// Lets go of the database. What waits in a queue to be written is written first, and running statements end; a write that
    /// waits for a connection to PostgreSQL is refused.
    pub async fn close(&self) {
        // What holds it up is told like that of a write.
        let call = self.calls.begin("close the database");
        match &self.writer {
            Writer::Group(group) => group.close().await,
            Writer::EachItself(_, lanes) => lanes.close().await,
        }
        self.read.close().await;
        self.write_pool.close().await;
        call.ended(&Ok(()));
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
