//! A sled's M.2s and what it says of the copies on them, as of its last answer. Owns the translation from the sled's words
//! to the operator's.

use nexus_client::sleds::{M2, M2Health, Scrub};
use sled_client::artifacts::{ArtifactsList, DatasetHealth, DatasetStatus, ScrubStatus};

/// What a sled said last of its M.2s.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Disks {
    /// The M.2s that it is configured with.
    pub m2s: Vec<M2>,
    /// Copies that had rotted and were set aside, on all of them.
    pub copies_quarantined: u64,
    /// Copies that wait to be hashed again.
    pub copies_unverified: u64,
    /// The verification that runs or ran last.
    pub scrub: Scrub,
}

impl Disks {
    pub(super) fn of(list: &ArtifactsList) -> Disks {
        let quarantined_on =
            |name: &str| list.quarantined.iter().filter(|copy| copy.dataset == name).count() as u64;
        Disks {
            m2s: list.datasets.iter().map(|dataset| m2(dataset, quarantined_on(&dataset.name))).collect(),
            copies_quarantined: list.quarantined.len() as u64,
            copies_unverified: list.unverified,
            scrub: scrub(&list.scrub),
        }
    }
}

fn m2(dataset: &DatasetStatus, copies_quarantined: u64) -> M2 {
    M2 {
        name: dataset.name.clone(),
        health: match dataset.health {
            DatasetHealth::Healthy => M2Health::Healthy,
            DatasetHealth::Full => M2Health::Full,
            DatasetHealth::ReadOnly => M2Health::ReadOnly,
            DatasetHealth::Slow => M2Health::Slow,
            DatasetHealth::Failed => M2Health::Failed,
            DatasetHealth::Missing => M2Health::Missing,
            DatasetHealth::Unrecognized => M2Health::Unrecognized,
        },
        reason: dataset.reason.clone(),
        since: dataset.since,
        capacity_bytes: dataset.capacity,
        used_bytes: dataset.used,
        copies_quarantined,
    }
}

/// A scrub in the operator's words.
#[must_use]
pub fn scrub(status: &ScrubStatus) -> Scrub {
    Scrub {
        running: status.running,
        bytes_done: status.bytes_done,
        bytes_total: status.bytes_total,
        corrupt: status.corrupt,
        finished_at: status.finished_at,
    }
}
