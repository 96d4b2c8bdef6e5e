//! A kind of saga whose nodes do as they are told, and the world that they have their effects in: one effect per node,
//! there or not. Shared by the tests of this crate.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test file uses its part")]

use ids::SagaId;
use nexus_saga_recovery::{Adopted, Claims, PlanRules, Setbacks, Window};
use nexus_sagas::{
    Actions, EndState, Engine, Fault, Kinds, Plan, PlanRefused, RetryPolicy, SagaKind, SagaStore, Step,
    StoredSaga, UndoPolicy, taking::take, testing::MemoryStore,
};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::{Notify, watch};

/// A node, a parallel stage, a sub-saga of two nodes, a last node.
pub(crate) struct Five;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Words {
    pub(crate) words: String,
}

/// What one call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Refuse,
    Transient,
    /// The effect is there, the answer is lost.
    UnknownAfterEffect,
    Panic,
    PanicAfterEffect,
    WrongLookup,
    /// Tells that it has begun, has its effect and waits until it is let go.
    Wait,
    /// Waits until it may go on, then refuses.
    WaitAndRefuse,
}

#[derive(Debug, Default)]
pub(crate) struct World {
    behaviours: Mutex<BTreeMap<(String, bool), VecDeque<Behaviour>>>,
    effects: Mutex<BTreeSet<String>>,
    calls: Mutex<Vec<String>>,
    running: Mutex<BTreeSet<String>>,
    /// Path → whether its undo saw the output of its own node.
    pub(crate) own_outputs: Mutex<BTreeMap<String, bool>>,
    pub(crate) overlaps: Mutex<Vec<String>>,
    pub(crate) waiting: watch::Sender<u32>,
    pub(crate) go_on: Notify,
}

/// Nodes with an effect.
pub(crate) const PATHS: [&str; 6] = ["first", "inner/one", "inner/two", "last", "left", "right"];

pub(crate) fn quick(attempts_max: u32) -> RetryPolicy {
    RetryPolicy { first_pause: Duration::ZERO, pause_max: Duration::ZERO, attempts_max }
}

impl SagaKind for Five {
    const NAME: &'static str = "five";
    const VERSION: u32 = 1;
    type Params = Words;
    type Tools = World;

    fn actions(actions: &mut Actions<Five>) {
        actions.add("work", work).undo(undo_work).retry(quick(3)).undo_retry(UndoPolicy(quick(4)));
    }

    fn plan(params: &Words, plan: &mut Plan) -> Result<(), PlanRefused> {
        if params.words.is_empty() {
            return Err(PlanRefused { words: "no words".to_owned() });
        }
        plan.node("first", "work");
        plan.side_by_side(|stage| {
            stage.node("left", "work");
            stage.node("right", "work");
        });
        plan.sub_saga("inner", "left", |plan| {
            plan.node("one", "work");
            plan.node("two", "work");
        });
        plan.node("last", "work");
        Ok(())
    }
}

/// One thing at a time per node, whoever executes it.
struct Running<'w> {
    world: &'w World,
    key: String,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.world.running.lock().unwrap().remove(&self.key);
    }
}

async fn work(step: Step<Five>) -> Result<Words, Fault> {
    let world = step.tools();
    let _running = world.enter(&step);
    let params: Words = step.params()?;
    match world.next(step.node(), false) {
        None => {}
        Some(Behaviour::Refuse) => return Err(Fault::refused("no", "told to refuse")),
        Some(Behaviour::Transient) => return Err(Fault::transient("not_now", "told to wait")),
        Some(Behaviour::Panic) => panic!("told to panic"),
        Some(Behaviour::PanicAfterEffect) => {
            world.set(&step, true);
            panic!("told to panic late");
        }
        Some(Behaviour::UnknownAfterEffect) => {
            world.set(&step, true);
            return Err(Fault::unknown("lost", "told to lose the answer"));
        }
        Some(Behaviour::WrongLookup) => {
            step.output::<Words>("nobody")?;
        }
        Some(Behaviour::Wait) => {
            world.set(&step, true);
            world.waiting.send_modify(|waiting| *waiting += 1);
            world.go_on.notified().await;
        }
        Some(Behaviour::WaitAndRefuse) => {
            world.waiting.send_modify(|waiting| *waiting += 1);
            world.go_on.notified().await;
            return Err(Fault::refused("no", "told to refuse"));
        }
    }
    tokio::task::yield_now().await;
    world.set(&step, true);
    Ok(params)
}

async fn undo_work(step: Step<Five>) -> Result<(), Fault> {
    let world = step.tools();
    let _running = world.enter(&step);
    let own = step.node().rsplit('/').next().unwrap();
    let seen = step.output::<Words>(own).is_ok();
    world.own_outputs.lock().unwrap().insert(step.node().to_owned(), seen);
    match world.next(step.node(), true) {
        None => {}
        Some(Behaviour::Panic) => panic!("told to panic"),
        Some(Behaviour::Wait) => {
            world.waiting.send_modify(|waiting| *waiting += 1);
            world.go_on.notified().await;
        }
        Some(_) => return Err(Fault::transient("not_now", "told to fail")),
    }
    tokio::task::yield_now().await;
    world.set(&step, false);
    Ok(())
}

