//! The planner against small inventories, and against any inventory: what it never does, and that it gets done.

use super::*;
use crate::{
    inventory::{Admission, Copy, Event, Patience, Stamp, Trouble},
    records::Floor,
};
use durable_fs::{FileMetadata, Space};
use ids::{ClusterId, Generation};
use proptest::prelude::*;
use std::collections::BTreeMap;

const GRACE: Duration = Duration::from_secs(3600);
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
const PATIENCE: Patience = Patience { first: Duration::from_secs(1), longest: Duration::from_secs(8) };

fn hash(number: u8) -> ArtifactHash {
    ArtifactHash([number; 32])
}

fn wall(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + seconds).unwrap()
}

fn config(generation: u64, wanted: &[u8]) -> Arc<StoreArtifactsConfig> {
    let artifacts = wanted.iter().copied().map(hash).collect();
    let cluster_id = ClusterId(uuid::Uuid::from_u128(1));
    Arc::new(StoreArtifactsConfig { cluster_id, generation: Generation(generation), artifacts })
}

/// What a dataset holds, in a test's words: artifact numbers.
#[derive(Clone, Debug, Default)]
struct Holds {
    ledger: Option<Arc<StoreArtifactsConfig>>,
    verified: Vec<u8>,
    unverified: Vec<u8>,
    trash: Vec<u8>,
    quarantined: usize,
}

fn admission(holds: &Holds) -> Admission {
    let file = |verified_at: Option<Timestamp>| {
        move |number: &u8| {
            let metadata =
                FileMetadata { size: 10, modified_ns: i64::from(*number), read_only: true, is_file: true };
            (hash(*number), (metadata, verified_at))
        }
    };
    let verified = holds.verified.iter().map(file(Some(wall(0))));
    let aside = |number: u8| (SetAside::new(hash(number), wall(0)), 10);
    Admission {
        ledger: holds.ledger.clone().map_or(LedgerCopy::Absent, LedgerCopy::Valid),
        floor: None,
        artifacts: holds.unverified.iter().map(file(None)).chain(verified).collect(),
        trash: holds.trash.iter().copied().map(aside).collect(),
        quarantine: (0..holds.quarantined).map(|number| aside(u8::try_from(number).unwrap())).collect(),
        space: Space { capacity: 1 << 40, available: 1 << 39, read_only: false },
        read_only: false,
    }
}

struct World {
    inventory: Inventory,
    start: Instant,
    busy: BTreeSet<(DatasetIndex, Lane)>,
}

impl World {
    /// A settled store of these datasets.
    fn new(datasets: &[Holds]) -> World {
        let start = Instant::now();
        let mut inventory = Inventory::new(datasets.len(), start, PATIENCE);
        for (dataset, holds) in datasets.iter().enumerate() {
            inventory.apply(Event::Admitted { dataset, admission: admission(holds), now: start });
        }
        inventory.apply(Event::Settled { now: start });
        World { inventory, start, busy: BTreeSet::new() }
    }

    fn plan_after(&self, seconds: u64) -> Plan {
        let checked_at = vec![self.start; self.inventory.datasets.len()];
        let circumstances = Circumstances {
            now: self.start + Duration::from_secs(seconds),
            wall: wall(i64::try_from(seconds).unwrap()),
            trash_grace: GRACE,
            check_interval: CHECK_INTERVAL,
            busy: &self.busy,
            checked_at: &checked_at,
        };
        plan(&self.inventory, &circumstances)
    }

    fn starts(&self) -> Vec<(DatasetIndex, Job)> {
        self.plan_after(0).starts
    }

    fn trouble(&mut self, dataset: DatasetIndex, trouble: Trouble) {
        let incarnation = self.inventory.datasets[dataset].incarnation;
        let reason = "test".to_owned();
        self.inventory.apply(Event::Troubled { dataset, incarnation, trouble, reason, now: self.start });
    }
}

fn well(wanted: &[u8]) -> Holds {
    Holds { ledger: Some(config(1, wanted)), verified: wanted.to_vec(), ..Holds::default() }
}

#[test]
fn nothing_but_admission_is_planned_before_the_store_is_settled() {
    let start = Instant::now();
    let mut inventory = Inventory::new(2, start, PATIENCE);
    let holds = Holds { unverified: vec![1], trash: vec![2], ..well(&[]) };
    inventory.apply(Event::Admitted { dataset: 0, admission: admission(&holds), now: start });
    let world = World { inventory, start, busy: BTreeSet::new() };
    assert_eq!(world.plan_after(100_000).starts, [(1, Job::Admit)]);
}

