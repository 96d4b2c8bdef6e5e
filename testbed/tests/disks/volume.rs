//! A volume by hand over three sleds' disks, while those are broken: clients notice nothing, and in the end it is whole. Needs fio.

use crate::{LIMIT, cluster};
use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::{Utf8TempDir, tempdir};
use ids::SnapshotId;
use serde_json::Value;
use std::time::{Duration, Instant};
use testbed::{Cluster, DiskFault, DiskName, KillScope, OwnedProcess, owned_command, wait_for};
use tokio::task::JoinHandle;

const SIZE: u64 = 64 << 20;

/// A volume and its export.
struct Volume {
    dir: Utf8TempDir,
    agent: Utf8PathBuf,
    export: OwnedProcess,
}

impl Volume {
    async fn exported(cluster: &Cluster) -> Volume {
        let request = cluster.make_volume(SIZE, &[]).await.unwrap();
        let dir = tempdir().unwrap();
        std::fs::write(dir.path().join("volume.json"), serde_json::to_vec(&request).unwrap()).unwrap();
        let agent = cluster.record().unwrap().bin_dir.join("sled-agent");
        let args = [
            "volume".to_owned(),
            "export".to_owned(),
            format!("--volume={}/volume.json", dir.path()),
            "--epoch=1".to_owned(),
            format!("--listen=unix:{}/nbd", dir.path()),
        ];
        let export = OwnedProcess::start(dir.path(), "export", &agent, &args).unwrap();
        let volume = Volume { dir, agent, export };
        wait_for("the export", LIMIT, async || volume.look().await.map(drop)).await.unwrap();
        volume.waits_for("whole").await;
        volume
    }

    async fn command(&self, command: &str, more: &[&str]) -> Result<String, String> {
        let file = format!("{}/volume.json", self.dir.path());
        let output = owned_command(&self.agent).args(["volume", command, &file]).args(more).output().await;
        let output = output.expect("it runs");
        match output.status.success() {
            true => Ok(String::from_utf8(output.stdout).unwrap()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    async fn waits_for(&self, state: &str) {
        if let Err(error) = self.command("wait", &["--for", state, "--seconds=60"]).await {
            panic!("not {state}: {error}\n{}", self.export.last_words());
        }
    }

    async fn look(&self) -> Result<Value, String> {
        Ok(serde_json::from_str(&self.command("look", &["--json"]).await?).expect("it is JSON"))
    }

    async fn total(&self, name: &str) -> u64 {
        sum_of(&self.look().await.unwrap(), name)
    }

    /// fio, which ends with an error if the volume gives it one, or wrong bytes.
    fn fio(&self, name: &str, args: &[&str]) -> JoinHandle<()> {
        let dir: &Utf8Path = self.dir.path();
        let mut command = owned_command("fio");
        // The engine first: only then there is a URI.
        command.args([format!("--name={name}"), "--ioengine=nbd".to_owned()]);
        command.args([format!("--uri=nbd+unix:///?socket={dir}/nbd")]).args([
            "--thread",
            "--verify=crc32c",
            "--verify_fatal=1",
            "--verify_state_save=0",
            "--randseed=7",
        ]);
        command.args(args).current_dir(dir);
        tokio::spawn(async move {
            let output = command.output().await.expect("fio is there");
            let said = String::from_utf8_lossy(&output.stdout);
            let wrong = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.contains("err= 0"), "{said}\n{wrong}");
        })
    }

    /// Writes the first half, or reads it and looks whether it is what was written.
    async fn first_half(&self, what: &str, bs: &str) {
        let size = format!("--size={}", SIZE / 2);
        self.fio("first", &[what, bs, "--iodepth=4", "--verify_interval=16k", "--do_verify=0", &size])
            .await
            .unwrap();
    }

    /// Reads and writes the second half, and verifies it, until so many bytes have been read and written.
    fn second_half(&self, bytes: &str) -> JoinHandle<()> {
        let (size, offset) = (format!("--size={}", SIZE / 2), format!("--offset={}", SIZE / 2));
        let io = format!("--io_size={bytes}");
        self.fio(
            "second",
            &[
                "--rw=randrw",
                "--bs=16k",
                "--iodepth=8",
                "--verify_backlog=32",
                "--fsync=32",
                &size,
                &offset,
                &io,
            ],
        )
    }
}

/// Of all numbers that are called like this, however deep.
fn sum_of(value: &Value, name: &str) -> u64 {
    let children: u64 = match value {
        Value::Array(all) => all.iter().map(|one| sum_of(one, name)).sum(),
        Value::Object(fields) => fields.values().map(|one| sum_of(one, name)).sum(),
        _ => 0,
    };
    children + value.get(name).and_then(Value::as_u64).unwrap_or(0)
}

fn disk(name: &str) -> DiskName {
    DiskName::parse(name).unwrap()
}

#[tokio::test]
async fn disks_that_fail_are_slow_or_rot_are_noticed_by_no_client_and_are_whole_when_they_are_healed() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "volume", 3, 1).await;
    let volume = Volume::exported(&cluster).await;
    volume.first_half("--rw=write", "--bs=64k").await;

