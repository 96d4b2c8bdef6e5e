//! Every kind of saga that the coordinator registers is proven here, wherever sagas may be durable: everything in memory and
//! on SQLite, on PostgreSQL every operation at every gap. A kind without a case fails this.
//!
//! To add a kind: its cases, and a line of each in [`prove_all`].
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use futures::{FutureExt, future::BoxFuture};
use ids::{CoordinatorId, SagaId};
use nexus::sagas::{
    demo::{Demo, DemoParams, DemoTools, SIGNAL, path_of},
    kinds::{Parts, kinds},
    witness::{Place, Witness},
};
use nexus_database::{Database, Location};
use nexus_saga_harness::{
    Backend, Case, Depth, Gap, Memory, Moment, Operation, Real, Verdict, World, assert_covered, prove,
};
use nexus_sagas::{Actions, EndState, Fault, Plan, PlanRefused, SagaKind, Step};
use serde_json::json;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::runtime::Runtime;

/// The demo's effects: of the lines of a node, the last one counts. As a sled would, whoever reads them ignores lines of an
/// executor that come after a later one's.
#[derive(Debug, Default)]
struct Effects {
    lives: AtomicU64,
    nodes: Arc<Nodes>,
}

/// Idempotency key → the epoch of the last line that counts, and whether the effect is there.
#[derive(Debug, Default)]
struct Nodes(Mutex<BTreeMap<String, (u64, bool)>>);

impl Place for Nodes {
    fn append(&self, saga: SagaId, node: &str, line: String) -> BoxFuture<'static, Result<(), Fault>> {
        let epoch: u64 = line.split(['=', ' ']).nth(1).unwrap().parse().unwrap();
        let mut nodes = self.0.lock().unwrap();
        let (latest, there) = nodes.entry(format!("{saga}/{}", path_of(node))).or_default();
        if epoch >= *latest {
            (*latest, *there) = (epoch, line.ends_with(" do\n"));
        }
        // Others come in between.
        tokio::task::yield_now().map(Ok).boxed()
    }
}

impl Effects {
    /// What one life of a coordinator reaches.
    fn witness(&self) -> Witness {
        let epoch = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        Witness::at(Arc::clone(&self.nodes) as _, CoordinatorId::generate(), epoch)
    }

    /// Somebody deletes what a saga has made.
    fn delete(&self, saga: SagaId) {
        let of_the_saga = format!("{saga}/");
        self.nodes.0.lock().unwrap().retain(|key, _| !key.starts_with(&of_the_saga));
    }
}

/// A kind that has its effects in the same place, for operations on other sagas.
struct Neighbour;

impl SagaKind for Neighbour {
    const NAME: &'static str = "neighbour";
    const VERSION: u32 = 1;
    type Params = ();
    type Tools = Witness;

    fn actions(actions: &mut Actions<Neighbour>) {
        actions
            .add("mark", async |step: Step<Neighbour>| step.tools().done(step.saga(), "begin").await)
            .undo(async |step: Step<Neighbour>| step.tools().undone(step.saga(), "begin").await);
        actions
            .add("refuse", async |_: Step<Neighbour>| Err::<(), _>(Fault::refused("told", "it always does")));
    }

    fn plan((): &(), plan: &mut Plan) -> Result<(), PlanRefused> {
        plan.node("begin", "mark");
        plan.node("done", "refuse");
        Ok(())
    }
}

impl World for Effects {
    fn effects(&self) -> BTreeMap<String, i64> {
        let nodes = self.nodes.0.lock().unwrap();
        nodes.iter().map(|(key, (_, there))| (key.clone(), (*there).into())).collect()
    }

    fn check(&self, _: Moment<'_>) -> Result<(), String> {
        Ok(())
    }
}

fn demo(name: &str, params: &DemoParams) -> Case<Effects> {
    let register = |kinds: &mut nexus_sagas::Kinds, effects: &Arc<Effects>| {
        kinds.add::<Neighbour>(Arc::new(effects.witness()))?;
        kinds.add::<Demo>(Arc::new(DemoTools::new(effects.witness()))).map(|_| ())
    };
    Case::of::<Demo>(name, params, Arc::<Effects>::default, register)
}

