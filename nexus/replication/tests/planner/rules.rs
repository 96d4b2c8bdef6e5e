//! The laws of every plan, written down a second time: plain loops over the inputs, none of the planner's own tables.
//!
//! Beyond safety they say that the planner is not lazy: every cell that waits names a limit that is really used up,
//! or a fact that is really so.

use ids::{ArtifactHash, SledId};
use nexus_replication::{Blocked, Cell, Holdings, How, Inputs, Plan, SledView, Start};
use std::collections::{BTreeMap, BTreeSet};

macro_rules! law {
    ($holds:expr, $($words:tt)+) => {
        if !$holds {
            return Err(format!($($words)+));
        }
    };
}

/// Checks all of them.
pub(crate) fn check(inputs: &Inputs, plan: &Plan) -> Result<(), String> {
    let facts = Facts { inputs, plan };
    law!(plan.generation == inputs.wanted.generation, "planned for {}", plan.generation);
    for start in &plan.start {
        facts.check_start(start)?;
    }
    facts.check_limits()?;
    facts.check_cells()?;
    facts.check_releasable()?;
    facts.check_summary()
}

struct Facts<'a> {
    inputs: &'a Inputs,
    plan: &'a Plan,
}

impl Facts<'_> {
    fn ready(&self, sled: SledId) -> Option<&Holdings> {
        match self.inputs.sleds.get(&sled) {
            Some(SledView::Ready(holdings)) => Some(holdings),
            _ => None,
        }
    }

    fn holds(&self, sled: SledId, hash: &ArtifactHash) -> bool {
        self.ready(sled).is_some_and(|holdings| holdings.copies.get(hash).is_some_and(|copies| *copies > 0))
    }

    fn serves(&self, sled: SledId, hash: &ArtifactHash) -> bool {
        self.holds(sled, hash) && self.ready(sled).is_some_and(|holdings| holdings.depot_reachable)
    }

    fn servers(&self, hash: &ArtifactHash) -> BTreeSet<SledId> {
        self.inputs.sleds.keys().copied().filter(|sled| self.serves(*sled, hash)).collect()
    }

    /// Servers that have not failed for the target.
    fn untried(&self, target: SledId, hash: &ArtifactHash) -> BTreeSet<SledId> {
        let failed = self.inputs.failed_sources.get(&(target, *hash)).cloned().unwrap_or_default();
        self.servers(hash).difference(&failed).copied().collect()
    }

    fn is_in_flight(&self, target: SledId, hash: &ArtifactHash) -> bool {
        self.inputs.in_flight.iter().any(|it| it.target == target && it.hash == *hash)
    }

    /// PUTs whose copy is there, may be there, or is on its way; those of this plan included.
    fn puts_spent(&self, hash: &ArtifactHash) -> usize {
        let flying: Vec<SledId> = self
            .inputs
            .in_flight
            .iter()
            .filter(|it| it.hash == *hash && it.how == How::Put)
            .map(|it| it.target)
            .collect();
        let arrived = self.inputs.sent_to.get(hash).into_iter().flatten().filter(|sled| {
            self.inputs.sleds.contains_key(sled)
                && !flying.contains(sled)
                && (self.ready(**sled).is_none() || self.holds(**sled, hash))
        });
        let starting = self.plan.start.iter().filter(|it| it.hash == *hash && it.how == How::Put);
        arrived.count() + flying.len() + starting.count()
    }

    /// PUTs whose bytes move towards ready sleds; those of this plan included.
    fn puts_moving(&self, hash: &ArtifactHash) -> usize {
        let moves = |target: SledId, it: &ArtifactHash, how: &How| {
            it == hash && *how == How::Put && self.ready(target).is_some()
        };
        let flying = self.inputs.in_flight.iter().filter(|it| moves(it.target, &it.hash, &it.how));
        flying.count() + self.plan.start.iter().filter(|it| moves(it.target, &it.hash, &it.how)).count()
    }

    /// Whether one more PUT of it is allowed, that of this plan included if there is one.
    fn put_allowed(&self, hash: &ArtifactHash, including: usize) -> bool {
        let spent =
            if self.servers(hash).is_empty() { self.puts_moving(hash) } else { self.puts_spent(hash) };
        spent + including <= self.min_replication()
    }

    fn min_replication(&self) -> usize {
        self.inputs.policy.min_replication.get() as usize
    }

    fn check_start(&self, start: &Start) -> Result<(), String> {
        let Start { hash, target, how } = start;
        let pair = (*target, *hash);
        let Some(wanted) = self.inputs.wanted.artifacts.get(hash) else {
            return Err(format!("{start:?} is not wanted"));
        };
        let Some(holdings) = self.ready(*target) else {
            return Err(format!("the target of {start:?} is not ready"));
        };
        law!(holdings.datasets_writable > 0, "the target of {start:?} has nowhere to write");
        law!(!self.holds(*target, hash), "the target of {start:?} has it");
        law!(!self.is_in_flight(*target, hash), "{start:?} is in flight");
        law!(!self.inputs.backing_off.contains(&pair), "{start:?} backs off");
        let twins = self.plan.start.iter().filter(|it| (it.target, it.hash) == pair).count();
        law!(twins == 1, "{start:?} starts {twins} times");

        let untried = self.untried(*target, hash);
        match how {
            How::Put => {
                law!(wanted.staged_here, "{start:?} is not staged here");
                law!(untried.is_empty(), "{start:?} although {untried:?} can serve it");
                law!(self.put_allowed(hash, 0), "{start:?} is one PUT too many");
            }
            How::Copy { sources } => {
                law!(!sources.is_empty(), "{start:?} has no source");
                let distinct: BTreeSet<_> = sources.iter().collect();
                law!(distinct.len() == sources.len(), "{start:?} names a source twice");
                law!(!sources.contains(target), "{start:?} is its own source");
                for source in sources {
                    law!(self.serves(*source, hash), "{source} cannot serve {start:?}");
                    law!(untried.is_empty() || untried.contains(source), "{source} has failed for {start:?}");
                }
                let put_possible = wanted.staged_here && self.put_allowed(hash, 1);
                law!(
                    !untried.is_empty() || !put_possible,
                    "{start:?} repeats failed sources instead of a PUT"
                );
            }
        }
        Ok(())
    }

    fn towards(&self, target: SledId) -> usize {
        let flying = self.inputs.in_flight.iter().filter(|it| it.target == target).count();
        flying + self.plan.start.iter().filter(|it| it.target == target).count()
    }

    fn served_by(&self, source: SledId) -> usize {
        let is_first = |how: &How| matches!(how, How::Copy { sources } if sources.first() == Some(&source));
        let flying = self.inputs.in_flight.iter().filter(|it| is_first(&it.how)).count();
        flying + self.plan.start.iter().filter(|it| is_first(&it.how)).count()
    }

    fn puts(&self) -> usize {
        let flying = self.inputs.in_flight.iter().filter(|it| it.how == How::Put).count();
        flying + self.plan.start.iter().filter(|it| it.how == How::Put).count()
    }

    fn transfers(&self) -> usize {
        self.inputs.in_flight.len() + self.plan.start.len()
    }

    /// A limit may be exceeded by what was in flight before (it may have been lowered), never by a start.
    fn check_limits(&self) -> Result<(), String> {
        let limits = &self.inputs.policy.limits;
        law!(
            self.plan.start.is_empty() || self.transfers() <= limits.transfers_total.get() as usize,
            "{} transfers in all",
            self.transfers()
        );
        for start in &self.plan.start {
            let towards = self.towards(start.target);
            law!(
                towards <= limits.transfers_per_target.get() as usize,
                "{towards} transfers to {}",
                start.target
            );
            match &start.how {
                How::Put => law!(self.puts() <= limits.puts_total.get() as usize, "{} PUTs", self.puts()),
                How::Copy { sources } => {
                    let served = self.served_by(sources[0]);
                    law!(
                        served <= limits.transfers_per_source.get() as usize,
                        "{served} copies from {}",
                        sources[0]
                    );
                }
            }
        }
        Ok(())
    }

    fn check_cells(&self) -> Result<(), String> {
        let expected = self.inputs.wanted.artifacts.len() * self.inputs.sleds.len();
        law!(self.plan.cells.iter().count() == expected, "not one cell per artifact and sled");
        for (sled, hash, cell) in self.plan.cells.iter() {
            law!(self.plan.cells.get(sled, &hash) == Some(cell), "two ways to read a cell differ");
            let starts = self.plan.start.iter().any(|it| it.target == sled && it.hash == hash);
            law!(starts == (cell == Cell::Starting), "{hash} on {sled}: {cell:?}, starts: {starts}");
            law!(self.is_true(sled, &hash, cell), "{hash} on {sled} is not {cell:?}");
        }
        for (hash, blocked) in &self.plan.blocked {
            law!(self.is_blocked(hash, *blocked), "{hash} is not blocked by {blocked:?}");
        }
        let blocked = self.inputs.wanted.artifacts.keys().filter(|hash| {
            [Blocked::NoSource, Blocked::HoldersUnknown, Blocked::HoldersUnavailable]
                .iter()
                .any(|reason| self.is_blocked(hash, *reason))
        });
        law!(blocked.eq(self.plan.blocked.keys()), "some artifact is blocked and not named");
        Ok(())
    }

    /// Whether what the cell says is so.
    fn is_true(&self, sled: SledId, hash: &ArtifactHash, cell: Cell) -> bool {
        let limits = &self.inputs.policy.limits;
        let held = self.holds(sled, hash);
        let in_flight = self.is_in_flight(sled, hash);
        let backs_off = self.inputs.backing_off.contains(&(sled, *hash));
        let view = &self.inputs.sleds[&sled];
        let writable = self.ready(sled).is_some_and(|holdings| holdings.datasets_writable > 0);
        let open = writable && !held && !in_flight && !backs_off;
        let artifact = &self.inputs.wanted.artifacts[hash];
        match cell {
            Cell::Complete => held,
            Cell::Starting => open,
            Cell::InFlight => in_flight && !held && self.ready(sled).is_some(),
            Cell::BackingOff => backs_off && !held && !in_flight && self.ready(sled).is_some(),
            Cell::NoWritableDataset => self.ready(sled).is_some() && !writable && !held,
            Cell::SledUnreachable => matches!(view, SledView::Unreachable { .. }),
            Cell::SledRefusing => matches!(view, SledView::Refusing { .. }),
            Cell::SledUnknown => matches!(view, SledView::Unknown),
            Cell::WaitingForTargetSlot => {
                open && self.towards(sled) >= limits.transfers_per_target.get() as usize
            }
            Cell::WaitingForTransferSlot => open && self.transfers() >= limits.transfers_total.get() as usize,
            Cell::WaitingForPutSlot => {
                let needs_put = self.untried(sled, hash).is_empty() && artifact.staged_here;
                open && needs_put && self.puts() >= limits.puts_total.get() as usize
            }
            Cell::WaitingForSourceSlot => {
                let untried = self.untried(sled, hash);
                let could_serve = if untried.is_empty() { self.servers(hash) } else { untried };
                open && !could_serve.is_empty()
                    && could_serve
                        .iter()
                        .all(|it| self.served_by(*it) >= limits.transfers_per_source.get() as usize)
            }
            Cell::WaitingForFirstCopy => {
                let slowly = artifact.staged_here && !self.put_allowed(hash, 1);
                open && self.servers(hash).is_empty() && (self.is_coming(hash) || slowly)
            }
            Cell::WaitingForOtherCoordinator => {
                open && self.servers(hash).is_empty() && !artifact.staged_here && artifact.staged_elsewhere
            }
            Cell::HoldersUnavailable => open && self.is_blocked(hash, Blocked::HoldersUnavailable),
            Cell::HoldersUnknown => open && self.is_blocked(hash, Blocked::HoldersUnknown),
            Cell::NoSource => open && self.is_blocked(hash, Blocked::NoSource),
        }
    }

    /// Whether some ready sled is about to have it.
    fn is_coming(&self, hash: &ArtifactHash) -> bool {
        let starts = self.plan.start.iter().any(|it| it.hash == *hash);
        // Of two transfers of the same thing to the same sled the first one counts.
        let mut seen = BTreeSet::new();
        let flies = self
            .inputs
            .in_flight
            .iter()
            .filter(|it| it.hash == *hash && seen.insert(it.target))
            .any(|it| !it.lagging && self.ready(it.target).is_some() && !self.holds(it.target, hash));
        starts || flies
    }

    fn is_blocked(&self, hash: &ArtifactHash, reason: Blocked) -> bool {
        let artifact = &self.inputs.wanted.artifacts[hash];
        if !self.servers(hash).is_empty() || self.is_coming(hash) {
            return false;
        }
        let lost = !artifact.staged_here && !artifact.staged_elsewhere;
        let mut held = false;
        let mut unknown = false;
        for view in self.inputs.sleds.values() {
            let known = match view {
                SledView::Ready(holdings) => Some(holdings),
                SledView::Unreachable { last } | SledView::Refusing { last } => last.as_ref(),
                SledView::Unknown => None,
            };
            unknown |= known.is_none();
            held |= known.is_some_and(|holdings| holdings.copies.get(hash).is_some_and(|copies| *copies > 0));
        }
        match reason {
            Blocked::HoldersUnavailable => lost && held,
            Blocked::HoldersUnknown => lost && !held && unknown,
            Blocked::NoSource => lost && !held && !unknown,
        }
    }

    fn check_releasable(&self) -> Result<(), String> {
        for (hash, artifact) in &self.inputs.wanted.artifacts {
            let servers = self.servers(hash).len();
            let read =
                self.inputs.in_flight.iter().chain([]).any(|it| it.hash == *hash && it.how == How::Put)
                    || self.plan.start.iter().any(|it| it.hash == *hash && it.how == How::Put);
            let expected = artifact.staged_here && servers >= self.min_replication() && !read;
            law!(
                self.plan.releasable.contains(hash) == expected,
                "{hash} with {servers} servers: releasable should be {expected}"
            );
        }
        let unknown =
            self.plan.releasable.iter().find(|hash| !self.inputs.wanted.artifacts.contains_key(*hash));
        law!(unknown.is_none(), "{unknown:?} is not wanted and yet releasable");
        Ok(())
    }

    fn check_summary(&self) -> Result<(), String> {
        let summary = &self.plan.summary;
        let mut cells = BTreeMap::new();
        for (_, _, cell) in self.plan.cells.iter() {
            *cells.entry(cell).or_insert(0_u64) += 1;
        }
        law!(summary.cells == cells, "cells counted as {:?}", summary.cells);
        let sleds = summary.sleds;
        let all = sleds.ready + sleds.unreachable + sleds.refusing + sleds.unknown;
        law!(all == self.inputs.sleds.len() as u64, "sleds counted as {sleds:?}");
        let on_every_sled =
            |hash: &&ArtifactHash| self.inputs.sleds.keys().all(|sled| self.holds(*sled, hash));
        let everywhere = self.inputs.wanted.artifacts.keys().filter(on_every_sled).count();
        law!(
            summary.artifacts.on_every_sled == everywhere as u64,
            "artifacts counted as {:?}",
            summary.artifacts
        );
        let full = everywhere == self.inputs.wanted.artifacts.len();
        law!(summary.fully_replicated == full, "fully replicated should be {full}");
        law!(!full || self.plan.start.is_empty(), "all is well, and yet something starts");
        let started = summary.transfers.puts_started + summary.transfers.copies_started;
        law!(started == self.plan.start.len() as u64, "transfers counted as {:?}", summary.transfers);
        let flying = summary.transfers.puts_in_flight + summary.transfers.copies_in_flight;
        law!(flying == self.inputs.in_flight.len() as u64, "transfers counted as {:?}", summary.transfers);
        Ok(())
    }
}
