//! Developer commands: `cargo xtask COMMAND`. One file per command; this one only reads the command line.
//!
//! - [`testbed`]: a cluster on this machine, in the foreground or beside.
//! - [`mod@test`], [`ci`]: what must pass, here and there.
//! - [`openapi`], [`errors`]: documents that are printed from the code, written or checked.
//! - [`release`]: the sample release. [`mod@bench`]: figures, on a release build. [`mod@soak`]: load and SIGKILL for hours.
//! - [`cargo`], [`workspace`]: running cargo, and where things are. [`say`]: what goes to stdout.
//!
//! What a command *does* to clusters and releases is in the `testbed` and `sample-release` crates.

#[macro_use]
mod say;
mod sim;

mod bench;
mod cargo;
mod ci;
mod errors;
mod openapi;
mod release;
mod soak;
mod test;
mod testbed;
mod workspace;

use clap::{CommandFactory, Parser, Subcommand, error::ErrorKind};
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
    /// Benchmarks on a release build, each beside its limit or a peer
    Bench(bench::BenchArgs),
    /// Real processes under load and SIGKILL, for as long as one likes
    #[command(subcommand)]
    Soak(soak::SoakCommand),
    /// Whole volumes in a simulation: what is promised has to hold whatever happens
    Sim(sim::SimArgs),
    /// Ends a cluster when its owner has died; started by the testbed itself
    #[command(hide = true)]
    TestbedKeeper(testbed::keeper::KeeperArgs),
}

/// Exit code of a command line that is not understood.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command_line = match CommandLine::try_parse() {
        Ok(command_line) => command_line,
        Err(error) => {
            // Printing fails only where nobody reads.
            let _ = error.print();
            if error.kind() == ErrorKind::InvalidSubcommand {
                eprintln!("\nThere is: {}", known_commands(std::env::args().skip(1)).join(", "));
            }
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match command_line.command {
        Command::Testbed(args) => testbed::run(*args),
        Command::Test(args) => test::run(&args),
        Command::Ci(args) => ci::run(&args),
        Command::Openapi(args) => openapi::run(&args),
        Command::Errors(args) => errors::run(&args),
        Command::Release(command) => release::run(command),
        Command::Bench(args) => bench::run(&args),
        Command::Soak(command) => soak::run(&command),
        Command::Sim(args) => sim::run(&args),
        Command::TestbedKeeper(args) => testbed::keeper::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// The commands that could have stood where the first unknown one stands.
fn known_commands(arguments: impl Iterator<Item = String>) -> Vec<String> {
    let mut command = CommandLine::command();
    for argument in arguments {
        if let Some(inner) = command.find_subcommand(&argument) {
            command = inner.clone();
        }
    }
    command.get_subcommands().filter(|one| !one.is_hide_set()).map(|one| one.get_name().to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grammar_has_no_contradictions() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn known_commands_are_those_at_the_place_of_the_unknown_one() {
        let known = |line: &str| known_commands(line.split(' ').map(str::to_owned));
        assert!(known("testbedd").contains(&"testbed".to_owned()));
        assert!(!known("testbedd").contains(&"testbed-keeper".to_owned()));
        assert!(known("testbed --name x bogus").contains(&"restart".to_owned()));
        assert_eq!(known("testbed disk bogus"), ["fail", "slow", "full", "corrupt", "heal"]);
    }
}
