//! Whether a database is what it should be. Reads everything, changes nothing, and may run beside a coordinator.
//!
//! | | SQLite | PostgreSQL |
//! |---|---|---|
//! | pages, indexes, foreign keys | `integrity_check`, `foreign_key_check` | the server's own business (`pg_amcheck`) |
//! | schema version | ✓ | ✓ |
//! | our own rules: one cluster, the digest of the wanted set, values that mean what their columns say | ✓ | ✓ |

use crate::{
    DatabaseError, Location,
    connect::cannot_open,
    error::during,
    migrate, rows, sagas,
    server::Server,
    sql::{Connection, Pool, assembled, sql},
    wanted,
    write::transaction::{Purpose, Transaction},
};
use ids::{
    ArtifactHash, ClusterId, CoordinatorId, RegionId, RegionSetId, RepairId, RepositoryId, SledId,
    TrustRootId, VolumeId,
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use std::{fmt, time::Duration};

/// Findings that are told one by one at most; a page that is lost may make thousands.
pub(crate) const FINDINGS_MAX: usize = 100;

/// How long PostgreSQL may take for one statement: each reads a whole table, and nobody waits but the operator who asked.
const TABLE_LIMIT: Duration = Duration::from_secs(600);

const OPERATION: &str = "check the database";

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The file, or the server and its database.
    pub database: String,
    /// The version of its schema.
    pub schema: i64,
    /// The newest version that this program knows. With an older schema our own rules are not looked at: the next start
    /// of the coordinator brings it up to date.
    pub known: i64,
    /// Rows that were looked at.
    pub rows: u64,
    /// What is wrong, at most some hundred.
    pub findings: Vec<CheckFinding>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckFinding {
    /// The table; none if it is about the file.
    pub table: Option<&'static str>,
    /// The row's key.
    pub row: Option<String>,
    /// What is wrong.
    pub problem: String,
}

impl fmt::Display for CheckFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.table, &self.row) {
            (Some(table), Some(row)) => write!(f, "{table}, row {row}: {}", self.problem),
            (Some(table), None) => write!(f, "{table}: {}", self.problem),
            _ => f.write_str(&self.problem),
        }
    }
}

/// Checks a database.
///
/// # Errors
/// [`DatabaseError::Open`], [`DatabaseError::NewerSchema`]; [`DatabaseError::Query`] where it can not even be read.
pub async fn check(location: &Location) -> Result<CheckReport, DatabaseError> {
    let pool = open(location).await.map_err(|source| cannot_open(location, source))?;
    let result = check_all(&pool, location).await;
    pool.close().await;
    result
}

/// Opens what is there as it is: nothing is created, and the schema stays.
async fn open(location: &Location) -> Result<Pool, sqlx::Error> {
    match location {
        Location::Sqlite(path) => {
            let options = SqliteConnectOptions::new().filename(path).create_if_missing(false);
            let pool = SqlitePoolOptions::new().max_connections(1);
            Ok(Pool::Sqlite(pool.connect_with(options.pragma("query_only", "1")).await?))
        }
        Location::Postgres(server) => {
            let options = server.options.as_ref().clone();
            Ok(Pool::Postgres(Server::connect(options, TABLE_LIMIT).await?))
        }
    }
}

async fn check_all(pool: &Pool, location: &Location) -> Result<CheckReport, DatabaseError> {
    let connection = pool.acquire().await.map_err(during(OPERATION))?;
    // All of it is of one moment, though a coordinator may write meanwhile.
    let mut transaction = Transaction::begin(connection, Purpose::Read).await.map_err(during(OPERATION))?;
    let result = check_moment(transaction.connection(), location).await;
    transaction.roll_back().await;
    result
}

async fn check_moment(
    connection: &mut Connection,
    location: &Location,
) -> Result<CheckReport, DatabaseError> {
    let database = location.to_string();
    let known = migrate::KNOWN;
    let mut report = CheckReport { database, schema: 0, known, rows: 0, findings: Vec::new() };
    if !connection.is_postgres() {
        check_file(connection, &mut report).await?;
    }
    report.schema = schema(connection).await?;
    if report.schema > known {
        let (database, found) = (report.database, report.schema);
        return Err(DatabaseError::NewerSchema { database, found, known });
    }
    if report.schema == known {
        check_cluster(connection, &mut report).await?;
        for column in &COLUMNS {
            check_column(connection, column, &mut report).await?;
        }
        check_fingerprints(connection, &mut report).await?;
        sagas::check::check(connection, &mut report).await?;
    }
    report.findings.truncate(FINDINGS_MAX);
    Ok(report)
}

