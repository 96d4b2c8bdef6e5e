//! A volume on regions that three calls have made, each on a disk of its own: it is whole from the start, also after all has been killed.

use crate::{
    agent::{Agent, Owned},
    set::{self, Made},
};
use rustix::process::{Pid, Signal, kill_process};
use sled_client::disks::DownstairsState;
use std::fs;

#[tokio::test]
async fn regions_of_one_set_are_a_volume_that_is_whole_whoever_was_killed_meanwhile() {
    let agent = Agent::served(3).await;
    let Made { request, members } = set::make(&agent, 4096, 256).await;
    fs::write(agent.temp.path().join("volume.json"), serde_json::to_vec(&request).unwrap()).unwrap();
    let listen = format!("unix:{}/nbd", agent.temp.path());
    let export = ["volume", "export", "--volume", "volume.json", "--epoch", "1", "--listen", &listen];
    let mut export = Owned(agent.command(&export).spawn().unwrap());
    let is_whole = || {
        let wait = ["volume", "wait", "volume.json", "--for", "whole"];
        assert!(agent.command(&wait).status().unwrap().success(), "{}", agent.log());
    };
    agent
        .eventually(async || {
            let look = agent.command(&["volume", "look", "volume.json"]).status().unwrap();
            if look.success() { Ok(()) } else { Err(look) }
        })
        .await;
    is_whole();
    // One at a time, each comes back as the same member, at the same address.
    for index in 0..3 {
        let before = agent.stands(index, DownstairsState::Running).await.downstairs;
        let pid = Pid::from_raw(before.pid.unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        let is_next = |pid: Option<u32>, state| pid != before.pid && state == DownstairsState::Running;
        agent.disk_where(index, |disk| is_next(disk.downstairs.pid, disk.downstairs.state)).await;
        is_whole();
    }
    // It is written as long as somebody exports it: so it is in use.
    let refusal = agent.client.delete_region(members[0].region_id, 1).await.unwrap_err();
    assert!(
        refusal.to_string().contains("region_in_use") || format!("{refusal:?}").contains("region_in_use")
    );
    assert!(agent.command(&["volume", "stop", "volume.json"]).status().unwrap().success());
    assert!(export.0.wait().unwrap().success());
}
