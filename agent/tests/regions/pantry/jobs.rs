//! What a job tells of itself while it runs: what it does, how far it is, and what it waits for.

use super::{HELD, attached, content, ended, id, import, import_from, read, whole};
use crate::{
    agent::{Agent, Stopped},
    web::Web,
};
use ids::JobId;
use sled_client::pantry::{ImportQuery, PantryJob, PantryJobPhase, PantryJobState, ScrubRequest};
use std::time::Duration;
use volume_repair::ConstructionRequest;

/// The job, once it is so.
async fn job_where(
    agent: &Agent,
    request: &ConstructionRequest,
    job: JobId,
    is_so: impl Fn(&PantryJob) -> bool,
) -> PantryJob {
    agent
        .eventually(async || match agent.client.pantry_job(id(request), job, Duration::ZERO).await {
            Ok(job) if is_so(&job) => Ok(job),
            other => Err(other),
        })
        .await
}

/// The job, once it does this.
async fn does(agent: &Agent, request: &ConstructionRequest, job: JobId, phase: PantryJobPhase) -> PantryJob {
    job_where(agent, request, job, |job| job.phase == Some(phase)).await
}

fn is_over(job: &PantryJob) {
    assert_eq!(
        (job.state, job.phase, &job.waits),
        (PantryJobState::Done, None, &None),
        "what has ended does nothing, and waits for nothing: {job:?}"
    );
    assert_eq!(job.bytes_done, job.bytes);
}

#[tokio::test]
async fn an_import_says_whether_it_waits_for_bytes_or_writes_or_makes_durable() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    let all = content(60);
    let web = Web::start(all.clone(), &HELD).await;
    let stopped = Stopped::disks_of(&agent, 3).await;
    let job = agent.client.pantry_import_url(id(&request), &import_from(&web)).await.unwrap();
    let writes = does(&agent, &request, job.id, PantryJobPhase::Writing).await;
    assert_eq!((writes.state, writes.bytes_done), (PantryJobState::Running, 0));
    drop(stopped);
    // Of 2.5 MB, in whole MiB. For a moment it may wait for bytes in between, too.
    let awaits_the_rest =
        |job: &PantryJob| (job.phase, job.bytes_done) == (Some(PantryJobPhase::AwaitingBytes), 2 << 20);
    let held = job_where(&agent, &request, job.id, awaits_the_rest).await;
    assert_eq!((held.state, held.waits), (PantryJobState::Running, None));
    web.release();
    is_over(&ended(&agent, &request, job.id).await);

    // What is written at once is soon to be made durable.
    let stopped = Stopped::disks_of(&agent, 3).await;
    let job = JobId::generate();
    let query = ImportQuery { job_id: Some(job), size_bytes: Some(4096), ..whole() };
    let import = import(&agent, &request, &query, &all[..4096]);
    let look = async {
        does(&agent, &request, job, PantryJobPhase::MakingDurable).await;
        drop(stopped);
    };
    is_over(&tokio::join!(import, look).0.unwrap());
    assert!(read(&agent, &request).await == all);
}

#[tokio::test]
async fn a_scrub_compares_until_it_has_ended() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    let stopped = Stopped::disks_of(&agent, 3).await;
    let order = ScrubRequest { executor_epoch: 1, job_id: None };
    let job = agent.client.pantry_scrub(id(&request), &order).await.unwrap();
    let compares = does(&agent, &request, job.id, PantryJobPhase::Comparing).await;
    assert_eq!((compares.state, compares.bytes_done), (PantryJobState::Running, 0));
    drop(stopped);
    is_over(&ended(&agent, &request, job.id).await);
}
