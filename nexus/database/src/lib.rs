//! The coordinator's durable state: the one place that speaks SQL.
//!
//! ```text
//!   callers ──► Database ──► write ─┬► one task, one connection, shared commits ──► nexus.db (WAL, synchronous = FULL)
//!                       │           └► a pool, SERIALIZABLE, again when asked ────► PostgreSQL
//!                       └──► read ────► a few connections ────────────────────────► the same
//! ```
//!
//! - [`location`]: a file or a server. [`connect`]: opening. [`migrate`]: the schema; a newer one is refused.
//! - [`mod@sql`]: one text for both databases. [`dialect`]: the few places where they differ.
//! - [`mod@write`]: the one way to write. [`error`]: how it fails, and what each failure means.
//! - [`limits`]: how long the database may say nothing. [`calls`]: whether it does, told from memory. [`server`]: connections
//!   to PostgreSQL.
//! - [`cluster`]: the cluster's identity, its coordinators and their epochs.
//! - [`trust_roots`], [`sleds`], [`repositories`]: one file per thing that is kept.
//! - [`repairs`]: what was told of repairs of volumes.
//! - [`wanted`]: what every sled should hold, and its generation.
//! - [`sagas`]: sagas, their logs, and what the saga engine asks of a store.
//! - [`mod@check`]: whether a database is what it should be. [`mod@backup`]: copies of SQLite's, and back.
//!
//! **The generation moves if and only if the wanted set changes.** Every transaction that touches repositories
//! ends with [`wanted::settle`], which compares the digest of the wanted set with the recorded one; no caller
//! decides it.
//!
//! Nothing here assumes that this coordinator is the only one.

mod backup;
mod calls;
mod check;
pub mod cluster;
mod connect;
mod dialect;
mod error;
mod limits;
mod location;
mod migrate;
pub mod repairs;
pub mod repositories;
mod rows;
pub mod sagas;
mod server;
pub mod sleds;
pub mod sql;
pub mod trust_roots;
pub mod wanted;
mod write;

pub use backup::{BackupError, BackupReport, backup, restore};
pub use calls::Trouble;
pub use check::{CheckFinding, CheckReport, check};
pub use connect::Database;
pub use error::{DatabaseError, ErrorClass, SqlError, during};
pub use location::{Location, LocationError, PostgresLocation};
pub use sagas::DatabaseSagaStore;
pub use write::{
    Tx, Working,
    append::{AppendTable, Appended, Fence},
};
