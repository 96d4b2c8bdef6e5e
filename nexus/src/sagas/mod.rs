//! Sagas in the coordinator: the engine wired to the database, the tasks around it, and what an operator sees.
//!
//! ```text
//!   POST /v1/sagas/… ──► engine ──► database (rows, logs; fenced)
//!                          ▲            │ unfinished rows
//!                          │            ▼
//!                          └── recovery (background task)      retention (background task) ──► archive, then delete
//!   GET /v1/sagas ──► view: rows, and the engine's mirror in memory for those that are executed here
//! ```
//!
//! - [`kinds`]: which kinds there are. [`demo`]: the one for trying by hand, with its [`witness`].
//! - [`recovery`], [`retention`]: the background tasks.
//! - [`view`]: sagas as the API shows them. [`issues`], [`metrics`]: what is wrong with them, and numbers.
//!
//! How sagas work: `nexus-sagas`, `nexus-saga-recovery`, and `docs/SAGAS.md`.

pub mod demo;
pub mod issues;
pub mod kinds;
pub mod metrics;
pub mod recovery;
pub mod retention;
pub mod view;
pub mod witness;

use ids::CoordinatorId;
use nexus_database::{
    Database,
    sagas::{DatabaseSagaStore, SagaState, SagaSummary},
};
use nexus_saga_recovery::Claims;
use nexus_sagas::{Definition, Engine, Kinds, SagaStore};
use nexus_tasks::Activator;
use recovery::{GivenUp, RecoveryTask, Reported};
use std::{collections::BTreeMap, sync::Arc};
use view::Here;

/// Everything about sagas that handlers and tasks ask for. Cheap to clone.
#[derive(Clone)]
pub struct Sagas {
    /// Who executes them.
    pub engine: Engine,
    /// Which of them are executed here.
    pub claims: Claims,
    /// Where they are durable.
    pub store: DatabaseSagaStore,
    /// What recovery has done.
    pub recovered: Reported,
    /// Sagas that operators give up and that are not executed here.
    pub given_up: GivenUp,
    /// Asks for a pass of recovery.
    pub recovery: Activator,
    /// In whose name they are executed.
    pub coordinator: CoordinatorId,
}

impl std::fmt::Debug for Sagas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sagas").field("claims", &self.claims.totals()).finish_non_exhaustive()
    }
}

impl Sagas {
    /// What is known of a saga here beside its row.
    #[must_use]
    pub fn here(&self, row: &SagaSummary) -> Here {
        if self.is_left(row) {
            let is_capable = self.engine.is_capable(&row.kind, row.version);
            return view::left_to_recovery(row, is_capable, &self.recovered.now(&self.claims));
        }
        Here { live: self.engine.status(row.key.id), ..Here::default() }
    }

    /// Whether this coordinator owns the saga, which has not ended, and does not execute it.
    #[must_use]
    pub fn is_left(&self, row: &SagaSummary) -> bool {
        let is_ours = row.state == SagaState::Unfinished && row.owner == self.coordinator;
        is_ours && self.engine.status(row.key.id).is_none()
    }

    /// The nodes of a saga by steno's number; none if this build does not know its kind in that version.
    #[must_use]
    pub fn paths(&self, kind: &str, version: u32, params: &serde_json::Value) -> BTreeMap<u32, String> {
        if !self.engine.is_capable(kind, version) {
            return BTreeMap::new();
        }
        let definition = self.engine.define(kind, params);
        let nodes = |definition: Definition| {
            definition.nodes().map(|(number, path)| (number, path.to_owned())).collect()
        };
        definition.map(nodes).unwrap_or_default()
    }
}

/// An engine over this database, and the task that resumes on it what earlier lives have left.
#[must_use]
pub fn start(database: Database, coordinator: CoordinatorId, kinds: Kinds) -> (Sagas, RecoveryTask) {
    let store = DatabaseSagaStore::new(database, coordinator);
    let port: Arc<dyn SagaStore> = Arc::new(store.clone());
    let claims = Claims::new();
    let engine = Engine::new(Arc::clone(&port), claims.clone(), kinds);
    let recovery = Activator::new();
    let task = RecoveryTask::new(engine.clone(), claims.clone(), port, recovery.clone());
    let (recovered, given_up) = (task.reported(), task.given_up());
    (Sagas { engine, claims, store, recovered, given_up, recovery, coordinator }, task)
}
