//! Power cuts after every named step and before every single operation of everything that the store does, with what was
//! not synced lost, kept, torn or reordered by seed: old or new, nothing acknowledged lost, nothing wrong listed.

use crate::support::{Artifact, Bench, copies, put, read, wait_for, wanting};
use artifact_store::{
    ARTIFACT_PROCEDURE, ArtifactStore, LEDGER_PROCEDURE, RECORDS_PROCEDURE, StoreListing, StoreStep,
};
use durable_fs::{PublishStep, StepPoint};
use ids::Generation;
use std::{collections::BTreeSet, time::Duration};

/// Ways to lose what was not synced, for each place to stop at.
const SEEDS: u64 = 6;
/// Bytes of each artifact: several blocks, so that they can tear.
const LENGTH: usize = 3000;

/// Something that the store does, from a state that it starts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scenario {
    /// A first PUT.
    Put,
    /// A PUT of what is there.
    PutAgain,
    /// A newer config that wants one artifact less and another one more: ledger, trash.
    Config,
    /// A newer config that wants what is in the trash.
    Restore,
    /// A rotten copy is found out, set aside, and repaired from the other disk.
    Rot,
    /// A disk that missed a PUT returns.
    Repair,
    /// The trash's grace is over.
    Purge,
    /// A start that hashes what has no record and compacts the records.
    Start,
}

const SCENARIOS: [Scenario; 8] = [
    Scenario::Put,
    Scenario::PutAgain,
    Scenario::Config,
    Scenario::Restore,
    Scenario::Rot,
    Scenario::Repair,
    Scenario::Purge,
    Scenario::Start,
];

/// What has been promised when the power goes, and what may be in force.
struct Promise {
    /// In force before, and acknowledged.
    old: u64,
    /// The newest generation that was sent.
    new: u64,
    new_acknowledged: bool,
    /// Artifacts that were acknowledged.
    stored: Vec<Artifact>,
}

/// The artifacts of every scenario, and which generation wants which.
struct World {
    first: Artifact,
    second: Artifact,
}

impl World {
    fn new() -> World {
        World { first: Artifact::new(1, LENGTH), second: Artifact::new(2, LENGTH) }
    }

    /// Odd generations want both artifacts, even ones only the second.
    fn wanted(&self, generation: u64) -> Vec<&Artifact> {
        if generation % 2 == 1 { vec![&self.first, &self.second] } else { vec![&self.second] }
    }

    async fn configure(&self, store: &ArtifactStore, generation: u64) -> bool {
        store.put_config(wanting(generation, self.wanted(generation))).await.is_ok()
    }
}

/// Brings a store to where the scenario starts.
async fn prepare(scenario: Scenario, bench: &mut Bench, world: &World) -> (ArtifactStore, Promise) {
    if scenario == Scenario::Purge {
        bench.config.trash_grace = Duration::from_millis(1);
    }
    let store = bench.open().await;
    assert!(world.configure(&store, 1).await);
    let mut promise = Promise { old: 1, new: 1, new_acknowledged: true, stored: Vec::new() };
    put(&store, &world.second).await.unwrap();
    promise.stored.push(world.second.clone());
    if !matches!(scenario, Scenario::Put | Scenario::Repair) {
        put(&store, &world.first).await.unwrap();
        promise.stored.push(world.first.clone());
    }
    if scenario == Scenario::Restore {
        assert!(world.configure(&store, 2).await);
        promise.old = 2;
        wait_for(&store, "the trash", |listing| (listing.trash_bytes, listing.orphan_bytes) == (6000, 0))
            .await;
    }
    let same = |_: &StoreListing| bench.raw(0, "config.json") == bench.raw(1, "config.json");
    wait_for(&store, "both ledgers", same).await;
    if scenario == Scenario::Repair {
        bench.disks[1].unplug();
        put(&store, &world.first).await.unwrap();
        promise.stored.push(world.first.clone());
    }
    if scenario == Scenario::Start {
        store.shutdown().await;
        for disk in &bench.disks {
            disk.flip_bit("verified.log".into(), 120).unwrap();
        }
    }
    (store, promise)
}

