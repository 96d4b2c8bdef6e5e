//! The page about volumes by hand, typed into a shell: every block of commands in `docs/VOLUMES.md`, in their order, and behind each what
//! the page shows. Needs `qemu-io`, `nbdinfo` and `fio`.
//!
//! Blocks marked `sh` are run, in one shell; a block marked `text` has lines that the commands before it must have shown, in this order.
//! `…` stands for anything, and one space for any number of them. The addresses of the page are other ones of this machine here, so that
//! several runs go beside each other.

use crate::shell::{SECONDS_MAX, start};
use camino::{Utf8Path, Utf8PathBuf};
use std::fs;
use test_processes::OwnAddress;

/// The page.
const PAGE: &str = include_str!("../../../docs/VOLUMES.md");

/// The address that the page has.
const ADDRESS: &str = "127.0.0.1";

/// What is said between two blocks.
const NEXT: &str = "@@ next block of the page";

/// Commands, and what they are to show.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    commands: String,
    shows: Vec<String>,
}

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        let Some(kind) = line.strip_prefix("```") else { continue };
        let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
        match kind {
            "sh" => steps.push(Step { commands: block.join("\n"), shows: Vec::new() }),
            "text" => {
                let step = steps.last_mut().expect("something is shown by commands before it");
                step.shows.extend(block.into_iter().filter(|line| !line.is_empty()).map(str::to_owned));
            }
            other => panic!("a block of the page is neither sh nor text: {other:?}"),
        }
    }
    steps
}

fn in_words(line: &str) -> String {
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether a line is what the page shows.
fn is_like(shown: &str, line: &str) -> bool {
    let (shown, line) = (in_words(shown), in_words(line));
    let parts: Vec<&str> = shown.split('…').collect();
    let (first, last) = (parts[0], parts[parts.len() - 1]);
    if parts.len() == 1 {
        return shown == line;
    }
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    for part in &parts[1..parts.len() - 1] {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

/// The first line of the page that was not shown, if there is one.
fn not_shown<'a>(shows: &'a [String], output: &str) -> Option<&'a String> {
    let mut lines = output.lines();
    shows.iter().find(|shown| !lines.any(|line| is_like(shown, line)))
}

/// Runs the steps; what each has said, and whether all ended well.
fn run(steps: &[Step], directory: &Utf8Path) -> (Vec<String>, bool) {
    let output: Utf8PathBuf = directory.join("said");
    let blocks = steps.iter().map(|step| format!("{}\necho '{NEXT}'\n", step.commands));
    let ended_well = start(&blocks.collect::<String>(), directory, &output).ends_well(SECONDS_MAX);
    let said = fs::read_to_string(&output).unwrap();
    (said.split(NEXT).map(str::to_owned).collect(), ended_well)
}

#[test]
fn every_command_of_the_page_does_what_the_page_shows() {
    let (directory, address) = (camino_tempfile::tempdir().unwrap(), OwnAddress::claim());
    let page = PAGE.replace(ADDRESS, &address.ip().to_string());
    let steps = steps(&page);
    assert!(steps.len() >= 8, "the page has {} blocks of commands", steps.len());
    let (said, ended_well) = run(&steps, directory.path());
    for (step, said) in steps.iter().zip(&said) {
        if let Some(missing) = not_shown(&step.shows, said) {
            panic!("not shown: {missing:?}\nby:\n{}\nwhich said:\n{said}", step.commands);
        }
    }
    assert!(ended_well, "the last block that was begun did not end well:\n{}", said.last().unwrap());
}

#[test]
fn a_line_of_the_page_stands_for_what_it_leaves_open() {
    assert!(is_like("a … c", "a   b  c"));
    assert!(is_like("127.0.0.1:1 away …", "127.0.0.1:1  away  full  2"));
    assert!(!is_like("a … c", "a b c d"));
    assert!(!is_like("a b", "a b c"));
    assert!(not_shown(&["x".to_owned(), "y".to_owned()], "y\nx").is_some(), "the order counts");
}

#[test]
fn what_fails_or_is_not_shown_is_noticed() {
    let directory = camino_tempfile::tempdir().unwrap();
    let page = "```sh\necho a\n```\n```text\nb\n```\n```sh\nfalse\necho c\n```\n";
    let steps = steps(page);
    let (said, ended_well) = run(&steps, directory.path());
    assert!(!ended_well);
    assert_eq!(not_shown(&steps[0].shows, &said[0]), Some(&"b".to_owned()));
    assert!(!said.concat().contains('c'));
}
