//! PostgreSQL goes away and comes back: what is asked for meanwhile fails in words, what is in doubt is said to be, and all
//! goes on without a restart of this process. So it does on a wire that loses answers.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

#[path = "store/outage.rs"]
mod outage;
#[path = "store/proxy.rs"]
#[allow(dead_code, reason = "silence uses more of it")]
mod proxy;
mod sagas_made;

use futures::future::join_all;
use ids::SagaId;
use nexus_database::{
    Database, DatabaseSagaStore, ErrorClass,
    sagas::{SagaFilter, SagaState},
};
use nexus_saga_recovery::{Claims, SagaKey};
use nexus_sagas::{
    Actions, EndState, Engine, Kinds, Plan, PlanRefused, SagaKind, SagaStore, Step, StoreFault, Written,
};
use outage::Outage;
use proxy::{Cut, Proxy};
use sagas_made::{created, line, store_of};
use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet, time::sleep};

/// Writes lines until each is durable; how often that was not done, and how often it was in doubt.
async fn write_on(
    store: impl SagaStore,
    key: SagaKey,
    written: watch::Sender<u32>,
    is_over: watch::Receiver<bool>,
) -> (u32, u32, u32) {
    let (mut not_done, mut unknown) = (0, 0);
    let mut node = 0;
    while !*is_over.borrow() {
        match store.append(key, &[line(node, "started")]).await {
            Ok(Written::Now) => node += 1,
            Ok(Written::Already) => {
                assert!(unknown > 0, "only what was in doubt is there already");
                node += 1;
            }
            Ok(other) => panic!("nobody adopts it: {other:?}"),
            Err(StoreFault::NotDone(words)) => {
                assert!(words.contains("write to the log of a saga"), "{words}");
                not_done += 1;
            }
            Err(StoreFault::Unknown(_)) => unknown += 1,
            Err(fault) => panic!("{fault}"),
        }
        written.send_modify(|lines| *lines += 1);
        sleep(Duration::from_millis(1)).await;
    }
    (node, not_done, unknown)
}

async fn until_more(written: &watch::Sender<u32>, more: u32) {
    let target = *written.borrow() + more;
    written.subscribe().wait_for(|lines| *lines >= target).await.unwrap();
}

#[tokio::test]
async fn writes_fail_in_words_while_the_server_is_away_and_go_on_when_it_is_back() {
    let Some(outage) = Outage::set_up().await else { return };
    let store = store_of(&outage.database);
    let (written, _) = watch::channel(0);
    let (over, is_over) = watch::channel(false);
    let mut writers = JoinSet::new();
    let mut keys = Vec::new();
    for _ in 0..8 {
        let key = created(&store, "outage").await;
        keys.push(key);
        let writing = write_on(store.clone(), key, written.clone(), is_over.clone());
        writers.spawn(async move { (key, writing.await) });
    }
    until_more(&written, 200).await;
    outage.begin().await;

    let filter = SagaFilter::default();
    let (write, read) = tokio::join!(outage.database.probe_write(), outage.database.sagas(&filter, None, 1));
    let write = write.unwrap_err();
    assert!(matches!(write.class(), ErrorClass::Retryable | ErrorClass::CommitUnknown), "{write:?}");
    assert!(std::error::Error::source(&write).is_some_and(|source| !source.to_string().is_empty()));
    let read = read.unwrap_err();
    assert_eq!(read.class(), ErrorClass::Retryable, "{read:?}");

    outage.end().await;
    outage.database.probe_write().await.expect("nothing has to be restarted");
    until_more(&written, 200).await;
    over.send(true).unwrap();
    let mut faults = 0;
    for (key, (lines, not_done, unknown)) in writers.join_all().await {
        let loaded = store.load(&[key.id]).await.unwrap().remove(0);
        let mut nodes: Vec<u32> = loaded.events.iter().map(|event| event.node).collect();
        nodes.sort_unstable();
        let last_in_doubt = nodes.len() as u32 == lines + 1 && unknown > 0;
        assert!(nodes.len() as u32 == lines || last_in_doubt, "{} and not {lines}", nodes.len());
        assert!(nodes.iter().enumerate().all(|(at, node)| at as u32 == *node), "each once");
        faults += not_done + unknown;
    }
    assert!(faults > 0, "the outage was noticed");
}

