//! `volume compare` of an export that somebody takes over from in the middle: what was found until then is shown, and then why it does not
//! go on. The command asks through a relay, which knows when the first step was answered.

use crate::shell::{Shell, address_of_this_process};
use camino::Utf8Path;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex},
    thread,
};

/// A volume of 8 MiB, which is compared in two steps, and an export of it.
const SERVE: &str = r#"
for disk in 1 2 3; do mkdir disk$disk; done
sled-agent volume create --size 8MiB --output volume.json \
    --member disk1@ADDRESS:PORT1 --member disk2@ADDRESS:PORT2 --member disk3@ADDRESS:PORT3
for disk in 1 2 3; do sled-agent downstairs --directory disk$disk --listen ADDRESS:PORT$disk & done
sled-agent volume export --volume volume.json --epoch 1 --listen unix:$PWD/nbd --control $PWD/first &
sled-agent volume wait volume.json --control first --for whole
touch served
wait
"#;

/// Somebody else becomes the writer.
const TAKE_OVER: &str = r#"
sled-agent volume export --volume volume.json --epoch 2 --listen unix:$PWD/other --control $PWD/second &
sled-agent volume wait volume.json --control second --for active
touch taken
wait
"#;

const COMPARE: &str = r#"
until [ -e served ]; do :; done
sled-agent volume compare volume.json --control relay JSON && exit 1
echo "ended with $?"
"#;

/// Passes on what is asked, and what is answered. Before a second comparison is asked for, this is done.
fn relay(listener: &UnixListener, to: &Utf8Path, before_the_second: impl FnOnce()) {
    let (mut compared, mut before_the_second) = (0, Some(before_the_second));
    while compared < 2 {
        let (mut asks, _) = listener.accept().unwrap();
        let mut line = String::new();
        BufReader::new(&asks).read_line(&mut line).unwrap();
        compared += usize::from(line.contains("compare"));
        if compared == 2
            && let Some(act) = before_the_second.take()
        {
            act();
        }
        let mut export = UnixStream::connect(to).unwrap();
        export.write_all(line.as_bytes()).unwrap();
        line.clear();
        BufReader::new(&export).read_line(&mut line).unwrap();
        asks.write_all(line.as_bytes()).unwrap();
    }
}

/// What `volume compare` says that is refused at its second step. The members' ports begin with this one.
fn said_if_refused(json: &str, port: &str) -> String {
    let directory = camino_tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let start = {
        let directory = directory.path().to_owned();
        move |script: &str, output: &str| Shell::start(script, &directory, &directory.join(output))
    };
    let listener = UnixListener::bind(at("relay")).unwrap();
    let serve = SERVE.replace("ADDRESS", &address_of_this_process()).replace("PORT", port);
    let _serves = start(&serve, "served_said");
    let mut compares = start(&COMPARE.replace("JSON", json), "said");
    let (taken_over, first) = (Arc::new(Mutex::new(None)), at("first"));
    let take_over = {
        let taken_over = Arc::clone(&taken_over);
        move || {
            *taken_over.lock().unwrap() = Some(start(TAKE_OVER, "other_said"));
            assert!(start("until [ -e taken ]; do :; done", "waited").ends_well());
        }
    };
    thread::spawn(move || relay(&listener, &first, take_over));
    let ended_well = compares.ends_well();
    let said = fs::read_to_string(at("said")).unwrap();
    assert!(ended_well, "{said}");
    said
}

#[test]
fn what_was_found_before_a_step_is_refused_is_shown() {
    let said = said_if_refused("", "1261");
    let rows = said.lines().filter(|line| line.split_whitespace().take(5).eq(["1024", "0", "0", "0", "-"]));
    assert_eq!(rows.count(), 3, "{said}");
    let left = said.split_once("blocks from 1024 on were not compared\n").map(|(_, left)| left);
    let left = left.unwrap_or_else(|| panic!("{said}"));
    assert!(left.starts_with("error[volume_not_active]: ") && left.ends_with("ended with 1\n"), "{said}");
}

#[test]
fn what_was_found_before_a_step_is_refused_is_there_as_json_too() {
    let said = said_if_refused("--json", "1262");
    let found: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let compared: Vec<_> = found["copies"].as_array().unwrap().iter().map(|copy| &copy["blocks"]).collect();
    assert_eq!(compared, [1024; 3], "{said}");
    assert_eq!(
        (&found["stopped"]["first_block"], &found["stopped"]["code"]),
        (&1024.into(), &"volume_not_active".into())
    );
    assert!(said.contains("error[volume_not_active]: ") && said.ends_with("ended with 1\n"), "{said}");
}
