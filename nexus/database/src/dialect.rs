//! Where SQLite and PostgreSQL differ: every place, and nothing else. All other SQL is one text for both.
//!
//! | what | SQLite | PostgreSQL |
//! |---|---|---|
//! | text in order and in keys | by bytes | by the database's collation, so columns say `COLLATE "C"` ([`ddl`]) |
//! | begin of a write | takes the one write lock | SERIALIZABLE; may have to run again ([`begin`]) |
//! | begin of statements that each lock what they rely on | the same lock | READ COMMITTED ([`begin`]) |
//! | a row that must be there, as it was, for others to be added | nobody else writes | locked for share ([`fenced`]) |
//! | tables that are their own index | `WITHOUT ROWID` | no such thing ([`ddl`]) |
//! | begin of reads of one moment | any transaction | REPEATABLE READ ([`begin`]) |
//! | error codes | result codes | SQLSTATE ([`class_of`], [`is_rolled_back`]) |
//! | `SUM` of integers | integer | numeric: say `CAST(… AS BIGINT)`, which both understand |
//! | placeholders of one statement | 32 766 | 65 535: the smaller one counts for both ([`PLACEHOLDERS_MAX`]) |

use crate::ErrorClass;
use sqlx::{
    postgres::{PgDatabaseError, PgSeverity},
    sqlite::SqliteError,
};

/// Values of one statement at most, on either database.
pub(crate) const PLACEHOLDERS_MAX: usize = 32_766;

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It reads and writes, and what it has read is still true when it commits.
    Write,
    /// Each of its statements is right by itself, whatever others commit meanwhile: it names the state that it changes, and
    /// locks what it relies on.
    RowWise,
    /// It only reads, and all of it is of one moment.
    Read,
}

/// How a transaction begins.
pub(crate) fn begin(is_postgres: bool, purpose: Purpose) -> &'static str {
    match (is_postgres, purpose) {
        (false, Purpose::Write | Purpose::RowWise) => "BEGIN IMMEDIATE",
        (false, Purpose::Read) => "BEGIN DEFERRED",
        (true, Purpose::Write) => "BEGIN ISOLATION LEVEL SERIALIZABLE",
        (true, Purpose::RowWise) => "BEGIN ISOLATION LEVEL READ COMMITTED",
        (true, Purpose::Read) => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
    }
}

/// A schema change, written for SQLite, as PostgreSQL is to take it: the type `TEXT` is by bytes there too.
pub(crate) fn ddl(sql: &str) -> String {
    let is_word = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut translated = String::with_capacity(sql.len() * 2);
    for line in sql.lines() {
        let code = line.split("--").next().unwrap_or_default();
        let mut rest = code;
        while let Some(at) = rest.find("TEXT") {
            let (before, after) = (&rest[..at], &rest[at + 4..]);
            let stands_alone = !before.ends_with(is_word) && !after.starts_with(is_word);
            translated.push_str(before);
            translated.push_str(if stands_alone { "TEXT COLLATE \"C\"" } else { "TEXT" });
            rest = after;
        }
        translated.push_str(rest);
        translated.push('\n');
    }
    translated.replace(") WITHOUT ROWID;", ");")
}

/// What follows `FROM` in a statement over those of the new rows whose fence holds: a row of the table `fence` that is equal
/// in all the `equal` columns, and stays so until the commit. `new` is a table of that name with `column1`, `column2`, …
///
/// PostgreSQL looks each row up by itself, so that its plan does not depend on how large it believes the table to be.
pub(crate) fn fenced(is_postgres: bool, new: &str, fence: &str, equal: &[(&str, usize)]) -> String {
    let equal: Vec<String> =
        equal.iter().map(|(column, number)| format!("{fence}.{column} = new.column{number}")).collect();
    let equal = equal.join(" AND ");
    if is_postgres {
        let held = format!("SELECT 1 FROM {fence} WHERE {equal} FOR SHARE");
        format!("{new} CROSS JOIN LATERAL ({held}) AS held")
    } else {
        format!("{new} CROSS JOIN {fence} WHERE {equal}")
    }
}

/// What an error means to whoever must go on.
pub(crate) fn class_of(error: &sqlx::Error) -> ErrorClass {
    let database = match error {
        sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed | sqlx::Error::Io(_) => {
            return ErrorClass::Retryable;
        }
        sqlx::Error::Database(database) => database,
        _ => return ErrorClass::Failed,
    };
    if let Some(error) = database.try_downcast_ref::<PgDatabaseError>() {
        return postgres::class_of(error.code());
    }
    let code = database.try_downcast_ref::<SqliteError>().and_then(|_| database.code());
    code.and_then(|code| code.parse().ok()).map_or(ErrorClass::Failed, sqlite::class_of)
}

/// Whether an answer to COMMIT says that nothing was committed.
pub(crate) fn is_rolled_back(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else { return false };
    match database.try_downcast_ref::<PgDatabaseError>() {
        Some(error) => postgres::is_rolled_back(error.code()),
        None => matches!(class_of(error), ErrorClass::Retryable | ErrorClass::Full),
    }
}

