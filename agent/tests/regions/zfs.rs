//! A disk that is a dataset of a pool: the real commands of Debian's `zfs-fuse`, on a pool on a file, in namespaces of each test's own.

use crate::{
    agent::Agent,
    clones::{self, Origin, region_where, said},
    wire::{BLOCK, Peer},
};
use ids::{DiskId, RegionId, RegionSetId, SnapshotId};
use region::Position;
use region_wire::Reply;
use rustix::process::{Pid, Signal, kill_process};
use sled_client::{
    disks::{DiskHealth, DiskKind, DiskStatus, DownstairsState},
    regions::{Region, RegionListQuery, RegionMember, RegionRequest, RegionState},
};
use std::{fs, process::Command};
use test_disks::{Asked, DATASET, Kind, POOL, TestDisk, command, inside, wait_for};

const MIB: u64 = 1 << 20;

/// Runs a claim of a pool without datasets, and of an agent that is to have one of it and is not started.
fn run(name: &str, claim: impl AsyncFnOnce(&mut TestDisk, &mut Agent)) {
    inside::run(&format!("zfs::{name}"), Kind::Zfs, async || {
        let mut pool = TestDisk::start(Kind::Zfs).await;
        let mut agent = Agent::with_zfs(DATASET);
        claim(&mut pool, &mut agent).await;
    });
}

async fn served(agent: &mut Agent) -> DiskStatus {
    assert!(agent.disk_command("prepare", 0).status().unwrap().success(), "{}", agent.log());
    agent.start();
    agent.stands(0, DownstairsState::Running).await
}

