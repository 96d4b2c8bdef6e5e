//! The transitions: synchronous and total. Each event changes what it is about and says who has to look again.

use crate::{
    inventory::{
        Admission, Backoff, Changed, Copy, DatasetIndex, DatasetState, Event, Health, Inventory, Stamp,
        Standing, Told, Trouble,
    },
    layout::SetAside,
    ledger::LedgerCopy,
};
use ids::ArtifactHash;
use jiff::Timestamp;
use std::{collections::BTreeMap, sync::Arc, time::Instant};

/// Why a read-only dataset is not healthy.
pub(crate) const READ_ONLY: &str =
    "its file system takes no writes: it is mounted, or was remounted, read-only";

impl Inventory {
    /// Takes an event in.
    pub(crate) fn apply(&mut self, event: Event) -> Changed {
        let changed = self.transition(event);
        self.revision += u64::from(changed.listing);
        changed
    }

    /// Notes, after an event at `at`, which datasets are in another health than others were told; whether any is. There is
    /// no other place that counts such changes, so none can be forgotten.
    pub(crate) fn tell_health(&mut self, at: Timestamp) -> bool {
        let mut changed = false;
        for state in &mut self.datasets {
            let health = state.health.shown();
            if state.told.is_none_or(|told| told.health != health) {
                state.told = Some(Told { health, since: at });
                changed = true;
            }
        }
        self.health_revision += u64::from(changed);
        self.revision += u64::from(changed);
        changed
    }

    fn transition(&mut self, event: Event) -> Changed {
        match event {
            Event::Settled { now } => {
                self.settled = true;
                self.choose_again();
                self.refuse_foreign(now);
                Changed::BOTH
            }
            Event::AdmissionPostponed { dataset, reason, now } => {
                let state = &mut self.datasets[dataset];
                state.reason = Some(reason);
                state.probe.failed(now, self.patience);
                Changed::BOTH
            }
            Event::Admitted { dataset, admission, now } => self.admit(dataset, admission, now),
            Event::Troubled { dataset, incarnation, trouble, reason, now } => {
                self.trouble(dataset, incarnation, trouble, reason, now)
            }
            Event::Recovered { dataset } => self.recover(dataset),
            Event::SpaceSeen { dataset, space } => {
                self.datasets[dataset].space = space;
                Changed::NOTHING
            }
            Event::LedgerWritten { dataset, config } => {
                self.datasets[dataset].ledger = LedgerCopy::Valid(config);
                self.datasets[dataset].ledger_retry = None;
                if self.choose_again() { Changed::BOTH } else { Changed::WORK }
            }
            Event::LedgerPostponed { dataset, now } => {
                let retry = &mut self.datasets[dataset].ledger_retry;
                retry.get_or_insert_with(|| Backoff::none(now)).failed(now, self.patience);
                Changed::WORK
            }
            Event::WriteBegan { hash } => {
                *self.writing.entry(hash).or_default() += 1;
                Changed::NOTHING
            }
            Event::WriteEnded { hash } => self.write_ended(&hash),
            Event::ScrubAsked | Event::ScrubProgressed { .. } | Event::Scrubbed { .. } => {
                self.scrub_event(&event)
            }
            Event::Quarantined { dataset, entry, size } => self.quarantined(dataset, entry, size),
            Event::QuarantinePurged { dataset, entry } => {
                let state = &mut self.datasets[dataset];
                state.stored_bytes -= state.quarantine.remove(&entry).unwrap_or(0);
                Changed::LISTING
            }
            Event::Trashed { dataset, entry } => self.trashed(dataset, entry),
            Event::TrashFailed { dataset, hash } => {
                if let Some(copy) = self.datasets[dataset].copies.get_mut(&hash) {
                    copy.standing = Standing::Unverified;
                }
                Changed::WORK
            }
            Event::Restored { dataset, entry, stamp, verified_at } => {
                self.restored(dataset, entry, stamp, verified_at)
            }
            Event::TrashVanished { dataset, entry } => {
                let state = &mut self.datasets[dataset];
                state.stored_bytes -= state.trash.remove(&entry).unwrap_or(0);
                Changed::WORK
            }
            Event::Postponed { dataset, hash, now } => {
                let patience = self.patience;
                let retry = &mut self.datasets[dataset].retry;
                retry.entry(hash).or_insert_with(|| Backoff::none(now)).failed(now, patience);
                Changed::WORK
            }
            Event::Published { dataset, hash, stamp, at } => self.published(dataset, hash, stamp, at),
            Event::Verified { dataset, hash, seen, stamp, at } => {
                self.datasets[dataset].retry.remove(&hash);
                self.set_standing(dataset, &hash, seen, stamp, Standing::Verified { at })
            }
            Event::Changed { dataset, hash, seen, stamp } => {
                self.set_standing(dataset, &hash, seen, stamp, Standing::Unverified)
            }
            Event::Condemned { dataset, hash, seen, at } => {
                self.set_standing(dataset, &hash, seen, seen, Standing::Condemned { at })
            }
            Event::NotRead { dataset, hash, seen, now } => self.not_read(dataset, hash, seen, now),
            Event::Vanished { dataset, hash, seen } => self.vanished(dataset, &hash, seen),
        }
    }