/// The newest change that was applied.
async fn schema(connection: &mut Connection) -> Result<i64, DatabaseError> {
    let newest = sql("SELECT MAX(version) AS version FROM _sqlx_migrations");
    let row = newest.fetch_one(connection).await.map_err(during("read the schema version"))?;
    let version: Option<i64> = row.try_get("version").map_err(during("read the schema version"))?;
    Ok(version.unwrap_or_default())
}

async fn check_file(connection: &mut Connection, report: &mut CheckReport) -> Result<(), DatabaseError> {
    let about_file = |problem| CheckFinding { table: None, row: None, problem };
    let words = sql("PRAGMA integrity_check").fetch_all(&mut *connection).await.map_err(during(OPERATION))?;
    for row in &words {
        let said = rows::text(row, "integrity_check")?;
        if said != "ok" {
            report.findings.push(about_file(said));
        }
    }
    let orphans = sql("PRAGMA foreign_key_check").fetch_all(connection).await.map_err(during(OPERATION))?;
    for row in &orphans {
        let (table, parent) = (rows::text(row, "table")?, rows::text(row, "parent")?);
        report
            .findings
            .push(about_file(format!("a row of {table} refers to a row of {parent} that is not there")));
    }
    Ok(())
}

/// There is one cluster, and its digest is that of what is wanted.
async fn check_cluster(connection: &mut Connection, report: &mut CheckReport) -> Result<(), DatabaseError> {
    let mut add = |problem| report.findings.push(CheckFinding { table: Some("cluster"), row: None, problem });
    let clusters = sql("SELECT wanted_digest FROM cluster");
    let clusters = clusters.fetch_all(&mut *connection).await.map_err(during(OPERATION))?;
    let [cluster] = clusters.as_slice() else {
        add(format!("there are {} rows, and there must be one", clusters.len()));
        return Ok(());
    };
    let hashes = sql("SELECT DISTINCT hash FROM repository_artifact ORDER BY hash");
    let hashes = hashes.fetch_all(connection).await.map_err(during(OPERATION))?;
    // One that is no hash is found in its own column.
    let hashes: Vec<ArtifactHash> = hashes.iter().filter_map(|row| rows::parsed(row, "hash").ok()).collect();
    let (kept, true_one) = (rows::text(cluster, "wanted_digest")?, wanted::digest(&hashes));
    if kept != true_one {
        add(format!(
            "wanted_digest is {kept}, but the artifacts of all repositories have {true_one}: somebody has changed rows \
             by hand; upload or delete any release to settle it"
        ));
    }
    Ok(())
}

/// A column that must mean something.
struct Column {
    table: &'static str,
    /// An expression that names the row.
    key: &'static str,
    name: &'static str,
    /// Whether its digits are what is looked at. A text is read as it is: one that is kept as something else is found out.
    is_number: bool,
    means: fn(&str) -> bool,
}

const fn column(
    table: &'static str,
    key: &'static str,
    name: &'static str,
    means: fn(&str) -> bool,
) -> Column {
    Column { table, key, name, is_number: false, means }
}

const fn number(
    table: &'static str,
    key: &'static str,
    name: &'static str,
    means: fn(&str) -> bool,
) -> Column {
    Column { table, key, name, is_number: true, means }
}

fn is_time(text: &str) -> bool {
    text.parse::<Timestamp>().is_ok()
}

fn is_hash(text: &str) -> bool {
    text.parse::<ArtifactHash>().is_ok()
}

fn is_cluster(text: &str) -> bool {
    text.parse::<ClusterId>().is_ok()
}

fn is_coordinator(text: &str) -> bool {
    text.parse::<CoordinatorId>().is_ok()
}

fn is_epoch(text: &str) -> bool {
    text.parse().is_ok_and(rows::is_epoch)
}

