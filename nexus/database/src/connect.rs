//! Opening the database.

use crate::{DatabaseError, cluster, write::WriteHealth};
use camino::{Utf8Path, Utf8PathBuf};
use sqlx::{
    SqlSafeStr, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use std::time::Duration;

/// Every schema change, oldest first. Applied ones are never edited: their checksums are compared at each start.
const MIGRATIONS: [(i64, &str, &str); 3] = [
    (1, "release depot", include_str!("../migrations/0001_release_depot.sql")),
    (2, "target entries", include_str!("../migrations/0002_target_entries.sql")),
    (3, "write probe", include_str!("../migrations/0003_write_probe.sql")),
];

/// Readers at once. Reads are short; a handful keeps them from waiting for each other.
const READERS_MAX: u32 = 4;

/// How long a statement waits for another process (a backup, a second coordinator on this file) to let go.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// How long a write waits for the writes before it. They take milliseconds each; longer than this, the disk hangs.
const WRITER_LIMIT: Duration = Duration::from_secs(20);

/// The coordinator's durable state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    path: Utf8PathBuf,
    pub(crate) read: SqlitePool,
    pub(crate) write: SqlitePool,
    pub(crate) health: WriteHealth,
}

impl Database {
    /// Opens the database, creates it if it is not there, and brings its schema up to date.
    pub async fn open(path: &Utf8Path) -> Result<Database, DatabaseError> {
        Database::open_with(path, options(path)).await
    }

    pub(crate) async fn open_with(
        path: &Utf8Path,
        options: SqliteConnectOptions,
    ) -> Result<Database, DatabaseError> {
        // The writer stays for good: as long as one connection is open, its log stays, and a full disk keeps nobody
        // from opening another one.
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(WRITER_LIMIT)
            .connect_with(options.clone())
            .await
            .map_err(|source| DatabaseError::Open { path: path.to_owned(), source: source.into() })?;
        let read = SqlitePoolOptions::new().max_connections(READERS_MAX).connect_lazy_with(options);
        let database = Database { path: path.to_owned(), read, write, health: WriteHealth::default() };
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

pub(crate) fn options(path: &Utf8Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_LIMIT)
}
