//! A model of all that surrounds the planner: sleds with files and configs, transfers, a database, and a coordinator
//! that carries plans out, forgets, and is slow at the worst moments.
//!
//! Each step of a pass is an event of its own, so that anything can happen between any two:
//!
//! ```text
//!  begin: what is in flight, the wanted set ──▶ ask each sled: config PUT, list ──▶ end: plan, start, release
//! ```
//!
//! What the model itself refuses, because it may never happen: staged bytes are released while too few sleds have
//! files; the bytes of a referenced artifact are nowhere; a sled gets a file that its config does not want; a sled
//! deletes by a config that the database never had.

use crate::{
    rules,
    scene::{hash, limit, sled},
};
use ids::{ArtifactHash, Generation, SledId};
use nexus_replication::{
    Holdings, How, Inputs, Limits, Plan, Policy, SledView, Transfer, Wanted, WantedArtifact, plan,
};
use std::collections::{BTreeMap, BTreeSet};

/// What each repository references: they share some artifacts.
pub(crate) const REPOSITORIES: [&[u8]; 3] = [&[0, 1, 2], &[2, 3], &[0, 3, 4, 5]];

/// Sleds that there can be.
pub(crate) const SLEDS_MAX: usize = 5;

type Step = Result<(), String>;

/// A sled as it is, whatever the coordinator believes.
#[derive(Clone, Debug)]
pub(crate) struct Sled {
    pub(crate) id: SledId,
    pub(crate) up: bool,
    pub(crate) writable: bool,
    config: Option<(Generation, BTreeSet<ArtifactHash>)>,
    pub(crate) files: BTreeSet<ArtifactHash>,
}

/// A transfer as it is.
#[derive(Clone, Debug)]
pub(crate) struct Flight {
    transfer: Transfer,
    /// The target went away in between.
    broken: bool,
    /// The coordinator that started it lives and watches it.
    watched: bool,
}

/// A pass between its begin and its end.
#[derive(Clone, Debug)]
struct Pass {
    inputs: Inputs,
    /// Copies lost since the pass began: its lists may still have them.
    lost: usize,
}

/// Everything.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) sleds: Vec<Sled>,
    pub(crate) known: BTreeSet<usize>,
    generation: Generation,
    history: BTreeMap<Generation, BTreeSet<ArtifactHash>>,
    pub(crate) staged: BTreeSet<ArtifactHash>,
    pub(crate) flights: Vec<Flight>,
    policy: Policy,
    /// Since which generation each wanted artifact has been referenced without a break.
    referenced_since: BTreeMap<ArtifactHash, Generation>,
    /// PUTs started of each artifact by plans since it was referenced last.
    pub(crate) puts: BTreeMap<ArtifactHash, usize>,
    pub(crate) last_plan: Option<Plan>,
    // The coordinator's memory: gone with a restart.
    pass: Option<Pass>,
    passes: u64,
    last_holdings: BTreeMap<SledId, Holdings>,
    backing_off: BTreeSet<(SledId, ArtifactHash)>,
    failed_sources: BTreeMap<(SledId, ArtifactHash), BTreeSet<SledId>>,
    sent_to: BTreeMap<ArtifactHash, BTreeSet<SledId>>,
}

impl World {
    pub(crate) fn new(sleds: usize, min_replication: u32) -> World {
        let limits = Limits {
            transfers_per_target: limit(2),
            transfers_per_source: limit(2),
            puts_total: limit(2),
            transfers_total: limit(6),
        };
        let mut world = World {
            sleds: Vec::new(),
            known: BTreeSet::new(),
            generation: Generation::NONE,
            history: [(Generation::NONE, BTreeSet::new())].into(),
            staged: BTreeSet::new(),
            flights: Vec::new(),
            policy: Policy { min_replication: limit(min_replication), limits },
            referenced_since: BTreeMap::new(),
            puts: BTreeMap::new(),
            last_plan: None,
            pass: None,
            passes: 0,
            last_holdings: BTreeMap::new(),
            backing_off: BTreeSet::new(),
            failed_sources: BTreeMap::new(),
            sent_to: BTreeMap::new(),
        };
        for _ in 0..sleds {
            world.add_sled();
        }
        world
    }

    pub(crate) fn min_replication(&self) -> usize {
        self.policy.min_replication.get() as usize
    }

    /// What the database wants.
    pub(crate) fn wanted(&self) -> BTreeSet<ArtifactHash> {
        self.known
            .iter()
            .flat_map(|repository| REPOSITORIES[*repository])
            .map(|number| hash(*number))
            .collect()
    }

    pub(crate) fn add_sled(&mut self) {
        if self.sleds.len() < SLEDS_MAX {
            let number = u8::try_from(self.sleds.len()).expect("few sleds");
            let id = sled(number);
            self.sleds.push(Sled { id, up: true, writable: true, config: None, files: BTreeSet::new() });
        }
    }

