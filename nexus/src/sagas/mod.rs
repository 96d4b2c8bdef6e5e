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
//! - [`recovery`]: the background task.
//! - [`issues`], [`metrics`]: what is wrong with them, and numbers.
//!
//! How sagas work: `nexus-sagas`, `nexus-saga-recovery`, and `docs/SAGAS.md`.

pub mod demo;
pub mod issues;
pub mod kinds;
pub mod metrics;
pub mod recovery;
pub mod witness;

use ids::CoordinatorId;
use nexus_database::{Database, sagas::DatabaseSagaStore};
use nexus_saga_recovery::Claims;
use nexus_sagas::{Engine, Kinds, SagaStore};
use nexus_tasks::Activator;
use recovery::{RecoveryTask, Reported};
use std::sync::Arc;

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

/// An engine over this database, and the task that resumes on it what earlier lives have left.
#[must_use]
pub fn start(database: Database, coordinator: CoordinatorId, kinds: Kinds) -> (Sagas, RecoveryTask) {
    let store = DatabaseSagaStore::new(database, coordinator);
    let port: Arc<dyn SagaStore> = Arc::new(store.clone());
    let claims = Claims::new();
    let engine = Engine::new(Arc::clone(&port), claims.clone(), kinds);
    let recovery = Activator::new();
    let task = RecoveryTask::new(engine.clone(), claims.clone(), port, recovery.clone());
    let recovered = task.reported();
    (Sagas { engine, claims, store, recovered, recovery, coordinator }, task)
}
