//! The kinds of this build, each with its tools. The engine sees them through one object-safe door.

use crate::{
    definition::{Definition, DefinitionError, Maker},
    kind::{Actions, SagaKind},
    live::LiveSaga,
    node_action::NodeAction,
    plan::Plan,
    ports::SagaStore,
    step::{Execution, Typed},
};
use async_trait::async_trait;
use futures::future::BoxFuture;
use newtype_uuid::GenericUuid;
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use steno::{ActionRegistry, SagaNodeEvent, SagaResult, SecClient};
use thiserror::Error;

/// All kinds that this build can execute.
#[derive(Default)]
pub struct Kinds {
    kinds: BTreeMap<&'static str, Arc<dyn AnyKind>>,
    #[cfg(feature = "testing")]
    interposer: Option<Arc<dyn crate::interpose::Interposer>>,
}

/// An action that a kind names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownAction {
    /// Its name.
    pub name: String,
    /// Whether it says how its effect is taken back.
    pub is_undone: bool,
}

/// A kind that cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RegisterError {
    /// There is one of this name.
    #[error("there are two saga kinds {name}")]
    DuplicateKind {
        /// The name.
        name: &'static str,
    },
    /// It names an action twice.
    #[error("the saga kind {kind} has two actions {action}")]
    DuplicateAction {
        /// The kind's name.
        kind: &'static str,
        /// The action's name.
        action: String,
    },
}

/// A kind with its types forgotten.
#[async_trait]
pub(crate) trait AnyKind: Send + Sync {
    fn name(&self) -> &'static str;
    fn version(&self) -> u32;
    fn named(&self) -> &[KnownAction];
    fn define(&self, params: &Value) -> Result<Definition, DefinitionError>;
    /// Hands a saga to a SEC, which does not start it yet.
    async fn hand_over(&self, handing: Handing<'_>) -> Result<BoxFuture<'static, SagaResult>, anyhow::Error>;
}

/// What a SEC is handed.
pub(crate) struct Handing<'a> {
    pub(crate) sec: &'a SecClient,
    pub(crate) live: Arc<LiveSaga>,
    pub(crate) store: Arc<dyn SagaStore>,
    pub(crate) what: What,
}

pub(crate) enum What {
    New(Definition),
    Stored { dag: Value, log: Vec<SagaNodeEvent> },
}

struct Registered<K: SagaKind> {
    tools: Arc<K::Tools>,
    actions: Arc<ActionRegistry<Typed<K>>>,
    named: Vec<KnownAction>,
}

impl Kinds {
    /// None.
    #[must_use]
    pub fn new() -> Kinds {
        Kinds::default()
    }

    /// None yet, and of each that is added `interposer` stands before its actions and undos.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn interposed(interposer: Arc<dyn crate::interpose::Interposer>) -> Kinds {
        Kinds { interposer: Some(interposer), ..Kinds::default() }
    }

    /// Registers a kind with what its actions may use.
    ///
    /// # Errors
    /// A name occurs twice.
    pub fn add<K: SagaKind>(&mut self, tools: Arc<K::Tools>) -> Result<&mut Kinds, RegisterError> {
        if self.kinds.contains_key(K::NAME) {
            return Err(RegisterError::DuplicateKind { name: K::NAME });
        }
        let named = Actions::<K>::of_kind();
        if let Some(action) = named.repeated().first() {
            return Err(RegisterError::DuplicateAction { kind: K::NAME, action: action.clone() });
        }
        let mut actions = ActionRegistry::new();
        let mut known = Vec::new();
        for (name, spec) in named.into_specs() {
            #[cfg(feature = "testing")]
            let spec = match &self.interposer {
                Some(interposer) => crate::interpose::interposed(interposer, &name, spec),
                None => spec,
            };
            known.push(KnownAction { name: name.clone(), is_undone: spec.undoes.is_some() });
            actions.register(Arc::new(NodeAction { name, spec }));
        }
        let registered = Registered::<K> { tools, actions: Arc::new(actions), named: known };
        self.kinds.insert(K::NAME, Arc::new(registered));
        Ok(self)
    }

    /// Names and versions.
    pub fn known(&self) -> impl Iterator<Item = (&'static str, u32)> {
        self.kinds.values().map(|kind| (kind.name(), kind.version()))
    }

    /// The actions that a kind names; none if there is no such kind.
    #[must_use]
    pub fn actions_of(&self, kind: &str) -> Option<&[KnownAction]> {
        self.kinds.get(kind).map(|kind| kind.named())
    }

    /// What a saga of these parameters would be. For golden files.
    ///
    /// # Errors
    /// There is no such kind, or its plan is refused.
    pub fn define(&self, kind: &str, params: &Value) -> Result<Definition, DefinitionError> {
        let known = self.get(kind).ok_or_else(|| DefinitionError::UnknownKind { kind: kind.to_owned() })?;
        known.define(params)
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<dyn AnyKind>> {
        self.kinds.get(name)
    }
}

#[async_trait]
impl<K: SagaKind> AnyKind for Registered<K> {
    fn name(&self) -> &'static str {
        K::NAME
    }

    fn version(&self) -> u32 {
        K::VERSION
    }

    fn named(&self) -> &[KnownAction] {
        &self.named
    }

    fn define(&self, params: &Value) -> Result<Definition, DefinitionError> {
        let typed = serde_json::from_value(params.clone()).map_err(|error| DefinitionError::Params {
            kind: K::NAME.to_owned(),
            error: error.to_string(),
        })?;
        let mut plan = Plan::default();
        K::plan(&typed, &mut plan)
            .map_err(|source| DefinitionError::Refused { kind: K::NAME.to_owned(), source })?;
        let maker = Maker { kind: K::NAME, version: K::VERSION, actions: &self.actions };
        maker.define(&plan, params.clone())
    }

    async fn hand_over(&self, handing: Handing<'_>) -> Result<BoxFuture<'static, SagaResult>, anyhow::Error> {
        let Handing { sec, live, store, what } = handing;
        let id = steno::SagaId::from_untyped_uuid(live.key.id.0);
        let execution = Arc::new(Execution::<K> { live, tools: Arc::clone(&self.tools), store });
        let actions = Arc::clone(&self.actions);
        match what {
            What::New(definition) => sec.saga_create(id, execution, definition.dag, actions).await,
            What::Stored { dag, log } => sec.saga_resume(id, execution, dag, actions, log).await,
        }
    }
}
