//! What this coordinator knows of sagas beside their rows: what those that it executes do, what recovery has made of the others
//! that it owns, and who owns those that are not its own. Of one moment, for all the rows of an answer.

use super::{
    Sagas,
    reported::UnreadableSagas,
    view::{self, Here},
};
use ids::{CoordinatorId, SagaId};
use nexus_client::sagas::SagaElsewhere;
use nexus_database::{
    DatabaseError,
    cluster::CoordinatorRow,
    sagas::{SagaState, SagaSummary},
};
use std::collections::{BTreeMap, BTreeSet};

/// What is known.
#[derive(Debug)]
pub struct Known {
    sagas: Sagas,
    failing: BTreeMap<SagaId, String>,
    lost: BTreeSet<SagaId>,
    unreadable: UnreadableSagas,
    coordinators: BTreeMap<CoordinatorId, CoordinatorRow>,
}

impl Sagas {
    /// What is known of these rows.
    ///
    /// # Errors
    /// Coordinators cannot be read; they are, if a row is another one's.
    pub async fn known(&self, rows: impl IntoIterator<Item = &SagaSummary>) -> Result<Known, DatabaseError> {
        let coordinators = match rows.into_iter().any(|row| self.is_elsewhere(row)) {
            true => self.database.coordinators().await?,
            false => Vec::new(),
        };
        Ok(Known {
            sagas: self.clone(),
            failing: self.recovered.failing(),
            lost: self.claims.lost().into_iter().collect(),
            unreadable: self.recovered.unreadable(),
            coordinators: coordinators.into_iter().map(|row| (row.id, row)).collect(),
        })
    }

    /// Whether another coordinator owns the saga, which has not ended.
    #[must_use]
    pub fn is_elsewhere(&self, row: &SagaSummary) -> bool {
        row.state == SagaState::Unfinished && row.owner.is_some_and(|owner| owner != self.coordinator)
    }
}

impl Known {
    /// What is known of one saga.
    #[must_use]
    pub fn of(&self, row: &SagaSummary) -> Here {
        let sagas = &self.sagas;
        let left = sagas.is_left(row).then(|| {
            let is_capable = sagas.engine.is_capable(&row.kind, row.version);
            let failing = self.failing.get(&row.key.id).map(String::as_str);
            match self.lost.contains(&row.key.id) {
                true => view::lost(),
                false => view::left_to_recovery(row, is_capable, failing),
            }
        });
        let owner = row.owner.filter(|_| sagas.is_elsewhere(row));
        Here {
            live: sagas.engine.status(row.key.id),
            unreadable: self.unreadable.sagas.get(&row.key.id).cloned(),
            elsewhere: owner.map(|owner| {
                let known = self.coordinators.get(&owner);
                SagaElsewhere {
                    coordinator_name: known.map(|row| row.name.clone()),
                    started_at: known.map(|row| row.started_at),
                }
            }),
            ..left.unwrap_or_default()
        }
    }
}
