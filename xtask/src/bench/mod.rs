//! `bench NAME`: benchmarks on a release build, each beside a limit or a peer of the same run. Owns the command line and
//! the shape of a row; what is measured is in one file per name.

mod cluster;
mod depot;
mod process;
mod row;
mod sagas;
mod sagas_http;
mod volume;

use crate::cargo::{Profile, build_agent_alone, build_also, build_programs};
use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};
use serde::Serialize;
use std::process::ExitCode;
use tokio::runtime::Runtime;

/// What to measure, and how often.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// The group of benchmarks
    name: Name,
    /// Only these rows of it
    #[arg(long, value_name = "ROW", value_delimiter = ',')]
    only: Vec<String>,
    /// Samples of each row
    #[arg(long, visible_alias = "rounds", value_name = "N", default_value_t = 3)]
    samples: usize,
    /// Volume: longest time of a job, in seconds
    #[arg(long, value_name = "N", default_value_t = volume::JOB_SECONDS, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Volume: only these subjects
    #[arg(long, value_name = "ROLE", value_delimiter = ',')]
    roles: Vec<volume::Role>,
    /// Measure the programs in this directory instead of building them
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<Utf8PathBuf>,
    /// A JSON array of rows instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Name {
    /// The main job, memory under large artifacts, the idle agent
    Depot,
    /// Sagas per second, recovery, memory
    Sagas,
    /// Volumes by fio over NBD: the limit, the peer and ours, side by side, and members that are replaced (some 25 minutes;
    /// `--samples 1`: 9)
    Volume,
}

/// Runs the command.
pub(crate) fn run(args: &BenchArgs) -> Result<ExitCode> {
    let (only, samples) = (&args.only, args.samples.max(1));
    let runtime = Runtime::new()?;
    // Each one checks its rows before the programs are built, which takes minutes.
    match args.name {
        Name::Depot => {
            depot::check(only)?;
            let programs = programs(args, || build_programs(Profile::Release))?;
            print(args, &runtime.block_on(depot::run(&programs, only, samples))?, row::table)
        }
        Name::Sagas => {
            sagas::check(only)?;
            let programs = programs(args, || build_also("nexus-saga-bench", Profile::Release))?;
            print(args, &runtime.block_on(sagas::run(&programs, only, samples))?, row::table)
        }
        Name::Volume => {
            let (seconds, roles) = (args.seconds, args.roles.clone());
            let order = volume::Order { only: only.clone(), roles, samples, seconds };
            order.check()?;
            let programs = programs(args, || build_agent_alone(Profile::Release))?;
            print(args, &runtime.block_on(volume::run(&order, &programs))?, volume::table)
        }
    }
}

/// The directory of the programs that are measured.
fn programs(args: &BenchArgs, build: impl FnOnce() -> Result<Utf8PathBuf>) -> Result<Utf8PathBuf> {
    match &args.bin_dir {
        Some(bin_dir) => camino::absolute_utf8(bin_dir).with_context(|| format!("--bin-dir {bin_dir}")),
        None => build(),
    }
}

fn print<R: Serialize>(args: &BenchArgs, rows: &[R], table: fn(&[R]) -> String) -> Result<ExitCode> {
    if args.json {
        say!("{}", serde_json::to_string_pretty(rows)?);
    } else {
        say!("{}", table(rows).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}