/// What a command says, which must succeed.
fn told(words: &[&str]) -> String {
    let output = Command::new(words[0]).args(&words[1..]).output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The datasets in the pool, without the pool's own.
fn datasets() -> Vec<String> {
    told(&["zfs", "list", "-H", "-o", "name", "-r", POOL]).lines().skip(1).map(str::to_owned).collect()
}

/// A region of 8 MiB that is all of its set.
async fn small(agent: &Agent) -> (RegionId, RegionSetId, Region, RegionRequest) {
    let (region, request) = wanted_on(agent.disks[0]);
    let made = agent.client.put_region(region, &request).await.unwrap();
    (region, request.region_set_id.unwrap(), made, request)
}

fn wanted_on(disk: DiskId) -> (RegionId, RegionRequest) {
    let region = RegionId::generate();
    let members = vec![RegionMember { region_id: region, incarnation: 7 }];
    let blocks_per_extent = 8 * MIB / 4 / BLOCK as u64;
    let request = clones::request(disk, RegionSetId::generate());
    (region, RegionRequest { blocks_per_extent, members, ..request })
}

/// Writes all of such a region, as the next epoch; tells what is said to the first write that is not just applied.
fn write_all(peer: &mut Peer, epoch: u32, fill: u8) -> Result<(), Reply> {
    for (counter, first) in (1..).zip((0..8 * 256).step_by(256)) {
        let at = Position { epoch, counter };
        match peer.try_write(at, first, 256, fill) {
            reply if reply == Reply::Applied(at) => {}
            reply => return Err(reply),
        }
    }
    Ok(())
}

#[test]
fn its_regions_are_made_and_destroyed_as_often_as_it_is_asked() {
    run("its_regions_are_made_and_destroyed_as_often_as_it_is_asked", async |pool, agent| {
        // Nothing is made before somebody says so.
        agent.start();
        let missing = agent.stands(0, DownstairsState::WaitingForDisk).await;
        assert_eq!((missing.kind, missing.health, missing.dir), (DiskKind::Zfs, DiskHealth::Missing, None));
        let reason = missing.reason.unwrap();
        assert!(reason.contains("dataset does not exist") && reason.contains("prepare it"), "{reason}");
        assert_eq!(datasets(), Vec::<String>::new());
        for _ in 0..2 {
            assert!(agent.disk_command("prepare", 0).status().unwrap().success(), "{}", agent.log());
        }
        let disk = agent.stands(0, DownstairsState::Running).await;
        assert_eq!((disk.health, disk.dir), (DiskHealth::Healthy, Some(pool.root().to_string())));
        let zfs = disk.zfs.unwrap();
        assert_eq!((zfs.dataset.as_str(), zfs.pool_state.as_deref()), (DATASET, Some("ONLINE")));
        assert_eq!((zfs.quota, zfs.reservation, disk.file_system.as_deref()), (None, None, Some("zfs")));

        let (region, _, made, request) = small(agent).await;
        assert_eq!((made.state, made.incarnation, made.size), (RegionState::Created, 7, 8 * MIB));
        let again = agent.client.put_region(region, &request).await.unwrap();
        assert_eq!((again.incarnation, again.reserved, again.address), (7, made.reserved, made.address));
        let name = format!("{DATASET}/{region}");
        let sizes = told(&["zfs", "get", "-Hp", "-o", "value", "reservation,quota", &name]);
        assert_eq!(sizes, format!("{}\n{}\n", made.reserved, 4 * made.reserved));
        let space = agent.disk_where(0, |disk| disk.space.is_some()).await.space.unwrap();
        assert_eq!(space.reserved, made.reserved);
        // A file of somebody in the dataset's own directory is neither in the way nor kept.
        fs::write(pool.root().join(region.to_string()).join("notes"), "").unwrap();
        let other = small(agent).await.0;
        assert_eq!(datasets().len(), 3);
        for _ in 0..2 {
            agent.eventually(async || agent.client.delete_region(region, 5).await).await;
            assert_eq!(datasets(), [DATASET.to_owned(), format!("{DATASET}/{other}")]);
        }
        assert!(said(agent.client.put_region(region, &request).await).contains("region_destroyed"));
        assert_eq!(agent.client.region(region).await.unwrap().state, RegionState::Destroyed);
        // The next life of the id is another dataset.
        let next = RegionMember { region_id: region, incarnation: 8 };
        let next = RegionRequest { incarnation: Some(8), members: vec![next], ..request };
        assert_eq!(agent.client.put_region(region, &next).await.unwrap().incarnation, 8);
        assert_eq!(datasets().len(), 3);
    });
}

#[test]
fn a_list_of_regions_costs_one_listing_of_their_disk() {
    run("a_list_of_regions_costs_one_listing_of_their_disk", async |pool, agent| {
        const REGIONS: usize = 6;
        served(agent).await;
        let origin = Origin::on(agent).await;
        for _ in 1..REGIONS {
            small(agent).await;
        }
        let asked = Asked::of_zfs(&pool.work);
        let listed = async || agent.client.regions(&RegionListQuery::default()).await.unwrap().items;
        let all = listed().await;
        let asked_for_all = asked.since();
        assert!(asked_for_all.len() == 1 && asked_for_all[0].starts_with("get -r"), "{asked_for_all:#?}");
        assert_eq!(all.len(), REGIONS);
        let with_snapshot = all.iter().find(|region| region.id == origin.region).unwrap();
        assert_eq!((&with_snapshot.reason, &with_snapshot.snapshots[..]), (&None, &[origin.snapshot][..]));
        assert_eq!(agent.client.region(origin.region).await.unwrap().snapshots, [origin.snapshot]);
        let asked_for_one = asked.since();
        assert!(asked_for_one.len() == 1 && asked_for_one[0].starts_with("get -r"), "{asked_for_one:#?}");
        // To list what is not mounted mounts nothing; to ask for it does.
        let other = all.iter().find(|region| region.id != origin.region).unwrap().id;
        unmounted(other).await;
        let of_other = async || listed().await.into_iter().find(|region| region.id == other).unwrap();
        let away = of_other().await;
        assert_eq!(away.state, RegionState::Created);
        assert!(away.reason.unwrap().contains("is not mounted"));
        assert_eq!(agent.client.region(other).await.unwrap().reason, None);
        assert_eq!(of_other().await.reason, None);
    });
}

/// Once nobody has files of it.
async fn unmounted(region: RegionId) {
    let name = format!("{DATASET}/{region}");
    wait_for("the region to be unmounted", async || {
        let output = Command::new("zfs").args(["unmount", &name]).output().unwrap();
        if output.status.success() { Ok(()) } else { Err(format!("{output:?}")) }
    })
    .await;
}

#[test]
fn what_is_written_is_kept_by_snapshots_and_clones() {
    run("what_is_written_is_kept_by_snapshots_and_clones", async |_, agent| {
        served(agent).await;
        let origin = Origin::on(agent).await;
        let clone = RegionId::generate();
        let wanted = origin.clone_on(agent.disks[0], origin.source(origin.address));
        agent.client.put_region(clone, &wanted).await.unwrap();
        let ready = region_where(agent, clone, |region| region.state == RegionState::Ready).await;
        assert_eq!(ready.snapshots, [origin.snapshot]);
        for region in [origin.region, clone] {
            let read = |block| {
                Peer::read_snapshot(origin.address, (region, origin.set, origin.snapshot), block).unwrap()
            };
            assert_eq!((read(0)[0], read(24 * 256 - 1)[0]), (1, 24));
        }
        agent.eventually(async || agent.client.delete_region(clone, 5).await).await;
        agent.client.delete_region_snapshot(origin.region, origin.snapshot, 5).await.unwrap();
        assert_eq!(agent.client.region(origin.region).await.unwrap().snapshots, Vec::<SnapshotId>::new());
        assert_eq!(datasets(), [DATASET.to_owned(), format!("{DATASET}/{}", origin.region)]);
    });
}

/// Where its dataset is to be seen there is nothing, so there is no snapshot to be seen either: that is not that it has none.
#[test]
fn a_region_that_something_hides_is_not_destroyed_as_one_without_snapshots() {
    run("a_region_that_something_hides_is_not_destroyed_as_one_without_snapshots", async |pool, agent| {
        served(agent).await;
        let origin = Origin::on(agent).await;
        let mountpoint = pool.root().join(origin.region.to_string());
        command(&["mount", "-t", "tmpfs", "none", mountpoint.as_str()]);
        for _ in 0..2 {
            let refused = said(agent.client.delete_region(origin.region, 5).await);
            assert!(refused.contains("disk_unusable") && refused.contains("findmnt"), "{refused}");
        }
        let told = agent.client.region(origin.region).await.unwrap();
        assert!(
            told.state == RegionState::Created
                && told.reason.unwrap().contains("is not what is to be seen at")
        );
        assert_eq!(datasets(), [DATASET.to_owned(), format!("{DATASET}/{}", origin.region)]);
        command(&["umount", mountpoint.as_str()]);
        let refused = said(agent.client.delete_region(origin.region, 5).await);
        assert!(refused.contains("region_has_snapshots"), "{refused}");
        origin.is_as_it_was(3);
    });
}

/// Whether a snapshot is taken of a region whose writer has just gone, or what is said of it.
async fn snapshot(agent: &Agent, region: RegionId) -> Result<(), String> {
    let snapshot = SnapshotId::generate();
    let taken =
        agent.eventually(async || match agent.client.put_region_snapshot(region, snapshot, 5).await {
            Err(error) if format!("{error:?}").contains("somebody writes") => Err(error),
            other => Ok(other),
        });
    taken.await.map_err(|error| format!("{error:?}"))
}

fn used(region: RegionId) -> u64 {
    let used = told(&["zfs", "get", "-Hp", "-o", "value", "used", &format!("{DATASET}/{region}")]);
    used.trim().parse().unwrap()
}

#[test]
fn snapshots_of_a_region_are_refused_before_its_writer_waits_for_its_quota() {
    run("snapshots_of_a_region_are_refused_before_its_writer_waits_for_its_quota", async |_, agent| {
        served(agent).await;
        let (region, set, made, _) = small(agent).await;
        // Each snapshot keeps what was written before it.
        let refused = 'refused: {
            for epoch in 1..=32 {
                let mut peer = Peer::writer(made.address.unwrap(), region, set, epoch);
                write_all(&mut peer, epoch, 100 + u8::try_from(epoch).unwrap()).unwrap();
                drop(peer);
                if let Err(words) = snapshot(agent, region).await {
                    break 'refused words;
                }
            }
            panic!("32 times its content is more than its quota");
        };
        let words = "they may take 3 times the";
        assert!(refused.contains("region_snapshot_refused") && refused.contains(words), "{refused}");
        let (taken, reserved) = (used(region), made.reserved);
        assert!(taken > 2 * reserved && taken <= 4 * reserved, "{taken} of {reserved}");
    });
}

