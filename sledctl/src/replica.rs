//! What one cell of the replication means: one artifact on one sled.
//!
//! The coordinator says where each cell stands and why; here that becomes one word, in this order of precedence:
//!
//! | word | when |
//! |---|---|
//! | `?` | the sled does not answer, and nobody knows what it held last |
//! | `ok?`, `1/2?` | the sled does not answer; this is what it held when it answered last |
//! | `no M.2` | none of the sled's M.2s can be written, and it has no copy |
//! | `ok` | a verified copy on each of its M.2s |
//! | `71 %` | bytes are arriving |
//! | `1/2` | verified copies on some of its M.2s |
//! | `no source` | no copy here, and nobody who could send one |
//! | `blocked` | no copy here, and the coordinator cannot send one for another reason |
//! | `absent` | no copy here; the sled refuses its config, or its last try failed |
//! | `queued` | no copy here yet; its turn comes |

use crate::render::{
    Tone,
    words::{ago, percent_arrived, size},
};
use jiff::Timestamp;
use nexus_client::{
    replication::{
        ArtifactBlocked, CellState, CellTransfer, Replication, ReplicationArtifact, ReplicationCell,
        ReplicationSled, ReplicationSledState, TransferKind,
    },
    sleds::M2Health,
};

/// Why an artifact is blocked, in words.
#[must_use]
pub fn blocked_words(reason: ArtifactBlocked) -> &'static str {
    match reason {
        ArtifactBlocked::NoSource => {
            "no source: neither a sled nor a coordinator has its bytes; upload the release again"
        }
        ArtifactBlocked::HoldersUnavailable => {
            "blocked: only sleds that do not answer have its bytes; it goes on when one returns"
        }
        ArtifactBlocked::HoldersUnknown => {
            "blocked: no sled that has answered has its bytes, and some have not answered since the coordinator started"
        }
        ArtifactBlocked::Unrecognized => "blocked, for a reason that this sledctl is too old to know",
    }
}

/// Where one artifact stands on one sled.
#[derive(Clone, Debug, PartialEq)]
pub enum Replica<'a> {
    /// Nobody knows.
    Unknown,
    /// The sled takes no part now; it held so many verified copies when it answered last.
    LastSeen {
        /// Verified copies.
        copies: u32,
        /// Copies that there should be.
        wanted: u32,
    },
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
        why: Shortage<'a>,
    },
    /// The bytes are nowhere: the release must be uploaded again.
    NoSource,
    /// The coordinator cannot send it, for this reason.
    Blocked(ArtifactBlocked),
    /// The sled refuses what it is told.
    Refused,
    /// The last try failed, for this reason.
    Failed(&'a str),
    /// Its turn comes.
    Queued,
}

