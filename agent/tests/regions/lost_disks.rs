//! Disks that fail or go away by themselves while they are served: what was mounted is not, the medium gives nothing back, a pool has lost its
//! file, its daemon is dead. Each is told with its cause, in time; other disks go on; nothing is made in the place where it was mounted; and when
//! it is back it is served again, with all that it had. Nobody starts the agent anew.

use crate::{
    agent::Agent,
    clones::{self, Origin, region_where, said},
    wire::Peer,
};
use ids::{RegionId, RegionSetId};
use region::Position;
use sled_client::{
    disks::{DiskHealth, DiskStatus, DownstairsState},
    regions::{RegionListQuery, RegionMember, RegionRequest, RegionState},
};
use std::{
    fs,
    time::{Duration, Instant},
};
use test_disks::{DATASET, Kind, POOL, TestDisk, command};

/// Within which each call is answered: the agent gives one step on a disk 15 s, and a call takes a few of them.
const ANSWERED: Duration = Duration::from_secs(40);

/// Makes a test of each claim on each of these kinds of disk.
macro_rules! on {
    ($kind:ident, $module:ident, $($claim:ident),+ $(,)?) => {
        mod $module {
            $(#[test]
            fn $claim() {
                let name = concat!("lost_disks::", stringify!($module), "::", stringify!($claim));
                test_disks::inside::run(name, test_disks::Kind::$kind, async || {
                    let mut scene = super::Scene::start(test_disks::Kind::$kind).await;
                    super::$claim(&mut scene).await;
                });
            })+
        }
    };
}

on!(
    Ext4,
    ext4,
    one_that_is_not_mounted_any_more_is_missing_until_it_is_mounted_again,
    one_whose_medium_fails_is_told_and_served_again_when_it_works_and_is_mounted_anew,
);
on!(
    Xfs,
    xfs,
    one_that_is_not_mounted_any_more_is_missing_until_it_is_mounted_again,
    one_whose_medium_fails_is_told_and_served_again_when_it_works_and_is_mounted_anew,
);
on!(Btrfs, btrfs, one_that_is_not_mounted_any_more_is_missing_until_it_is_mounted_again,);
on!(
    Zfs,
    zfs,
    one_that_is_not_mounted_any_more_is_missing_until_it_is_mounted_again,
    a_pool_that_has_lost_its_file_is_told_and_goes_on_when_it_is_cleared,
    a_pool_whose_daemon_is_dead_is_missing_until_there_is_another_one,
);

/// An agent with two disks: the one that is lost, and one that is not.
struct Scene {
    /// It ends before the disk does.
    agent: Agent,
    disk: TestDisk,
    /// On the one that is lost.
    origin: Origin,
    before: DiskStatus,
}

impl Scene {
    async fn start(kind: Kind) -> Scene {
        let disk = TestDisk::start(kind).await;
        let agent = match kind {
            Kind::Zfs => Agent::with_zfs(DATASET),
            _ => Agent::with_directory(&disk.root()),
        };
        Scene::served(disk, agent).await
    }

    async fn served(disk: TestDisk, mut agent: Agent) -> Scene {
        agent.add_directory();
        for index in 0..2 {
            assert!(agent.disk_command("prepare", index).status().unwrap().success(), "{}", agent.log());
        }
        agent.start();
        agent.stands(1, DownstairsState::Running).await;
        let before = agent.stands(0, DownstairsState::Running).await;
        let origin = Origin::on(&agent).await;
        Scene { disk, agent, origin, before }
    }

    /// A small region on a disk, that is all of its set.
    fn wanted_on(&self, disk: usize) -> (RegionId, RegionRequest) {
        let region = RegionId::generate();
        let members = vec![RegionMember { region_id: region, incarnation: 7 }];
        let request = clones::request(self.agent.disks[disk], RegionSetId::generate());
        (region, RegionRequest { blocks_per_extent: 256, members, ..request })
    }

