//! Who holds a sled's volumes: a process that outlives its agent, and never its sled or its cluster.

use crate::{LIMIT, cluster};
use camino_tempfile::Utf8TempDir;
use testbed::{Cluster, ClusterBuilder, DiskName, KillScope, ProcessIdentity, status::NodeState, wait_for};

const SIZE: u64 = 4 << 20;

/// Has the first sled's Pantry hold a volume on its first three disks: somebody has to need it before it is there.
async fn holding(cluster: &Cluster) -> ProcessIdentity {
    let disk = |disk| DiskName { sled: "sled-a".to_owned(), disk: format!("disk-{disk}") };
    let disks: Vec<DiskName> = (0..3).map(disk).collect();
    let request = cluster.make_volume(SIZE, &disks).await.unwrap();
    cluster.attach_volume("sled-a", &request).await.unwrap();
    running(cluster).await
}

/// The first sled's Pantry, as its agent tells.
async fn running(cluster: &Cluster) -> ProcessIdentity {
    let told = cluster.sled("sled-a").unwrap().pantry_volumes().await.unwrap().pantry.unwrap();
    ProcessIdentity::of(told.pid.expect("it runs")).unwrap().expect("it lives")
}

/// The next life of the agent has found it again: it is in no process group of anybody who lives.
async fn adopted(cluster: &Cluster, pantry: &ProcessIdentity) {
    cluster.kill("sled-a", KillScope::AgentOnly).await.unwrap();
    cluster.restart("sled-a").await.unwrap();
    assert_eq!(&running(cluster).await, pantry);
}

/// What the first sled's log has of an end in order: volumes detached, of these not flushed, Pantries ended, and any that was ended the
/// hard way.
fn ends(log: &str) -> [usize; 4] {
    ["volume detached", "not flushed before", "pantry stopped", "stopping at once"]
        .map(|words| log.matches(words).count())
}

#[tokio::test]
async fn whoever_ends_the_cluster_ends_it_also_one_that_was_adopted() {
    let temp = Utf8TempDir::new().unwrap();
    for politely in [true, false] {
        let cluster = ClusterBuilder::new(temp.path()).name("held").sleds(1).disks(3).start().await.unwrap();
        let pantry = holding(&cluster).await;
        adopted(&cluster, &pantry).await;
        let log = cluster.directory().log_file("sled-a");
        if politely {
            cluster.finish().await.unwrap();
        } else {
            drop(cluster);
        }
        assert!(!pantry.lives().unwrap(), "it is left; it was to end politely: {politely}");
        let log = std::fs::read_to_string(log).unwrap();
        assert_eq!(ends(&log), [1, 0, 1, 0]);
        // Its members were there until it had ended.
        let stopped = |who: &str| log.find(&format!("{who} stopped")).expect("it was asked");
        assert!(stopped("pantry") < stopped("downstairs"), "{log}");
    }
}

#[tokio::test]
async fn a_restart_that_asks_ends_it_in_order_and_asks_once() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "asked", 1, 3).await;
    let log = cluster.directory().log_file("sled-a");
    // What serves the disks is in the process group of an agent that was, and the Pantry in its agent's: who is signalled by group and by
    // lock hears it twice. As long as its members are paused its volume is not detached.
    cluster.kill("sled-a", KillScope::AgentOnly).await.unwrap();
    cluster.restart("sled-a").await.unwrap();
    for lives in 1..=2 {
        let pantry = holding(&cluster).await;
        cluster.pause("sled-a").unwrap();
        cluster.restart("sled-a").await.unwrap();
        assert!(!pantry.lives().unwrap());
        assert_eq!(ends(&std::fs::read_to_string(&log).unwrap()), [lives, 0, lives, 0]);
    }
}

/// How the first sled's Pantry stands; none if there is none.
async fn shown(cluster: &Cluster) -> Option<(NodeState, u32)> {
    let status = cluster.status().await.unwrap();
    let sled = status.nodes.into_iter().find(|node| node.name == "sled-a").expect("it is there");
    sled.pantry.map(|pantry| (pantry.state, pantry.pid))
}

/// The kinds of the first sled's processes, and the id of its Pantry.
fn kinds(cluster: &Cluster) -> (Vec<&'static str>, Option<String>) {
    let processes = cluster.environment().unwrap().sleds.remove(0).processes;
    let pantry = processes.iter().find(|process| process.kind == "pantry");
    let id = pantry.and_then(|process| process.id.clone());
    (processes.iter().map(|process| process.kind).collect(), id)
}

async fn stands(cluster: &Cluster, pantry: &ProcessIdentity, state: NodeState) {
    // A stopped process is seen as one a moment after it was signalled.
    wait_for("the Pantry", LIMIT, async || match shown(cluster).await {
        Some(shown) if shown == (state, pantry.pid) => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn it_is_shown_once_it_is_there_paused_with_its_sled_and_dies_with_it() {
    let temp = Utf8TempDir::new().unwrap();
    let cluster = cluster(&temp, "shown", 1, 3).await;
    assert_eq!(shown(&cluster).await, None, "nobody has needed it");
    let disks = ["downstairs"; 3];
    assert_eq!(kinds(&cluster), ([&["agent"], &disks[..]].concat(), None));
    let pantry = holding(&cluster).await;
    let id = cluster.record().unwrap().sled("sled-a").unwrap().sled_id.map(|id| id.to_string());
    assert_eq!(kinds(&cluster), ([&["agent"], &disks[..], &["pantry"]].concat(), id.clone()));
    adopted(&cluster, &pantry).await;
    stands(&cluster, &pantry, NodeState::Running).await;
    cluster.pause("sled-a").unwrap();
    stands(&cluster, &pantry, NodeState::Paused).await;
    cluster.resume("sled-a").unwrap();
    stands(&cluster, &pantry, NodeState::Running).await;
    cluster.kill("sled-a", KillScope::WholeSled).await.unwrap();
    assert_eq!((pantry.lives().unwrap(), shown(&cluster).await), (false, None));
    assert_eq!(kinds(&cluster), (Vec::new(), None));

    // Also if nothing but it is left of the sled.
    cluster.restart("sled-a").await.unwrap();
    let pantry = holding(&cluster).await;
    cluster.kill("sled-a", KillScope::AgentOnly).await.unwrap();
    for process in cluster.environment().unwrap().sleds.remove(0).processes {
        if process.kind == "downstairs" {
            let process = ProcessIdentity::of(process.pid).unwrap().unwrap().open().unwrap().unwrap();
            process.signal(rustix::process::Signal::KILL).unwrap();
            assert!(process.ended_within(LIMIT).await.unwrap());
        }
    }
    assert_eq!(kinds(&cluster), (vec!["pantry"], id));
    cluster.pause("sled-a").unwrap();
    stands(&cluster, &pantry, NodeState::Paused).await;
    cluster.kill("sled-a", KillScope::WholeSled).await.unwrap();
    assert!(!pantry.lives().unwrap());
    assert!(cluster.kill("sled-a", KillScope::WholeSled).await.is_err(), "nothing is left of it");
}
