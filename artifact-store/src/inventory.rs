//! What the store believes: the config in force, each dataset's health, and every copy with its standing. The one owner
//! of that state; pure: events in, answers out, no disk, no clock.
//!
//! A copy's standing, per dataset and hash:
//!
//! ```text
//!  admitted, record fits ──▶ Verified ◀──hash right── Unverified ◀── admitted, no record fits
//!  published ──────────────▶  │ │ │  ──file changed──▶    │  │ ◀──file changed──┐
//!                             │ │ └────────not read──────────┴──▶ Suspect ──────┴──hash right──▶ Verified
//!                             │ │                         │          │ hash wrong, or not read again after a pause
//!                             │ └────────hash wrong───────┴──────────┴──▶ Condemned ──moved──▶ (quarantine)
//!                             └── unwanted: begin_trash ──▶ Leaving ──moved──▶ (trash) ──restored──▶ Verified / Unverified
//! ```
//! What is no regular file is condemned wherever it is found, and unwanted copies of every standing but `Condemned` leave.
//!
//! "Not read" is a read that failed on a disk that works: that was found out after the read, and the disk may have been away
//! for a moment. So such a copy is hashed once more, after a pause, before it is condemned: it may be the last one.
//!
//! Only `Verified` copies are read; of those, only wanted ones on readable datasets are listed. Nothing here is terminal:
//! publishing the artifact again makes any standing `Verified`. A crash forgets the standings; admission makes them anew
//! from file metadata and records.
//!
//! **Why deletion cannot hit a wanted artifact.** [`Inventory::begin_trash`] checks the config and takes the copy out of
//! the listing in one step of this state; a config that wants the artifact comes either before, and the deletion is
//! refused, or after, and nobody was ever told that the copy is there under it; the file then comes back from the trash.
//! [`Inventory::may_publish`] is the same gate for new copies. Both are asked under the dataset's lock of that hash.

mod apply;
mod choice;
mod event;
mod listing;
mod scrub;

pub(crate) use apply::READ_ONLY;
pub(crate) use event::{Admission, Changed, Event, Trouble};
pub(crate) use scrub::Scrub;

use crate::{
    config::StoreArtifactsConfig, error::StoreError, failure::FailureCause, layout::SetAside,
    ledger::LedgerCopy, records::Floor, status::DatasetHealth,
};
use durable_fs::{FileMetadata, Space};
use ids::{ArtifactHash, Generation};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

/// Which dataset, in the order of the config.
pub(crate) type DatasetIndex = usize;

/// The whole state.
#[derive(Debug)]
pub(crate) struct Inventory {
    /// Whether every dataset has had its chance to be admitted after the start; before that no config is in force.
    pub(crate) settled: bool,
    /// What the store should hold.
    pub(crate) in_force: Option<Arc<StoreArtifactsConfig>>,
    /// The highest generation that is known to have been in force.
    pub(crate) floor: Option<Floor>,
    /// The datasets.
    pub(crate) datasets: Vec<DatasetState>,
    /// Artifacts that are being received, and by how many writers.
    pub(crate) writing: BTreeMap<ArtifactHash, u32>,
    /// The scrub that runs now or ran last.
    pub(crate) scrub: Scrub,
    /// How often the listing changed.
    pub(crate) revision: u64,
    /// How often the health of a dataset did.
    pub(crate) health_revision: u64,
    /// How tries are spaced.
    pub(crate) patience: Patience,
}

/// How tries after failures are spaced.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Before the second try.
    pub(crate) first: Duration,
    /// Between any two tries at most.
    pub(crate) longest: Duration,
}

/// One dataset.
#[derive(Debug)]
pub(crate) struct DatasetState {
    pub(crate) health: Health,
    /// Why it is not healthy.
    pub(crate) reason: Option<String>,
    /// What others were told of its health last.
    pub(crate) told: Option<Told>,
    /// When it may be tried again.
    pub(crate) probe: Backoff,
    /// Grows with every admission: what was begun on an earlier one is not finished on a later one.
    pub(crate) incarnation: u64,
    pub(crate) copies: BTreeMap<ArtifactHash, Copy>,
    /// Bytes of each file in the trash.
    pub(crate) trash: BTreeMap<SetAside, u64>,
    /// Bytes of each file in quarantine.
    pub(crate) quarantine: BTreeMap<SetAside, u64>,
    pub(crate) ledger: LedgerCopy,
    /// How far its records say that generations had come.
    pub(crate) floor: Option<Floor>,
    /// The file system's space when last asked.
    pub(crate) space: Space,
    /// Bytes of all copies, trash and quarantine.
    pub(crate) stored_bytes: u64,
    /// Artifacts that could not be copied to it, or verified on it, and when to try again.
    pub(crate) retry: BTreeMap<ArtifactHash, Backoff>,
    /// When to try again to write its ledger, if that was put off.
    pub(crate) ledger_retry: Option<Backoff>,
}