impl World {
    pub(crate) fn new() -> Arc<World> {
        Arc::default()
    }

    /// What the next calls of a node's action do; after them it succeeds.
    pub(crate) fn action(&self, path: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.behaviours.lock().unwrap().entry((path.to_owned(), false)).or_default().extend(behaviours);
    }

    /// What the next calls of a node's undo do; after them it succeeds.
    pub(crate) fn undo(&self, path: &str, behaviours: impl IntoIterator<Item = Behaviour>) {
        self.behaviours.lock().unwrap().entry((path.to_owned(), true)).or_default().extend(behaviours);
    }

    /// Effects that are there, as `saga/path`.
    pub(crate) fn effects(&self) -> Vec<String> {
        self.effects.lock().unwrap().iter().cloned().collect()
    }

    /// Calls of a node's action.
    pub(crate) fn calls(&self, path: &str) -> usize {
        let end = format!("do {path}");
        self.calls.lock().unwrap().iter().filter(|call| **call == end).count()
    }

    fn enter(&self, step: &Step<Five>) -> Running<'_> {
        let what = if step.is_undo() { "undo" } else { "do" };
        self.calls.lock().unwrap().push(format!("{what} {}", step.node()));
        let key = step.idempotency_key();
        if !self.running.lock().unwrap().insert(key.clone()) {
            self.overlaps.lock().unwrap().push(key.clone());
        }
        Running { world: self, key }
    }

    fn next(&self, path: &str, undo: bool) -> Option<Behaviour> {
        self.behaviours.lock().unwrap().get_mut(&(path.to_owned(), undo))?.pop_front()
    }

    fn set(&self, step: &Step<Five>, there: bool) {
        let mut effects = self.effects.lock().unwrap();
        if there {
            effects.insert(step.idempotency_key());
        } else {
            effects.remove(&step.idempotency_key());
        }
    }
}

/// One life of a coordinator.
pub(crate) struct Life {
    pub(crate) engine: Engine,
    pub(crate) claims: Claims,
    pub(crate) store: Arc<MemoryStore>,
}

impl Life {
    pub(crate) fn begin(store: Arc<MemoryStore>, world: &Arc<World>) -> Life {
        let mut kinds = Kinds::new();
        kinds.add::<Five>(Arc::clone(world)).unwrap();
        let claims = Claims::new();
        let engine = Engine::new(Arc::clone(&store) as Arc<dyn SagaStore>, claims.clone(), kinds);
        Life { engine, claims, store }
    }

    /// What one pass of recovery adopts and loads.
    pub(crate) async fn take(&self) -> Vec<(Adopted, StoredSaga)> {
        let listed = Window::open(&self.claims).list(async || self.store.unfinished().await).await.unwrap();
        let setbacks = Setbacks::default();
        let plan = listed.plan(&PlanRules {
            is_capable: &|saga| self.engine.is_capable(&saga.kind, saga.version),
            setbacks: &setbacks,
            resumed_max: 1_000,
            now: jiff::Timestamp::now(),
        });
        let planned = plan.resume.into_iter().map(|(_, resuming)| resuming);
        let taken = take(self.store.as_ref(), planned.collect()).await;
        taken.into_iter().map(Result::unwrap).collect()
    }

    /// One pass of recovery. How many it has resumed.
    pub(crate) async fn recover(&self) -> usize {
        let taken = self.take().await;
        let resumed = taken.len();
        for (adopted, stored) in taken {
            self.engine.resume(adopted, stored).await.unwrap();
        }
        resumed
    }

    /// Waits for the end of a saga; none if its executor has stopped before.
    pub(crate) async fn end(&self, id: SagaId) -> Option<EndState> {
        soon("the end", self.engine.wait(id)).await.unwrap()
    }

    /// Waits until nothing is executed here.
    pub(crate) async fn idle(&self) {
        for key in self.engine.executing() {
            let _ = self.end(key.id).await;
        }
    }
}

pub(crate) fn words() -> Words {
    Words { words: "hello".to_owned() }
}

/// Fails with words in place of hanging for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap_or_else(|_| panic!("{what} does not happen"))
}

/// A saga whose undo of `left` has failed as often as its policy allows.
pub(crate) async fn stuck(world: &Arc<World>, disk: &nexus_sagas::testing::Disk) -> (Life, SagaId) {
    world.action("last", [Behaviour::Refuse]);
    world.undo("left", [Behaviour::Transient; 4]);
    let life = Life::begin(disk.store(), world);
    let id = life.engine.start::<Five>(&words()).await.unwrap();
    needs_attention(&life, id).await;
    (life, id)
}

pub(crate) async fn needs_attention(life: &Life, id: SagaId) {
    soon("attention", async {
        while life.engine.status(id).is_none_or(|status| status.attention.is_empty()) {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
