//! The verification of what is stored: what is left to hash, and how far it is. Part of the inventory's state.
//!
//! ```text
//!            asked: everything                          nothing left
//!   (idle) ─────────────────────▶ running for Asked ──────────────────▶ (idle)
//!      └─── copies are old ─────▶ running for Age ──nothing left──────▶ (idle)
//!                                     └── asked ──▶ running for Asked
//! ```
//! A crash forgets a scrub. Copies that it has hashed have new records, so the next one of old copies goes on where it
//! was; one that was asked for is asked for again by whoever wants it.

use crate::{
    inventory::{Changed, Copy, DatasetIndex, DatasetState, Event, Inventory, Standing},
    status::{ScrubCause, ScrubReport},
};
use ids::ArtifactHash;
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// A scrub of old copies takes along what becomes old within this share of the time: of thirty days, one.
const SOON_SHARE: u32 = 30;

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
            // One of old copies gives way to one of everything.
            Event::ScrubAsked
                if !self.scrub.report.running || self.scrub.report.cause == Some(ScrubCause::Age) =>
            {
                self.start_scrub(ScrubCause::Asked, |_, _, copy| {
                    matches!(copy.standing, Standing::Verified { .. }) || copy.standing.waits_for_hash()
                });
            }
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

    /// Starts to verify again what was verified longest ago, once some of it is older than `after` and no scrub runs; when
    /// to look again. What would be due soon is taken along, so that copies that arrived together in the order of their
    /// arrival are one scrub and not one each.
    pub(crate) fn scrub_what_is_old(
        &mut self,
        now: Instant,
        wall: Timestamp,
        after: Duration,
    ) -> Option<Instant> {
        if self.scrub.report.running {
            return None;
        }
        let readable = self.datasets.iter().filter(|state| state.health.is_readable());
        let left =
            readable.flat_map(|state| &state.copies).filter_map(|(_, copy)| left_of(copy, wall, after));
        let first = left.min()?;
        if !first.is_zero() {
            return Some(now + first);
        }
        let within = |share: Duration| {
            move |state: &DatasetState, hash: &ArtifactHash, copy: &Copy| {
                let put_off = state.retry.get(hash).is_some_and(|retry| retry.not_before > now);
                !put_off && left_of(copy, wall, after).is_some_and(|left| left <= share)
            }
        };
        let readable = self.datasets.iter().filter(|state| state.health.is_readable());
        let is_due = within(Duration::ZERO);
        if !readable
            .flat_map(|state| state.copies.iter().map(move |(hash, copy)| (state, hash, copy)))
            .any(|(state, hash, copy)| is_due(state, hash, copy))
        {
            // All that is old was put off.
            return Some(now + self.patience.longest);
        }
        self.start_scrub(ScrubCause::Age, within(after / SOON_SHARE));
        None
    }

    /// Starts a scrub of the copies for which `counts` says so.
    fn start_scrub(
        &mut self,
        cause: ScrubCause,
        counts: impl Fn(&DatasetState, &ArtifactHash, &Copy) -> bool,
    ) {
        let readable = self.datasets.iter().enumerate().filter(|(_, state)| state.health.is_readable());
        let left: BTreeMap<_, BTreeMap<_, _>> = readable
            .map(|(index, state)| {
                let counted = state.copies.iter().filter(|(hash, copy)| counts(state, hash, copy));
                (index, counted.map(|(hash, copy)| (*hash, copy.stamp.size)).collect())
            })
            .collect();
        let bytes_total = left.values().flat_map(BTreeMap::values).sum();
        let finished_at = self.scrub.report.finished_at;
        let report = ScrubReport {
            running: true,
            cause: Some(cause),
            bytes_total,
            finished_at,
            ..ScrubReport::default()
        };
        self.scrub = Scrub { report, left };
        // With nothing stored it is done before it began; the keeper says when.
    }

    /// Ends a scrub that has nothing left because nothing was stored, or what was has gone.
    pub(crate) fn end_empty_scrub(&mut self, at: Timestamp) {
        self.scrub.finish_if_nothing_is_left(at);
    }
}

/// How long it is until a verified copy is old; zero if it is.
fn left_of(copy: &Copy, wall: Timestamp, after: Duration) -> Option<Duration> {
    let Standing::Verified { at } = copy.standing else { return None };
    // Verified in the future: the clock was set back, and the copy becomes old a little later.
    let age = Duration::try_from(wall.duration_since(at)).unwrap_or_default();
    Some(after.saturating_sub(age))
}
