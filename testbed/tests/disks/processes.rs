//! Who serves a disk: a process that outlives its agent, and never its sled or its cluster.

use crate::{LIMIT, cluster};
use camino_tempfile::Utf8TempDir;
use testbed::{
    Cluster, ClusterBuilder, KillScope, ProcessIdentity,
    env::SledEnvironment,
    status::{DiskServer, NodeState},
    wait_for,
};

fn sled(cluster: &Cluster) -> SledEnvironment {
    cluster.environment().unwrap().sleds.remove(0)
}

/// Those that serve the disks of the first sled.
fn serving(cluster: &Cluster) -> Vec<ProcessIdentity> {
    let downstairs = sled(cluster).processes.into_iter().filter(|process| process.kind == "downstairs");
    downstairs.map(|process| ProcessIdentity::of(process.pid).unwrap().expect("it lives")).collect()
}

fn live(processes: &[ProcessIdentity]) -> usize {
    processes.iter().filter(|process| process.lives().unwrap()).count()
}

/// How the disks of the first sled are served.
async fn servers(cluster: &Cluster) -> Vec<DiskServer> {
    let status = cluster.status().await.unwrap();
    status.nodes.into_iter().find(|node| node.name == "sled-a").expect("it is there").disks
}

async fn stand(cluster: &Cluster, wanted: NodeState) {
    // A stopped process is seen as one a moment after it was signalled.
    wait_for("the disks' processes", LIMIT, async || {
        let servers = servers(cluster).await;
        if servers.iter().all(|server| server.state == wanted) { Ok(()) } else { Err(format!("{servers:?}")) }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn they_outlive_their_agent_are_adopted_by_the_next_one_and_die_with_their_sled() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "serve", 1, 2).await;
    let (before, first) = (sled(&cluster), serving(&cluster));
    let ids: Vec<String> = before.disks.iter().map(|disk| disk.id.to_string()).collect();
    let kinds: Vec<(&str, Option<String>)> =
        before.processes.iter().map(|process| (process.kind, process.id.clone())).collect();
    let agent = ("agent", before.id.map(|id| id.to_string()));
    assert_eq!(kinds, [agent, ("downstairs", Some(ids[0].clone())), ("downstairs", Some(ids[1].clone()))]);
    let names: Vec<&str> = before.disks.iter().map(|disk| disk.name.as_str()).collect();
    assert!(names == ["disk-0", "disk-1"] && before.disks[1].dir.join("datasets.json").is_file());
    let told = cluster.sled("sled-a").unwrap().disks().await.unwrap().disks;
    assert_eq!(told.iter().map(|disk| disk.id.to_string()).collect::<Vec<_>>(), ids);

    // The agent alone, twice: from then on nobody serves a disk as a child of the agent that lives, or in its process group.
    for _ in 0..2 {
        cluster.kill("sled-a", KillScope::AgentOnly).await.unwrap();
        assert_eq!((sled(&cluster).pid, serving(&cluster) == first), (None, true));
        stand(&cluster, NodeState::Running).await;
        cluster.restart("sled-a").await.unwrap();
        assert_eq!(serving(&cluster), first);
    }
    cluster.pause("sled-a").unwrap();
    stand(&cluster, NodeState::Paused).await;
    cluster.resume("sled-a").unwrap();
    stand(&cluster, NodeState::Running).await;

    cluster.kill("sled-a", KillScope::WholeSled).await.unwrap();
    assert_eq!((live(&first), serving(&cluster).len()), (0, 0));
    stand(&cluster, NodeState::Killed).await;
    assert_eq!(servers(&cluster).await.iter().filter_map(|server| server.pid).count(), 0);
    let refusal = cluster.kill("sled-a", KillScope::WholeSled).await.unwrap_err().to_string();
    assert!(refusal.contains("not running") && refusal.contains("killed"), "{refusal}");
    assert!(cluster.pause("sled-a").is_err());

    // Its disks are the same ones in its next life; and without an agent a sled is killed and paused, too.
    cluster.restart("sled-a").await.unwrap();
    let second = serving(&cluster);
    assert_eq!((second.len(), sled(&cluster).disks), (2, before.disks));
    cluster.kill("sled-a", KillScope::AgentOnly).await.unwrap();
    cluster.pause("sled-a").unwrap();
    stand(&cluster, NodeState::Paused).await;
    cluster.kill("sled-a", KillScope::WholeSled).await.unwrap();
    assert_eq!(live(&second), 0);
}

#[tokio::test]
async fn a_restart_that_asks_ends_them_in_order_and_a_dead_one_is_started_again() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "order", 1, 1).await;
    let first = serving(&cluster);
    cluster.restart("sled-a").await.unwrap();
    let second = serving(&cluster);
    assert_eq!((live(&first), live(&second)), (0, 1));
    // One that an earlier life has started is asked, too.
    cluster.kill("sled-a", KillScope::AgentOnly).await.unwrap();
    cluster.restart("sled-a").await.unwrap();
    cluster.restart("sled-a").await.unwrap();
    assert_eq!(live(&second), 0);
    let log = std::fs::read_to_string(cluster.directory().log_file("sled-a")).unwrap();
    assert_eq!((log.matches("downstairs stopped").count(), log.matches("stopping at once").count()), (2, 0));

    let third = serving(&cluster);
    third[0].open().unwrap().unwrap().signal(rustix::process::Signal::KILL).unwrap();
    wait_for("another one", LIMIT, async || match serving(&cluster) {
        now if now.len() == 1 && now != third => Ok(()),
        now => Err(format!("{now:?}")),
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn whoever_ends_the_cluster_ends_them_also_those_that_were_adopted() {
    let temp = Utf8TempDir::new().unwrap();
    let build = || ClusterBuilder::new(temp.path()).name("ends");
    let mut disks = Vec::new();
    for politely in [true, false] {
        let cluster = build().sleds(1).disks(1).start().await.unwrap();
        let found: Vec<_> = sled(&cluster).disks.iter().map(|disk| disk.id).collect();
        assert!(disks.is_empty() || disks == found, "a disk has got another id");
        disks = found;
        cluster.kill("sled-a", KillScope::AgentOnly).await.unwrap();
        cluster.restart("sled-a").await.unwrap();
        let adopted = serving(&cluster);
        if politely {
            cluster.finish().await.unwrap();
        } else {
            drop(cluster);
        }
        assert_eq!((adopted.len(), live(&adopted)), (1, 0));
    }
    // A cluster that goes on has the disks that it had; it may get more, and not fewer.
    let refusal = build().disks(0).start().await.unwrap_err().to_string();
    assert!(refusal.contains("1 data disks") && refusal.contains("reset"), "{refusal}");
    let cluster = build().disks(2).start().await.unwrap();
    assert_eq!((sled(&cluster).disks.len(), sled(&cluster).disks[0].id), (2, disks[0]));
    let added = cluster.add_sled().await.unwrap();
    let environment = cluster.environment().unwrap();
    assert_eq!((environment.sleds[1].name.as_str(), environment.sleds[1].processes.len()), (&*added, 3));
    // What is left without an agent is not forgotten.
    cluster.kill("sled-a", KillScope::AgentOnly).await.unwrap();
    let left = serving(&cluster);
    cluster.reset().await.unwrap();
    assert_eq!((left.len(), live(&left)), (2, 0));
}

#[tokio::test]
async fn a_stranger_who_has_a_disk_is_left_alone_and_named() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "strange", 1, 1).await;
    cluster.kill("sled-a", KillScope::WholeSled).await.unwrap();
    let disk = cluster.directory().disk_dir("sled-a", "disk-0");
    let script = "exec 9<>lock; flock 9; echo $$ >&9; echo mine; read line";
    let mut stranger = tokio::process::Command::new("bash");
    stranger.args(["-c", script]).current_dir(&disk).kill_on_drop(true);
    stranger.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut stranger = stranger.spawn().expect("bash is there");
    let mut said = [0; 5];
    use tokio::io::AsyncReadExt;
    stranger.stdout.as_mut().unwrap().read_exact(&mut said).await.unwrap();
    // The sled comes up without the disk; the end of the cluster says who is in its way, and does nothing to him.
    assert!(serving(&cluster).is_empty());
    let refusal = format!("{:#}", cluster.down().await.unwrap_err());
    assert!(refusal.contains(disk.as_str()) && refusal.contains("left alone"), "{refusal}");
    assert!(refusal.contains(&format!("pid {}", stranger.id().unwrap())), "{refusal}");
    assert!(stranger.try_wait().unwrap().is_none(), "it was signalled");
    stranger.kill().await.unwrap();
    assert!(cluster.down().await.unwrap());
}
