//! The testbed's command line, end to end: real programs, real signals.

use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::Utf8TempDir;
use rustix::process::Signal;
use serde_json::Value;
use std::{
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    process::{Child, Command, ExitStatus, Output, Stdio},
    time::Duration,
};
use test_processes::Group;
use testbed::{DiskName, ProcessIdentity, wait_for};

/// Far longer than anything here takes: hanging is the failure.
const LIMIT: Duration = Duration::from_secs(60);

const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

fn bin_dir() -> Utf8PathBuf {
    testbed::binaries::beside_this_test().expect("the programs are built")
}

fn testbed(dir: &Utf8Path, args: &[&str]) -> Command {
    let mut command = Command::new(XTASK);
    command.arg("testbed").args(["--dir", dir.as_str()]).args(args).stdin(Stdio::null());
    command
}

/// The directory that a test's cluster is in. Both are ended with the test, however it ends; and the cluster before its directory.
struct Scene {
    _ends: Group,
    temp: Utf8TempDir,
}

impl Scene {
    fn new() -> Scene {
        let temp = Utf8TempDir::new().expect("a temporary directory is made");
        Scene { _ends: Group::start_with_last_act(&testbed(temp.path(), &["reset"])), temp }
    }

    fn path(&self) -> &Utf8Path {
        self.temp.path()
    }
}

fn output(dir: &Utf8Path, args: &[&str]) -> Output {
    testbed(dir, args).output().expect("xtask runs")
}

fn succeed(dir: &Utf8Path, args: &[&str]) -> String {
    let output = output(dir, args);
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).expect("it prints UTF-8")
}

fn refused(dir: &Utf8Path, args: &[&str]) -> String {
    let output = output(dir, args);
    assert!(!output.status.success(), "{args:?} was not refused");
    String::from_utf8(output.stderr).expect("it prints UTF-8")
}

fn env(dir: &Utf8Path) -> Value {
    serde_json::from_str(&succeed(dir, &["env", "--json"])).expect("env prints JSON")
}

/// Every process of the cluster.
fn processes(env: &Value) -> Vec<ProcessIdentity> {
    let nodes = ["nexus", "sleds"].iter().flat_map(|role| env[role].as_array().expect("a list"));
    // What a sled supervises is in its list, behind the agent.
    let pids = nodes.flat_map(|node| match node["processes"].as_array() {
        Some(processes) => processes.iter().map(|process| process["pid"].clone()).collect(),
        None => vec![node["pid"].clone()],
    });
    let pids = pids.map(|pid| u32::try_from(pid.as_u64().expect("it runs")).expect("a pid"));
    pids.map(|pid| ProcessIdentity::of(pid).expect("/proc can be read").expect("it lives")).collect()
}

fn lives(process: &ProcessIdentity) -> bool {
    process.lives().expect("/proc can be read")
}

async fn wait_gone(processes: &[ProcessIdentity]) {
    let all_gone = async || {
        let left: Vec<u32> =
            processes.iter().filter(|process| lives(process)).map(|process| process.pid).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("these live: {left:?}")) }
    };
    wait_for("every process to end", LIMIT, all_gone).await.expect("they are ended");
}

/// A foreground testbed that has said its last word before it waits for Ctrl-C. It ends with the test, also with one that
/// failed.
struct Foreground {
    child: Child,
    said: String,
}

