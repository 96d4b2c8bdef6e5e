//! Sagas as they are stored: what a row says, what its log says, how it ends.

use crate::fault::Failure;
use jiff::Timestamp;
use nexus_saga_recovery::SagaKey;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// A row that is about to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewSaga {
    /// Which saga, and under which adoption.
    pub key: SagaKey,
    /// Who creates it: one such per call that creates, so that a caller who lost an answer can tell its own row from
    /// that of another caller with the same saga id.
    pub creation: Uuid,
    /// The kind's name.
    pub kind: String,
    /// The version of its definition.
    pub version: u32,
    /// The digest of the plan, see `definition`.
    pub digest: String,
    /// The parameters, as the kind serialises them.
    pub params: Value,
    /// The graph, as steno serialises it. Opaque.
    pub dag: Value,
    /// When it was asked for.
    pub created: Timestamp,
}

/// One line of a saga's log. Saga, node and event name it: each occurs once at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NodeEvent {
    /// steno's number of the node.
    pub node: u32,
    /// `started`, `succeeded`, `failed`, `undo_started`, `undo_finished`, `undo_failed`.
    pub event: String,
    /// The event with its output or error, as steno serialises it. Opaque.
    pub body: Value,
}

impl NodeEvent {
    /// How the node has failed, if that is what this line says.
    #[must_use]
    pub fn failure(&self) -> Option<Failure> {
        // As steno serialises the end of an action that has answered with a failure.
        let failure = self.body.get("failed")?.get("ActionFailed")?.get("source_error")?;
        Failure::deserialize(failure).ok()
    }
}

/// What is noted about a saga beside its log; each once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "mark", rename_all = "snake_case")]
pub enum Mark {
    /// No further node is to be begun.
    CancelRequested,
    /// This node has failed, and what it may have left is being undone: it never runs again, in whatever life. Noted only
    /// where there may be something; the log says *failed* when it is gone.
    Failing {
        /// Node and cause.
        failure: Failure,
    },
    /// An operator has given up on its undoing.
    Abandoned {
        /// Why, in the operator's words.
        reason: String,
    },
    /// This node was not undone, or not to the end, because the saga was abandoned.
    UndoSkipped {
        /// Its path.
        node: String,
    },
}

/// Why an unfinished saga waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attention {
    /// The undo that does not succeed: node, cause, attempts.
    pub failure: Failure,
    /// Since when.
    pub since: Timestamp,
}

/// How a saga ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum EndState {
    /// Every node has succeeded.
    Succeeded {
        /// The output of the last one.
        output: Value,
    },
    /// A node has failed, and every effect is undone.
    Failed {
        /// That node, and why.
        failure: Failure,
    },
    /// A node has failed, and an operator has given up on undoing the rest.
    Abandoned {
        /// The node that failed first.
        failure: Failure,
        /// In the operator's words.
        reason: String,
        /// Paths of nodes whose effects may still be there.
        not_undone: Vec<String>,
    },
}

/// A row with all that belongs to it.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredSaga {
    /// The row; its key has the present adoption epoch.
    pub row: NewSaga,
    /// Its log, in the order in which it was written: the first failure of it is the one that came first.
    pub events: Vec<NodeEvent>,
    /// What was noted.
    pub marks: Vec<Mark>,
    /// Whether it waits for an operator.
    pub attention: Option<Attention>,
    /// None while it is unfinished.
    pub end: Option<EndState>,
}
