//! What recovery and lists cost beside a million finished sagas, and what it takes to load ten thousand unfinished ones.
//!
//! `cargo run --release -p nexus-database --example saga_rows`, on SQLite and, where there is one, on the tests' PostgreSQL.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot be set up has failed")]

use ids::CoordinatorId;
use nexus_database::{
    Database, DatabaseSagaStore, Location, during,
    sagas::{SagaFilter, SagaPosition, SagaState},
    sql::sql,
};
use nexus_sagas::SagaStore;
use std::{future::Future, time::Instant};

/// Times that each short call is measured.
const CALLS: u32 = 50;

const FINISHED: &str = "\
    INSERT INTO saga (id, owner, adoption_epoch, kind, version, state, created_at, ended_at, outcome)
    WITH RECURSIVE all_of_them (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM all_of_them WHERE n < 999999)
    SELECT CAST(10000000 + n AS TEXT) || '-0000-7000-8000-000000000000', $1, 0, 'kind' || CAST(n % 4 AS TEXT), 1,
           CASE WHEN n % 10 = 0 THEN 'failed' ELSE 'succeeded' END,
           '2026-01-01T00:00:' || CAST(10 + n / 20000 AS TEXT) || '.000000Z', '2026-01-01T00:01:00.000000Z',
           '{\"state\":\"succeeded\",\"output\":null}'
    FROM all_of_them";

const UNFINISHED: &str = "\
    INSERT INTO saga (id, owner, adoption_epoch, kind, version, state, created_at)
    WITH RECURSIVE all_of_them (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM all_of_them WHERE n < 9999)
    SELECT CAST(20000000 + n AS TEXT) || '-0000-7000-8000-000000000000', $1, 0, 'kind0', 1, 'unfinished',
           '2026-01-02T00:00:00.000000Z'
    FROM all_of_them";

const DEFINITIONS: &str = "\
    INSERT INTO saga_definition (saga_id, creation, digest, params, dag)
    SELECT id, id, '00', '{}', '{\"nodes\":[1,2,3]}' FROM saga WHERE state = 'unfinished'";

const EVENTS: &str = "\
    INSERT INTO saga_event (saga_id, node, event, body, adoption_epoch, written_at)
    WITH RECURSIVE nodes (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM nodes WHERE n < 19)
    SELECT id, n, event, '{\"succeeded\":{\"output\":{\"words\":\"some forty characters of output\"}}}', 0,
           '2026-01-02T00:00:01.000000Z'
    FROM saga CROSS JOIN nodes CROSS JOIN (SELECT 'started' AS event UNION ALL SELECT 'succeeded') AS events
    WHERE state = 'unfinished'";

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
    let owner = CoordinatorId::generate();
    let store = DatabaseSagaStore::new(database.clone(), owner, 1);
    fill(&database, FINISHED, Some(owner)).await;
    time(name, "nothing unfinished is listed", async || drop(store.unfinished().await.unwrap())).await;
    let middle = database.sagas(&SagaFilter::default(), None, 1).await.unwrap()[0].position();
    let deep = SagaPosition { created: "2026-01-01T00:00:30.000000Z".to_owned(), ..middle };
    for (kind, state) in [(None, None), (None, Some(SagaState::Failed)), (Some("kind1"), None)] {
        let filter = SagaFilter { kind: kind.map(str::to_owned), state, ..SagaFilter::default() };
        let what = format!("a page of 100 in the middle, kind {kind:?}, state {state:?}");
        time(name, &what, async || drop(database.sagas(&filter, Some(&deep), 100).await.unwrap())).await;
    }
    time(name, "counts, ended up to 10,000", async || drop(database.saga_counts(10_000).await.unwrap()))
        .await;
    fill(&database, UNFINISHED, Some(owner)).await;
    fill(&database, DEFINITIONS, None).await;
    fill(&database, EVENTS, None).await;
    let begun = Instant::now();
    let listed = store.unfinished().await.unwrap();
    println!("{name:<10}  {} unfinished listed in {:.0?}", listed.len(), begun.elapsed());
    let ids: Vec<_> = listed.iter().map(|saga| saga.key.id).collect();
    let begun = Instant::now();
    let loaded = store.load(&ids).await.unwrap();
    let events: usize = loaded.iter().map(|saga| saga.events.len()).sum();
    println!("{name:<10}  {} sagas with {events} events loaded in {:.0?}", loaded.len(), begun.elapsed());
    database.close().await;
}

async fn fill(database: &Database, text: &'static str, owner: Option<CoordinatorId>) {
    let statement = match owner {
        Some(owner) => sql(text).bind(owner.to_string()),
        None => sql(text),
    };
    let statement = &statement;
    let done = database.write("fill", |mut tx| {
        Box::pin(async move { statement.clone().execute(&mut *tx).await.map_err(during("fill")) })
    });
    done.await.unwrap();
}

async fn time<Calling: Future<Output = ()>>(name: &str, what: &str, call: impl Fn() -> Calling) {
    call().await;
    let begun = Instant::now();
    for _ in 0..CALLS {
        call().await;
    }
    println!("{name:<10}  {:>9.2?}  {what}", begun.elapsed() / CALLS);
}