/// Four nodes, each of which counts its executions.
struct Counting;

type Executions = Mutex<BTreeMap<String, u32>>;

impl SagaKind for Counting {
    const NAME: &'static str = "counting";
    const VERSION: u32 = 1;
    type Params = ();
    type Tools = Executions;

    fn actions(actions: &mut Actions<Counting>) {
        actions.add("count", async |step: Step<Counting>| {
            *step.tools().lock().unwrap().entry(step.idempotency_key()).or_default() += 1;
            sleep(Duration::from_millis(5)).await;
            Ok(())
        });
    }

    fn plan((): &(), plan: &mut Plan) -> Result<(), PlanRefused> {
        for node in ["one", "two", "three", "four"] {
            plan.node(node, "count");
        }
        Ok(())
    }
}

#[tokio::test]
async fn sagas_wait_for_the_server_and_end_exactly_once() {
    let Some(outage) = Outage::set_up().await else { return };
    let store = store_of(&outage.database);
    let (engine, executions) = counting(&store);
    let mut ids = Vec::new();
    for _ in 0..60 {
        ids.push(engine.start::<Counting>(&()).await.unwrap());
    }
    outage.begin().await;
    let held = engine.executing().len();
    assert!(held > 0, "some have not ended when the server goes away");
    let blocked = async {
        let is_blocked = |id| engine.status(id).is_some_and(|status| status.blocked.is_some());
        while !ids.iter().copied().any(is_blocked) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), blocked).await.expect("status says that they wait");
    outage.end().await;

    ended_once(&outage.database, &engine, &executions, &ids).await;
    assert!(store.unfinished().await.unwrap().is_empty());
}

/// Commits that are cut while the sagas run.
const CUTS: u32 = 6;

#[tokio::test]
async fn sagas_over_a_wire_that_loses_answers_end_exactly_once() {
    let Some(server) = test_postgres::fresh_database().unwrap() else { return };
    let (proxy, location) = Proxy::to(&server).await;
    let database = Database::open(&location).await.unwrap();
    let (engine, executions) = counting(&store_of(&database));
    let starting = (0..60).map(|_| engine.start::<Counting>(&()));
    let ids: Vec<SagaId> = join_all(starting).await.into_iter().map(Result::unwrap).collect();
    let cuts = Cell::new(0);
    let cutting = async {
        while cuts.get() < CUTS {
            proxy.cut(if cuts.get().is_multiple_of(2) { Cut::Answer } else { Cut::Commit });
            while proxy.is_whole() {
                sleep(Duration::from_millis(1)).await;
            }
            cuts.set(cuts.get() + 1);
        }
        // A wire that is cut at every commit would never let anything through.
        std::future::pending::<()>().await;
    };
    let ending = join_all(ids.iter().map(|id| engine.wait(*id)));
    tokio::select! {
        _ = ending => {}
        () = cutting => {}
    }
    assert_eq!(cuts.get(), CUTS, "answers were lost");
    ended_once(&database, &engine, &executions, &ids).await;
}

fn counting(store: &DatabaseSagaStore) -> (Engine, Arc<Executions>) {
    let executions = Arc::new(Executions::default());
    let mut kinds = Kinds::new();
    kinds.add::<Counting>(Arc::clone(&executions)).unwrap();
    (Engine::new(Arc::new(store.clone()), Claims::new(), kinds), executions)
}

async fn ended_once(database: &Database, engine: &Engine, executions: &Executions, ids: &[SagaId]) {
    for id in ids {
        let end = tokio::time::timeout(Duration::from_secs(120), engine.wait(*id)).await.unwrap();
        assert!(matches!(end, Ok(Some(EndState::Succeeded { .. }))), "{end:?}");
    }
    let executions = executions.lock().unwrap().clone();
    assert_eq!(executions.len(), ids.len() * 4);
    assert!(executions.values().all(|times| *times == 1), "no node runs a second time");
    let counts = database.saga_counts(1_000).await.unwrap();
    assert_eq!(counts.states[&SagaState::Succeeded].count, ids.len() as u64);
}
