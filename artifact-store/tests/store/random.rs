//! Any sequence of operations, faults and power cuts against a small model. The invariants: what is listed is wanted and
//! right; what was acknowledged and stayed wanted is listed again once the disks are well; deletion hits nothing wanted.
//!
//! `ARTIFACT_STORE_RUNS` runs more of them.

use crate::support::{Artifact, Bench, copies, put, read, wait_for, wanting};
use artifact_store::{ArtifactStore, DatasetHealth, StoreError};
use durable_fs::SimDisk;
use ids::Generation;

use proptest::prelude::*;
use std::collections::BTreeSet;

const ARTIFACTS: usize = 4;
const DISKS: usize = 2;

#[derive(Clone, Debug)]
enum Operation {
    /// Bits say which artifacts are wanted from now on.
    Configure {
        wanted: u8,
    },
    Put {
        artifact: usize,
    },
    /// The bytes end early, or are another artifact's.
    PutBadly {
        artifact: usize,
        abort: bool,
    },
    Read {
        artifact: usize,
    },
    Delete {
        artifact: usize,
    },
    Scrub,
    Fail {
        disk: usize,
    },
    Fill {
        disk: usize,
    },
    Heal {
        disk: usize,
    },
    Unplug {
        disk: usize,
    },
    PlugIn {
        disk: usize,
    },
    Rot {
        disk: usize,
        artifact: usize,
    },
    /// The power goes now, or in the middle of the next operations.
    PowerCut {
        seed: u64,
        after_changes: Option<u64>,
    },
    Restart,
}

fn operation() -> impl Strategy<Value = Operation> {
    let (artifact, disk) = (0..ARTIFACTS, 0..DISKS);
    prop_oneof![
        4 => any::<u8>().prop_map(|wanted| Operation::Configure { wanted }),
        8 => artifact.clone().prop_map(|artifact| Operation::Put { artifact }),
        1 => (artifact.clone(), any::<bool>())
            .prop_map(|(artifact, abort)| Operation::PutBadly { artifact, abort }),
        3 => artifact.clone().prop_map(|artifact| Operation::Read { artifact }),
        2 => artifact.clone().prop_map(|artifact| Operation::Delete { artifact }),
        1 => Just(Operation::Scrub),
        1 => disk.clone().prop_map(|disk| Operation::Fail { disk }),
        1 => disk.clone().prop_map(|disk| Operation::Fill { disk }),
        3 => disk.clone().prop_map(|disk| Operation::Heal { disk }),
        1 => disk.clone().prop_map(|disk| Operation::Unplug { disk }),
        2 => disk.clone().prop_map(|disk| Operation::PlugIn { disk }),
        1 => (disk, artifact).prop_map(|(disk, artifact)| Operation::Rot { disk, artifact }),
        3 => (any::<u64>(), proptest::option::of(0..40_u64))
            .prop_map(|(seed, after_changes)| Operation::PowerCut { seed, after_changes }),
        1 => Just(Operation::Restart),
    ]
}

/// What the outside knows of the store.
struct Model {
    artifacts: Vec<Artifact>,
    /// Every config that was sent, newest last.
    sent: Vec<(u64, u8)>,
    /// The newest config that is known to have been in force.
    newest: u64,
    next_generation: u64,
    /// Artifacts that were acknowledged under a config that wanted them, and were wanted ever since.
    held: BTreeSet<usize>,
    /// Artifacts of which a copy has rotted: they may be lost, but never served wrong.
    rotten: BTreeSet<usize>,
}

impl Model {
    fn new() -> Model {
        let lengths = [0, 1, 5000, 300_000];
        let artifact = |(seed, length)| Artifact::new(u8::try_from(seed).unwrap(), length);
        Model {
            artifacts: lengths.into_iter().enumerate().map(artifact).collect(),
            sent: Vec::new(),
            newest: 0,
            next_generation: 1,
            held: BTreeSet::new(),
            rotten: BTreeSet::new(),
        }
    }

    fn wanted(&self, bits: u8) -> Vec<&Artifact> {
        let wanted = self.artifacts.iter().enumerate().filter(|(index, _)| bits & (1 << index) != 0);
        wanted.map(|(_, artifact)| artifact).collect()
    }