    /// The disk is told so, and every call about it is answered in time, with why; the other disk does all that it ever did.
    async fn is_lost(&self, health: &[DiskHealth], words: &[&str]) -> DiskStatus {
        let agent = &self.agent;
        let says = |reason: &Option<String>| {
            reason.as_ref().is_some_and(|why| words.iter().any(|words| why.contains(words)))
        };
        let lost = agent.disk_where(0, |disk| health.contains(&disk.health) && says(&disk.reason)).await;

        let (region, request) = self.wanted_on(0);
        let everything = RegionListQuery::default();
        let asked = async {
            tokio::join!(
                in_time("PUT", agent.client.put_region(region, &request)),
                in_time("GET", agent.client.region(self.origin.region)),
                in_time("list", agent.client.regions(&everything)),
                in_time("DELETE", agent.client.delete_region(self.origin.region, 5)),
                in_time("inventory", agent.client.inventory()),
            )
        };
        let (put, told, listed, delete, inventory) = Box::pin(asked).await;
        for refused in [said(put), said(delete)] {
            assert!(refused.contains("disk_unusable"), "{refused}");
            assert!(words.iter().any(|words| refused.contains(words)), "{refused}");
        }
        let told = told.unwrap();
        assert!(told.state == RegionState::Created && says(&told.reason), "{told:?}");
        let listed =
            listed.unwrap().items.into_iter().find(|listed| listed.id == self.origin.region).unwrap();
        assert!(says(&listed.reason), "{listed:?}");
        let inventory = inventory.unwrap();
        assert!(says(&inventory.disks[0].reason), "{:?}", inventory.disks[0]);

        let since = Instant::now();
        let (other, request) = self.wanted_on(1);
        let made = agent.client.put_region(other, &request).await.unwrap();
        let mut writer = Peer::writer(made.address.unwrap(), other, request.region_set_id.unwrap(), 1);
        writer.write(Position { epoch: 1, counter: 1 }, 0, 1, 7);
        drop(writer);
        agent.eventually(async || agent.client.delete_region(other, 5).await).await;
        assert!(since.elapsed() < Duration::from_secs(10), "another disk has waited: {:?}", since.elapsed());
        lost
    }

    /// It is served as before, by another process or the same, and has what it had.
    async fn is_back(&self) {
        let is_back = |disk: &DiskStatus| {
            disk.health == DiskHealth::Healthy && disk.downstairs.state == DownstairsState::Running
        };
        let back = self.agent.disk_where(0, is_back).await;
        assert_eq!((&back.dir, back.downstairs.address), (&self.before.dir, self.before.downstairs.address));
        self.agent
            .eventually(async || match self.agent.client.region(self.origin.region).await {
                Ok(region) if region.reason.is_none() => Ok(region),
                other => Err(other),
            })
            .await;
        self.origin.is_as_it_was(3);
        let (region, request) = self.wanted_on(0);
        self.agent.client.put_region(region, &request).await.unwrap();
        self.agent.eventually(async || self.agent.client.delete_region(region, 5).await).await;
    }

    /// Nobody serves it.
    async fn is_served_by_nobody(&self) {
        let is_nobodys = |disk: &DiskStatus| {
            disk.downstairs.state == DownstairsState::WaitingForDisk && disk.downstairs.pid.is_none()
        };
        self.agent.disk_where(0, is_nobodys).await;
    }
}

async fn in_time<T>(what: &str, call: impl Future<Output = T>) -> T {
    tokio::time::timeout(ANSWERED, call).await.unwrap_or_else(|_| panic!("{what} was not answered"))
}

