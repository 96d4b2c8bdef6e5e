//! Durable writes per second on this machine, alone and together: what sharing a commit is worth.
//!
//! `cargo run --release -p nexus-database --example commits`. SQLite lies in the current directory's file system, with
//! `synchronous = FULL`; PostgreSQL, where there is one, is the tests' server with its own `fsync` off, so its figures
//! tell the cost of the way there and back, and not of its disk.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be set up has failed")]

use ids::{AdoptionEpoch, CoordinatorId, SagaId};
use nexus_database::{
    AppendTable, Appended, Database, DatabaseSagaStore, Fence, Location, sql::Value,
    trust_roots::NewTrustRoot,
};
use nexus_saga_recovery::SagaKey;
use nexus_sagas::{NewSaga, SagaStore};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// How long each figure is measured.
const SPAN: Duration = Duration::from_secs(3);

/// Callers that write at once.
const CALLERS: [usize; 4] = [1, 16, 64, 256];

const COLUMNS: &[&str] = &["saga_id", "node", "event", "body", "adoption_epoch", "written_at"];

/// The log of sagas, as its store writes it.
static FENCED: AppendTable = AppendTable {
    name: "saga_event",
    columns: COLUMNS,
    fence: Some(Fence {
        table: "saga",
        equal: &[("id", "saga_id"), ("adoption_epoch", "adoption_epoch")],
        same: &["saga_id", "node", "event", "body"],
    }),
};

/// The same without a look at who writes.
static OPEN: AppendTable = AppendTable { name: "saga_event", columns: COLUMNS, fence: None };

#[derive(Clone, Copy)]
enum How {
    /// Each caller a transaction of its own, on SQLite in a shared commit.
    Write,
    Append(&'static AppendTable),
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
    for (how, what) in [
        (How::Write, "transactions of 2 statements"),
        (How::Append(&OPEN), "log lines, not fenced"),
        (How::Append(&FENCED), "log lines, fenced"),
    ] {
        for callers in CALLERS {
            let done = count(&database, how, callers).await;
            let rate = done as f64 / SPAN.as_secs_f64();
            println!("{name:<10}  {callers:>3} callers  {rate:>9.0} {what} each second");
        }
    }
    database.close().await;
}

async fn count(database: &Database, how: How, callers: usize) -> usize {
    let until = Instant::now() + SPAN;
    let mut tasks = JoinSet::new();
    for _ in 0..callers {
        let database = database.clone();
        let saga = created(&database).await;
        tasks.spawn(async move {
            let mut done = 0;
            while Instant::now() < until {
                match how {
                    How::Write => {
                        // An id of any kind is a key that nobody has.
                        let key = CoordinatorId::generate().to_string();
                        drop(database.trust_root_insert(&root(key)).await.unwrap());
                    }
                    How::Append(table) => {
                        let line = line(saga, done);
                        let appended = database.append("measure", table, line).await.unwrap();
                        assert_eq!(appended, Appended::Now);
                    }
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

/// A saga for one caller.
async fn created(database: &Database) -> SagaKey {
    let store = DatabaseSagaStore::new(database.clone(), CoordinatorId::generate(), 1);
    let key = SagaKey { id: SagaId::generate(), epoch: AdoptionEpoch::default() };
    let saga = NewSaga {
        key,
        creation: key.id.0,
        kind: "measure".to_owned(),
        version: 1,
        digest: String::new(),
        params: serde_json::Value::Null,
        dag: serde_json::Value::Null,
        created: jiff::Timestamp::now(),
    };
    store.create(&saga).await.unwrap();
    key
}

fn line(of: SagaKey, node: usize) -> Vec<Value> {
    let number = i64::try_from(node).unwrap();
    let body = r#"{"succeeded":{"output":null}}"#;
    let time = "2026-01-01T00:00:00.000000Z";
    let epoch = i64::try_from(of.epoch.0).unwrap();
    vec![of.id.to_string().into(), number.into(), "succeeded".into(), body.into(), epoch.into(), time.into()]
}
