//! Both runs in their short forms, for every run of all tests.

use camino_tempfile::Utf8TempDir;
use soak::{CreationOrder, KillOrder, SoakReport, SoakSite, run_creation, run_kills};
use testbed::DatabaseKind;

/// Another one each time would find more, and nobody could tell why a test failed that went well before.
const SEED: u64 = 6_063;

fn site(temp: &Utf8TempDir, database: DatabaseKind) -> SoakSite {
    SoakSite { parent: temp.path().to_owned(), bin_dir: None, keeper: None, database }
}

/// Whether there is a PostgreSQL on this machine.
fn has_postgres() -> bool {
    let has = test_postgres::Programs::find().is_some() || test_postgres::is_required();
    if !has {
        eprintln!("left out: there is no PostgreSQL on this machine");
    }
    has
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovery_in_a_loop_takes_none_of_the_sagas_that_are_being_created() {
    recovery_takes_nothing(DatabaseKind::Sqlite, CreationOrder::short(SEED)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovery_in_a_loop_takes_none_of_them_on_postgres_either() {
    if has_postgres() {
        let order = CreationOrder { sagas: 300, activations: 30, ..CreationOrder::short(SEED) };
        recovery_takes_nothing(DatabaseKind::Postgres, order).await;
    }
}

async fn recovery_takes_nothing(database: DatabaseKind, order: CreationOrder) {
    let temp = Utf8TempDir::new().expect("a directory for the test");
    let run = run_creation(&site(&temp, database), &order, &|_| {}).await.expect("the run is made");
    let (acknowledged, activations) = (run.acknowledged, run.activations);
    let report = SoakReport { creation: Some(run), kills: None };
    assert!(report.is_well(), "{report}");
    assert!(acknowledged >= order.sagas && activations >= order.activations, "{report}");
}

async fn nothing_is_lost_and_nothing_runs_twice(database: DatabaseKind, kills: u64) {
    let temp = Utf8TempDir::new().expect("a directory for the test");
    let order = KillOrder { kills, ..KillOrder::short(SEED) };
    let run = run_kills(&site(&temp, database), &order, &|_| {}).await.expect("the run is made");
    let (kills, repeated) = (run.kills, run.repeated);
    let report = SoakReport { creation: None, kills: Some(run) };
    assert!(report.is_well(), "{report}");
    assert_eq!(kills, order.kills);
    assert!(repeated > 0, "no kill hit anything: {report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_fifty_times_the_coordinator_loses_nothing_and_does_nothing_twice() {
    nothing_is_lost_and_nothing_runs_twice(DatabaseKind::Sqlite, KillOrder::short(SEED).kills).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_on_postgres_it_loses_nothing_either() {
    if has_postgres() {
        nothing_is_lost_and_nothing_runs_twice(DatabaseKind::Postgres, 10).await;
    }
}
