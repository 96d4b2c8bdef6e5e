//! Some seeds of the simulation. `VOLUME_SIM_SEED` runs one alone, `VOLUME_SIM_RUNS` so many; `VOLUME_SIM_MUTANT` leaves out
//! the rules alone whose names contain it.

use std::{
    panic::{catch_unwind, set_hook, take_hook},
    sync::Mutex,
    thread,
};
use upstairs::Rule;
use volume_sim::{Mutant, campaign, mutants, run, second_line};

const SEEDS: u64 = 200;

/// A rule that is left out is noticed by one of so many seeds.
const MUTANT_SEEDS: u64 = 150;

/// Those that take more seeds, some hundreds: `cargo xtask sim volume --mutate` notices them.
const RARE: [Mutant; 2] = [Mutant::Upstairs(Rule::FillingNeverCounts), Mutant::Upstairs(Rule::SamePosition)];

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
    }
}

#[test]
fn leaving_out_any_rule_breaks_a_promise() {
    let before = take_hook();
    set_hook(Box::new(|_| {}));
    let left: Mutex<Vec<Mutant>> = Mutex::new(match std::env::var("VOLUME_SIM_MUTANT") {
        Ok(name) => second_line()
            .iter()
            .copied()
            .chain(mutants())
            .filter(|mutant| format!("{mutant:?}").contains(&name))
            .collect(),
        Err(_) => mutants().into_iter().filter(|mutant| !RARE.contains(mutant)).collect(),
    });
    let missed: Mutex<Vec<Mutant>> = Mutex::default();
    let runs = number("VOLUME_SIM_MUTANT_RUNS").unwrap_or(MUTANT_SEEDS);
    let work = || {
        let next = || left.lock().expect("nobody panics with it").pop();
        while let Some(mutant) = next() {
            let how = (0..runs).find_map(|seed| {
                let result = catch_unwind(|| mutant.left_out(|| run(seed)));
                match result {
                    Ok(Ok(_)) => None,
                    Ok(Err(promise)) => Some((seed, promise)),
                    Err(_) => Some((seed, "a panic".to_owned())),
                }
            });
            match how {
                Some((seed, how)) => {
                    let how: String = how.chars().take(160).collect();
                    println!("{mutant:?} is noticed by seed {seed}: {how}");
                }
                None => missed.lock().expect("nobody panics with it").push(mutant),
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
    set_hook(before);
    let missed = missed.into_inner().expect("nobody panics with it");
    assert!(missed.is_empty(), "the simulation does not notice that these are left out: {missed:?}");
}
