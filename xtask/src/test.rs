//! `cargo xtask test`: all tests. Owns which runner runs what, in which order.
//!
//! ```text
//!   build programs and tests, together ─► doc tests ─► nextest, or else `cargo test`: its summary is the last word
//! ```
//!
//! Programs and tests are built in one go because cargo then chooses the features of shared dependencies once; built
//! apart, half of the dependencies would be compiled twice.

use crate::cargo::{cargo, has_subcommand, succeeds};
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

/// Builds the programs and runs all tests.
#[derive(Debug, Args)]
#[command(after_help = "Needs cargo and a C compiler, nothing else. cargo-nextest is used if it is there.\n\
FILTER and what follows it go to the runner: cargo xtask test keeper, cargo xtask test -- --no-capture")]
pub(crate) struct TestArgs {
    /// Only tests whose name contains this, and the runner's own options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FILTER")]
    runner_args: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &TestArgs) -> Result<ExitCode> {
    if !succeeds(cargo()?.args(["build", "--workspace", "--bins", "--tests"]))? {
        eprintln!("error: the programs or the tests do not build; see above");
        return Ok(ExitCode::FAILURE);
    }
    // A filter is after something; examples in documentation are not what it is after.
    let doc_tests =
        !args.runner_args.is_empty() || succeeds(cargo()?.args(["test", "--workspace", "--doc", "--quiet"]))?;
    let mut runner = cargo()?;
    if has_subcommand("nextest")? {
        runner.args(["nextest", "run", "--workspace", "--no-fail-fast"]).args(&args.runner_args);
    } else {
        runner
            .args(["test", "--workspace", "--bins", "--lib", "--tests", "--no-fail-fast"])
            .args(&args.runner_args);
    }
    let tests = succeeds(&mut runner)?;
    if !doc_tests {
        eprintln!("error: documentation tests failed; see the beginning");
    }
    Ok(if tests && doc_tests { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
