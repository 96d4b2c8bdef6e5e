//! One transfer under way, and what is remembered of one that failed. Plain data; time is told by the caller.

use ids::SledId;
use nexus_client::replication::TransferKind;
use nexus_replication::How;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// A transfer that is slower than this is no reason for other sleds to wait for its target as a source.
const LAGGING_BYTES_PER_SECOND: u64 = 4 << 20;

/// No transfer lags before this.
const LAGGING_AFTER: Duration = Duration::from_secs(10);

/// A transfer under way.
#[derive(Clone, Debug)]
pub struct ActiveTransfer {
    /// How it travels.
    pub how: How,
    /// Bytes of the artifact.
    pub size: u64,
    /// Bytes received so far.
    pub bytes_done: u64,
    /// When it started.
    pub started: Instant,
}

/// Why a transfer brought nothing.
#[derive(Clone, Debug)]
pub struct TransferFailure {
    /// Why, in words.
    pub error: String,
    /// Sources that did not deliver.
    pub failed_sources: BTreeSet<SledId>,
    /// The target itself did not answer, or does not follow the config any more: it has to be asked.
    pub ask_target: bool,
}

/// What is remembered of a pair's last tries, until one succeeds.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) error: String,
    pub(super) attempts: u32,
    pub(super) retry_at: Instant,
    pub(super) failed_sources: BTreeSet<SledId>,
}

impl ActiveTransfer {
    pub(super) fn new(how: How, size: u64, now: Instant) -> ActiveTransfer {
        ActiveTransfer { how, size, bytes_done: 0, started: now }
    }

    /// How it travels, in a word.
    #[must_use]
    pub fn kind(&self) -> TransferKind {
        match self.how {
            How::Put => TransferKind::Put,
            How::Copy { .. } => TransferKind::Copy,
        }
    }

    /// From when on it lags, if it has not ended by then.
    pub(super) fn lags_from(&self) -> Instant {
        self.started + LAGGING_AFTER + Duration::from_secs(self.size / LAGGING_BYTES_PER_SECOND)
    }
}
