//! What is to be done now: inventory in, jobs out. Pure; no clock, no disk. The keeper carries it out.
//!
//! Each dataset has four lanes with at most one job each, so that a disk that hangs holds up nobody but itself and the
//! memory that maintenance takes is bounded: *control* (short: admission, probes, moves), *ledger*, *bulk* (reads or
//! writes whole artifacts that somebody waits for) and *scrub* (reads them for nobody, perhaps slowly). Within a lane the
//! first that applies is done:
//!
//! | lane | job | when |
//! |---|---|---|
//! | control | admit | opening, or failed or missing and the back-off is over; all lanes idle |
//! | | probe | full, read-only or slow, and the back-off is over |
//! | | quarantine | a copy is condemned |
//! | | restore | a wanted artifact is only in the trash |
//! | | trash | a copy is not wanted |
//! | | purge | something is in the trash for longer than the grace, or too much is in quarantine |
//! | | check | nobody has looked at the dataset for a while |
//! | ledger | write ledger | its ledger is not the config in force |
//! | bulk | verify | a wanted copy has no record, or could not be read a pause ago |
//! | | repair | a wanted artifact is on another dataset and not on this one |
//! | scrub | scrub | a scrub has something left here |
//!
//! Nothing but admission is planned before the store is settled, and nothing is moved or removed without a config in force.

use crate::{
    config::StoreArtifactsConfig,
    inventory::{DatasetIndex, DatasetState, Health, Inventory, Standing},
    layout::SetAside,
    ledger::LedgerCopy,
};
use ids::ArtifactHash;
use jiff::Timestamp;
use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

/// Artifacts that one job takes at most: enough that planning costs little beside doing, few enough that a new plan
/// comes soon.
const BATCH_ARTIFACTS_MAX: usize = 64;
/// Bytes after which a job that reads or writes artifacts takes no more of them.
const BATCH_BYTES_MAX: u64 = 64 << 20;
/// Bad copies that a dataset keeps for inspection; the oldest go first.
const QUARANTINED_COPIES_MAX: usize = 16;
/// Which of a dataset's jobs exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    Control,
    Ledger,
    Bulk,
    Scrub,
}

impl Lane {
    /// Every lane.
    const ALL: [Lane; 4] = [Lane::Control, Lane::Ledger, Lane::Bulk, Lane::Scrub];
}

/// How many lanes a dataset has.
pub(crate) const LANES: usize = Lane::ALL.len();

/// One piece of work on one dataset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Admit,
    Probe,
    Check,
    Quarantine(Vec<ArtifactHash>),
    Restore(Vec<SetAside>),
    Trash(Vec<ArtifactHash>),
    PurgeTrash(Vec<SetAside>),
    PurgeQuarantine(Vec<SetAside>),
    WriteLedger(Arc<StoreArtifactsConfig>),
    Verify(Vec<ArtifactHash>),
    Repair(Vec<ArtifactHash>),
    Scrub(Vec<ArtifactHash>),
}

impl Job {
    pub(crate) fn lane(&self) -> Lane {
        match self {
            Job::WriteLedger(_) => Lane::Ledger,
            Job::Verify(_) | Job::Repair(_) => Lane::Bulk,
            Job::Scrub(_) => Lane::Scrub,
            Job::Admit
            | Job::Probe
            | Job::Check
            | Job::Quarantine(_)
            | Job::Restore(_)
            | Job::Trash(_)
            | Job::PurgeTrash(_)
            | Job::PurgeQuarantine(_) => Lane::Control,
        }
    }
}

/// What a plan is made from, beside the inventory.
#[derive(Debug)]
pub(crate) struct Circumstances<'a> {
    pub(crate) now: Instant,
    /// The wall clock, for times that outlive the process.
    pub(crate) wall: Timestamp,
    pub(crate) trash_grace: Duration,
    /// How long a dataset is left alone at most.
    pub(crate) check_interval: Duration,
    /// Lanes that have a job.
    pub(crate) busy: &'a BTreeSet<(DatasetIndex, Lane)>,
    /// When somebody last looked at each dataset.
    pub(crate) checked_at: &'a [Instant],
}

/// What to start now, and when to look again even if nothing happens.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) starts: Vec<(DatasetIndex, Job)>,
    pub(crate) wake_at: Option<Instant>,
}

/// Makes the plan.
pub(crate) fn plan(inventory: &Inventory, circumstances: &Circumstances<'_>) -> Plan {
    let mut planner = Planner { inventory, circumstances, plan: Plan::default() };
    for dataset in 0..inventory.datasets.len() {
        planner.dataset(dataset);
    }
    planner.plan
}

