//! Sagas as a listing of the database shows them.

use ids::{AdoptionEpoch, SagaId};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// A saga in the hands of one owner: adopted by another one, it has another key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub struct SagaKey {
    /// The saga.
    pub id: SagaId,
    /// How often it had changed hands.
    pub epoch: AdoptionEpoch,
}

impl fmt::Display for SagaKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (adoption {})", self.id, self.epoch)
    }
}

/// A row that has not ended and is owned by this coordinator.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnfinishedSaga {
    /// Which.
    pub key: SagaKey,
    /// Its kind, such as `demo`.
    pub kind: String,
    /// The version of the kind's definition that it was created with.
    pub version: u32,
}
