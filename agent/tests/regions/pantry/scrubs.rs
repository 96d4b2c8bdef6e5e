//! Every copy of a volume is read and compared: what the medium has changed in one is found before anybody reads it, and mended.

use super::{BLOCK, BLOCKS, SIZE, attached, content, elsewhere, ended, id, import, is_active, read, whole};
use crate::agent::Agent;
use ids::RegionId;
use problem::Code;
use sled_client::pantry::{CopyScrubbed, PantryJob, PantryJobState, ScrubRequest};
use std::{fs, os::unix::fs::FileExt};
use volume_repair::{ConstructionRequest, SubVolume};

/// The regions, each on the disk of its number.
fn regions(request: &ConstructionRequest) -> Vec<RegionId> {
    let SubVolume::RegionSet(set) = &request.sub_volumes[0] else { panic!("it is a set") };
    set.members.iter().map(|member| member.region_id).collect()
}

/// The medium of a disk changes a bit of what a block has there.
fn rot(agent: &Agent, request: &ConstructionRequest, disk: usize, block: usize, all: &[u8]) {
    let region = regions(request)[disk].to_string();
    let path = agent.disk_dir(disk).join(&region).join("data").join(format!("{region}.region"));
    let size = BLOCK as usize;
    let bytes = &all[block * size..][..size];
    let there = fs::read(&path).unwrap();
    let at = there.chunks_exact(size).position(|chunk| chunk == bytes).expect("it has the block") * size;
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.write_all_at(&[there[at] ^ 4], at as u64).unwrap();
    file.sync_all().unwrap();
}

async fn scrub(agent: &Agent, request: &ConstructionRequest) -> PantryJob {
    let order = ScrubRequest { executor_epoch: 1, job_id: None };
    let job = agent.client.pantry_scrub(id(request), &order).await.unwrap();
    ended(agent, request, job.id).await
}

fn copy(region_id: RegionId, wrong: u64, healed: u64, first_bad_block: Option<u64>) -> CopyScrubbed {
    CopyScrubbed {
        region_id,
        blocks: BLOCKS,
        wrong_blocks: wrong,
        healed_blocks: healed,
        differing_blocks: 0,
        first_bad_block,
    }
}

fn sorted(mut copies: Vec<CopyScrubbed>) -> Vec<CopyScrubbed> {
    copies.sort_by_key(|copy| copy.region_id);
    copies
}

#[tokio::test]
async fn what_is_wrong_in_any_copy_is_found_and_mended_and_what_no_copy_has_is_told() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    let all = content(30);
    import(&agent, &request, &whole(), &all).await.unwrap();
    let regions = regions(&request);
    let clean = sorted(regions.iter().map(|region| copy(*region, 0, 0, None)).collect());
    let first = scrub(&agent, &request).await;
    assert_eq!((first.state, first.bytes_done, &first.copies), (PantryJobState::Done, SIZE as u64, &clean));

    rot(&agent, &request, 0, 3, &all);
    rot(&agent, &request, 2, 3, &all);
    rot(&agent, &request, 2, 900, &all);
    let second = scrub(&agent, &request).await;
    let found =
        vec![copy(regions[0], 1, 1, None), copy(regions[1], 0, 0, None), copy(regions[2], 2, 2, None)];
    assert_eq!((second.state, second.copies), (PantryJobState::Done, sorted(found)));
    assert_eq!(scrub(&agent, &request).await.copies, clean);
    assert!(read(&agent, &request).await == all);

    for disk in 0..3 {
        rot(&agent, &request, disk, 17, &all);
    }
    rot(&agent, &request, 1, 18, &all);
    let third = scrub(&agent, &request).await;
    let left = Some(17);
    let found =
        vec![copy(regions[0], 1, 0, left), copy(regions[1], 2, 1, left), copy(regions[2], 1, 0, left)];
    assert_eq!(
        (third.state, third.bytes_done, third.copies),
        (PantryJobState::Failed, SIZE as u64, sorted(found))
    );
    let problem = third.error.unwrap();
    assert_eq!(problem.code, Code::CopiesDamaged.name());
    assert!(problem.detail.contains("block 17 of the volume"), "{}", problem.detail);
    // What is written is right again.
    import(&agent, &request, &whole(), &all).await.unwrap();
    assert_eq!(scrub(&agent, &request).await.copies, clean);
}

#[tokio::test]
async fn a_scrub_of_a_volume_that_is_taken_over_says_so() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    import(&agent, &request, &whole(), &content(31)).await.unwrap();
    let _taken = elsewhere(&agent, &ConstructionRequest { epoch: 2, ..request.clone() }, 2);
    is_active(&agent, 2);
    let order = ScrubRequest { executor_epoch: 1, job_id: None };
    let refusal = match agent.client.pantry_scrub(id(&request), &order).await {
        Ok(job) => ended(&agent, &request, job.id).await.error.map(|problem| problem.code),
        Err(error) => error.problem().map(|problem| problem.code.clone()),
    };
    assert_eq!(refusal.as_deref(), Some(Code::PantryFenced.name()));
}
