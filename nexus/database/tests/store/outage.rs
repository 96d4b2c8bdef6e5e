//! A server of one test, which is stopped and started, or frozen and thawed.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(dead_code, reason = "each test program uses some of it")]

use camino_tempfile::Utf8TempDir;
use nexus_database::{Database, Location};
use std::os::unix::fs::PermissionsExt;
use test_postgres::{Programs, Standing, is_required};
use tokio::task::spawn_blocking;

/// A server that is stopped and started.
pub(crate) struct Outage {
    pub(crate) server: Standing,
    pub(crate) database: Database,
    pub(crate) location: Location,
    _dir: Utf8TempDir,
}

impl Outage {
    /// None on a machine without PostgreSQL, which is a failure in CI.
    pub(crate) async fn set_up() -> Option<Outage> {
        if Programs::find().is_none() && !is_required() {
            eprintln!("left out: there is no PostgreSQL on this machine");
            return None;
        }
        let dir = camino_tempfile::tempdir().unwrap();
        // The server's user must reach it.
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        let server = Standing::at(&dir.path().join("postgres"));
        server.start().unwrap();
        let url = server.database("outage").unwrap();
        let location = Location::parse(&url, Some(&server.password_file()), dir.path()).unwrap();
        let database = Database::open(&location).await.unwrap();
        Some(Outage { server, database, location, _dir: dir })
    }

    /// As a crash does.
    pub(crate) async fn begin(&self) {
        let server = self.server.clone();
        spawn_blocking(move || server.end(true)).await.unwrap().unwrap();
    }

    pub(crate) async fn end(&self) {
        let server = self.server.clone();
        spawn_blocking(move || server.start()).await.unwrap().unwrap();
    }
}

impl Drop for Outage {
    fn drop(&mut self) {
        let _ = self.server.thaw();
        let _ = self.server.end(true);
    }
}
