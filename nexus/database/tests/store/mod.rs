//! A claim about the database is a claim about both: each is tested on SQLite and on PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]
#![allow(unused_macros, dead_code, reason = "each test program uses some of it")]

use camino_tempfile::Utf8TempDir;
use nexus_database::{Database, Location};
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};

/// Where the database of one test is.
pub(crate) struct Store {
    pub(crate) dir: Utf8TempDir,
    pub(crate) location: Location,
    server: Option<test_postgres::TestDatabase>,
}

impl Store {
    pub(crate) fn sqlite() -> Store {
        let dir = camino_tempfile::tempdir().unwrap();
        let location = Location::Sqlite(dir.path().join("nexus.db"));
        Store { dir, location, server: None }
    }

    /// None on a machine without PostgreSQL, which is a failure in CI.
    pub(crate) fn postgres() -> Option<Store> {
        let Some(database) = test_postgres::fresh_database().unwrap() else {
            eprintln!("left out: there is no PostgreSQL on this machine");
            return None;
        };
        let dir = camino_tempfile::tempdir().unwrap();
        let file = dir.path().join("nexus.db");
        let location = Location::parse(&database.url, Some(&database.password_file), &file).unwrap();
        Some(Store { dir, location, server: Some(database) })
    }

    pub(crate) async fn open(&self) -> Database {
        Database::open(&self.location).await.unwrap()
    }

    /// A second way to the same server, for what the layer under test has no words for.
    pub(crate) async fn side_door(&self) -> PgConnection {
        let server = self.server.as_ref().expect("it is PostgreSQL");
        let password = std::fs::read_to_string(&server.password_file).unwrap();
        let options: PgConnectOptions = server.url.parse().unwrap();
        PgConnection::connect_with(&options.password(password.trim())).await.unwrap()
    }

    pub(crate) fn is_postgres(&self) -> bool {
        matches!(self.location, Location::Postgres(_))
    }
}

/// Makes two tests of a claim.
macro_rules! on_both {
    ($(async fn $name:ident($store:ident: Store) $body:block)*) => {
        $(mod $name {
            #[allow(unused_imports, reason = "each claim uses some of them")]
            use super::*;

            async fn claim($store: Store) $body

            #[tokio::test]
            async fn sqlite() {
                claim(Store::sqlite()).await;
            }

            #[tokio::test]
            async fn postgres() {
                if let Some(store) = Store::postgres() {
                    claim(store).await;
                }
            }
        })*
    };
}
