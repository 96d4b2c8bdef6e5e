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
//! - [`recovery`], with [`mod@resume`], and [`retention`]: the background tasks. [`given_up`]: what operators tell the first
//!   one. [`reported`]: what it tells everybody.
//! - [`known`]: what is known of them beside their rows. [`find`]: which do what is asked for.
//! - [`view`]: sagas as the API shows them. [`issues`], [`metrics`]: what is wrong with them, and numbers.
//!
//! How sagas work: `nexus-sagas`, `nexus-saga-recovery`, and `docs/SAGAS.md`.

pub mod demo;
pub mod find;
pub mod given_up;
pub mod issues;
pub mod kinds;
pub mod known;
pub mod metrics;
pub mod recovery;
pub mod reported;
mod resume;
pub mod retention;
pub mod view;
pub mod witness;

use given_up::GivenUp;
use ids::CoordinatorId;
use nexus_database::{
    Database,
    cluster::CoordinatorRow,
    sagas::{DatabaseSagaStore, SagaState, SagaSummary},
};
use nexus_saga_recovery::Claims;
use nexus_sagas::{Definition, Engine, Kinds, SagaStore};
use nexus_tasks::Activator;
use recovery::RecoveryTask;
use reported::Reported;
use std::{collections::BTreeMap, sync::Arc};

/// Everything about sagas that handlers and tasks ask for. Cheap to clone.
#[derive(Clone)]
pub struct Sagas {
    /// Who executes them.
    pub engine: Engine,
    /// Which of them are executed here.
    pub claims: Claims,
    /// What has their rows.
    pub database: Database,
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
    /// Whether this coordinator owns the saga, which has not ended, and does not execute it.
    #[must_use]
    pub fn is_left(&self, row: &SagaSummary) -> bool {
        let is_ours = row.state == SagaState::Unfinished && row.owner == Some(self.coordinator);
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
pub fn start(database: Database, coordinator: &CoordinatorRow, kinds: Kinds) -> (Sagas, RecoveryTask) {
    let CoordinatorRow { id: coordinator, epoch, .. } = *coordinator;
    let store = DatabaseSagaStore::new(database.clone(), coordinator, epoch);
    let port: Arc<dyn SagaStore> = Arc::new(store.clone());
    let claims = Claims::new();
    let engine = Engine::new(port, claims.clone(), kinds);
    let recovery = Activator::new();
    let task = RecoveryTask::new(engine.clone(), claims.clone(), store.clone(), recovery.clone());
    let (recovered, given_up) = (task.reported(), task.given_up());
    (Sagas { engine, claims, database, store, recovered, given_up, recovery, coordinator }, task)
}
