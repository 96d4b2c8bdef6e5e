//! Some seeds of the simulation. `VOLUME_SIM_SEED` runs one alone, `VOLUME_SIM_RUNS` so many.

use volume_sim::{Summary, run};

const SEEDS: u64 = 200;

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
