//! The coordinator's own store, over any database that it can have.

use crate::backend::Real;
use ids::CoordinatorId;
use nexus_database::{Database, DatabaseSagaStore};
use nexus_sagas::SagaStore;
use std::sync::Arc;
use tokio::runtime::Handle;
use uuid::Uuid;

/// Runs at a time. They share commits: as many as the clients of the busiest coordinator that is measured.
const RUNS_AT_A_TIME: usize = 64;

impl Real {
    /// The sagas of a database that was opened on `runtime`, which has threads of its own.
    #[must_use]
    pub fn on(name: impl Into<String>, runtime: Handle, database: Database) -> Real {
        // One identity per coordinator, whatever its life.
        let of = move |number: u32| -> Arc<dyn SagaStore> {
            Arc::new(DatabaseSagaStore::new(
                database.clone(),
                CoordinatorId(Uuid::from_u128(number.into())),
                1,
            ))
        };
        Real::new(name, runtime, RUNS_AT_A_TIME, of)
    }
}
