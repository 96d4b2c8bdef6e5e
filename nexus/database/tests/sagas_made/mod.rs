//! Sagas for tests of their store.

#![allow(dead_code, reason = "each test program uses some of it")]

use ids::{AdoptionEpoch, CoordinatorId, SagaId};
use jiff::Timestamp;
use nexus_database::{Database, DatabaseSagaStore};
use nexus_saga_recovery::SagaKey;
use nexus_sagas::{Cause, Created, EndState, Failure, NewSaga, NodeEvent, SagaStore, Written};
use serde_json::json;
use uuid::Uuid;

/// The store of a coordinator that nobody else is.
pub(crate) fn store_of(database: &Database) -> DatabaseSagaStore {
    DatabaseSagaStore::new(database.clone(), CoordinatorId::generate(), 1)
}

/// The epoch of the adoption, if there was one.
pub(crate) async fn adopt(store: &DatabaseSagaStore, key: SagaKey) -> Option<AdoptionEpoch> {
    let adopted = store.adopt(&[key]).await.unwrap();
    assert!(adopted.iter().all(|adopted| adopted.id == key.id), "{adopted:?}");
    adopted.first().map(|adopted| adopted.epoch)
}

pub(crate) fn new_saga(kind: &str, created: Timestamp) -> NewSaga {
    NewSaga {
        key: SagaKey { id: SagaId::generate(), epoch: AdoptionEpoch::default() },
        creation: Uuid::new_v4(),
        kind: kind.to_owned(),
        version: 1,
        digest: "00".repeat(32),
        params: json!({"of": kind}),
        dag: json!({"nodes": []}),
        created,
    }
}

/// A saga that is durable.
pub(crate) async fn created(store: &DatabaseSagaStore, kind: &str) -> SagaKey {
    let saga = new_saga(kind, Timestamp::UNIX_EPOCH);
    assert_eq!(store.create(&saga).await, Ok(Created::Ours));
    saga.key
}

pub(crate) fn line(node: u32, event: &str) -> NodeEvent {
    NodeEvent { node, event: event.to_owned(), body: json!({"event": event}) }
}

pub(crate) async fn write_line(store: &DatabaseSagaStore, key: SagaKey, node: u32, event: &str) {
    assert_eq!(store.append(key, &[line(node, event)]).await, Ok(Written::Now));
}

pub(crate) fn failure() -> Failure {
    Failure { node: "inner/one".to_owned(), cause: Cause::new("lost", "the sled is gone"), attempts: 4 }
}

pub(crate) async fn end(store: &DatabaseSagaStore, key: SagaKey, end: &EndState) {
    assert_eq!(store.end(key, end, &[]).await, Ok(Written::Now));
}