fn is_trust_root(text: &str) -> bool {
    text.parse::<TrustRootId>().is_ok()
}

fn is_sled(text: &str) -> bool {
    text.parse::<SledId>().is_ok()
}

fn is_repository(text: &str) -> bool {
    text.parse::<RepositoryId>().is_ok()
}

fn is_repair(text: &str) -> bool {
    text.parse::<RepairId>().is_ok()
}

fn is_volume(text: &str) -> bool {
    text.parse::<VolumeId>().is_ok()
}

fn is_region_set(text: &str) -> bool {
    text.parse::<RegionSetId>().is_ok()
}

fn is_region(text: &str) -> bool {
    text.parse::<RegionId>().is_ok()
}

/// The right to write a volume.
fn is_right(text: &str) -> bool {
    text.parse::<u32>().is_ok()
}

fn is_words(text: &str) -> bool {
    serde_json::from_str::<Vec<String>>(text).is_ok()
}

const COLUMNS: [Column; 25] = [
    column("cluster", "id", "id", is_cluster),
    column("cluster", "id", "created_at", is_time),
    column("coordinator", "id", "id", is_coordinator),
    number("coordinator", "id", "epoch", is_epoch),
    column("coordinator", "id", "started_at", is_time),
    column("trust_root", "id", "id", is_trust_root),
    column("trust_root", "id", "expires", is_time),
    column("trust_root", "id", "created_at", is_time),
    column("sled", "id", "id", is_sled),
    column("sled", "id", "created_at", is_time),
    column("repository", "system_version", "id", is_repository),
    column("repository", "system_version", "trust_root_id", is_trust_root),
    column("repository", "system_version", "created_at", is_time),
    column("repository_artifact", "repository_id || ' ' || name", "hash", is_hash),
    column("staged_repository", "repository_id || ' ' || file", "created_at", is_time),
    column("volume_repair", "id", "id", is_repair),
    column("volume_repair", "id", "volume_id", is_volume),
    column("volume_repair", "id", "region_set_id", is_region_set),
    column("volume_repair", "id", "region_id", is_region),
    number("volume_repair", "id", "newest_epoch", is_right),
    column("volume_repair", "id", "told_at", is_time),
    column("volume_repair", "id", "started_at", is_time),
    column("volume_repair", "id", "progressed_at", is_time),
    column("volume_repair", "id", "finished_at", is_time),
    column("volume_repair", "id", "waits", is_words),
];

async fn check_column(
    connection: &mut Connection,
    column: &Column,
    report: &mut CheckReport,
) -> Result<(), DatabaseError> {
    let Column { table, key, name, is_number, means } = column;
    let value = if *is_number { format!("CAST({name} AS TEXT)") } else { (*name).to_owned() };
    let text = format!("SELECT {key} AS row_key, {value} AS checked FROM {table} WHERE {name} IS NOT NULL");
    let all = assembled(text.into(), Vec::new()).fetch_all(connection).await.map_err(during(OPERATION))?;
    for row in &all {
        let value = rows::text(row, "checked")?;
        if !means(&value) {
            report.findings.push(CheckFinding {
                table: Some(table),
                row: Some(rows::text(row, "row_key")?),
                problem: format!("{value:?} is no {name}"),
            });
        }
    }
    if name == key || *name == "hash" || *table == "staged_repository" {
        report.rows += all.len() as u64;
    }
    Ok(())
}

/// A trust root is what its fingerprint says: with another content, other signatures would be believed.
async fn check_fingerprints(
    connection: &mut Connection,
    report: &mut CheckReport,
) -> Result<(), DatabaseError> {
    let all = sql("SELECT id, fingerprint, root_json FROM trust_root");
    for row in &all.fetch_all(connection).await.map_err(during(OPERATION))? {
        let digest = Sha256::digest(rows::text(row, "root_json")?.as_bytes());
        let (kept, true_one) = (rows::text(row, "fingerprint")?, ArtifactHash(digest.into()).to_string());
        if kept != true_one {
            let problem = format!("fingerprint is {kept}, but root_json has {true_one}");
            let row = Some(rows::text(row, "id")?);
            report.findings.push(CheckFinding { table: Some("trust_root"), row, problem });
        }
    }
    Ok(())
}
