//! How the database can fail. What a caller may have meant (a conflict, a missing row) is not an error here but an
//! outcome of the call.

use camino::Utf8PathBuf;
use thiserror::Error;

/// A database call that did not succeed.
#[derive(Debug, Error)]
pub enum DatabaseError {
    /// The file can not be opened or created.
    #[error("cannot open the database {path}")]
    Open {
        /// The database file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// The schema can not be brought up to date.
    #[error("cannot bring the schema of {path} up to date")]
    Migrate {
        /// The database file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: sqlx::migrate::MigrateError,
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
    /// A statement failed.
    #[error("cannot {operation}")]
    Query {
        /// What was tried.
        operation: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
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

impl DatabaseError {
    /// Whether the disk under the database has no space left.
    #[must_use]
    pub fn is_full(&self) -> bool {
        // SQLITE_FULL is 13; extended codes keep it in the low byte.
        let DatabaseError::Query { source: sqlx::Error::Database(error), .. } = self else { return false };
        error.code().and_then(|code| code.parse::<i64>().ok()).is_some_and(|code| code & 0xff == 13)
    }
}

/// Says what was tried when a statement fails.
pub(crate) fn during(operation: &'static str) -> impl FnOnce(sqlx::Error) -> DatabaseError {
    move |source| DatabaseError::Query { operation, source }
}
