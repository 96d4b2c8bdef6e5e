//! `testbed --demo`, as a newcomer runs it: it ends with 0 and leaves nothing; what does not hold ends it with an error; and what it says that
//! can be done by hand can be typed. The release is a small one, so that it takes seconds.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod shell;

use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::Utf8TempDir;
use rustix::process::Signal;
use sample_release::{Keys, SampleRelease};
use shell::Shell;
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};
use test_processes::Group;
use testbed::{Cluster, ProcessIdentity, wait_for};
use volume_soak::NbdClient;

/// The developer commands.
const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// Far longer than a demo takes: hanging is the failure.
const LIMIT: Duration = Duration::from_secs(120);

/// Bytes of the artifact that the volume is filled with.
const IMAGE: u64 = 32 << 20;

/// What stands for `cargo xtask`: the program that is tested. The cluster is there already, with the demo's release.
const SHELL: &str = r#"
cargo() {
    shift
    if [ "$*" = "testbed up --detach" ]; then return; fi
    "$XTASK" "$@"
}
"#;

/// A demo, and what it has said until now. It ends with the test, however that ends, and so does its cluster, also if it has detached.
struct Demo {
    child: Child,
    lines: Receiver<String>,
    said: Vec<String>,
    _ends: Group,
    temp: Utf8TempDir,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn testbed(dir: &Utf8Path, args: &[&str]) -> Command {
    let mut command = Command::new(XTASK);
    command.arg("testbed").args(args).env("TESTBED_DIR", dir).stdin(Stdio::null());
    command
}

/// A release with something for the demo's volume.
fn release(dir: &Utf8Path) -> Utf8PathBuf {
    let release = SampleRelease::small("1.0.0").seeded("image", "1.0.0", "host_image", IMAGE, false);
    let zip = dir.join("release.zip");
    release.make(&Keys::generate().unwrap(), &zip).unwrap();
    zip
}

impl Demo {
    fn start(how: &[&str]) -> Demo {
        let temp = Utf8TempDir::new().unwrap();
        let (zip, bin_dir) =
            (release(temp.path()), testbed::binaries::beside_this_test().expect("they are built"));
        let mut command = testbed(temp.path(), how);
        command.args(["--demo", "--disks", "1", "--release", zip.as_str(), "--bin-dir", bin_dir.as_str()]);
        let ends = Group::start_with_last_act(&testbed(temp.path(), &["reset"]));
        ends.add(&mut command);
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("xtask runs");
        let out = BufReader::new(child.stdout.take().unwrap());
        // Read to its end by a thread: what it says must not fill the pipe, and what it does not say must not hang.
        let (sender, lines) = channel();
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        Demo { child, lines, said: Vec::new(), _ends: ends, temp }
    }

    fn dir(&self) -> &Utf8Path {
        self.temp.path()
    }

    fn cluster(&self) -> Cluster {
        Cluster::open(self.dir(), "default").unwrap()
    }

    /// Returns when it has said this.
    fn has_said(&mut self, words: &str) {
        while !self.said.iter().any(|line| line.contains(words)) {
            match self.lines.recv_timeout(LIMIT) {
                Ok(line) => self.said.push(line),
                Err(error) => {
                    panic!("{error}: not {words:?}, but {}\n{}", self.said.join("\n"), self.complains())
                }
            }
        }
    }

    /// All that it says on stderr. It has ended, or is ended.
    fn complains(&mut self) -> String {
        let _ = self.child.kill();
        let mut complaint = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut complaint).unwrap();
        complaint
    }

    /// How it ends, and what it has said then.
    async fn ends(&mut self) -> (ExitStatus, String, String) {
        let child = &mut self.child;
        let look = async || child.try_wait().expect("it is a child").ok_or("it runs");
        let status = wait_for("the demo to end", LIMIT, look).await;
        self.said.extend(self.lines.iter());
        let (said, complaint) = (self.said.join("\n"), self.complains());
        (status.unwrap_or_else(|error| panic!("{error}: {said}")), said, complaint)
    }
}

/// What a demo that held has said, each with its figure; in this order.
const STEPS: [&str; 19] = [
    "a volume of 32.0 MiB is made",
    "the Pantry of sled-a holds it",
    "it is filled with image 1.0.0 from the depot: 32.0 MiB",
    "32.0 MiB are read over NBD",
    "sled-b/disk-0 fails",
    "4.0 MiB are written and made durable by the other two. Of the third: its disk refuses writes",
    "32.0 MiB are read: SHA-256",
    "version 2 of the volume has it in the place of that on sled-b/disk-0",
    "sled-d/disk-0 is slower",
    "begins to fill the new region: 32.0 MiB. nexus-1 is told",
    "nexus-1 is killed, with",
    "without it, filling goes on",
    "nexus-1 is back, with",
    "has all 32.0 MiB",
    "a client has written and read",
    "nexus-1 was told, from start to end",
    "32.0 MiB are read: SHA-256",
    "each of the 3 regions is read alone",
    "its 4 regions are destroyed",
];

