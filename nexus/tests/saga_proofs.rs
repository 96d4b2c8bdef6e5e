//! Every kind of saga that the coordinator registers is proven here; one without a case fails this.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use camino_tempfile::Utf8TempDir;
use ids::CoordinatorId;
use nexus::sagas::{
    demo::{Demo, DemoParams, DemoTools, NODES, SIGNAL},
    kinds::{Parts, kinds},
    witness::Witness,
};
use nexus_saga_harness::{Case, Depth, Memory, Moment, World, assert_covered, prove};
use std::{
    collections::BTreeMap,
    fs,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

/// The demo's effects: a file per node, of which the last line counts. As a sled would, whoever reads it ignores lines of
/// an executor that come after a later one's.
struct Effects {
    directory: Utf8TempDir,
    lives: AtomicU64,
    /// File → bytes that it had, and whether the effect was there: most files have not changed since.
    read: Mutex<BTreeMap<String, (u64, bool)>>,
}

impl Effects {
    fn new() -> Arc<Effects> {
        let directory = camino_tempfile::tempdir().unwrap();
        Arc::new(Effects { directory, lives: AtomicU64::new(0), read: Mutex::default() })
    }

    /// What one life of a coordinator reaches.
    fn tools(&self) -> DemoTools {
        let epoch = self.lives.fetch_add(1, Ordering::Relaxed) + 1;
        DemoTools::new(Witness::new(self.directory.path(), CoordinatorId::generate(), epoch))
    }
}

/// Whether the effect is there, by the lines of its file.
fn is_there(lines: &str) -> bool {
    let mut latest = 0;
    let mut there = false;
    for line in lines.lines() {
        let epoch: u64 = line.split(['=', ' ']).nth(1).unwrap().parse().unwrap();
        if epoch >= latest {
            (latest, there) = (epoch, line.ends_with(" do"));
        }
    }
    there
}

/// As the saga names it.
fn path_of(node: &str) -> String {
    let inner = ["open", "north", "east", "south", "close"].contains(&node);
    if inner { format!("inner/{node}") } else { node.to_owned() }
}

impl World for Effects {
    fn effects(&self) -> BTreeMap<String, i64> {
        let mut read = self.read.lock().unwrap();
        let mut effects = BTreeMap::new();
        let Ok(sagas) = self.directory.path().join("demo-effects").read_dir_utf8() else { return effects };
        for saga in sagas {
            let saga = saga.unwrap();
            for node in NODES {
                let file = saga.path().join(format!("{node}.log"));
                let Ok(metadata) = file.metadata() else { continue };
                let known = read.entry(file.to_string()).or_default();
                if known.0 != metadata.len() {
                    *known = (metadata.len(), is_there(&fs::read_to_string(&file).unwrap()));
                }
                effects.insert(format!("{}/{}", saga.file_name(), path_of(node)), known.1.into());
            }
        }
        effects
    }

    fn check(&self, _: Moment<'_>) -> Result<(), String> {
        Ok(())
    }
}

fn demo(name: &str, params: &DemoParams) -> Case<Effects> {
    Case::of::<Demo>(name, params, Effects::new, |kinds, effects: &Arc<Effects>| {
        kinds.add::<Demo>(Arc::new(effects.tools())).map(|_| ())
    })
}

#[test]
fn every_kind_of_saga_survives_anything() {
    let waits = DemoParams { wait_for_signal: true, sleep_ms: 60_000, ..DemoParams::default() };
    let reports = [
        prove(&demo("plain", &DemoParams::default()), &Memory, Depth::Full),
        prove(&demo("waits", &waits).signal(SIGNAL, true.into()), &Memory, Depth::Gaps),
    ];
    for report in &reports {
        println!("{report}");
        report.assert_proven();
    }
    let directory = camino_tempfile::tempdir().unwrap();
    let witness = Witness::new(directory.path(), CoordinatorId::generate(), 1);
    assert_covered(&kinds(Parts { witness }).unwrap(), &reports);
}
