//! Clusters of the real programs: what the library promises to those who write tests with it.

use camino_tempfile::Utf8TempDir;
use nexus_client::sleds::SledLiveness;
use rustix::process::Signal;
use sample_release::{Keys, SampleRelease};
use std::time::Duration;
use testbed::{
    Cluster, ClusterBuilder, DatabaseKind, DiskFault, DiskName, KillScope, OwnedCluster, Phase,
    status::NodeState, wait_for,
};

/// Far longer than anything here takes: hanging is the failure.
const LIMIT: Duration = Duration::from_secs(60);

async fn cluster(temp: &Utf8TempDir, name: &str, sleds: usize) -> OwnedCluster {
    ClusterBuilder::new(temp.path()).name(name).sleds(sleds).start().await.expect("the cluster starts")
}

async fn state(cluster: &Cluster, who: &str) -> NodeState {
    let status = cluster.status().await.expect("the record is there");
    status.nodes.into_iter().find(|node| node.name == who).expect("the node is there").state
}

fn pids(cluster: &Cluster) -> Vec<Option<u32>> {
    cluster.environment().expect("the record is there").sleds.iter().map(|sled| sled.pid).collect()
}

#[tokio::test]
async fn a_killed_sled_stays_dead_and_comes_back_as_itself() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "kill", 2).await;
    cluster.wait_in_service().await.unwrap();
    let before = cluster.environment().unwrap();
    cluster.kill("sled-b", KillScope::WholeSled).await.unwrap();
    assert_eq!(state(&cluster, "sled-b").await, NodeState::Killed);
    assert_eq!(cluster.environment().unwrap().sleds[1].pid, None);
    assert_eq!(cluster.environment().unwrap().sleds[0].pid, before.sleds[0].pid);
    let refusal = cluster.kill("sled-b", KillScope::WholeSled).await.unwrap_err().to_string();
    assert!(refusal.contains("not running") && refusal.contains("killed"), "{refusal}");
    cluster.restart("sled-b").await.unwrap();
    let after = cluster.environment().unwrap();
    assert_eq!(
        (after.sleds[1].id, &after.sleds[1].agent_url),
        (before.sleds[1].id, &before.sleds[1].agent_url)
    );
    assert_ne!(after.sleds[1].pid, before.sleds[1].pid);
    assert_eq!(
        cluster.sled("sled-b").unwrap().inventory().await.unwrap().sled_id,
        before.sleds[1].id.unwrap()
    );
    let refusal = cluster.start("sled-b").await.unwrap_err().to_string();
    assert!(refusal.contains("running already"), "{refusal}");
}

#[tokio::test]
async fn a_cluster_with_a_postgres_of_its_own_goes_on_with_it_and_ends_it() {
    if test_postgres::Programs::find().is_none() {
        assert!(!test_postgres::is_required(), "CI has PostgreSQL");
        return;
    }
    let temp = Utf8TempDir::new().unwrap();
    let build = || ClusterBuilder::new(temp.path()).name("postgres");
    let owned = build().sleds(1).database(DatabaseKind::Postgres).start().await.unwrap();
    owned.wait_in_service().await.unwrap();
    let cluster_id = owned.operator().unwrap().status().await.unwrap().cluster_id;
    let pid_file = owned.directory().postgres().join("data/postmaster.pid");
    assert!(pid_file.exists());
    assert!(!owned.directory().state_dir("nexus-1").join("nexus.db").exists());
    owned.finish().await.unwrap();
    assert!(!pid_file.exists(), "PostgreSQL outlives its cluster");

    let refusal = build().database(DatabaseKind::Sqlite).start().await.unwrap_err().to_string();
    assert!(refusal.contains("reset"), "{refusal}");
    let owned = build().start().await.unwrap();
    assert_eq!(owned.operator().unwrap().status().await.unwrap().cluster_id, cluster_id);
    drop(owned);
    assert!(!pid_file.exists(), "PostgreSQL outlives its cluster");
}

#[tokio::test]
async fn a_process_that_dies_by_itself_is_told_apart_from_a_killed_one() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "died", 1).await;
    let process = cluster.record().unwrap().node("sled-a").unwrap().process.clone().unwrap();
    let process = process.open().unwrap().unwrap();
    process.signal(Signal::KILL).unwrap();
    assert!(process.ended_within(LIMIT).await.unwrap());
    assert_eq!(state(&cluster, "sled-a").await, NodeState::Died);
}