async fn one_that_is_not_mounted_any_more_is_missing_until_it_is_mounted_again(scene: &mut Scene) {
    let Scene { disk, .. } = scene;
    if disk.kind == Kind::Zfs {
        // Its owner's word: or whoever asks for a region has it mounted.
        for name in [DATASET, POOL] {
            command(&["zfs", "set", "canmount=noauto", name]);
        }
    }
    // Whoever has files open goes on with them, and nobody else finds them.
    command(&["umount", "--recursive", "--lazy", disk.mountpoint().as_str()]);
    scene.is_served_by_nobody().await;
    Box::pin(scene.is_lost(&[DiskHealth::Missing], &["is not there", "is not mounted"])).await;
    let Scene { disk, .. } = scene;
    assert_eq!(fs::read_dir(disk.mountpoint()).unwrap().count(), 0, "something was made where it is mounted");
    if disk.kind == Kind::Zfs {
        // zfs-fuse mounts nothing again that was taken from somebody who had files open (`zfs mount` hangs): so it is another one that does.
        disk.kill_daemon();
        disk.start_daemon().await;
        mount_all();
    } else {
        disk.bring_back();
    }
    scene.is_back().await;
}

/// The pool's and the disk's own dataset.
fn mount_all() {
    for name in [POOL, DATASET] {
        command(&["zfs", "mount", name]);
    }
}

async fn one_whose_medium_fails_is_told_and_served_again_when_it_works_and_is_mounted_anew(
    scene: &mut Scene,
) {
    scene.disk.fail();
    let why = ["Input/output error", "read-only"];
    Box::pin(scene.is_lost(&[DiskHealth::Failed, DiskHealth::ReadOnly], &why)).await;
    scene.disk.mend();
    // A file system that has seen its medium fail is of no use before it is mounted anew.
    scene.disk.take_away();
    scene.is_served_by_nobody().await;
    scene.disk.bring_back();
    scene.is_back().await;
}

async fn a_pool_that_has_lost_its_file_is_told_and_goes_on_when_it_is_cleared(scene: &mut Scene) {
    scene.disk.fail();
    let lost = Box::pin(scene.is_lost(&[DiskHealth::Suspended], &["SUSPENDED"])).await;
    assert_eq!(lost.zfs.unwrap().pool_state.as_deref(), Some("SUSPENDED"));
    assert_eq!(lost.downstairs.state, DownstairsState::WaitingForDisk);
    scene.disk.mend();
    command(&["zpool", "clear", POOL]);
    scene.is_back().await;
}

async fn a_pool_whose_daemon_is_dead_is_missing_until_there_is_another_one(scene: &mut Scene) {
    scene.disk.kill_daemon();
    scene.is_served_by_nobody().await;
    Box::pin(scene.is_lost(&[DiskHealth::Missing], &["zfs-fuse daemon is running"])).await;
    // Its mounts are dead, and in the way of another one's.
    command(&["umount", "--recursive", "--lazy", scene.disk.mountpoint().as_str()]);
    scene.disk.start_daemon().await;
    mount_all();
    scene.is_back().await;
}

/// Where somebody has mounted what hangs, and nobody knows what it is: here a pool, whose daemon does nothing.
#[test]
fn a_directory_that_hangs_keeps_nobody_waiting_who_asks_for_its_clones() {
    let name = "lost_disks::a_directory_that_hangs_keeps_nobody_waiting_who_asks_for_its_clones";
    test_disks::inside::run(name, Kind::Zfs, async || {
        let disk = TestDisk::start(Kind::Zfs).await;
        command(&["zfs", "create", DATASET]);
        let agent = Agent::with_directory(&disk.root());
        let scene = Scene::served(disk, agent).await;
        let (client, origin) = (&scene.agent.client, &scene.origin);
        let clone = RegionId::generate();
        let wanted = origin.clone_on(scene.agent.disks[0], origin.source(origin.address));
        client.put_region(clone, &wanted).await.unwrap();
        region_where(&scene.agent, clone, |region| region.state == RegionState::Ready).await;
        scene.disk.set_hanging(true);
        let (told, _) = tokio::join!(
            in_time("GET of a clone", client.region(clone)),
            scene.is_lost(&[DiskHealth::Suspended], &["has not answered"]),
        );
        assert!(told.unwrap().reason.unwrap().contains("has not answered"));
        scene.disk.set_hanging(false);
        scene.is_back().await;
        assert_eq!(client.region(clone).await.unwrap().state, RegionState::Ready);
    });
}
