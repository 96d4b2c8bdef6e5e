//! The same proof with the coordinator's real stores: everything on SQLite, every gap and operation on PostgreSQL.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod yard;

use nexus_database::{Database, Location};
use nexus_saga_harness::{Depth, Real, prove};
use tokio::runtime::Runtime;
use yard::{Bug, house};

/// Proves the kind on a database, which `runtime` drives.
fn prove_on(name: &str, runtime: &Runtime, location: &Location, depth: Depth) {
    let database = runtime.block_on(Database::open(location)).unwrap();
    let backend = Real::on(name, runtime.handle().clone(), database);
    let report = prove(&house(Bug::None), &backend, depth);
    println!("{report}");
    report.assert_proven();
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn a_kind_that_keeps_the_rules_passes_everything_on_sqlite() {
    let directory = camino_tempfile::tempdir().unwrap();
    let location = Location::Sqlite(directory.path().join("nexus.db"));
    prove_on("SQLite", &runtime(), &location, Depth::Full);
}

#[test]
fn a_kind_that_keeps_the_rules_passes_every_operation_at_every_gap_on_postgresql() {
    let Some(database) = test_postgres::fresh_database().unwrap() else {
        eprintln!("left out: there is no PostgreSQL on this machine");
        return;
    };
    let directory = camino_tempfile::tempdir().unwrap();
    let file = directory.path().join("nexus.db");
    let location = Location::parse(&database.url, Some(&database.password_file), &file).unwrap();
    prove_on("PostgreSQL", &runtime(), &location, Depth::Gaps);
}
