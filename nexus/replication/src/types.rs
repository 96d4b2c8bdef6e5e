//! What the planner is told: the wanted set, what each sled answered, what is under way, and the limits.
//!
//! Plain data, gathered by the caller in this order, which the planner's promises lean on:
//!
//! 1. the wanted set with its generation, in one database transaction;
//! 2. each sled that needs it is asked: *first* the config PUT, *then* the list. A sled whose config in force is not of
//!    exactly that generation is not [`SledView::Ready`]; so whatever a ready sled lists is safe from its own deletes as
//!    long as that generation is the wanted one;
//! 3. what is in flight, with back-off, failed sources and what was sent;
//! 4. what is known of each sled: its last answer, together with the copies that transfers have brought since it was
//!    asked.
//!
//! Why 3 comes before 4: a transfer that ends in between is still counted as in flight, and its copy is known already,
//! which costs a slot until the next pass. The other way round it would be in neither, and an artifact that has just
//! been sent would be sent again.

use ids::{ArtifactHash, Generation, SledId};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};

/// Everything that [`plan`](crate::plan()) looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// What every sled should hold.
    pub wanted: Wanted,
    /// The sleds in service, and only those: a sled that was expunged is not here.
    pub sleds: BTreeMap<SledId, SledView>,
    /// Transfers that have started and not ended, of this coordinator.
    pub in_flight: Vec<Transfer>,
    /// Pairs whose last transfer failed and whose back-off is not over. Who keeps the clock is the caller.
    pub backing_off: BTreeSet<(SledId, ArtifactHash)>,
    /// By target and artifact: the sources from which that target could not fetch it. They are tried last, so they
    /// need not be forgotten for the sake of progress; forget a pair once a transfer of it succeeds.
    pub failed_sources: BTreeMap<(SledId, ArtifactHash), BTreeSet<SledId>>,
    /// By artifact: the sleds to which this coordinator has sent it since it was referenced last, as far as it
    /// remembers. A sled that is ready and lacks the artifact, or has left the cluster, is not counted, so that a
    /// PUT that failed or a copy that was lost does not use up the [`Policy::min_replication`] PUTs. Where no sled can
    /// serve the artifact, none of this counts: a copy on a dead sled helps nobody.
    pub sent_to: BTreeMap<ArtifactHash, BTreeSet<SledId>>,
    /// The rules in numbers.
    pub policy: Policy,
    /// Breaks ties between equals. Any number is right; the pass's number spreads the load over passes.
    pub rotation: u64,
}

/// The wanted set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its generation.
    pub generation: Generation,
    /// The artifacts that some repository references.
    pub artifacts: BTreeMap<ArtifactHash, WantedArtifact>,
}

/// One wanted artifact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WantedArtifact {
    /// Its bytes.
    pub size: u64,
    /// Whether this coordinator's staging area has it.
    pub staged_here: bool,
    /// Whether another coordinator's staging area has it: that one sends it, not we.
    pub staged_elsewhere: bool,
}

/// What is known of a sled. Only a ready one is given work or named as a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SledView {
    /// It answered in this pass, and its config in force is of the wanted generation.
    Ready(Holdings),
    /// It did not answer. It keeps what it has and catches up when it returns.
    Unreachable {
        /// What it held when it answered last; none if this coordinator has never had an answer.
        last: Option<Holdings>,
    },
    /// It answers but does not take the config: another cluster's, a higher generation, or a fault of its own.
    Refusing {
        /// What it held when it was ready last.
        last: Option<Holdings>,
    },
    /// Not asked yet since the coordinator started.
    Unknown,
}

/// What a sled holds of what it should hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holdings {
    /// Verified copies by artifact. An entry of 0 means the same as no entry.
    pub copies: BTreeMap<ArtifactHash, u32>,
    /// Datasets that can be written now. With none the sled is no target; it may still be a source.
    pub datasets_writable: u32,
    /// Whether peers can read from its depot.
    pub depot_reachable: bool,
}

/// A transfer that has started and not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// What travels.
    pub hash: ArtifactHash,
    /// Where to.
    pub target: SledId,
    /// Where from. The first of the sources is the one that is counted as busy.
    pub how: How,
    /// Whether it is so slow that other sleds should not wait for it to become a source. The caller has the clock.
    pub lagging: bool,
}

/// How an artifact travels to a sled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// The coordinator sends it from its staging area.
    Put,
    /// The sled fetches it from peers.
    Copy {
        /// The peers, best first; never empty in a plan.
        sources: Vec<SledId>,
    },
}

/// The rules in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Sleds that must hold an artifact before its staged bytes may go; also the most PUTs that the coordinator
    /// spends on one artifact while sleds can copy it from each other.
    pub min_replication: NonZeroU32,
    /// What may be under way at once.
    pub limits: Limits,
}

/// What may be under way at once, counting what is in flight already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Transfers to one sled.
    pub transfers_per_target: NonZeroU32,
    /// Copies whose first source is one sled.
    pub transfers_per_source: NonZeroU32,
    /// PUTs in all: they share the coordinator's disk and network.
    pub puts_total: NonZeroU32,
    /// Transfers in all, PUTs included.
    pub transfers_total: NonZeroU32,
}
