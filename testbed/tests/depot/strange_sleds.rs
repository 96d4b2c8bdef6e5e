//! Sleds that obey somebody else: another cluster, or a coordinator that knew more than this one. They are left as they
//! are, shown with the reason, and hold up nobody.

use crate::{
    proof,
    scene::{COORDINATOR, LARGE, Scene},
};
use ids::{ArtifactHash, ClusterId, Generation};
use nexus_client::{issues::IssueCode, replication::ReplicationSledState};
use sled_client::artifacts::ArtifactsConfig;

/// Makes sled-c follow such a config, as if it had been brought from elsewhere, before the coordinator sees it again.
async fn brought_from_elsewhere(scene: &Scene, cluster_id: ClusterId, generation: u64) -> ArtifactsConfig {
    scene.kill(COORDINATOR).await;
    scene.kill("sled-c").await;
    scene.replace_m2s("sled-c");
    scene.restart("sled-c").await;
    let artifacts = [ArtifactHash([7; 32])].into();
    let config = ArtifactsConfig { cluster_id, generation: Generation(generation), artifacts };
    let sled = scene.sled_as_coordinator("sled-c").expect("the sled is known");
    sled.put_artifacts_config(&config).await.expect("a new sled obeys anybody");
    scene.restart(COORDINATOR).await;
    config
}

/// The sled is shown as refusing, for this reason, keeps its config, and the others get a release without it.
async fn is_isolated(scene: &Scene, config: &ArtifactsConfig, reason: &str) {
    let refuses =
        |column: &nexus_client::replication::ReplicationSled| column.state == ReplicationSledState::Refusing;
    let column = scene.column("sled-c", "sled-c to be shown as refusing", refuses).await;
    assert!(column.reason.as_ref().is_some_and(|said| said.contains(reason)), "{column:?}");
    let release = scene.release("1.0.0", &[("a", LARGE), ("b", 50_000)]);
    scene.upload(&release).await;
    proof::on_sleds(scene, &scene.sleds_but("sled-c"), &[&release]).await;
    let column = scene.column("sled-c", "sled-c to be shown as refusing", refuses).await;
    assert!(column.cells.is_empty(), "{column:?}");
    let in_force = scene.agent("sled-c").artifacts_config().await.expect("the sled answers");
    assert_eq!(&in_force, config);
    let status = scene.system().await;
    assert!(
        status.issues.iter().any(|issue| {
            issue.is(IssueCode::SledRefusing) && issue.subject == "sled-c" && issue.detail.contains(reason)
        }),
        "{status:?}"
    );

    // Emptied by its operator, it is a sled like any other.
    scene.kill("sled-c").await;
    scene.replace_m2s("sled-c");
    scene.restart("sled-c").await;
    proof::everywhere(scene, &[&release]).await;
}

#[tokio::test]
pub(crate) async fn a_sled_of_another_cluster_is_isolated_until_it_is_emptied() {
    let scene = Scene::start(3).await;
    let config = brought_from_elsewhere(&scene, ClusterId::generate(), 3).await;
    is_isolated(&scene, &config, "cluster").await;
}

#[tokio::test]
pub(crate) async fn a_sled_with_a_higher_generation_is_isolated_until_it_is_emptied() {
    let scene = Scene::start(3).await;
    let ours = scene.system().await.cluster_id;
    let config = brought_from_elsewhere(&scene, ours, 1_000).await;
    is_isolated(&scene, &config, "generation").await;
}