impl Drop for Foreground {
    fn drop(&mut self) {
        // Its keeper ends the rest.
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Waits for a child's end.
async fn ended(child: &mut Child) -> ExitStatus {
    let look = async || match child.try_wait().expect("it is a child") {
        Some(status) => Ok(status),
        None => Err("it runs"),
    };
    wait_for("the command to end", LIMIT, look).await.expect("it ends")
}

fn foreground(dir: &Utf8Path) -> Foreground {
    let mut child = testbed(dir, &["--sleds", "2", "--no-release", "--bin-dir", bin_dir().as_str()])
        .process_group(0)
        .stdout(Stdio::piped())
        .spawn()
        .expect("xtask runs");
    let out = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut foreground = Foreground { child, said: String::new() };
    // Read to its end by a thread: what it says later must not fill the pipe, and what it does not say must not hang.
    let (sender, lines) = std::sync::mpsc::channel();
    std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
    while !foreground.said.contains("Ctrl-C ends everything") {
        let line = lines.recv_timeout(LIMIT);
        let line = line.unwrap_or_else(|error| panic!("{error} after: {}", foreground.said));
        foreground.said.push_str(&line);
        foreground.said.push('\n');
    }
    foreground
}

/// Signals the foreground's process group, as a terminal or a test runner does.
fn signal(child: &Child, signal: Signal) {
    let identity = ProcessIdentity::of(child.id()).expect("/proc can be read").expect("it lives");
    let process = identity.open().expect("/proc can be read").expect("it lives");
    process.signal_group(signal).expect("it can be signalled");
}

#[tokio::test]
async fn ctrl_c_in_the_foreground_stops_and_removes_everything() {
    let temp = Scene::new();
    let mut foreground = foreground(temp.path());
    assert!(foreground.said.contains("sled-b is in service"), "{}", foreground.said);
    assert!(foreground.said.contains("s after compiling"), "{}", foreground.said);
    let processes = processes(&env(temp.path()));
    assert_eq!(processes.len(), 7, "a coordinator, two agents, and two disks of each are served");
    signal(&foreground.child, Signal::INT);
    assert!(ended(&mut foreground.child).await.success());
    assert!(processes.iter().all(|process| !lives(process)));
    drop(foreground);
    assert!(!temp.path().join("default").exists());
    let refusal = refused(temp.path(), &["status"]);
    assert!(refusal.contains("there is no cluster default"), "{refusal}");
}

#[tokio::test]
async fn a_foreground_that_is_killed_is_cleaned_up_by_its_keeper() {
    let temp = Scene::new();
    let mut foreground = foreground(temp.path());
    // What serves its disks is in no process group of anybody who lives.
    succeed(temp.path(), &["kill", "sled-a", "--agent-only"]);
    succeed(temp.path(), &["restart", "sled-a"]);
    let processes = processes(&env(temp.path()));
    assert_eq!(processes.len(), 7);
    signal(&foreground.child, Signal::KILL);
    ended(&mut foreground.child).await;
    wait_gone(&processes).await;
    let removed = async || if temp.path().join("default").exists() { Err("it is there") } else { Ok(()) };
    wait_for("the directory to be removed", LIMIT, removed).await.unwrap();
}

/// The kernel's packet filter has rules of these clusters.
fn tables() -> String {
    let output = Command::new("/usr/sbin/nft").args(["list", "tables"]).output().expect("nft is there");
    String::from_utf8(output.stdout).expect("they have plain names")
}

#[tokio::test]
async fn who_was_cut_off_is_so_no_more_when_the_foreground_was_killed() {
    if let Err(refusal) = testbed::check_partition() {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "CI runs this: {refusal:#}");
        eprintln!("left out: {refusal:#}");
        return;
    }
    let temp = Scene::new();
    let mut foreground = foreground(temp.path());
    let number = testbed::Cluster::open(temp.path(), "default").unwrap().record().unwrap().number;
    let table = format!("bobsled_testbed_{number}\n");
    assert!(succeed(temp.path(), &["partition", "heal"]).contains("nobody was cut off"));
    succeed(temp.path(), &["partition", "sled-a", "sled-b"]);
    assert!(succeed(temp.path(), &["status"]).contains("cut off from everybody else: sled-a, sled-b"));
    assert!(tables().contains(&table));
    succeed(temp.path(), &["partition", "heal"]);
    assert!(!tables().contains(&table));
    succeed(temp.path(), &["partition", "sled-b"]);
    assert!(tables().contains(&table));
    signal(&foreground.child, Signal::KILL);
    ended(&mut foreground.child).await;
    let healed = async || if tables().contains(&table) { Err("rules are there") } else { Ok(()) };
    wait_for("the rules to be removed", LIMIT, healed).await.unwrap();
}

/// The pid of the keeper of the cluster in `dir`.
fn keeper(dir: &Utf8Path) -> u32 {
    let processes = std::fs::read_dir("/proc").expect("there is /proc").filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut keepers = pids.filter(|pid| {
        let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.contains("testbed-keeper") && arguments.contains(dir.as_str())
    });
    keepers.next().expect("there is a keeper")
}

#[tokio::test]
async fn what_a_crash_left_that_took_the_keeper_too_is_ended_by_the_next_up() {
    let temp = Scene::new();
    let mut foreground = foreground(temp.path());
    let left = processes(&env(temp.path()));
    let keeper = ProcessIdentity::of(keeper(temp.path())).unwrap().unwrap().open().unwrap().unwrap();
    keeper.signal(Signal::KILL).unwrap();
    assert!(keeper.ended_within(LIMIT).await.unwrap());
    signal(&foreground.child, Signal::KILL);
    ended(&mut foreground.child).await;
    assert!(left.iter().all(lives));
    assert!(succeed(temp.path(), &["status"]).contains("which died: `down` cleans up"));
    let bin_dir = bin_dir();
    succeed(temp.path(), &["up", "--detach", "--no-release", "--bin-dir", bin_dir.as_str()]);
    assert!(!left.iter().any(lives), "processes of the crashed cluster run beside the new one");
    assert_eq!(processes(&env(temp.path())).len(), 7);
    succeed(temp.path(), &["reset"]);
}

#[tokio::test]
async fn a_pantry_that_a_crash_left_is_shown_and_ended_by_the_next_up_or_by_down() {
    let temp = Scene::new();
    let mut foreground = foreground(temp.path());
    let hold = async || {
        let cluster = testbed::Cluster::open(temp.path(), "default").unwrap();
        let disk = |sled: &str, disk: &str| DiskName { sled: sled.to_owned(), disk: disk.to_owned() };
        let disks = [disk("sled-a", "disk-0"), disk("sled-a", "disk-1"), disk("sled-b", "disk-0")];
        let request = cluster.make_volume(1 << 20, &disks).await.unwrap();
        cluster.attach_volume("sled-a", &request).await.unwrap();
        // Who holds it is in no process group of anybody who lives.
        succeed(temp.path(), &["kill", "sled-a", "--agent-only"]);
        succeed(temp.path(), &["restart", "sled-a"]);
        let status = succeed(temp.path(), &["status"]);
        let line = status.lines().find(|line| line.starts_with("sled-a/pantry"));
        assert!(line.is_some_and(|line| line.contains("running")), "{status}");
        let processes = processes(&env(temp.path()));
        assert_eq!(processes.len(), 8, "all that there always are, and it");
        processes
    };
    let left = hold().await;
    let keeper = ProcessIdentity::of(keeper(temp.path())).unwrap().unwrap().open().unwrap().unwrap();
    keeper.signal(Signal::KILL).unwrap();
    assert!(keeper.ended_within(LIMIT).await.unwrap());
    signal(&foreground.child, Signal::KILL);
    ended(&mut foreground.child).await;
    let up = ["up", "--detach", "--no-release", "--bin-dir"];
    succeed(temp.path(), &[&up[..], &[bin_dir().as_str()]].concat());
    assert!(!left.iter().any(lives), "processes of the crashed cluster run beside the new one");
    let held = hold().await;
    succeed(temp.path(), &["down"]);
    assert!(!held.iter().any(lives), "it is left");
    succeed(temp.path(), &["reset"]);
}

/// Processes that run with this config.
fn with_config(config: &Utf8Path) -> Vec<ProcessIdentity> {
    let processes = std::fs::read_dir("/proc").expect("there is /proc").filter_map(Result::ok);
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let running = pids.filter(|pid| {
        let arguments = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments.split('\0').any(|argument| argument == config)
    });
    running.filter_map(|pid| ProcessIdentity::of(pid).expect("/proc can be read")).collect()
}

#[tokio::test]
async fn a_start_that_is_killed_between_two_processes_leaves_none_behind() {
    let temp = Scene::new();
    let bin_dir = bin_dir();
    let up = ["up", "--detach", "--sleds", "2", "--no-release", "--bin-dir", bin_dir.as_str()];
    succeed(temp.path(), &up);
    succeed(temp.path(), &["down"]);
    // Nobody reads this log: whoever opens it to write waits, and sled-b is not started.
    let log = temp.path().join("default/sled-b/process.log");
    std::fs::remove_file(&log).unwrap();
    assert!(Command::new("mkfifo").arg(&log).status().expect("mkfifo runs").success());
    let mut starting = testbed(temp.path(), &up).process_group(0).stdout(Stdio::null()).spawn().unwrap();
    let configs = ["nexus-1", "sled-a"].map(|who| temp.path().join("default").join(who).join("config.toml"));
    let both_run = async || {
        let running: Vec<ProcessIdentity> = configs.iter().flat_map(|config| with_config(config)).collect();
        if running.len() == 2 { Ok(running) } else { Err(format!("{running:?}")) }
    };
    let started = wait_for("nexus-1 and sled-a to be started", LIMIT, both_run).await.unwrap();
    signal(&starting, Signal::KILL);
    ended(&mut starting).await;
    wait_gone(&started).await;
    std::fs::remove_file(&log).unwrap();
    succeed(temp.path(), &up);
    succeed(temp.path(), &["reset"]);
}

#[tokio::test]
async fn down_from_another_terminal_ends_the_foreground_too() {
    let temp = Scene::new();
    let mut foreground = foreground(temp.path());
    let status = succeed(temp.path(), &["status"]);
    assert!(status.contains(&format!("in the foreground of pid {}", foreground.child.id())), "{status}");
    succeed(temp.path(), &["down"]);
    assert!(ended(&mut foreground.child).await.success());
}

#[tokio::test]
async fn a_detached_cluster_is_worked_on_by_commands_of_their_own() {
    let temp = Scene::new();
    let dir = temp.path();
    let bin_dir = bin_dir();
    let up = ["up", "--detach", "--sleds", "2", "--no-release", "--bin-dir", bin_dir.as_str()];
    succeed(dir, &up);
    let environment = env(dir);
    let processes = processes(&environment);
    assert_eq!(environment["sleds"][1]["processes"][0]["kind"], "agent");
    assert_eq!(environment["sleds"][1]["processes"][0]["pid"], environment["sleds"][1]["pid"]);
    assert!(environment["sleds"][0]["id"].is_string());
    assert!(refused(dir, &up).contains("running already"));

    succeed(dir, &["kill", "sled-b"]);
    let status = succeed(dir, &["status"]);
    assert!(status.lines().any(|line| line.starts_with("sled-b") && line.contains("killed")), "{status}");
    assert_eq!(env(dir)["sleds"][1]["pid"], Value::Null);
    assert!(refused(dir, &["pause", "sled-b"]).contains("not running"));
    succeed(dir, &["restart", "sled-b"]);
    succeed(dir, &["pause", "sled-a"]);
    succeed(dir, &["resume", "sled-a"]);
    succeed(dir, &["disk", "slow", "1", "sled-a/m2-0"]);
    succeed(dir, &["disk", "heal", "sled-a/m2-0"]);
    for command in [&["slow", "1"][..], &["fail"], &["full"], &["heal"]] {
        succeed(dir, &[&["disk"], command, &["sled-a/disk-1"]].concat());
    }
    assert!(
        succeed(dir, &["disk", "corrupt", "3", "sled-b/disk-0", "--seed", "7"]).contains("\"corrupted\":[]")
    );
    assert!(
        refused(dir, &["disk", "fail", "sled-a/disk-2"]).contains("there are m2-0, m2-1, disk-0, disk-1")
    );
    let status = succeed(dir, &["status"]);
    let disk = status.lines().find(|line| line.starts_with("sled-b/disk-1")).expect("it has a line");
    assert!(disk.contains("running") && disk.contains(":12401"), "{status}");
    let file = dir.join("volume.json");
    let volume = ["volume", "--size-mib", "1", "--output", file.as_str()];
    assert!(refused(dir, &volume).contains("there are 2 disks"));
    assert!(!file.exists());
    let volume = [&volume[..], &["sled-a/disk-0", "sled-a/disk-1", "sled-b/disk-0"]].concat();
    assert!(succeed(dir, &volume).contains("sled-agent volume export"));
    let described: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    assert_eq!(described["sub_volumes"][0]["region_set"]["members"].as_array().map(Vec::len), Some(3));
    assert!(refused(dir, &volume).contains("volume.json"), "a volume's only description was written over");
    let replace = |from, to| ["volume-replace", file.as_str(), from, to];
    let taken = replace("sled-b/disk-0", "sled-a/disk-0");
    assert!(refused(dir, &taken).contains("has a region on sled-a/disk-0 already"));
    assert!(
        refused(dir, &replace("sled-b/disk-1", "sled-b/disk-1")).contains("has no region on sled-b/disk-1")
    );
    assert!(
        refused(dir, &replace("sled-b/disk-0", "sled-b/disk-2")).contains("sled-b has no data disk disk-2")
    );
    let log = dir.join("default/sled-a/process.log");
    assert!(refused(dir, &["volume-remove", log.as_str()]).contains("does not describe a volume"));
    assert!(log.exists());
    assert_eq!(serde_json::from_slice::<Value>(&std::fs::read(&file).unwrap()).unwrap(), described);
    succeed(dir, &replace("sled-b/disk-0", "sled-b/disk-1"));
    let replaced: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let (before, after) =
        (&described["sub_volumes"][0]["region_set"], &replaced["sub_volumes"][0]["region_set"]);
    assert_eq!((&replaced["config_version"], &replaced["id"]), (&2.into(), &described["id"]));
    assert_eq!((&after["members"][0], &after["members"][1]), (&before["members"][0], &before["members"][1]));
    assert_ne!(after["members"][2]["region_id"], before["members"][2]["region_id"]);
    assert_eq!(after["leaving"], Value::from(vec![before["members"][2].clone()]));
    assert!(succeed(dir, &["volume-remove", file.as_str()]).contains("4 regions are destroyed"));
    assert!(!file.exists());
    for sled in ["sled-a", "sled-b"] {
        let cluster = testbed::Cluster::open(dir, "default").unwrap();
        let left = cluster.sled(sled).unwrap().regions(&Default::default()).await.unwrap();
        assert_eq!(left.items, [], "{sled}");
    }
    assert!(!succeed(dir, &["logs", "sled-a"]).is_empty());
    assert!(refused(dir, &["logs", "sled-q"]).contains("there is nexus-1, sled-a, sled-b"));

    let shell = succeed(dir, &["env"]);
    assert!(
        shell.contains(&format!("SLEDCTL_URL='{}'", environment["nexus"][0]["url"].as_str().unwrap())),
        "{shell}"
    );

    succeed(dir, &["down"]);
    assert!(processes.iter().all(|process| !lives(process)));
    assert!(dir.join("default/sled-a/state").is_dir());
    succeed(dir, &["reset"]);
    assert!(!dir.join("default").exists());
}

#[test]
fn what_is_not_built_is_refused_before_anything_is_started() {
    let temp = Scene::new();
    for (args, wanted) in [
        (vec!["--demo", "--sleds", "3"], "--demo needs 4 sleds with a data disk each, and there would be 3"),
        (vec!["up", "--demo", "--disks", "0"], "--demo needs 4 sleds with a data disk each"),
        (vec!["--demo", "--no-release"], "cannot be used with"),
        (vec!["volume-replace", "v.json", "sled-a/disk-0", "sled-d/disk-0"], "there is no cluster default"),
        (vec!["volume-remove", "v.json"], "there is no cluster default"),
        (vec!["up", "--disks", "17"], "at most 16"),
        (vec!["up", "--db", "mysql"], "there is sqlite and postgres"),
        (vec!["up", "--nexus", "2"], "not built yet"),
        (vec!["partition", "sled-a"], "there is no cluster default"),
        (vec!["volume", "--output", "/nowhere/v.json"], "there is no cluster default"),
        (vec!["--sleds", "2", "status"], "stand after it"),
        (vec!["--name", "../evil", "status"], "cannot be a cluster's name"),
        (vec!["status"], "there is no cluster default"),
    ] {
        let refusal = refused(temp.path(), &args);
        assert!(refusal.contains(wanted), "{args:?}: {refusal}");
    }
    assert!(!temp.path().join("default").exists());
}

#[test]
fn to_end_what_is_not_there_is_no_error_and_makes_nothing() {
    let temp = Scene::new();
    for command in ["down", "reset"] {
        assert_eq!(succeed(temp.path(), &[command]), "there is no cluster default\n");
    }
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0);
}

#[test]
fn a_reader_that_has_gone_is_no_error() {
    let temp = Scene::new();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = testbed(temp.path(), &["down"]).stdout(writer).output().expect("xtask runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
