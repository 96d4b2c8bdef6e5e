//! What operators see of replication: projections of the wanted set, of what was observed, and of what the last pass
//! decided. They decide nothing.
//!
//! Facts are newer than decisions: a copy that has arrived since the last pass is shown as held, whatever that pass thought
//! of it. What only the planner can know (why nothing happens) is shown as it decided.
//!
//! Two words are kept apart. A sled *is complete* when its healthy M.2s hold everything: nothing is left to do, and a
//! release counts as replicated. It *has every copy* when each M.2 that it is configured with does: anything less is
//! redundancy lost, and shown.

use crate::replication::{
    Observed,
    observed::{ActiveTransfer, Clock, Contact, SledObservation},
};
use ids::{ArtifactHash, Generation};
use nexus_client::{
    releases::ArtifactHolder,
    replication::{
        ArtifactBlocked, CellState, CellTransfer, Replication, ReplicationArtifact, ReplicationCell,
        ReplicationSled, ReplicationSledState,
    },
    sleds::{Sled, SledLiveness, SledPolicy},
};
use nexus_database::{
    sleds::{Policy, SledRow},
    wanted::{Wanted, WantedArtifact},
};
use nexus_replication::{Blocked, Cell, Plan};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

/// Per sled, per artifact: where replication stands. `only` narrows it to one repository's artifacts.
#[must_use]
pub fn replication(
    wanted: &Wanted,
    sleds: &[SledRow],
    observed: &Observed,
    only: Option<&BTreeSet<ArtifactHash>>,
) -> Replication {
    let shown: BTreeMap<ArtifactHash, &WantedArtifact> = wanted
        .artifacts
        .iter()
        .filter(|(hash, _)| only.is_none_or(|only| only.contains(hash)))
        .map(|(hash, artifact)| (*hash, artifact))
        .collect();
    let look = Look::at(observed, wanted.generation);
    let mut columns: Vec<ReplicationSled> = sleds
        .iter()
        .filter(|sled| sled.policy != Policy::Expunged)
        .map(|sled| look.column(sled, &shown))
        .collect();
    columns.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    let mut artifacts: Vec<ReplicationArtifact> =
        shown.iter().map(|(hash, artifact)| look.row(*hash, artifact)).collect();
    artifacts.sort_by(|a, b| (&a.name, &a.version, a.hash).cmp(&(&b.name, &b.version, b.hash)));
    let artifacts_complete = on_every_sled(&artifacts, &columns, has_every_copy);
    let all_take_part = columns.iter().all(|sled| sled.state == ReplicationSledState::Active);
    Replication {
        generation: wanted.generation,
        fully_replicated: artifacts_complete == artifacts.len() as u64
            && all_take_part
            && !columns.is_empty(),
        artifacts_complete,
        artifacts,
        sleds: columns,
    }
}

/// How many artifacts every sled holds, as `holds` has it. Sleds of which nothing is known are left out; if that is all of
/// them, none.
#[must_use]
pub fn on_every_sled(
    artifacts: &[ReplicationArtifact],
    columns: &[ReplicationSled],
    holds: impl Fn(&ReplicationSled, &ArtifactHash) -> bool,
) -> u64 {
    let known: Vec<&ReplicationSled> = columns.iter().filter(|sled| sled.observed_at.is_some()).collect();
    let everywhere =
        |row: &&ReplicationArtifact| !known.is_empty() && known.iter().all(|sled| holds(sled, &row.hash));
    artifacts.iter().filter(everywhere).count() as u64
}

/// Whether a sled takes part and holds a verified copy on each healthy M.2: nothing is left to do.
#[must_use]
pub fn is_complete(sled: &ReplicationSled, hash: &ArtifactHash) -> bool {
    let copies = copies(sled, hash);
    sled.state == ReplicationSledState::Active && copies > 0 && copies >= sled.datasets_healthy
}

/// Whether a sled held a verified copy when it answered last.
#[must_use]
pub fn has_a_copy(sled: &ReplicationSled, hash: &ArtifactHash) -> bool {
    copies(sled, hash) > 0
}

/// Whether a sled held a verified copy on each of its M.2s when it answered last.
#[must_use]
pub fn has_every_copy(sled: &ReplicationSled, hash: &ArtifactHash) -> bool {
    let copies = copies(sled, hash);
    copies > 0 && copies as usize >= sled.m2s.len()
}

