//! From a plan of recovery to sagas that can be executed on, many at a time: adopt, and load what was adopted. In this
//! order; why, `nexus-saga-recovery` says.
//!
//! | step | a crash after it leaves |
//! |---|---|
//! | epochs raised, durably: nothing of an earlier adoption comes to these logs any more | rows that are listed and adopted again |
//! | rows and logs loaded | the same |

use crate::{
    ports::{SagaStore, StoreFault},
    types::StoredSaga,
};
use ids::SagaId;
use nexus_saga_recovery::{Adopted, Resuming, SagaKey};
use std::collections::BTreeMap;

/// A saga that cannot be executed on, in this pass.
#[derive(Debug)]
pub struct NotTaken {
    /// Which, and the adoption under which it was listed.
    pub listed: SagaKey,
    /// Its adoption, if it was adopted.
    pub adopted: Option<Adopted>,
    /// Why not.
    pub words: String,
}

/// Adopts sagas and loads their logs.
pub async fn take(
    store: &dyn SagaStore,
    batch: Vec<Resuming>,
) -> Vec<Result<(Adopted, StoredSaga), NotTaken>> {
    let listed: Vec<_> = batch.iter().map(Resuming::key).collect();
    let epochs = match store.adopt(&listed).await {
        Ok(adopted) => adopted.into_iter().map(|key| (key.id, key.epoch)).collect::<BTreeMap<_, _>>(),
        Err(fault) => return not_adopted(batch, &fault),
    };
    let adopted: Vec<_> = epochs.keys().copied().collect();
    let (mut stored, words) = load(store, &adopted).await;
    let taken = |resuming: Resuming| {
        let listed = resuming.key();
        let Some(&epoch) = epochs.get(&listed.id) else {
            let words = "it has ended or was adopted a moment ago: by another coordinator, or by this one, whose answer \
                         was lost; the next pass tells"
                .to_owned();
            return Err(NotTaken { listed, adopted: None, words });
        };
        let adopted = resuming.adopted(epoch);
        match stored.remove(&listed.id) {
            Some(stored) => Ok((adopted, stored)),
            None => Err(NotTaken { listed, adopted: Some(adopted), words: words.clone() }),
        }
    };
    batch.into_iter().map(taken).collect()
}

fn not_adopted(batch: Vec<Resuming>, fault: &StoreFault) -> Vec<Result<(Adopted, StoredSaga), NotTaken>> {
    let words = format!("it cannot be adopted: {fault}");
    let not_taken =
        |resuming: Resuming| Err(NotTaken { listed: resuming.key(), adopted: None, words: words.clone() });
    batch.into_iter().map(not_taken).collect()
}

/// What could be loaded, and why what could not be could not.
async fn load(store: &dyn SagaStore, sagas: &[SagaId]) -> (BTreeMap<SagaId, StoredSaga>, String) {
    match store.load(sagas).await {
        Ok(stored) => (
            stored.into_iter().map(|saga| (saga.row.key.id, saga)).collect(),
            "its row is gone, or cannot be read: the log says which".to_owned(),
        ),
        Err(fault) => (BTreeMap::new(), format!("its log cannot be read: {fault}")),
    }
}