/// A dataset's health as others see it, and since when it is that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) health: DatasetHealth,
    pub(crate) since: Timestamp,
}

/// [`DatasetHealth`], and the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Health {
    /// Not admitted yet.
    Opening,
    Healthy,
    /// It had no room for that many bytes.
    Full {
        needed: u64,
    },
    ReadOnly,
    Slow,
    Failed,
    Missing,
}

/// What a file looked like: enough to tell that it is still the same one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) size: u64,
    pub(crate) modified_ns: i64,
}

impl From<FileMetadata> for Stamp {
    fn from(metadata: FileMetadata) -> Stamp {
        Stamp { size: metadata.size, modified_ns: metadata.modified_ns }
    }
}

/// One copy of one artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Copy {
    pub(crate) stamp: Stamp,
    pub(crate) standing: Standing,
}

/// How far a copy can be trusted. The module doc has the diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Verified {
        at: Timestamp,
    },
    Unverified,
    /// It could not be read, once, on a disk that works. Nobody tries again before that time.
    Suspect {
        not_before: Instant,
    },
    Condemned {
        at: Timestamp,
    },
    Leaving,
}

impl Standing {
    /// Whether it has to be hashed before it is read.
    pub(crate) fn waits_for_hash(self) -> bool {
        matches!(self, Standing::Unverified | Standing::Suspect { .. })
    }

    /// Whether it may be hashed.
    pub(crate) fn is_hashable(self, now: Instant) -> bool {
        match self {
            Standing::Verified { .. } | Standing::Unverified => true,
            Standing::Suspect { not_before } => now >= not_before,
            Standing::Condemned { .. } | Standing::Leaving => false,
        }
    }
}

/// When something that failed is tried again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    failures: u32,
    pub(crate) not_before: Instant,
}

impl Backoff {
    pub(crate) fn none(now: Instant) -> Backoff {
        Backoff { failures: 0, not_before: now }
    }

    /// One more failure: twice the wait of the last one.
    fn failed(&mut self, now: Instant, patience: Patience) {
        let wait = patience.first.saturating_mul(1 << self.failures.min(16)).min(patience.longest);
        self.failures += 1;
        self.not_before = now + wait;
    }
}

impl Health {
    /// Whether its files can be read.
    pub(crate) fn is_readable(self) -> bool {
        matches!(self, Health::Healthy | Health::Full { .. } | Health::ReadOnly | Health::Slow)
    }

    /// Whether it is worth trying to write to it.
    pub(crate) fn is_writable(self) -> bool {
        matches!(self, Health::Healthy | Health::Full { .. })
    }

    /// As it is shown.
    pub(crate) fn shown(self) -> DatasetHealth {
        match self {
            Health::Healthy => DatasetHealth::Healthy,
            Health::Full { .. } => DatasetHealth::Full,
            Health::ReadOnly => DatasetHealth::ReadOnly,
            Health::Slow | Health::Opening => DatasetHealth::Slow,
            Health::Failed => DatasetHealth::Failed,
            Health::Missing => DatasetHealth::Missing,
        }
    }
}

/// What the config in force and a new one have to do with each other.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ConfigVerdict {
    /// They are the same.
    InForceAlready,
    /// The new one may take its place once it is durable.
    Newer,
}

impl Inventory {
    /// Nothing known yet about `datasets` datasets.
    pub(crate) fn new(datasets: usize, now: Instant, patience: Patience) -> Inventory {
        Inventory {
            settled: false,
            in_force: None,
            floor: None,
            datasets: (0..datasets).map(|_| DatasetState::opening(now)).collect(),
            writing: BTreeMap::new(),
            scrub: Scrub::default(),
            revision: 0,
            health_revision: 0,
            patience,
        }
    }

    /// The generation in force, or 0.
    pub(crate) fn generation(&self) -> Generation {
        self.in_force.as_ref().map_or(Generation::NONE, |config| config.generation)
    }

    /// Whether the config in force wants that artifact.
    pub(crate) fn wants(&self, hash: &ArtifactHash) -> bool {
        self.in_force.as_ref().is_some_and(|config| config.artifacts.contains(hash))
    }

    /// Whether a caller that acts under `generation` may write that artifact.
    pub(crate) fn may_write(&self, hash: &ArtifactHash, generation: Generation) -> Result<(), StoreError> {
        self.check_generation(generation)?;
        if self.wants(hash) {
            return Ok(());
        }
        Err(StoreError::NotInConfig { hash: *hash, generation })
    }

    /// Whether a caller that acts under `generation` may delete that artifact.
    pub(crate) fn may_delete(&self, hash: &ArtifactHash, generation: Generation) -> Result<(), StoreError> {
        self.check_generation(generation)?;
        if !self.wants(hash) {
            return Ok(());
        }
        Err(StoreError::ArtifactWanted { hash: *hash, generation })
    }

