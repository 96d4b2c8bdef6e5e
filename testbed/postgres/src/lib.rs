//! A real PostgreSQL server for tests and testbeds: found on this machine, started from nothing, gone with its owner.
//!
//! Code that speaks to PostgreSQL is tested against PostgreSQL. Nobody should have to install, start or clean up one for
//! that, so a server is three files and a pipe:
//!
//! ```text
//!   owner (test, xtask) ══ pipe ══► keeper (sh): initdb ─► pg_ctl start ─► "ready" ─► waits for the pipe's end
//!        │                                                                              │
//!        └── ends, however it ends: the kernel closes the pipe ────────────────────────►│ pg_ctl stop, directory removed
//! ```
//!
//! - [`programs`]: where PostgreSQL's programs are. [`account`]: under which user they run, since they refuse root.
//! - [`server`]: one server, or one that outlives its starter. [`shared`]: the one that a test run, or a test's process, has.
//!
//! What is in a database is left to those who use it.

mod account;
mod programs;
mod server;
mod shared;

pub use programs::{Programs, is_required};
pub use server::{Server, Standing};
pub use shared::{SERVER_VARIABLE, TestDatabase, fresh_database, start_for_run};