    /// Whatever the store says is in force must be something that was sent. With a disk missing it may be older than what
    /// was acknowledged: the disk that knows better is not there to say so.
    fn learn_config(&mut self, store: &ArtifactStore) {
        let Some(config) = store.config() else { return };
        let (generation, bits) = self.config_sent(config.generation);
        assert_eq!(*config, wanting(generation, self.wanted(bits)), "another set than was sent");
        self.in_force(generation, bits);
    }

    /// The config of a generation that the store tells of.
    fn config_sent(&self, generation: Generation) -> (u64, u8) {
        *self.sent.iter().find(|(sent, _)| *sent == generation.0).expect("in force, and never sent")
    }

    fn in_force(&mut self, generation: u64, bits: u8) {
        if generation > self.newest {
            self.newest = generation;
            self.held.retain(|index| bits & (1 << index) != 0);
        }
    }

    /// Whether every config that may be in force at the end wants that artifact.
    fn stays_wanted(&self, index: usize) -> bool {
        let candidates = self.sent.iter().filter(|(generation, _)| *generation >= self.newest);
        candidates.clone().all(|(_, bits)| bits & (1 << index) != 0)
    }
}

struct Run {
    bench: Bench,
    model: Model,
    store: Option<ArtifactStore>,
    /// How the next crash loses what was not synced: the seed of the power cut that is under way. A failing case shows it
    /// among its operations, so the case alone replays the crash.
    crash_seed: u64,
}

impl Run {
    fn store(&self) -> &ArtifactStore {
        self.store.as_ref().unwrap()
    }

    async fn step(&mut self, operation: &Operation) {
        let store = self.store().clone();
        match *operation {
            Operation::Configure { wanted } => self.configure(wanted).await,
            Operation::Put { artifact } => self.put(artifact).await,
            Operation::PutBadly { artifact, abort } => self.put_badly(artifact, abort).await,
            Operation::Read { artifact } => {
                let artifact = &self.model.artifacts[artifact];
                if let Ok(bytes) = read(&store, artifact.hash).await {
                    assert_eq!(bytes, artifact.bytes, "wrong bytes served as a success");
                }
            }
            Operation::Delete { artifact } => self.delete(artifact).await,
            Operation::Scrub => drop(store.scrub()),
            Operation::Fail { disk } => self.bench.faults[disk].fail(),
            Operation::Fill { disk } => self.bench.faults[disk].full(),
            Operation::Heal { disk } => self.bench.faults[disk].heal(),
            Operation::Unplug { disk } => self.bench.disks[disk].unplug(),
            Operation::PlugIn { disk } => self.bench.disks[disk].plug_in(),
            Operation::Rot { disk, artifact } => {
                let path = self.model.artifacts[artifact].path();
                if self.bench.disks[disk].flip_bit(path.as_str().into(), 0).is_ok() {
                    self.model.rotten.insert(artifact);
                }
            }
            Operation::PowerCut { seed, after_changes: None } => self.power_cut(seed).await,
            Operation::PowerCut { after_changes: Some(changes), seed } => {
                // What is lost is decided when the power goes, some operations from now.
                self.crash_seed = seed;
                let machine = &self.bench.machine;
                machine.stop_after_changes(machine.changes() + changes);
            }
            Operation::Restart => {
                store.shutdown().await;
                drop(store);
                self.store = Some(self.bench.open().await);
            }
        }
        if self.bench.machine.is_off() {
            self.power_cut(self.crash_seed).await;
        }
        self.check_listing().await;
    }

    async fn configure(&mut self, wanted: u8) {
        let generation = self.model.next_generation;
        self.model.next_generation += 1;
        self.model.sent.push((generation, wanted));
        // From the moment of sending it may be in force, so what it does not want may go.
        self.model.held.retain(|index| wanted & (1 << index) != 0);
        let config = wanting(generation, self.model.wanted(wanted));
        if self.store().put_config(config).await.is_ok() {
            self.model.in_force(generation, wanted);
        }
    }

    async fn put(&mut self, index: usize) {
        let artifact = self.model.artifacts[index].clone();
        let result = put(self.store(), &artifact).await;
        match result {
            Ok(report) => {
                assert!(report.successful_writes >= 1);
                assert_eq!(report.successful_writes as usize + report.failures.len(), DISKS);
                if self.model.stays_wanted(index) {
                    self.model.held.insert(index);
                }
            }
            Err(StoreError::NotInConfig { generation, .. }) => {
                // Which one was in force is told: a disk that appears meanwhile may bring a newer one.
                let (_, bits) = self.model.config_sent(generation);
                assert!(bits & (1 << index) == 0, "refused under generation {generation}, which wants it");
            }
            Err(_) => {}
        }
    }