    fn check_generation(&self, attempted: Generation) -> Result<(), StoreError> {
        let current = self.in_force.as_ref().ok_or(StoreError::NoConfig)?.generation;
        if attempted == current { Ok(()) } else { Err(StoreError::ConfigGeneration { attempted, current }) }
    }

    /// Whether `new` may take the place of the config in force.
    pub(crate) fn judge_config(&self, new: &StoreArtifactsConfig) -> Result<ConfigVerdict, StoreError> {
        let known = self.in_force.as_ref().map(|config| Floor::of(config)).or(self.floor);
        let Some(known) = known else { return Ok(ConfigVerdict::Newer) };
        if known.cluster_id != new.cluster_id {
            return Err(StoreError::ClusterMismatch { ours: known.cluster_id, theirs: new.cluster_id });
        }
        if new.generation < known.generation {
            return Err(StoreError::ConfigGeneration {
                attempted: new.generation,
                current: known.generation,
            });
        }
        match &self.in_force {
            Some(config) if config.generation == new.generation && **config == *new => {
                Ok(ConfigVerdict::InForceAlready)
            }
            Some(config) if config.generation == new.generation => {
                Err(StoreError::ConfigConflict { generation: new.generation })
            }
            _ => Ok(ConfigVerdict::Newer),
        }
    }

    /// The gate of every new copy, asked under the dataset's lock of that hash right before it gets its name.
    pub(crate) fn may_publish(
        &self,
        dataset: DatasetIndex,
        incarnation: u64,
        hash: &ArtifactHash,
    ) -> Result<(), FailureCause> {
        let state = &self.datasets[dataset];
        if !state.health.is_readable() || state.incarnation != incarnation {
            return Err(state.not_in_use());
        }
        if self.wants(hash) {
            return Ok(());
        }
        Err(FailureCause::NotWanted { generation: self.generation() })
    }

    /// The gate of every deletion, asked under the dataset's lock of that hash: if a config is in force and does not want
    /// the artifact, the copy leaves the listing now and its file may be moved to the trash. The answer is its standing
    /// until then. A condemned copy goes to quarantine, not to the trash, from where it might come back.
    pub(crate) fn begin_trash(&mut self, dataset: DatasetIndex, hash: &ArtifactHash) -> Option<Standing> {
        if self.in_force.is_none() || self.wants(hash) {
            return None;
        }
        let copy = self.datasets[dataset].copies.get_mut(hash)?;
        if matches!(copy.standing, Standing::Condemned { .. }) {
            return None;
        }
        Some(std::mem::replace(&mut copy.standing, Standing::Leaving))
    }

    /// The gate of every purge: whether that file in the trash is of no use, so that it may be removed for good.
    /// It is taken off the books at once, so that nobody restores it meanwhile.
    pub(crate) fn begin_purge(&mut self, dataset: DatasetIndex, entry: &SetAside) -> bool {
        if self.in_force.is_none() || self.is_restorable(dataset, entry) {
            return false;
        }
        let state = &mut self.datasets[dataset];
        let removed = state.trash.remove(entry);
        state.stored_bytes -= removed.unwrap_or(0);
        removed.is_some()
    }

    /// Whether that file in the trash is the only thing its dataset has of a wanted artifact.
    pub(crate) fn is_restorable(&self, dataset: DatasetIndex, entry: &SetAside) -> bool {
        self.wants(&entry.hash) && !self.datasets[dataset].copies.contains_key(&entry.hash)
    }

    /// Datasets with a verified copy, best first: those that answer in time, in the order of the config, then slow ones.
    pub(crate) fn readable_copies(&self, hash: &ArtifactHash) -> Vec<(DatasetIndex, Copy)> {
        let copies = |slow: bool| {
            self.datasets.iter().enumerate().filter_map(move |(index, state)| {
                let copy = state.copies.get(hash)?;
                let fits = state.health.is_readable() && (state.health == Health::Slow) == slow;
                (fits && matches!(copy.standing, Standing::Verified { .. })).then_some((index, *copy))
            })
        };
        copies(false).chain(copies(true)).collect()
    }
}

impl DatasetState {
    fn opening(now: Instant) -> DatasetState {
        DatasetState {
            health: Health::Opening,
            reason: Some("it has not answered since the start".to_owned()),
            told: None,
            probe: Backoff::none(now),
            incarnation: 0,
            copies: BTreeMap::new(),
            trash: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            ledger: LedgerCopy::Absent,
            floor: None,
            space: Space::default(),
            stored_bytes: 0,
            retry: BTreeMap::new(),
            ledger_retry: None,
        }
    }

    /// Why nothing can be done on it now.
    pub(crate) fn not_in_use(&self) -> FailureCause {
        let reason = self.reason.clone().unwrap_or_else(|| "it was admitted again meanwhile".to_owned());
        FailureCause::NotInUse { reason }
    }
}

impl Floor {
    /// What that config says about how far generations have come.
    pub(crate) fn of(config: &StoreArtifactsConfig) -> Floor {
        Floor { cluster_id: config.cluster_id, generation: config.generation }
    }
}
