//! Developer commands: `cargo xtask COMMAND`. One file per command; this one only reads the command line.
//!
//! - [`testbed`]: a cluster on this machine, in the foreground or beside.
//! - [`mod@test`], [`ci`]: what must pass, here and there.
//! - [`openapi`], [`errors`]: documents that are printed from the code, written or checked.
//! - [`release`]: the sample release.
//! - [`cargo`], [`workspace`]: running cargo, and where things are.
//!
//! What a command *does* to clusters and releases is in the `testbed` and `sample-release` crates.

mod cargo;
mod ci;
mod errors;
mod openapi;
mod release;
mod test;
mod testbed;
mod workspace;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Developer commands of Bobsled.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A real cluster on this machine; without a subcommand: the whole tour in the foreground
    Testbed(Box<testbed::TestbedArgs>),
    /// Builds the programs and runs all tests
    Test(test::TestArgs),
    /// Exactly what CI runs: format, lints, docs, documents current, tests
    Ci(ci::CiArgs),
    /// Writes docs/openapi/*.json from the programs
    Openapi(openapi::OpenapiArgs),
    /// Writes docs/ERRORS.md from the catalogue of error codes
    Errors(errors::ErrorsArgs),
    /// Sample releases
    #[command(subcommand)]
    Release(release::ReleaseCommand),
    /// Ends a cluster when its owner has died; started by the testbed itself
    #[command(hide = true)]
    TestbedKeeper(testbed::keeper::KeeperArgs),
}

fn main() -> ExitCode {
    let outcome = match CommandLine::parse().command {
        Command::Testbed(args) => testbed::run(*args),
        Command::Test(args) => test::run(&args),
        Command::Ci(args) => ci::run(&args),
        Command::Openapi(args) => openapi::run(&args),
        Command::Errors(args) => errors::run(&args),
        Command::Release(command) => release::run(command),
        Command::TestbedKeeper(args) => testbed::keeper::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_has_no_contradictions() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn an_unknown_command_is_refused_with_the_known_ones() {
        let refusal = CommandLine::try_parse_from(["cargo xtask", "testbedd"]).unwrap_err().to_string();
        assert!(refusal.contains("testbed"), "{refusal}");
    }
}