/// With what users may do meanwhile; another saga of its own kind is one of the harness's operations.
fn among_users(case: Case<Effects>) -> Case<Effects> {
    case.operation(
        Operation::new("delete_its_effects", async |gap: Gap<Effects>| {
            gap.world().delete(gap.saga());
            Ok(())
        })
        .removes_effects(),
    )
    .operation(Operation::new("another_kind", async |gap: Gap<Effects>| {
        match gap.run_saga(Neighbour::NAME, json!(null)).await? {
            EndState::Failed { failure } if failure.node == "done" => Ok(()),
            other => Err(format!("it has not failed as it always does: {other:?}")),
        }
    }))
}

/// With a signal that comes a second time, and says something else.
fn told_again(case: Case<Effects>) -> Case<Effects> {
    case.signal(SIGNAL, true.into()).operation(Operation::new("signal_again", async |gap: Gap<Effects>| {
        gap.signal(SIGNAL, &json!("something else")).await
    }))
}

fn fails(fail_at: &str, stuck_at: Option<&str>) -> DemoParams {
    let stuck_at = stuck_at.map(str::to_owned);
    DemoParams { fail_at: Some(fail_at.to_owned()), stuck_at, ..DemoParams::default() }
}

/// Proves every kind: in the case that has it all at that depth, in those that differ from it in few nodes at each gap.
fn prove_all(backend: &dyn Backend, depth: Depth) {
    // A minute that passes at once, where time is virtual.
    let sleep_ms = if backend.is_within_the_run() { 60_000 } else { 1 };
    let waits = DemoParams { wait_for_signal: true, sleep_ms, ..DemoParams::default() };
    let plain = among_users(demo("plain", &DemoParams::default()));
    let reports = [
        prove(&plain, backend, depth),
        prove(&told_again(demo("waits", &waits)), backend, Depth::Gaps),
        prove(&demo("fails", &fails("close", None)), backend, Depth::Gaps),
        prove(&demo("retried", &fails("close", Some("left"))).operator(Verdict::Retry), backend, Depth::Gaps),
        prove(
            &demo("abandoned", &fails("join", Some("right"))).operator(Verdict::Abandon),
            backend,
            Depth::Gaps,
        ),
        // Nothing runs beside its first node: an executor that was fenced there is told nothing until it goes on.
        prove(
            &demo("abandoned_alone", &fails("join", Some("begin"))).operator(Verdict::Abandon),
            backend,
            Depth::Gaps,
        ),
    ];
    reports.iter().for_each(|report| println!("{report}"));
    reports.iter().for_each(nexus_saga_harness::Report::assert_proven);
    let directory = camino_tempfile::tempdir().unwrap();
    let witness = Witness::new(directory.path(), CoordinatorId::generate(), 1);
    assert_covered(&kinds(Parts { witness }).unwrap(), &reports);
}

/// What the database runs on: beside the runs, as a server would.
fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn every_kind_survives_anything() {
    prove_all(&Memory, Depth::Full);
}

#[test]
fn every_kind_survives_anything_on_sqlite() {
    let directory = camino_tempfile::tempdir().unwrap();
    let location = Location::Sqlite(directory.path().join("nexus.db"));
    let runtime = runtime();
    let database = runtime.block_on(Database::open(location)).unwrap();
    prove_all(&Real::on("SQLite", runtime.handle().clone(), database), Depth::Full);
}

#[test]
fn every_kind_survives_every_operation_at_every_gap_on_postgresql() {
    let Some(fresh) = test_postgres::fresh_database().unwrap() else {
        eprintln!("left out: there is no PostgreSQL on this machine");
        return;
    };
    let directory = camino_tempfile::tempdir().unwrap();
    let file = directory.path().join("nexus.db");
    let location = Location::parse(&fresh.url, Some(&fresh.password_file), &file).unwrap();
    let runtime = runtime();
    let database = runtime.block_on(Database::open(location)).unwrap();
    prove_all(&Real::on("PostgreSQL", runtime.handle().clone(), database), Depth::Gaps);
}
