//! Sagas as an operator sees them: work of several steps that is done to its end or undone.
//!
//! ```text
//!   running ──► succeeded
//!      │  ▲
//!      │  └─► waiting: for a signal, a time, its store, a coordinator that knows it
//!      ▼
//!   unwinding ──► failed: every effect is undone
//!      │  ▲
//!      ▼  │ retry
//!   needs_attention ── abandon ──► abandoned: what may be left is named
//!
//!   elsewhere: another coordinator owns it, and knows more;  unreadable: a part of its rows is lost
//! ```

use ids::{CoordinatorId, SagaId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

/// One saga.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Saga {
    /// Which.
    pub id: SagaId,
    /// What it does, such as `demo`; empty if its row does not say so any more.
    pub kind: String,
    /// The version of its definition, from 1; 0 if its row does not say it any more.
    pub version: u32,
    /// What it is doing, or how it has ended.
    pub state: SagaState,
    /// What it waits for, in words: a signal and its name, a time, an operator, its store, a coordinator.
    #[serde(default)]
    pub waits_for: Option<String>,
    /// The coordinator that owns it; none if its row does not say it any more.
    #[serde(default)]
    pub coordinator: Option<CoordinatorId>,
    /// Set while it has not ended and another coordinator owns it than the one that answers.
    #[serde(default)]
    pub elsewhere: Option<SagaElsewhere>,
    /// What of it cannot be read, in words: table, row, and why.
    #[serde(default)]
    pub unreadable: Option<String>,
    /// How often it has changed hands.
    #[serde(default)]
    pub adoption_epoch: u64,
    /// Whether the coordinator that answers executes it now. False while it waits for recovery, while another one owns it, and
    /// once it has ended.
    #[serde(default)]
    pub executing: bool,
    /// Whether somebody has asked for it to be cancelled.
    #[serde(default)]
    pub cancel_requested: bool,
    /// When it was accepted; none if its row does not say it any more.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub created_at: Option<Timestamp>,
    /// When it ended; none while it has not.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub ended_at: Option<Timestamp>,
    /// The node that failed first, once one has. A list has it of sagas that have ended or are executed.
    #[serde(default)]
    pub failure: Option<SagaFailure>,
    /// Undos that do not succeed and wait for an operator.
    #[serde(default)]
    pub attention: Vec<SagaAttention>,
    /// Why it was abandoned, in the operator's words.
    #[serde(default)]
    pub abandoned_because: Option<String>,
    /// Nodes whose effects may still be there, because it was abandoned.
    #[serde(default)]
    pub not_undone: Vec<String>,
    /// Whether its coordinator could not go on with it when it last tried. It tries again, and `abandon` gives it up.
    #[serde(default)]
    pub cannot_go_on: bool,
    /// Whether its executor has lost it, which is a defect: then its coordinator goes on with it after a restart, and takes no
    /// word for it before.
    #[serde(default)]
    pub lost_by_executor: bool,
}

/// Another coordinator that owns a saga, as far as the one that answers knows it. Whether it lives is not known here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SagaElsewhere {
    /// Its name; none if the database has no such coordinator.
    #[serde(default)]
    pub coordinator_name: Option<String>,
    /// When it started last.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub started_at: Option<Timestamp>,
}

/// One saga, with what it was started with and where each of its nodes is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SagaDetail {
    /// What a list has of it.
    #[serde(flatten)]
    pub saga: Saga,
    /// Its parameters; each kind has its own shape.
    pub params: Value,
    /// What its last node has made, once it has succeeded.
    #[serde(default)]
    pub output: Value,
    /// Its nodes, in the order in which they are planned. Those of sub-sagas are `sub-saga/node`.
    #[serde(default)]
    pub nodes: Vec<SagaNode>,
    /// The signals that are kept for it, in the order of their names.
    #[serde(default)]
    pub signals: Vec<SagaSignal>,
}

/// A saga that was given a signal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SagaSignalled {
    /// How it is afterwards.
    #[serde(flatten)]
    pub saga: Saga,
    /// Whether what is kept under that name is this value. If not, an earlier one stays, and this one is forgotten.
    #[serde(default = "kept_unless_said")]
    pub kept: bool,
}

/// A coordinator that does not say so is older than the word.
fn kept_unless_said() -> bool {
    true
}

/// One node of a saga.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SagaNode {
    /// Its name, with the sub-sagas that it is in: `inner/one`.
    pub node: String,
    /// What it is doing, or how it has ended.
    pub state: SagaNodeState,
    /// Since when; none if it has not begun.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub since: Option<Timestamp>,
    /// Attempts of this life of the coordinator, while it executes.
    #[serde(default)]
    pub attempts: u32,
    /// What the last attempt that failed says.
    #[serde(default)]
    pub last_error: Option<String>,
    /// What it waits for, in words.
    #[serde(default)]
    pub waits_for: Option<String>,
}

