//! What a saga kind is: a name, a version, actions by name, and a plan made of them. One file per kind implements
//! [`SagaKind`]; one line in a [`crate::Kinds`] registers it.

use crate::{
    fault::{CODE_OUTPUT, Fault},
    plan::{Plan, PlanRefused},
    policy::{RetryPolicy, UndoPolicy},
    step::Step,
};
use futures::{FutureExt, future::BoxFuture};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};

/// A kind of saga.
pub trait SagaKind: Sized + Send + Sync + 'static {
    /// Its name, for rows, operators and metrics.
    const NAME: &'static str;
    /// Of its definition. To be raised with every change of nodes, order, action names, or of what an action makes of
    /// the outputs and parameters that an older build has logged.
    const VERSION: u32;
    /// What one saga is started with.
    type Params: Serialize + DeserializeOwned + Send + Sync + 'static;
    /// What its actions may use: narrow capabilities, never the whole server.
    type Tools: Send + Sync + 'static;

    /// Names the actions.
    fn actions(actions: &mut Actions<Self>);

    /// Plans one saga. Of the same parameters always the same plan: it is made again at each recovery.
    ///
    /// # Errors
    /// Nothing can be planned of these parameters.
    fn plan(params: &Self::Params, plan: &mut Plan) -> Result<(), PlanRefused>;
}

/// The actions of a kind, by name.
pub struct Actions<K: SagaKind> {
    specs: BTreeMap<String, ActionSpec<K>>,
    repeated: Vec<String>,
}

type DoFunction<K> = Arc<dyn Fn(Step<K>) -> BoxFuture<'static, Result<Value, Fault>> + Send + Sync>;
pub(crate) type UndoFunction<K> = Arc<dyn Fn(Step<K>) -> BoxFuture<'static, Result<(), Fault>> + Send + Sync>;

/// One action: what it does, how that is undone, and how often each is tried.
pub struct ActionSpec<K: SagaKind> {
    pub(crate) does: DoFunction<K>,
    pub(crate) undoes: Option<UndoFunction<K>>,
    pub(crate) retry: RetryPolicy,
    pub(crate) undo_retry: UndoPolicy,
}

impl<K: SagaKind> Clone for ActionSpec<K> {
    fn clone(&self) -> Self {
        ActionSpec {
            does: Arc::clone(&self.does),
            undoes: self.undoes.clone(),
            retry: self.retry,
            undo_retry: self.undo_retry,
        }
    }
}

impl<K: SagaKind> fmt::Debug for ActionSpec<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActionSpec")
            .field("kind", &K::NAME)
            .field("undone", &self.undoes.is_some())
            .field("retry", &self.retry)
            .field("undo_retry", &self.undo_retry)
            .finish()
    }
}

impl<K: SagaKind> Actions<K> {
    /// All actions that the kind names.
    pub(crate) fn of_kind() -> Actions<K> {
        let mut actions = Actions { specs: BTreeMap::new(), repeated: Vec::new() };
        K::actions(&mut actions);
        actions
    }

    /// Names an action. It runs at least once, and perhaps again after a crash: with the same [`Step::idempotency_key`].
    /// Its output is written to the log, and is there for later nodes.
    pub fn add<Output, Doing>(
        &mut self,
        name: impl Into<String>,
        does: impl Fn(Step<K>) -> Doing + Send + Sync + 'static,
    ) -> &mut ActionSpec<K>
    where
        Output: Serialize,
        Doing: Future<Output = Result<Output, Fault>> + Send + 'static,
    {
        let does: DoFunction<K> = Arc::new(move |step| {
            let doing = does(step);
            async move { doing.await.and_then(|output| to_log(&output)) }.boxed()
        });
        let spec = ActionSpec {
            does,
            undoes: None,
            retry: RetryPolicy::default(),
            undo_retry: UndoPolicy::default(),
        };
        let name = name.into();
        if self.specs.contains_key(&name) {
            self.repeated.push(name.clone());
        }
        self.specs.entry(name).or_insert(spec)
    }

    /// Action names that were used twice.
    pub(crate) fn repeated(&self) -> &[String] {
        &self.repeated
    }

    pub(crate) fn into_specs(self) -> BTreeMap<String, ActionSpec<K>> {
        self.specs
    }
}

impl<K: SagaKind> ActionSpec<K> {
    /// How the effect is taken back. Runs at least once, perhaps though there is no effect (after an attempt whose
    /// effect nobody knows; then the node has no output), and must not mind.
    pub fn undo<Undoing>(
        &mut self,
        undoes: impl Fn(Step<K>) -> Undoing + Send + Sync + 'static,
    ) -> &mut ActionSpec<K>
    where
        Undoing: Future<Output = Result<(), Fault>> + Send + 'static,
    {
        self.undoes = Some(Arc::new(move |step| undoes(step).boxed()));
        self
    }

    /// When the action is tried again.
    pub fn retry(&mut self, policy: RetryPolicy) -> &mut ActionSpec<K> {
        self.retry = policy;
        self
    }

    /// When the undo is tried again.
    pub fn undo_retry(&mut self, policy: UndoPolicy) -> &mut ActionSpec<K> {
        self.undo_retry = policy;
        self
    }
}

/// An output that cannot be serialised comes of an action that has had its effect.
fn to_log(output: &impl Serialize) -> Result<Value, Fault> {
    serde_json::to_value(output).map_err(|error| Fault::unknown(CODE_OUTPUT, error.to_string()))
}
