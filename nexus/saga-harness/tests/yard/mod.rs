//! A kind of ten nodes that builds a house in a yard, and the bugs that can be planted in it. The yard stands for what
//! sagas reach: it makes an effect once per key, and refuses executors that were fenced.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test file uses its part")]

use nexus_saga_harness::{Case, Moment, Operation, World};
use nexus_sagas::{Actions, Fault, Plan, PlanRefused, SagaKind, Step};
use serde::{Deserialize, Serialize};
use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

/// What is wrong with the kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Bug {
    #[default]
    None,
    /// The undo of `east` takes back once more each time.
    UndoNotIdempotent,
    /// The effect of `east` is made again each time.
    EffectWithoutKey,
    /// The undo of `east` needs the output of `east`.
    UndoReliesOnOutput,
    /// The undo of `east` takes a missing output for a missing effect.
    DoubtIsTakenForNothing,
    /// `east` has no undo.
    ForgottenUndo,
    /// The roof is built beside the walls that it needs.
    WrongOrder,
    /// `roof` does not say under which adoption it executes.
    ExecutesAfterFence,
    /// The plan is another one each time.
    TimeDependentPlan,
    /// The undo of `east` knows only what this process has built.
    RemembersInMemory,
    /// The undo of `east` fails if somebody else has torn it down.
    MindsDeletion,
    /// All sagas build the same `east`.
    SharedName,
    /// `east` takes what it has built itself for somebody else's.
    RefusesWhatIsThere,
    /// The undo of `gate` never succeeds.
    UndoNeverSucceeds,
}

#[derive(Debug, Default)]
pub(crate) struct Yard {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    effects: BTreeMap<String, i64>,
    /// Saga → its latest adoption.
    epochs: BTreeMap<String, u64>,
    /// Who was paid, for what has no undo.
    paid: BTreeSet<String>,
    /// Keys that a saga itself has torn down.
    torn_down: BTreeSet<String>,
}

/// What one process knows and reaches.
#[derive(Debug, Default)]
pub(crate) struct Crew {
    yard: Arc<Yard>,
    built_here: Mutex<BTreeSet<String>>,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) bug: Bug,
}

pub(crate) struct House;

// Each run has a thread to itself.
thread_local!(static CLOCK: Cell<u32> = const { Cell::new(0) });

impl SagaKind for House {
    const NAME: &'static str = "house";
    const VERSION: u32 = 3;
    type Params = Order;
    type Tools = Crew;

    fn actions(actions: &mut Actions<House>) {
        actions.add("draw", async |step: Step<House>| Ok(step.params::<Order>()?));
        actions.add("build", build).undo(tear_down);
        actions.add("build_for_good", build);
        actions.add("pay", pay);
    }

    fn plan(order: &Order, plan: &mut Plan) -> Result<(), PlanRefused> {
        plan.node("draft", "draw");
        plan.node("ground", "build");
        let wrong = order.bug == Bug::WrongOrder;
        plan.side_by_side(|stage| {
            stage.node("west", "build");
            stage.node("east", if order.bug == Bug::ForgottenUndo { "build_for_good" } else { "build" });
            if wrong {
                stage.node("roof", "build");
            }
        });
        if !wrong {
            plan.node("roof", "build");
        }
        plan.sub_saga("garden", "draft", |plan| {
            plan.node("fence", "build");
            plan.node("gate", "build");
        });
        plan.constant("address", 7.into());
        if order.bug == Bug::TimeDependentPlan && CLOCK.replace(CLOCK.get() + 1) % 2 == 1 {
            plan.node("clock", "build");
        }
        plan.node("paid", "pay");
        plan.node("done", "draw");
        Ok(())
    }
}

fn order_of(step: &Step<House>) -> Result<(Order, bool), Fault> {
    Ok((step.params()?, step.node() == "east"))
}

