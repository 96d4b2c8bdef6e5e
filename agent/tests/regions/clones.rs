//! Read-only regions and snapshots by API: made from a member that has the snapshot, and ready when that is proven; whoever is killed meanwhile.

use crate::{
    agent::{Agent, Stopped},
    wire::{BLOCK, Peer},
};
use futures::future::join_all;
use ids::{DiskId, RegionId, RegionSetId, SnapshotId, VolumeId};
use region::Position;
use region_wire::{Refusal, Reply};
use rustix::process::{Pid, Signal, kill_process};
use sled_client::{
    disks::DownstairsState,
    regions::{
        Region, RegionClonePhase, RegionListQuery, RegionMember, RegionRequest, RegionSource,
        RegionSourceMember, RegionState,
    },
};
use std::{
    fmt::Debug,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Blocks of each region: 32 MiB.
const BLOCKS: u64 = 8_192;

pub(crate) fn request(disk: DiskId, set: RegionSetId) -> RegionRequest {
    RegionRequest {
        executor_epoch: 5,
        disk_id: disk,
        volume_id: VolumeId::generate(),
        region_set_id: Some(set),
        block_size: u32::try_from(BLOCK).unwrap(),
        blocks_per_extent: BLOCKS / 4,
        extent_count: 4,
        encrypted: false,
        read_only: false,
        source: None,
        incarnation: None,
        members: Vec::new(),
    }
}

/// A region that was written, has a snapshot, and was written again; a quarter of it never.
pub(crate) struct Origin {
    pub(crate) region: RegionId,
    incarnation: u64,
    pub(crate) set: RegionSetId,
    pub(crate) snapshot: SnapshotId,
    pub(crate) address: SocketAddr,
}

impl Origin {
    pub(crate) async fn on(agent: &Agent) -> Origin {
        let (region, set, snapshot) = (RegionId::generate(), RegionSetId::generate(), SnapshotId::generate());
        let members = vec![RegionMember { region_id: region, incarnation: 3 }];
        let made =
            agent.client.put_region(region, &RegionRequest { members, ..request(agent.disks[0], set) }).await;
        let made = made.unwrap();
        assert_eq!((made.state, made.snapshots, made.clone), (RegionState::Created, Vec::new(), None));
        let origin = Origin { region, incarnation: 3, set, snapshot, address: made.address.unwrap() };
        let mut writer = Peer::writer(origin.address, region, set, 1);
        for counter in 1..=24 {
            writer.write(
                Position { epoch: 1, counter },
                (counter - 1) * 256,
                256,
                u8::try_from(counter).unwrap(),
            );
        }
        // It is its writer who takes snapshots.
        let refusal = said(agent.client.put_region_snapshot(region, snapshot, 5).await);
        assert!(
            refusal.contains("region_snapshot_refused") && refusal.contains("somebody writes"),
            "{refusal}"
        );
        drop(writer);
        agent.eventually(async || agent.client.put_region_snapshot(region, snapshot, 5).await).await;
        Peer::writer(origin.address, region, set, 2).write(Position { epoch: 2, counter: 1 }, 0, 256, 99);
        origin
    }

    /// What was written before is there, and more can be, by the writer of this epoch.
    pub(crate) fn is_as_it_was(&self, epoch: u32) {
        let of = (self.region, self.set, self.snapshot);
        for block in [256, 24 * 256 - 1] {
            let counter = u8::try_from(block / 256 + 1).unwrap();
            assert_eq!(Peer::read_snapshot(self.address, of, block).unwrap()[0], counter);
        }
        let mut writer = Peer::writer(self.address, self.region, self.set, epoch);
        writer.write(Position { epoch, counter: 1 }, 0, 1, 7);
    }

    pub(crate) fn source(&self, address: SocketAddr) -> RegionSource {
        let member = RegionSourceMember { region_id: self.region, incarnation: self.incarnation, address };
        RegionSource { snapshot_id: self.snapshot, members: vec![member], copy_bytes_per_second: None }
    }

    pub(crate) fn clone_on(&self, disk: DiskId, source: RegionSource) -> RegionRequest {
        RegionRequest { read_only: true, source: Some(source), ..request(disk, self.set) }
    }
}

pub(crate) fn said<T: Debug, E: Debug>(result: Result<T, E>) -> String {
    format!("{:?}", result.unwrap_err())
}

pub(crate) async fn region_where(agent: &Agent, region: RegionId, is_so: impl Fn(&Region) -> bool) -> Region {
    agent
        .eventually(async || match agent.client.region(region).await {
            Ok(region) if is_so(&region) => Ok(region),
            other => Err(other),
        })
        .await
}

/// SIGKILL to the Downstairs of a disk.
async fn kill_downstairs(agent: &Agent, index: usize) {
    let pid = agent.stands(index, DownstairsState::Running).await.downstairs.pid.unwrap();
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_read_only_region_is_ready_when_it_is_proven_whoever_was_killed_meanwhile() {
    let mut agent = Agent::served(2).await;
    let origin = Origin::on(&agent).await;
    let clone = RegionId::generate();
    // Its source is where nobody listens, so it is not done before all have been killed.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let wanted = origin.clone_on(agent.disks[1], origin.source(nowhere));
    let made = agent.client.put_region(clone, &wanted).await.unwrap();
    assert_eq!((made.state, &made.snapshots[..]), (RegionState::Cloning, &[][..]));
    let address = made.address.unwrap();
    let waits = |region: &Region| region.reason.as_ref().is_some_and(|why| why.contains("cannot be reached"));
    let waiting = region_where(&agent, clone, waits).await;
    assert_eq!(waiting.clone.unwrap().phase, RegionClonePhase::Waiting);
    let early = Peer::read_snapshot(address, (clone, origin.set, origin.snapshot), 0);
    assert!(matches!(early, Err(Reply::Refused(Refusal::NoSnapshot(_)))), "{early:?}");
    kill_downstairs(&agent, 1).await;
    agent.kill();
    agent.start();
    // Both have forgotten what was under way; the record has not.
    region_where(&agent, clone, waits).await;

    // Another snapshot would be another region; the same one from somebody who is there is not.
    let mut other = wanted.clone();
    other.source = Some(RegionSource { snapshot_id: SnapshotId::generate(), ..origin.source(nowhere) });
    assert!(said(agent.client.put_region(clone, &other).await).contains("region_conflict"));
    let wanted = RegionRequest { source: Some(origin.source(origin.address)), ..wanted };
    agent.client.put_region(clone, &wanted).await.unwrap();
    let ready = region_where(&agent, clone, |region| region.state == RegionState::Ready).await;
    let proven = ready.clone.unwrap();
    assert_eq!((ready.reason, &ready.snapshots[..]), (None, &[origin.snapshot][..]));
    assert_eq!(
        (proven.phase, proven.done, proven.snapshot_id),
        (RegionClonePhase::Proven, ready.size, origin.snapshot)
    );
    let of_clone = (clone, origin.set, origin.snapshot);
    for (block, fill) in [(0, Some(1)), (24 * 256 - 1, Some(24)), (24 * 256, None)] {
        let read = Peer::read_snapshot(address, of_clone, block).unwrap();
        assert_eq!(read.first().copied(), fill, "block {block}");
    }
    // Nobody writes it, takes its snapshot away, or another one of it.
    let delete = agent.client.delete_region_snapshot(clone, origin.snapshot, 5).await;
    let take = agent.client.put_region_snapshot(clone, SnapshotId::generate(), 5).await;
    for refusal in [said(delete), said(take)] {
        assert!(refusal.contains("region_snapshot_refused"), "{refusal}");
    }
    // While its Downstairs is away it is what it is.
    kill_downstairs(&agent, 1).await;
    let away = agent.client.region(clone).await.unwrap();
    assert_eq!((away.state, away.clone.unwrap().hash), (RegionState::Ready, proven.hash.clone()));
    agent.stands(1, DownstairsState::Running).await;

    // A clone is a source as good as any: the third one has the same content.
    let third = RegionId::generate();
    let member = RegionSourceMember { region_id: clone, incarnation: ready.incarnation, address };
    let source = RegionSource { members: vec![member], ..origin.source(address) };
    agent.client.put_region(third, &origin.clone_on(agent.disks[0], source)).await.unwrap();
    let third = region_where(&agent, third, |region| region.state == RegionState::Ready).await;
    assert_eq!(third.clone.unwrap().hash, proven.hash);
    let page = agent.client.regions(&RegionListQuery::default()).await.unwrap();
    assert_eq!(page.items.iter().filter(|region| region.state == RegionState::Ready).count(), 2);
}

#[tokio::test]
async fn a_clone_is_copied_no_faster_than_was_said_and_faster_from_when_that_is_said() {
    const RATE: u64 = 1 << 20;
    let agent = Agent::served(2).await;
    let origin = Origin::on(&agent).await;
    let clone = RegionId::generate();
    let source = |rate| RegionSource { copy_bytes_per_second: rate, ..origin.source(origin.address) };
    let refused = origin.clone_on(agent.disks[1], source(Some(RATE - 1)));
    let refused = said(agent.client.put_region(clone, &refused).await);
    assert!(refused.contains("bad_region") && refused.contains("copy_bytes_per_second"), "{refused}");
    let begun = Instant::now();
    let wanted = origin.clone_on(agent.disks[1], source(Some(RATE)));
    agent.client.put_region(clone, &wanted).await.unwrap();
    let has_copied = |region: &Region| region.clone.as_ref().is_some_and(|clone| clone.copied >= 4 * RATE);
    let copying = region_where(&agent, clone, has_copied).await;
    assert!(begun.elapsed() >= Duration::from_secs(3), "{:?}", begun.elapsed());
    assert_eq!(copying.clone.unwrap().copy_bytes_per_second, Some(RATE));
    // The rest of it, and to read it back, would take 50 s.
    let faster = origin.clone_on(agent.disks[1], source(None));
    let faster = RegionRequest { volume_id: wanted.volume_id, ..faster };
    let said_anew = Instant::now();
    agent.client.put_region(clone, &faster).await.unwrap();
    let ready = region_where(&agent, clone, |region| region.state == RegionState::Ready).await;
    assert!(said_anew.elapsed() < Duration::from_secs(30), "{:?}", said_anew.elapsed());
    assert_eq!(ready.clone.unwrap().copy_bytes_per_second, None);
}

#[tokio::test]
async fn a_region_that_is_being_cloned_is_destroyed_and_one_that_cannot_be_is_told_why() {
    let agent = Agent::served(1).await;
    let origin = Origin::on(&agent).await;
    // As it is copied, and as it waits for a source.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for address in [origin.address, nowhere] {
        let clone = RegionId::generate();
        let wanted = origin.clone_on(agent.disks[0], origin.source(address));
        agent.client.put_region(clone, &wanted).await.unwrap();
        region_where(&agent, clone, |region| region.clone.is_some()).await;
        agent.eventually(async || agent.client.delete_region(clone, 5).await).await;
        let gone = agent.client.region(clone).await.unwrap();
        assert_eq!((gone.state, gone.snapshots, gone.clone), (RegionState::Destroyed, Vec::new(), None));
        assert!(said(agent.client.put_region(clone, &wanted).await).contains("region_destroyed"));
    }
    for (change, words) in [
        ((|wanted| wanted.extent_count = 3) as fn(&mut RegionRequest), "its blocks are"),
        (|wanted| wanted.region_set_id = Some(RegionSetId::generate()), "is a member of set"),
        (|wanted| wanted.source.as_mut().unwrap().snapshot_id = SnapshotId::generate(), "has no snapshot"),
        (
            |wanted| wanted.source.as_mut().unwrap().members[0].incarnation = 4,
            "its incarnation is 3, and should be 4",
        ),
    ] {
        let mut wanted = origin.clone_on(agent.disks[0], origin.source(origin.address));
        change(&mut wanted);
        let clone = RegionId::generate();
        agent.client.put_region(clone, &wanted).await.unwrap();
        let failed = region_where(&agent, clone, |region| region.state == RegionState::Failed).await;
        assert!(failed.reason.as_ref().is_some_and(|why| why.contains(words)), "{words}: {failed:?}");
        agent.eventually(async || agent.client.delete_region(clone, 5).await).await;
    }
}

#[tokio::test]
async fn snapshots_are_taken_and_deleted_by_who_has_the_newest_right_and_as_often_as_it_is_asked() {
    let agent = Agent::served(1).await;
    let origin = Origin::on(&agent).await;
    let (client, region, second) = (&agent.client, origin.region, SnapshotId::generate());
    agent.eventually(async || client.put_region_snapshot(region, second, 6).await).await;
    client.put_region_snapshot(region, second, 6).await.unwrap();
    let mut both = vec![origin.snapshot, second];
    both.sort_unstable();
    assert_eq!(client.region(region).await.unwrap().snapshots, both);
    for late in [
        said(client.put_region_snapshot(region, SnapshotId::generate(), 5).await),
        said(client.delete_region_snapshot(region, second, 5).await),
    ] {
        assert!(late.contains("stale_epoch"), "{late}");
    }
    // It is there, and stays what it is, whatever was written since.
    client.put_region_snapshot(region, origin.snapshot, 6).await.unwrap();
    let read = |snapshot| {
        let read = Peer::read_snapshot(origin.address, (region, origin.set, snapshot), 0);
        read.map(|bytes| bytes.first().copied())
    };
    assert_eq!((read(origin.snapshot), read(second)), (Ok(Some(1)), Ok(Some(99))));
    for _ in 0..2 {
        client.delete_region_snapshot(region, origin.snapshot, 6).await.unwrap();
        assert_eq!(client.region(region).await.unwrap().snapshots, [second]);
    }
    assert!(matches!(read(origin.snapshot), Err(Reply::Refused(Refusal::NoSnapshot(_)))));
    assert_eq!(read(second), Ok(Some(99)));
    let nobody = said(client.put_region_snapshot(RegionId::generate(), second, 6).await);
    assert!(nobody.contains("region_not_found"), "{nobody}");
    let refused = said(client.delete_region(region, 6).await);
    assert!(refused.contains("region_has_snapshots") && refused.contains(&second.to_string()), "{refused}");
    assert_eq!(client.region(region).await.unwrap().state, RegionState::Created);
    assert_eq!(read(second), Ok(Some(99)));
    client.delete_region_snapshot(region, second, 6).await.unwrap();
    agent.eventually(async || client.delete_region(region, 6).await).await;
    // With its region it is gone.
    client.delete_region_snapshot(region, second, 6).await.unwrap();
    let gone = said(client.put_region_snapshot(region, second, 6).await);
    assert!(gone.contains("region_snapshot_refused"), "{gone}");
}

#[tokio::test]
async fn a_snapshot_that_was_deleted_is_taken_again_by_no_call_that_was_on_its_way() {
    let mut agent = Agent::served(1).await;
    let origin = Origin::on(&agent).await;
    let (region, never) = (origin.region, SnapshotId::generate());
    for snapshot in [origin.snapshot, never] {
        agent.client.delete_region_snapshot(region, snapshot, 5).await.unwrap();
    }
    for restarts in [true, false] {
        for late in [origin.snapshot, never] {
            let refused = said(agent.client.put_region_snapshot(region, late, 5).await);
            assert!(refused.contains("snapshot_deleted"), "{refused}");
        }
        if restarts {
            agent.kill();
            agent.start();
            agent.stands(0, DownstairsState::Running).await;
        }
    }
    assert_eq!(agent.client.region(region).await.unwrap().snapshots, []);
    let other = SnapshotId::generate();
    agent.eventually(async || agent.client.put_region_snapshot(region, other, 5).await).await;
    assert_eq!(agent.client.region(region).await.unwrap().snapshots, [other]);
}

#[tokio::test]
async fn a_downstairs_that_does_nothing_keeps_nobody_from_what_the_files_of_other_regions_say() {
    let agent = Agent::served(1).await;
    let origin = Origin::on(&agent).await;
    let clone = RegionId::generate();
    let wanted = origin.clone_on(agent.disks[0], origin.source(origin.address));
    agent.client.put_region(clone, &wanted).await.unwrap();
    region_where(&agent, clone, |region| region.state == RegionState::Ready).await;
    let stopped = Stopped::disks_of(&agent, 1).await;
    // Its Downstairs is asked for a clone, by more than may ask at once.
    let asked = join_all((0..48).map(|_| agent.client.region(clone)));
    let look = async {
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(3) {
            let asked = Instant::now();
            let told = agent.client.region(origin.region).await.unwrap();
            assert_eq!((&told.snapshots[..], told.reason), (&[origin.snapshot][..], None));
            assert!(asked.elapsed() < Duration::from_secs(8), "it has waited for {:?}", asked.elapsed());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        drop(stopped);
    };
    tokio::join!(asked, look);
    assert_eq!(agent.client.region(clone).await.unwrap().state, RegionState::Ready);
}
