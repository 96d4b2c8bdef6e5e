//! What the author of a kind gives: parameters, a world with its invariants, and operations that may come between.

use futures::{FutureExt, future::BoxFuture};
use ids::SagaId;
use nexus_sagas::{EndState, Engine, Kinds, RegisterError, SagaKind, SagaStore};
use serde_json::Value;
use std::{collections::BTreeMap, fmt, future::Future, sync::Arc};

/// Where a saga has its effects: what its tools reach. Each run has one of its own, fresh.
pub trait World: Send + Sync + 'static {
    /// The effects that are there and that a saga which fails must not leave: idempotency key → how often. An effect of
    /// a node with several may be `key#which`. 0 may be left out; what is there is to be there once.
    fn effects(&self) -> BTreeMap<String, i64>;

    /// What must hold at every moment, or at that one.
    ///
    /// # Errors
    /// In words, what does not hold.
    fn check(&self, moment: Moment<'_>) -> Result<(), String>;
}

/// When a world is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment<'a> {
    /// A write is about to be made; other nodes of a stage may be half way through.
    Before {
        /// As scenarios name it, such as `started:left`.
        write: &'a str,
    },
    /// An operation has run while the saga is held.
    After {
        /// Its name.
        operation: &'a str,
    },
    /// Every saga has ended.
    End,
}

/// One way to run a kind.
pub struct Case<W: World> {
    pub(crate) kind: &'static str,
    pub(crate) version: u32,
    pub(crate) name: String,
    pub(crate) params: Value,
    pub(crate) world: Box<dyn Fn() -> Arc<W> + Send + Sync>,
    pub(crate) register: Register<W>,
    pub(crate) operations: Vec<Operation<W>>,
    pub(crate) signals: Vec<(String, Value)>,
    pub(crate) operator: Option<Verdict>,
}

/// What an operator says of an undo that does not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Try it again.
    Retry,
    /// Give it up.
    Abandon,
}

type Register<W> = Box<dyn Fn(&mut Kinds, &Arc<W>) -> Result<(), RegisterError> + Send + Sync>;
type Operating<W> = Arc<dyn Fn(Gap<W>) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Something that may be done between any two writes of a saga.
pub struct Operation<W: World> {
    pub(crate) name: String,
    pub(crate) removes_effects: bool,
    pub(crate) run: Operating<W>,
}

/// A saga that is held, for an operation.
pub struct Gap<W: World> {
    pub(crate) world: Arc<W>,
    pub(crate) engine: Engine,
    pub(crate) store: Arc<dyn SagaStore>,
    pub(crate) saga: SagaId,
    pub(crate) place: String,
    pub(crate) next_id: SagaId,
}

impl<W: World> fmt::Debug for Case<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Case").field("case", &self.full_name()).field("params", &self.params).finish()
    }
}

impl<W: World> Case<W> {
    /// A case of that name. `world` makes a fresh one for each run; `register` adds the kinds whose tools reach it: this
    /// one, and those that operations start.
    ///
    /// # Panics
    /// The parameters cannot be serialised.
    pub fn of<K: SagaKind>(
        name: impl Into<String>,
        params: &K::Params,
        world: impl Fn() -> Arc<W> + Send + Sync + 'static,
        register: impl Fn(&mut Kinds, &Arc<W>) -> Result<(), RegisterError> + Send + Sync + 'static,
    ) -> Case<W> {
        Case {
            kind: K::NAME,
            version: K::VERSION,
            name: name.into(),
            params: serde_json::to_value(params).expect("parameters of a saga are serialisable"),
            world: Box::new(world),
            register: Box::new(register),
            operations: Vec::new(),
            signals: Vec::new(),
            operator: None,
        }
    }

    /// With an operation more, to be run at every gap.
    #[must_use]
    pub fn operation(mut self, operation: Operation<W>) -> Case<W> {
        self.operations.push(operation);
        self
    }

    /// With a signal that each saga of the kind has from its start, because it would wait for it.
    #[must_use]
    pub fn signal(mut self, name: impl Into<String>, value: Value) -> Case<W> {
        self.signals.push((name.into(), value));
        self
    }

    /// By its parameters, undos of the kind fail until an operator says this. Of other kinds, or without it, a saga that needs
    /// attention is a finding, unless its scenario has told an undo to fail for ever.
    #[must_use]
    pub fn operator(mut self, verdict: Verdict) -> Case<W> {
        self.operator = Some(verdict);
        self
    }

    pub(crate) fn full_name(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    pub(crate) fn operation_of(&self, name: &str) -> Option<&Operation<W>> {
        self.operations.iter().find(|operation| operation.name == name)
    }
}

impl Verdict {
    /// As scenarios say it.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Verdict::Retry => "retry",
            Verdict::Abandon => "abandon",
        }
    }
}

impl<W: World> Operation<W> {
    /// An operation. An error of it is a finding; what may well be refused is not an error.
    pub fn new<Doing>(
        name: impl Into<String>,
        run: impl Fn(Gap<W>) -> Doing + Send + Sync + 'static,
    ) -> Operation<W>
    where
        Doing: Future<Output = Result<(), String>> + Send + 'static,
    {
        let run: Operating<W> = Arc::new(move |gap| run(gap).boxed());
        Operation { name: name.into(), removes_effects: false, run }
    }

    /// It takes effects away that a saga which succeeds has left: afterwards they may be missing, never doubled.
    #[must_use]
    pub fn removes_effects(mut self) -> Operation<W> {
        self.removes_effects = true;
        self
    }
}

impl<W: World> Gap<W> {
    /// The world of this run.
    #[must_use]
    pub fn world(&self) -> &W {
        &self.world
    }

    /// The saga that is held.
    #[must_use]
    pub fn saga(&self) -> SagaId {
        self.saga
    }

    /// Where it is held, as scenarios name it.
    #[must_use]
    pub fn place(&self) -> &str {
        &self.place
    }

    /// The engine that executes it: for an operator's verbs, and for other sagas.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Runs another saga to its end while this one is held. At most once in an operation.
    ///
    /// # Errors
    /// It is not started, or does not end here.
    pub async fn run_saga(&self, kind: &str, params: Value) -> Result<EndState, String> {
        let id = self.next_id;
        self.engine.start_as(id, kind, params).await.map_err(|error| format!("{error}: not started"))?;
        let end = self.engine.wait(id).await.map_err(|error| error.to_string())?;
        end.ok_or_else(|| format!("the other saga of kind {kind} has not ended"))
    }

    /// Keeps a signal for the saga that is held.
    ///
    /// # Errors
    /// The store does not take it.
    pub async fn signal(&self, name: &str, value: &Value) -> Result<(), String> {
        self.store.put_signal(self.saga, name, value).await.map_err(|error| error.to_string())
    }
}
