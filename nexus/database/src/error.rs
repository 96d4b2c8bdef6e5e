//! How the database can fail. What a caller may have meant (a conflict, a missing row) is not an error here but an
//! outcome of the call.

use crate::dialect::{class_of, is_rolled_back};
use sqlx::migrate::MigrateError;
use std::{error::Error, fmt, sync::Arc};

/// A database call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It can not be opened, created or reached.
    #[error("cannot open the database {database}")]
    Open {
        /// The file, or the server and its database.
        database: String,
        /// Why.
        #[source]
        source: SqlError,
    },
    /// The schema can not be brought up to date.
    #[error("cannot bring the schema of {database} up to date")]
    Migrate {
        /// The file, or the server and its database.
        database: String,
        /// Why.
        #[source]
        source: MigrateError,
    },
    /// The schema is of a newer program.
    #[error(
        "the database {database} has schema version {found}, but this program knows only up to {known}: run the program that wrote it, or a newer one"
    )]
    NewerSchema {
        /// The file, or the server and its database.
        database: String,
        /// The version that it has.
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
    /// A row holds a value that does not mean what its column says.
    #[error(
        "table {table} of database {database} holds {value:?} as {column} of {row}, which is not one: `nexus db check` tells all that is wrong with it"
    )]
    CorruptRow {
        /// The file, or the server and its database.
        database: String,
        /// The table.
        table: &'static str,
        /// `row` and its key.
        row: String,
        /// The column.
        column: &'static str,
        /// What it holds.
        value: String,
    },
    /// A value does not mean what its column says.
    #[error(
        "the database holds {value:?} as {column}, which is not one: `nexus db check` tells which row it is"
    )]
    Corrupt {
        /// The column.
        column: &'static str,
        /// What it holds.
        value: String,
    },
}

/// What the driver or the database said, once, and which database: `sqlx::Error` says it in its own words and again as its
/// source. Cheap to clone: a commit that fails is told to everybody who shared it.
#[derive(Clone, Debug)]
pub struct SqlError {
    driver: Arc<sqlx::Error>,
    /// The file, or the server and its database, where it is known.
    database: Option<Arc<str>>,
}

impl SqlError {
    pub(crate) fn driver(&self) -> &sqlx::Error {
        &self.driver
    }

    /// Of this database.
    pub(crate) fn of(mut self, database: impl FnOnce() -> String) -> SqlError {
        self.database.get_or_insert_with(|| database().into());
        self
    }
}

impl From<sqlx::Error> for SqlError {
    fn from(error: sqlx::Error) -> SqlError {
        SqlError { driver: Arc::new(error), database: None }
    }
}

impl fmt::Display for SqlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(database) = &self.database {
            write!(f, "database {database}: ")?;
        }
        match &*self.driver {
            sqlx::Error::Database(error) => error.fmt(f),
            sqlx::Error::Io(error) => error.fmt(f),
            sqlx::Error::PoolTimedOut => f.write_str("no connection could be had in time"),
            sqlx::Error::PoolClosed => f.write_str("it is closed"),
            error => error.fmt(f),
        }
    }
}

impl Error for SqlError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &*self.driver {
            sqlx::Error::Database(_) | sqlx::Error::Io(_) => None,
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
            DatabaseError::Open { source, .. } | DatabaseError::Query { source, .. } => {
                class_of(source.driver())
            }
            DatabaseError::Migrate { source, .. } => match source {
                MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => class_of(source),
                _ => ErrorClass::Failed,
            },
            DatabaseError::NewerSchema { .. } => ErrorClass::NewerSchema,
            DatabaseError::CommitUnknown { .. } => ErrorClass::CommitUnknown,
            DatabaseError::Corrupt { .. } | DatabaseError::CorruptRow { .. } => ErrorClass::Corrupt,
        }
    }

    /// Of this database, where it is not said yet.
    pub(crate) fn of(self, database: impl FnOnce() -> String) -> DatabaseError {
        match self {
            DatabaseError::Query { operation, source } => {
                DatabaseError::Query { operation, source: source.of(database) }
            }
            DatabaseError::CommitUnknown { operation, source } => {
                DatabaseError::CommitUnknown { operation, source: source.of(database) }
            }
            error => error,
        }
    }

    /// A commit that failed. Where the database says why it did not commit, nothing was committed; after any other
    /// failure a restart may find it committed.
    pub(crate) fn of_commit(operation: &'static str, source: SqlError) -> DatabaseError {
        match is_rolled_back(source.driver()) {
            true => DatabaseError::Query { operation, source },
            false => DatabaseError::CommitUnknown { operation, source },
        }
    }
}

/// Says what was tried when a statement fails.
pub fn during<E: Into<SqlError>>(operation: &'static str) -> impl FnOnce(E) -> DatabaseError {
    move |source| DatabaseError::Query { operation, source: source.into() }
}

/// An error with all that led to it.
pub(crate) fn words(error: &DatabaseError) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(&format!(": {error}"));
        cause = error.source();
    }
    words
}
