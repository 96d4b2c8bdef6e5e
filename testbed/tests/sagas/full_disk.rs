//! No space under the coordinator's SQLite: new sagas are refused, running ones wait, and when there is space again all
//! goes on by itself.
//!
//! The disk is a small tmpfs over the state directory, in a mount namespace of the coordinator's own: whatever becomes of
//! the test, it ends with that process and nobody else ever sees it. The test looks into it through `/proc/PID/root`. The
//! demo's effects are on a disk with space there; a second test has only them on the small one. A machine that lets nobody
//! make such a namespace leaves the tests out.

use crate::scene::{COORDINATOR, Scene, code, refusal};
use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::Utf8TempDir;
use ids::SagaId;
use nexus_client::{
    issues::IssueCode,
    sagas::{DemoSaga, Saga, SagaQuery, SagaState},
};
use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    os::unix::fs::{PermissionsExt, symlink},
    process::{Command, Stdio},
};
use testbed::{DemoEffects, DemoEnd, binaries};

/// Bytes of the disk. A fresh database with its log needs well below a megabyte.
const DISK_BYTES: u64 = 8 << 20;

/// How a namespace is made; as root there is no need for one of users.
fn unshare() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() { &["--mount"] } else { &["--mount", "--map-root-user"] }
}

fn can_unshare() -> bool {
    let probe = Command::new("unshare")
        .args(unshare())
        .args(["mount", "-t", "tmpfs", "-o", "size=4k", "none", "/mnt"])
        .stderr(Stdio::null())
        .status();
    probe.is_ok_and(|status| status.success())
}

/// What is on the small disk.
#[derive(Clone, Copy)]
enum SmallDisk {
    /// The database; the demo's effects are not.
    Database,
    /// The demo's effects alone.
    Effects,
}

impl SmallDisk {
    /// The lines that put it there, in the directory in which the state directory lies.
    fn mounts(self) -> String {
        match self {
            SmallDisk::Database => format!(
                "mkdir -p effects\n\
                 mount -t tmpfs -o size={DISK_BYTES} none state\n\
                 mkdir state/demo-effects\n\
                 mount --bind effects state/demo-effects\n"
            ),
            SmallDisk::Effects => format!(
                "mkdir -p state/demo-effects\n\
                 mount -t tmpfs -o size={DISK_BYTES} none state/demo-effects\n"
            ),
        }
    }
}

/// Programs like the built ones, but that the coordinator gets its small disk before it starts. It starts in the directory in
/// which its state directory lies.
fn programs_with_a_small_disk(into: &Utf8Path, what: SmallDisk) {
    let built = binaries::beside_this_test().expect("the programs are built");
    symlink(built.join("sled-agent"), into.join("sled-agent")).expect("a link");
    let script = format!(
        "#!/bin/sh\n\
         exec unshare {} sh -ec '\n\
         {}\
         exec \"$@\"' sh {built}/nexus \"$@\"\n",
        unshare().join(" "),
        what.mounts(),
    );
    let nexus = into.join("nexus");
    fs::write(&nexus, script).expect("a script");
    fs::set_permissions(&nexus, fs::Permissions::from_mode(0o755)).expect("it may be run");
}

/// The coordinator's state directory as the coordinator sees it.
fn state_dir(scene: &Scene) -> Utf8PathBuf {
    let record = scene.record().expect("the record is there");
    let process = record.node(COORDINATOR).expect("it is there").process.clone().expect("it runs");
    let inside = scene.directory().state_dir(COORDINATOR);
    format!("/proc/{}/root{inside}", process.pid).into()
}

fn effects(scene: &Scene, id: SagaId) -> DemoEffects {
    let directory = scene.directory().node(COORDINATOR).join("effects").join(id.to_string());
    DemoEffects::read(&directory).expect("what it has left can be read")
}

/// Writes until there is no space at all.
fn fill(path: &Utf8Path) {
    let mut file = File::create(path).expect("a file");
    for piece in [64 << 10, 4 << 10, 512, 1] {
        loop {
            match file.write(&vec![7; piece]) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{path}: {error}"),
            }
        }
    }
}