/// Why there are fewer copies than M.2s.
#[derive(Clone, Debug, PartialEq)]
pub enum Shortage<'a> {
    /// The last try failed, for this reason.
    Failed(&'a str),
    /// These M.2s cannot be written.
    UnusableM2s(Vec<&'a str>),
    /// The sled is about to copy it to its other M.2.
    Repair,
}

impl<'a> Replica<'a> {
    /// What the coordinator's facts mean.
    #[must_use]
    pub fn of(artifact: &'a ReplicationArtifact, sled: &'a ReplicationSled) -> Replica<'a> {
        let cell = sled.cells.get(&artifact.hash);
        let copies = cell.map_or(0, |cell| cell.copies);
        let wanted = copies_wanted(sled);
        let away = !matches!(sled.state, ReplicationSledState::Active | ReplicationSledState::Refusing);
        match cell {
            _ if away && copies == 0 => Replica::Unknown,
            _ if away => Replica::LastSeen { copies, wanted },
            _ if copies > 0 && copies >= wanted => Replica::Complete,
            Some(ReplicationCell { transfer: Some(transfer), .. }) => Replica::Arriving(transfer),
            _ if copies > 0 => Replica::Partial { copies, wanted, why: shortage(sled, cell) },
            _ => Replica::without_copy(artifact, sled, cell),
        }
    }

    fn without_copy(
        artifact: &ReplicationArtifact,
        sled: &ReplicationSled,
        cell: Option<&'a ReplicationCell>,
    ) -> Replica<'a> {
        let state = cell.map_or(CellState::Queued, |cell| cell.state);
        match (state, artifact.blocked, cell.and_then(|cell| cell.last_error.as_deref())) {
            (CellState::NoWritableM2, _, _) => Replica::NoDataset,
            (_, Some(ArtifactBlocked::NoSource), _) => Replica::NoSource,
            (_, Some(reason), _) => Replica::Blocked(reason),
            _ if sled.state == ReplicationSledState::Refusing => Replica::Refused,
            (CellState::Blocked, None, _) => Replica::Blocked(ArtifactBlocked::Unrecognized),
            (_, None, Some(error)) => Replica::Failed(error),
            (_, None, None) => Replica::Queued,
        }
    }

    /// One or two words, for a cell of the matrix.
    #[must_use]
    pub fn word(&self, artifact: &ReplicationArtifact) -> String {
        match self {
            Replica::Unknown => "?".to_owned(),
            Replica::LastSeen { copies, wanted } if copies >= wanted => "ok?".to_owned(),
            Replica::LastSeen { copies, wanted } => format!("{copies}/{wanted}?"),
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
            Replica::Unknown | Replica::LastSeen { .. } => Tone::Dim,
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
            Replica::LastSeen { .. } => "the sled does not answer; it had this when it did".to_owned(),
            Replica::NoDataset => "no M.2 of the sled can be written".to_owned(),
            Replica::Arriving(transfer) => {
                let from = match transfer.kind {
                    TransferKind::Put => " from the coordinator",
                    TransferKind::Copy => " from a peer",
                    TransferKind::Unrecognized => "",
                };
                let done = size(transfer.bytes_done.min(artifact.size));
                format!("{done} arrived{from}, started {}", ago(transfer.started_at, now))
            }
            Replica::Partial { why: Shortage::Failed(error), .. } | Replica::Failed(error) => {
                format!("the last try failed: {error}")
            }
            Replica::Partial { why: Shortage::UnusableM2s(names), .. } => {
                format!("{} cannot be used", names.join(", "))
            }
            Replica::Partial { why: Shortage::Repair, .. } => {
                "the other M.2 has no verified copy yet".to_owned()
            }
            Replica::NoSource => "nobody has the bytes: upload the release again".to_owned(),
            Replica::Blocked(reason) => blocked_words(*reason).to_owned(),
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

    /// Whether there is a copy wherever one should be, as far as anybody knows.
    #[must_use]
    pub fn is_everywhere(&self) -> bool {
        match self {
            Replica::Complete => true,
            Replica::LastSeen { copies, wanted } => copies >= wanted,
            _ => false,
        }
    }

    /// Whether there is nothing left to do for the sled as its M.2s are now.
    fn is_settled(&self) -> bool {
        matches!(self, Replica::Complete | Replica::Partial { why: Shortage::UnusableM2s(_), .. })
    }
}

/// Copies that there should be: one on each M.2 that the sled is configured with.
#[must_use]
pub fn copies_wanted(sled: &ReplicationSled) -> u32 {
    u32::try_from(sled.m2s.len()).unwrap_or(u32::MAX).max(sled.datasets_healthy)
}

fn shortage<'a>(sled: &'a ReplicationSled, cell: Option<&'a ReplicationCell>) -> Shortage<'a> {
    let unusable: Vec<&str> =
        sled.m2s.iter().filter(|m2| m2.health != M2Health::Healthy).map(|m2| m2.name.as_str()).collect();
    match cell.and_then(|cell| cell.last_error.as_deref()) {
        Some(error) => Shortage::Failed(error),
        None if unusable.is_empty() => Shortage::Repair,
        None => Shortage::UnusableM2s(unusable),
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
    /// Counts. A sled that does not answer or refuses is left out: nothing moves there, and it holds up nobody. An M.2
    /// that cannot be used holds up nobody either: its sled is complete with the copies on the others.
    #[must_use]
    pub fn of(replication: &Replication) -> Counts {
        let mut counts = Counts { bytes_done: 0, bytes_total: 0, sleds_complete: 0, sleds: 0 };
        let active = |sled: &&ReplicationSled| sled.state == ReplicationSledState::Active;
        for sled in replication.sleds.iter().filter(active) {
            let mut complete = true;
            for artifact in &replication.artifacts {
                let replica = Replica::of(artifact, sled);
                complete &= replica.is_settled();
                let done = if replica.is_settled() { artifact.size } else { replica.bytes_done(artifact) };
                counts.bytes_done = counts.bytes_done.saturating_add(done);
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
        assert_eq!(words[0], ["ok", "71 %", "absent", "ok?"]);
        assert_eq!(words[1], ["ok", "1/2", "ok", "?"]);
        assert_eq!(words[2], ["ok", "absent", "absent", "?"]);
        assert_eq!(words[3], ["queued", "queued", "absent", "?"]);
        assert_eq!(words[4], ["no source", "no source", "no source", "?"]);
    }

    #[test]
    fn copies_are_counted_against_the_m2s_that_there_should_be() {
        let mut replication = sample::replication();
        let artifact = replication.artifacts[0].clone();
        let sled = &mut replication.sleds[0];
        sled.m2s[1].health = M2Health::Failed;
        sled.datasets_healthy = 1;
        sled.cells.get_mut(&artifact.hash).unwrap().copies = 1;
        let replica = Replica::of(&artifact, sled);
        assert_eq!((replica.word(&artifact).as_str(), replica.tone()), ("1/2", Tone::Bad));
        assert_eq!(replica.why(&artifact, sample::now()), "m2-1 cannot be used");
        sled.cells.get_mut(&artifact.hash).unwrap().last_error = Some("no route".into());
        assert_eq!(
            Replica::of(&artifact, sled).why(&artifact, sample::now()),
            "the last try failed: no route"
        );
    }

    #[test]
    fn sled_without_a_writable_m2_is_never_ok() {
        let mut replication = sample::replication();
        let artifact = replication.artifacts[3].clone();
        let state = CellState::NoWritableM2;
        let cell = ReplicationCell { state, copies: 0, transfer: None, last_error: None };
        replication.sleds[0].cells.insert(artifact.hash, cell);
        let replica = Replica::of(&artifact, &replication.sleds[0]);
        assert_eq!(replica, Replica::NoDataset);
        assert_eq!(replica.bytes_done(&artifact), 0);
    }

    #[test]
    fn words_of_a_newer_coordinator_read_as_something_true() {
        let mut replication = sample::replication();
        let mut artifact = replication.artifacts[3].clone();
        replication.sleds[0].state = ReplicationSledState::Unrecognized;
        assert_eq!(Replica::of(&artifact, &replication.sleds[0]), Replica::Unknown);
        artifact.blocked = Some(ArtifactBlocked::Unrecognized);
        assert_eq!(Replica::of(&artifact, &replication.sleds[1]).word(&artifact), "blocked");
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
