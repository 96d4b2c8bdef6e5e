//! A copy of an SQLite database beside it, and back. PostgreSQL has its own programs for that; their command lines are
//! told.
//!
//! **Backup**, while a coordinator runs: the copy is of one moment, and was checked before it gets its name.
//!
//! | step | a crash after it leaves |
//! |---|---|
//! | `VACUUM INTO` FILE.partial, check it, fsync | FILE.partial, which the next backup replaces |
//! | its SHA-256 into FILE.sha256 (as `sha256sum` has it), fsync | a checksum of nothing |
//! | FILE.partial → FILE, fsync of the directory | the backup |
//!
//! **Restore**, while no coordinator runs on the state directory (the caller holds its lock):
//!
//! | step | a crash after it leaves |
//! |---|---|
//! | compare the checksum, copy to nexus.db.restoring, check it, move its epochs and generation ahead, fsync | the old database; a file that the next restore replaces |
//! | bring the old log into the old database; keep it under a second name | the old database |
//! | remove the old log | the old database, under both names |
//! | nexus.db.restoring → nexus.db, fsync of the directory | the restored one; the old one is kept |
//!
//! **Epochs and the generation move ahead**, by more than can have been used since the backup: sleds refuse what is older
//! than what they know, and must never see one number with two meanings. An unfinished saga is adopted, as it were, by the
//! coordinator of another time: what it did since the backup, it does again, under an epoch that the sleds have not seen.

use crate::{
    CheckFinding, DatabaseError, Location, PostgresLocation,
    check::check,
    connect::{cannot_open, options},
    error::during,
};
use camino::{Utf8Path, Utf8PathBuf};
use ids::ArtifactHash;
use sha2::{Digest, Sha256};
use sqlx::{
    ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions, sqlite::SqliteJournalMode,
};
use std::{
    fs::{self, File},
    io::{self, Read},
};
use thiserror::Error;

/// How far epochs and the generation move at a restore: more than a coordinator starts, or releases come and go, between
/// a backup and its restore, and little enough for thousands of restores.
const AHEAD: i64 = 1 << 20;

/// Bytes that are hashed at once.
const HASH_BYTES: usize = 1 << 20;

/// A file that was written, or read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// The backup.
    pub file: Utf8PathBuf,
    /// Its bytes.
    pub bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub sha256: String,
    /// Rows that break a rule, as they did before; `nexus db check` lists them.
    pub broken_rules: usize,
    /// Where a restore has kept the database that was there.
    pub kept: Option<Utf8PathBuf>,
}

