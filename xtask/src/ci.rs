//! `cargo xtask ci`: exactly what CI runs. Owns the list of steps, and that each is run even if one before it failed.
//!
//! Runs on a machine that has only cargo, a C compiler and git. Where rustfmt or clippy is not installed, their steps
//! are left out with a word of it, unless `CI=true`: there, a check that cannot be made is a failure. Nothing is compiled incrementally: everything is compiled
//! once, and what the next compilation would need takes as much of the disk as the programs.

use crate::{
    cargo::{cargo, has_subcommand, succeeds},
    workspace,
};
use anyhow::Result;
use clap::Args;
use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

/// Cargo's own switch.
const INCREMENTAL: &str = "CARGO_INCREMENTAL";

/// Runs what CI runs.
#[derive(Debug, Args)]
#[command(after_help = "Every step is run, also after one failed; what failed is repeated at the end.")]
pub(crate) struct CiArgs {}

/// One step.
struct Step {
    name: &'static str,
    /// The cargo subcommand that it needs, if that may be missing, and how to get it.
    needs: Option<(&'static str, &'static str)>,
    command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Passed,
    Failed,
    LeftOut,
}

/// Runs the command.
pub(crate) fn run(_: &CiArgs) -> Result<ExitCode> {
    let strict = std::env::var("CI").is_ok_and(|value| value == "true");
    let mut results = Vec::new();
    for mut step in steps()? {
        say!("=== {}: {:?}", step.name, step.command);
        let started = Instant::now();
        let outcome = match step.needs {
            Some((subcommand, advice)) if !has_subcommand(subcommand)? => {
                say!("cargo {subcommand} is not installed: {advice}");
                if strict { Outcome::Failed } else { Outcome::LeftOut }
            }
            _ if succeeds(&mut step.command)? => Outcome::Passed,
            _ => Outcome::Failed,
        };
        results.push((step.name, outcome, started.elapsed()));
    }
    say!("{}", summary(&results).trim_end());
    let failed = results.iter().any(|(_, outcome, _)| *outcome == Outcome::Failed);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn steps() -> Result<Vec<Step>> {
    let step = |name, needs, command| Step { name, needs, command };
    let with = |args: &[&str]| -> Result<Command> {
        let mut cargo = cargo()?;
        cargo.args(args).env(INCREMENTAL, "0");
        Ok(cargo)
    };
    let mut docs =
        with(&["doc", "--workspace", "--no-deps", "--document-private-items", "--keep-going", "--quiet"])?;
    // Private items are documented too, so links to them lead somewhere.
    docs.env("RUSTDOCFLAGS", "-D warnings -A rustdoc::private-intra-doc-links");
    Ok(vec![
        step(
            "format",
            Some(("fmt", "rustup component add rustfmt")),
            with(&["fmt", "--all", "--", "--check"])?,
        ),
        step(
            "lints",
            Some(("clippy", "rustup component add clippy")),
            with(&[
                "clippy",
                "--workspace",
                "--all-targets",
                "--keep-going",
                "--quiet",
                "--",
                "-D",
                "warnings",
            ])?,
        ),
        step("docs", None, docs),
        // The README's command, as it stands there. It builds the programs that the next two ask.
        step("tests", None, with(&["xtask", "test"])?),
        step("API documents", None, this(&["openapi", "--check"])?),
        step("error catalogue", None, this(&["errors", "--check"])?),
    ])
}

/// Another developer command, by this very program.
fn this(args: &[&str]) -> Result<Command> {
    let mut command = Command::new(workspace::this_program()?);
    command.args(args).current_dir(workspace::root()?).env(INCREMENTAL, "0");
    Ok(command)
}

fn summary(results: &[(&str, Outcome, Duration)]) -> String {
    let mut text = "=== summary\n".to_owned();
    for (name, outcome, took) in results {
        let word = match outcome {
            Outcome::Passed => "ok",
            Outcome::Failed => "FAILED",
            Outcome::LeftOut => "left out",
        };
        text.push_str(&format!("{name:<16} {word:<9} {:>7.1} s\n", took.as_secs_f64()));
    }
    let failed: Vec<&str> = results
        .iter()
        .filter(|(_, outcome, _)| *outcome == Outcome::Failed)
        .map(|(name, ..)| *name)
        .collect();
    text.push_str(&match failed.as_slice() {
        [] => "ci: ok\n".to_owned(),
        failed => format!("ci: FAILED: {}\n", failed.join(", ")),
    });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failed_step_is_named_at_the_end() {
        let second = Duration::from_secs(1);
        let text = summary(&[
            ("format", Outcome::Failed, second),
            ("lints", Outcome::LeftOut, second),
            ("docs", Outcome::Passed, second),
            ("tests", Outcome::Failed, second),
        ]);
        assert!(text.ends_with("ci: FAILED: format, tests\n"), "{text}");
        assert!(summary(&[("docs", Outcome::Passed, second)]).ends_with("ci: ok\n"));
    }
}
