//! Intake of releases, from outside: zips on disk in, verdicts out.
//!
//! - [`archives`]: takes archives apart and puts them together again, to change one thing.
//! - [`defects`]: releases of our own writer, good and bad.
//! - [`foreign`]: releases of other TUF implementations.
//! - [`mutations`]: random damage.
//! - [`staged`]: reading artifacts back.
//! - [`zip64`]: large archives' format.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod archives;
mod defects;
mod foreign;
mod mutations;
mod staged;
mod zip64;
