//! The command line, as `cargo xtask sim volume` hands it on: what it says, and how it ends.

use std::process::{Command, Output};
use volume_sim::{mutants, second_line};

fn volume_sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_volume-sim")).args(arguments).output().expect("the program runs")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[track_caller]
fn ends(arguments: &[&str], code: i32) -> String {
    let output = volume_sim(arguments);
    let said = said(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

#[test]
fn seeds_that_keep_all_promises_end_well_and_one_alone_is_run_again() {
    assert!(ends(&["--seeds", "4", "--first", "2"], 0).contains("\r4 seeds in"));
    assert!(ends(&["--replay", "3"], 0).contains("\r1 seeds in"));
    ends(&["--replay", "3", "--seeds", "2"], 2);
    // The name that it had.
    ends(&["--seed", "3"], 2);
}

#[test]
fn rules_are_listed_each_once_with_who_notices() {
    let listed = ends(&["--list-rules"], 0);
    let names: Vec<&str> = listed.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let known: Vec<String> = mutants().iter().chain(second_line()).map(ToString::to_string).collect();
    assert_eq!(names, known);
    let mut once = names.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), names.len(), "two rules have one name");
    let is_told = |start: &str, end: &str| {
        assert!(
            listed.lines().any(|line| line.starts_with(start) && line.ends_with(end)),
            "{start} {end}: {listed}"
        );
    };
    is_told("TwoHaveAWrite ", " simulation");
    is_told("NoGaps ", " downstairs leaving_out_that_there_are_no_gaps_is_noticed");
}

#[test]
fn a_rule_that_is_left_out_breaks_a_promise_and_the_run_fails() {
    let said = ends(&["--mutate", "TwoHaveAWrite", "--seeds", "800"], 1);
    let seed = said.strip_prefix("TwoHaveAWrite is noticed by seed ");
    let seed = seed.and_then(|rest| rest.split(':').next()).unwrap_or_else(|| panic!("{said}"));
    // That seed alone does, and keeps all promises as long as the rule is kept.
    ends(&["--mutate", "TwoHaveAWrite", "--replay", seed], 1);
    ends(&["--replay", seed], 0);
}

#[test]
fn a_rule_that_nobody_misses_ends_well_and_says_so() {
    let said = ends(&["--mutate", "HashesAreCompared", "--seeds", "3"], 0);
    assert!(said.contains("HashesAreCompared may be left out"), "{said}");
    assert!(said.contains("a_source_that_lies_of_a_block_is_noticed"), "who does is not told: {said}");
}

#[test]
fn a_rule_that_there_is_not_is_no_broken_promise() {
    for unknown in ["TwoHave", "Upstairs(TwoHaveAWrite)", ""] {
        let said = ends(&["--mutate", unknown], 2);
        assert!(said.contains("there are: ") && said.contains("TwoHaveAWrite"), "{said}");
    }
    ends(&["--mutate"], 2);
    ends(&["--mutate-all", "--only", "Nonsense"], 2);
    ends(&["--only", "TwoHaveAWrite"], 2);
}

#[test]
fn all_in_turn_ends_well_only_if_each_is_noticed() {
    let all = ["--mutate-all", "--only", "TwoHaveA"];
    let said = ends(&[&all[..], &["--seeds", "800"]].concat(), 0);
    for rule in ["TwoHaveAWrite", "TwoHaveAFlush", "TwoHaveASnapshot"] {
        assert!(said.contains(&format!("{rule} is noticed by seed ")), "{said}");
    }
    assert!(ends(&[&all[..], &["--seeds", "1"]].concat(), 1).contains("may be left out"));
    let said = ends(&["--mutate-all", "--only", "SamePosition", "--seeds", "1"], 0);
    assert!(said.contains("leaving_out_that_both_are_asked_at_the_same_position_is_noticed"), "{said}");
}
