//! The demo saga: parallel stages, a sub-saga, an optional signal and timer, and effects outside the database, so that
//! everything that sagas promise can be tried by hand and from outside.
//!
//! ```text
//!            ┌─ left ───┐          inner: ┌─ north ─┐         ┌─ red ───┐
//!   begin ──►├─ middle ─┼─► join ──► open ├─ east ──┼─ close ─┼─ green ─┼─► gather ─► wait ─► sign ─► seal ─► done
//!            └─ right ──┘                 └─ south ─┘         └─ blue ──┘
//! ```
//!
//! Eighteen actions. Each writes a line into a file of its own (see [`witness`](super::witness)), and so does each undo.

use super::witness::{NO_SPACE, Witness};
use nexus_sagas::{Actions, Fault, Plan, PlanRefused, RetryPolicy, SagaKind, Step, UndoPolicy};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// The signal that it waits for, if it is told to.
pub const SIGNAL: &str = "proceed";

/// Attempts of an undo before an operator is asked. Few: whoever tries it by hand wants to see it.
const UNDO_ATTEMPTS: u32 = 3;

/// Between attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two looks whether a full disk has room again.
const NO_SPACE_PAUSE: Duration = Duration::from_secs(1);

/// A day: what sleeps longer is not tried by hand.
const SLEEP_MS_MAX: u64 = 86_400_000;

/// The demo saga.
#[derive(Debug)]
pub struct Demo;

/// What one is started with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DemoParams {
    /// Whether it waits for the signal.
    #[serde(default)]
    pub wait_for_signal: bool,
    /// How long it sleeps half way.
    #[serde(default)]
    pub sleep_ms: u64,
    /// A node that refuses, by its name or its path (`open`, `inner/open`).
    #[serde(default)]
    pub fail_at: Option<String>,
    /// A node whose undo fails until an operator has asked for another try.
    #[serde(default)]
    pub stuck_at: Option<String>,
}

/// What its actions may use.
#[derive(Debug)]
pub struct DemoTools {
    witness: Witness,
}

impl DemoTools {
    /// Effects go where this witness writes.
    #[must_use]
    pub fn new(witness: Witness) -> DemoTools {
        DemoTools { witness }
    }
}

impl SagaKind for Demo {
    const NAME: &'static str = "demo";
    const VERSION: u32 = 1;
    type Params = DemoParams;
    type Tools = DemoTools;

    fn actions(actions: &mut Actions<Demo>) {
        let retry = RetryPolicy { first_pause: PAUSE, pause_max: PAUSE, attempts_max: 5 };
        let undo_retry = UndoPolicy(RetryPolicy { attempts_max: UNDO_ATTEMPTS, ..retry });
        actions.add("mark", mark).undo(unmark).retry(retry).undo_retry(undo_retry);
        actions.add("wait", wait).undo(unmark).retry(retry).undo_retry(undo_retry);
    }

    fn plan(params: &DemoParams, plan: &mut Plan) -> Result<(), PlanRefused> {
        plan.node("begin", "mark");
        side_by_side(plan, ["left", "middle", "right"]);
        plan.node("join", "mark");
        plan.sub_saga(INNER, "join", |inner| {
            inner.node("open", "mark");
            side_by_side(inner, ["north", "east", "south"]);
            inner.node("close", "mark");
        });
        side_by_side(plan, ["red", "green", "blue"]);
        plan.node("gather", "mark");
        plan.node("wait", "wait");
        for node in ["sign", "seal", "done"] {
            plan.node(node, "mark");
        }
        refuse_unknown(params)
    }
}

/// The nodes that have effects, by the names of their files.
pub const NODES: [&str; 18] = [
    "begin", "left", "middle", "right", "join", "open", "north", "east", "south", "close", "red", "green",
    "blue", "gather", "wait", "sign", "seal", "done",
];

/// The sub-saga.
const INNER: &str = "inner";

/// Those of the nodes that are in it.
const INNER_NODES: [&str; 5] = ["open", "north", "east", "south", "close"];

fn side_by_side(plan: &mut Plan, nodes: [&str; 3]) {
    plan.side_by_side(|stage| nodes.into_iter().for_each(|node| stage.node(node, "mark")));
}

fn refuse_unknown(params: &DemoParams) -> Result<(), PlanRefused> {
    let named = [("fail_at", &params.fail_at), ("stuck_at", &params.stuck_at)];
    for (field, node) in named {
        if let Some(node) = node.as_deref().filter(|node| !is_node(node)) {
            let words = format!("{field} is {node:?}, and the nodes are: {}", NODES.map(path_of).join(", "));
            return Err(PlanRefused { words });
        }
    }
    if params.sleep_ms > SLEEP_MS_MAX {
        return Err(PlanRefused { words: format!("sleep_ms is over {SLEEP_MS_MAX}, which is a day") });
    }
    Ok(())
}

/// Its own name, or its path.
fn is_node(name: &str) -> bool {
    NODES.into_iter().any(|node| name == node || name == path_of(node))
}

/// A node by its path, as the saga names it.
#[must_use]
pub fn path_of(node: &str) -> String {
    if INNER_NODES.contains(&node) { format!("{INNER}/{node}") } else { node.to_owned() }
}

/// Whether that is the node that the parameters name.
fn is_named(step: &Step<Demo>, name: Option<&str>) -> bool {
    name.is_some_and(|name| name == leaf(step) || name == step.node())
}

/// The node's own name; those of the demo are unique also across its sub-saga.
fn leaf(step: &Step<Demo>) -> &str {
    step.node().rsplit('/').next().unwrap_or_default()
}

async fn mark(step: Step<Demo>) -> Result<DemoParams, Fault> {
    let params = step.params()?;
    effect(&step, params).await
}

async fn wait(step: Step<Demo>) -> Result<DemoParams, Fault> {
    let params: DemoParams = step.params()?;
    if params.sleep_ms > 0 {
        step.sleep("nap", Duration::from_millis(params.sleep_ms)).await?;
    }
    if params.wait_for_signal {
        step.signal(SIGNAL).await?;
    }
    effect(&step, params).await
}

/// What each node makes is what it was told: the sub-saga has it from there.
async fn effect(step: &Step<Demo>, params: DemoParams) -> Result<DemoParams, Fault> {
    if is_named(step, params.fail_at.as_deref()) {
        return Err(Fault::refused("demo_failure", "it was told to fail here"));
    }
    note(step).await?;
    Ok(params)
}

async fn unmark(step: Step<Demo>) -> Result<(), Fault> {
    let params: DemoParams = step.params()?;
    if is_named(&step, params.stuck_at.as_deref()) && step.operator_retries() == 0 {
        return Err(Fault::transient("demo_stuck", "it was told that its undo fails"));
    }
    note(&step).await
}

/// Writes the line. A full disk is no fault of the saga: nothing of the line is there then, and it waits for room.
async fn note(step: &Step<Demo>) -> Result<(), Fault> {
    let (witness, node) = (&step.tools().witness, leaf(step));
    loop {
        let written = if step.is_undo() {
            witness.undone(step.saga(), node).await
        } else {
            witness.done(step.saga(), node).await
        };
        match written {
            Err(fault) if fault.cause().code == NO_SPACE => {
                step.wait_for(&format!("room on the disk: {}", fault.cause().words), NO_SPACE_PAUSE).await?;
            }
            written => return written,
        }
    }
}
