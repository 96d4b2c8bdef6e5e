//! That a fresh clone compiles each dependency once: `cargo xtask`, the programs that it builds, and the tests that it
//! runs choose the same features for what they share.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

/// Package → every set of features with which it is compiled.
type Choices = BTreeMap<String, BTreeSet<String>>;

fn choices(arguments: &[&str]) -> Choices {
    let output = Command::new(env!("CARGO"))
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
        .args(["tree", "--offline", "--locked", "--prefix", "none", "--format", "{p}|{f}"])
        .args(arguments)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut choices = Choices::new();
    for line in String::from_utf8(output.stdout).expect("cargo prints UTF-8").lines() {
        // Between the trees of two packages.
        if line.is_empty() {
            continue;
        }
        let line = line.trim_end_matches(" (*)");
        let (package, features) = line.split_once('|').expect("as the format says");
        choices.entry(package.to_owned()).or_default().insert(features.to_owned());
    }
    choices
}

/// What is compiled otherwise by the second, of what both compile.
fn differences(first: &Choices, second: &Choices) -> Vec<String> {
    let shared = first.iter().filter_map(|(package, ours)| Some((package, ours, second.get(package)?)));
    let differ = shared.filter(|(_, ours, theirs)| !ours.is_subset(theirs));
    differ.map(|(package, ours, theirs)| format!("{package}: {ours:?} and {theirs:?}")).collect()
}

#[test]
fn shared_dependencies_are_compiled_once() {
    let xtask = choices(&["-p", "xtask", "-e", "normal,build"]);
    let programs =
        choices(&["-p", "nexus", "-p", "sled-agent", "-p", "sledctl", "-p", "xtask", "-e", "normal,build"]);
    let tests = choices(&["--workspace", "-e", "normal,build,dev"]);
    for (what, differing) in [
        ("cargo xtask and the programs", differences(&xtask, &programs)),
        ("the programs and the tests", differences(&programs, &tests)),
    ] {
        assert!(
            differing.is_empty(),
            "{what} choose other features, so these and all above them are compiled twice; add them to the list in \
             xtask/Cargo.toml:\n{}",
            differing.join("\n")
        );
    }
}