/// Does what the scenario is about until it is done or the power is gone.
async fn act(
    scenario: Scenario,
    bench: &Bench,
    world: &World,
    store: ArtifactStore,
    promise: &mut Promise,
) -> ArtifactStore {
    let mut store = store;
    let done = |what: fn(&Bench, &World, &StoreListing) -> bool| {
        move |listing: &StoreListing| bench.machine.is_off() || what(bench, world, listing)
    };
    match scenario {
        Scenario::Put | Scenario::PutAgain => {
            if put(&store, &world.first).await.is_ok() && scenario == Scenario::Put {
                promise.stored.push(world.first.clone());
            }
        }
        Scenario::Config | Scenario::Purge => {
            (promise.new, promise.new_acknowledged) = (2, world.configure(&store, 2).await);
            let gone = if scenario == Scenario::Config { 6000 } else { 0 };
            wait_for(&store, "the trash", |listing| {
                bench.machine.is_off()
                    || (listing.orphan_bytes == 0
                        && listing.trash_bytes == gone
                        && bench.raw(0, "config.json") == bench.raw(1, "config.json"))
            })
            .await;
        }
        Scenario::Restore => {
            (promise.new, promise.new_acknowledged) = (3, world.configure(&store, 3).await);
            let back = done(|bench, world, listing| {
                copies(listing, &world.first) == 2
                    && bench.raw(0, "config.json") == bench.raw(1, "config.json")
            });
            wait_for(&store, "its return", back).await;
        }
        Scenario::Rot => {
            bench.rot(0, &world.first);
            let _ = read(&store, world.first.hash).await;
            let healed = done(|_, world, listing| {
                copies(listing, &world.first) == 2 && listing.quarantined.len() == 1
            });
            wait_for(&store, "repair", healed).await;
        }
        Scenario::Repair => {
            bench.disks[1].plug_in();
            wait_for(&store, "repair", done(|_, world, listing| copies(listing, &world.first) == 2)).await;
        }
        Scenario::Start => {
            store = bench.open().await;
            let all = done(|_, world, listing| {
                copies(listing, &world.first) == 2 && copies(listing, &world.second) == 2
            });
            wait_for(&store, "verification", all).await;
        }
    }
    store
}

/// What must hold after any power cut, at once and in the end.
async fn check(scenario: Scenario, bench: &Bench, world: &World, store: &ArtifactStore, promise: &Promise) {
    let generation = store.config().map_or(Generation(0), |config| config.generation).0;
    assert!(generation == promise.old || generation == promise.new, "old or new, not {generation}");
    assert!(generation == promise.new || !promise.new_acknowledged, "acknowledged, and lost");
    let wanted = world.wanted(generation);
    let listing = store.list().await;
    assert_eq!(listing.generation, Generation(generation));
    for hash in listing.list.keys() {
        assert!(wanted.iter().any(|artifact| artifact.hash == *hash), "listed, and not wanted");
    }
    let promised =
        || wanted.iter().filter(|artifact| promise.stored.iter().any(|stored| stored == **artifact));
    // Rot that nobody has found out yet is served by nobody, but nothing on the disk tells of it.
    for artifact in wanted.iter().filter(|artifact| copies(&listing, artifact) > 0) {
        match read(store, artifact.hash).await {
            Ok(bytes) => assert_eq!(bytes, artifact.bytes),
            Err(error) => assert!(scenario == Scenario::Rot, "listed, and not readable: {error}"),
        }
    }
    wait_for(store, "what was acknowledged, on both disks", |listing| {
        promised().all(|artifact| copies(listing, artifact) == 2)
            && listing.unverified == 0
            && listing.orphan_bytes == 0
    })
    .await;
    for artifact in promised() {
        assert_eq!(read(store, artifact.hash).await.unwrap(), artifact.bytes);
        for disk in 0..2 {
            assert_eq!(
                bench.raw(disk, &artifact.path()).as_deref(),
                Some(&artifact.bytes[..]),
                "on disk {disk}"
            );
        }
    }
}

