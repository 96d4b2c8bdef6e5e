//! The saga that is measured: nodes in a row, each with an undo, that do nothing. What is left is what sagas cost.

use ids::CoordinatorId;
use nexus_database::{Database, cluster::CoordinatorRow};
use nexus_sagas::{Actions, Fault, Kinds, Plan, PlanRefused, SagaKind, Step};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Nodes in a row.
#[derive(Debug)]
pub(crate) struct Row;

/// How long the row is, and whether its last node waits for a signal.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Length {
    pub(crate) nodes: u32,
    pub(crate) waits: bool,
}

impl SagaKind for Row {
    const NAME: &'static str = "row";
    const VERSION: u32 = 1;
    type Params = Length;
    type Tools = ();

    fn actions(actions: &mut Actions<Row>) {
        actions.add("nothing", nothing).undo(undo_nothing);
        actions.add("wait", wait).undo(undo_nothing);
    }

    fn plan(length: &Length, plan: &mut Plan) -> Result<(), PlanRefused> {
        for number in 1..=length.nodes {
            let last = number == length.nodes && length.waits;
            plan.node(format!("node{number}"), if last { "wait" } else { "nothing" });
        }
        Ok(())
    }
}

/// The one kind.
pub(crate) fn kinds() -> anyhow::Result<Kinds> {
    let mut kinds = Kinds::new();
    kinds.add::<Row>(Arc::new(()))?;
    Ok(kinds)
}

/// A new life of a coordinator.
pub(crate) async fn life_of(database: &Database, id: CoordinatorId) -> anyhow::Result<CoordinatorRow> {
    Ok(database.coordinator_start(id, "bench", env!("CARGO_PKG_VERSION")).await?)
}

async fn nothing(_: Step<Row>) -> Result<u32, Fault> {
    Ok(1)
}

async fn wait(step: Step<Row>) -> Result<u32, Fault> {
    step.signal("go").await.map(|_| 1)
}

async fn undo_nothing(_: Step<Row>) -> Result<(), Fault> {
    Ok(())
}