#[test]
fn a_region_that_has_all_of_its_quota_waits_for_room_and_no_other_one_does() {
    run("a_region_that_has_all_of_its_quota_waits_for_room_and_no_other_one_does", async |_, agent| {
        served(agent).await;
        let (region, set, made, _) = small(agent).await;
        let address = made.address.unwrap();
        write_all(&mut Peer::writer(address, region, set, 1), 1, 1).unwrap();
        snapshot(agent, region).await.unwrap();
        // Somebody takes by hand what the snapshot was promised.
        let dataset = format!("{DATASET}/{region}");
        wait_for("the quota to be what is reserved", async || {
            let quota = format!("quota={}", made.reserved.max(used(region)));
            let set = Command::new("zfs").args(["set", &quota, &dataset]).output().unwrap();
            if set.status.success() { Ok(()) } else { Err(format!("{set:?}")) }
        })
        .await;
        let (mut peer, waits) = 'full: {
            for epoch in 2..=4 {
                let mut peer = Peer::writer(address, region, set, epoch);
                if let Err(reply) = write_all(&mut peer, epoch, u8::try_from(epoch).unwrap()) {
                    break 'full (peer, reply);
                }
                drop(peer);
                snapshot(agent, region).await.unwrap();
            }
            panic!("4 times its content is more than what is reserved");
        };
        let Reply::Waits { is_full: true, why } = waits else { panic!("{waits:?}") };
        assert!(why.contains("uota"), "{why}");
        let (taken, quota) = (used(region), told(&["zfs", "get", "-Hp", "-o", "value", "quota", &dataset]));
        assert!(taken <= quota.trim().parse::<u64>().unwrap() + MIB, "{taken} of {quota}");

        let (other, others_set, others, _) = small(agent).await;
        write_all(&mut Peer::writer(others.address.unwrap(), other, others_set, 1), 1, 9).unwrap();
        let disk = agent.stands(0, DownstairsState::Running).await;
        assert_eq!(disk.health, DiskHealth::Healthy);
        // It goes on when there is room, on the same connection.
        command(&["zfs", "set", "quota=none", &format!("{DATASET}/{region}")]);
        while !matches!(peer.hear(), Reply::Applied(_)) {}
    });
}

