//! What a newer construction request may not say, each by its own name; and what is not done of a volume of which too few members are there.

use super::{BLOCK, BLOCKS, SIZE, attached, content, id, import, is, put, read, whole};
use crate::{agent::Agent, set};
use ids::{RegionId, RegionSetId, SnapshotId};
use problem::Code;
use rustix::process::{Pid, Signal, kill_process};
use sled_client::{
    ClientError,
    disks::DownstairsState,
    pantry::{Activate, AttachAnswer, PantryJobPhase, PantryVolume, PantryVolumeState, RequestResult},
    regions::RegionMember,
};
use std::{net::SocketAddr, time::Duration};
use volume_repair::{ConstructionRequest, Member, RegionSet, SubVolume};

/// Nobody is there.
const NOWHERE: &str = "127.0.0.1:9";

fn set_of(request: &mut ConstructionRequest) -> &mut RegionSet {
    let SubVolume::RegionSet(set) = &mut request.sub_volumes[0] else { panic!("it is a set") };
    set
}

/// The code of a refusal, and its own name where the code is that of several.
fn names(answer: Result<AttachAnswer, ClientError>) -> (String, String) {
    let error = answer.expect_err("it is refused");
    let problem = error.problem().unwrap_or_else(|| panic!("{error:?}"));
    (problem.code.clone(), problem.problems.first().map(|finding| finding.code.clone()).unwrap_or_default())
}

pub(super) async fn shown(agent: &Agent, request: &ConstructionRequest) -> PantryVolume {
    agent.client.pantry_volume(id(request)).await.unwrap()
}

#[tokio::test]
async fn each_refusal_of_a_newer_request_has_a_name_of_its_own_and_changes_nothing() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    let newer = ConstructionRequest { config_version: 5, ..request.clone() };
    put(&agent, &newer, Activate::Now).await.unwrap();
    let (conflict, refused) = (Code::PantryConflict.name(), Code::PantryChangeRefused.name());
    type Change = fn(&mut ConstructionRequest);
    let changes: [(Change, &str, &str); 8] = [
        (|request| request.config_version = 4, conflict, "request_older"),
        (|request| (request.config_version, request.epoch) = (6, 0), conflict, "request_other_epoch"),
        (|request| request.epoch = 2, conflict, "request_other_epoch"),
        (|request| set_of(request).members.swap(0, 1), conflict, "request_version_taken"),
        (
            |request| {
                request.config_version = 6;
                set_of(request).extent_count += 1;
            },
            conflict,
            "request_differs",
        ),
        (|request| (request.config_version, request.block_size) = (6, 512), conflict, "request_differs"),
        (
            |request| {
                request.config_version = 6;
                let set = set_of(request);
                let healthy = set.members.pop().unwrap();
                set.gone.push(healthy.region_id);
            },
            refused,
            "volume_member_is_here",
        ),
        (
            |request| {
                request.config_version = 6;
                set_of(request).members.pop();
            },
            refused,
            "volume_member_not_gone",
        ),
    ];
    let before = shown(&agent, &request).await;
    for (number, (change, code, name)) in changes.into_iter().enumerate() {
        let mut other = newer.clone();
        change(&mut other);
        let told = names(put(&agent, &other, Activate::Now).await);
        assert_eq!((told.0.as_str(), told.1.as_str()), (code, name), "{number}");
        let after = shown(&agent, &request).await;
        assert_eq!((after.config_version, after.epoch, after.state), (5, 1, PantryVolumeState::Active));
        assert_eq!(
            after.status.unwrap()["upstairs"]["list"],
            before.status.as_ref().unwrap()["upstairs"]["list"]
        );
    }
    assert_eq!(put(&agent, &newer, Activate::Now).await.unwrap().result, RequestResult::VcrMatches);
}