#[test]
fn a_store_that_is_well_is_idle_until_somebody_should_look() {
    let world = World::new(&[well(&[1, 2]), well(&[1, 2])]);
    assert_eq!(world.plan_after(0), Plan { starts: Vec::new(), wake_at: Some(world.start + CHECK_INTERVAL) });
    assert_eq!(world.plan_after(30).starts, [(0, Job::Check), (1, Job::Check)]);
}

#[test]
fn without_a_config_nothing_is_moved_removed_or_copied() {
    let holds =
        Holds { verified: vec![1], unverified: vec![2], trash: vec![3], quarantined: 99, ..Holds::default() };
    let world = World::new(&[holds, Holds::default()]);
    assert_eq!(world.plan_after(0).starts, []);
    assert!(world.plan_after(1_000_000).starts.iter().all(|(_, job)| *job == Job::Check));
}

#[test]
fn an_unwanted_copy_goes_to_the_trash_and_leaves_it_after_the_grace() {
    let world = World::new(&[Holds { verified: vec![1, 9], trash: vec![8], ..well(&[1]) }]);
    assert_eq!(world.starts(), [(0, Job::Trash(vec![hash(9)]))]);
    let world = World::new(&[Holds { trash: vec![8], ..well(&[1]) }]);
    assert_eq!(world.starts(), []);
    let expired = world.plan_after(3600).starts;
    assert_eq!(expired, [(0, Job::PurgeTrash(vec![SetAside::new(hash(8), wall(0))]))]);
}

#[test]
fn a_wanted_artifact_comes_back_from_the_trash_rather_than_from_the_other_disk() {
    let mut one = well(&[1]);
    one.verified.clear();
    one.trash.push(1);
    let world = World::new(&[one, well(&[1])]);
    assert_eq!(world.starts(), [(0, Job::Restore(vec![SetAside::new(hash(1), wall(0))]))]);
}

#[test]
fn a_missing_copy_is_repaired_only_onto_a_healthy_disk_that_nobody_writes_it_to() {
    let lacking = Holds { verified: vec![2], ..well(&[1, 2]) };
    let mut world = World::new(&[well(&[1, 2]), lacking]);
    let repair = [(1, Job::Repair(vec![hash(1)]))];
    assert_eq!(world.starts(), repair);
    world.inventory.apply(Event::WriteBegan { hash: hash(1) });
    assert_eq!(world.starts(), []);
    world.inventory.apply(Event::WriteEnded { hash: hash(1) });
    world.inventory.apply(Event::Postponed { dataset: 1, hash: hash(1), now: world.start });
    assert_eq!(world.plan_after(0), Plan { starts: vec![], wake_at: Some(world.start + PATIENCE.first) });
    assert_eq!(world.plan_after(1).starts, repair);
    world.trouble(1, Trouble::Full { needed: 10 });
    assert_eq!(world.starts(), []);
    world.trouble(0, Trouble::Failed);
    assert_eq!(world.plan_after(2).starts, [(0, Job::Admit), (1, Job::Probe)], "no source is left");
}

#[test]
fn an_unverified_copy_is_hashed_if_it_is_wanted_and_is_no_source() {
    let unverified = Holds { verified: vec![], unverified: vec![1], ..well(&[1]) };
    let lacking = Holds { verified: vec![], ..well(&[1]) };
    let world = World::new(&[unverified, lacking]);
    assert_eq!(world.starts(), [(0, Job::Verify(vec![hash(1)]))]);
}

#[test]
fn a_copy_that_was_not_read_is_hashed_after_a_pause_whatever_else_happens_to_its_disk() {
    let mut world = World::new(&[well(&[1])]);
    let seen = Stamp { size: 10, modified_ns: 1 };
    for now in [world.start, world.start + PATIENCE.first / 2] {
        world.inventory.apply(Event::NotRead { dataset: 0, hash: hash(1), seen, now });
    }
    let verify = [(0, Job::Verify(vec![hash(1)]))];
    for again in [false, true] {
        if again {
            let event = Event::Admitted { dataset: 0, admission: admission(&well(&[1])), now: world.start };
            world.inventory.apply(event);
        }
        assert!(world.inventory.readable_copies(&hash(1)).is_empty());
        let early = world.plan_after(0);
        assert_eq!((early.starts, early.wake_at), (vec![], Some(world.start + PATIENCE.first)));
        assert_eq!(world.plan_after(PATIENCE.first.as_secs()).starts, verify);
    }
    world.inventory.apply(Event::Condemned { dataset: 0, hash: hash(1), seen, at: wall(1) });
    world.inventory.apply(Event::NotRead { dataset: 0, hash: hash(1), seen, now: world.start });
    assert_eq!(world.starts(), [(0, Job::Quarantine(vec![hash(1)]))]);
}

