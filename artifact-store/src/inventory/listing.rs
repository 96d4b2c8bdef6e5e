//! The inventory as others see it. Pure projection; decides nothing.

use crate::{
    config::DatasetConfig,
    inventory::{Copy, DatasetState, Inventory, Standing},
    status::{DatasetReport, ListedArtifact, QuarantinedCopy, StoreListing},
};
use ids::ArtifactHash;
use std::collections::BTreeMap;

impl Inventory {
    /// What the store holds, with the datasets' names from `configs` and the bytes that running writes have in `tmp`.
    pub(crate) fn listing(&self, configs: &[DatasetConfig], writing_bytes: &[u64]) -> StoreListing {
        let datasets = self.datasets.iter().zip(configs).zip(writing_bytes);
        StoreListing {
            cluster_id: self.in_force.as_ref().map(|config| config.cluster_id),
            generation: self.generation(),
            list: self.listed(),
            datasets: datasets.map(|((state, config), writing)| state.report(config, *writing)).collect(),
            orphan_bytes: self.sum_of_copies(|hash, _| !self.wants(hash), |copy| copy.stamp.size),
            trash_bytes: self.datasets.iter().flat_map(|state| state.trash.values()).sum(),
            unverified: self
                .sum_of_copies(|hash, copy| self.wants(hash) && copy.standing.waits_for_hash(), |_| 1),
            quarantined: self.quarantined_copies(configs),
            scrub: self.scrub.report,
            revision: self.revision,
        }
    }

    /// Wanted artifacts with a verified copy that can be read.
    fn listed(&self) -> BTreeMap<ArtifactHash, ListedArtifact> {
        let mut list: BTreeMap<ArtifactHash, ListedArtifact> = BTreeMap::new();
        let Some(config) = &self.in_force else { return list };
        for state in self.datasets.iter().filter(|state| state.health.is_readable()) {
            for (hash, copy) in &state.copies {
                let Standing::Verified { at } = copy.standing else { continue };
                if config.artifacts.contains(hash) {
                    let first = ListedArtifact { copies: 0, size: copy.stamp.size, verified_at: at };
                    let listed = list.entry(*hash).or_insert(first);
                    listed.copies += 1;
                    listed.verified_at = listed.verified_at.min(at);
                }
            }
        }
        list
    }

    fn sum_of_copies(
        &self,
        counts: impl Fn(&ArtifactHash, &Copy) -> bool,
        amount: impl Fn(&Copy) -> u64,
    ) -> u64 {
        let copies = self.datasets.iter().flat_map(|state| &state.copies);
        copies.filter(|(hash, copy)| counts(hash, copy)).map(|(_, copy)| amount(copy)).sum()
    }

    fn quarantined_copies(&self, configs: &[DatasetConfig]) -> Vec<QuarantinedCopy> {
        let of = |(state, config): (&DatasetState, &DatasetConfig)| {
            let condemned = state.copies.iter().filter_map(|(hash, copy)| match copy.standing {
                Standing::Condemned { at } => Some((*hash, copy.stamp.size, at)),
                _ => None,
            });
            let moved = state.quarantine.iter().map(|(entry, size)| (entry.hash, *size, entry.since));
            let named = |(hash, size, found_at)| QuarantinedCopy {
                hash,
                dataset: config.name.clone(),
                size,
                found_at,
            };
            moved.chain(condemned).map(named).collect::<Vec<_>>()
        };
        self.datasets.iter().zip(configs).flat_map(of).collect()
    }
}

impl DatasetState {
    fn report(&self, config: &DatasetConfig, writing: u64) -> DatasetReport {
        let (capacity, used) = match config.quota_bytes {
            Some(quota) => (quota.min(self.space.capacity), self.stored_bytes + writing),
            None => (self.space.capacity, self.space.capacity.saturating_sub(self.space.available)),
        };
        DatasetReport {
            name: config.name.clone(),
            dir: config.dir.clone(),
            capacity,
            used,
            health: self.health.shown(),
            reason: self.reason.clone(),
            since: self.told.map(|told| told.since),
        }
    }
}
