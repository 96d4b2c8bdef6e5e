//! Reading typed values out of rows.

use crate::{DatabaseError, error::during, sql::Row};
use std::{fmt::Display, str::FromStr};

/// Characters of a value that are told at most: a whole graph is no help.
const VALUE_CHARACTERS_MAX: usize = 80;

/// A value that does not mean what its column says.
pub(crate) fn corrupt(column: &'static str, value: &str) -> DatabaseError {
    let mut told: String = value.chars().take(VALUE_CHARACTERS_MAX).collect();
    if told.len() < value.len() {
        told.push('…');
    }
    DatabaseError::Corrupt { column, value: told }
}

/// Text that must parse as `T`.
pub(crate) fn parsed<T: FromStr>(row: &Row, column: &'static str) -> Result<T, DatabaseError> {
    let text = text(row, column)?;
    text.parse().map_err(|_| corrupt(column, &text))
}

/// Text.
pub(crate) fn text(row: &Row, column: &'static str) -> Result<String, DatabaseError> {
    row.try_get(column).map_err(during("read a text column"))
}

/// Text, or NULL.
pub(crate) fn optional_text(row: &Row, column: &'static str) -> Result<Option<String>, DatabaseError> {
    row.try_get(column).map_err(during("read a text column"))
}

/// A count or a size: never negative.
pub(crate) fn unsigned(row: &Row, column: &'static str) -> Result<u64, DatabaseError> {
    let value: i64 = row.try_get(column).map_err(during("read a number column"))?;
    u64::try_from(value).map_err(|_| corrupt(column, &value.to_string()))
}

/// A number that is one higher with each start of a coordinator, or adoption of a saga.
pub(crate) fn epoch(row: &Row, column: &'static str) -> Result<u64, DatabaseError> {
    let epoch = unsigned(row, column)?;
    if is_epoch(epoch) { Ok(epoch) } else { Err(corrupt(column, &epoch.to_string())) }
}

/// Whether there may have been so many. Half of what the column holds: nobody counts so far, and one more than the largest
/// number of a column fails, or is no whole number any more, and takes with it the whole batch that is written.
pub(crate) fn is_epoch(epoch: u64) -> bool {
    const EPOCHS: u64 = 1 << 62;
    epoch < EPOCHS
}

/// A number as the database keeps it. Sizes and generations stay far below 2^63.
pub(crate) fn signed(value: u64) -> i64 {
    i64::try_from(value).expect("sizes and generations stay below 2^63")
}

/// The text form under which ids, hashes and times are kept.
pub(crate) fn key(value: &impl Display) -> String {
    value.to_string()
}

/// A time as text whose order is that of time: with six decimals, always.
pub(crate) fn instant(time: jiff::Timestamp) -> String {
    format!("{time:.6}")
}

/// The time now, as it is kept.
pub(crate) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

/// Reads a row of this table, whose key is in this column: what is wrong with a value is said of its row.
pub(crate) fn of_table<T>(
    row: &Row,
    (table, key): (&'static str, &'static str),
    read: impl FnOnce(&Row) -> Result<T, DatabaseError>,
) -> Result<T, DatabaseError> {
    read(row).map_err(|error| match error {
        DatabaseError::Corrupt { column, value } => {
            let database = row.database();
            let row = text(row, key).map_or_else(|_| "its only row".to_owned(), |key| format!("row {key}"));
            DatabaseError::CorruptRow { database, table, row, column, value }
        }
        error => error,
    })
}
