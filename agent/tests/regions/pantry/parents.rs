//! What lies under a volume is copied into it by its Pantry, and then given up.

use super::{BLOCK, SIZE, attached, content, ended, id, is, put, read};
use crate::{
    agent::Agent,
    set::{self, Made},
};
use problem::Code;
use sled_client::pantry::{Activate, PantryJobKind, PantryJobState, RequestResult, ScrubRequest};
use std::fs;
use volume_repair::{ConstructionRequest, FilePart, SubVolume};

#[tokio::test]
async fn what_lies_under_a_volume_is_copied_in_and_the_parent_given_up() {
    let agent = Agent::served(3, 64).await;
    let image = agent.temp.path().join("image");
    fs::write(&image, content(50)).unwrap();
    let Made { request, .. } = set::make(&agent, BLOCK, (SIZE / BLOCK as usize) as u64).await;
    let over = ConstructionRequest {
        read_only_parent: Some(Box::new(ConstructionRequest {
            id: uuid::Uuid::now_v7(),
            config_version: 1,
            epoch: 0,
            block_size: BLOCK,
            sub_volumes: vec![SubVolume::File(FilePart { path: image.clone() })],
            read_only_parent: None,
        })),
        ..request.clone()
    };
    put(&agent, &over, Activate::Now).await.unwrap();
    let without = ConstructionRequest { config_version: 2, ..request.clone() };
    is(put(&agent, &without, Activate::Now).await, Code::PantryChangeRefused);
    let order = ScrubRequest { executor_epoch: 1, job_id: None };
    let begun = agent.client.pantry_copy_parent(id(&request), &order).await.unwrap();
    let done = ended(&agent, &request, begun.id).await;
    assert_eq!((done.kind, done.state, done.error), (PantryJobKind::CopyParent, PantryJobState::Done, None));
    assert_eq!((done.bytes_done, done.bytes), (SIZE as u64, SIZE as u64));
    let given_up = put(&agent, &without, Activate::Now).await.unwrap();
    assert_eq!(given_up.result, RequestResult::Started);
    is(agent.client.pantry_copy_parent(id(&request), &order).await, Code::VolumeNoParent);
    fs::write(&image, vec![9; SIZE]).unwrap();
    assert!(read(&agent, &request).await == content(50));

    let alone = attached(&agent).await;
    is(agent.client.pantry_copy_parent(id(&alone), &order).await, Code::VolumeNoParent);
}
