//! What an action gets: who it is, what came before it, and what it may use. Nothing here panics on a wrong name.

use crate::{
    fault::{CODE_CANCELLED, CODE_LOOKUP, CODE_STOPPED, Fault},
    kind::SagaKind,
    live::{LiveSaga, Waits},
    ports::{SagaStore, StoreFault},
};
use ids::{AdoptionEpoch, SagaId};
use jiff::{SignedDuration, Timestamp};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};
use steno::{ActionContext, SagaType};
use thiserror::Error;

/// Between two looks for a signal that nobody has told of: another coordinator may have kept it, which can tell nobody
/// here. Thousands of sagas may wait, so it is not short.
const SIGNAL_PAUSE: Duration = Duration::from_secs(30);
/// Between two attempts where the store does not answer.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// One attempt of one node's action or undo.
pub struct Step<K: SagaKind> {
    context: Arc<ActionContext<Typed<K>>>,
    path: Arc<str>,
    attempt: u32,
    begun_before: bool,
    undoing: bool,
}

/// steno's view of a kind.
pub(crate) struct Typed<K>(PhantomData<fn() -> K>);

/// What all nodes of one execution of a saga share.
pub(crate) struct Execution<K: SagaKind> {
    pub(crate) live: Arc<LiveSaga>,
    pub(crate) tools: Arc<K::Tools>,
    pub(crate) store: Arc<dyn SagaStore>,
}

/// An output or parameters that a node asked for and that are not there.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LookupError {
    /// No node before this one has that name.
    #[error("node {path} asks for the output of {name:?}, which is no node before it")]
    NoSuchNode {
        /// Who asks.
        path: String,
        /// For what.
        name: String,
    },
    /// It is there, in another shape.
    #[error("node {path} asks for {name}, which has another shape: {error}")]
    Shape {
        /// Who asks.
        path: String,
        /// For what.
        name: String,
        /// What serde says.
        error: String,
    },
}

impl<K> fmt::Debug for Typed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Typed")
    }
}

impl<K: SagaKind> SagaType for Typed<K> {
    type ExecContextType = Execution<K>;
}

impl<K: SagaKind> fmt::Debug for Execution<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Execution of {} {}", K::NAME, self.live.key)
    }
}

impl<K: SagaKind> fmt::Debug for Step<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step")
            .field("saga", &self.saga())
            .field("node", &self.path)
            .field("attempt", &self.attempt)
            .finish()
    }
}

impl From<LookupError> for Fault {
    /// Whoever asks has had no effect in this attempt yet, and asking again does not help.
    fn from(error: LookupError) -> Fault {
        Fault::refused(CODE_LOOKUP, error.to_string())
    }
}

impl<K: SagaKind> Step<K> {
    pub(crate) fn of_action(
        context: Arc<ActionContext<Typed<K>>>,
        path: Arc<str>,
        attempt: u32,
        begun_before: bool,
    ) -> Step<K> {
        Step { context, path, attempt, begun_before, undoing: false }
    }

    pub(crate) fn of_undo(
        context: Arc<ActionContext<Typed<K>>>,
        path: Arc<str>,
        attempt: u32,
        begun_before: bool,
    ) -> Step<K> {
        Step { context, path, attempt, begun_before, undoing: true }
    }

    /// The same attempt once more.
    #[cfg(feature = "testing")]
    pub(crate) fn again(&self) -> Step<K> {
        let Step { attempt, begun_before, undoing, .. } = *self;
        Step {
            context: Arc::clone(&self.context),
            path: Arc::clone(&self.path),
            attempt,
            begun_before,
            undoing,
        }
    }

    /// Which saga.
    #[must_use]
    pub fn saga(&self) -> SagaId {
        self.live().key.id
    }

