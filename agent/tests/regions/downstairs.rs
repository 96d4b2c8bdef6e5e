//! Each disk has one Downstairs, whoever dies.

use crate::agent::{Agent, Owned};
use daemon::state_lock::{self, Holding};
use rustix::process::{Pid, Signal, kill_process};
use sled_client::disks::{DiskHealth, DownstairsState};
use std::process::{Command, Stdio};
use tokio::net::TcpStream;

fn pid(raw: u32) -> Pid {
    Pid::from_raw(raw.try_into().unwrap()).unwrap()
}

#[tokio::test]
async fn it_outlives_the_agent_is_found_again_and_is_started_again_when_it_dies() {
    let mut agent = Agent::served(1).await;
    let first = agent.stands(0, DownstairsState::Running).await.downstairs;
    let served_by = first.pid.unwrap();
    assert_eq!((first.address.port(), first.restarts), (12400, 0));
    for killed in [true, false] {
        if killed {
            agent.kill();
        } else {
            agent.stop();
        }
        TcpStream::connect(first.address).await.expect("it still listens");
        agent.start();
        let found = agent.stands(0, DownstairsState::Running).await.downstairs;
        assert_eq!((found.pid, found.address, found.restarts), (Some(served_by), first.address, 0));
    }
    // One that was found again dies, and then one that was started by this life of the agent.
    let mut dies = served_by;
    for restarts in 1..=2 {
        kill_process(pid(dies), Signal::KILL).unwrap();
        let running = |pid: Option<u32>, state| pid != Some(dies) && state == DownstairsState::Running;
        let next =
            agent.disk_where(0, |disk| running(disk.downstairs.pid, disk.downstairs.state)).await.downstairs;
        assert_eq!((next.address, next.restarts), (first.address, restarts));
        dies = next.pid.unwrap();
    }
    // Asked, it ends; and with nobody there to start another one, that is that.
    agent.stop();
    let stop = ["disk", "stop", agent.disk_dir(0).as_str()].map(str::to_owned);
    let stop: Vec<&str> = stop.iter().map(String::as_str).collect();
    assert!(agent.command(&stop).status().unwrap().success());
    TcpStream::connect(first.address).await.expect_err("nobody listens");
    assert!(agent.command(&stop).status().unwrap().success(), "a second time is no mistake");
}

#[tokio::test]
async fn a_disk_that_is_not_there_is_waited_for_and_one_that_somebody_has_is_left_to_him() {
    let mut agent = Agent::new(2);
    let dirs = [agent.disk_dir(0), agent.disk_dir(1)];
    let prepare = |dir: &str| assert!(agent.command(&["disk", "prepare", dir]).status().unwrap().success());
    prepare(dirs[1].as_str());
    // Somebody who does all that a Downstairs does with the lock.
    let script = "exec 9<>lock; flock 9; echo $$ >&9; read line";
    let holder =
        Command::new("bash").args(["-c", script]).current_dir(&dirs[1]).stdin(Stdio::piped()).spawn();
    let mut holder = Owned(holder.expect("bash is there"));
    let held_by = Holding::Held(Some(holder.0.id()));
    agent
        .eventually(async || match state_lock::look(&dirs[1]) {
            Ok(held) if held == held_by => Ok(()),
            other => Err(other),
        })
        .await;
    agent.start();
    let missing = agent.stands(0, DownstairsState::WaitingForDisk).await;
    assert_eq!((missing.health, missing.space), (DiskHealth::Missing, None));
    assert!(missing.reason.unwrap().contains("prepare it"));
    assert_eq!(std::fs::read_dir(&dirs[0]).unwrap().count(), 0, "nothing is made on what may be no disk");
    let held = agent.stands(1, DownstairsState::HeldElsewhere).await.downstairs;
    assert_eq!(held.pid, Some(holder.0.id()));
    // Whoever asks for its end is refused: it may be anybody.
    assert!(!agent.command(&["disk", "stop", dirs[1].as_str()]).status().unwrap().success());
    assert!(holder.0.try_wait().unwrap().is_none(), "it was left alone");
    assert!(agent.log().contains("not provably its Downstairs"), "{}", agent.log());
    assert!(agent.command(&["disk", "prepare", dirs[0].as_str()]).status().unwrap().success());
    drop(holder);
    for (index, port) in [(0, 12400), (1, 12401)] {
        let disk = agent.stands(index, DownstairsState::Running).await;
        assert_eq!((disk.health, disk.downstairs.address.port()), (DiskHealth::Healthy, port));
        assert!(disk.space.unwrap().capacity > 0 && disk.file_system.is_some() && disk.reason.is_none());
    }
    let page = agent.client.disks().await.unwrap();
    let inventory = agent.client.inventory().await.unwrap();
    let ids = |disks: &[sled_client::disks::DiskStatus]| disks.iter().map(|disk| disk.id).collect::<Vec<_>>();
    assert_eq!((ids(&page.disks), ids(&inventory.disks)), (agent.disks.clone(), agent.disks.clone()));
}

#[tokio::test]
async fn a_port_that_somebody_else_has_is_told_and_tried_again() {
    let mut agent = Agent::served(1).await;
    let address = agent.stands(0, DownstairsState::Running).await.downstairs.address;
    agent.stop();
    assert!(agent.command(&["disk", "stop", agent.disk_dir(0).as_str()]).status().unwrap().success());
    let taken = std::net::TcpListener::bind(address).unwrap();
    agent.start();
    let disk = agent.disk_where(0, |disk| disk.downstairs.restarts >= 2).await;
    assert!(
        disk.health == DiskHealth::Healthy && agent.log().contains(&format!("cannot listen on {address}"))
    );
    drop(taken);
    agent.stands(0, DownstairsState::Running).await;
}
