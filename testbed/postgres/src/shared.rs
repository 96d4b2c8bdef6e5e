//! The server of a test run, and a database of it for each test.
//!
//! | started by | how long | who uses it |
//! |---|---|---|
//! | `cargo xtask test` | the run | every test: [`SERVER_VARIABLE`] names its directory |
//! | the first test of a process that finds none | the process | the tests of this process |

use crate::{
    programs::{Programs, is_required},
    server::{Server, create_database, password_file},
};
use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use std::sync::OnceLock;

/// Names the directory of the server that a test run has.
pub const SERVER_VARIABLE: &str = "BOBSLED_TEST_POSTGRES";

/// A database of its own for one test.
#[derive(Clone, Debug)]
pub struct TestDatabase {
    /// Where it is, without a password.
    pub url: String,
    /// The file that holds the password.
    pub password_file: Utf8PathBuf,
}

/// A new, empty database; `None` if this machine has no PostgreSQL, and that is no failure.
///
/// # Errors
/// There is a PostgreSQL that does not start, or none where one is [required](is_required).
pub fn fresh_database() -> Result<Option<TestDatabase>> {
    let programs = match Programs::find() {
        Some(programs) => programs,
        None if is_required() => Programs::required()?,
        None => return Ok(None),
    };
    let directory = match std::env::var(SERVER_VARIABLE) {
        Ok(directory) => Utf8PathBuf::from(directory),
        Err(_) => own_server()?.to_owned(),
    };
    let name = format!("test_{}", uuid::Uuid::now_v7().simple());
    let url = create_database(&programs, &directory, &name)?;
    Ok(Some(TestDatabase { url, password_file: password_file(&directory) }))
}

/// The server of this process. It is never dropped: its keeper sees the process end.
fn own_server() -> Result<&'static Utf8Path> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    let started = SERVER.get_or_init(|| start().map_err(|error| format!("{error:#}")));
    started.as_ref().map(Server::directory).map_err(|error| anyhow::anyhow!("{error}"))
}

/// Starts the server of a whole test run; its directory is for [`SERVER_VARIABLE`].
pub fn start_for_run() -> Result<Server> {
    start()
}

fn start() -> Result<Server> {
    // The keeper removes it: a directory that this process removed would be gone too late, or never.
    let directory = camino_tempfile::Builder::new()
        .prefix("bobsled-postgres-")
        .tempdir()
        .context("creating a directory for PostgreSQL")?
        .keep();
    Server::start(&directory)
}
