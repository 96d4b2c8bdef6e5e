//! What the store says about itself: serialisable reports, each number with what it counts.

use camino::Utf8PathBuf;
use ids::{ArtifactHash, ClusterId, Generation};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// What the store holds of what it should hold, at one instant.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoreListing {
    /// The cluster that the config in force belongs to.
    pub cluster_id: Option<ClusterId>,
    /// The generation in force; 0 if there is no config.
    pub generation: Generation,
    /// Wanted artifacts with at least one verified copy on a dataset that can be read.
    pub list: BTreeMap<ArtifactHash, ListedArtifact>,
    /// The datasets, in the order in which they are read.
    pub datasets: Vec<DatasetReport>,
    /// Bytes of stored copies that the config does not want and that are not in the trash yet.
    pub orphan_bytes: u64,
    /// Bytes in the trash.
    pub trash_bytes: u64,
    /// Wanted copies that wait to be hashed again, and are not listed until then.
    pub unverified: u64,
    /// Copies that did not hash to their name, set aside (or about to be).
    pub quarantined: Vec<QuarantinedCopy>,
    /// The scrub that runs now or ran last.
    pub scrub: ScrubReport,
    /// Grows whenever `list`, a dataset's health or what is known of it, or the config changes.
    pub revision: u64,
}

/// A wanted artifact with verified copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ListedArtifact {
    /// Verified copies, at most one for each dataset.
    pub copies: u32,
    /// Bytes of one copy.
    pub size: u64,
    /// When the copy that was verified longest ago was verified.
    pub verified_at: Timestamp,
}

/// One dataset.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DatasetReport {
    /// Its name.
    pub name: String,
    /// Where it is mounted.
    pub dir: Utf8PathBuf,
    /// Bytes it can hold: its quota, or the file system's size if that is less. 0 until it was first read.
    pub capacity: u64,
    /// Bytes in use: under a quota the store's own (running writes included), else the file system's.
    pub used: u64,
    /// Whether it can be used.
    pub health: DatasetHealth,
    /// Why it is not healthy.
    pub reason: Option<String>,
    /// Since when its health is what it is.
    pub since: Option<Timestamp>,
}

/// Whether a dataset can be used.
///
/// ```text
///   (start) ─▶ Opening ─admitted─▶ Healthy ──no room──▶ Full ──room again──▶ Healthy
///                 │                 │  ▲ ───too late──▶ Slow ──in time again─▶ Healthy
///                 │                 │  │ ──no writes──▶ ReadOnly ──writes again─▶ Healthy
///                 │                 │  └──admitted again (back-off between tries)──┐
///                 └──not readable───┴──an operation failed──▶ Failed / Missing ────┘
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DatasetHealth {
    /// Reads and writes succeed.
    Healthy,
    /// The last write found no room; reads succeed.
    Full,
    /// Its file system takes no writes; reads succeed.
    ReadOnly,
    /// It answers, but too late; writes leave it out.
    Slow,
    /// Operations fail.
    Failed,
    /// Its directory is not there.
    Missing,
}

/// A copy whose bytes are not what its name says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct QuarantinedCopy {
    /// The name under which it was stored.
    pub hash: ArtifactHash,
    /// The dataset's name.
    pub dataset: String,
    /// Its bytes.
    pub size: u64,
    /// When that was found out.
    pub found_at: Timestamp,
}

/// What a scrub was started for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ScrubCause {
    /// Somebody asked for it: every copy is hashed.
    Asked,
    /// Some copies were verified too long ago: those are hashed, slowly.
    Age,
}

/// How far the verification of stored bytes is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ScrubReport {
    /// Whether one runs now.
    pub running: bool,
    /// What it was started for; none before the first one.
    pub cause: Option<ScrubCause>,
    /// Bytes hashed so far, in this scrub or the last one. Never shrinks within one scrub.
    pub bytes_done: u64,
    /// Bytes it has to hash in all; shrinks when a dataset or a copy goes away meanwhile.
    pub bytes_total: u64,
    /// Copies that it found not to hash to their name.
    pub corrupt: u64,
    /// When the last one ended.
    pub finished_at: Option<Timestamp>,
}
