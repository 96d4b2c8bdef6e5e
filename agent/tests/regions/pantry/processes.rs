//! Who dies, and what goes on: agent, Pantry, coordinator.

use super::{
    BLOCK, BLOCKS, HELD, SIZE, attached, content, ended, id, import, import_from, is, pantry_pid, put,
    put_as, read, read_as, sha256, sockets, state, uri, whole,
};
use crate::{
    agent::{Agent, Owned},
    set::{self, Made},
    web::Web,
};
use daemon::state_lock::{self, Holding};
use ids::{JobId, SnapshotId};
use problem::Code;
use rustix::process::{Pid, Signal, kill_process};
use sled_client::{
    ClientOptions, SledClient,
    pantry::{
        Activate, AttachQuery, ExportListen, ExportRequest, ImportQuery, ImportRequest, PantryJobKind,
        PantryJobState, PantryState, PantryVolumeState, ScrubRequest, UnexportRequest,
    },
};
use std::{
    fs,
    process::{Command, Stdio},
    time::Duration,
};
use volume_repair::ConstructionRequest;

#[tokio::test]
async fn a_coordinator_that_was_replaced_changes_nothing_also_after_the_agent_was_killed() {
    let mut agent = Agent::served(3).await;
    let Made { request, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    put_as(&agent, &request, Activate::Now, 7).await.unwrap();
    for _ in 0..2 {
        is(put_as(&agent, &request, Activate::Now, 6).await, Code::StaleEpoch);
        is(agent.client.delete_pantry_volume(id(&request), 6).await, Code::StaleEpoch);
        let stale = ImportQuery { executor_epoch: 6, ..whole() };
        is(import(&agent, &request, &stale, &content(1)).await, Code::StaleEpoch);
        let order = ExportRequest::unix(6, true);
        is(agent.client.pantry_export(id(&request), &order).await, Code::StaleEpoch);
        let order = ScrubRequest { executor_epoch: 6, job_id: None };
        is(agent.client.pantry_scrub(id(&request), &order).await, Code::StaleEpoch);
        is(agent.client.pantry_snapshot(id(&request), SnapshotId::generate(), 6).await, Code::StaleEpoch);
        is(agent.client.cancel_pantry_job(id(&request), JobId::generate(), 6).await, Code::StaleEpoch);
        agent.kill();
        agent.start();
        let shown = agent.eventually(async || agent.client.pantry_volume(id(&request)).await).await;
        assert_eq!((shown.state, shown.executor_epoch), (PantryVolumeState::Active, 7));
    }
    is(agent.client.delete_pantry_volume(id(&request), 0).await, Code::BadRequest);
    agent.client.delete_pantry_volume(id(&request), 8).await.unwrap();
    // What it had asked for before it was replaced comes late.
    is(put_as(&agent, &request, Activate::Now, 7).await, Code::StaleEpoch);
}

#[tokio::test]
async fn what_was_let_through_before_a_coordinator_was_replaced_and_comes_late_does_nothing() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    let volume = id(&request);
    let begun = JobId::generate();
    let before = ScrubRequest { executor_epoch: 1, job_id: Some(begun) };
    agent.client.pantry_scrub(volume, &before).await.unwrap();
    let export = ExportRequest::unix(1, true);
    agent.client.pantry_export(volume, &export).await.unwrap();
    put_as(&agent, &request, Activate::Now, 2).await.unwrap();

    // Where the agent's calls go, behind its own look at the right.
    let socket = agent.temp.path().join("state/pantry/socket");
    let late = SledClient::at_socket(socket.as_std_path(), &ClientOptions::default()).unwrap();
    let query = AttachQuery { executor_epoch: 1, activate: Activate::Now };
    let newer = ConstructionRequest { config_version: 2, ..request.clone() };
    is(late.put_pantry_volume(volume, query, &newer).await, Code::StaleEpoch);
    let bytes = content(1);
    let body = futures::stream::iter([std::io::Result::Ok(bytes::Bytes::from(bytes))]);
    is(late.pantry_import(volume, &whole(), SIZE as u64, body).await, Code::StaleEpoch);
    let web = Web::start(content(1), &[]).await;
    is(late.pantry_import_url(volume, &import_from(&web)).await, Code::StaleEpoch);
    is(late.pantry_export(volume, &ExportRequest::unix(1, false)).await, Code::StaleEpoch);
    let unexport =
        UnexportRequest { executor_epoch: 1, read_only: true, listen: ExportListen::Unix, force: true };
    is(late.pantry_unexport(volume, &unexport).await, Code::StaleEpoch);
    is(late.pantry_scrub(volume, &before).await, Code::StaleEpoch);
    is(late.pantry_copy_parent(volume, &before).await, Code::StaleEpoch);
    is(late.pantry_snapshot(volume, SnapshotId::generate(), 1).await, Code::StaleEpoch);
    is(late.cancel_pantry_job(volume, begun, 1).await, Code::StaleEpoch);
    is(late.delete_pantry_volume(volume, 1).await, Code::StaleEpoch);

    let shown = agent.client.pantry_volume(volume).await.unwrap();
    assert_eq!((shown.state, shown.config_version, shown.exports.len()), (PantryVolumeState::Active, 1, 1));
    // What it had begun goes on.
    assert_eq!(ended(&agent, &request, begun).await.state, PantryJobState::Done);
    assert_eq!(agent.client.pantry_jobs(volume).await.unwrap().items.len(), 1);
    assert!(web.askers.lock().unwrap().is_empty() && read_as(&agent, &request, 2).await == vec![0; SIZE]);
}