#[test]
fn a_stale_ledger_is_rewritten_on_healthy_disks() {
    let stale = Holds { ledger: Some(config(1, &[1])), ..well(&[1]) };
    let newer = Holds { ledger: Some(config(2, &[1])), ..well(&[1]) };
    let mut world = World::new(&[stale, newer, well(&[1])]);
    let job = Job::WriteLedger(config(2, &[1]));
    assert_eq!(world.starts(), [(0, job.clone()), (2, job.clone())]);
    world.trouble(2, Trouble::Full { needed: 1 });
    assert_eq!(world.starts(), [(0, job)]);
}

#[test]
fn a_failed_disk_is_admitted_again_when_its_lanes_are_idle_with_growing_pauses() {
    let mut world = World::new(&[well(&[1])]);
    let mut waited = 0;
    for pause in [1, 2, 4, 8, 8] {
        let now = world.start + Duration::from_secs(waited);
        let reason = "test".to_owned();
        world.inventory.apply(Event::Troubled {
            dataset: 0,
            incarnation: 1,
            trouble: Trouble::Missing,
            reason,
            now,
        });
        let due = now + Duration::from_secs(pause);
        assert_eq!(world.plan_after(waited), Plan { starts: vec![], wake_at: Some(due) }, "after {waited} s");
        waited += pause;
        assert_eq!(world.plan_after(waited).starts, [(0, Job::Admit)]);
    }
    world.busy.insert((0, Lane::Bulk));
    assert_eq!(world.plan_after(waited).starts, []);
}

#[test]
fn quarantine_keeps_a_bounded_number_of_copies() {
    let world = World::new(&[Holds { quarantined: 18, ..well(&[]) }]);
    let surplus: Vec<_> = (0..2).map(|number| SetAside::new(hash(number), wall(0))).collect();
    assert_eq!(world.starts(), [(0, Job::PurgeQuarantine(surplus))]);
}

#[test]
fn a_lane_gets_one_job_at_a_time() {
    let mut world = World::new(&[Holds { verified: vec![9], unverified: vec![1], ..well(&[1]) }]);
    assert_eq!(world.starts(), [(0, Job::Trash(vec![hash(9)])), (0, Job::Verify(vec![hash(1)]))]);
    world.busy.insert((0, Lane::Control));
    assert_eq!(world.starts(), [(0, Job::Verify(vec![hash(1)]))]);
}

#[test]
fn the_gates_let_nothing_wanted_go_and_nothing_unwanted_in() {
    let holds = Holds { verified: vec![1, 8, 9], trash: vec![2, 7], ..well(&[1, 2]) };
    let mut world = World::new(std::slice::from_ref(&holds));
    let inventory = &mut world.inventory;
    let stamp = |number: u8| Stamp { size: 10, modified_ns: i64::from(number) };
    assert_eq!(inventory.begin_trash(0, &hash(1)), None, "it is wanted");
    assert_eq!(inventory.begin_trash(0, &hash(5)), None, "it is not there");
    assert_eq!(inventory.begin_trash(0, &hash(8)), Some(Standing::Verified { at: wall(0) }));
    inventory.apply(Event::Condemned { dataset: 0, hash: hash(9), seen: stamp(9), at: wall(1) });
    assert_eq!(inventory.begin_trash(0, &hash(9)), None, "it belongs into quarantine");
    assert!(!inventory.begin_purge(0, &SetAside::new(hash(2), wall(0))), "it is wanted");
    assert!(inventory.begin_purge(0, &SetAside::new(hash(7), wall(0))));
    assert!(!inventory.begin_purge(0, &SetAside::new(hash(7), wall(0))), "it is gone");
    assert!(inventory.may_publish(0, 1, &hash(1)).is_ok());
    assert!(inventory.may_publish(0, 0, &hash(1)).is_err(), "begun before the disk was admitted again");
    assert!(inventory.may_publish(0, 1, &hash(8)).is_err(), "it is not wanted");
    let mut world = World::new(&[Holds { ledger: None, ..holds }]);
    assert_eq!(world.inventory.begin_trash(0, &hash(9)), None, "nobody has said what is wanted");
    assert!(!world.inventory.begin_purge(0, &SetAside::new(hash(7), wall(0))));
}

