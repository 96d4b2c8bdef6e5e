//! The verification of everything: what is left to hash, and how far it is. Part of the inventory's state.

use crate::{
    inventory::{Changed, DatasetIndex, Event, Inventory, Standing},
    status::ScrubReport,
};
use ids::ArtifactHash;
use jiff::Timestamp;
use std::collections::BTreeMap;

/// A scrub: the copies that it still has to hash, by dataset, and its figures.
#[derive(Debug, Default)]
pub(crate) struct Scrub {
    pub(crate) report: ScrubReport,
    /// Size of each copy that is left.
    pub(crate) left: BTreeMap<DatasetIndex, BTreeMap<ArtifactHash, u64>>,
}

impl Scrub {
    /// Takes the copies of a dataset out that cannot be read any more.
    pub(super) fn dataset_lost(&mut self, dataset: DatasetIndex) {
        let lost: u64 = self.left.remove(&dataset).map_or(0, |left| left.values().sum());
        self.shrink(lost);
    }

    /// The total never falls below what is done: progress stays monotonic.
    fn shrink(&mut self, bytes: u64) {
        let total = self.report.bytes_total.saturating_sub(bytes);
        self.report.bytes_total = total.max(self.report.bytes_done);
    }

    fn finish_if_nothing_is_left(&mut self, at: Timestamp) {
        self.left.retain(|_, left| !left.is_empty());
        if self.report.running && self.left.is_empty() {
            self.report.running = false;
            self.report.bytes_total = self.report.bytes_done;
            self.report.finished_at = Some(at);
        }
    }
}

impl Inventory {
    pub(super) fn scrub_event(&mut self, event: &Event) -> Changed {
        match event {
            Event::ScrubAsked if !self.scrub.report.running => self.start_scrub(),
            Event::ScrubProgressed { bytes } => self.scrub.report.bytes_done += *bytes,
            Event::Scrubbed { dataset, hash, hashed, corrupt, at } => {
                let scrub = &mut self.scrub;
                let size = scrub.left.get_mut(dataset).and_then(|left| left.remove(hash)).unwrap_or(*hashed);
                scrub.shrink(size.saturating_sub(*hashed));
                scrub.report.corrupt += u64::from(*corrupt);
                scrub.finish_if_nothing_is_left(*at);
            }
            _ => {}
        }
        Changed::WORK
    }

    fn start_scrub(&mut self) {
        let readable = self.datasets.iter().enumerate().filter(|(_, state)| state.health.is_readable());
        let left: BTreeMap<_, BTreeMap<_, _>> = readable
            .map(|(index, state)| {
                let readable = state.copies.iter().filter(|(_, copy)| {
                    matches!(copy.standing, Standing::Verified { .. } | Standing::Unverified)
                });
                (index, readable.map(|(hash, copy)| (*hash, copy.stamp.size)).collect())
            })
            .collect();
        let bytes_total = left.values().flat_map(BTreeMap::values).sum();
        let finished_at = self.scrub.report.finished_at;
        let report = ScrubReport { running: true, bytes_total, finished_at, ..ScrubReport::default() };
        self.scrub = Scrub { report, left };
        // With nothing stored it is done before it began; the keeper says when.
    }

    /// Ends a scrub that has nothing left because nothing was stored, or what was has gone.
    pub(crate) fn end_empty_scrub(&mut self, at: Timestamp) {
        self.scrub.finish_if_nothing_is_left(at);
    }
}