fn copies(sled: &ReplicationSled, hash: &ArtifactHash) -> u32 {
    sled.cells.get(hash).map_or(0, |cell| cell.copies)
}

/// One sled.
#[must_use]
pub fn sled(row: &SledRow, observed: &Observed, wanted: &Wanted) -> Sled {
    let look = Look::at(observed, wanted.generation);
    let observation = observed.sled(row.id);
    // Nothing is wanted of an expunged sled, and nobody asks it any more.
    let takes_part = row.policy != Policy::Expunged;
    let shown: BTreeMap<_, _> =
        wanted.artifacts.iter().filter(|_| takes_part).map(|(hash, artifact)| (*hash, artifact)).collect();
    let column = look.column(row, &shown);
    let liveness = if takes_part { observed.liveness(row.id) } else { SledLiveness::Offline };
    let silent = (liveness == SledLiveness::Offline).then(|| "no heartbeat within the limit".to_owned());
    let address = row.address.clone();
    Sled {
        id: row.id,
        name: row.name.clone(),
        policy: match row.policy {
            Policy::InService => SledPolicy::InService,
            Policy::NoProvision => SledPolicy::NoProvision,
            Policy::Expunged => SledPolicy::Expunged,
        },
        liveness,
        last_seen_at: observation.heard.map(|heard| look.clock.time_of(heard)),
        created_at: row.created_at,
        agent_epoch: row.agent_epoch,
        agent_url: address.as_ref().map(|address| address.agent_url.clone()).unwrap_or_default(),
        depot_url: address.map(|address| address.depot_url).unwrap_or_default(),
        artifacts_wanted: shown.len() as u64,
        artifacts_held: shown.keys().filter(|hash| has_a_copy(&column, hash)).count() as u64,
        artifacts_complete: shown.keys().filter(|hash| has_every_copy(&column, hash)).count() as u64,
        reason: column.reason.or(silent).filter(|_| takes_part),
        replication: column.state,
        config_generation: column.config_generation,
        observed_at: column.observed_at,
        m2s: column.m2s,
        copies_quarantined: observation.disks.copies_quarantined,
        copies_unverified: observation.disks.copies_unverified,
        scrub: observation.disks.scrub,
    }
}

/// The sleds that hold an artifact, with the depots that serve it.
#[must_use]
pub fn holders(hash: &ArtifactHash, sleds: &[SledRow], observed: &Observed) -> Vec<ArtifactHolder> {
    let now = Instant::now();
    let holder = |sled: &SledRow| {
        let observation = observed.sled(sled.id);
        let copies = *observation.holdings.as_ref()?.copies.get(hash)?;
        let address = sled.address.as_ref()?;
        (copies > 0 && observation.contact(now) == Contact::Active).then(|| ArtifactHolder {
            sled_id: sled.id,
            sled_name: sled.name.clone(),
            copies,
            depot_url: address.depot_url.clone(),
        })
    };
    sleds.iter().filter_map(holder).collect()
}

/// One look at everything: the facts and decisions that one answer is made of.
struct Look<'a> {
    observed: &'a Observed,
    plan: Option<Arc<Plan>>,
    wanted: Generation,
    clock: Clock,
}