#[tokio::test]
async fn a_paused_sled_answers_nothing_until_it_is_resumed() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "pause", 1).await;
    cluster.pause("sled-a").unwrap();
    let paused = async || match state(&cluster, "sled-a").await {
        NodeState::Paused => Ok(()),
        other => Err(other.word()),
    };
    wait_for("sled-a to be paused", LIMIT, paused).await.unwrap();
    let sled = cluster.sled("sled-a").unwrap();
    let silence = tokio::time::timeout(Duration::from_millis(300), sled.inventory()).await;
    assert!(silence.is_err(), "a stopped process answered");
    cluster.resume("sled-a").unwrap();
    sled.inventory().await.unwrap();
}

#[tokio::test]
async fn a_paused_process_can_be_restarted_politely() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "pause-restart", 1).await;
    cluster.pause("sled-a").unwrap();
    cluster.restart("sled-a").await.unwrap();
    cluster.sled("sled-a").unwrap().inventory().await.unwrap();
}

#[tokio::test]
async fn a_coordinator_that_was_killed_comes_back_with_its_sleds() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "coordinator", 2).await;
    cluster.wait_in_service().await.unwrap();
    let before = cluster.operator().unwrap().status().await.unwrap();
    cluster.kill("nexus-1", KillScope::WholeSled).await.unwrap();
    assert_eq!(state(&cluster, "nexus-1").await, NodeState::Killed);
    cluster.restart("nexus-1").await.unwrap();
    cluster.wait_in_service().await.unwrap();
    let after = cluster.operator().unwrap().status().await.unwrap();
    assert_eq!(after.cluster_id, before.cluster_id);
    assert_eq!(after.coordinator.id, before.coordinator.id);
    assert!(after.coordinator.epoch > before.coordinator.epoch);
}

#[tokio::test]
async fn two_clusters_run_side_by_side_under_one_directory() {
    let temp = Utf8TempDir::new().unwrap();
    let (one, two) = tokio::join!(cluster(&temp, "one", 1), cluster(&temp, "two", 1));
    assert_ne!(one.record().unwrap().number, two.record().unwrap().number);
    for cluster in [&one, &two] {
        cluster.wait_in_service().await.unwrap();
        assert_eq!(cluster.operator().unwrap().sleds().await.unwrap().len(), 1);
    }
    drop(one);
    assert!(two.operator().unwrap().status().await.is_ok(), "ending one cluster ended the other");
}

#[tokio::test]
async fn a_name_that_runs_is_refused_and_left_alone() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "twice", 1).await;
    let before = pids(&cluster);
    let again = ClusterBuilder::new(temp.path()).name("twice").sleds(1);
    assert!(again.planned_sleds().is_err());
    let refusal = again.start().await.unwrap_err().to_string();
    assert!(
        refusal.contains("running already") && refusal.contains("testbed down --name twice"),
        "{refusal}"
    );
    assert_eq!(pids(&cluster), before);
    cluster.operator().unwrap().status().await.unwrap();
}

#[tokio::test]
async fn down_keeps_the_directories_and_up_goes_on_with_them() {
    let temp = Utf8TempDir::new().unwrap();
    let first = cluster(&temp, "again", 2).await.detach().unwrap();
    first.wait_in_service().await.unwrap();
    let before = first.environment().unwrap();
    let cluster_id = first.operator().unwrap().status().await.unwrap().cluster_id;
    assert!(first.down().await.unwrap());
    assert!(!first.down().await.unwrap(), "it was down already");
    assert_eq!(first.record().unwrap().phase, Phase::Stopped);
    assert!(pids(&first).iter().all(Option::is_none));
    let refusal = first.start("sled-a").await.unwrap_err().to_string();
    assert!(refusal.contains("testbed up"), "{refusal}");
    let second = ClusterBuilder::new(temp.path()).name("again").start().await.unwrap();
    second.wait_in_service().await.unwrap();
    let after = second.environment().unwrap();
    assert_eq!(second.operator().unwrap().status().await.unwrap().cluster_id, cluster_id);
    assert_eq!(after.token, before.token);
    let ids = |environment: &testbed::env::Environment| {
        environment.sleds.iter().map(|sled| (sled.name.clone(), sled.id)).collect::<Vec<_>>()
    };
    assert_eq!(ids(&after), ids(&before));
    second.reset().await.unwrap();
    assert!(!after.state_dir.exists());
}

