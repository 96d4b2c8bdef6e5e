//! Opening the database.

use crate::{DatabaseError, cluster, error::during};
use camino::{Utf8Path, Utf8PathBuf};
use sqlx::{
    SqlSafeStr, Sqlite, SqlitePool, Transaction,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::time::Duration;

/// Every schema change, oldest first. Applied ones are never edited: their checksums are compared at each start.
const MIGRATIONS: [(i64, &str, &str); 1] =
    [(1, "release depot", include_str!("../migrations/0001_release_depot.sql"))];

/// Readers at once. Reads are short; a handful keeps them from waiting for each other.
const READERS_MAX: u32 = 4;

/// How long a statement waits for another process (a backup, a second coordinator on this file) to let go.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// The coordinator's durable state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    path: Utf8PathBuf,
    pub(crate) read: SqlitePool,
    write: SqlitePool,
}

impl Database {
    /// Opens the database, creates it if it is not there, and brings its schema up to date.
    pub async fn open(path: &Utf8Path) -> Result<Database, DatabaseError> {
        let open = |source| DatabaseError::Open { path: path.to_owned(), source };
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_LIMIT);
        let write =
            SqlitePoolOptions::new().max_connections(1).connect_with(options.clone()).await.map_err(open)?;
        let read = SqlitePoolOptions::new().max_connections(READERS_MAX).connect_lazy_with(options);
        let database = Database { path: path.to_owned(), read, write };
        database.migrate().await?;
        cluster::ensure(&database).await?;
        Ok(database)
    }

    /// Bytes of the database file and of its write-ahead log.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        ["", "-wal"]
            .iter()
            .filter_map(|suffix| std::fs::metadata(format!("{}{suffix}", self.path)).ok())
            .map(|metadata| metadata.len())
            .sum()
    }

    /// Lets go of the file; running statements end first.
    pub async fn close(&self) {
        self.read.close().await;
        self.write.close().await;
    }

    /// Starts a transaction that writes. It holds the write lock from its start, so that what it reads is still
    /// true when it writes.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Sqlite>, DatabaseError> {
        self.write.begin_with("BEGIN IMMEDIATE").await.map_err(during("begin a transaction"))
    }

    async fn migrate(&self) -> Result<(), DatabaseError> {
        let migrations = MIGRATIONS
            .iter()
            .map(|(version, description, sql)| {
                Migration::new(
                    *version,
                    (*description).into(),
                    MigrationType::Simple,
                    (*sql).into_sql_str(),
                    false,
                )
            })
            .collect();
        Migrator::with_migrations(migrations).run(&self.write).await.map_err(|source| {
            let path = self.path.clone();
            let known = MIGRATIONS[MIGRATIONS.len() - 1].0;
            match source {
                sqlx::migrate::MigrateError::VersionMissing(found) if found > known => {
                    DatabaseError::NewerSchema { path, found, known }
                }
                source => DatabaseError::Migrate { path, source },
            }
        })
    }
}
