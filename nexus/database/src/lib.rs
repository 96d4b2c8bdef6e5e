//! The coordinator's durable state: the one place that speaks SQL.
//!
//! ```text
//!   callers ──► Database ──► write (1 connection, one transaction at a time) ──► nexus.db (WAL, synchronous = FULL)
//!                       └──► read  (a few connections)                       ──►
//! ```
//!
//! - [`connect`]: opening, pragmas, migrations. A database of a newer schema is refused.
//! - [`mod@write`]: the one way to write. [`error`]: how it fails, and what each failure means.
//! - [`cluster`]: the cluster's identity, its coordinators and their epochs.
//! - [`trust_roots`], [`sleds`], [`repositories`]: one file per thing that is kept.
//! - [`wanted`]: what every sled should hold, and its generation.
//!
//! **The generation moves if and only if the wanted set changes.** Every transaction that touches repositories
//! ends with [`wanted::settle`], which compares the digest of the wanted set with the recorded one; no caller
//! decides it.
//!
//! SQL is written with `$N` placeholders and without dialect, so that PostgreSQL can speak it too. Nothing here
//! assumes that this coordinator is the only one.

pub mod cluster;
mod connect;
mod error;
pub mod repositories;
mod rows;
pub mod sleds;
pub mod trust_roots;
pub mod wanted;
mod write;

pub use connect::Database;
pub use error::{DatabaseError, ErrorClass, SqlError};
