//! What lies under a volume is copied in by its Pantry, and then given up.

use super::{
    BLOCK, SIZE, attached, content, elsewhere, ended, id, import, import_from, is, is_active, is_fenced, put,
    read,
    refusals::{cut_off, shown},
    whole,
};
use crate::{
    agent::Agent,
    set::{self, Made},
    web::Web,
};
use ids::JobId;
use problem::Code;
use sled_client::pantry::{
    Activate, ImportQuery, ImportRequest, PantryJob, PantryJobKind, PantryJobPhase, PantryJobState,
    RequestResult, ScrubRequest,
};
use std::{fs, time::Duration};
use volume_repair::{ConstructionRequest, FilePart, SubVolume};

const ORDER: ScrubRequest = ScrubRequest { executor_epoch: 1, job_id: None };

/// The request of a volume over a file with this, and the same without the file.
async fn over_a_file(agent: &Agent, bytes: &[u8]) -> [ConstructionRequest; 2] {
    let image = agent.temp.path().join("image");
    fs::write(&image, bytes).unwrap();
    let Made { request, .. } = set::make(agent, BLOCK, (SIZE / BLOCK as usize) as u64).await;
    let over = ConstructionRequest {
        read_only_parent: Some(Box::new(ConstructionRequest {
            id: uuid::Uuid::now_v7(),
            config_version: 1,
            epoch: 0,
            block_size: BLOCK,
            sub_volumes: vec![SubVolume::File(FilePart { path: image })],
            read_only_parent: None,
        })),
        ..request.clone()
    };
    [over, request]
}

#[tokio::test]
async fn what_lies_under_a_volume_is_copied_in_and_the_parent_given_up() {
    let agent = Agent::served(3).await;
    let [over, request] = over_a_file(&agent, &content(50)).await;
    put(&agent, &over, Activate::Now).await.unwrap();
    let without = ConstructionRequest { config_version: 2, ..request.clone() };
    is(put(&agent, &without, Activate::Now).await, Code::PantryChangeRefused);
    let begun = agent.client.pantry_copy_parent(id(&request), &ORDER).await.unwrap();
    let done = ended(&agent, &request, begun.id).await;
    assert_eq!((done.kind, done.state, done.error), (PantryJobKind::CopyParent, PantryJobState::Done, None));
    assert_eq!((done.bytes_done, done.bytes), (SIZE as u64, SIZE as u64));
    let given_up = put(&agent, &without, Activate::Now).await.unwrap();
    assert_eq!(given_up.result, RequestResult::Started);
    is(agent.client.pantry_copy_parent(id(&request), &ORDER).await, Code::VolumeNoParent);
    fs::write(agent.temp.path().join("image"), vec![9; SIZE]).unwrap();
    assert!(read(&agent, &request).await == content(50));

    let alone = attached(&agent).await;
    is(agent.client.pantry_copy_parent(id(&alone), &ORDER).await, Code::VolumeNoParent);
}

#[tokio::test]
async fn a_job_that_was_asked_for_before_is_the_answer_also_when_it_could_not_begin_any_more() {
    let agent = Agent::served(3).await;
    let [over, request] = over_a_file(&agent, &content(52)).await;
    let volume = id(&request);
    put(&agent, &over, Activate::Now).await.unwrap();
    let again = |job: &PantryJob| ScrubRequest { executor_epoch: 1, job_id: Some(job.id) };
    let copy = agent.client.pantry_copy_parent(volume, &ORDER).await.unwrap();
    let copy = ended(&agent, &request, copy.id).await;
    let without = ConstructionRequest { config_version: 2, ..request.clone() };
    put(&agent, &without, Activate::Now).await.unwrap();
    // Nothing lies under it any more.
    assert_eq!(agent.client.pantry_copy_parent(volume, &again(&copy)).await.unwrap(), copy);
    is(agent.client.pantry_copy_parent(volume, &ORDER).await, Code::VolumeNoParent);
    is(agent.client.pantry_scrub(volume, &again(&copy)).await, Code::PantryJobConflict);

    let scrub = agent.client.pantry_scrub(volume, &ORDER).await.unwrap();
    let scrub = ended(&agent, &request, scrub.id).await;
    let all = content(53);
    let query = ImportQuery { job_id: Some(JobId::generate()), ..whole() };
    let written = import(&agent, &request, &query, &all).await.unwrap();
    let web = Web::start(all.clone(), &[]).await;
    let order = ImportRequest { job_id: Some(JobId::generate()), ..import_from(&web) };
    let fetched = agent.client.pantry_import_url(volume, &order).await.unwrap();
    let fetched = ended(&agent, &request, fetched.id).await;

    let _other = elsewhere(&agent, &without, 2);
    is_active(&agent, 2);
    is_fenced(&agent, &request).await;
    is(agent.client.pantry_scrub(volume, &ORDER).await, Code::PantryFenced);
    assert_eq!(agent.client.pantry_scrub(volume, &again(&scrub)).await.unwrap(), scrub);
    assert_eq!(agent.client.pantry_copy_parent(volume, &again(&copy)).await.unwrap(), copy);
    assert_eq!(import(&agent, &request, &query, &all).await.unwrap(), written);
    assert_eq!(agent.client.pantry_import_url(volume, &order).await.unwrap(), fetched);
}

#[tokio::test]
async fn a_copy_that_is_cancelled_ends_in_the_volume_too_and_the_next_one_goes_to_the_end() {
    let agent = Agent::served(3).await;
    let [over, request] = over_a_file(&agent, &content(51)).await;
    let version = |config_version| ConstructionRequest { config_version, ..over.clone() };
    put(&agent, &over, Activate::Now).await.unwrap();
    // Nothing that is copied is kept by one member.
    cut_off(&agent, &version(2), &[1, 2]).await;
    let begun = agent.client.pantry_copy_parent(id(&request), &ORDER).await.unwrap();
    let look = async || agent.client.pantry_job(id(&request), begun.id, Duration::ZERO).await;
    let copies = agent
        .eventually(async || match look().await {
            Ok(job) if job.waits.is_some() => Ok(job),
            other => Err(other),
        })
        .await;
    assert_eq!((copies.state, copies.phase), (PantryJobState::Running, Some(PantryJobPhase::Copying)));
    assert!(copies.waits.as_ref().unwrap().contains("second full member"), "{copies:?}");
    agent.client.cancel_pantry_job(id(&request), begun.id, 1).await.unwrap();
    let cancelled = ended(&agent, &request, begun.id).await;
    assert_eq!((cancelled.state, cancelled.phase, cancelled.waits), (PantryJobState::Cancelled, None, None));
    assert!(cancelled.bytes_done < SIZE as u64);

    // Nor does the volume copy any more, when it could.
    put(&agent, &version(3), Activate::Now).await.unwrap();
    agent
        .eventually(async || {
            let status = shown(&agent, &request).await.status.unwrap();
            match &status["layers"]["scrub"]["phase"] {
                phase if *phase == "stopped" => Ok(()),
                _ => Err(status),
            }
        })
        .await;
    let without = ConstructionRequest { config_version: 4, ..request.clone() };
    is(put(&agent, &without, Activate::Now).await, Code::PantryChangeRefused);
    let again = agent.client.pantry_copy_parent(id(&request), &ORDER).await.unwrap();
    assert_eq!(ended(&agent, &request, again.id).await.state, PantryJobState::Done);
    assert_eq!(put(&agent, &without, Activate::Now).await.unwrap().result, RequestResult::Started);
    assert!(read(&agent, &request).await == content(51));
}
