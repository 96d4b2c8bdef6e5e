//! What a test has started ends with it, whether that drops it or is killed itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use camino::Utf8Path;
use camino_tempfile::{Utf8TempDir, tempdir};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    process::{Pid, PidfdFlags, pidfd_open},
};
use std::{
    env,
    fs::File,
    io::{BufRead, BufReader, Lines},
    os::fd::OwnedFd,
    process::{Command, Stdio},
};
use test_processes::{Group, Shell};

/// Makes this test's program the one that is killed, with the directory in which it is to start something.
const VICTIM: &str = "BOBSLED_TEST_PROCESSES_VICTIM";

/// All of it is to be gone after so long.
const SECONDS: i64 = 5;

/// A shell, its child, and a child's child that nobody waits for; each says its number, and that it ends only if it is made to.
const SCRIPT: &str = r#"
bash -c 'bash -c "trap \"\" TERM HUP; echo \$\$; read line < never" & echo $$; read line < never' &
bash -c '(bash -c "echo \$\$; read line < never" &)'
echo $$
wait
"#;
const STARTED: usize = 4;

fn scene() -> Utf8TempDir {
    let scene = tempdir().unwrap();
    let fifos = ["said", "never"].map(|name| scene.path().join(name));
    assert!(Command::new("mkfifo").args(fifos).status().unwrap().success());
    scene
}

/// Starts the script, whose last act is to say so.
fn start(scene: &Utf8Path) -> Shell {
    let mut act = Command::new("sh");
    act.args(["-c", "echo $WORD >> said"]).env("WORD", "acted").current_dir(scene);
    Shell::start(Group::start_with_last_act(&act), SCRIPT, scene, &scene.join("said"), &[])
}

/// All that was started, as soon as it is there.
fn started(said: &mut Lines<BufReader<File>>, count: usize) -> Vec<OwnedFd> {
    let numbers = said.by_ref().take(count).map(|line| Pid::from_raw(line.unwrap().parse().unwrap()));
    numbers.map(|pid| pidfd_open(pid.unwrap(), PidfdFlags::empty()).unwrap()).collect()
}

fn have_ended(processes: &[OwnedFd]) -> bool {
    let limit = Timespec { tv_sec: SECONDS, tv_nsec: 0 };
    let has_ended = |one: &OwnedFd| poll(&mut [PollFd::new(one, PollFlags::IN)], Some(&limit)).unwrap() == 1;
    processes.iter().all(has_ended)
}

/// Open on both sides: between two who say something it has no end.
fn lines(scene: &Utf8Path) -> Lines<BufReader<File>> {
    let said = File::options().read(true).write(true).open(scene.join("said"));
    BufReader::new(said.unwrap()).lines()
}

#[test]
fn nothing_is_left_of_a_test_that_is_killed_and_its_last_act_is_done() {
    if let Ok(scene) = env::var(VICTIM) {
        let _shell = start(Utf8Path::new(&scene));
        let mut other = Command::new("bash");
        other.args(["-c", "echo $$ >> said; read line < never"]).current_dir(&scene);
        Group::of_this_process().add(&mut other);
        other.spawn().unwrap().wait().unwrap();
        unreachable!("it is killed");
    }
    let scene = scene();
    let mut said = lines(scene.path());
    let mut victim = Command::new(env::current_exe().unwrap())
        .args(["--exact", "nothing_is_left_of_a_test_that_is_killed_and_its_last_act_is_done", "--nocapture"])
        .env(VICTIM, scene.path())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let started = started(&mut said, STARTED + 1);
    assert_eq!(started.len(), STARTED + 1);
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(have_ended(&started));
    assert_eq!(said.next().unwrap().unwrap(), "acted");
}

#[test]
fn what_is_dropped_has_ended_and_its_last_act_is_done() {
    let scene = scene();
    let mut said = lines(scene.path());
    let shell = start(scene.path());
    let started = started(&mut said, STARTED);
    drop(shell);
    assert!(have_ended(&started));
    assert_eq!(said.next().unwrap().unwrap(), "acted");
}

#[test]
fn a_shell_that_has_ended_has_left_what_it_started_in_the_background() {
    let scene = scene();
    let output = scene.path().join("output");
    let script = "read line < never & echo $!";
    let shell = Shell::start(Group::start(), script, scene.path(), &output, &[]);
    assert!(shell.ends_well(60) && shell.ends_well(0));
    let left = std::fs::read_to_string(&output).unwrap();
    let left =
        [pidfd_open(Pid::from_raw(left.trim().parse().unwrap()).unwrap(), PidfdFlags::empty()).unwrap()];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    assert_eq!(poll(&mut [PollFd::new(&left[0], PollFlags::IN)], Some(&now)).unwrap(), 0, "it goes on");
    drop(shell);
    assert!(have_ended(&left));
    let fails = Shell::start(Group::start(), "false; true", scene.path(), &output, &[]);
    assert!(!fails.ends_well(60));
    let hangs = Shell::start(Group::start(), "read line < never", scene.path(), &output, &[]);
    assert!(!hangs.ends_well(0));
}
