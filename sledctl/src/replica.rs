//! What one cell of the replication means: one artifact on one sled.
//!
//! The coordinator reports facts (copies, a transfer, an error, the sled's state); here they become one word, in this
//! order of precedence:
//!
//! | word | when |
//! |---|---|
//! | `?` | the sled is unreachable, or has not been asked yet: nobody knows |
//! | `no M.2` | none of the sled's M.2s can be written |
//! | `ok` | a verified copy on each healthy M.2 |
//! | `71 %` | bytes are arriving |
//! | `1/2` | verified copies on some of the healthy M.2s |
//! | `no source` | no copy here, and nobody who could send one |
//! | `blocked` | no copy here, and the coordinator cannot send one for another reason |
//! | `absent` | no copy here; the sled refuses its config, or its last try failed |
//! | `queued` | no copy here yet; its turn comes |

use crate::render::{
    Tone,
    words::{ago, percent_arrived, size},
};
use jiff::Timestamp;
use nexus_client::replication::{
    CellTransfer, Replication, ReplicationArtifact, ReplicationCell, ReplicationSled, ReplicationSledState,
    TransferKind,
};

/// `ReplicationArtifact::blocked` when the bytes are nowhere.
pub const NO_SOURCE: &str = "no_source";

/// Why an artifact is blocked, in words; a reason of a newer coordinator is shown as it is.
#[must_use]
pub fn blocked_words(reason: &str) -> &str {
    match reason {
        NO_SOURCE => "no source: neither a sled nor a coordinator has its bytes; upload the release again",
        "holders_unavailable" => {
            "blocked: only sleds that do not answer have its bytes; it goes on when one returns"
        }
        other => other,
    }
}

/// Where one artifact stands on one sled.
#[derive(Clone, Debug, PartialEq)]
pub enum Replica<'a> {
    /// Nobody knows.
    Unknown,
    /// The sled has nowhere to put it.
    NoDataset,
    /// Verified copies wherever one should be.
    Complete,
    /// On its way.
    Arriving(&'a CellTransfer),
    /// Verified copies on some of the M.2s.
    Partial {
        /// Verified copies.
        copies: u32,
        /// Copies that there should be.
        wanted: u32,
        /// Why there are not more.
        error: Option<&'a str>,
    },
    /// The bytes are nowhere: the release must be uploaded again.
    NoSource,
    /// The coordinator cannot send it, for this reason.
    Blocked(&'a str),
    /// The sled refuses what it is told.
    Refused,
    /// The last try failed, for this reason.
    Failed(&'a str),
    /// Its turn comes.
    Queued,
}

impl<'a> Replica<'a> {
    /// What the coordinator's facts mean.
    #[must_use]
    pub fn of(artifact: &'a ReplicationArtifact, sled: &'a ReplicationSled) -> Replica<'a> {
        if matches!(sled.state, ReplicationSledState::Unknown | ReplicationSledState::Unreachable) {
            return Replica::Unknown;
        }
        if sled.datasets_healthy == 0 {
            return Replica::NoDataset;
        }
        let cell = sled.cells.get(&artifact.hash);
        let copies = cell.map_or(0, |cell| cell.copies);
        let error = cell.and_then(|cell| cell.last_error.as_deref());
        if copies >= sled.datasets_healthy {
            return Replica::Complete;
        }
        if let Some(ReplicationCell { transfer: Some(transfer), .. }) = cell {
            return Replica::Arriving(transfer);
        }
        if copies > 0 {
            return Replica::Partial { copies, wanted: sled.datasets_healthy, error };
        }
        match (artifact.blocked.as_deref(), sled.state, error) {
            (Some(NO_SOURCE), _, _) => Replica::NoSource,
            (Some(reason), _, _) => Replica::Blocked(reason),
            (None, ReplicationSledState::Refusing, _) => Replica::Refused,
            (None, _, Some(error)) => Replica::Failed(error),
            (None, _, None) => Replica::Queued,
        }
    }

    /// One or two words, for a cell of the matrix.
    #[must_use]
    pub fn word(&self, artifact: &ReplicationArtifact) -> String {
        match self {
            Replica::Unknown => "?".to_owned(),
            Replica::NoDataset => "no M.2".to_owned(),
            Replica::Complete => "ok".to_owned(),
            Replica::Arriving(transfer) => {
                format!("{} %", percent_arrived(transfer.bytes_done, artifact.size))
            }
            Replica::Partial { copies, wanted, .. } => format!("{copies}/{wanted}"),
            Replica::NoSource => "no source".to_owned(),
            Replica::Blocked(_) => "blocked".to_owned(),
            Replica::Refused | Replica::Failed(_) => "absent".to_owned(),
            Replica::Queued => "queued".to_owned(),
        }
    }

    /// Whether that is as it should be.
    #[must_use]
    pub fn tone(&self) -> Tone {
        match self {
            Replica::Complete => Tone::Good,
            Replica::Arriving(_) | Replica::Queued => Tone::Busy,
            Replica::Unknown => Tone::Dim,
            Replica::NoDataset
            | Replica::Partial { .. }
            | Replica::NoSource
            | Replica::Blocked(_)
            | Replica::Refused
            | Replica::Failed(_) => Tone::Bad,
        }
    }

    /// Why there is not a copy wherever one should be, in words; empty when there is.
    #[must_use]
    pub fn why(&self, artifact: &ReplicationArtifact, now: Timestamp) -> String {
        match self {
            Replica::Complete => String::new(),
            Replica::Unknown => "the sled does not answer".to_owned(),
            Replica::NoDataset => "no M.2 of the sled can be written".to_owned(),
            Replica::Arriving(transfer) => {
                let from = match transfer.kind {
                    TransferKind::Put => "from the coordinator",
                    TransferKind::Copy => "from a peer",
                };
                let done = size(transfer.bytes_done.min(artifact.size));
                format!("{done} arrived {from}, started {}", ago(transfer.started_at, now))
            }
            Replica::Partial { error: Some(error), .. } | Replica::Failed(error) => {
                format!("the last try failed: {error}")
            }
            Replica::Partial { error: None, .. } => "the other M.2 has no verified copy yet".to_owned(),
            Replica::NoSource => "nobody has the bytes: upload the release again".to_owned(),
            Replica::Blocked(reason) => blocked_words(reason).to_owned(),
            Replica::Refused => "the sled refuses its config".to_owned(),
            Replica::Queued => "its turn comes".to_owned(),
        }
    }

    /// Bytes of the artifact that this sled has, of its size: what progress counts.
    #[must_use]
    pub fn bytes_done(&self, artifact: &ReplicationArtifact) -> u64 {
        match self {
            Replica::Complete => artifact.size,
            Replica::Arriving(transfer) => transfer.bytes_done.min(artifact.size),
            Replica::Partial { copies, wanted, .. } => {
                let part = u128::from(artifact.size) * u128::from(*copies) / u128::from((*wanted).max(1));
                u64::try_from(part).unwrap_or(artifact.size)
            }
            _ => 0,
        }
    }
}

/// How far a replication is, in bytes and in sleds, on the sleds that take part in it now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    /// Bytes that the sleds have.
    pub bytes_done: u64,
    /// Bytes that they should have.
    pub bytes_total: u64,
    /// Sleds that have all of it.
    pub sleds_complete: usize,
    /// Sleds that take part.
    pub sleds: usize,
}

