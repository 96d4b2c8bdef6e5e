//! Lists of one state go through so many rows for one answer, and miss nothing on the way.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
mod process;

use ids::{CoordinatorId, SagaId};
use nexus::sagas::{
    Sagas,
    find::{Found, Wanted},
    kinds::{Parts, kinds},
    start,
    witness::Witness,
};
use nexus_client::sagas::SagaState;
use nexus_database::{Database, during, sql::sql};
use process::Store;
use std::time::Instant;

/// More rows than one answer goes through. By hand, for measuring: `BOBSLED_SAGA_ROWS=100000 cargo test … -- --nocapture`.
fn rows() -> i64 {
    std::env::var("BOBSLED_SAGA_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(6_000)
}

/// Unfinished sagas, of an owner, of which every 2,000th, from the oldest one on, waits for an operator.
const UNFINISHED: &str = "\
    INSERT INTO saga (id, owner, adoption_epoch, kind, version, state, created_at, attention)
    WITH RECURSIVE all_of_them (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM all_of_them WHERE n < $2 - 1)
    SELECT CAST(20000000 + n AS TEXT) || $3, $1, 0, 'kind', 1, 'unfinished', '2026-01-02T00:00:00.000000Z',
           CASE WHEN n % 2000 = 0 THEN '{\"failure\":{\"node\":\"left\",\"cause\":{\"code\":\"c\",\"words\":\"w\"},\"attempts\":1},'
                || '\"since\":\"2026-01-02T00:00:00Z\"}' END
    FROM all_of_them";

async fn begin(database: &Database, owner: CoordinatorId, end_of_id: &'static str) {
    let (owner, rows) = (&owner.to_string(), rows());
    let done = database.write("begin many sagas", |mut tx| {
        Box::pin(async move {
            let insert = sql(UNFINISHED).bind(owner).bind(rows).bind(end_of_id);
            insert.execute(&mut *tx).await.map_err(during("begin many sagas"))
        })
    });
    assert_eq!(done.await.unwrap(), rows.unsigned_abs());
}

/// Every page of a state; how many sagas there are, how many answers it took, and the longest of them in milliseconds.
async fn all(sagas: &Sagas, state: SagaState) -> (Vec<SagaId>, u32, u128) {
    let wanted = Wanted { kind: None, state: Some(state) };
    let (mut ids, mut answers, mut longest, mut after) = (Vec::new(), 0, 0, None);
    loop {
        let asked = Instant::now();
        let Found { sagas: page, go_on } = sagas.find(&wanted, after, 101).await.unwrap();
        longest = longest.max(asked.elapsed().as_millis());
        answers += 1;
        assert!(page.len() <= 101);
        after = if page.len() == 101 { page.last().map(|(position, _)| position.clone()) } else { go_on };
        ids.extend(page.iter().map(|(_, saga)| saga.id));
        if after.is_none() {
            println!("{}: {} sagas, {answers} answers, the longest {longest} ms", state.word(), ids.len());
            return (ids, answers, longest);
        }
    }
}

/// By hand.
async fn change(database: &Database, words: &'static str, values: &[String]) {
    let statement = &values.iter().fold(sql(words), nexus_database::sql::Statement::bind);
    let changed = database.write("change rows", |mut tx| {
        Box::pin(async move { statement.clone().execute(&mut *tx).await.map_err(during("change rows")) })
    });
    assert!(changed.await.unwrap() > 0, "{words}");
}

/// One unfinished saga, which nobody executes.
const ONE: &str = "INSERT INTO saga (id, owner, adoption_epoch, kind, version, state, created_at) \
                   VALUES ($1, $2, 0, 'kind', 1, 'unfinished', '2026-01-01T00:00:00.000000Z')";

on_both! {
    async fn a_state_that_few_of_many_unfinished_sagas_are_in_is_found_in_bounded_answers(store: Store) {
        let directory = camino_tempfile::tempdir().unwrap();
        let database = Database::open(store.location(directory.path())).await.unwrap();
        let coordinator = database.coordinator_start(CoordinatorId::generate(), "nexus-1", "0").await.unwrap();
        let witness = Witness::new(directory.path(), coordinator.id, coordinator.epoch);
        let (sagas, _recovery) = start(database.clone(), &coordinator, kinds(Parts { witness }).unwrap());
        begin(&database, coordinator.id, "-0000-7000-8000-000000000001").await;
        begin(&database, CoordinatorId::generate(), "-0000-7000-8000-000000000002").await;

        let count = usize::try_from(rows()).unwrap();
        let troubled = 2 * count.div_ceil(2_000);
        // Of ours none is executed: they wait for recovery.
        let (waiting, ..) = all(&sagas, SagaState::Waiting).await;
        assert_eq!(waiting.len(), count - troubled / 2);
        let (elsewhere, ..) = all(&sagas, SagaState::Elsewhere).await;
        assert_eq!(elsewhere.len(), count - troubled / 2);
        let (attention, answers, _) = all(&sagas, SagaState::NeedsAttention).await;
        assert_eq!((attention.len(), answers), (troubled, 1), "the database knows them");
        for state in [SagaState::Running, SagaState::Unwinding] {
            let (none, answers, _) = all(&sagas, state).await;
            assert_eq!((none.len(), answers), (0, 1), "memory knows that there is none");
        }
        // Of so many that are left any may be unreadable, so all are gone through, some thousand for an answer.
        let (none, answers, _) = all(&sagas, SagaState::Unreadable).await;
        assert_eq!(none, []);
        assert!(answers as usize >= 2 * count / 6_000, "{answers} answers");
    }

    async fn a_saga_that_waits_is_found_also_while_an_executor_holds_one_that_is_another_coordinators_by_now(store: Store) {
        let directory = camino_tempfile::tempdir().unwrap();
        let database = Database::open(store.location(directory.path())).await.unwrap();
        let coordinator = database.coordinator_start(CoordinatorId::generate(), "nexus-1", "0").await.unwrap();
        let witness = Witness::new(directory.path(), coordinator.id, coordinator.epoch);
        let (sagas, _recovery) = start(database.clone(), &coordinator, kinds(Parts { witness }).unwrap());
        let (gone, left) = (SagaId::generate(), SagaId::generate());
        sagas.engine.start_as(gone, "demo", serde_json::json!({"wait_for_signal": true})).await.unwrap();
        let others = CoordinatorId::generate().to_string();
        change(&database, "UPDATE saga SET owner = $1 WHERE id = $2", &[others, gone.to_string()]).await;
        change(&database, ONE, &[left.to_string(), coordinator.id.to_string()]).await;
        let (waiting, ..) = all(&sagas, SagaState::Waiting).await;
        assert!(waiting.contains(&left), "{waiting:?}");
        sagas.engine.halt().await;
    }

    async fn what_is_behind_a_page_of_rows_without_ids_is_found(store: Store) {
        let directory = camino_tempfile::tempdir().unwrap();
        let database = Database::open(store.location(directory.path())).await.unwrap();
        let coordinator = database.coordinator_start(CoordinatorId::generate(), "nexus-1", "0").await.unwrap();
        let witness = Witness::new(directory.path(), coordinator.id, coordinator.epoch);
        let (sagas, _recovery) = start(database.clone(), &coordinator, kinds(Parts { witness }).unwrap());
        let owner = coordinator.id.to_string();
        let spoilt = "INSERT INTO saga (id, owner, adoption_epoch, kind, version, state, created_at) \
                      WITH RECURSIVE spoilt (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM spoilt WHERE n < 299) \
                      SELECT 'no id ' || n, $1, 0, 'kind', 1, 'unfinished', '2026-01-02T00:00:00.000000Z' FROM spoilt";
        change(&database, spoilt, std::slice::from_ref(&owner)).await;
        let behind = SagaId::generate();
        change(&database, ONE, &[behind.to_string(), owner]).await;
        let Found { sagas: found, .. } = sagas.find(&Wanted::default(), None, 101).await.unwrap();
        assert_eq!(found.iter().map(|(_, saga)| saga.id).collect::<Vec<_>>(), [behind]);
    }
}