/// What a saga is doing, or how it has ended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SagaState {
    /// Nodes are done one after the other.
    Running,
    /// A node has failed, or it was cancelled: what was done is undone.
    Unwinding,
    /// It goes on once something has come that `waits_for` says.
    Waiting,
    /// An undo does not succeed. An operator has to say `retry` or `abandon`.
    NeedsAttention,
    /// Another coordinator owns it: it is executed there, or waits for that one to come back.
    Elsewhere,
    /// A part of it cannot be read, so nobody can execute it on. An operator has to mend it or to give it up.
    Unreadable,
    /// Every node has succeeded.
    Succeeded,
    /// A node has failed, and every effect is undone.
    Failed,
    /// A node has failed, and an operator has given up on undoing the rest.
    Abandoned,
    /// A word that this program is too old to know; never sent.
    #[default]
    #[serde(other)]
    Unrecognized,
}

impl SagaState {
    /// Every state that a saga can have.
    pub const ALL: [SagaState; 9] = [
        SagaState::Running,
        SagaState::Unwinding,
        SagaState::Waiting,
        SagaState::NeedsAttention,
        SagaState::Elsewhere,
        SagaState::Unreadable,
        SagaState::Succeeded,
        SagaState::Failed,
        SagaState::Abandoned,
    ];

    /// Whether it has ended.
    #[must_use]
    pub fn is_ended(self) -> bool {
        matches!(self, SagaState::Succeeded | SagaState::Failed | SagaState::Abandoned)
    }

    /// As the API says it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            SagaState::Running => "running",
            SagaState::Unwinding => "unwinding",
            SagaState::Waiting => "waiting",
            SagaState::NeedsAttention => "needs_attention",
            SagaState::Elsewhere => "elsewhere",
            SagaState::Unreadable => "unreadable",
            SagaState::Succeeded => "succeeded",
            SagaState::Failed => "failed",
            SagaState::Abandoned => "abandoned",
            SagaState::Unrecognized => "unrecognized",
        }
    }
}

/// What one node of a saga is doing, or how it has ended.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum SagaNodeState {
    /// It has not begun, or will never be.
    Pending,
    /// Its action runs, or ran when its coordinator died.
    Running,
    /// Its effect is there.
    Succeeded,
    /// It has failed, and has left nothing behind.
    Failed,
    /// It is undone now, or was when its coordinator died.
    Undoing,
    /// It has been undone.
    Undone,
    /// It was not undone, or not to the end, because the saga was abandoned: its effect may be there.
    Skipped,
    /// A word that this program is too old to know; never sent.
    #[default]
    #[serde(other)]
    Unrecognized,
}

/// Why a node failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SagaFailure {
    /// Which.
    pub node: String,
    /// A stable word for programs, such as `sled_unreachable`.
    pub code: String,
    /// For people.
    pub message: String,
    /// How often it was tried in the last life of a coordinator; 0 if it was not begun.
    pub attempts: u32,
}

/// An undo that waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SagaAttention {
    /// Whose undo, why it fails, and how often it was tried.
    pub failure: SagaFailure,
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
}

/// One line of a saga's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct SagaEvent {
    /// Its place in the log, from 1.
    pub number: u64,
    /// When it became durable.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// The node; the saga's own first and last one have names of their own.
    pub node: String,
    /// `started`, `succeeded`, `failed`, `undo_started`, `undo_finished`.
    pub event: String,
    /// The adoption under which it was written.
    pub adoption_epoch: u64,
    /// The output or the error.
    #[serde(default)]
    pub body: Value,
    /// What of the line cannot be read, in words. Then a body that is no JSON is text; and where it is the node, the event, the
    /// adoption or the time, all of these are empty, 0, and 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
}

/// Which sagas.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SagaQuery {
    /// Only those in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<SagaState>,
    /// Only those of this kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Items per page, 1 to 1000; 100 unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next_page` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_token: Option<String>,
}

/// How long to wait for a saga's end.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct SagaWaitQuery {
    /// Answer only once it has ended, or after this many seconds, 1 to 25, in whatever state it is then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_seconds: Option<u32>,
}

/// What `cancel` and `retry` are told: nothing. The body may be left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SagaSteer {}

/// Why an operator gives a saga up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SagaAbandon {
    /// In words, for those who find what it has left.
    pub reason: String,
}

/// Something that a saga may wait for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SagaSignal {
    /// Its name.
    pub name: String,
    /// What it says; the action decides what it makes of it.
    #[serde(default)]
    pub value: Value,
}

/// A demo saga: parallel stages, a sub-saga and effects in files, to try everything by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DemoSaga {
    /// Its id; the same once more with the same parameters is the same saga. Without it, a new one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<SagaId>,
    /// Whether it waits for the signal `proceed` half way.
    #[serde(default)]
    pub wait_for_signal: bool,
    /// Milliseconds that it sleeps half way, by a durable timer.
    #[serde(default)]
    pub sleep_ms: u64,
    /// A node whose action refuses, so that everything before it is undone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_at: Option<String>,
    /// A node whose undo fails until an operator has said `retry`, or gives it up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck_at: Option<String>,
}

/// A saga that was accepted: it is durable, and will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SagaAccepted {
    /// Which.
    pub id: SagaId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_states_are_those_of_the_wire() {
        for state in SagaState::ALL {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
        let unknown: SagaState = serde_json::from_value("sleeping".into()).unwrap();
        assert_eq!(unknown, SagaState::Unrecognized);
    }
}