struct Planner<'a> {
    inventory: &'a Inventory,
    circumstances: &'a Circumstances<'a>,
    plan: Plan,
}

impl Planner<'_> {
    fn dataset(&mut self, dataset: DatasetIndex) {
        let lanes = [
            (Lane::Control, Planner::control as fn(&mut Self, DatasetIndex) -> Option<Job>),
            (Lane::Ledger, Planner::ledger),
            (Lane::Bulk, Planner::bulk),
            (Lane::Scrub, Planner::scrub),
        ];
        for (lane, choose) in lanes {
            if self.circumstances.busy.contains(&(dataset, lane)) {
                continue;
            }
            if let Some(job) = choose(self, dataset) {
                self.plan.starts.push((dataset, job));
            }
        }
    }

    fn control(&mut self, dataset: DatasetIndex) -> Option<Job> {
        let state = &self.inventory.datasets[dataset];
        if !state.health.is_readable() {
            let due = self.is_due(state.probe.not_before);
            return (due && self.is_idle(dataset)).then_some(Job::Admit);
        }
        if !self.inventory.settled {
            return None;
        }
        if state.health != Health::Healthy && self.is_due(state.probe.not_before) {
            return Some(Job::Probe);
        }
        if self.inventory.in_force.is_some() && state.health != Health::ReadOnly {
            let moves = self
                .quarantine(state)
                .or_else(|| self.restore(dataset))
                .or_else(|| self.trash(state))
                .or_else(|| self.purge(dataset));
            if moves.is_some() {
                return moves;
            }
        }
        self.is_due(self.circumstances.checked_at[dataset] + self.circumstances.check_interval)
            .then_some(Job::Check)
    }

    fn quarantine(&mut self, state: &DatasetState) -> Option<Job> {
        let condemned =
            state.copies.iter().filter(|(_, copy)| matches!(copy.standing, Standing::Condemned { .. }));
        some_batch(self.due(state, condemned.map(|(hash, _)| *hash))).map(Job::Quarantine)
    }

    fn restore(&mut self, dataset: DatasetIndex) -> Option<Job> {
        let state = &self.inventory.datasets[dataset];
        let mut restorable: Vec<SetAside> = Vec::new();
        // The youngest of several files of one artifact.
        for entry in state.trash.keys().rev() {
            let known = restorable.iter().any(|other| other.hash == entry.hash);
            if !known
                && restorable.len() < BATCH_ARTIFACTS_MAX
                && self.inventory.is_restorable(dataset, entry)
            {
                restorable.push(*entry);
            }
        }
        let due = self.due(state, restorable.iter().map(|entry| entry.hash));
        restorable.retain(|entry| due.contains(&entry.hash));
        some_batch(restorable).map(Job::Restore)
    }

    fn trash(&mut self, state: &DatasetState) -> Option<Job> {
        let unwanted = state.copies.iter().filter(|(hash, copy)| {
            !self.inventory.wants(hash)
                && !matches!(copy.standing, Standing::Leaving | Standing::Condemned { .. })
        });
        let unwanted: Vec<ArtifactHash> = unwanted.map(|(hash, _)| *hash).collect();
        some_batch(self.due(state, unwanted.into_iter())).map(Job::Trash)
    }

    fn purge(&mut self, dataset: DatasetIndex) -> Option<Job> {
        let state = &self.inventory.datasets[dataset];
        let mut expired = Vec::new();
        for entry in state.trash.keys() {
            let age =
                Duration::try_from(self.circumstances.wall.duration_since(entry.since)).unwrap_or_default();
            let left = self.circumstances.trash_grace.saturating_sub(age);
            if !left.is_zero() {
                // The oldest come first, so all that follow have more time left.
                self.wake_after(left);
                break;
            }
            if !self.inventory.is_restorable(dataset, entry) && expired.len() < BATCH_ARTIFACTS_MAX {
                expired.push(*entry);
            }
        }
        if let Some(expired) = some_batch(expired) {
            return Some(Job::PurgeTrash(expired));
        }
        let surplus = state.quarantine.len().saturating_sub(QUARANTINED_COPIES_MAX);
        let surplus = state.quarantine.keys().take(surplus.min(BATCH_ARTIFACTS_MAX)).copied();
        some_batch(surplus.collect()).map(Job::PurgeQuarantine)
    }

    fn ledger(&mut self, dataset: DatasetIndex) -> Option<Job> {
        let config = self.inventory.in_force.as_ref()?;
        let state = &self.inventory.datasets[dataset];
        let current = matches!(&state.ledger, LedgerCopy::Valid(known)
            if Arc::ptr_eq(known, config) || known == config);
        let wanting = state.health == Health::Healthy && !current;
        let due = wanting && state.ledger_retry.is_none_or(|retry| self.is_due(retry.not_before));
        due.then(|| Job::WriteLedger(Arc::clone(config)))
    }

    fn bulk(&mut self, dataset: DatasetIndex) -> Option<Job> {
        let state = &self.inventory.datasets[dataset];
        if !self.inventory.settled || !state.health.is_readable() {
            return None;
        }
        self.verify(state).or_else(|| self.repair(dataset))
    }

    fn verify(&mut self, state: &DatasetState) -> Option<Job> {
        let mut unverified = Vec::new();
        for (hash, copy) in state.copies.iter().filter(|(hash, _)| self.inventory.wants(hash)) {
            let is_time = match copy.standing {
                Standing::Suspect { not_before } => self.is_due(not_before),
                standing => standing.waits_for_hash(),
            };
            if is_time {
                unverified.push((*hash, copy.stamp.size));
            }
        }
        let due = self.due(state, unverified.iter().map(|(hash, _)| *hash));
        let sized = unverified.into_iter().filter(|(hash, _)| due.contains(hash));
        some_batch(up_to_bytes(sized)).map(Job::Verify)
    }

    fn repair(&mut self, dataset: DatasetIndex) -> Option<Job> {
        let state = &self.inventory.datasets[dataset];
        let config = self.inventory.in_force.as_ref()?;
        if state.health != Health::Healthy {
            return None;
        }
        let in_trash: BTreeSet<&ArtifactHash> = state.trash.keys().map(|entry| &entry.hash).collect();
        let lacking = config.artifacts.iter().filter(|hash| {
            !state.copies.contains_key(hash)
                && !in_trash.contains(hash)
                && !self.inventory.writing.contains_key(hash)
        });
        let sourced: Vec<_> = lacking
            .filter_map(|hash| {
                let (_, source) = self.inventory.readable_copies(hash).into_iter().next()?;
                Some((*hash, source.stamp.size))
            })
            .collect();
        let due = self.due(state, sourced.iter().map(|(hash, _)| *hash));
        let sized = sourced.into_iter().filter(|(hash, _)| due.contains(hash));
        some_batch(up_to_bytes(sized)).map(Job::Repair)
    }

    fn scrub(&mut self, dataset: DatasetIndex) -> Option<Job> {
        let readable = self.inventory.datasets[dataset].health.is_readable();
        let left = self.inventory.scrub.left.get(&dataset).filter(|_| readable)?;
        let sized = left.iter().map(|(hash, size)| (*hash, *size));
        some_batch(up_to_bytes(sized)).map(Job::Scrub)
    }

    /// Those of `hashes` whose back-off on that dataset is over, a batch at most; sets the alarm for the others.
    fn due(&mut self, state: &DatasetState, hashes: impl Iterator<Item = ArtifactHash>) -> Vec<ArtifactHash> {
        let mut due = Vec::new();
        for hash in hashes {
            let ready = state.retry.get(&hash).is_none_or(|retry| self.is_due(retry.not_before));
            if ready && due.len() < BATCH_ARTIFACTS_MAX {
                due.push(hash);
            }
        }
        due
    }

    fn is_idle(&self, dataset: DatasetIndex) -> bool {
        Lane::ALL.iter().all(|lane| !self.circumstances.busy.contains(&(dataset, *lane)))
    }

    /// Whether that time has come; if not, sets the alarm for it.
    fn is_due(&mut self, at: Instant) -> bool {
        let left = at.saturating_duration_since(self.circumstances.now);
        if !left.is_zero() {
            self.wake_after(left);
        }
        left.is_zero()
    }

    fn wake_after(&mut self, left: Duration) {
        let at = self.circumstances.now + left;
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |earlier| earlier.min(at)));
    }
}

fn some_batch<T>(batch: Vec<T>) -> Option<Vec<T>> {
    (!batch.is_empty()).then_some(batch)
}

/// As many as fit into the bytes of a batch; one at least.
fn up_to_bytes(sized: impl Iterator<Item = (ArtifactHash, u64)>) -> Vec<ArtifactHash> {
    let mut bytes = 0;
    sized
        .take(BATCH_ARTIFACTS_MAX)
        .take_while(|(_, size)| {
            let first = bytes == 0;
            bytes += (*size).max(1);
            first || bytes <= BATCH_BYTES_MAX
        })
        .map(|(hash, _)| hash)
        .collect()
}

#[cfg(test)]
mod tests;