/// A backup or a restore that was not made.
#[derive(Debug, Error)]
pub enum BackupError {
    /// PostgreSQL's own programs do it.
    #[error("a PostgreSQL database is backed up and restored by PostgreSQL's own programs; run: {command}")]
    UsePostgres {
        /// The exact command line.
        command: String,
    },
    /// There is a file already.
    #[error("{path} exists already: remove it, or choose another name")]
    Exists {
        /// The file.
        path: Utf8PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {operation} {path}")]
    File {
        /// What was tried.
        operation: &'static str,
        /// On which file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no checksum of it that could be read.
    #[error("{path} is no backup: {checksum} should hold its SHA-256, as `nexus db backup` writes it")]
    NoChecksum {
        /// The file.
        path: Utf8PathBuf,
        /// Where its checksum should be.
        checksum: Utf8PathBuf,
    },
    /// It is not what was written.
    #[error("{path} is not what was written: its SHA-256 is {actual}, and should be {expected}")]
    Checksum {
        /// The file.
        path: Utf8PathBuf,
        /// The SHA-256 that was written beside it.
        expected: String,
        /// The SHA-256 that it has.
        actual: String,
    },
    /// The file is damaged.
    #[error("{path} is not in order: {first} ({count} findings in all; `nexus db check` lists them)")]
    Findings {
        /// The file.
        path: Utf8PathBuf,
        /// How many findings there are.
        count: usize,
        /// The first one.
        first: CheckFinding,
    },
    /// The database can not be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Copies a database, which may be in use.
///
/// # Errors
/// [`BackupError`]; then there is no backup of that name.
pub async fn backup(location: &Location, file: &Utf8Path) -> Result<BackupReport, BackupError> {
    let path = match location {
        Location::Sqlite(path) => path,
        Location::Postgres(server) => {
            return Err(use_postgres(server, "pg_dump --format=custom --file", file));
        }
    };
    if file.exists() {
        return Err(BackupError::Exists { path: file.to_owned() });
    }
    let partial = with_suffix(file, ".partial");
    remove_if_there(&partial)?;
    let mut connection = connect(path, SqliteConnectOptions::new().filename(path)).await?;
    let copied = sqlx::query("VACUUM INTO $1").bind(partial.as_str()).execute(&mut connection).await;
    let closed = connection.close().await;
    copied.and(closed).map_err(during("copy the database"))?;
    let broken_rules = in_order(&partial).await?;
    sync(&partial)?;
    let (sha256, bytes) = digest_of(&partial)?;
    let checksum = with_suffix(file, ".sha256");
    let line = format!("{sha256}  {}\n", file.file_name().unwrap_or_default());
    fs::write(&checksum, line).map_err(failed("write", &checksum))?;
    sync(&checksum)?;
    fs::rename(&partial, file).map_err(failed("rename to", file))?;
    sync_directory_of(file)?;
    Ok(BackupReport { file: file.to_owned(), bytes, sha256, broken_rules, kept: None })
}

/// Puts a backup in the place of the database. Nobody may use the database meanwhile.
///
/// # Errors
/// [`BackupError`]; then the database is as it was.
pub async fn restore(location: &Location, file: &Utf8Path) -> Result<BackupReport, BackupError> {
    let path = match location {
        Location::Sqlite(path) => path,
        Location::Postgres(server) => {
            let command = "pg_restore --clean --if-exists --single-transaction";
            return Err(use_postgres(server, command, file));
        }
    };
    let (sha256, bytes) = verified(file)?;
    let restoring = with_suffix(path, ".restoring");
    remove_if_there(&restoring)?;
    fs::copy(file, &restoring).map_err(failed("copy the backup to", &restoring))?;
    let broken_rules = in_order(&restoring).await?;
    move_ahead(&restoring).await?;
    sync(&restoring)?;
    let kept = if path.exists() { Some(keep_old(path).await?) } else { None };
    for suffix in ["-wal", "-shm"] {
        remove_if_there(&with_suffix(path, suffix))?;
    }
    fs::rename(&restoring, path).map_err(failed("rename to", path))?;
    sync_directory_of(path)?;
    Ok(BackupReport { file: file.to_owned(), bytes, sha256, broken_rules, kept })
}

/// Compares a backup with its checksum.
fn verified(file: &Utf8Path) -> Result<(String, u64), BackupError> {
    let checksum = with_suffix(file, ".sha256");
    let (actual, bytes) = digest_of(file)?;
    let no_checksum = || BackupError::NoChecksum { path: file.to_owned(), checksum: checksum.clone() };
    let text = fs::read_to_string(&checksum).map_err(|_| no_checksum())?;
    let expected = text.split_whitespace().next().filter(|word| word.parse::<ArtifactHash>().is_ok());
    let expected = expected.ok_or_else(no_checksum)?;
    if expected != actual {
        let (path, expected) = (file.to_owned(), expected.to_owned());
        return Err(BackupError::Checksum { path, expected, actual });
    }
    Ok((actual, bytes))
}

/// How many rows break a rule. A file that is damaged itself is refused; rows that break rules are not: a copy of them is
/// better than none, and they were there before.
async fn in_order(path: &Utf8Path) -> Result<usize, BackupError> {
    let report = check(&Location::from(path)).await?;
    let count = report.findings.len();
    match report.findings.into_iter().find(|finding| finding.table.is_none()) {
        None => Ok(count),
        Some(first) => Err(BackupError::Findings { path: path.to_owned(), count, first }),
    }
}

async fn move_ahead(path: &Utf8Path) -> Result<(), BackupError> {
    let operation = "move epochs and the generation ahead";
    // Without a log beside it, so that the file alone is the database when it is renamed.
    let options = options(path).create_if_missing(false).journal_mode(SqliteJournalMode::Delete);
    let mut connection = connect(path, options).await?;
    let moved = [
        ("coordinator", "UPDATE coordinator SET epoch = epoch + $1"),
        ("cluster", "UPDATE cluster SET generation = generation + $1"),
        ("saga", "UPDATE saga SET adoption_epoch = adoption_epoch + $1 WHERE ended_at IS NULL"),
    ];
    for (table, statement) in moved {
        // A backup of an older program may lack some.
        let there = sqlx::query("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = $1").bind(table);
        if there.fetch_optional(&mut connection).await.map_err(during(operation))?.is_none() {
            continue;
        }
        sqlx::query(statement).bind(AHEAD).execute(&mut connection).await.map_err(during(operation))?;
    }
    connection.close().await.map_err(during(operation)).map_err(BackupError::from)
}

/// Gives the database a second name, under which it stays.
async fn keep_old(path: &Utf8Path) -> Result<Utf8PathBuf, BackupError> {
    // The last one to close a database brings its log into it. One that is too broken for that is kept without.
    if let Ok(mut connection) = connect(path, SqliteConnectOptions::new().filename(path)).await {
        let _ = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").execute(&mut connection).await;
        let _ = connection.close().await;
    }
    let now = crate::rows::now().strftime("%Y%m%dT%H%M%S%.3fZ").to_string();
    let kept = with_suffix(path, &format!(".before-restore-{now}"));
    fs::hard_link(path, &kept).map_err(failed("keep the old database as", &kept))?;
    Ok(kept)
}

async fn connect(path: &Utf8Path, options: SqliteConnectOptions) -> Result<SqliteConnection, DatabaseError> {
    options.connect().await.map_err(|source| cannot_open(&Location::from(path), source))
}

fn use_postgres(server: &PostgresLocation, program: &str, file: &Utf8Path) -> BackupError {
    let password =
        server.password_file().map(|file| format!("PGPASSWORD=\"$(cat '{file}')\" ")).unwrap_or_default();
    let separator = if program.ends_with("--file") { "=" } else { " " };
    let command = format!("{password}{program}{separator}'{file}' --dbname='{}'", server.url());
    BackupError::UsePostgres { command }
}

fn digest_of(path: &Utf8Path) -> Result<(String, u64), BackupError> {
    let mut file = File::open(path).map_err(failed("open", path))?;
    let (mut hasher, mut bytes) = (Sha256::new(), 0);
    let mut buffer = vec![0; HASH_BYTES];
    loop {
        let length = file.read(&mut buffer).map_err(failed("read", path))?;
        if length == 0 {
            return Ok((ArtifactHash(hasher.finalize().into()).to_string(), bytes));
        }
        hasher.update(&buffer[..length]);
        bytes += length as u64;
    }
}

fn sync(path: &Utf8Path) -> Result<(), BackupError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(failed("sync", path))
}

fn sync_directory_of(path: &Utf8Path) -> Result<(), BackupError> {
    match path.parent() {
        Some(directory) if !directory.as_str().is_empty() => sync(directory),
        _ => sync(Utf8Path::new(".")),
    }
}

fn remove_if_there(path: &Utf8Path) -> Result<(), BackupError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(source)),
        _ => Ok(()),
    }
}

fn with_suffix(path: &Utf8Path, suffix: &str) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{path}{suffix}"))
}

fn failed(operation: &'static str, path: &Utf8Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { operation, path, source }
}
