//! Regions on each kind of file system that a disk may have: the same claims on ext4, XFS and btrfs, each on a disk of the test's own in
//! namespaces of its own. What is special about a pool is in [`zfs`](crate::zfs), which makes these claims there, too.

use crate::{
    agent::Agent,
    clones::{self, Origin, region_where, said},
    wire::Peer,
};
use ids::{RegionId, RegionSetId, SnapshotId};
use region::Position;
use rustix::process::{Pid, Signal, kill_process};
use sled_client::{
    disks::{DiskHealth, DownstairsState},
    regions::{RegionMember, RegionRequest, RegionState},
};
use std::process::Command;
use test_disks::{DATASET, Kind, TestDisk, command};

/// Makes a test of each claim, named by kind of disk and claim. Each has an address of its own.
macro_rules! on {
    ($kind:ident, $module:ident, $($claim:ident),+ $(,)?) => {
        mod $module {
            $(#[test]
            fn $claim() {
                let name = concat!("kinds::", stringify!($module), "::", stringify!($claim));
                test_disks::inside::run(name, test_disks::Kind::$kind, async || {
                    let (disk, agent) = super::served(test_disks::Kind::$kind).await;
                    super::$claim(&disk, agent).await;
                });
            })+
        }
    };
}

on!(
    Ext4,
    ext4,
    snapshots_and_clones_keep_what_was,
    kills_leave_what_was_acknowledged,
    room_comes_back,
    a_snapshot_is_refused_where_its_writer_would_wait_for_room_later,
);
on!(
    Xfs,
    xfs,
    snapshots_and_clones_keep_what_was,
    kills_leave_what_was_acknowledged,
    room_comes_back,
    a_snapshot_is_refused_where_its_writer_would_wait_for_room_later,
);
// It says only roughly what may still be written: so nothing is claimed of it when it is nearly full.
on!(Btrfs, btrfs, snapshots_and_clones_keep_what_was, kills_leave_what_was_acknowledged, room_comes_back,);

on!(Zfs, zfs, a_snapshot_is_refused_where_its_writer_would_wait_for_room_later);

/// An agent with one disk of that kind, served.
async fn served(kind: Kind) -> (TestDisk, Agent) {
    let disk = TestDisk::start(kind).await;
    let mut agent = match kind {
        Kind::Zfs => Agent::with_zfs(DATASET),
        _ => Agent::with_directory(&disk.root()),
    };
    assert!(agent.disk_command("prepare", 0).status().unwrap().success(), "{}", agent.log());
    agent.start();
    let told = agent.stands(0, DownstairsState::Running).await;
    let expected = format!("{kind:?}").to_lowercase();
    assert_eq!((told.health, told.file_system), (DiskHealth::Healthy, Some(expected)));
    (disk, agent)
}