#[tokio::test]
async fn without_space_new_sagas_are_refused_and_running_ones_go_on_once_there_is_some() {
    if !can_unshare() {
        eprintln!("left out: this machine lets nobody mount a disk of his own");
        return;
    }
    let programs = Utf8TempDir::new().expect("a directory for the programs");
    programs_with_a_small_disk(programs.path(), SmallDisk::Database);
    let scene = Scene::with(|builder| builder.bin_dir(programs.path())).await;
    assert!(state_dir(&scene).join("nexus.db").is_file(), "its database is on the small disk");
    let mut running = Vec::new();
    for _ in 0..4 {
        running.push(scene.begin_waiting(DemoSaga::default()).await);
    }
    let mut accepted = Vec::new();
    for sleep_ms in [1_000, 2_000, 3_000, 4_000] {
        accepted.push(scene.begin(DemoSaga { sleep_ms, ..DemoSaga::default() }).await);
    }
    let ballast = state_dir(&scene).join("ballast");
    fill(&ballast);

    // What the database still has room for in its own files, it takes; then new sagas are refused, and running ones wait.
    scene
        .look("sagas to be refused, and others to wait", async || {
            match scene.operator.saga_demo(&DemoSaga::default()).await {
                Ok(one) => accepted.push(one.id),
                refused => assert_eq!(refusal(refused), code(507, "no_space")),
            }
            let waiting = scene.issues(IssueCode::SagaWaitsForDatabase).await;
            if waiting.is_empty() { Err(format!("{} were accepted", accepted.len())) } else { Ok(()) }
        })
        .await;
    for _ in 0..8 {
        assert_eq!(refusal(scene.operator.saga_demo(&DemoSaga::default()).await), code(507, "no_space"));
    }
    let waiting = scene.operator.sagas(&SagaQuery::default()).await.expect("reads go on").items;
    let waits = |saga: &&Saga| saga.waits_for.as_ref().is_some_and(|it| it.contains("the database"));
    let waiting: Vec<&Saga> = waiting.iter().filter(waits).collect();
    assert!(!waiting.is_empty() && waiting.iter().all(|saga| saga.executing), "{waiting:?}");

    fs::remove_file(&ballast).expect("it is there");
    scene
        .look("a new saga to be accepted", async || {
            match scene.operator.saga_demo(&DemoSaga::default()).await {
                Ok(one) => {
                    accepted.push(one.id);
                    Ok(())
                }
                refused => Err(format!("{refused:?}")),
            }
        })
        .await;
    for id in running.iter().chain(&accepted) {
        if running.contains(id) {
            scene.proceed(*id).await;
        }
        let saga = scene.ended(*id).await;
        assert_eq!(saga.saga.state, SagaState::Succeeded, "{saga:?}");
        let effects = effects(&scene, *id);
        assert_eq!(effects.findings(DemoEnd::Succeeded), Vec::<String>::new(), "{effects}");
    }
    assert_eq!(scene.issues(IssueCode::SagaWaitsForDatabase).await, []);
    let report = scene.pass("saga_recovery").await.report;
    assert_eq!(report["totals"]["recovered"], 0, "{report}");
}

#[tokio::test]
async fn without_space_for_its_effects_a_demo_saga_waits_forward_and_back() {
    if !can_unshare() {
        eprintln!("left out: this machine lets nobody mount a disk of his own");
        return;
    }
    let programs = Utf8TempDir::new().expect("a directory for the programs");
    programs_with_a_small_disk(programs.path(), SmallDisk::Effects);
    let scene = Scene::with(|builder| builder.bin_dir(programs.path())).await;
    let effects = state_dir(&scene).join("demo-effects");
    let unwinds = DemoSaga { fail_at: Some("wait".to_owned()), ..DemoSaga::default() };
    let unwinds = scene.begin_waiting(unwinds).await;
    // Lines fit into what a file has already; without its files each undo wants a new one.
    fs::remove_dir_all(effects.join(unwinds.to_string())).expect("its effects are there");
    fill(&effects.join("ballast"));

    let begun = scene.begin(DemoSaga::default()).await;
    scene.proceed(unwinds).await;
    for (id, node) in [(begun, "begin"), (unwinds, "gather")] {
        scene
            .look("it to wait for room", async || {
                let waits = scene.saga(id).await.saga.waits_for.unwrap_or_default();
                if waits.starts_with("room on the disk") && waits.contains(node) {
                    Ok(())
                } else {
                    Err(waits)
                }
            })
            .await;
    }
    fs::remove_file(effects.join("ballast")).expect("there is room again");
    scene.ended(begun).await;
    scene.ended(unwinds).await;
    assert_eq!(scene.saga(begun).await.saga.state, SagaState::Succeeded);
    assert_eq!(scene.saga(unwinds).await.saga.state, SagaState::Failed);
    let made = DemoEffects::read(&effects.join(begun.to_string())).expect("they can be read");
    assert_eq!(made.findings(DemoEnd::Succeeded), Vec::<String>::new());
}
