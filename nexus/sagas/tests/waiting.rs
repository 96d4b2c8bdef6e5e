//! Nodes that wait: for a signal, for a time that survives the coordinator, and no longer than their saga goes on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use ids::SagaId;
use nexus_saga_recovery::{Claims, PlanRules, Setbacks, Window};
use nexus_sagas::{
    Actions, EndState, Engine, Kinds, Phase, Plan, PlanRefused, SagaKind, SagaStore, Step, Waits,
    fault::CODE_CANCELLED,
    taking::take,
    testing::{Disk, MemoryStore},
};
use serde_json::{Value, json};
use std::{future::Future, sync::Arc, time::Duration};

/// One node that waits as its parameters say.
struct Waiter;

impl SagaKind for Waiter {
    const NAME: &'static str = "waiter";
    const VERSION: u32 = 1;
    type Params = Value;
    type Tools = ();

    fn actions(actions: &mut Actions<Waiter>) {
        actions.add("signal", async |step: Step<Waiter>| step.signal("go").await);
        actions.add("sleep", async |step: Step<Waiter>| {
            let seconds: u64 = step.params()?;
            step.sleep("nap", Duration::from_secs(seconds)).await
        });
    }

    fn plan(params: &Value, plan: &mut Plan) -> Result<(), PlanRefused> {
        plan.node("wait", if params.is_null() { "signal" } else { "sleep" });
        Ok(())
    }
}

fn life(store: &Arc<MemoryStore>) -> (Engine, Claims) {
    let mut kinds = Kinds::new();
    kinds.add::<Waiter>(Arc::new(())).unwrap();
    let claims = Claims::new();
    (Engine::new(Arc::clone(store) as Arc<dyn SagaStore>, claims.clone(), kinds), claims)
}

async fn resume(store: &Arc<MemoryStore>) -> Engine {
    let (engine, claims) = life(store);
    let listed = Window::open(&claims).list(async || store.unfinished().await).await.unwrap();
    let rules = PlanRules {
        is_capable: &|_| true,
        setbacks: &Setbacks::default(),
        resumed_max: 10,
        now: jiff::Timestamp::now(),
    };
    let planned = listed.plan(&rules).resume.into_iter().map(|(_, resuming)| resuming);
    for taken in take(store.as_ref(), planned.collect()).await {
        let (adopted, stored) = taken.unwrap();
        engine.resume(adopted, stored).await.unwrap();
    }
    engine
}

/// In time that does not pass, `soon` ends when nothing else can happen.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let soon = tokio::time::timeout(Duration::from_secs(5), future).await;
    soon.unwrap_or_else(|_| panic!("{what} does not happen"))
}

async fn waits(engine: &Engine, id: SagaId) -> Waits {
    loop {
        let status = engine.status(id).unwrap();
        if let Some(waits) = status.nodes.get("wait").and_then(|node| node.waits.clone()) {
            assert_eq!(status.phase(), Phase::Waiting);
            return waits;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_signal_wakes_the_node_that_waits_for_it_at_once() {
    let (engine, _) = life(&Disk::new().store());
    let id = engine.start::<Waiter>(&Value::Null).await.unwrap();
    assert_eq!(waits(&engine, id).await, Waits::Signal("go".to_owned()));
    engine.signal(id, "stay", &json!(1)).await.unwrap();
    engine.signal(id, "go", &json!("north")).await.unwrap();
    engine.signal(id, "go", &json!("south")).await.unwrap();
    let end = soon("the end", engine.wait(id)).await.unwrap();
    assert_eq!(end, Some(EndState::Succeeded { output: json!("north") }), "the first value stays");
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_was_kept_before_a_crash_is_there_after_it() {
    let disk = Disk::new();
    let (engine, _) = life(&disk.store());
    let id = engine.start::<Waiter>(&Value::Null).await.unwrap();
    waits(&engine, id).await;
    engine.halt().await;
    disk.store().put_signal(id, "go", &json!(7)).await.unwrap();
    let engine = resume(&disk.store()).await;
    let end = soon("the end", engine.wait(id)).await.unwrap();
    assert_eq!(end, Some(EndState::Succeeded { output: json!(7) }));
}

#[tokio::test(start_paused = true)]
async fn a_signal_that_somebody_else_keeps_is_found_without_being_told_of() {
    let disk = Disk::new();
    let (engine, _) = life(&disk.store());
    let id = engine.start::<Waiter>(&Value::Null).await.unwrap();
    waits(&engine, id).await;
    disk.store().put_signal(id, "go", &json!(7)).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(31), engine.wait(id)).await.unwrap().unwrap();
    assert_eq!(end, Some(EndState::Succeeded { output: json!(7) }));
}

#[tokio::test]
async fn a_timer_goes_on_from_where_an_earlier_life_set_it() {
    let disk = Disk::new();
    let (engine, _) = life(&disk.store());
    let id = engine.start::<Waiter>(&json!(3_600)).await.unwrap();
    let Waits::Until(set) = waits(&engine, id).await else { panic!("it waits for a time") };
    engine.halt().await;
    let engine = resume(&disk.store()).await;
    assert_eq!(waits(&engine, id).await, Waits::Until(set), "not an hour from now");
}

#[tokio::test(start_paused = true)]
async fn a_timer_that_cannot_be_read_shows_and_the_saga_can_be_cancelled() {
    let store = Disk::new().store();
    store.spoil_timers();
    let (engine, _) = life(&store);
    let id = engine.start::<Waiter>(&json!(3_600)).await.unwrap();
    let Waits::For(words) = waits(&engine, id).await else { panic!("it waits for its store") };
    assert_eq!(words, "the database: the store did not do it: a timer cannot be read");
    engine.cancel(id).await.unwrap();
    let end = soon("the end", engine.wait(id)).await.unwrap();
    let Some(EndState::Failed { failure }) = end else { panic!("{end:?}") };
    assert_eq!(failure.cause.code, CODE_CANCELLED);
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_saga_waits_no_longer() {
    for params in [Value::Null, json!(3_600)] {
        let (engine, _) = life(&Disk::new().store());
        let id = engine.start::<Waiter>(&params).await.unwrap();
        waits(&engine, id).await;
        engine.cancel(id).await.unwrap();
        let end = soon("the end", engine.wait(id)).await.unwrap();
        let Some(EndState::Failed { failure }) = end else { panic!("{end:?}") };
        assert_eq!(failure.cause.code, CODE_CANCELLED);
    }
}