    // One fails, on what is open: the others go on, and it is made whole when it works again.
    let load = volume.second_half("400m");
    cluster.disk_fault(&disk("sled-b/disk-0"), DiskFault::Fail).await.unwrap();
    volume.waits_for("degraded").await;
    let before = volume.total("writes").await;
    wait_for("writes without it", LIMIT, async || match volume.total("writes").await {
        now if now > before + 500 => Ok(()),
        now => Err(format!("{now}, from {before}")),
    })
    .await
    .unwrap();
    volume.first_half("--rw=read", "--bs=64k").await;
    assert!(!load.is_finished(), "it was to run meanwhile");
    // What serves it has nothing to do with its agent's life.
    cluster.kill("sled-b", KillScope::AgentOnly).await.unwrap();
    cluster.disk_fault(&disk("sled-b/disk-0"), DiskFault::Heal).await.unwrap();
    volume.waits_for("whole").await;
    load.await.unwrap();
    cluster.restart("sled-b").await.unwrap();

    // Two are slow: each write waits for one of them, and none of them is lost.
    let slow = Duration::from_millis(100);
    let ms = slow.as_millis().try_into().unwrap();
    for name in ["sled-a/disk-0", "sled-c/disk-0"] {
        cluster.disk_fault(&disk(name), DiskFault::Slow { ms }).await.unwrap();
    }
    let ten = [
        "--rw=write",
        "--bs=4k",
        "--iodepth=1",
        "--fsync=1",
        "--number_ios=10",
        "--size=1m",
        "--do_verify=0",
    ];
    let since = Instant::now();
    let offset = format!("--offset={}", SIZE / 2);
    volume.fio("slow", &[&ten[..], &[&offset]].concat()).await.unwrap();
    assert!(since.elapsed() >= slow * 10, "{:?}", since.elapsed());
    // Asked to end, a slow one gets the time that it takes to close its region in order.
    cluster.disk_fault(&disk("sled-a/disk-0"), DiskFault::Slow { ms: 500 }).await.unwrap();
    cluster.restart("sled-a").await.unwrap();
    let log = std::fs::read_to_string(cluster.directory().log_file("sled-a")).unwrap();
    assert_eq!((log.matches("downstairs stopped").count(), log.matches("stopping at once").count()), (1, 0));
    for name in ["sled-a/disk-0", "sled-c/disk-0"] {
        cluster.disk_fault(&disk(name), DiskFault::Heal).await.unwrap();
    }
    volume.waits_for("whole").await;

    // Five blocks of one rot: reading finds and heals them, each once, and nothing else.
    assert_eq!(volume.total("healed_blocks").await, 0);
    let corrupt = DiskFault::Corrupt { count: 5, seed: 7 };
    let told = cluster.disk_fault(&disk("sled-c/disk-0"), corrupt).await.unwrap();
    let count = |told: &Value| told["corrupted"].as_array().expect("a list").len();
    assert_eq!((count(&told), &told["not_looked_at"]), (5, &serde_json::json!({})));
    // Whom a read asks goes round: by pieces of other sizes each comes to each member.
    let mut rounds = ["--bs=64k", "--bs=128k", "--bs=32k", "--bs=256k"].into_iter().cycle();
    wait_for("what has rotted to be found", LIMIT, async || {
        let bs = rounds.next().unwrap();
        volume.first_half("--rw=read", bs).await;
        let (size, offset) = (format!("--size={}", SIZE / 2), format!("--offset={}", SIZE / 2));
        volume.fio("rest", &["--rw=read", bs, "--verify=0", "--iodepth=4", &size, &offset]).await.unwrap();
        match volume.total("healed_blocks").await {
            5 => Ok(()),
            healed => Err(format!("{healed} are healed")),
        }
    })
    .await
    .unwrap();
    let look = volume.look().await.unwrap();
    assert_eq!((sum_of(&look, "lost_blocks"), sum_of(&look, "unreadable_reads")), (0, 0));

