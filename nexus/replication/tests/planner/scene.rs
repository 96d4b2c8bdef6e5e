//! Small inputs in few words: artifacts and sleds are numbers.

use ids::{ArtifactHash, Generation, SledId};
use nexus_replication::{
    Blocked, Cell, Holdings, How, Inputs, Limits, Plan, Policy, SledView, Start, Transfer, Wanted,
    WantedArtifact, plan,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroU32,
};
use uuid::Uuid;

pub(crate) const GENERATION: Generation = Generation(7);

pub(crate) fn sled(number: u8) -> SledId {
    SledId(Uuid::from_u128(u128::from(number)))
}

pub(crate) fn hash(number: u8) -> ArtifactHash {
    ArtifactHash([number; 32])
}

pub(crate) fn limit(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("limits begin at one")
}

pub(crate) fn holdings(copies: impl IntoIterator<Item = u8>) -> Holdings {
    let copies = copies.into_iter().map(|number| (hash(number), 2)).collect();
    Holdings { copies, datasets_writable: 2, depot_reachable: true }
}

pub(crate) fn copy_from(sources: &[u8]) -> How {
    How::Copy { sources: sources.iter().map(|number| sled(*number)).collect() }
}

/// Inputs under construction. Begins with nothing wanted, no sleds, `min_replication` 3 and roomy limits.
#[derive(Clone, Debug)]
pub(crate) struct Scene {
    pub(crate) inputs: Inputs,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        let limits = Limits {
            transfers_per_target: limit(10),
            transfers_per_source: limit(10),
            puts_total: limit(10),
            transfers_total: limit(100),
        };
        let inputs = Inputs {
            wanted: Wanted { generation: GENERATION, artifacts: BTreeMap::new() },
            sleds: BTreeMap::new(),
            in_flight: Vec::new(),
            backing_off: BTreeSet::new(),
            failed_sources: BTreeMap::new(),
            sent_to: BTreeMap::new(),
            policy: Policy { min_replication: limit(3), limits },
            rotation: 0,
        };
        Scene { inputs }
    }

    fn want(mut self, number: u8, size: u64, staged_here: bool, staged_elsewhere: bool) -> Scene {
        let artifact = WantedArtifact { size, staged_here, staged_elsewhere };
        self.inputs.wanted.artifacts.insert(hash(number), artifact);
        self
    }

    /// Wanted, and staged here.
    pub(crate) fn staged(self, number: u8, size: u64) -> Scene {
        self.want(number, size, true, false)
    }

    /// Wanted, and staged at another coordinator.
    pub(crate) fn staged_elsewhere(self, number: u8) -> Scene {
        self.want(number, 10, false, true)
    }

    /// Wanted, and not staged anywhere.
    pub(crate) fn wanted(self, number: u8) -> Scene {
        self.want(number, 10, false, false)
    }

    /// A ready sled that holds these.
    pub(crate) fn ready<const N: usize>(self, number: u8, copies: [u8; N]) -> Scene {
        self.sled(number, SledView::Ready(holdings(copies)))
    }

    pub(crate) fn sled(mut self, number: u8, view: SledView) -> Scene {
        self.inputs.sleds.insert(sled(number), view);
        self
    }

    pub(crate) fn in_flight(mut self, number: u8, target: u8, how: How) -> Scene {
        let transfer = Transfer { hash: hash(number), target: sled(target), how, lagging: false };
        self.inputs.in_flight.push(transfer);
        self
    }

    /// The transfer that was added last is lagging.
    pub(crate) fn lagging(mut self) -> Scene {
        self.inputs.in_flight.last_mut().expect("a transfer was added").lagging = true;
        self
    }

    pub(crate) fn backing_off(mut self, target: u8, number: u8) -> Scene {
        self.inputs.backing_off.insert((sled(target), hash(number)));
        self
    }

    pub(crate) fn failed_sources<const N: usize>(
        mut self,
        target: u8,
        number: u8,
        sources: [u8; N],
    ) -> Scene {
        self.inputs.failed_sources.insert((sled(target), hash(number)), sources.map(sled).into());
        self
    }

    pub(crate) fn sent_to<const N: usize>(mut self, number: u8, targets: [u8; N]) -> Scene {
        self.inputs.sent_to.insert(hash(number), targets.map(sled).into());
        self
    }

    pub(crate) fn min_replication(mut self, sleds: u32) -> Scene {
        self.inputs.policy.min_replication = limit(sleds);
        self
    }

    pub(crate) fn limits(mut self, change: impl FnOnce(&mut Limits)) -> Scene {
        change(&mut self.inputs.policy.limits);
        self
    }

    pub(crate) fn plan(&self) -> Outcome {
        let plan = plan(&self.inputs);
        crate::rules::check(&self.inputs, &plan).expect("the laws hold in every scene");
        Outcome { plan }
    }
}

/// A plan, read in numbers.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) plan: Plan,
}

impl Outcome {
    pub(crate) fn cell(&self, target: u8, number: u8) -> Cell {
        self.plan.cells.get(sled(target), &hash(number)).expect("a wanted artifact and a sled in service")
    }

    /// What starts for one artifact towards one sled.
    pub(crate) fn start(&self, target: u8, number: u8) -> Option<&How> {
        let found = self.plan.start.iter().find(|it| it.target == sled(target) && it.hash == hash(number));
        found.map(|start| &start.how)
    }

    pub(crate) fn puts(&self) -> Vec<&Start> {
        self.plan.start.iter().filter(|start| start.how == How::Put).collect()
    }

    pub(crate) fn copies(&self) -> Vec<&Start> {
        self.plan.start.iter().filter(|start| start.how != How::Put).collect()
    }

    /// The sources of a copy that starts.
    pub(crate) fn sources(&self, target: u8, number: u8) -> Vec<SledId> {
        match self.start(target, number) {
            Some(How::Copy { sources }) => sources.clone(),
            other => panic!("a copy starts, not {other:?}"),
        }
    }

    pub(crate) fn blocked(&self, number: u8) -> Option<Blocked> {
        self.plan.blocked.get(&hash(number)).copied()
    }
}