#[test]
fn what_an_event_says_of_another_file_than_the_one_that_is_there_is_ignored() {
    let mut world = World::new(&[well(&[1])]);
    let other = Stamp { size: 10, modified_ns: 77 };
    let at = wall(1);
    for event in [
        Event::Condemned { dataset: 0, hash: hash(1), seen: other, at },
        Event::Changed { dataset: 0, hash: hash(1), seen: other, stamp: other },
        Event::Vanished { dataset: 0, hash: hash(1), seen: other },
    ] {
        world.inventory.apply(event);
        assert_eq!(world.inventory.readable_copies(&hash(1)).len(), 1);
    }
    let late = Event::Troubled {
        dataset: 0,
        incarnation: 0,
        trouble: Trouble::Failed,
        reason: "an operation begun before the disk was admitted again".to_owned(),
        now: world.start,
    };
    world.inventory.apply(late);
    assert!(world.inventory.datasets[0].health.is_readable());
}

#[test]
fn what_was_condemned_stays_so_when_its_disk_is_admitted_again() {
    let mut world = World::new(&[well(&[1])]);
    let seen = Stamp { size: 10, modified_ns: 1 };
    world.inventory.apply(Event::Condemned { dataset: 0, hash: hash(1), seen, at: wall(1) });
    let event = Event::Admitted { dataset: 0, admission: admission(&well(&[1])), now: world.start };
    world.inventory.apply(event);
    assert!(world.inventory.readable_copies(&hash(1)).is_empty());
    assert_eq!(world.starts(), [(0, Job::Quarantine(vec![hash(1)]))]);
}

/// Carries a job out as a disk that works would, and tells the inventory what the real one tells it.
fn carry_out(world: &mut World, dataset: DatasetIndex, job: Job) {
    let inventory = &mut world.inventory;
    let stamp = |hash: &ArtifactHash| Stamp { size: 10, modified_ns: i64::from(hash.0[0]) };
    match job {
        Job::WriteLedger(config) => drop(inventory.apply(Event::LedgerWritten { dataset, config })),
        Job::Trash(hashes) => {
            for hash in hashes {
                assert!(inventory.begin_trash(dataset, &hash).is_some(), "planned, and refused by the gate");
                inventory.apply(Event::Trashed { dataset, entry: SetAside::new(hash, wall(1)) });
            }
        }
        Job::Restore(entries) => {
            for entry in entries {
                assert!(inventory.is_restorable(dataset, &entry));
                let stamp = stamp(&entry.hash);
                inventory.apply(Event::Restored { dataset, entry, stamp, verified_at: None });
            }
        }
        Job::Verify(hashes) => {
            for hash in hashes {
                let stamp = stamp(&hash);
                inventory.apply(Event::Verified { dataset, hash, seen: stamp, stamp, at: wall(1) });
            }
        }
        Job::Repair(hashes) => {
            for hash in hashes {
                assert!(!inventory.readable_copies(&hash).is_empty(), "repair without a source");
                let incarnation = inventory.datasets[dataset].incarnation;
                inventory.may_publish(dataset, incarnation, &hash).unwrap();
                inventory.apply(Event::Published { dataset, hash, stamp: stamp(&hash), at: wall(1) });
            }
        }
        Job::PurgeTrash(entries) => {
            for entry in entries {
                assert!(inventory.begin_purge(dataset, &entry), "planned, and refused by the gate");
            }
        }
        Job::PurgeQuarantine(entries) => {
            for entry in entries {
                inventory.apply(Event::QuarantinePurged { dataset, entry });
            }
        }
        other => panic!("{other:?} was not expected on healthy disks"),
    }
}

fn holds() -> impl Strategy<Value = Holds> {
    let numbers = || proptest::collection::btree_set(0..12_u8, 0..8);
    (numbers(), numbers(), numbers(), 0..20_usize, proptest::option::of(0..2_u64)).prop_map(
        |(verified, unverified, trash, quarantined, generation)| Holds {
            ledger: generation.map(|generation| config(generation + 1, &[1, 2, 3, 4, 5, 6])),
            unverified: unverified.difference(&verified).copied().collect(),
            verified: verified.into_iter().collect(),
            trash: trash.into_iter().collect(),
            quarantined,
        },
    )
}

