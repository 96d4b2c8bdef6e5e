//! A region on a disk that loses its power at any operation, or fails at a sync, and then has any sectors of any unsynced writes: what an opening finds is
//! always one of the states that there were, all of it, and never an older one than the last that was durable. The same for
//! processes that are killed, which lose nothing at all. Each snapshot that was taken is there, and is what it was of; one that was begun is, or is not.
//!
//! A run prints its seed when it fails; `REGION_CRASH_SEED` runs that one alone, `REGION_CRASH_RUNS` more of them.

mod model;
mod snapshots;
mod world;

use region::Rule;
use std::panic::catch_unwind;
use world::{Found, World};

const RUNS: u64 = 300;
const STEPS: usize = 120;

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("it is a number"))
}

/// One run.
fn run(seed: u64) -> Found {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step();
    }
    if !world.machine.is_off() {
        world.check_blocks();
    }
    world.found
}

#[test]
fn an_opening_finds_a_whole_state_that_is_not_older_than_what_was_durable() {
    let seeds = match number_from("REGION_CRASH_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number_from("REGION_CRASH_RUNS").unwrap_or(RUNS),
    };
    let is_all = seeds.end - seeds.start > 100;
    let mut found = Found::default();
    for seed in seeds {
        eprintln!("REGION_CRASH_SEED={seed}");
        let one = run(seed);
        found.openings += one.openings;
        found.shorter += one.shorter;
        found.groups += one.groups;
        found.failed_syncs += one.failed_syncs;
        found.checkpoints += one.checkpoints;
        found.without_room += one.without_room;
        found.snapshots += one.snapshots;
        found.deleted += one.deleted;
        found.late += one.late;
        found.with_tracts += one.with_tracts;
        found.read_beside += one.read_beside;
        found.read_again += one.read_again;
    }
    eprintln!("{found:?}");
    if is_all {
        assert!(found.openings > 500 && found.shorter > 100, "{found:?}");
        assert!(
            found.without_room > 5
                && found.snapshots > 300
                && found.deleted > 20
                && found.late > 5
                && found.with_tracts > 50,
            "{found:?}"
        );
        assert!(found.read_beside > 300 && found.read_again > 30, "{found:?}");
        assert!(found.checkpoints > 30 && found.groups > 20 && found.failed_syncs > 30, "{found:?}");
    }
}

/// Rules that rot shows (`rot.rs`), or that take two lives with the same bytes (`lives.rs`).
const ELSEWHERE: [Rule; 4] =
    [Rule::DurableIsMissed, Rule::CopiesAreEqual, Rule::WrongCopyFirst, Rule::LifeBeginsDurably];

#[test]
fn leaving_out_any_rule_is_noticed() {
    std::panic::set_hook(Box::new(|_| {}));
    for rule in Rule::ALL.iter().copied().filter(|rule| !ELSEWHERE.contains(rule)) {
        let mut seeds = 0..3_000;
        let noticed = seeds.find(|seed| rule.left_out(|| catch_unwind(|| run(*seed))).is_err());
        let seed = noticed.unwrap_or_else(|| {
            let _ = std::panic::take_hook();
            panic!("{rule:?} may be left out")
        });
        println!("{rule:?} is missed by seed {seed}");
    }
    let _ = std::panic::take_hook();
}