#[tokio::test]
async fn who_can_never_be_a_member_is_refused_before_anything_changes_and_who_is_not_there_is_waited_for() {
    let agent = Agent::served(4).await;
    let request = attached(&agent).await;
    import(&agent, &request, &whole(), &content(40)).await.unwrap();
    let mut newer = ConstructionRequest { config_version: 2, ..request.clone() };
    let (volume, old) = (id(&request), set_of(&mut newer).clone());
    let leaves = set_of(&mut newer).members.pop().unwrap();
    set_of(&mut newer).leaving.push(leaves);
    let with = |member: Member| {
        let mut with = newer.clone();
        set_of(&mut with).members.push(member);
        with
    };
    let make = async |set: &RegionSet, block_size| {
        let new = RegionMember { region_id: RegionId::generate(), incarnation: 4 };
        set::region(&agent, 3, volume, set, block_size, new, Vec::new()).await
    };
    let new = make(&old, BLOCK).await;
    let others = [
        make(&RegionSet { id: RegionSetId::generate(), ..old.clone() }, BLOCK).await,
        make(&RegionSet { extent_count: 2, ..old.clone() }, BLOCK).await,
        make(&RegionSet { blocks_per_extent: old.blocks_per_extent * 8, ..old.clone() }, 512).await,
        Member { incarnation: 5, ..new },
    ];
    for (number, other) in others.into_iter().enumerate() {
        let told = names(put(&agent, &with(other), Activate::Now).await);
        assert_eq!(
            (told.0.as_str(), told.1.as_str()),
            ("volume_member_unfit", "volume_member_unfit"),
            "{number}"
        );
        let after = shown(&agent, &request).await;
        assert_eq!(after.config_version, 1);
        assert_eq!(after.status.unwrap()["upstairs"]["members"].as_array().unwrap().len(), 3, "{number}");
    }
    let away = Member { address: NOWHERE.parse().unwrap(), ..new };
    assert_eq!(put(&agent, &with(away), Activate::Now).await.unwrap().result, RequestResult::Started);
    let there = ConstructionRequest { config_version: 3, ..with(new) };
    agent
        .eventually(async || match put(&agent, &there, Activate::Now).await.unwrap().result {
            RequestResult::CompletedAlready => Ok(()),
            other => Err(other),
        })
        .await;
    assert!(read(&agent, &request).await == content(40));
}

/// Its members on these disks are come to at another address from now on, and their processes are killed.
pub(super) async fn cut_off(agent: &Agent, request: &ConstructionRequest, disks: &[usize]) {
    let mut elsewhere = request.clone();
    let nowhere: SocketAddr = NOWHERE.parse().unwrap();
    disks.iter().for_each(|disk| set_of(&mut elsewhere).members[*disk].address = nowhere);
    put(agent, &elsewhere, Activate::Now).await.unwrap();
    for disk in disks {
        let before = agent.stands(*disk, DownstairsState::Running).await.downstairs.pid;
        let pid = Pid::from_raw(before.unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::KILL).unwrap();
        agent
            .disk_where(*disk, |disk| {
                disk.downstairs.pid != before && disk.downstairs.state == DownstairsState::Running
            })
            .await;
    }
}

#[tokio::test]
async fn a_volume_that_waits_for_members_says_so_and_no_snapshot_of_it_is_begun() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    import(&agent, &request, &whole(), &content(41)).await.unwrap();
    assert_eq!(shown(&agent, &request).await.reason, None);
    let elsewhere = ConstructionRequest { config_version: 2, ..request.clone() };
    cut_off(&agent, &elsewhere, &[1, 2]).await;
    let waits = agent
        .eventually(async || match shown(&agent, &request).await {
            PantryVolume { state: PantryVolumeState::Active, reason: Some(reason), .. } => Ok(reason),
            other => Err(other),
        })
        .await;
    assert!(waits.contains("second full member"), "{waits}");
    // What is asked of it meanwhile says the same.
    let bytes = content(42);
    let job = ids::JobId::generate();
    let query = sled_client::pantry::ImportQuery { job_id: Some(job), ..whole() };
    let filling = import(&agent, &request, &query, &bytes);
    let looking =
        agent.eventually(async || match agent.client.pantry_job(id(&request), job, Duration::ZERO).await {
            Ok(job) if job.waits.is_some() && job.phase != Some(PantryJobPhase::AwaitingBytes) => {
                Ok((job.phase, job.waits.unwrap()))
            }
            other => Err(other),
        });
    let snapshots = async {
        let (phase, waits) = looking.await;
        // Which of them depends on how fast the bytes come.
        assert!(matches!(phase, Some(PantryJobPhase::Writing | PantryJobPhase::MakingDurable)), "{phase:?}");
        assert!(waits.contains("second full member"), "{waits}");
        let snapshot = SnapshotId::generate();
        is(agent.client.pantry_snapshot(id(&request), snapshot, 1).await, Code::SnapshotFaulted);
        let mut members = request.clone();
        for member in &set_of(&mut members).members {
            let region = agent.client.region(member.region_id).await.unwrap();
            assert!(region.snapshots.is_empty(), "{region:?}");
        }
        let back = ConstructionRequest { config_version: 3, ..request.clone() };
        put(&agent, &back, Activate::Now).await.unwrap();
        snapshot
    };
    let (filled, snapshot) = tokio::join!(filling, snapshots);
    let filled = filled.unwrap();
    assert_eq!((filled.bytes_done, filled.phase, filled.waits), (SIZE as u64, None, None));
    let taken =
        agent.eventually(async || agent.client.pantry_snapshot(id(&request), snapshot, 1).await).await;
    assert!(taken.regions.len() >= 2, "{taken:?}");
    assert!(read(&agent, &request).await == bytes);
    assert_eq!(BLOCKS * u64::from(BLOCK), SIZE as u64);
}
