//! The coordinator's own store, over any database that it can have.

use crate::backend::Real;
use ids::{AdoptionEpoch, CoordinatorId};
use nexus_database::{Database, DatabaseSagaStore};
use nexus_saga_recovery::SagaKey;
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
        let of = move |number: u32| {
            DatabaseSagaStore::new(database.clone(), CoordinatorId(Uuid::from_u128(number.into())))
        };
        let by = of.clone();
        Real::new(
            name,
            runtime,
            RUNS_AT_A_TIME,
            move |number| Arc::new(of(number)),
            move |saga: SagaKey, number| {
                let store = by(number);
                async move {
                    let adopted =
                        store.adopt(saga.id, saga.epoch).await.map_err(|error| error.to_string())?;
                    let epoch: AdoptionEpoch = adopted.ok_or("it has changed")?;
                    Ok(SagaKey { epoch, ..saga })
                }
            },
        )
    }
}
