//! Restarts in peace: a coordinator forgets nothing, a sled knows what it has without hashing it again.

use crate::{
    deliveries::Deliveries,
    proof,
    scene::{COORDINATOR, LARGE, Scene},
};
use ids::ArtifactHash;
use serde_json::json;
use sled_client::artifacts::{ArtifactsList, ListedArtifact};
use std::{collections::BTreeMap, fs};

/// What the coordinator has to remember, as it tells it.
async fn memory(scene: &Scene) -> serde_json::Value {
    let status = scene.system().await;
    let told = "the coordinator answers";
    let sleds = scene.operator().sleds().await.expect(told).into_iter();
    let repositories = scene.operator().repositories().await.expect(told).into_iter();
    let artifacts = scene.operator().artifacts().await.expect(told).into_iter();
    json!({
        "ids": [status.cluster_id.to_string(), status.coordinator.id.to_string()],
        "generation": scene.generation().await,
        "trust_roots": scene.operator().trust_roots().await.expect(told),
        "repositories": repositories.map(|one| json!([one.id, one.sha256, one.created_at])).collect::<Vec<_>>(),
        "artifacts": artifacts.map(|one| json!([one.hash, one.size, one.repositories])).collect::<Vec<_>>(),
        "sleds": sleds.map(|one| json!([one.id, one.name, one.agent_url, one.created_at])).collect::<Vec<_>>(),
    })
}

#[tokio::test]
pub(crate) async fn a_restarted_coordinator_forgets_nothing_and_sends_nothing_again() {
    let scene = Scene::start(2).await;
    let first = scene.release("1.0.0", &[("a", LARGE), ("b", 50_000)]);
    let second = scene.release("2.0.0", &[("a", LARGE), ("c", 60_000)]);
    scene.upload(&first).await;
    scene.upload(&second).await;
    proof::everywhere(&scene, &[&first, &second]).await;
    let (before, sent) = (memory(&scene).await, Deliveries::so_far(&scene));
    scene.restart(COORDINATOR).await;
    assert_eq!(memory(&scene).await, before);
    proof::everywhere(&scene, &[&first, &second]).await;
    scene.kill(COORDINATOR).await;
    scene.restart(COORDINATOR).await;
    assert_eq!(memory(&scene).await, before);
    proof::everywhere(&scene, &[&first, &second]).await;
    assert_eq!(Deliveries::so_far(&scene), sent);
}

/// What is listed. Times of verification are kept to the millisecond.
fn essence(list: &ArtifactsList) -> BTreeMap<ArtifactHash, (u32, u64, i64)> {
    let listed = |one: &ListedArtifact| (one.copies, one.size, one.verified_at.as_millisecond());
    list.list.iter().map(|(hash, one)| (*hash, listed(one))).collect()
}

#[tokio::test]
pub(crate) async fn a_restarted_sled_is_itself_and_lists_everything_at_once_without_hashing() {
    let scene = Scene::start(2).await;
    let release = scene.release("1.0.0", &[("a", LARGE), ("b", 50_000), ("c", 0)]);
    scene.upload(&release).await;
    proof::everywhere(&scene, &[&release]).await;
    let sled = scene.agent("sled-a");
    let (id, before) = (sled.inventory().await.unwrap().sled_id, sled.artifacts().await.unwrap());
    let sent = Deliveries::so_far(&scene);
    for politely in [true, false] {
        if !politely {
            scene.kill("sled-a").await;
        }
        scene.restart("sled-a").await;
        let after = sled.artifacts().await.unwrap();
        assert_eq!(after.generation, before.generation);
        assert_eq!(essence(&after), essence(&before), "the first answer");
        assert_eq!(after.unverified, 0);
        assert_eq!(sled.inventory().await.unwrap().sled_id, id);
    }
    proof::everywhere(&scene, &[&release]).await;
    let log = fs::read_to_string(scene.directory().log_file("sled-a")).unwrap();
    assert!(!log.contains("copy verified"), "a copy was hashed again");
    assert_eq!(Deliveries::so_far(&scene), sent);
}
