//! Repairs of a volume that a Pantry holds, told to a real coordinator: whoever was away or killed, it is one row from its start to its end.

use crate::{LIMIT, cluster};
use camino_tempfile::Utf8TempDir;
use ids::VolumeId;
use nexus_client::repairs::RepairState;
use rustix::process::Signal;
use sled_client::pantry::{Activate, AttachQuery, PantryVolume, PantryVolumeState, RequestResult};
use testbed::{Cluster, DiskName, KillScope, ProcessIdentity, wait_for};
use volume_repair::{ConstructionRequest, Member, RegionSet, SubVolume};

const SIZE: u64 = 4 << 20;

/// Nobody is there.
const NOWHERE: &str = "127.0.0.1:9";

fn set_of(request: &mut ConstructionRequest) -> &mut RegionSet {
    let SubVolume::RegionSet(set) = &mut request.sub_volumes[0] else { panic!("it is a set") };
    set
}

async fn put(cluster: &Cluster, request: &ConstructionRequest) -> RequestResult {
    let query = AttachQuery { executor_epoch: 1, activate: Activate::Now };
    let client = cluster.sled_as_coordinator("sled-a").unwrap();
    // The Pantry that was killed is started again first.
    let asked = async || client.put_pantry_volume(VolumeId(request.id), query, request).await;
    wait_for("the request to be taken", LIMIT, asked).await.unwrap().result
}

/// The volume, once it is as wanted.
async fn shown(
    cluster: &Cluster,
    request: &ConstructionRequest,
    what: &str,
    is_it: impl Fn(&PantryVolume) -> bool,
) -> PantryVolume {
    let client = cluster.sled("sled-a").unwrap();
    wait_for(what, LIMIT, async || match client.pantry_volume(VolumeId(request.id)).await {
        Ok(volume) if is_it(&volume) => Ok(volume),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap()
}

/// How many notices wait, if the coordinator is away.
fn waiting(volume: &PantryVolume) -> Option<u64> {
    let outbox = &volume.status.as_ref()?["notices"]["outbox"];
    outbox["away"].is_string().then(|| outbox["waiting"].as_u64())?
}

#[tokio::test]
async fn a_replacement_is_one_row_though_the_coordinator_was_away_and_the_pantry_killed_and_the_volume_detached()
 {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "told", 1, 4).await;
    let disk = |disk| DiskName { sled: "sled-a".to_owned(), disk: format!("disk-{disk}") };
    let first = cluster.make_volume(SIZE, &(0..3).map(disk).collect::<Vec<_>>()).await.unwrap();
    cluster.attach_volume("sled-a", &first).await.unwrap();
    cluster.kill("nexus-1", KillScope::WholeSled).await.unwrap();

    // A member that is not there yet takes another one's place: that cannot end.
    let mut second = ConstructionRequest { config_version: 2, ..first.clone() };
    let there = cluster.make_member(&second, &disk(3)).await.unwrap();
    let set = set_of(&mut second);
    let leaves =
        std::mem::replace(&mut set.members[2], Member { address: NOWHERE.parse().unwrap(), ..there });
    set.leaving.push(leaves);
    assert_eq!(put(&cluster, &second).await, RequestResult::Started);
    let begun = shown(&cluster, &second, "the start to wait", |volume| waiting(volume) >= Some(1)).await;
    let repair = begun.status.unwrap()["repairs"][0]["id"].clone();

    // Killed in the middle. With the next epoch it is the same repair, and comes to its end.
    let told = cluster.sled("sled-a").unwrap().pantry_volumes().await.unwrap().pantry.unwrap();
    let pantry = ProcessIdentity::of(told.pid.unwrap()).unwrap().unwrap().open().unwrap().unwrap();
    pantry.signal(Signal::KILL).unwrap();
    assert!(pantry.ended_within(LIMIT).await.unwrap());
    shown(&cluster, &second, "its end", |volume| volume.state == PantryVolumeState::Ended).await;
    let mut third = ConstructionRequest { config_version: 3, epoch: 2, ..second.clone() };
    set_of(&mut third).members[2] = there;
    assert_eq!(put(&cluster, &third).await, RequestResult::VcrMatches);
    let is_over = |volume: &PantryVolume| {
        let is_completed = |status: &serde_json::Value| status["repairs"][0]["outcome"] == "completed";
        volume.status.as_ref().is_some_and(is_completed) && waiting(volume) >= Some(2)
    };
    let over = shown(&cluster, &third, "the repair to end", is_over).await.status.unwrap();
    assert_eq!((&over["repairs"][0]["id"], over["repairs"].as_array().map(Vec::len)), (&repair, Some(1)));

    // Nobody holds the volume any more when the coordinator comes back.
    let client = cluster.sled_as_coordinator("sled-a").unwrap();
    client.delete_pantry_volume(VolumeId(first.id), 1).await.unwrap();
    let kept = cluster.directory().pantry_dir("sled-a").join("notices").join(format!("{}.json", first.id));
    assert!(kept.exists(), "it was not told yet");
    cluster.restart("nexus-1").await.unwrap();
    let operator = cluster.operator().unwrap();
    let rows = wait_for("the row", LIMIT, async || match operator.volume_repairs(VolumeId(first.id)).await {
        Ok(rows) if rows.iter().all(|row| row.finished_at.is_some()) && !rows.is_empty() => Ok(rows),
        other => Err(format!("{other:?}")),
    });
    let rows = rows.await.unwrap();
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert_eq!(serde_json::to_value(rows[0].id).unwrap(), repair);
    assert_eq!((rows[0].state, rows[0].bytes_done), (RepairState::Completed, SIZE));
    assert!(rows[0].started_at.is_some());
    let gone = || if kept.exists() { Err(format!("{kept} is there")) } else { Ok(()) };
    wait_for("nothing to be left", LIMIT, async || gone()).await.unwrap();
}
