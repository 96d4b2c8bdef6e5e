//! What of a saga cannot be read: bits have rotted, somebody has changed a row by hand, a newer program has written it.
//!
//! One such row must not hide the others, nor the rest of itself. So whoever reads sagas for people, for recovery or for an
//! operator who gives one up takes what can be read, and says of the rest where it is and why not.

pub(super) use crate::error::words;
use crate::{DatabaseError, sql::Row};
use std::fmt;

/// Parts that are told one by one; of a log that is lost there may be thousands.
const TOLD_MAX: usize = 5;

/// What of one saga cannot be read. Its `Display` names the table, the row, the value, and who tells more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Part {
    table: &'static str,
    row: String,
    why: String,
}

/// Notes what cannot be read while the rest is.
#[derive(Debug, Default)]
pub(super) struct Reading {
    parts: Vec<Part>,
}

impl Reading {
    /// The value, or this one in its place.
    pub(super) fn or<T>(
        &mut self,
        (table, row): (&'static str, &str),
        read: Result<T, DatabaseError>,
        otherwise: T,
    ) -> T {
        read.unwrap_or_else(|error| {
            self.note((table, row), &error);
            otherwise
        })
    }

    /// The value, if it can be read.
    pub(super) fn some<T>(
        &mut self,
        place: (&'static str, &str),
        read: Result<T, DatabaseError>,
    ) -> Option<T> {
        self.or(place, read.map(Some), None)
    }

    pub(super) fn note(&mut self, (table, row): (&'static str, &str), error: &DatabaseError) {
        self.parts.push(Part { table, row: row.to_owned(), why: words(error) });
    }

    pub(super) fn also(&mut self, found: Option<&Unreadable>) {
        self.parts.extend(found.into_iter().flat_map(|found| found.parts.iter().cloned()));
    }

    /// What was noted; none if all could be read.
    pub(super) fn finish(self) -> Option<Unreadable> {
        (!self.parts.is_empty()).then_some(Unreadable { parts: self.parts })
    }
}

impl Unreadable {
    /// Both, where each may be.
    #[must_use]
    pub fn and(one: Option<&Unreadable>, other: Option<&Unreadable>) -> Option<Unreadable> {
        let mut reading = Reading::default();
        reading.also(one);
        reading.also(other);
        reading.finish()
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, Part { table, row, why }) in self.parts.iter().take(TOLD_MAX).enumerate() {
            write!(f, "{}{table}, row {row}: {why}", if number == 0 { "" } else { "; " })?;
        }
        match self.parts.len().saturating_sub(TOLD_MAX) {
            0 => write!(f, " (nexus db check)"),
            more => write!(f, "; {more} more (nexus db check)"),
        }
    }
}

/// A row's key as far as it is text.
pub(super) fn name_of(row: &Row, column: &'static str) -> String {
    crate::rows::text(row, column).unwrap_or_else(|_| format!("(whose {column} is no text)"))
}
