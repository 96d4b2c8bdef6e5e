//! What a kind says about one saga: its nodes, in order or side by side, and its sub-sagas. By names only; `definition`
//! checks them and builds the graph.

use serde_json::Value;
use thiserror::Error;

/// A saga or sub-saga, as a sequence of stages. What is appended depends on everything appended before.
#[derive(Debug, Default)]
pub struct Plan {
    pub(crate) stages: Vec<Stage>,
}

/// Nodes side by side.
#[derive(Debug, Default)]
pub struct Stage {
    pub(crate) nodes: Vec<PlannedNode>,
}

#[derive(Debug)]
pub(crate) struct PlannedNode {
    pub(crate) name: String,
    pub(crate) does: Does,
}

#[derive(Debug)]
pub(crate) enum Does {
    Action(String),
    Constant(Value),
    SubSaga { params_from: String, plan: Plan },
}

/// Parameters that a kind cannot make a plan of.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{words}")]
pub struct PlanRefused {
    /// What is wrong with them.
    pub words: String,
}

impl Plan {
    /// A node after all others so far.
    pub fn node(&mut self, name: impl Into<String>, action: impl Into<String>) {
        self.side_by_side(|stage| stage.node(name, action));
    }

    /// A node whose output is known already.
    pub fn constant(&mut self, name: impl Into<String>, value: Value) {
        self.side_by_side(|stage| stage.constant(name, value));
    }

    /// A saga within, whose parameters are the output of an earlier node. Its own output is that of its last node.
    pub fn sub_saga(
        &mut self,
        name: impl Into<String>,
        params_from: impl Into<String>,
        fill: impl FnOnce(&mut Plan),
    ) {
        self.side_by_side(|stage| stage.sub_saga(name, params_from, fill));
    }

    /// Several nodes after all others so far, in no order among each other.
    pub fn side_by_side(&mut self, fill: impl FnOnce(&mut Stage)) {
        let mut stage = Stage::default();
        fill(&mut stage);
        self.stages.push(stage);
    }
}

impl Stage {
    /// A node.
    pub fn node(&mut self, name: impl Into<String>, action: impl Into<String>) {
        self.nodes.push(PlannedNode { name: name.into(), does: Does::Action(action.into()) });
    }

    /// A node whose output is known already.
    pub fn constant(&mut self, name: impl Into<String>, value: Value) {
        self.nodes.push(PlannedNode { name: name.into(), does: Does::Constant(value) });
    }

    /// A saga within.
    pub fn sub_saga(
        &mut self,
        name: impl Into<String>,
        params_from: impl Into<String>,
        fill: impl FnOnce(&mut Plan),
    ) {
        let mut plan = Plan::default();
        fill(&mut plan);
        let does = Does::SubSaga { params_from: params_from.into(), plan };
        self.nodes.push(PlannedNode { name: name.into(), does });
    }
}