#[test]
fn a_pool_that_is_exported_is_waited_for_and_served_again_when_it_is_imported() {
    run("a_pool_that_is_exported_is_waited_for_and_served_again_when_it_is_imported", async |pool, agent| {
        let before = served(agent).await;
        let origin = Origin::on(agent).await;
        agent.stop();
        assert!(agent.disk_command("stop", 0).status().unwrap().success(), "{}", agent.log());
        command(&["zpool", "export", POOL]);
        agent.start();
        let away = agent.stands(0, DownstairsState::WaitingForDisk).await;
        assert_eq!((away.health, away.dir, away.downstairs.pid), (DiskHealth::Missing, None, None));
        assert_eq!((away.zfs.unwrap().pool_state, away.space), (None, None));
        let says = |reason: &Option<String>| {
            reason.as_ref().is_some_and(|why| why.contains("no such pool") && why.contains("import it"))
        };
        agent.disk_where(0, |disk| says(&disk.reason) && says(&disk.downstairs.reason)).await;
        let wanted = clones::request(agent.disks[0], origin.set);
        let refused = agent.client.put_region(RegionId::generate(), &wanted).await;
        assert!(said(refused).contains("disk_unusable"));
        let region = agent.client.region(origin.region).await.unwrap();
        assert!(region.state == RegionState::Created && region.reason.unwrap().contains("no such pool"));
        assert!(!pool.root().exists(), "nothing is made in its place");

        pool.bring_back();
        let back = agent.stands(0, DownstairsState::Running).await;
        assert_eq!(
            (back.health, back.downstairs.address, back.dir),
            (DiskHealth::Healthy, before.downstairs.address, before.dir)
        );
        origin.is_as_it_was(3);
    });
}