#[tokio::test]
async fn a_job_goes_on_while_the_agent_is_killed_and_its_process_is_found_again() {
    let mut agent = Agent::served(3).await;
    let request = attached(&agent).await;
    let all = content(7);
    let web = Web::start(all.clone(), &HELD).await;
    let order =
        ImportRequest { job_id: Some(JobId::generate()), sha256: Some(sha256(&all)), ..import_from(&web) };
    let job = agent.client.pantry_import_url(id(&request), &order).await.unwrap();
    assert_eq!((job.kind, job.bytes, job.id), (PantryJobKind::Import, SIZE as u64, order.job_id.unwrap()));
    let held = agent
        .eventually(async || match agent.client.pantry_job(id(&request), job.id, Duration::ZERO).await {
            Ok(job) if job.bytes_done > 0 => Ok(job),
            other => Err(other),
        })
        .await;
    assert_eq!(held.state, PantryJobState::Running);
    let served_by = pantry_pid(&agent).await;
    agent.kill();
    agent.start();
    let again = agent.eventually(async || agent.client.pantry_import_url(id(&request), &order).await).await;
    assert_eq!((again.id, again.began, again.state), (job.id, job.began, PantryJobState::Running));
    let page = agent.client.pantry_volumes().await.unwrap();
    let pantry = page.pantry.unwrap();
    assert_eq!((pantry.pid, pantry.state, pantry.restarts), (served_by, PantryState::Running, 0));
    assert_eq!((page.items.len(), page.items[0].jobs_running), (1, 1));
    web.release();
    let job = ended(&agent, &request, job.id).await;
    assert_eq!((job.state, job.bytes_done), (PantryJobState::Done, SIZE as u64), "{:?}", job.error);
    assert!(read(&agent, &request).await == all);
}

#[tokio::test]
async fn a_volume_whose_pantry_was_killed_is_told_to_have_ended_and_attached_again_with_the_next_epoch() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    import(&agent, &request, &whole(), &content(8)).await.unwrap();
    let pid = pantry_pid(&agent).await.unwrap();
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    let pantry = agent
        .eventually(async || match agent.client.pantry_volumes().await {
            Ok(page)
                if page.pantry.as_ref().is_some_and(|pantry| pantry.pid.is_some_and(|new| new != pid)) =>
            {
                Ok(page.pantry.unwrap())
            }
            other => Err(other),
        })
        .await;
    assert_eq!(pantry.restarts, 1);
    assert_eq!(state(&agent, &request).await, PantryVolumeState::Ended);
    assert_eq!(agent.client.pantry_volumes().await.unwrap().items.len(), 1);
    is(uri(&agent, &request, true).await, Code::PantryVolumeEnded);
    is(agent.client.pantry_jobs(id(&request)).await, Code::PantryVolumeEnded);
    is(import(&agent, &request, &whole(), &content(9)).await, Code::PantryVolumeEnded);
    is(put(&agent, &request, Activate::Now).await, Code::PantryFenced);
    assert_eq!(state(&agent, &request).await, PantryVolumeState::Ended);
    let next = ConstructionRequest { epoch: 2, ..request };
    put(&agent, &next, Activate::Now).await.unwrap();
    assert!(read(&agent, &next).await == content(8));
}

#[tokio::test]
async fn a_directory_that_somebody_else_has_is_left_to_him() {
    let agent = Agent::served(3).await;
    let Made { request, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    let directory = agent.temp.path().join("state/pantry");
    fs::create_dir(&directory).unwrap();
    let script = "exec 9<>lock; flock 9; echo $$ >&9; read line";
    let holder =
        Command::new("bash").args(["-c", script]).current_dir(&directory).stdin(Stdio::piped()).spawn();
    let mut holder = Owned(holder.expect("bash is there"));
    let held_by = Holding::Held(Some(holder.0.id()));
    agent
        .eventually(async || match state_lock::look(&directory) {
            Ok(held) if held == held_by => Ok(()),
            other => Err(other),
        })
        .await;
    is(put(&agent, &request, Activate::Now).await, Code::PantryDown);
    let pantry = agent.client.pantry_volumes().await.unwrap().pantry.unwrap();
    assert_eq!((pantry.state, pantry.pid), (PantryState::HeldElsewhere, Some(holder.0.id())));
    let stop = ["pantry-stop", "--directory", directory.as_str()];
    assert!(!agent.command(&stop).status().unwrap().success());
    assert!(holder.0.try_wait().unwrap().is_none(), "it was left alone");
    drop(holder);
    agent.eventually(async || put(&agent, &request, Activate::Now).await).await;
    // By hand, it is ended in order.
    assert!(agent.command(&stop).status().unwrap().success());
    assert!(sockets(&agent).is_empty());
}