    /// An upload brings all its bytes along, also those that the sleds have.
    pub(crate) fn add_repository(&mut self, repository: usize) {
        if self.known.insert(repository) {
            self.staged.extend(REPOSITORIES[repository].iter().map(|number| hash(*number)));
            self.wanted_changed();
        }
    }

    pub(crate) fn delete_repository(&mut self, repository: usize) {
        if self.known.remove(&repository) {
            self.wanted_changed();
        }
    }

    fn wanted_changed(&mut self) {
        let wanted = self.wanted();
        self.staged.retain(|hash| wanted.contains(hash));
        if self.history[&self.generation] == wanted {
            return;
        }
        self.generation = self.generation.next();
        self.referenced_since.retain(|hash, _| wanted.contains(hash));
        for hash in &wanted {
            self.referenced_since.entry(*hash).or_insert(self.generation);
        }
        self.puts.retain(|hash, _| wanted.contains(hash));
        self.sent_to.retain(|hash, _| wanted.contains(hash));
        self.history.insert(self.generation, wanted);
    }

    /// What was in flight is known first: see the module documentation of the planner's inputs.
    pub(crate) fn begin_pass(&mut self) {
        if self.pass.is_some() {
            return;
        }
        self.passes += 1;
        let artifacts = self.wanted().into_iter().map(|hash| {
            let staged_here = self.staged.contains(&hash);
            (
                hash,
                WantedArtifact { size: 1 + u64::from(hash.0[0] % 3), staged_here, staged_elsewhere: false },
            )
        });
        let watched = self.flights.iter().filter(|flight| flight.watched);
        let inputs = Inputs {
            wanted: Wanted { generation: self.generation, artifacts: artifacts.collect() },
            sleds: BTreeMap::new(),
            in_flight: watched.map(|flight| flight.transfer.clone()).collect(),
            backing_off: self.backing_off.clone(),
            failed_sources: self.failed_sources.clone(),
            sent_to: self.sent_to.clone(),
            policy: self.policy,
            rotation: self.passes,
        };
        self.pass = Some(Pass { inputs, lost: 0 });
    }

    /// Config PUT, then list; a sled is asked once in a pass.
    pub(crate) fn ask(&mut self, index: usize) -> Step {
        let Some(pass) = &mut self.pass else { return Ok(()) };
        let sled = &mut self.sleds[index];
        if pass.inputs.sleds.contains_key(&sled.id) {
            return Ok(());
        }
        let wanted = &pass.inputs.wanted;
        let ahead = sled.config.as_ref().is_some_and(|(generation, _)| *generation > wanted.generation);
        let view = if sled.up && ahead {
            SledView::Refusing { last: self.last_holdings.get(&sled.id).cloned() }
        } else if sled.up {
            sled.config = Some((wanted.generation, wanted.artifacts.keys().copied().collect()));
            let listed = sled.files.iter().filter(|hash| wanted.artifacts.contains_key(*hash));
            let copies = listed.map(|hash| (*hash, 1)).collect();
            let holdings =
                Holdings { copies, datasets_writable: sled.writable.into(), depot_reachable: true };
            self.last_holdings.insert(sled.id, holdings.clone());
            SledView::Ready(holdings)
        } else {
            SledView::Unreachable { last: self.last_holdings.get(&sled.id).cloned() }
        };
        pass.inputs.sleds.insert(sled.id, view);
        Ok(())
    }

    /// Asks who was not asked, plans, starts, releases.
    pub(crate) fn end_pass(&mut self) -> Step {
        for index in 0..self.sleds.len() {
            self.ask(index)?;
        }
        let Some(Pass { inputs, lost }) = self.pass.take() else { return Ok(()) };
        let plan = plan(&inputs);
        rules::check(&inputs, &plan)?;
        for start in &plan.start {
            let since = self.referenced_since.get(&start.hash);
            if start.how == How::Put && since.is_some_and(|since| *since <= plan.generation) {
                *self.puts.entry(start.hash).or_default() += 1;
            }
            let transfer =
                Transfer { hash: start.hash, target: start.target, how: start.how.clone(), lagging: false };
            let accepted = self.sled(start.target).is_some_and(|sled| {
                sled.up && sled.config.as_ref().is_some_and(|(generation, _)| *generation == plan.generation)
            });
            self.flights.push(Flight { transfer, broken: !accepted, watched: true });
        }
        // In one transaction with the generation: an old plan must not release a new upload's bytes.
        if plan.generation == self.generation {
            for hash in &plan.releasable {
                self.release(hash, lost)?;
            }
        }
        self.last_plan = Some(plan);
        Ok(())
    }

    fn release(&mut self, hash: &ArtifactHash, lost: usize) -> Step {
        let files = self.sleds.iter().filter(|sled| sled.files.contains(hash)).count();
        if files + lost < self.min_replication() {
            return Err(format!("{hash} was released with only {files} files"));
        }
        self.staged.remove(hash);
        Ok(())
    }

