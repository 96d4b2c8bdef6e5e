//! A process that is killed after each step, and the same call by the next one.

use crate::bench::{Bench, Kind, SIZE, wait_for};
use camino::Utf8PathBuf;
use datasets::{DatasetError, Datasets};
use fault_points::FaultClient;
use ids::{RegionId, SnapshotId};
use std::{env, fs, io::Read, process::Stdio};
use test_disks::WORK;
use tokio::process::Command;

/// What it is to do there: an operation, a region and a snapshot.
const DOES: &str = "BOBSLED_TEST_DOES";

/// Operations, and the points that they pass: on directories, and on ZFS.
const OPERATIONS: [(&str, &[&str], &[&str]); 6] = [
    ("create", &["create_begun", "create_recorded", "created"], &["create_begun", "unfinished", "created"]),
    ("snapshot", &["snapshot_begun", "snapshot_made"], &["snapshot_made"]),
    ("open", &["snapshot_opened"], &["unfinished", "snapshot_opened"]),
    ("close", &["snapshot_closed"], &["snapshot_closed"]),
    ("destroy_snapshot", &["snapshot_unnamed", "snapshot_destroyed"], &["snapshot_destroyed"]),
    ("destroy", &["destroy_unnamed", "destroyed"], &["destroyed"]),
];

async fn act(
    disk: &dyn Datasets,
    operation: &str,
    region: RegionId,
    snapshot: SnapshotId,
) -> Result<(), DatasetError> {
    match operation {
        "create" => disk.create(region, SIZE).await.map(drop),
        "snapshot" => disk.snapshot(region, snapshot).await,
        "open" => disk.open_snapshot(region, snapshot).await.map(drop),
        "close" => disk.close_snapshot(region, snapshot).await,
        "destroy_snapshot" => disk.destroy_snapshot(region, snapshot).await,
        "destroy" => disk.destroy(region).await,
        other => panic!("{other:?} is no operation"),
    }
}

pub(crate) async fn a_crash_after_each_step_is_mended_by_the_same_call(bench: Bench) {
    if let Ok(words) = env::var(DOES) {
        return second_process(bench, &words).await;
    }
    let disk = bench.open();
    let has_snapshots = disk.disk().await.snapshots == Some(true);
    for (victim, on_directories, on_zfs) in OPERATIONS {
        let points = if bench.kind == Kind::Zfs { on_zfs } else { on_directories };
        if !has_snapshots && !matches!(victim, "create" | "destroy") {
            continue;
        }
        for point in points {
            // One life of a dataset, with the crash in its place.
            let (region, snapshot) = (RegionId::generate(), SnapshotId::generate());
            for (operation, ..) in OPERATIONS {
                if !has_snapshots && !matches!(operation, "create" | "destroy") {
                    continue;
                }
                if operation == victim {
                    crash(&bench, operation, region, snapshot, point).await;
                    is_old_or_new(&*disk, region, operation, point).await;
                }
                act(&*disk, operation, region, snapshot).await.unwrap_or_else(|error| {
                    panic!("{operation} after a crash of {victim} at {point}: {error}")
                });
                act(&*disk, operation, region, snapshot).await.unwrap();
                is_done(&*disk, operation, region, snapshot).await;
            }
            assert_eq!(disk.list().await.unwrap().datasets, [], "{victim} at {point}");
            let left: Vec<_> = names(&bench).into_iter().filter(|name| name != "datasets.json").collect();
            assert_eq!(left, Vec::<String>::new(), "{victim} at {point}");
        }
    }
}

fn names(bench: &Bench) -> Vec<String> {
    let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
    fs::read_dir(bench.root()).unwrap().map(name).collect()
}

/// Before the call is made again.
async fn is_old_or_new(disk: &dyn Datasets, region: RegionId, operation: &str, point: &str) {
    let found = disk.find(region).await.unwrap_or_else(|error| panic!("{operation} at {point}: {error}"));
    if let Some(found) = found {
        assert_eq!(found.size, SIZE, "{operation} at {point}");
    }
    assert_eq!(disk.list().await.unwrap().strangers, [], "{operation} at {point}");
}

/// What must be so after each operation.
async fn is_done(disk: &dyn Datasets, operation: &str, region: RegionId, snapshot: SnapshotId) {
    let found = disk.find(region).await.unwrap();
    if operation == "destroy" {
        assert_eq!(found, None);
        return;
    }
    let directory = found.unwrap().directory;
    if operation == "create" {
        fs::write(directory.join("region"), "content").unwrap();
    }
    assert_eq!(fs::read(directory.join("region")).unwrap(), b"content");
    let snapshots = disk.snapshots(region).await.unwrap();
    match operation {
        "snapshot" | "close" => assert!(matches!(&snapshots[..], [one] if one.opened.is_none())),
        "open" => {
            let opened: &Utf8PathBuf = snapshots[0].opened.as_ref().unwrap();
            assert_eq!(snapshots[0].id, snapshot);
            assert_eq!(fs::read(opened.join("region")).unwrap(), b"content");
        }
        _ => assert_eq!(snapshots, []),
    }
}

/// Has another process do it, and kills that at the point.
async fn crash(bench: &Bench, operation: &str, region: RegionId, snapshot: SnapshotId, point: &str) {
    let point = format!("datasets.{point}");
    let socket = bench.work.join("faults.sock");
    let _ = fs::remove_file(&socket);
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", &bench.test, "--nocapture", "--test-threads=1"])
        .env(WORK, bench.work.as_str())
        .env(DOES, format!("{operation} {region} {snapshot}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let faults = FaultClient::new(socket);
    wait_for("the second process", async || faults.hold(&point, 0).await.map_err(|error| error.to_string()))
        .await;
    // It begins when its input ends.
    drop(child.stdin.take());
    tokio::select! {
        held = faults.wait_held(&point) => held.unwrap(),
        ended = child.wait() => panic!("{operation} has not passed {point}: {ended:?}"),
    }
    child.kill().await.unwrap();
}

/// What that process does.
async fn second_process(bench: Bench, words: &str) {
    let [operation, region, snapshot] = words.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let socket = bench.work.join("faults.sock");
    tokio::spawn(fault_points::serve(socket, None));
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await.unwrap().unwrap();
    act(&*bench.open(), operation, region.parse().unwrap(), snapshot.parse().unwrap()).await.unwrap();
}
