//! `sim volume`: whole volumes in a simulation. What is simulated, and what is said, is the `volume-sim` program's; it is built by
//! itself, because it is built to leave rules out, and nothing else may be.
//!
//! Some rules are noticed by tests of their own packages alone, or as a rule by them: those run in the place of the simulation.

use crate::cargo::{cargo, succeeds};
use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use std::process::{Command, ExitCode, Stdio};

/// The packages with rules that whole volumes do not miss at once, because others keep theirs: of the format, of one member, of an activation,
/// of volumes of several parts. Their tests that are named so leave out each of them.
const PACKAGES: [&str; 4] = ["region", "downstairs", "upstairs", "volume-layers"];
const LEAVING_OUT: &str = "leaving_out";

/// What is simulated.
#[derive(Debug, Args)]
pub(crate) struct SimArgs {
    /// What is simulated
    what: What,
    /// Handed on: --seeds N, --first N, --replay SEED, --list-rules, --mutate RULE, --mutate-all, --only NAME, --threads N; `volume --help` tells of them
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
    if let Some(rule) = value_of(&args.arguments, "--mutate") {
        let (is_listed, listed) = output_of(volume_sim()?.arg("--list-rules"))?;
        ensure!(is_listed, "the rules are not listed; see above");
        if let Some((package, test)) = own_test(&listed, rule) {
            return noticed_by(rule, package, test);
        }
    }
    let code = code_of(volume_sim()?.args(&args.arguments))?;
    let is_all = args.arguments.iter().any(|argument| argument == "--mutate-all")
        && value_of(&args.arguments, "--only").is_none();
    if !is_all {
        return Ok(ExitCode::from(code));
    }
    say!("rules of one region, one member, an activation, and volumes of several parts:");
    let is_noticed = succeeds(&mut tests_that_leave_out()?)?;
    Ok(if is_noticed { ExitCode::from(code) } else { ExitCode::FAILURE })
}

fn volume_sim() -> Result<Command> {
    let mut command = cargo()?;
    command.args(["run", "--release", "--quiet", "--package", "volume-sim", "--"]);
    Ok(command)
}

/// The code that it ends with: who reads it learns more than that something was wrong.
fn code_of(command: &mut Command) -> Result<u8> {
    let status = command.stdin(Stdio::null()).status().with_context(|| format!("running {command:?}"))?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// Whether it succeeded, and what it said; its talk goes to the terminal.
fn output_of(command: &mut Command) -> Result<(bool, String)> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.with_context(|| format!("running {command:?}"))?;
    Ok((output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned()))
}

/// What an option is given, as `--option VALUE` or `--option=VALUE`.
fn value_of<'a>(arguments: &'a [String], option: &str) -> Option<&'a str> {
    let mut left = arguments.iter();
    while let Some(argument) = left.next() {
        if argument == option {
            return left.next().map(String::as_str);
        }
        if let Some(value) = argument.strip_prefix(option).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value);
        }
    }
    None
}

/// The package and the test that notices it, of a rule that is listed with one.
fn own_test<'a>(listed: &'a str, rule: &str) -> Option<(&'a str, &'a str)> {
    let mut rows = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.find_map(|row| match row[..] {
        [name, package, test] if name == rule => Some((package, test)),
        _ => None,
    })
}

/// The test leaves the rule out itself, and passes if that breaks what is promised: as of the simulation, that is a failure.
fn noticed_by(rule: &str, package: &str, test: &str) -> Result<ExitCode> {
    let (has_passed, output) = output_of(cargo()?.args(["test", "--quiet", "--package", package, test]))?;
    let verdict = Verdict::of(has_passed, &output);
    match verdict {
        Verdict::Noticed => say!("{rule} is noticed by {test} of {package}"),
        Verdict::Missed => {
            say!("{output}\n{rule} may be left out: {test} of {package} does not pass, see above");
        }
        Verdict::NotOne(count) => bail!(
            "{count} tests of {package} are named {test}; volume-repair/sim/src/own_tests.rs says who notices {rule}"
        ),
    }
    Ok(ExitCode::from(verdict.code()))
}

/// What a test that leaves out a rule says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Noticed,
    Missed,
    /// So many tests of its name have passed: none says anything of the rule.
    NotOne(u32),
}

impl Verdict {
    fn of(has_passed: bool, output: &str) -> Verdict {
        match (has_passed, passed(output)) {
            (false, _) => Verdict::Missed,
            (true, 1) => Verdict::Noticed,
            (true, count) => Verdict::NotOne(count),
        }
    }

    /// As of the simulation: without a rule it has to fail.
    fn code(self) -> u8 {
        match self {
            Verdict::Missed => 0,
            Verdict::Noticed | Verdict::NotOne(_) => 1,
        }
    }
}

/// How many tests have passed, as the test programs of a package say, one after the other.
fn passed(output: &str) -> u32 {
    let counts = output.lines().filter_map(|line| {
        let (_, rest) = line.split_once("test result: ok. ")?;
        rest.split_once(" passed")?.0.parse::<u32>().ok()
    });
    counts.sum()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_is_given_in_both_ways_and_a_longer_one_is_another() {
        let value = |line: &str| {
            let arguments: Vec<String> = line.split(' ').map(str::to_owned).collect();
            value_of(&arguments, "--mutate").map(str::to_owned)
        };
        assert_eq!(value("--seeds 3 --mutate NoGaps"), Some("NoGaps".to_owned()));
        assert_eq!(value("--mutate=NoGaps --seeds=3"), Some("NoGaps".to_owned()));
        for none in ["--mutate-all --only NoGaps", "--mutate-all=x", "--mutate", "--seeds 3"] {
            assert_eq!(value(none), None, "{none}");
        }
    }

    #[test]
    fn a_rule_has_the_test_that_it_is_listed_with_and_no_other() {
        let listed = "TwoHaveAWrite    simulation\nNoGaps    downstairs leaving_out_gaps\n";
        assert_eq!(own_test(listed, "NoGaps"), Some(("downstairs", "leaving_out_gaps")));
        for none in ["TwoHaveAWrite", "NoGap", "simulation", ""] {
            assert_eq!(own_test(listed, none), None, "{none}");
        }
    }

    #[test]
    fn tests_that_have_passed_are_counted_over_all_programs() {
        let of_two = "\nrunning 0 tests\n\ntest result: ok. 0 passed; 0 failed; 3 filtered out\n\nrunning 1 test\n.\n\
                      test result: ok. 1 passed; 0 failed; 0 ignored; 8 filtered out\n";
        assert_eq!(passed(of_two), 1);
        assert_eq!(passed("test result: FAILED. 0 passed; 1 failed"), 0);
    }

    #[test]
    fn a_rule_that_its_test_notices_is_a_failure_and_one_that_it_does_not_notice_is_none() {
        let one = "test result: ok. 1 passed; 0 failed";
        for (has_passed, output, verdict, code) in [
            (true, one, Verdict::Noticed, 1),
            (false, "test result: FAILED. 0 passed; 1 failed", Verdict::Missed, 0),
            (true, "test result: ok. 0 passed; 0 failed", Verdict::NotOne(0), 1),
            (true, "test result: ok. 2 passed; 0 failed", Verdict::NotOne(2), 1),
        ] {
            let said = Verdict::of(has_passed, output);
            assert_eq!((said, said.code()), (verdict, code), "{output}");
        }
    }
}