/// Runs a scenario with the power cut that `arm` arranges; whether it came.
async fn run(scenario: Scenario, seed: u64, arm: impl FnOnce(&Bench)) -> bool {
    let (mut bench, world) = (Bench::new(), World::new());
    let (store, mut promise) = prepare(scenario, &mut bench, &world).await;
    arm(&bench);
    let store = act(scenario, &bench, &world, store, &mut promise).await;
    // What the store is in the middle of comes to its end, or to the cut.
    store.shutdown().await;
    let cut = bench.machine.is_off();
    let store = bench.crash(store, seed).await;
    check(scenario, &bench, &world, &store, &promise).await;
    // And once more: what the first start did must survive as well.
    let store = bench.crash(store, seed + 1000).await;
    check(scenario, &bench, &world, &store, &promise).await;
    store.shutdown().await;
    for disk in 0..2 {
        assert_eq!(bench.names(disk, "tmp"), [""; 0], "what a cut write left is removed on open");
    }
    cut
}

/// The steps that a scenario must come by.
fn steps(scenario: Scenario) -> Vec<StepPoint> {
    let publish = |procedure| PublishStep::ALL.map(|step| step.of(procedure)).to_vec();
    let store = |steps: &[StoreStep]| steps.iter().map(|step| step.point()).collect::<Vec<_>>();
    match scenario {
        Scenario::Put | Scenario::PutAgain | Scenario::Repair => {
            [publish(ARTIFACT_PROCEDURE), store(&[StoreStep::Recorded])].concat()
        }
        Scenario::Config => {
            [publish(LEDGER_PROCEDURE), store(&[StoreStep::TrashMoved, StoreStep::TrashSynced])].concat()
        }
        Scenario::Restore => {
            [publish(LEDGER_PROCEDURE), store(&[StoreStep::RestoreMoved, StoreStep::RestoreSynced])].concat()
        }
        Scenario::Rot => {
            let aside =
                store(&[StoreStep::QuarantineMoved, StoreStep::QuarantineSynced, StoreStep::Recorded]);
            [aside, publish(ARTIFACT_PROCEDURE)].concat()
        }
        Scenario::Purge => store(&[StoreStep::Purged]),
        Scenario::Start => publish(RECORDS_PROCEDURE),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_after_any_step_leaves_old_or_new() {
    let mut swept = BTreeSet::new();
    for scenario in SCENARIOS {
        for point in steps(scenario) {
            for seed in 0..SEEDS {
                // Both disks come by most steps; the power goes at the first or at the second of them.
                let nth = 1 + seed % 2;
                let cut = run(scenario, seed, |bench| bench.machine.stop_at(point, nth)).await;
                assert!(cut || nth == 2, "{scenario:?} never came by {point}");
            }
            swept.insert(point);
        }
    }
    let procedures = [ARTIFACT_PROCEDURE, LEDGER_PROCEDURE, RECORDS_PROCEDURE];
    let published = procedures.iter().flat_map(|procedure| PublishStep::ALL.map(|step| step.of(procedure)));
    let all: BTreeSet<_> = published.chain(StoreStep::ALL.map(StoreStep::point)).collect();
    assert_eq!(swept, all, "every step of the store is swept");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_before_any_operation_leaves_old_or_new() {
    for scenario in SCENARIOS {
        for changes in 0.. {
            let cut = run(scenario, changes, |bench| {
                bench.machine.stop_after_changes(bench.machine.changes() + changes);
            })
            .await;
            if !cut {
                assert!(changes > 2, "{scenario:?} changed nothing");
                break;
            }
        }
    }
}

#[tokio::test]
async fn what_a_killed_process_had_renamed_is_listed_only_when_a_power_cut_cannot_undo_it() {
    let artifact = |step: PublishStep| step.of(ARTIFACT_PROCEDURE);
    for point in [artifact(PublishStep::Renamed), artifact(PublishStep::DirectorySynced)] {
        for seed in 0..4 * SEEDS {
            let bench = Bench::with_disks(1);
            let a = Artifact::new(1, LENGTH);
            let store = bench.open().await;
            store.put_config(wanting(1, [&a])).await.unwrap();
            bench.machine.stop_at(point, 1);
            put(&store, &a).await.unwrap_err();
            store.shutdown().await;
            drop(store);
            bench.machine.power_on();
            let store = bench.open().await;
            wait_for(&store, "the copy to be listed", |listing| copies(listing, &a) == 1).await;
            let store = bench.crash(store, seed).await;
            wait_for(&store, "what was listed", |listing| {
                copies(listing, &a) == 1 || listing.unverified == 1
            })
            .await;
            assert!(bench.raw(0, &a.path()).is_some_and(|bytes| bytes == a.bytes), "{point}, seed {seed}");
        }
    }
}