    /// The node's path: `node`, or `sub-saga/node`.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.path
    }

    /// Which attempt of this life of the coordinator, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// Whether an earlier life of a coordinator has begun this very thing, and may have had its effect.
    #[must_use]
    pub fn begun_before(&self) -> bool {
        self.begun_before
    }

    /// Whether the action is undone.
    #[must_use]
    pub fn is_undo(&self) -> bool {
        self.undoing
    }

    /// The same in every attempt and life, and of no other node: to be passed on to whoever makes effects only once.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.saga(), self.path)
    }

    /// The adoption under which this executes. Not what sleds are told as `executor_epoch`: that is the coordinator's, and
    /// the tools know it.
    #[must_use]
    pub fn adoption_epoch(&self) -> AdoptionEpoch {
        self.live().key.epoch
    }

    /// What the kind's actions may use.
    #[must_use]
    pub fn tools(&self) -> &K::Tools {
        &self.context.user_data().tools
    }

    /// The parameters: of the saga, or of the sub-saga that the node is in.
    ///
    /// # Errors
    /// They are of another shape.
    pub fn params<T: DeserializeOwned>(&self) -> Result<T, LookupError> {
        let shape = |error: String| LookupError::Shape {
            path: self.path.to_string(),
            name: "its parameters".to_owned(),
            error,
        };
        let value: Value = self.context.saga_params().map_err(|error| shape(error.to_string()))?;
        serde_json::from_value(value).map_err(|error| shape(error.to_string()))
    }

    /// The output of a node of this saga (or sub-saga) before this one. An undo can also see the output of its own
    /// node, except after an attempt whose effect nobody knows: then there is none.
    ///
    /// # Errors
    /// There is no such node, or its output is of another shape.
    pub fn output<T: DeserializeOwned>(&self, name: &str) -> Result<T, LookupError> {
        if !self.can_see(name) {
            return Err(LookupError::NoSuchNode { path: self.path.to_string(), name: name.to_owned() });
        }
        let shape = |error: String| LookupError::Shape {
            path: self.path.to_string(),
            name: format!("the output of {name}"),
            error,
        };
        let value: Value = self.context.lookup(name).map_err(|error| shape(error.to_string()))?;
        serde_json::from_value(value).map_err(|error| shape(error.to_string()))
    }

    /// Whether somebody has asked for the saga to be cancelled. The engine begins no further node then; an action that
    /// takes long may end early with `Refused`.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.live().cancelled().is_cancelled()
    }

    /// Waits until somebody asks for the saga to be cancelled.
    pub async fn cancelled(&self) {
        self.live().cancelled().cancelled().await;
    }

    /// Waits for a signal of this name, which may have come before. For a node that does nothing else.
    ///
    /// # Errors
    /// `Refused` once somebody has asked for the saga to be cancelled, if the signal has not come by then; never in an undo.
    pub async fn signal(&self, name: &str) -> Result<Value, Fault> {
        // Before the first look, so that what comes after it is not missed.
        let mut told = self.live().signals().subscribe();
        let awaited = loop {
            let (pause, waits) = match self.store().signal(self.saga(), name).await {
                Ok(Some(value)) => break Ok(value),
                Ok(None) => (SIGNAL_PAUSE, Waits::Signal(name.to_owned())),
                Err(error) => {
                    tracing::warn!(saga = %self.saga(), %error, "signals cannot be read");
                    (STORE_PAUSE, waits_for_store(&error))
                }
            };
            self.live().waits(&self.path, Some(waits));
            tokio::select! {
                // The sender is in what `self` holds, so this says that something has come, and nothing else.
                _ = told.changed() => {}
                () = tokio::time::sleep(pause) => {}
                () = self.cancelled(), if !self.undoing => break Err(cancelled("the signal")),
            }
        };
        self.live().waits(&self.path, None);
        awaited
    }

    /// Waits until a time that is durable: the sum of `pause` and the moment when this was first called, in whatever
    /// life of whatever coordinator.
    ///
    /// # Errors
    /// `Refused` if the pause ends after the end of the calendar, and once somebody has asked for the saga to be cancelled;
    /// the latter never in an undo.
    pub async fn sleep(&self, timer: &str, pause: Duration) -> Result<(), Fault> {
        let due = SignedDuration::try_from(pause)
            .ok()
            .and_then(|pause| Timestamp::now().checked_add(pause).ok())
            .ok_or_else(|| Fault::refused("timer", "the pause ends after the end of the calendar"))?;
        let name = format!("{}/{timer}", self.path);
        let due = loop {
            match self.store().timer(self.saga(), &name, due).await {
                Ok(due) => break due,
                Err(error) => {
                    tracing::warn!(saga = %self.saga(), %error, "a timer cannot be set");
                    self.live().waits(&self.path, Some(waits_for_store(&error)));
                }
            }
            tokio::select! {
                () = tokio::time::sleep(STORE_PAUSE) => {}
                () = self.cancelled(), if !self.undoing => {
                    self.live().waits(&self.path, None);
                    return Err(cancelled("the time"));
                }
            }
        };
        let left = Duration::try_from(due.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO);
        self.live().waits(&self.path, Some(Waits::Until(due)));
        let slept = tokio::select! {
            () = tokio::time::sleep(left) => Ok(()),
            () = self.cancelled(), if !self.undoing => Err(cancelled("the time")),
        };
        self.live().waits(&self.path, None);
        slept
    }

    /// Waits before the action, which has had no effect, looks again for what only time or people bring, such as room on a
    /// disk. What it waits for shows in these words.
    ///
    /// # Errors
    /// `Refused` once somebody has asked for the saga to be cancelled; never in an undo, which has to go on.
    pub async fn wait_for(&self, what: &str, pause: Duration) -> Result<(), Fault> {
        self.live().waits(&self.path, Some(Waits::For(what.to_owned())));
        let waited = tokio::select! {
            () = tokio::time::sleep(pause) => Ok(()),
            () = self.cancelled(), if !self.undoing => Err(cancelled("what it waited for")),
        };
        self.live().waits(&self.path, None);
        waited
    }

    /// How often an operator has asked for another try of the saga's undos, in this life of the coordinator.
    #[must_use]
    pub fn operator_retries(&self) -> u64 {
        self.live().verdicts().borrow().retries
    }

    fn can_see(&self, name: &str) -> bool {
        if self.live().nodes.can_see(&self.path, name) {
            return true;
        }
        // Its own output: steno has it in an undo of a node that has succeeded, and only there.
        let own = self.path.rsplit('/').next();
        self.undoing && own == Some(name) && self.has_succeeded()
    }

    fn has_succeeded(&self) -> bool {
        self.live().status().nodes.get(&*self.path).is_some_and(|node| node.event == "undo_started")
    }

    fn live(&self) -> &LiveSaga {
        &self.context.user_data().live
    }

    fn store(&self) -> &dyn SagaStore {
        self.context.user_data().store.as_ref()
    }
}

fn waits_for_store(fault: &StoreFault) -> Waits {
    Waits::For(format!("the database: {fault}"))
}

/// The fault of a node that waited when its saga was cancelled.
fn cancelled(awaited: &str) -> Fault {
    Fault::refused(CODE_CANCELLED, format!("the saga was cancelled before {awaited} came"))
}

/// The fault of a node whose executor stops.
pub(crate) fn stopped() -> Fault {
    Fault::unknown(CODE_STOPPED, "the executor has stopped here; the log stays as it is")
}
