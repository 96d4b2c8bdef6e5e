//! `sim volume`: whole volumes in a simulation. What is simulated, and what is said, is the `volume-sim` program's; it is built by
//! itself, because it is built to leave rules out, and nothing else may be.

use crate::cargo::{cargo, succeeds};
use anyhow::Result;
use clap::{Args, ValueEnum};
use std::process::{Command, ExitCode};

/// The packages with rules that whole volumes do not miss at once, because others keep theirs: of the format, of one member, of an activation,
/// of volumes of several parts. Their tests that are named so leave out each of them.
const PACKAGES: [&str; 4] = ["region", "downstairs", "upstairs", "volume-layers"];
const LEAVING_OUT: &str = "leaving_out";

/// What is simulated.
#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    /// What is simulated
    what: What,
    /// Handed on: --seeds N, --first N, --seed N, --mutate, --only NAME, --threads N; --help tells of them
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
    let is_all = args.arguments.iter().any(|argument| argument == "--mutate")
        && !args.arguments.iter().any(|argument| argument == "--only" || argument.starts_with("--only="));
    let mut command = cargo()?;
    command.args(["run", "--release", "--quiet", "--package", "volume-sim", "--"]).args(&args.arguments);
    let mut is_noticed = succeeds(&mut command)?;
    if is_all {
        say!("rules of one region, one member, an activation, and volumes of several parts:");
        is_noticed &= succeeds(&mut tests_that_leave_out()?)?;
    }
    Ok(if is_noticed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tests_that_leave_out() -> Result<Command> {
    let mut command = cargo()?;
    command.args(["test", "--quiet"]);
    PACKAGES.iter().for_each(|package| {
        command.args(["--package", package]);
    });
    command.args([LEAVING_OUT, "--", "--show-output"]);
    Ok(command)
}
