//! How the database can fail. What a caller may have meant (a conflict, a missing row) is not an error here but an
//! outcome of the call.

use camino::Utf8PathBuf;
use sqlx::migrate::MigrateError;
use std::{error::Error, fmt};

/// A database call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// The file can not be opened or created.
    #[error("cannot open the database {path}")]
    Open {
        /// The database file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: SqlError,
    },
    /// The schema can not be brought up to date.
    #[error("cannot bring the schema of {path} up to date")]
    Migrate {
        /// The database file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: MigrateError,
    },
    /// The schema is of a newer program.
    #[error(
        "the database {path} has schema version {found}, but this program knows only up to {known}: run the program that wrote it, or a newer one"
    )]
    NewerSchema {
        /// The database file.
        path: Utf8PathBuf,
        /// The version in the file.
        found: i64,
        /// The newest version of this program.
        known: i64,
    },
    /// A statement failed; nothing was changed.
    #[error("cannot {operation}")]
    Query {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: SqlError,
    },
    /// The commit failed in such a way that it may have happened: read before trying again.
    #[error("it is not known whether the attempt to {operation} was committed")]
    CommitUnknown {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: SqlError,
    },
    /// A value does not mean what its column says.
    #[error("the database holds {value:?} as {column}, which is not one")]
    Corrupt {
        /// The column.
        column: &'static str,
        /// What it holds.
        value: String,
    },
}

/// What the driver or SQLite said, once: `sqlx::Error` says it in its own words and again as its source.
#[derive(Debug)]
pub struct SqlError(sqlx::Error);

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> SqlError {
        SqlError(error)
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            sqlx::Error::Database(error) => error.fmt(f),
            error => error.fmt(f),
        }
    }
}

impl Error for SqlError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &self.0 {
            sqlx::Error::Database(_) => None,
            error => error.source(),
        }
    }
}

/// What an error means to whoever must go on. The one place that tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// Nothing was changed; the same again may succeed at once.
    Retryable,
    /// Nothing was changed, because the disk has no space left.
    Full,
    /// What is on the disk is not what was written.
    Corrupt,
    /// The database is of a newer program.
    NewerSchema,
    /// The change may have been made, or not.
    CommitUnknown,
    /// Nothing was changed: the disk refuses, or a statement is wrong.
    Failed,
}

impl DatabaseError {
    /// What the error means.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            DatabaseError::Open { source, .. } | DatabaseError::Query { source, .. } => class_of(&source.0),
            DatabaseError::Migrate { source, .. } => match source {
                MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => class_of(source),
                _ => ErrorClass::Failed,
            },
            DatabaseError::NewerSchema { .. } => ErrorClass::NewerSchema,
            DatabaseError::CommitUnknown { .. } => ErrorClass::CommitUnknown,
            DatabaseError::Corrupt { .. } => ErrorClass::Corrupt,
        }
    }

    /// A commit that failed. Where the lock was not to be had, or the last page of the transaction found no room,
    /// nothing was committed; after any other failure a restart may find it committed.
    pub(crate) fn of_commit(operation: &'static str, source: sqlx::Error) -> DatabaseError {
        match class_of(&source) {
            ErrorClass::Retryable | ErrorClass::Full if matches!(source, sqlx::Error::Database(_)) => {
                DatabaseError::Query { operation, source: source.into() }
            }
            _ => DatabaseError::CommitUnknown { operation, source: source.into() },
        }
    }
}

/// SQLite's result codes (sqlite.org/rescode.html): the low byte is the primary code.
mod sqlite {
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const CORRUPT: u32 = 11;
    pub(super) const FULL: u32 = 13;
    pub(super) const NOT_A_DATABASE: u32 = 26;
    /// The shared-memory file beside the log can not grow, which it does only on a full disk.
    pub(super) const IO_SHARED_MEMORY_SIZE: u32 = 10 | (19 << 8);
}

fn class_of(error: &sqlx::Error) -> ErrorClass {
    let error = match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed => return ErrorClass::Retryable,
        sqlx::Error::Database(error) => error,
        _ => return ErrorClass::Failed,
    };
    let Some(code) = error.code().and_then(|code| code.parse::<u32>().ok()) else {
        return ErrorClass::Failed;
    };
    match (code, code & 0xff) {
        (sqlite::IO_SHARED_MEMORY_SIZE, _) | (_, sqlite::FULL) => ErrorClass::Full,
        (_, sqlite::BUSY | sqlite::LOCKED) => ErrorClass::Retryable,
        (_, sqlite::CORRUPT | sqlite::NOT_A_DATABASE) => ErrorClass::Corrupt,
        _ => ErrorClass::Failed,
    }
}

/// Says what was tried when a statement fails.
pub(crate) fn during(operation: &'static str) -> impl FnOnce(sqlx::Error) -> DatabaseError {
    move |source| DatabaseError::Query { operation, source: source.into() }
}