async fn kill_downstairs(agent: &Agent) {
    let before = agent.stands(0, DownstairsState::Running).await.downstairs.pid;
    kill_process(Pid::from_raw(before.unwrap().try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    let is_next = |pid: Option<u32>, state| pid != before && state == DownstairsState::Running;
    agent.disk_where(0, |disk| is_next(disk.downstairs.pid, disk.downstairs.state)).await;
}

async fn snapshots_and_clones_keep_what_was(_: &TestDisk, mut agent: Agent) {
    let origin = Origin::on(&agent).await;
    let clone = RegionId::generate();
    let wanted = origin.clone_on(agent.disks[0], origin.source(origin.address));
    agent.client.put_region(clone, &wanted).await.unwrap();
    let ready = region_where(&agent, clone, |region| region.state == RegionState::Ready).await;
    assert_eq!(ready.snapshots, [origin.snapshot]);
    for is_restarted in [false, true] {
        if is_restarted {
            agent.kill();
            kill_downstairs_of_nobody(&mut agent).await;
        }
        for region in [origin.region, clone] {
            let read = |block| {
                Peer::read_snapshot(origin.address, (region, origin.set, origin.snapshot), block).unwrap()
            };
            assert_eq!((read(0)[0], read(24 * 256 - 1)[0]), (1, 24));
        }
    }
    // The snapshot keeps its region, and goes first.
    let refused = said(agent.client.delete_region(origin.region, 5).await);
    assert!(refused.contains("region_has_snapshots"), "{refused}");
    agent.client.delete_region_snapshot(origin.region, origin.snapshot, 5).await.unwrap();
    for region in [clone, origin.region] {
        agent.eventually(async || agent.client.delete_region(region, 5).await).await;
        assert_eq!(agent.client.region(region).await.unwrap().state, RegionState::Destroyed);
    }
    assert_eq!(agent.client.inventory().await.unwrap().region_datasets, []);
}

/// The agent is dead; it starts, and then its Downstairs is killed, too.
async fn kill_downstairs_of_nobody(agent: &mut Agent) {
    agent.start();
    kill_downstairs(agent).await;
}

/// A region that is all of its set, of 32 MiB.
async fn whole(agent: &Agent) -> (RegionId, RegionSetId, std::net::SocketAddr) {
    let (region, set) = (RegionId::generate(), RegionSetId::generate());
    let members = vec![RegionMember { region_id: region, incarnation: 7 }];
    let request = RegionRequest { members, ..clones::request(agent.disks[0], set) };
    let made = agent.client.put_region(region, &request).await.unwrap();
    (region, set, made.address.unwrap())
}

async fn kills_leave_what_was_acknowledged(_: &TestDisk, agent: Agent) {
    let (region, set, address) = whole(&agent).await;
    let mut taken = Vec::new();
    for epoch in 1..=4_u8 {
        let mut peer = Peer::writer(address, region, set, epoch.into());
        for counter in 1..=8 {
            let at = Position { epoch: epoch.into(), counter };
            peer.write(at, (counter - 1) * 256, 256, 16 * epoch + u8::try_from(counter).unwrap());
        }
        drop(peer);
        // What was applied a killed process leaves, flushed or not.
        kill_downstairs(&agent).await;
        let snapshot = SnapshotId::generate();
        agent.eventually(async || agent.client.put_region_snapshot(region, snapshot, 5).await).await;
        taken.push((epoch, snapshot));
        for (epoch, snapshot) in &taken {
            for counter in [1, 8] {
                let read = Peer::read_snapshot(address, (region, set, *snapshot), counter * 256 - 1).unwrap();
                assert_eq!(u64::from(read[0]), 16 * u64::from(*epoch) + counter, "epoch {epoch}");
            }
        }
    }
}

async fn room_comes_back(_: &TestDisk, agent: Agent) {
    let space = async || agent.disk_where(0, |disk| disk.space.is_some()).await.space.unwrap();
    let before = space().await;
    let (region, ..) = whole(&agent).await;
    let (between, told) = (space().await, agent.client.region(region).await.unwrap());
    assert_eq!(between.reserved, before.reserved + told.reserved);
    // All of it is taken when it is made.
    assert!(told.used.unwrap() > told.size, "{told:?}");
    assert!(between.reservable + told.size <= before.reservable, "{between:?}, {before:?}");
    agent.eventually(async || agent.client.delete_region(region, 5).await).await;
    // Some file systems count what is free a moment later.
    let is_back = |disk: &sled_client::disks::DiskStatus| {
        disk.space.is_some_and(|space| space.reservable + (4 << 20) >= before.reservable)
    };
    let after = agent.disk_where(0, is_back).await.space.unwrap();
    assert_eq!(after.reserved, before.reserved);
}

/// Writes all of such a region as the next epoch; nobody waits for room.
fn write_all(address: std::net::SocketAddr, region: RegionId, set: RegionSetId, epoch: u32) {
    let mut peer = Peer::writer(address, region, set, epoch);
    for counter in 1..=32 {
        peer.write(Position { epoch, counter }, (counter - 1) * 256, 256, u8::try_from(epoch).unwrap());
    }
}

/// Whether a snapshot is taken, or what is said of the room that it lacks.
async fn snapshot(agent: &Agent, region: RegionId, snapshot: SnapshotId) -> Result<(), String> {
    let taken =
        agent.eventually(async || match agent.client.put_region_snapshot(region, snapshot, 5).await {
            Err(error) if format!("{error:?}").contains("somebody writes") => Err(error),
            other => Ok(other),
        });
    taken.await.map_err(|error| format!("{error:?}"))
}

/// Takes away what the disk has beyond so many bytes.
async fn leave(disk: &TestDisk, agent: &Agent, bytes: u64) {
    if disk.kind == Kind::Zfs {
        // What is reserved counts as used.
        let used = Command::new("zfs").args(["get", "-Hp", "-o", "value", "used", DATASET]).output().unwrap();
        let used: u64 = String::from_utf8(used.stdout).unwrap().trim().parse().unwrap();
        return command(&["zfs", "set", &format!("quota={}", used + bytes), DATASET]);
    }
    let available = agent.disk_where(0, |disk| disk.space.is_some()).await.space.unwrap().available;
    let filler = std::fs::File::create(disk.mountpoint().join("filler")).unwrap();
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, available - bytes).unwrap();
}

async fn a_snapshot_is_refused_where_its_writer_would_wait_for_room_later(disk: &TestDisk, agent: Agent) {
    let (first, second) = (whole(&agent).await, whole(&agent).await);
    for (region, set, address) in [first, second] {
        write_all(address, region, set, 1);
    }
    // There is room for what one of the two may come to need, and for a small region; not for two of these three.
    let small =
        RegionRequest { blocks_per_extent: 256, ..clones::request(agent.disks[0], RegionSetId::generate()) };
    leave(disk, &agent, 50 << 20).await;
    let [one, other] = [(); 2].map(|()| SnapshotId::generate());
    snapshot(&agent, first.0, one).await.unwrap();
    let refused = snapshot(&agent, second.0, other).await.unwrap_err();
    assert!(refused.contains("region_snapshot_refused") && refused.contains("are left"), "{refused}");
    let refused = said(agent.client.put_region(RegionId::generate(), &small).await);
    assert!(refused.contains("no_space"), "{refused}");
    assert_eq!(agent.client.region(second.0).await.unwrap().snapshots, []);
    // What is deleted gives its part back, to whoever comes first.
    agent.client.delete_region_snapshot(first.0, one, 5).await.unwrap();
    let made = RegionId::generate();
    agent.client.put_region(made, &small).await.unwrap();
    agent.client.delete_region(made, 5).await.unwrap();
    snapshot(&agent, second.0, other).await.unwrap();
    // All of both is written anew, twice, and so is the snapshot's own content: nobody waits.
    for epoch in [2, 3] {
        for (region, set, address) in [first, second] {
            write_all(address, region, set, epoch);
        }
    }
    let (region, set, address) = second;
    let kept = Peer::read_snapshot(address, (region, set, other), 8_191).unwrap();
    assert_eq!(kept[0], 1);
}
