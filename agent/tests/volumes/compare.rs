//! `volume compare` of an export that somebody takes over from in the middle: what was found until then is shown, and then why it does not
//! go on. The command asks through a relay, which knows when the first step was answered.

use crate::shell::{SECONDS_MAX, start};
use camino::Utf8Path;
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    sync::{Arc, Mutex},
    thread,
};
use test_processes::OwnAddress;

/// A volume of 8 MiB, which is compared in two steps, and an export of it, which goes on.
const SERVE: &str = r#"
for disk in 1 2 3; do mkdir disk$disk; done
sled-agent volume create --size 8MiB --output volume.json \
    --member disk1@ADDRESS:12401 --member disk2@ADDRESS:12402 --member disk3@ADDRESS:12403
for disk in 1 2 3; do sled-agent downstairs --directory disk$disk --listen ADDRESS:1240$disk & done
sled-agent volume export --volume volume.json --epoch 1 --listen unix:$PWD/nbd --control $PWD/first &
sled-agent volume wait volume.json --control first --for whole
"#;

/// Somebody else becomes the writer, and stays it.
const TAKE_OVER: &str = r#"
sled-agent volume export --volume volume.json --epoch 2 --listen unix:$PWD/other --control $PWD/second &
sled-agent volume wait volume.json --control second --for active
"#;

const COMPARE: &str = r#"
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

/// What `volume compare` says that is refused at its second step.
fn said_if_refused(json: &str) -> String {
    let (directory, address) = (camino_tempfile::tempdir().unwrap(), OwnAddress::claim());
    let at = |name: &str| directory.path().join(name);
    let run = {
        let directory = directory.path().to_owned();
        move |script: &str, output: &str| {
            let shell = start(script, &directory, &directory.join(output));
            let ended_well = shell.ends_well(SECONDS_MAX);
            let said = fs::read_to_string(directory.join(output)).unwrap();
            assert!(ended_well, "{said}");
            (shell, said)
        }
    };
    let listener = UnixListener::bind(at("relay")).unwrap();
    let _serves = run(&SERVE.replace("ADDRESS", &address.ip().to_string()), "served_said");
    let (taken_over, first) = (Arc::new(Mutex::new(None)), at("first"));
    let take_over = {
        let (taken_over, run) = (Arc::clone(&taken_over), run.clone());
        move || *taken_over.lock().unwrap() = Some(run(TAKE_OVER, "other_said"))
    };
    thread::spawn(move || relay(&listener, &first, take_over));
    let (_, said) = run(&COMPARE.replace("JSON", json), "said");
    said
}

#[test]
fn what_was_found_before_a_step_is_refused_is_shown() {
    let said = said_if_refused("");
    let rows = said.lines().filter(|line| line.split_whitespace().take(5).eq(["1024", "0", "0", "0", "-"]));
    assert_eq!(rows.count(), 3, "{said}");
    let left = said.split_once("blocks from 1024 on were not compared\n").map(|(_, left)| left);
    let left = left.unwrap_or_else(|| panic!("{said}"));
    assert!(left.starts_with("error[volume_not_active]: ") && left.ends_with("ended with 1\n"), "{said}");
}

#[test]
fn what_was_found_before_a_step_is_refused_is_there_as_json_too() {
    let said = said_if_refused("--json");
    let found: serde_json::Value = serde_json::from_str(said.lines().next().unwrap()).unwrap();
    let compared: Vec<_> = found["copies"].as_array().unwrap().iter().map(|copy| &copy["blocks"]).collect();
    assert_eq!(compared, [1024; 3], "{said}");
    assert_eq!(
        (&found["stopped"]["first_block"], &found["stopped"]["code"]),
        (&1024.into(), &"volume_not_active".into())
    );
    assert!(said.contains("error[volume_not_active]: ") && said.ends_with("ended with 1\n"), "{said}");
}
