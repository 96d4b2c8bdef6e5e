//! Ten thousand sleds and a hundred artifacts, in the three states that cost most. The time is printed, not asserted:
//! a limit would test the machine; what is asserted is that the plans are right.

use crate::scene::{Scene, hash, holdings, limit, sled};
use ids::SledId;
use nexus_replication::{Cell, Inputs, Plan, SledView, plan};
use std::time::Instant;
use uuid::Uuid;

const SLEDS: u128 = 10_000;
const ARTIFACTS: u8 = 100;
const TRANSFERS: usize = 4_096;

fn cluster(held_by: impl Fn(u128, u8) -> bool) -> Inputs {
    let mut scene = Scene::new().limits(|it| {
        it.transfers_per_target = limit(2);
        it.transfers_per_source = limit(4);
        it.puts_total = limit(16);
        it.transfers_total = limit(TRANSFERS.try_into().expect("a small number"));
    });
    for number in 0..ARTIFACTS {
        scene = scene.staged(number, 1 + u64::from(number));
    }
    for number in 0..SLEDS {
        let holdings = holdings((0..ARTIFACTS).filter(|artifact| held_by(number, *artifact)));
        scene.inputs.sleds.insert(SledId(Uuid::from_u128(number)), SledView::Ready(holdings));
    }
    scene.inputs
}

fn timed(what: &str, inputs: &Inputs) -> Plan {
    let begin = Instant::now();
    let plan = plan(inputs);
    println!("{what}: {:?}, {} transfers start", begin.elapsed(), plan.start.len());
    plan
}

#[test]
fn ten_thousand_sleds_are_planned_in_every_state() {
    let empty = timed("nobody has anything", &cluster(|_, _| false));
    assert_eq!(empty.summary.transfers.puts_started, 16);

    let half = timed(
        "each has every other artifact",
        &cluster(|sled, artifact| (sled + u128::from(artifact)) % 2 == 0),
    );
    assert_eq!(half.start.len(), TRANSFERS);

    let one_new = timed("one sled is new", &cluster(|number, _| number != 3));
    assert_eq!(one_new.start.len(), 2);
    assert_eq!(one_new.cells.get(sled(3), &hash(0)), Some(Cell::WaitingForTargetSlot));

    let full = timed("everybody has everything", &cluster(|_, _| true));
    assert!(full.start.is_empty() && full.summary.fully_replicated);
}
