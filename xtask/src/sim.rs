//! `sim volume`: whole volumes in a simulation. What is simulated, and what is said, is the `volume-sim` program's; it is built by
//! itself, because it is built to leave rules out, and nothing else may be.

use crate::cargo::{cargo, succeeds};
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::process::ExitCode;

/// What is simulated.
#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    /// What is simulated
    what: What,
    /// Handed on: --seeds N, --first N, --seed N, --mutate, --threads N; --help tells of them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum What {
    /// Regions, Downstairs and Upstairs over a simulated disk, network and clock
    Volume,
}

pub(crate) fn run(args: &SimArgs) -> Result<ExitCode> {
    let What::Volume = args.what;
    let mut command = cargo()?;
    command.args(["run", "--release", "--quiet", "--package", "volume-sim", "--"]).args(&args.arguments);
    Ok(if succeeds(&mut command)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