#[tokio::test]
async fn a_sled_that_is_added_later_joins() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "add", 1).await;
    assert_eq!(cluster.add_sled().await.unwrap(), "sled-b");
    cluster.wait_in_service().await.unwrap();
    assert_eq!(cluster.operator().unwrap().sleds().await.unwrap().len(), 2);
    assert!(cluster.environment().unwrap().sleds[1].id.is_some());
}

#[tokio::test]
async fn dropping_the_handle_ends_every_process() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "drop", 2).await;
    let record = cluster.record().unwrap();
    drop(cluster);
    for node in &record.nodes {
        assert!(!node.process.as_ref().unwrap().lives().unwrap(), "{} lives on", node.name);
    }
}

#[tokio::test]
async fn a_program_that_refuses_its_config_is_quoted_and_nothing_is_left_running() {
    let temp = Utf8TempDir::new().unwrap();
    let odd = toml::from_str("no_such_key = true").unwrap();
    let builder = ClusterBuilder::new(temp.path()).name("refused").sleds(1).agent_config(odd);
    let refusal = format!("{:#}", builder.start().await.unwrap_err());
    assert!(refusal.contains("sled-a ended instead of serving"), "{refusal}");
    assert!(refusal.contains("no_such_key"), "its log is not quoted: {refusal}");
    let left = Cluster::open(temp.path(), "refused").unwrap().record().unwrap();
    assert_eq!(left.phase, Phase::Stopped);
    assert!(!left.anything_lives().unwrap());
}

#[tokio::test]
async fn unknown_names_are_refused_with_the_known_ones() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "names", 1).await;
    let refusal = cluster.kill("sled-z", KillScope::WholeSled).await.unwrap_err().to_string();
    assert!(refusal.contains("nexus-1, sled-a"), "{refusal}");
    let disk = DiskName::parse("nexus-1/m2-0").unwrap();
    let refusal = cluster.disk_fault(&disk, DiskFault::Fail).await.unwrap_err().to_string();
    assert!(refusal.contains("is a coordinator"), "{refusal}");
}

#[tokio::test]
async fn a_release_reaches_every_sled_and_the_sleds_say_so_themselves() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "release", 2).await;
    cluster.wait_in_service().await.unwrap();
    assert_eq!(cluster.newest_release().await.unwrap(), None);
    let made = SampleRelease::small("1.0.0")
        .make(&Keys::generate().unwrap(), &temp.path().join("release.zip"))
        .unwrap();
    assert_eq!(testbed::root_in_zip(&made.path).unwrap(), made.root_json);
    let mut told = 0;
    cluster.upload_release(&made.path, made.root_json, &mut |_| told += 1).await.unwrap();
    let copies = cluster.wait_replicated(&mut |_| told += 1).await.unwrap();
    assert_eq!(copies.to_string(), "3 of 3 artifacts are on 2 of 2 sleds with 2 verified copies each");
    assert!(told > 0);
    assert!(cluster.newest_release().await.unwrap().is_some());
}

#[tokio::test]
async fn a_disk_fault_reaches_the_sled_and_heals() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "disk", 1).await;
    let disk = DiskName::parse("sled-a/m2-0").unwrap();
    cluster.disk_fault(&disk, DiskFault::Slow { ms: 1 }).await.unwrap();
    cluster.disk_fault(&disk, DiskFault::Heal).await.unwrap();
    cluster.kill("sled-a", KillScope::AgentOnly).await.unwrap();
    let refusal = cluster.disk_fault(&disk, DiskFault::Fail).await.unwrap_err().to_string();
    assert!(refusal.contains("not running"), "{refusal}");
}

#[tokio::test]
async fn an_offline_sled_is_shown_as_such_by_the_coordinator() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "offline", 1).await;
    cluster.wait_in_service().await.unwrap();
    cluster.kill("sled-a", KillScope::WholeSled).await.unwrap();
    let operator = cluster.operator().unwrap();
    wait_for("sled-a to be offline", LIMIT, async || {
        let liveness = operator.sleds().await.map_err(|error| error.to_string())?.remove(0).liveness;
        if liveness == SledLiveness::Offline { Ok(()) } else { Err(format!("{liveness:?}")) }
    })
    .await
    .unwrap();
}