#[test]
fn its_downstairs_outlives_the_agent_and_the_next_one_mounts_what_is_not() {
    run("its_downstairs_outlives_the_agent_and_the_next_one_mounts_what_is_not", async |pool, agent| {
        let first = served(agent).await.downstairs;
        let origin = Origin::on(agent).await;
        agent.kill();
        agent.start();
        let found = agent.stands(0, DownstairsState::Running).await.downstairs;
        assert_eq!((found.pid, found.address, found.restarts), (first.pid, first.address, 0));
        // It dies with the agent away, and somebody unmounts the region, as a restart of the host does.
        agent.stop();
        let pid = Pid::from_raw(first.pid.unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        unmounted(origin.region).await;
        agent.start();
        let next =
            agent.disk_where(0, |disk| disk.downstairs.state == DownstairsState::Running).await.downstairs;
        assert!(next.pid != first.pid && next.address == first.address);
        let of = (origin.region, origin.set, origin.snapshot);
        assert_eq!(Peer::read_snapshot(origin.address, of, 256).unwrap()[0], 2);
        // By hand it is stopped by the same name.
        agent.stop();
        for _ in 0..2 {
            assert!(agent.disk_command("stop", 0).status().unwrap().success(), "{}", agent.log());
        }
        // Where something else is mounted, nobody serves it.
        let root = pool.root();
        let mut wrong = agent.command(&["downstairs", "--datasets", "--listen", "127.0.0.1:0"]);
        wrong.args(["--directory", root.as_str()]);
        assert!(!wrong.args(["--zfs", "tank/other"]).status().unwrap().success());
        assert!(agent.log().contains("tank/other is not mounted at"), "{}", agent.log());
    });
}

#[test]
fn why_it_cannot_be_served_is_told_and_it_is_when_that_is_mended() {
    run("why_it_cannot_be_served_is_told_and_it_is_when_that_is_mended", async |pool, agent| {
        assert!(agent.disk_command("prepare", 0).status().unwrap().success());
        command(&["zfs", "unmount", DATASET]);
        agent.start();
        let waits = async |words: &str| {
            let waits = |disk: &DiskStatus| {
                let says =
                    |reason: &Option<String>| reason.as_ref().is_some_and(|reason| reason.contains(words));
                disk.downstairs.state == DownstairsState::WaitingForDisk
                    && disk.health == DiskHealth::Missing
                    && says(&disk.downstairs.reason)
                    && says(&disk.reason)
            };
            agent.disk_where(0, waits).await;
        };
        waits("tank/bobsled is not mounted: `zfs mount tank/bobsled`").await;
        assert!(!fs::exists(pool.root().join("lock")).unwrap(), "nothing is made where it is to be mounted");
        for nowhere in ["legacy", "none"] {
            command(&["zfs", "set", &format!("mountpoint={nowhere}"), DATASET]);
            waits(&format!("tank/bobsled has the mountpoint \"{nowhere}\"")).await;
        }
        command(&["mount", "-t", "tmpfs", "none", "/usr/sbin"]);
        waits("install ZFS").await;
        command(&["umount", "--lazy", "/usr/sbin"]);
        let elsewhere = pool.work.join("elsewhere");
        command(&["zfs", "set", &format!("mountpoint={elsewhere}"), DATASET]);
        command(&["zfs", "mount", "-a"]);
        let disk = agent.stands(0, DownstairsState::Running).await;
        assert_eq!(disk.dir, Some(elsewhere.to_string()));
    });
}

/// As a suspended pool does: whoever asks it waits. The agent says so after its limit, of what is on that disk alone.
#[test]
fn a_pool_that_does_not_answer_is_told_in_time_and_other_disks_go_on() {
    run("a_pool_that_does_not_answer_is_told_in_time_and_other_disks_go_on", async |pool, agent| {
        agent.add_directory();
        assert!(agent.disk_command("prepare", 1).status().unwrap().success(), "{}", agent.log());
        let before = served(agent).await;
        agent.stands(1, DownstairsState::Running).await;
        let of_pool = small(agent).await.0;
        pool.set_hanging(true);
        // Nobody asks the pool for what is on another disk.
        let (other, request) = wanted_on(agent.disks[1]);
        let made = agent.client.put_region(other, &request).await.unwrap();
        assert_eq!(made.state, RegionState::Created);
        let mut writer = Peer::writer(made.address.unwrap(), other, request.region_set_id.unwrap(), 1);
        writer.write(Position { epoch: 1, counter: 1 }, 0, 1, 7);
        assert_eq!(agent.client.region(other).await.unwrap().reason, None);

        let (new, new_request) = wanted_on(agent.disks[0]);
        let everything = RegionListQuery::default();
        let (disks, regions, region, refused) = tokio::join!(
            agent.client.disks(),
            agent.client.regions(&everything),
            agent.client.region(of_pool),
            agent.client.put_region(new, &new_request),
        );
        let [hangs, goes_on] = &disks.unwrap().disks[..] else { panic!("there are two") };
        let says =
            |reason: &Option<String>| reason.as_ref().is_some_and(|why| why.contains("has not answered"));
        assert!(hangs.health == DiskHealth::Suspended && says(&hangs.reason), "{hangs:?}");
        assert_eq!(hangs.downstairs.state, DownstairsState::WaitingForDisk);
        assert_eq!(
            (goes_on.health, goes_on.downstairs.state),
            (DiskHealth::Healthy, DownstairsState::Running)
        );
        let region = region.unwrap();
        assert!(region.state == RegionState::Created && says(&region.reason), "{region:?}");
        let reasons: Vec<_> =
            regions.unwrap().items.iter().map(|region| (region.id, says(&region.reason))).collect();
        let mut expected = [(of_pool, true), (other, false)];
        expected.sort_unstable();
        assert_eq!(reasons, expected);
        let refused = said(refused);
        assert!(refused.contains("disk_unusable") && refused.contains("has not answered"), "{refused}");

        pool.set_hanging(false);
        let after = agent.disk_where(0, |disk| disk.health == DiskHealth::Healthy).await.downstairs;
        assert_eq!(
            (after.state, after.pid, after.restarts),
            (DownstairsState::Running, before.downstairs.pid, 0)
        );
        assert_eq!(agent.client.region(of_pool).await.unwrap().reason, None);
        agent.client.put_region(new, &new_request).await.unwrap();
    });
}
