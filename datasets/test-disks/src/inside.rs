//! A test that runs itself once more, in a mount and a process namespace of its own. Owns that nothing of it is left.
//!
//! ```text
//!   the test ──► unshare ──► the same test, first process of its namespace ──► zfs-fuse, mkfs, mount, …
//!      │                        reads its standard input
//!      └── dies, however ─────► reads its end, dies ──► the kernel ends all of the namespace: processes, mounts, loop devices
//! ```
//!
//! Each has a `/run` and a `/var/lib/zfs` of its own, which is where `zfs-fuse` has its socket, its lock and its list of
//! pools: so any number of them run side by side.

use crate::disk::{Kind, WORK};
use std::{
    env,
    io::{Read, stdin},
    process::{Command, Stdio, abort},
    thread,
    time::Duration,
};

/// Says to the test that it is the second one.
const INSIDE: &str = "BOBSLED_TEST_INSIDE";

/// How long one claim may take: the slowest fills a disk, on a machine that does much else.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs a claim where a disk of that kind may be made. `name` is the test's own.
///
/// # Panics
/// If it does not hold; with `CI=true`, if the machine lacks something for it.
pub fn run(name: &str, kind: Kind, claim: impl AsyncFnOnce()) {
    if kind == Kind::Temporary || env::var_os(INSIDE).is_some() {
        // A process that a test starts within it reads its standard input itself, and ends with the namespace.
        if kind != Kind::Temporary && env::var_os(WORK).is_none() {
            end_with_the_test();
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let claim = runtime.block_on(async { tokio::time::timeout(LIMIT, claim()).await });
        // What hangs on purpose must not keep the runtime.
        runtime.shutdown_background();
        assert!(claim.is_ok(), "{name} took more than {LIMIT:?}");
        return;
    }
    if let Some(missing) = kind.missing() {
        assert_ne!(env::var("CI").as_deref(), Ok("true"), "{name} needs {missing}");
        eprintln!("warning: {name} was left out: it needs {missing}");
        return;
    }
    let mut child = Command::new("unshare")
        .args([
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
            "--",
        ])
        .arg(env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "yes")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Open until the end: it is what the second one sees end.
    let input = child.stdin.take();
    let output = child.wait_with_output().unwrap();
    drop(input);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    // A name that no test has would be a success, too.
    let ran = stdout.contains("1 passed");
    assert!(output.status.success() && ran, "{name}, {}\n{stdout}\n{stderr}", output.status);
}

/// Dies with the first one, even if that is killed.
fn end_with_the_test() {
    thread::spawn(|| {
        let mut rest = Vec::new();
        let _ = stdin().read_to_end(&mut rest);
        abort();
    });
}