/// Whether an error of a statement that is its own transaction says that nothing of it is there. PostgreSQL says ERROR only
/// before it has committed; what ends the session is FATAL or PANIC, whenever it comes.
pub(crate) fn is_undone(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else { return false };
    database.try_downcast_ref::<PgDatabaseError>().is_some_and(|error| {
        error.severity() == PgSeverity::Error && error.code() != postgres::STATEMENT_COMPLETION_UNKNOWN
    })
}

/// Whether it is the error by which such a statement undoes itself.
pub(crate) fn has_undone_itself(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else { return false };
    let error = database.try_downcast_ref::<PgDatabaseError>();
    error.is_some_and(|error| error.code() == postgres::DIVISION_BY_ZERO)
}

/// Whether the database gave this transaction up for the sake of another one: the same again is what it asks for.
pub(crate) fn is_serialization_failure(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else { return false };
    database
        .try_downcast_ref::<PgDatabaseError>()
        .is_some_and(|error| matches!(error.code(), postgres::SERIALIZATION_FAILURE | postgres::DEADLOCK))
}

/// Whether the connection is gone, and with it, before its COMMIT, all that was done on it.
pub(crate) fn is_connection_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(database) => database
            .try_downcast_ref::<PgDatabaseError>()
            .is_some_and(|error| postgres::is_lost(error.code())),
        _ => false,
    }
}

/// SQLite's result codes (sqlite.org/rescode.html): the low byte is the primary code.
mod sqlite {
    use crate::ErrorClass;

    const BUSY: u32 = 5;
    const LOCKED: u32 = 6;
    const CORRUPT: u32 = 11;
    const FULL: u32 = 13;
    const NOT_A_DATABASE: u32 = 26;
    /// The shared-memory file beside the log can not grow, which it does only on a full disk.
    const IO_SHARED_MEMORY_SIZE: u32 = 10 | (19 << 8);

    pub(super) fn class_of(code: u32) -> ErrorClass {
        match (code, code & 0xff) {
            (IO_SHARED_MEMORY_SIZE, _) | (_, FULL) => ErrorClass::Full,
            (_, BUSY | LOCKED) => ErrorClass::Retryable,
            (_, CORRUPT | NOT_A_DATABASE) => ErrorClass::Corrupt,
            _ => ErrorClass::Failed,
        }
    }
}

/// PostgreSQL's SQLSTATEs (appendix A of its manual): the first two characters are the class.
mod postgres {
    use crate::ErrorClass;

    pub(super) const SERIALIZATION_FAILURE: &str = "40001";
    pub(super) const DEADLOCK: &str = "40P01";
    pub(super) const DIVISION_BY_ZERO: &str = "22012";
    pub(super) const STATEMENT_COMPLETION_UNKNOWN: &str = "40003";
    const DISK_FULL: &str = "53100";
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    /// Data corrupted, index corrupted.
    const CORRUPTED: [&str; 2] = ["XX001", "XX002"];
    /// Admin shutdown, crash shutdown, cannot connect now.
    const GOING_DOWN: [&str; 3] = ["57P01", "57P02", "57P03"];

    pub(super) fn class_of(code: &str) -> ErrorClass {
        match code {
            DISK_FULL => ErrorClass::Full,
            SERIALIZATION_FAILURE | DEADLOCK | LOCK_NOT_AVAILABLE => ErrorClass::Retryable,
            code if CORRUPTED.contains(&code) => ErrorClass::Corrupt,
            code if is_lost(code) || code.starts_with("53") => ErrorClass::Retryable,
            _ => ErrorClass::Failed,
        }
    }

    pub(super) fn is_lost(code: &str) -> bool {
        GOING_DOWN.contains(&code) || code.starts_with("08")
    }

    /// Rolled back for another one, for a broken rule, or for want of room: said before anything is committed.
    pub(super) fn is_rolled_back(code: &str) -> bool {
        code != STATEMENT_COMPLETION_UNKNOWN && ["40", "23", "53"].iter().any(|class| code.starts_with(class))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_by_bytes_in_columns_and_nowhere_else() {
        let sql = "CREATE TABLE t ( -- TEXT in a comment\n    a TEXT PRIMARY KEY,\n    b_TEXT BIGINT,\n    c TEXT);";
        assert_eq!(
            ddl(sql),
            "CREATE TABLE t ( \n    a TEXT COLLATE \"C\" PRIMARY KEY,\n    b_TEXT BIGINT,\n    c TEXT COLLATE \"C\");\n"
        );
    }

    #[test]
    fn a_commit_is_known_to_have_failed_only_where_postgresql_says_why() {
        for code in ["40001", "40P01", "23503", "53100"] {
            assert!(postgres::is_rolled_back(code), "{code}");
        }
        for code in ["40003", "57P01", "57P02", "08006", "XX000"] {
            assert!(!postgres::is_rolled_back(code), "{code}");
        }
    }

    #[test]
    fn codes_have_classes() {
        assert_eq!(postgres::class_of("53100"), ErrorClass::Full);
        assert_eq!(postgres::class_of("53300"), ErrorClass::Retryable);
        assert_eq!(postgres::class_of("57P01"), ErrorClass::Retryable);
        assert_eq!(postgres::class_of("XX001"), ErrorClass::Corrupt);
        assert_eq!(postgres::class_of("42601"), ErrorClass::Failed);
        assert_eq!(sqlite::class_of(13), ErrorClass::Full);
        assert_eq!(sqlite::class_of(5 | (2 << 8)), ErrorClass::Retryable);
    }
}