    fn sled(&self, id: SledId) -> Option<&Sled> {
        self.sleds.iter().find(|sled| sled.id == id)
    }

    /// One transfer ends: well if the world lets it and `lucky` is true.
    pub(crate) fn finish(&mut self, index: usize, lucky: bool) -> Step {
        let Flight { transfer, broken, watched } = self.flights.remove(index);
        let Transfer { hash, target, how, .. } = transfer;
        let serves =
            |source: &&SledId| self.sled(**source).is_some_and(|it| it.up && it.files.contains(&hash));
        let (delivered, tried) = match &how {
            How::Put => (lucky, Vec::new()),
            How::Copy { sources } => {
                let serving = if lucky { sources.iter().position(|source| serves(&source)) } else { None };
                (serving.is_some(), sources[..serving.unwrap_or(sources.len())].to_vec())
            }
        };
        let pair = (target, hash);
        let sled = self.sleds.iter_mut().find(|sled| sled.id == target).expect("sleds never leave the model");
        let wanted = sled.config.as_ref().is_some_and(|(_, wanted)| wanted.contains(&hash));
        let stored = delivered && !broken && sled.up && sled.writable && wanted;
        if stored {
            sled.files.insert(hash);
        }
        if !watched {
            return Ok(());
        }
        if how == How::Put {
            // Also when it failed: perhaps all bytes have arrived, and only the answer was lost.
            self.sent_to.entry(hash).or_default().insert(target);
        }
        if stored {
            self.failed_sources.remove(&pair);
        } else {
            self.backing_off.insert(pair);
            self.failed_sources.entry(pair).or_default().extend(tried);
        }
        Ok(())
    }

    /// Another coordinator brings a sled up to date, perhaps while a pass of ours is under way.
    pub(crate) fn other_coordinator_configures(&mut self, index: usize) {
        let wanted = self.wanted();
        let sled = &mut self.sleds[index];
        if sled.up {
            sled.config = Some((self.generation, wanted));
        }
    }

    /// The sled's own delete pass.
    pub(crate) fn sled_deletes(&mut self, index: usize) -> Step {
        let sled = &mut self.sleds[index];
        let Some((generation, wanted)) = sled.config.clone().filter(|_| sled.up) else { return Ok(()) };
        if self.history.get(&generation) != Some(&wanted) {
            return Err(format!("{} deletes by a config that the database never had", sled.id));
        }
        sled.files.retain(|hash| wanted.contains(hash));
        Ok(())
    }

    pub(crate) fn sled_goes_away(&mut self, index: usize) {
        let sled = &mut self.sleds[index];
        sled.up = false;
        for flight in self.flights.iter_mut().filter(|flight| flight.transfer.target == sled.id) {
            flight.broken = true;
        }
    }

    /// A copy rots and is set aside, unless it is the last: then nobody could ever have it again. While a pass is
    /// under way the staged bytes do not count: the pass may have listed the copy, and release them for it.
    pub(crate) fn lose_copy(&mut self, index: usize, number: u8) {
        let hash = hash(number);
        let others =
            self.sleds.iter().enumerate().filter(|(other, it)| *other != index && it.keeps(&hash)).count();
        if others > 0 || (self.staged.contains(&hash) && self.pass.is_none()) {
            let lost = self.sleds[index].files.remove(&hash);
            if let Some(pass) = &mut self.pass {
                pass.lost += usize::from(lost);
            }
        }
    }

    /// The coordinator dies and comes back. Its PUTs end with it; copies go on, unwatched.
    pub(crate) fn restart(&mut self) {
        self.pass = None;
        self.flights.retain(|flight| flight.transfer.how != How::Put);
        for flight in &mut self.flights {
            flight.watched = false;
        }
        self.last_holdings.clear();
        self.backing_off.clear();
        self.failed_sources.clear();
        self.sent_to.clear();
    }

    pub(crate) fn back_off_ends(&mut self) {
        self.backing_off.clear();
    }

    pub(crate) fn lag(&mut self, index: usize) {
        self.flights[index].transfer.lagging = true;
    }

    /// What holds at every instant.
    pub(crate) fn check(&self) -> Step {
        for hash in self.wanted() {
            if !self.staged.contains(&hash) && !self.sleds.iter().any(|sled| sled.keeps(&hash)) {
                return Err(format!("the bytes of {hash} are nowhere, and a repository references it"));
            }
        }
        Ok(())
    }

    /// Whether everything is where it should be and nowhere else, and nothing is under way.
    pub(crate) fn has_converged(&self) -> bool {
        let wanted = self.wanted();
        self.flights.is_empty() && self.sleds.iter().all(|sled| sled.files == wanted)
    }
}

impl Sled {
    /// Whether it has the file and will not delete it by the config that it has.
    fn keeps(&self, hash: &ArtifactHash) -> bool {
        self.files.contains(hash) && self.config.as_ref().is_some_and(|(_, wanted)| wanted.contains(hash))
    }
}