    async fn put_badly(&mut self, index: usize, abort: bool) {
        let artifact = &self.model.artifacts[index];
        let Some(config) = self.store().config() else { return };
        let Ok(mut writer) = self.store().writer(artifact.hash, config.generation, None).await else {
            return;
        };
        let bytes = if abort { artifact.bytes.clone() } else { vec![9; 400_000].into() };
        if writer.write(bytes).await.is_ok() && !abort {
            assert!(writer.finish().await.is_err(), "wrong bytes were accepted");
        }
    }

    async fn delete(&mut self, index: usize) {
        let artifact = &self.model.artifacts[index];
        let Some(config) = self.store().config() else { return };
        let result = self.store().delete(artifact.hash, config.generation).await;
        if config.artifacts.contains(&artifact.hash) {
            assert!(
                matches!(
                    result,
                    Err(StoreError::ArtifactWanted { .. } | StoreError::ConfigGeneration { .. })
                ),
                "deleted, and wanted"
            );
        }
    }

    async fn power_cut(&mut self, seed: u64) {
        let store = self.store.take().unwrap();
        self.store = Some(self.bench.crash(store, seed).await);
    }

    /// What is listed is wanted, and what can be read of it is right.
    async fn check_listing(&mut self) {
        self.model.learn_config(&self.store().clone());
        let listing = self.store().list().await;
        let Some(config) = self.store().config() else { return };
        if listing.generation != config.generation {
            return;
        }
        for hash in listing.list.keys() {
            assert!(config.artifacts.contains(hash), "listed, and not wanted");
            let artifact = self.model.artifacts.iter().find(|artifact| artifact.hash == *hash).unwrap();
            if let Ok(bytes) = read(self.store(), *hash).await {
                assert_eq!(bytes, artifact.bytes);
            }
        }
    }

    /// With every disk well again, everything that was acknowledged and is still wanted is there, on both.
    async fn check_recovery(&mut self) {
        self.bench.machine.stop_after_changes(u64::MAX);
        if self.bench.machine.is_off() {
            self.power_cut(self.crash_seed).await;
        }
        self.bench.faults.iter().for_each(durable_fs::DiskFaults::heal);
        self.bench.disks.iter().for_each(SimDisk::plug_in);
        let well = wait_for(self.store(), "every disk to be well", |listing| {
            listing.datasets.iter().all(|dataset| dataset.health == DatasetHealth::Healthy)
        })
        .await;
        drop(well);
        self.model.learn_config(&self.store().clone());
        if self.model.newest > 0 {
            let generation = self.store().config().expect("every ledger is there").generation;
            assert!(
                generation >= Generation(self.model.newest),
                "acknowledged, and gone back to {generation}"
            );
        }
        let held: Vec<Artifact> = self
            .model
            .held
            .difference(&self.model.rotten)
            .map(|index| self.model.artifacts[*index].clone())
            .collect();
        wait_for(self.store(), "everything that was acknowledged", |listing| {
            held.iter().all(|artifact| copies(listing, artifact) == 2)
        })
        .await;
        for artifact in &held {
            assert_eq!(read(self.store(), artifact.hash).await.unwrap(), artifact.bytes);
        }
        wait_for(self.store(), "what writes have left behind to be removed", |_| {
            (0..DISKS).all(|disk| self.bench.names(disk, "tmp").is_empty())
        })
        .await;
        self.store().shutdown().await;
        for disk in 0..DISKS {
            assert!(self.bench.names(disk, "tmp").is_empty(), "something is left in tmp");
        }
    }
}

fn runs() -> u32 {
    std::env::var("ARTIFACT_STORE_RUNS").map_or(150, |text| text.parse().expect("it is a number"))
}

proptest! {
    // A failing case waits for its full patience, so each try to make it smaller costs that much.
    #![proptest_config(ProptestConfig { cases: runs(), max_shrink_iters: 20, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_operations_faults_and_power_cuts_keeps_the_invariants(
        operations in proptest::collection::vec(operation(), 1..40),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::with_disks(DISKS);
            let store = Some(bench.open().await);
            let mut run = Run { bench, model: Model::new(), store, crash_seed: 0 };
            run.configure(0b1111).await;
            for operation in &operations {
                run.step(operation).await;
            }
            run.check_recovery().await;
        });
    }
}