    fn admit(&mut self, dataset: DatasetIndex, admission: Admission, now: Instant) -> Changed {
        let state = &mut self.datasets[dataset];
        let copy = |(hash, (metadata, verified_at)): (ArtifactHash, (_, Option<Timestamp>))| {
            let stamp = Stamp::from(metadata);
            // What was found out about a file since its record was written outlives a new look at it.
            let found_out = state.copies.get(&hash).filter(|known| {
                let is_bad = matches!(known.standing, Standing::Condemned { .. } | Standing::Suspect { .. });
                known.stamp == stamp && is_bad
            });
            let standing = match (found_out, verified_at) {
                (Some(known), _) => known.standing,
                (None, Some(at)) => Standing::Verified { at },
                (None, None) => Standing::Unverified,
            };
            (hash, Copy { stamp, standing })
        };
        let copies: BTreeMap<_, _> = admission.artifacts.into_iter().map(copy).collect();
        let aside = admission.trash.values().chain(admission.quarantine.values()).sum::<u64>();
        let (health, reason) = if admission.read_only {
            (Health::ReadOnly, Some(READ_ONLY.to_owned()))
        } else {
            (Health::Healthy, None)
        };
        *state = DatasetState {
            health,
            reason,
            told: state.told,
            probe: state.probe,
            incarnation: state.incarnation + 1,
            stored_bytes: copies.values().map(|copy| copy.stamp.size).sum::<u64>() + aside,
            copies,
            trash: admission.trash,
            quarantine: admission.quarantine,
            ledger: admission.ledger,
            floor: admission.floor,
            space: admission.space,
            retry: BTreeMap::new(),
            ledger_retry: None,
        };
        if self.settled {
            self.choose_again();
            self.refuse_foreign(now);
        }
        Changed::BOTH
    }