    // A disk that is not there, and one that nobody serves, are told.
    let refusal = cluster.disk_fault(&disk("sled-a/disk-1"), DiskFault::Fail).await.unwrap_err().to_string();
    assert!(refusal.contains("there are m2-0, m2-1, disk-0"), "{refusal}");
    cluster.kill("sled-a", KillScope::WholeSled).await.unwrap();
    let refusal = cluster.disk_fault(&disk("sled-a/disk-0"), DiskFault::Fail).await.unwrap_err().to_string();
    assert!(refusal.contains("nobody serves sled-a/disk-0"), "{refusal}");
    assert!(volume.command("stop", &[]).await.is_ok());
}

#[tokio::test]
async fn a_volume_is_made_on_three_disks_of_their_own_or_not_at_all() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "make", 2, 2).await;
    let names = |names: &[&str]| names.iter().map(|name| disk(name)).collect::<Vec<_>>();
    for (disks, size, words) in [
        (names(&[]), SIZE, "there are 2 disks"),
        (names(&["sled-a/disk-0", "sled-a/disk-0", "sled-b/disk-0"]), SIZE, "each on another disk"),
        (names(&["sled-a/disk-0", "sled-a/m2-0", "sled-b/disk-0"]), SIZE, "sled-a has no data disk m2-0"),
        (
            names(&["sled-a/disk-0", "sled-a/disk-1", "sled-c/disk-0"]),
            SIZE,
            "there is nexus-1, sled-a, sled-b",
        ),
        (names(&["sled-a/disk-0", "sled-a/disk-1", "sled-b/disk-0"]), 4097, "not whole blocks"),
        // More than any disk has: the first one says so.
        (names(&["sled-a/disk-0", "sled-a/disk-1", "sled-b/disk-0"]), 1 << 50, "asking sled-a"),
    ] {
        let refusal = cluster.make_volume(size, &disks).await.unwrap_err().to_string();
        assert!(refusal.contains(words), "{words}: {refusal}");
    }
    // The third sled is away: what the others have made is gone again.
    cluster.kill("sled-b", KillScope::WholeSled).await.unwrap();
    let places = names(&["sled-a/disk-0", "sled-a/disk-1", "sled-b/disk-0"]);
    let refusal = cluster.make_volume(SIZE, &places).await.unwrap_err().to_string();
    assert!(refusal.contains("asking sled-b"), "{refusal}");
    let left = cluster.sled("sled-a").unwrap().regions(&Default::default()).await.unwrap();
    assert_eq!(left.items, []);
    cluster.restart("sled-b").await.unwrap();
    let made = cluster.make_volume(SIZE, &places).await.unwrap();
    assert_eq!(made.sub_volumes.len(), 1);
}

#[tokio::test]
async fn a_volume_is_destroyed_with_those_that_leave_and_their_snapshots_and_not_while_a_pantry_holds_it() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "destroy", 1, 4).await;
    let disks: Vec<DiskName> = (0..4).map(|number| disk(&format!("sled-a/disk-{number}"))).collect();
    let first = cluster.make_volume(4 << 20, &disks[..3]).await.unwrap();
    let volume = cluster.attach_volume("sled-a", &first).await.unwrap();
    volume.snapshot(SnapshotId::generate()).await.unwrap();
    let second = cluster.replace_region(&first, &disks[2], &disks[3]).await.unwrap();
    assert!(cluster.replace_region(&second, &disks[2], &disks[3]).await.is_err(), "it has one there already");
    assert_eq!(cluster.member_on(&second, &disks[2]).await.unwrap(), None);
    let new = cluster.member_on(&second, &disks[3]).await.unwrap().unwrap().region_id;
    volume.replace(&second).await.unwrap();
    assert!(volume.replace(&second).await.is_err(), "it has begun already, or has ended");
    volume.wait_filling("it to be full", new, LIMIT, |now| now.finished_at.is_some()).await.unwrap();

    let regions = async || cluster.sled("sled-a").unwrap().regions(&Default::default()).await.unwrap().items;
    let refusal = cluster.destroy_volume(&second).await.unwrap_err().to_string();
    assert!(refusal.contains("sled-a holds volume"), "{refusal}");
    assert_eq!(regions().await.iter().map(|region| region.snapshots.len()).sum::<usize>(), 3);
    volume.detach().await.unwrap();
    assert_eq!(cluster.destroy_volume(&second).await.unwrap(), 4);
    assert_eq!(regions().await, []);
    // What is gone is no error; what is no volume by hand is.
    assert_eq!(cluster.destroy_volume(&second).await.unwrap(), 4);
    let alone = testbed::regions_alone(&second, SnapshotId::generate()).unwrap();
    assert_eq!(alone.len(), 3);
    let refusal = cluster.destroy_volume(&alone[0].1).await.unwrap_err().to_string();
    assert!(refusal.contains("not a volume by hand"), "{refusal}");
}
