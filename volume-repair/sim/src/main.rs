//! `volume-sim`: many seeds, one rule left out, or every rule in turn. `cargo xtask sim volume` runs it.

use clap::Parser;
use std::{io::Write, ops::Range, process::ExitCode, time::Instant};
use volume_sim::{Campaign, Mutant, campaign, leave_out_each, mutants, second_line};

/// Whole volumes in a simulation: what is promised has to hold whatever happens.
#[derive(Debug, Parser)]
#[command(
    name = "volume-sim",
    after_help = "Exit codes: 0 every promise was kept; 1 one was broken, as it has to be with --mutate; 2 bad arguments.\n\
With --mutate-all: 0 every rule that was left out was noticed, or has a test of its own that does; 1 otherwise.\n\
A seed decides everything: --replay SEED runs one again. --list-rules says which rules there are, and who notices that one is left out."
)]
struct Arguments {
    /// How many seeds; with a rule left out, how many at most
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// The first one
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    first: u64,
    /// Only this one
    #[arg(long, value_name = "SEED", conflicts_with_all = ["seeds", "first"])]
    replay: Option<u64>,
    /// Print the rules that can be left out, one a line, and what notices it: the simulation, or a package and its test
    #[arg(long, conflicts_with_all = ["seeds", "first", "replay"])]
    list_rules: bool,
    /// Leave this rule out, until a promise is broken
    #[arg(long, value_name = "RULE", conflicts_with = "list_rules")]
    mutate: Option<String>,
    /// Leave each rule out in turn that the simulation notices, until it does
    #[arg(long, conflicts_with_all = ["mutate", "list_rules"])]
    mutate_all: bool,
    /// With --mutate-all: only those that have this in their names
    #[arg(long, value_name = "NAME", requires = "mutate_all")]
    only: Option<String>,
    /// Threads
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
}

/// Exit code of arguments that are not understood.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seeds = match arguments.replay {
        Some(seed) => seed..seed.saturating_add(1),
        None => arguments.first..arguments.first.saturating_add(arguments.seeds),
    };
    if arguments.list_rules {
        list_rules()
    } else if let Some(rule) = &arguments.mutate {
        mutate(&seeds, rule)
    } else if arguments.mutate_all {
        mutate_all(&seeds, arguments.threads, arguments.only.as_deref())
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
        "\r{} seeds in {:.0} s: {} faults, {} Upstairs, {} jobs done, {} given up, {} reads checked, {} blocks sealed, {} lost, {} reads unreadable, {} members replaced, {} snapshots taken ({} asked for once more), {} deleted, {} copies of them read back, {} power losses aimed at them and {} at blocks that are healed, {} times compared; {} seeds broke a promise",
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
        summary.asked_again,
        summary.deleted,
        summary.read_back,
        summary.aimed_at_snapshots,
        summary.aimed_at_heals,
        summary.compared,
        all.broken.len()
    );
    for (seed, promise) in &all.broken {
        println!("seed {seed}: {promise}\n  again: cargo xtask sim volume --replay {seed}");
    }
    if all.broken.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// All that have names, in their order.
fn rules() -> Vec<Mutant> {
    mutants().into_iter().chain(second_line().iter().copied()).collect()
}

fn list_rules() -> ExitCode {
    for rule in rules() {
        match rule.own_test() {
            Some(test) => println!("{:<32} {} {}", rule.to_string(), test.package, test.name),
            None => println!("{:<32} simulation", rule.to_string()),
        }
    }
    ExitCode::SUCCESS
}

fn mutate(seeds: &Range<u64>, name: &str) -> ExitCode {
    let Some(rule) = rules().into_iter().find(|rule| rule.to_string() == name) else {
        let known: Vec<String> = rules().iter().map(ToString::to_string).collect();
        eprintln!("error: there is no rule {name}; there are: {}", known.join(", "));
        return ExitCode::from(USAGE);
    };
    let missed = leave_out_each(vec![rule], seeds, 1, tell);
    // Without the rule a promise is to be broken; as without any, that is a failure.
    if missed.is_empty() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn mutate_all(seeds: &Range<u64>, threads: usize, name: Option<&str>) -> ExitCode {
    let is_meant = |mutant: &Mutant| name.is_none_or(|name| mutant.to_string().contains(name));
    let meant: Vec<Mutant> = mutants().into_iter().filter(is_meant).collect();
    if meant.is_empty() {
        let known: Vec<String> = mutants().iter().map(ToString::to_string).collect();
        eprintln!("error: no rule has this in its name; there are: {}", known.join(", "));
        return ExitCode::from(USAGE);
    }
    let missed = leave_out_each(meant, seeds, threads, tell);
    // One that takes more seeds has a test of its own.
    let is_nobodys = |mutant: &Mutant| mutant.own_test().is_none();
    if missed.iter().any(is_nobodys) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn tell(mutant: Mutant, broken: Option<(u64, String)>) {
    match broken {
        Some((seed, promise)) => {
            let promise: String = promise.chars().take(120).collect();
            println!("{mutant} is noticed by seed {seed}: {promise}");
        }
        None => match mutant.own_test() {
            Some(test) => println!(
                "{mutant} may be left out: none of these seeds notices; {} of {} does",
                test.name, test.package
            ),
            None => println!("{mutant} may be left out: none of these seeds notices"),
        },
    }
}
