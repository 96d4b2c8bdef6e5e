//! What a sled has under way with others when it is cut off: a region that it clones from a peer, a volume that its Pantry holds on other sleds'
//! disks. Either end may be the one that is cut off, so both have to come from their sled's own address. Each says what it waits for, and goes on
//! when that is healed. Needs root and nft.

use crate::{LIMIT, cluster, partition::can_cut_off};
use camino_tempfile::Utf8TempDir;
use ids::{RegionId, RegionSetId, SnapshotId, VolumeId};
use problem::Code;
use sled_client::regions::{
    Region, RegionMember, RegionRequest, RegionSource, RegionSourceMember, RegionState,
};
use testbed::{Cluster, DiskName, wait_for};

const SIZE: u64 = 4 << 20;

/// A region of that size on a sled's first disk, all of its set.
async fn wanted_on(cluster: &Cluster, sled: &str, set: RegionSetId) -> RegionRequest {
    let disks = cluster.sled(sled).unwrap().disks().await.unwrap().disks;
    RegionRequest {
        executor_epoch: 1,
        disk_id: disks[0].id,
        volume_id: VolumeId::generate(),
        region_set_id: Some(set),
        block_size: 4096,
        blocks_per_extent: SIZE / 4096,
        extent_count: 1,
        encrypted: false,
        read_only: false,
        source: None,
        incarnation: Some(1),
        members: Vec::new(),
    }
}

/// A region, once it is as wanted.
async fn shown(cluster: &Cluster, region: RegionId, what: &str, is_it: impl Fn(&Region) -> bool) -> Region {
    let client = cluster.sled("sled-b").unwrap();
    wait_for(what, LIMIT, async || match client.region(region).await {
        Ok(region) if is_it(&region) => Ok(region),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_clone_waits_for_a_source_that_is_cut_off_and_if_its_own_sled_is() {
    if !can_cut_off() {
        return;
    }
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "cutclone", 2, 1).await;
    let [source, maker] = ["sled-a", "sled-b"].map(|who| cluster.sled_as_coordinator(who).unwrap());
    let (region, set, snapshot) = (RegionId::generate(), RegionSetId::generate(), SnapshotId::generate());
    let wanted = wanted_on(&cluster, "sled-a", set).await;
    let members = vec![RegionMember { region_id: region, incarnation: 1 }];
    let made = source.put_region(region, &RegionRequest { members, ..wanted }).await.unwrap();
    let address = made.address.unwrap();
    source.put_region_snapshot(region, snapshot, 1).await.unwrap();

    let from = RegionSourceMember { region_id: region, incarnation: 1, address };
    let from = RegionSource { snapshot_id: snapshot, members: vec![from], copy_bytes_per_second: None };
    let wanted = wanted_on(&cluster, "sled-b", set).await;
    let wanted = RegionRequest { read_only: true, source: Some(from), ..wanted };
    for cut in ["sled-a", "sled-b"] {
        cluster.partition(&[cut.to_owned()]).unwrap();
        let clone = RegionId::generate();
        let made = maker.put_region(clone, &wanted).await.unwrap();
        assert_eq!(made.state, RegionState::Cloning, "{cut} is cut off");
        let says = |region: &Region| region.reason.as_ref().is_some_and(|why| why.contains("timed out"));
        let waits = shown(&cluster, clone, "why the clone waits", says).await;
        assert_eq!(waits.state, RegionState::Cloning, "{waits:?}");
        assert!(cluster.heal_partitions().unwrap());
        shown(&cluster, clone, "the clone", |region| region.state == RegionState::Ready).await;
    }
}

#[tokio::test]
async fn a_volume_of_the_pantry_waits_for_members_that_are_cut_off_and_if_its_own_sled_is() {
    if !can_cut_off() {
        return;
    }
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "cutheld", 2, 3).await;
    let disk = |disk| DiskName { sled: "sled-a".to_owned(), disk: format!("disk-{disk}") };
    let request = cluster.make_volume(SIZE, &(0..3).map(disk).collect::<Vec<_>>()).await.unwrap();
    cluster.attach_volume("sled-b", &request).await.unwrap();
    let (id, client) = (VolumeId(request.id), cluster.sled_as_coordinator("sled-b").unwrap());
    let snapshot = async || client.pantry_snapshot(id, SnapshotId::generate(), 1).await;
    for cut in ["sled-a", "sled-b"] {
        assert_eq!(snapshot().await.unwrap().regions.len(), 3, "before {cut} is cut off");
        cluster.partition(&[cut.to_owned()]).unwrap();
        // Its connections are open, and nobody tells it that they lead nowhere.
        let refused = wait_for("the members to be missed", LIMIT, async || match snapshot().await {
            Err(error) if error.is(Code::SnapshotFaulted) => Ok(error.to_string()),
            other => Err(format!("{other:?}")),
        });
        let refused = refused.await.unwrap();
        assert!(refused.contains("not heard of"), "{refused}");
        let reason = client.pantry_volume(id).await.unwrap().reason;
        assert!(reason.is_some(), "it does not say what it waits for");
        assert!(cluster.heal_partitions().unwrap());
        let taken = async || snapshot().await.map_err(|error| error.to_string());
        wait_for("the members to be back", LIMIT, async || match taken().await {
            Ok(taken) if taken.regions.len() == 3 => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await
        .unwrap();
    }
}