impl<'a> Look<'a> {
    fn at(observed: &'a Observed, wanted: Generation) -> Look<'a> {
        Look { observed, plan: observed.plan(wanted), wanted, clock: Clock::read() }
    }

    fn row(&self, hash: ArtifactHash, artifact: &WantedArtifact) -> ReplicationArtifact {
        let staged = !artifact.staged.is_empty();
        let decided = self.plan.as_ref().and_then(|plan| plan.blocked.get(&hash).copied());
        ReplicationArtifact {
            hash,
            name: artifact.name.clone(),
            version: artifact.version.clone(),
            size: artifact.size,
            staged,
            blocked: decided.and_then(|reason| blocked(reason, staged)),
        }
    }

    fn column(&self, sled: &SledRow, shown: &BTreeMap<ArtifactHash, &WantedArtifact>) -> ReplicationSled {
        let observation = self.observed.sled(sled.id);
        let (transfers, failures) = self.observed.towards(sled.id);
        let (state, reason) = self.state_of(&observation);
        let copies = observation.holdings.as_ref().map(|holdings| &holdings.copies);
        let cell = |hash: &ArtifactHash| {
            let copies = copies.and_then(|copies| copies.get(hash)).copied().unwrap_or(0);
            let transfer = transfers.get(hash).map(|active| self.transfer(active));
            let state = match state {
                ReplicationSledState::Active if copies > 0 => CellState::Held,
                _ if transfer.is_some() => CellState::Transferring,
                ReplicationSledState::Active => self.decided(sled, hash),
                _ => CellState::SledAway,
            };
            let cell = ReplicationCell { state, copies, transfer, last_error: failures.get(hash).cloned() };
            let empty = copies == 0 && state == CellState::SledAway && cell.last_error.is_none();
            (!empty).then_some((*hash, cell))
        };
        ReplicationSled {
            id: sled.id,
            name: sled.name.clone(),
            state,
            reason,
            config_generation: observation.config_generation,
            observed_at: observation.answered.map(|answered| self.clock.time_of(answered)),
            datasets_healthy: observation.holdings.as_ref().map_or(0, |held| held.datasets_writable),
            cells: shown.keys().filter_map(cell).collect(),
            m2s: observation.disks.m2s,
        }
    }

    /// What the last pass decided about a sled without a copy and without a transfer.
    fn decided(&self, sled: &SledRow, hash: &ArtifactHash) -> CellState {
        let Some(cell) = self.plan.as_ref().and_then(|plan| plan.cells.get(sled.id, hash)) else {
            return CellState::Queued;
        };
        match cell {
            // Of a transfer that has ended since, or a copy that was lost since: the next pass looks at it.
            Cell::Complete | Cell::Starting | Cell::InFlight => CellState::Queued,
            Cell::WaitingForTargetSlot
            | Cell::WaitingForSourceSlot
            | Cell::WaitingForPutSlot
            | Cell::WaitingForTransferSlot
            | Cell::WaitingForFirstCopy
            | Cell::WaitingForOtherCoordinator => CellState::Queued,
            // The sled has come back since.
            Cell::SledUnreachable | Cell::SledRefusing | Cell::SledUnknown => CellState::Queued,
            Cell::BackingOff => CellState::BackingOff,
            Cell::HoldersUnavailable | Cell::HoldersUnknown | Cell::NoSource => CellState::Blocked,
            Cell::NoWritableDataset => CellState::NoWritableM2,
        }
    }

    fn state_of(&self, observation: &SledObservation) -> (ReplicationSledState, Option<String>) {
        let unknown = |reason: &str| (ReplicationSledState::Unknown, Some(reason.to_owned()));
        match observation.contact(self.clock.instant) {
            Contact::Active if observation.config_generation == Some(self.wanted) => {
                (ReplicationSledState::Active, None)
            }
            Contact::Active => unknown("it has not been told the newest set yet"),
            Contact::Unknown => unknown("it has not been asked yet"),
            Contact::Unreachable(reason) => (ReplicationSledState::Unreachable, Some(reason)),
            Contact::Refusing(reason) => (ReplicationSledState::Refusing, Some(reason)),
        }
    }

    fn transfer(&self, active: &ActiveTransfer) -> CellTransfer {
        CellTransfer {
            kind: active.kind(),
            bytes_done: active.bytes_done,
            started_at: self.clock.time_of(active.started),
        }
    }
}

/// Why an artifact is blocked. Bytes that have been uploaded since the last pass block nothing, whatever it thought.
fn blocked(reason: Blocked, staged: bool) -> Option<ArtifactBlocked> {
    let reason = match reason {
        Blocked::NoSource => ArtifactBlocked::NoSource,
        Blocked::HoldersUnknown => ArtifactBlocked::HoldersUnknown,
        Blocked::HoldersUnavailable => ArtifactBlocked::HoldersUnavailable,
    };
    (!staged).then_some(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ids::{AgentEpoch, SledId};
    use nexus_database::sleds::SledAddress;
    use nexus_replication::{How, Inputs, Limits, Policy as Rules, SledView};
    use std::num::NonZeroU32;

    const HASH: ArtifactHash = ArtifactHash([1; 32]);

    fn wanted() -> Wanted {
        let artifact = WantedArtifact {
            size: 1,
            name: "a".to_owned(),
            version: "1".to_owned(),
            kind: "file".to_owned(),
            repositories: Vec::new(),
            staged: Vec::new(),
        };
        Wanted { generation: Generation(7), artifacts: [(HASH, artifact)].into() }
    }

    fn row() -> SledRow {
        let url = |port: u16| format!("http://127.0.1.1:{port}");
        SledRow {
            id: SledId::generate(),
            name: "sled-a".to_owned(),
            policy: Policy::InService,
            agent_epoch: AgentEpoch(1),
            address: Some(SledAddress { agent_url: url(1), depot_url: url(2) }),
            created_at: jiff::Timestamp::UNIX_EPOCH,
        }
    }

    /// Publishes what a pass decides that sees this of the sled.
    fn plan(observed: &Observed, wanted: &Wanted, sled: SledId, view: SledView) {
        let artifacts = wanted.artifacts.iter().map(|(hash, artifact)| {
            let (staged_here, staged_elsewhere) = (false, false);
            (*hash, nexus_replication::WantedArtifact { size: artifact.size, staged_here, staged_elsewhere })
        });
        let one = NonZeroU32::MIN;
        let limits = Limits {
            transfers_per_target: one,
            transfers_per_source: one,
            puts_total: one,
            transfers_total: one,
        };
        let inputs = Inputs {
            wanted: nexus_replication::Wanted {
                generation: wanted.generation,
                artifacts: artifacts.collect(),
            },
            sleds: [(sled, view)].into(),
            in_flight: Vec::new(),
            backing_off: BTreeSet::new(),
            failed_sources: BTreeMap::new(),
            sent_to: BTreeMap::new(),
            policy: Rules { min_replication: one, limits },
            rotation: 0,
        };
        observed.publish_plan(Arc::new(nexus_replication::plan(&inputs)));
    }

    fn blocked_in(wanted: &Wanted, row: &SledRow, observed: &Observed) -> Option<ArtifactBlocked> {
        replication(wanted, std::slice::from_ref(row), observed, None).artifacts[0].blocked
    }

    #[test]
    fn before_the_first_plan_nothing_is_said_to_be_blocked() {
        assert_eq!(blocked_in(&wanted(), &row(), &Observed::default()), None);
    }

    #[test]
    fn what_is_blocked_is_what_the_planner_says_until_there_is_news() {
        let (observed, row) = (Observed::default(), row());
        plan(&observed, &wanted(), row.id, SledView::Unreachable { last: None });
        assert_eq!(blocked_in(&wanted(), &row, &observed), Some(ArtifactBlocked::HoldersUnknown));
        plan(&observed, &wanted(), row.id, SledView::Ready(nexus_replication::Holdings::default()));
        assert_eq!(blocked_in(&wanted(), &row, &observed), Some(ArtifactBlocked::NoSource));
        assert_eq!(blocked(Blocked::NoSource, true), None, "it has been uploaded since");
        let newer = Wanted { generation: Generation(8), ..wanted() };
        assert_eq!(blocked_in(&newer, &row, &observed), None, "that was decided for another set");
    }

    #[test]
    fn a_transfer_to_a_sled_that_is_away_is_still_shown() {
        let (observed, row) = (Observed::default(), row());
        let transfer = observed.begin_transfer(row.id, HASH, How::Put, 1);
        let shown = replication(&wanted(), std::slice::from_ref(&row), &observed, None);
        assert_eq!(shown.sleds[0].cells[&HASH].state, CellState::Transferring);
        drop(transfer);
        let shown = replication(&wanted(), std::slice::from_ref(&row), &observed, None);
        let cell = &shown.sleds[0].cells[&HASH];
        assert_eq!((cell.state, cell.last_error.is_some()), (CellState::SledAway, true));
    }

    #[test]
    fn sleds_of_which_nothing_is_known_make_nothing_complete() {
        let shown = replication(&wanted(), &[row()], &Observed::default(), None);
        assert_eq!((shown.artifacts_complete, shown.fully_replicated), (0, false));
        assert!(shown.sleds[0].cells.is_empty() && shown.sleds[0].observed_at.is_none());
    }
}
