//! The schema and its versions.
//!
//! Every change is written once, for SQLite; [`dialect::ddl`] makes PostgreSQL's of it. Which ones were applied is kept
//! in the database, with a checksum of each. PostgreSQL takes an advisory lock meanwhile, so that coordinators that start
//! together change it once.

use crate::{DatabaseError, Location, dialect, server::Server, sql::Pool};
use sqlx::{
    AssertSqlSafe, SqlSafeStr,
    migrate::{MigrateError, Migration, MigrationType, Migrator},
};

/// Every schema change, oldest first. Applied ones are never edited: their checksums are compared at each start.
const MIGRATIONS: [(i64, &str, &str); 6] = [
    (1, "release depot", include_str!("../migrations/0001_release_depot.sql")),
    (2, "target entries", include_str!("../migrations/0002_target_entries.sql")),
    (3, "write probe", include_str!("../migrations/0003_write_probe.sql")),
    (4, "sagas", include_str!("../migrations/0004_sagas.sql")),
    (5, "saga owners", include_str!("../migrations/0005_saga_owners.sql")),
    (6, "volume repairs", include_str!("../migrations/0006_volume_repairs.sql")),
];

/// The newest version that this program knows.
pub(crate) const KNOWN: i64 = MIGRATIONS[MIGRATIONS.len() - 1].0;

/// Brings the schema up to date.
pub(crate) async fn run(pool: &Pool, location: &Location) -> Result<(), DatabaseError> {
    let migrated = match pool {
        Pool::Sqlite(pool) => migrator(str::to_owned).run(pool).await,
        Pool::Postgres(server) => migrate_server(server).await,
    };
    migrated.map_err(|source| {
        let database = location.to_string();
        match source {
            MigrateError::VersionMissing(found) if found > KNOWN => {
                DatabaseError::NewerSchema { database, found, known: KNOWN }
            }
            source => DatabaseError::Migrate { database, source },
        }
    })
}

/// On a connection of its own: another coordinator that changes the schema is waited for, however long it takes.
async fn migrate_server(server: &Server) -> Result<(), MigrateError> {
    let mut link = server.acquire().await?;
    let connection = link.ask()?;
    sqlx::query("SET lock_timeout = 0").execute(&mut *connection).await?;
    let migrated = migrator(dialect::ddl).run(connection).await;
    link.abandon();
    migrated
}

fn migrator(ddl: impl Fn(&str) -> String) -> Migrator {
    let migration = |&(version, description, sql): &(i64, &'static str, &str)| {
        let sql = AssertSqlSafe(ddl(sql)).into_sql_str();
        Migration::new(version, description.into(), MigrationType::Simple, sql, false)
    };
    Migrator::with_migrations(MIGRATIONS.iter().map(migration).collect())
}