async fn build(step: Step<House>) -> Result<Order, Fault> {
    let (order, east) = order_of(&step)?;
    let bug = if east { order.bug } else { Bug::None };
    // Others come in between.
    tokio::task::yield_now().await;
    let crew = step.tools();
    let mut state = crew.yard.state.lock().unwrap();
    let saga = step.saga().to_string();
    if order.bug != Bug::ExecutesAfterFence || step.node() != "roof" {
        state.admit(&saga, step.adoption_epoch().0)?;
    }
    let key = step.idempotency_key();
    if bug == Bug::RefusesWhatIsThere && state.effects.contains_key(&key) {
        return Err(Fault::refused("exists", "it is there already"));
    }
    match bug {
        Bug::EffectWithoutKey => *state.effects.entry(key.clone()).or_default() += 1,
        Bug::SharedName if state.effects.keys().any(|other| other.ends_with("/east")) => {}
        _ => drop(state.effects.insert(key.clone(), 1)),
    }
    crew.built_here.lock().unwrap().insert(key);
    Ok(order)
}

async fn tear_down(step: Step<House>) -> Result<(), Fault> {
    let (order, east) = order_of(&step)?;
    let bug = if east { order.bug } else { Bug::None };
    tokio::task::yield_now().await;
    let crew = step.tools();
    let key = step.idempotency_key();
    match bug {
        Bug::UndoReliesOnOutput => {
            step.output::<Order>("east")?;
        }
        Bug::DoubtIsTakenForNothing if step.output::<Order>("east").is_err() => return Ok(()),
        Bug::RemembersInMemory if !crew.built_here.lock().unwrap().contains(&key) => return Ok(()),
        _ => {}
    }
    if order.bug == Bug::UndoNeverSucceeds && step.node() == "garden/gate" {
        return Err(Fault::transient("stuck", "the gate does not move"));
    }
    let mut state = crew.yard.state.lock().unwrap();
    state.admit(&step.saga().to_string(), step.adoption_epoch().0)?;
    match bug {
        Bug::UndoNotIdempotent => *state.effects.entry(key).or_default() -= 1,
        Bug::MindsDeletion if !state.effects.contains_key(&key) && !state.torn_down.contains(&key) => {
            return Err(Fault::transient("missing", "somebody has torn it down"));
        }
        Bug::SharedName => state.effects.retain(|other, _| !other.ends_with("/east")),
        _ => {
            state.effects.remove(&key);
            state.torn_down.insert(key);
        }
    }
    Ok(())
}

async fn pay(step: Step<House>) -> Result<(), Fault> {
    step.tools().yard.state.lock().unwrap().paid.insert(step.idempotency_key());
    Ok(())
}

impl State {
    fn admit(&mut self, saga: &str, epoch: u64) -> Result<(), Fault> {
        let latest = self.epochs.entry(saga.to_owned()).or_default();
        if epoch < *latest {
            return Err(Fault::refused("fenced", "another executor has the saga"));
        }
        *latest = epoch;
        Ok(())
    }
}

impl World for Yard {
    fn effects(&self) -> BTreeMap<String, i64> {
        self.state.lock().unwrap().effects.clone()
    }

    fn check(&self, _: Moment<'_>) -> Result<(), String> {
        let state = self.state.lock().unwrap();
        for roof in state.effects.keys().filter_map(|key| key.strip_suffix("/roof")) {
            if !state.effects.contains_key(&format!("{roof}/ground")) {
                return Err("a roof without ground".to_owned());
            }
            if !state.effects.contains_key(&format!("{roof}/west")) {
                return Err("a roof without walls".to_owned());
            }
        }
        Ok(())
    }
}

pub(crate) fn house(bug: Bug) -> Case<Yard> {
    let register = |kinds: &mut nexus_sagas::Kinds, yard: &Arc<Yard>| {
        let crew = Crew { yard: Arc::clone(yard), ..Crew::default() };
        kinds.add::<House>(Arc::new(crew)).map(|_| ())
    };
    let world = || {
        CLOCK.set(0);
        Arc::<Yard>::default()
    };
    Case::of::<House>(format!("{bug:?}").to_lowercase(), &Order { bug }, world, register).operation(
        Operation::new("demolish_east", async |gap: nexus_saga_harness::Gap<Yard>| {
            let key = format!("{}/east", gap.saga());
            gap.world().state.lock().unwrap().effects.remove(&key);
            Ok(())
        })
        .removes_effects(),
    )
}
