//! Some seeds of the simulation. `VOLUME_SIM_SEED` runs one alone, `VOLUME_SIM_RUNS` so many.

use volume_sim::{Summary, run};

const SEEDS: u64 = 200;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("it is a number"))
}

#[test]
fn what_is_promised_holds_whatever_happens() {
    let number =
        |variable: &str| std::env::var(variable).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seeds = match number("VOLUME_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("VOLUME_SIM_RUNS").unwrap_or(SEEDS),
    };
    let (mut all, mut broken) = (Summary::default(), Vec::new());
    for seed in seeds.clone() {
        match std::panic::catch_unwind(|| run(seed)) {
            Ok(Ok(summary)) => all = all.and(summary),
            Ok(Err(promise)) => broken.push(format!("VOLUME_SIM_SEED={seed}: {promise}")),
            Err(_) => broken.push(format!("VOLUME_SIM_SEED={seed}: a panic")),
        }
    }
    println!("{all:?}");
    assert!(broken.is_empty(), "{} of {seeds:?}:\n{}", broken.len(), broken.join("\n"));
    if seeds.end >= SEEDS {
        assert!(all.reads > 50_000 && all.faults > 5_000, "{all:?}");
    }
}

#[test]
fn leaving_out_any_rule_breaks_a_promise() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut missed = Vec::new();
    for mutant in volume_sim::mutants() {
        let breaks = |seed: &u64| {
            let left_out = || std::panic::catch_unwind(|| run(*seed));
            !matches!(mutant.left_out(left_out), Ok(Ok(_)))
        };
        match (0..number("VOLUME_SIM_MUTANT_RUNS").unwrap_or(100)).find(breaks) {
            Some(seed) => println!("{mutant:?} is noticed by seed {seed}"),
            None => missed.push(mutant),
        }
    }
    let _ = std::panic::take_hook();
    println!("not noticed: {missed:?}");
}
