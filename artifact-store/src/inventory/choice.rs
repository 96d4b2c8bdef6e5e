//! Which config is in force after the ledgers of the datasets were read. Pure.
//!
//! | situation | in force |
//! |---|---|
//! | no ledger, no `config` record anywhere | none: the store is new |
//! | valid ledgers of one cluster | the highest generation among them |
//! | … but records of that cluster tell of a higher generation | none: what was in force cannot be read, and going back could delete what it wants |
//! | only damaged ledgers | none; records, if any, bound what may come next from below |
//! | ledgers of several clusters | the cluster of the first dataset that has one; the others are foreign and not used |

use crate::{
    config::StoreArtifactsConfig,
    inventory::{DatasetIndex, Inventory},
    ledger::LedgerCopy,
    records::Floor,
};
use ids::ClusterId;
use std::sync::Arc;

/// What the ledgers and records of all datasets amount to.
#[derive(Debug)]
pub(super) struct Choice {
    pub(super) in_force: Option<Arc<StoreArtifactsConfig>>,
    pub(super) floor: Option<Floor>,
    /// Datasets that belong to another cluster, and to which.
    pub(super) foreign: Vec<(DatasetIndex, ClusterId)>,
}

impl Inventory {
    /// What is in force, from what is in force already and what the readable datasets say.
    pub(super) fn choose_config(&self) -> Choice {
        let known = self.in_force.as_ref().map(|config| Floor::of(config)).or(self.floor);
        let readable = || self.datasets.iter().enumerate().filter(|(_, state)| state.health.is_readable());
        let claims = |index: DatasetIndex| {
            let state = &self.datasets[index];
            let ledger = match &state.ledger {
                LedgerCopy::Valid(config) => Some(Floor::of(config)),
                LedgerCopy::Absent | LedgerCopy::Unreadable(_) => None,
            };
            // A valid ledger says whose the dataset is; records only where there is none.
            ledger.into_iter().chain(
                state.floor.filter(|floor| ledger.is_none_or(|ledger| ledger.cluster_id == floor.cluster_id)),
            )
        };
        let all = known.into_iter().chain(readable().flat_map(|(index, _)| claims(index)));
        let Some(ours) = all.clone().map(|floor| floor.cluster_id).next() else {
            return Choice { in_force: None, floor: None, foreign: Vec::new() };
        };
        let floor = all.filter(|floor| floor.cluster_id == ours).max_by_key(|floor| floor.generation);
        let mut in_force = self.in_force.clone();
        for (_, state) in readable() {
            if let LedgerCopy::Valid(config) = &state.ledger
                && config.cluster_id == ours
                && in_force.as_ref().is_none_or(|known| known.generation < config.generation)
            {
                in_force = Some(Arc::clone(config));
            }
        }
        // Below the floor only at the start: later, what is in force is part of the floor.
        in_force = in_force.filter(|config| floor.is_none_or(|floor| config.generation >= floor.generation));
        let foreign = readable()
            .filter_map(|(index, _)| {
                let theirs = claims(index).next()?.cluster_id;
                (theirs != ours).then_some((index, theirs))
            })
            .collect();
        Choice { in_force, floor, foreign }
    }
}
