//! Some seeds of the simulation. `VOLUME_SIM_SEED` runs one alone, `VOLUME_SIM_RUNS` so many; `VOLUME_SIM_MUTANT` leaves out
//! the rules alone whose names contain it.

use upstairs::Rule;
use volume_sim::{Mutant, campaign, leave_out_each, mutants, run, second_line};

const SEEDS: u64 = 500;

/// A rule that is left out is noticed by one of so many seeds. Most are by one of the first hundred; which ones it takes changes with
/// everything that the simulation or the machines do differently.
const MUTANT_SEEDS: u64 = 800;

/// What takes more seeds, up to some thousands: `cargo xtask sim volume --mutate-all` notices it. They have tests of their own, too.
const RARE: [Mutant; 4] = [
    Mutant::Upstairs(Rule::SamePosition),
    Mutant::Upstairs(Rule::SuspectsWaitLonger),
    Mutant::Upstairs(Rule::AloneOnlyIfOthersAreGone),
    Mutant::Downstairs(downstairs::Rule::PromotionOutlivesConnections),
];

/// Seeds of which some have an Upstairs that is overtaken.
const OVERTAKEN_SEEDS: u64 = 50;

const THREADS: usize = 2;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("it is a number"))
}

#[test]
fn what_is_promised_holds_whatever_happens() {
    let seeds = match number("VOLUME_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("VOLUME_SIM_RUNS").unwrap_or(SEEDS),
    };
    let all = campaign(seeds.clone(), THREADS, |_| {});
    println!("{:?}", all.summary);
    let again = |(seed, promise): &(u64, String)| {
        format!("VOLUME_SIM_SEED={seed} cargo test -p volume-sim --test seeds what_is: {promise}")
    };
    let broken: Vec<String> = all.broken.iter().map(again).collect();
    assert!(broken.is_empty(), "{} of {seeds:?}:\n{}", broken.len(), broken.join("\n"));
    if seeds.start == 0 && seeds.end >= SEEDS {
        assert!(all.summary.reads > 50_000 && all.summary.faults > 3_000, "{all:?}");
        assert!(all.summary.sealed > 100_000 && all.summary.given_up > 100, "{all:?}");
        assert!(all.summary.lost > 50 && all.summary.unreadable > 10, "{all:?}");
        assert!(all.summary.replaced > 100 && all.summary.compared > 10_000, "{all:?}");
        assert!(all.summary.asked_again > 500, "{all:?}");
        assert!(all.summary.snapshots > 5_000 && all.summary.read_back > 20_000, "{all:?}");
        assert!(all.summary.aimed_at_snapshots > 60 && all.summary.aimed_at_heals > 15, "{all:?}");
    }
}

#[test]
fn what_takes_many_seeds_has_a_test_of_its_own() {
    let without: Vec<&Mutant> = RARE.iter().filter(|mutant| mutant.own_test().is_none()).collect();
    assert!(without.is_empty(), "whether these are left out is seen by chance: {without:?}");
}

/// A fault puts right behind a promotion what an older Upstairs has sent.
#[test]
fn leaving_out_that_only_the_promoted_acts_is_noticed_within_tens_of_seeds() {
    let rule = Mutant::Downstairs(downstairs::Rule::OnlyThePromotedActs);
    let missed = leave_out_each(vec![rule], &(0..OVERTAKEN_SEEDS), 1, |_, broken| println!("{broken:?}"));
    assert!(missed.is_empty(), "it is noticed by chance");
}

#[test]
fn leaving_out_any_rule_breaks_a_promise() {
    let meant: Vec<Mutant> = match std::env::var("VOLUME_SIM_MUTANT") {
        Ok(name) => {
            let all = second_line().iter().copied().chain(mutants());
            all.filter(|mutant| format!("{mutant:?}").contains(&name)).collect()
        }
        Err(_) => mutants().into_iter().filter(|mutant| !RARE.contains(mutant)).collect(),
    };
    let seeds = 0..number("VOLUME_SIM_MUTANT_RUNS").unwrap_or(MUTANT_SEEDS);
    let missed = leave_out_each(meant, &seeds, THREADS, |mutant, broken| match broken {
        Some((seed, how)) => {
            let how: String = how.chars().take(160).collect();
            println!("{mutant:?} is noticed by seed {seed}: {how}");
        }
        None => println!("{mutant:?} is noticed by nobody"),
    });
    assert!(missed.is_empty(), "the simulation does not notice that these are left out: {missed:?}");
}

/// The power fails where snapshots are taken and deleted: what they need is durable before what it was kept from is written over.
#[test]
fn a_snapshot_that_becomes_durable_in_another_order_is_noticed_within_tens_of_seeds() {
    for rule in [region::Rule::KeptPagesFirst, region::Rule::OlderOnesGetItsPages] {
        let broken = (2..150).step_by(3).find_map(|seed| rule.left_out(|| run(seed)).err());
        let broken = broken.unwrap_or_else(|| panic!("{rule:?} may be left out"));
        assert!(broken.contains("snapshot"), "{rule:?}: {broken}");
    }
}

/// What versions say alone does not show: the bytes of snapshots are read.
#[test]
fn a_snapshot_whose_bytes_are_written_over_is_noticed() {
    let rule = region::Rule::SnapshotsKeepTheirBlocks;
    // Those that take snapshots, and in which nothing rots.
    let mut seeds = (2..100).step_by(3).filter(|seed| seed % 7 != 5);
    let broken = seeds.find_map(|seed| rule.left_out(|| run(seed)).err());
    let broken = broken.expect("a snapshot is said to be right, and is not");
    assert!(broken.starts_with("snapshot ") && broken.ends_with(" has not its bytes"), "{broken}");
}