proptest! {
    #[test]
    fn any_store_on_healthy_disks_comes_to_rest_with_what_is_wanted_on_every_disk(
        mut datasets in proptest::collection::vec(holds(), 1..4),
    ) {
        datasets[0].ledger = Some(config(2, &[1, 2, 3, 4, 5, 6]));
        let wanted: BTreeSet<u8> = (1..=6).collect();
        let available: BTreeSet<u8> = datasets
            .iter()
            .flat_map(|holds| holds.verified.iter().chain(&holds.unverified).chain(&holds.trash))
            .copied()
            .filter(|number| wanted.contains(number))
            .collect();
        let mut world = World::new(&datasets);
        let mut passes = 0;
        loop {
            let starts = world.starts();
            if starts.is_empty() {
                break;
            }
            passes += 1;
            prop_assert!(passes < 100, "still not at rest: {:?}", starts);
            for (dataset, job) in starts {
                carry_out(&mut world, dataset, job);
            }
        }
        for state in &world.inventory.datasets {
            let held: BTreeSet<u8> = state.copies.keys().map(|hash| hash.0[0]).collect();
            prop_assert_eq!(&held, &available);
            let verified = |copy: &Copy| matches!(copy.standing, Standing::Verified { .. });
            prop_assert!(state.copies.values().all(verified));
            let LedgerCopy::Valid(ledger) = &state.ledger else { panic!("no ledger") };
            prop_assert_eq!(ledger.generation, Generation(2));
            let sum = |files: &BTreeMap<SetAside, u64>| files.values().sum::<u64>();
            let copies: u64 = state.copies.values().map(|copy: &Copy| copy.stamp.size).sum();
            prop_assert_eq!(state.stored_bytes, copies + sum(&state.trash) + sum(&state.quarantine));
        }
    }
}

#[test]
fn every_pair_of_ledgers_gives_the_newest_of_one_cluster_and_never_less_than_is_known() {
    let cluster = |number| ClusterId(uuid::Uuid::from_u128(number));
    let of = |number, generation| {
        let mut config = (*config(generation, &[])).clone();
        config.cluster_id = cluster(number);
        LedgerCopy::Valid(Arc::new(config))
    };
    let ledgers = || {
        [
            LedgerCopy::Absent,
            LedgerCopy::Unreadable("torn".to_owned()),
            of(1, 1),
            of(1, 2),
            of(2, 1),
            of(2, 3),
        ]
    };
    let floors = [None, Some((1, 1)), Some((1, 2)), Some((2, 3))];
    for (first, second) in ledgers().iter().flat_map(|first| ledgers().map(|second| (first.clone(), second)))
    {
        for floor in floors {
            let floor = floor.map(|(number, generation)| Floor {
                cluster_id: cluster(number),
                generation: Generation(generation),
            });
            let start = Instant::now();
            let mut inventory = Inventory::new(2, start, PATIENCE);
            for (dataset, ledger) in [first.clone(), second.clone()].into_iter().enumerate() {
                let floor = floor.filter(|_| dataset == 0);
                let admission = Admission { ledger, floor, ..admission(&Holds::default()) };
                inventory.apply(Event::Admitted { dataset, admission, now: start });
            }
            inventory.apply(Event::Settled { now: start });
            let case = format!("{first:?}, {second:?}, {floor:?}");
            let valid = |ledger: &LedgerCopy| match ledger {
                LedgerCopy::Valid(config) => Some(Floor::of(config)),
                _ => None,
            };
            // A ledger that can be read says whose a disk is; the records of that disk only where there is none.
            let counted =
                floor.filter(|floor| valid(&first).is_none_or(|first| first.cluster_id == floor.cluster_id));
            let ours = valid(&first).or(counted).or(valid(&second)).map(|known| known.cluster_id);
            let candidates = [valid(&first), valid(&second)].into_iter().flatten();
            let newest =
                candidates.filter(|known| Some(known.cluster_id) == ours).map(|known| known.generation).max();
            let expected = newest.filter(|newest| counted.is_none_or(|floor| *newest >= floor.generation));
            assert_eq!(inventory.in_force.as_ref().map(|config| config.generation), expected, "{case}");
            let foreign = valid(&second).is_some_and(|second| Some(second.cluster_id) != ours);
            assert_eq!(!inventory.datasets[1].health.is_readable(), foreign, "{case}");
        }
    }
}
