//! The laws on any inputs at all: also on those that a sane coordinator never gathers.

use crate::{
    replay, rules,
    scene::{GENERATION, hash, limit, sled},
};
use ids::{ArtifactHash, SledId};
use nexus_replication::{
    Holdings, How, Inputs, Limits, Policy, SledView, Transfer, Wanted, WantedArtifact, plan,
};
use proptest::{
    collection::{btree_map, btree_set, vec},
    option,
    prelude::{Just, Strategy, any, prop_oneof},
};

/// Few, so that they meet.
const SLEDS: u8 = 6;
const ARTIFACTS: u8 = 5;

fn some_sled() -> impl Strategy<Value = SledId> {
    // One more than there can be in service.
    (0..=SLEDS).prop_map(sled)
}

fn some_hash() -> impl Strategy<Value = ArtifactHash> {
    // One more than can be wanted.
    (0..=ARTIFACTS).prop_map(hash)
}

fn some_holdings() -> impl Strategy<Value = Holdings> {
    let datasets = prop_oneof![1 => Just(0_u32), 6 => 1..=2_u32];
    let depot = prop_oneof![1 => Just(false), 6 => Just(true)];
    (btree_map(some_hash(), 0..=2_u32, 0..5), datasets, depot).prop_map(
        |(copies, datasets_writable, depot_reachable)| Holdings {
            copies,
            datasets_writable,
            depot_reachable,
        },
    )
}

fn some_view() -> impl Strategy<Value = SledView> {
    prop_oneof![
        6 => some_holdings().prop_map(SledView::Ready),
        1 => option::of(some_holdings()).prop_map(|last| SledView::Unreachable { last }),
        1 => option::of(some_holdings()).prop_map(|last| SledView::Refusing { last }),
        1 => Just(SledView::Unknown),
    ]
}

fn some_artifact() -> impl Strategy<Value = WantedArtifact> {
    let size = prop_oneof![Just(0), 1..100_u64, Just(u64::MAX)];
    let elsewhere = prop_oneof![3 => Just(false), 1 => Just(true)];
    (size, any::<bool>(), elsewhere).prop_map(|(size, staged_here, staged_elsewhere)| WantedArtifact {
        size,
        staged_here,
        staged_elsewhere,
    })
}

fn some_transfer() -> impl Strategy<Value = Transfer> {
    let how = prop_oneof![
        1 => Just(How::Put),
        2 => vec(some_sled(), 0..3).prop_map(|sources| How::Copy { sources }),
    ];
    let lagging = prop_oneof![3 => Just(false), 1 => Just(true)];
    (some_hash(), some_sled(), how, lagging).prop_map(|(hash, target, how, lagging)| Transfer {
        hash,
        target,
        how,
        lagging,
    })
}

fn some_policy() -> impl Strategy<Value = Policy> {
    let few = || (1..4_u32).prop_map(limit);
    (few(), few(), few(), few(), (1..12_u32).prop_map(limit)).prop_map(
        |(min_replication, transfers_per_target, transfers_per_source, puts_total, transfers_total)| Policy {
            min_replication,
            limits: Limits { transfers_per_target, transfers_per_source, puts_total, transfers_total },
        },
    )
}

fn some_inputs() -> impl Strategy<Value = Inputs> {
    let world = (
        btree_map((0..ARTIFACTS).prop_map(hash), some_artifact(), 0..=usize::from(ARTIFACTS)),
        btree_map((0..SLEDS).prop_map(sled), some_view(), 0..=usize::from(SLEDS)),
        vec(some_transfer(), 0..5),
    );
    let memory = (
        btree_set((some_sled(), some_hash()), 0..6),
        btree_map((some_sled(), some_hash()), btree_set(some_sled(), 0..4), 0..8),
        btree_map(some_hash(), btree_set(some_sled(), 0..4), 0..4),
    );
    (world, memory, some_policy(), any::<u64>()).prop_map(
        |((artifacts, sleds, in_flight), (backing_off, failed_sources, sent_to), policy, rotation)| Inputs {
            wanted: Wanted { generation: GENERATION, artifacts },
            sleds,
            in_flight,
            backing_off,
            failed_sources,
            sent_to,
            policy,
            rotation,
        },
    )
}

#[test]
fn every_plan_keeps_the_laws() {
    replay::for_all("every_plan_keeps_the_laws", &some_inputs(), |inputs| {
        rules::check(&inputs, &plan(&inputs))
    });
}

#[test]
fn plan_left_out_in_part_still_keeps_the_laws() {
    let inputs = (some_inputs(), any::<proptest::sample::Index>());
    replay::for_all("plan_left_out_in_part_still_keeps_the_laws", &inputs, |(mut inputs, kept)| {
        let first = plan(&inputs);
        let kept = kept.index(first.start.len() + 1);
        for start in &first.start[..kept] {
            let (hash, target, how) = (start.hash, start.target, start.how.clone());
            inputs.in_flight.push(Transfer { hash, target, how, lagging: false });
        }
        rules::check(&inputs, &plan(&inputs))
    });
}

#[test]
fn plan_after_all_was_started_starts_nothing() {
    replay::for_all("plan_after_all_was_started_starts_nothing", &some_inputs(), |mut inputs| {
        for start in plan(&inputs).start {
            let (hash, target, how) = (start.hash, start.target, start.how);
            inputs.in_flight.push(Transfer { hash, target, how, lagging: false });
        }
        let again = plan(&inputs).start;
        if again.is_empty() { Ok(()) } else { Err(format!("started only in a second pass: {again:?}")) }
    });
}
