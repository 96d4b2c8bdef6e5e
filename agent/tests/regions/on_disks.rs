//! What is on a disk is told: the datasets of regions, those that nobody knows among them, and what is none of the sled's.

use crate::{agent::Agent, clones::request};
use ids::{RegionId, RegionSetId};
use sled_client::disks::{DownstairsState, RegionDataset};
use std::fs;

#[tokio::test]
async fn the_inventory_has_each_regions_dataset_and_strangers_and_what_the_records_do_not_know() {
    let mut agent = Agent::served(2).await;
    let mut made = Vec::new();
    for disk in [0, 0, 1] {
        let wanted = request(agent.disks[disk], RegionSetId::generate());
        made.push(agent.client.put_region(RegionId::generate(), &wanted).await.unwrap());
    }
    fs::write(agent.disk_dir(0).join("notes"), "mine").unwrap();
    fs::create_dir(agent.disk_dir(0).join("old disk")).unwrap();
    let unknown = made[1].id;
    agent.kill();
    fs::remove_file(agent.temp.path().join(format!("state/regions/{unknown}.json"))).unwrap();
    agent.start();
    for disk in 0..2 {
        agent.stands(disk, DownstairsState::Running).await;
    }
    let inventory = agent.client.inventory().await.unwrap();
    let mut expected: Vec<_> =
        made.iter().map(|region| (region.disk_id, region.id, region.id != unknown, true)).collect();
    expected.sort_by_key(|(disk, region, ..)| (agent.disks.iter().position(|id| id == disk), *region));
    let told = |dataset: &RegionDataset| (dataset.disk_id, dataset.region_id, dataset.known, dataset.mounted);
    assert_eq!(inventory.region_datasets.iter().map(told).collect::<Vec<_>>(), expected);
    for dataset in &inventory.region_datasets {
        let region = made.iter().find(|region| region.id == dataset.region_id).unwrap();
        assert_eq!((dataset.reserved, Some(dataset.quota)), (region.reserved, region.quota));
        assert!(dataset.used > region.size && dataset.used <= dataset.reserved, "{dataset:?}");
    }
    for disks in [inventory.disks, agent.client.disks().await.unwrap().disks] {
        let names: Vec<_> = disks[0].strangers.iter().map(|stranger| stranger.name.as_str()).collect();
        assert_eq!(names, ["notes", "old disk"]);
        assert!(disks[0].strangers[0].reason.contains("no region's id"), "{:?}", disks[0].strangers);
        assert_eq!(disks[1].strangers, []);
    }
    assert_eq!(fs::read_to_string(agent.disk_dir(0).join("notes")).unwrap(), "mine");
    // Its disk is away: nothing is told of what is on it, and why.
    let (there, away) = (agent.disk_dir(1), agent.temp.path().join("away"));
    fs::rename(&there, &away).unwrap();
    let inventory = agent.client.inventory().await.unwrap();
    assert!(inventory.region_datasets.iter().all(|dataset| dataset.disk_id == agent.disks[0]));
    assert!(inventory.disks[1].reason.is_some());
    fs::rename(&away, &there).unwrap();
}
