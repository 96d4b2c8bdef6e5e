//! `volume-sim`: many seeds, or every rule left out in turn. `cargo xtask sim volume` runs it.

use clap::Parser;
use std::{io::Write, ops::Range, process::ExitCode, time::Instant};
use volume_sim::{Campaign, Mutant, campaign, leave_out_each, mutants};

/// Whole volumes in a simulation: what is promised has to hold whatever happens.
#[derive(Debug, Parser)]
#[command(
    name = "volume-sim",
    after_help = "Exit codes: 0 every promise was kept (with --mutate: every rule that was left out was noticed); 1 otherwise;\n\
2 bad arguments.\n\
A seed decides everything: --seed N runs one again."
)]
struct Arguments {
    /// How many seeds; with --mutate, how many for each rule at most
    #[arg(long, default_value_t = 10_000)]
    seeds: u64,
    /// The first one
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Only this one
    #[arg(long, conflicts_with_all = ["seeds", "first"])]
    seed: Option<u64>,
    /// Leave each rule out in turn, until it is noticed
    #[arg(long)]
    mutate: bool,
    /// With --mutate: only those that have this in their names
    #[arg(long, value_name = "NAME", requires = "mutate")]
    only: Option<String>,
    /// Threads
    #[arg(long, default_value_t = 2)]
    threads: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = match arguments.seed {
        Some(seed) => seed..seed.saturating_add(1),
        None => arguments.first..arguments.first.saturating_add(arguments.seeds),
    };
    if arguments.mutate {
        mutate(&seeds, arguments.threads, arguments.only.as_deref())
    } else {
        simulate(seeds, arguments.threads)
    }
}

fn simulate(seeds: Range<u64>, threads: usize) -> ExitCode {
    let (started, count) = (Instant::now(), seeds.end - seeds.start);
    let progress = |so_far: &Campaign| {
        if so_far.seeds.is_multiple_of(100) {
            // Whoever does not look does not see it.
            let _ = write!(
                std::io::stderr(),
                "\r{} of {count} seeds, {} broken",
                so_far.seeds,
                so_far.broken.len()
            );
        }
    };
    let all = campaign(seeds, threads, progress);
    let summary = all.summary;
    println!(
        "\r{} seeds in {:.0} s: {} faults, {} Upstairs, {} jobs done, {} given up, {} reads checked, {} blocks sealed, {} lost, {} reads unreadable, {} members replaced, {} snapshots taken, {} deleted, {} times compared; {} seeds broke a promise",
        all.seeds,
        started.elapsed().as_secs_f64(),
        summary.faults,
        summary.writers,
        summary.jobs,
        summary.given_up,
        summary.reads,
        summary.sealed,
        summary.lost,
        summary.unreadable,
        summary.replaced,
        summary.snapshots,
        summary.deleted,
        summary.compared,
        all.broken.len()
    );
    for (seed, promise) in &all.broken {
        println!("seed {seed}: {promise}\n  again: cargo xtask sim volume --seed {seed}");
    }
    if all.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn mutate(seeds: &Range<u64>, threads: usize, name: Option<&str>) -> ExitCode {
    let is_meant = |mutant: &Mutant| name.is_none_or(|name| format!("{mutant:?}").contains(name));
    let meant: Vec<Mutant> = mutants().into_iter().filter(is_meant).collect();
    if meant.is_empty() {
        let known: Vec<String> = mutants().iter().map(|mutant| format!("{mutant:?}")).collect();
        eprintln!("error: no rule has this in its name; there are: {}", known.join(", "));
        return ExitCode::from(2);
    }
    let missed = leave_out_each(meant, seeds, threads, |mutant, broken| match broken {
        Some((seed, promise)) => {
            let promise: String = promise.chars().take(120).collect();
            println!("{mutant:?} is noticed by seed {seed}: {promise}");
        }
        None => println!("{mutant:?} may be left out"),
    });
    if missed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