    /// Puts in force what the ledgers amount to; tells whether that is another config than before.
    fn choose_again(&mut self) -> bool {
        if !self.settled {
            return false;
        }
        let choice = self.choose_config();
        self.floor = choice.floor;
        let same = match (&self.in_force, &choice.in_force) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new) || old.generation == new.generation,
            (None, None) => true,
            _ => false,
        };
        if !same {
            self.in_force = choice.in_force;
            for state in &mut self.datasets {
                // What there was no room for may not be wanted any more.
                state.retry.clear();
                if let Health::Full { needed } = &mut state.health {
                    *needed = 0;
                }
            }
        }
        !same
    }

    /// Takes datasets of other clusters out of use.
    fn refuse_foreign(&mut self, now: Instant) {
        for (dataset, cluster) in self.choose_config().foreign {
            let state = &mut self.datasets[dataset];
            state.health = Health::Failed;
            state.reason = Some(format!("it belongs to cluster {cluster}"));
            state.probe.failed(now, self.patience);
        }
    }

    fn trouble(
        &mut self,
        dataset: DatasetIndex,
        incarnation: u64,
        trouble: Trouble,
        reason: String,
        now: Instant,
    ) -> Changed {
        let patience = self.patience;
        let state = &mut self.datasets[dataset];
        if state.incarnation != incarnation {
            return Changed::NOTHING;
        }
        let health = match trouble {
            // A dataset that cannot even be read does not get better by being full, slow or read-only.
            Trouble::Full { .. } | Trouble::Slow | Trouble::ReadOnly if !state.health.is_readable() => {
                return Changed::NOTHING;
            }
            Trouble::Full { needed } => Health::Full { needed },
            Trouble::ReadOnly => Health::ReadOnly,
            Trouble::Slow => Health::Slow,
            Trouble::Failed => Health::Failed,
            Trouble::Missing => Health::Missing,
        };
        // What was fine for long enough has earned a quick first try again.
        if state.health == Health::Healthy && now >= state.probe.not_before + patience.longest * 4 {
            state.probe = Backoff::none(now);
        }
        // Several operations may report one and the same trouble; only what changed counts as one more failure.
        let again = now >= state.probe.not_before;
        if state.health != health || again {
            state.probe.failed(now, patience);
        }
        let shown_before = (state.health.shown(), state.reason.take());
        state.health = health;
        state.reason = Some(reason);
        let listing = shown_before != (state.health.shown(), state.reason.clone());
        if !health.is_readable() {
            self.scrub.dataset_lost(dataset);
        }
        Changed { listing, work: true }
    }

    fn recover(&mut self, dataset: DatasetIndex) -> Changed {
        let state = &mut self.datasets[dataset];
        if !matches!(state.health, Health::Full { .. } | Health::ReadOnly | Health::Slow) {
            return Changed::NOTHING;
        }
        state.health = Health::Healthy;
        state.reason = None;
        state.retry.clear();
        Changed::BOTH
    }

    fn write_ended(&mut self, hash: &ArtifactHash) -> Changed {
        if let Some(writers) = self.writing.get_mut(hash) {
            *writers -= 1;
            if *writers == 0 {
                self.writing.remove(hash);
            }
        }
        let missing = self.wants(hash)
            && self
                .datasets
                .iter()
                .any(|state| state.health.is_readable() && !state.copies.contains_key(hash));
        Changed { listing: false, work: missing }
    }

    fn published(
        &mut self,
        dataset: DatasetIndex,
        hash: ArtifactHash,
        stamp: Stamp,
        at: Timestamp,
    ) -> Changed {
        let wanted = self.wants(&hash);
        let state = &mut self.datasets[dataset];
        state.insert_copy(hash, Copy { stamp, standing: Standing::Verified { at } });
        state.retry.remove(&hash);
        // That a small one fits says nothing about what there was no room for.
        if matches!(state.health, Health::Full { needed } if stamp.size >= needed) {
            state.health = Health::Healthy;
            state.reason = None;
        }
        Changed { listing: true, work: !wanted }
    }

    /// Changes a copy's standing, if it is still the file that the event is about.
    fn set_standing(
        &mut self,
        dataset: DatasetIndex,
        hash: &ArtifactHash,
        seen: Stamp,
        stamp: Stamp,
        standing: Standing,
    ) -> Changed {
        let state = &mut self.datasets[dataset];
        match state.copies.get(hash) {
            Some(copy) if copy.stamp == seen && copy.standing != Standing::Leaving => {
                state.insert_copy(*hash, Copy { stamp, standing });
                Changed::BOTH
            }
            _ => Changed::NOTHING,
        }
    }

    /// Once: others whose reads failed in the same moment change nothing.
    fn not_read(&mut self, dataset: DatasetIndex, hash: ArtifactHash, seen: Stamp, now: Instant) -> Changed {
        let standing = self.datasets[dataset].copies.get(&hash).map(|copy| copy.standing);
        if !matches!(standing, Some(Standing::Verified { .. } | Standing::Unverified)) {
            return Changed::NOTHING;
        }
        let suspect = Standing::Suspect { not_before: now + self.patience.first };
        self.set_standing(dataset, &hash, seen, seen, suspect)
    }

    fn vanished(&mut self, dataset: DatasetIndex, hash: &ArtifactHash, seen: Stamp) -> Changed {
        let state = &mut self.datasets[dataset];
        if state.copies.get(hash).is_none_or(|copy| copy.stamp != seen) {
            return Changed::NOTHING;
        }
        state.remove_copy(hash);
        Changed::BOTH
    }

    fn quarantined(&mut self, dataset: DatasetIndex, entry: SetAside, size: u64) -> Changed {
        let state = &mut self.datasets[dataset];
        state.remove_copy(&entry.hash);
        let replaced = state.quarantine.insert(entry, size);
        state.stored_bytes = state.stored_bytes + size - replaced.unwrap_or(0);
        Changed::BOTH
    }

    fn trashed(&mut self, dataset: DatasetIndex, entry: SetAside) -> Changed {
        let state = &mut self.datasets[dataset];
        if let Some(copy) = state.remove_copy(&entry.hash) {
            state.stored_bytes += copy.stamp.size;
            let replaced = state.trash.insert(entry, copy.stamp.size);
            state.stored_bytes -= replaced.unwrap_or(0);
        }
        // It may be wanted again already.
        Changed::WORK
    }

    fn restored(
        &mut self,
        dataset: DatasetIndex,
        entry: SetAside,
        stamp: Stamp,
        verified_at: Option<Timestamp>,
    ) -> Changed {
        let state = &mut self.datasets[dataset];
        state.stored_bytes -= state.trash.remove(&entry).unwrap_or(0);
        let standing = verified_at.map_or(Standing::Unverified, |at| Standing::Verified { at });
        state.insert_copy(entry.hash, Copy { stamp, standing });
        Changed::BOTH
    }
}

impl DatasetState {
    fn insert_copy(&mut self, hash: ArtifactHash, copy: Copy) {
        self.remove_copy(&hash);
        self.stored_bytes += copy.stamp.size;
        self.copies.insert(hash, copy);
    }

    fn remove_copy(&mut self, hash: &ArtifactHash) -> Option<Copy> {
        let copy = self.copies.remove(hash);
        self.stored_bytes -= copy.map_or(0, |copy| copy.stamp.size);
        copy
    }
}
