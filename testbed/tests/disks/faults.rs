//! A disk that fails for the process that serves it, and for its agent.

use crate::{LIMIT, cluster};
use camino_tempfile::Utf8TempDir;
use rustix::process::Signal;
use sled_client::disks::{DiskHealth, DiskStatus, DownstairsState};
use testbed::{Cluster, DiskFault, DiskName, ProcessIdentity, wait_for};

const SIZE: u64 = 4 << 20;

async fn stands(cluster: &Cluster, health: DiskHealth, state: DownstairsState) -> DiskStatus {
    wait_for("the disk", LIMIT, async || {
        let disk = cluster.sled("sled-a").unwrap().disks().await.unwrap().disks.remove(1);
        if (disk.health, disk.downstairs.state) == (health, state) {
            Ok(disk)
        } else {
            Err(format!("{disk:?}"))
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_disk_that_fails_has_no_room_for_regions_and_nobody_to_serve_it_until_it_is_healed() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "failing", 1, 3).await;
    let disks: Vec<DiskName> =
        (0..3).map(|disk| DiskName { sled: "sled-a".to_owned(), disk: format!("disk-{disk}") }).collect();
    let made = cluster.make_volume(SIZE, &disks).await;
    made.unwrap();
    cluster.disk_fault(&disks[1], DiskFault::Fail).await.unwrap();
    let failed = stands(&cluster, DiskHealth::Failed, DownstairsState::Running).await;
    assert!(failed.reason.unwrap().contains("Input/output error"));
    let refusal = format!("{:#}", cluster.make_volume(SIZE, &disks).await.unwrap_err());
    assert!(refusal.contains("Input/output error"), "{refusal}");
    let told = cluster.sled_as_coordinator("sled-a").unwrap().regions(&Default::default()).await.unwrap();
    let on_it: Vec<_> = told.items.iter().filter(|region| region.disk_id == failed.id).collect();
    let says =
        |reason: &Option<String>| reason.as_ref().is_some_and(|why| why.contains("Input/output error"));
    assert!(on_it.len() == 1 && says(&on_it[0].reason), "{on_it:?}");
    assert!(told.items.iter().all(|region| region.disk_id == failed.id || region.reason.is_none()));

    // Nobody serves it any more, and nobody is started: what is left to heal is the agent's.
    let pid = failed.downstairs.pid.unwrap();
    ProcessIdentity::of(pid).unwrap().unwrap().open().unwrap().unwrap().signal(Signal::KILL).unwrap();
    stands(&cluster, DiskHealth::Failed, DownstairsState::WaitingForDisk).await;
    let refusal = cluster.disk_fault(&disks[1], DiskFault::Fail).await.unwrap_err().to_string();
    assert!(refusal.contains("nobody serves sled-a/disk-1"), "{refusal}");
    cluster.disk_fault(&disks[1], DiskFault::Heal).await.unwrap();
    stands(&cluster, DiskHealth::Healthy, DownstairsState::Running).await;
    cluster.make_volume(SIZE, &disks).await.unwrap();
}