fn has_told_every_step(said: &str) {
    let mut lines = said.lines();
    for step in STEPS {
        let line = lines.find(|line| line.contains(step));
        let line = line.unwrap_or_else(|| panic!("not {step:?}, or not in this order: {said}"));
        assert!(line.ends_with(" s)"), "{line:?} does not say how long it took");
    }
    assert!(lines.any(|line| line.starts_with("every check has held")), "{said}");
}

#[tokio::test]
async fn the_demo_tells_every_step_ends_with_0_and_leaves_nothing() {
    let mut demo = Demo::start(&[]);
    let (status, said, complaint) = demo.ends().await;
    assert!(status.success(), "{status}: {said}\n{complaint}");
    has_told_every_step(&said);
    assert!(said.ends_with("everything is stopped and removed"), "{said}");
    assert!(!demo.dir().join("default").exists());
}

#[tokio::test]
async fn what_it_says_can_be_typed_by_hand_and_leaves_nothing_but_the_cluster() {
    let mut demo = Demo::start(&["up", "--detach"]);
    let (status, said, complaint) = demo.ends().await;
    assert!(status.success(), "{status}: {said}\n{complaint}");
    has_told_every_step(&said);
    let commands: Vec<&str> = said.lines().filter_map(|line| line.trim_start().strip_prefix("$ ")).collect();
    assert!(commands.len() > STEPS.len(), "each step has one, and how to begin: {said}");
    let output = demo.dir().join("typed");
    let typed = Shell::start(&format!("{SHELL}{}", commands.join("\n")), demo.dir(), &output);
    let is_well = typed.ends_well();
    let shown = std::fs::read_to_string(&output).unwrap();
    assert!(is_well, "{shown}");
    // The first one is the artifact's; then what was written in two steps, and that three times more.
    let sums: Vec<&str> = shown.lines().filter_map(|line| line.strip_suffix("  -")).collect();
    assert_eq!(sums.len(), 6, "{shown}");
    assert!(
        sums[0] != sums[1] && sums[1] != sums[2] && sums[2..].iter().all(|sum| *sum == sums[2]),
        "{shown}"
    );
    for sum in &sums[..3] {
        assert!(said.contains(&format!("SHA-256 {}…", &sum[..12])), "the demo has read {sum}: {said}");
    }
    assert!(shown.contains("\"state\":\"completed\""), "{shown}");
    let cluster = demo.cluster();
    for sled in cluster.environment().unwrap().sleds {
        let left = cluster.sled(&sled.name).unwrap().regions(&Default::default()).await.unwrap();
        assert_eq!(left.items, [], "{}", sled.name);
    }
}

/// The socket of the volume's export, at the sled that holds it.
async fn exported_at(cluster: &Cluster) -> Utf8PathBuf {
    let client = cluster.sled("sled-a").unwrap();
    let held = client.pantry_volumes().await.unwrap().items;
    let uri = &held[0].exports[0].uri;
    uri.strip_prefix("nbd+unix:///?socket=").expect("it is a socket").into()
}

#[tokio::test]
async fn bytes_that_nobody_was_to_write_end_it_with_an_error_and_nothing_is_left() {
    let mut demo = Demo::start(&[]);
    demo.has_said("sled-b/disk-0 fails");
    let mut client = NbdClient::connect(&exported_at(&demo.cluster()).await).await.unwrap();
    client.write(IMAGE - 4096, &[7; 4096]).await.unwrap();
    let (status, said, complaint) = demo.ends().await;
    assert_eq!(status.code(), Some(1), "{said}\n{complaint}");
    assert!(
        complaint.contains("the demo does not hold") && complaint.contains("what was written has"),
        "{complaint}"
    );
    assert!(!said.contains("every check has held"), "{said}");
    assert!(!demo.dir().join("default").exists());
}

#[tokio::test]
async fn a_step_that_cannot_be_done_ends_it_with_an_error_and_nothing_is_left() {
    let mut demo = Demo::start(&[]);
    demo.has_said("the Pantry of sled-a holds it");
    let told = demo.cluster().sled("sled-a").unwrap().pantry_volumes().await.unwrap().pantry.unwrap();
    let pantry = ProcessIdentity::of(told.pid.expect("it runs")).unwrap().expect("it lives");
    pantry.open().unwrap().expect("it lives").signal(Signal::KILL).unwrap();
    let (status, said, complaint) = demo.ends().await;
    assert_eq!(status.code(), Some(1), "{said}\n{complaint}");
    assert!(complaint.contains("the demo does not hold"), "{complaint}");
    assert!(!demo.dir().join("default").exists());
}
