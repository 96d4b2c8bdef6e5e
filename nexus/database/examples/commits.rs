//! Durable writes per second on this machine, alone and together: what sharing a commit is worth.
//!
//! `cargo run --release -p nexus-database --example commits`. SQLite lies in the current directory's file system, with
//! `synchronous = FULL`; PostgreSQL, where there is one, is the tests' server with its own `fsync` off, so its figures
//! tell the cost of the way there and back, and not of its disk.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be set up has failed")]

use ids::CoordinatorId;
use nexus_database::{AppendTable, Database, Location, sql::Value, trust_roots::NewTrustRoot};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(3);

/// Callers that write at once.
const CALLERS: [usize; 4] = [1, 16, 64, 256];

/// Any table with a key and no references.
const TABLE: AppendTable = AppendTable {
    name: "trust_root",
    columns: &["id", "fingerprint", "root_json", "version", "expires", "created_at"],
    fence: None,
};

#[derive(Clone, Copy)]
enum How {
    Write,
    Append,
}

#[tokio::main]
async fn main() {
    let dir = camino_tempfile::tempdir_in(".").unwrap();
    measure("SQLite", &Location::Sqlite(dir.path().join("nexus.db"))).await;
    if let Some(server) = test_postgres::fresh_database().unwrap() {
        let file = dir.path().join("none");
        let location = Location::parse(&server.url, Some(&server.password_file), &file).unwrap();
        measure("PostgreSQL", &location).await;
    }
}

async fn measure(name: &str, location: &Location) {
    let database = Database::open(location).await.unwrap();
    for how in [How::Write, How::Append] {
        for callers in CALLERS {
            let done = count(&database, how, callers).await;
            let what = match how {
                How::Write => "transactions of 2 statements",
                How::Append => "appended rows",
            };
            let rate = done as f64 / SPAN.as_secs_f64();
            println!("{name:<10}  {callers:>3} callers  {rate:>9.0} {what}/s");
        }
    }
    database.close().await;
}

async fn count(database: &Database, how: How, callers: usize) -> usize {
    let until = Instant::now() + SPAN;
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let database = database.clone();
        tasks.spawn(async move {
            let mut done = 0;
            while Instant::now() < until {
                // An id of any kind is a key that nobody has.
                let key = CoordinatorId::generate().to_string();
                match how {
                    How::Write => drop(database.trust_root_insert(&root(key)).await.unwrap()),
                    How::Append => drop(database.append("measure", &TABLE, row(&key)).await.unwrap()),
                }
                done += 1;
            }
            done
        });
    }
    tasks.join_all().await.into_iter().sum()
}

fn root(fingerprint: String) -> NewTrustRoot {
    NewTrustRoot { fingerprint, root_json: "{}".to_owned(), version: 1, expires: jiff::Timestamp::UNIX_EPOCH }
}

fn row(key: &str) -> Vec<Value> {
    let time = jiff::Timestamp::UNIX_EPOCH.to_string();
    vec![key.into(), key.into(), "{}".into(), 1.into(), time.as_str().into(), time.as_str().into()]
}