impl Counts {
    /// Counts. A sled that does not answer or refuses is left out: nothing moves there, and it holds up nobody.
    #[must_use]
    pub fn of(replication: &Replication) -> Counts {
        let mut counts = Counts { bytes_done: 0, bytes_total: 0, sleds_complete: 0, sleds: 0 };
        let active = |sled: &&ReplicationSled| sled.state == ReplicationSledState::Active;
        for sled in replication.sleds.iter().filter(active) {
            let mut complete = true;
            for artifact in &replication.artifacts {
                let replica = Replica::of(artifact, sled);
                complete &= replica == Replica::Complete;
                counts.bytes_done = counts.bytes_done.saturating_add(replica.bytes_done(artifact));
                counts.bytes_total = counts.bytes_total.saturating_add(artifact.size);
            }
            counts.sleds += 1;
            counts.sleds_complete += usize::from(complete);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn every_word_has_its_case() {
        let replication = sample::replication();
        let words: Vec<Vec<String>> = replication
            .artifacts
            .iter()
            .map(|artifact| {
                replication.sleds.iter().map(|sled| Replica::of(artifact, sled).word(artifact)).collect()
            })
            .collect();
        assert_eq!(words[0], ["ok", "71 %", "absent", "?"]);
        assert_eq!(words[1], ["ok", "1/2", "ok", "?"]);
        assert_eq!(words[2], ["ok", "absent", "absent", "?"]);
        assert_eq!(words[3], ["queued", "queued", "absent", "?"]);
        assert_eq!(words[4], ["no source", "no source", "no source", "?"]);
    }

    #[test]
    fn sled_without_a_healthy_dataset_is_never_ok() {
        let mut replication = sample::replication();
        replication.sleds[0].datasets_healthy = 0;
        let replica = Replica::of(&replication.artifacts[0], &replication.sleds[0]);
        assert_eq!(replica, Replica::NoDataset);
        assert_eq!(replica.bytes_done(&replication.artifacts[0]), 0);
    }

    #[test]
    fn counts_leave_out_sleds_that_do_not_take_part() {
        let counts = Counts::of(&sample::replication());
        assert_eq!((counts.sleds_complete, counts.sleds), (0, 2));
        assert!(counts.bytes_done < counts.bytes_total, "{counts:?}");
        let complete = Counts::of(&sample::complete(3));
        assert_eq!((complete.sleds_complete, complete.sleds), (3, 3));
        assert_eq!(complete.bytes_done, complete.bytes_total);
    }

    #[test]
    fn transfer_that_claims_more_than_the_artifact_counts_as_the_artifact() {
        let mut replication = sample::replication();
        let artifact = replication.artifacts[0].clone();
        let cell = replication.sleds[1].cells.get_mut(&artifact.hash).unwrap();
        cell.transfer.as_mut().unwrap().bytes_done = u64::MAX;
        let replica = Replica::of(&artifact, &replication.sleds[1]);
        assert_eq!(replica.word(&artifact), "99 %");
        assert_eq!(replica.bytes_done(&artifact), artifact.size);
    }
}
