//! Encrypted volumes: who gives which key, who dies, and where the key is never found.

use super::{
    BLOCK, BLOCKS, SIZE, attached, content, ended, id, import, is, is_fenced, pantry_pid, pantry_was_killed,
    put, put_as, read, sockets, state, whole,
};
use crate::{
    agent::Agent,
    set::{self, Made},
};
use camino::Utf8Path;
use ids::{RegionId, SnapshotId};
use problem::Code;
use sled_client::{
    ClientError,
    pantry::{
        Activate, AttachAnswer, AttachQuery, PantryJobState, PantryVolumeState, RequestResult, ScrubRequest,
    },
    regions::RegionMember,
};
use std::{fs, io::ErrorKind};
use volume_repair::{ConstructionRequest, RegionSet, SubVolume};
use volume_seals::VolumeKey;

/// A volume that is encrypted, attached by nobody yet.
async fn encrypted(agent: &Agent, key: &VolumeKey) -> ConstructionRequest {
    let Made { request, .. } = set::make_with(agent, BLOCK, BLOCKS, Some(key)).await;
    request
}

async fn put_with(
    agent: &Agent,
    request: &ConstructionRequest,
    activate: Activate,
    key: &str,
) -> Result<AttachAnswer, ClientError> {
    let query = AttachQuery { executor_epoch: 1, activate };
    agent.client.put_encrypted_pantry_volume(id(request), query, request, key).await
}

fn text(key: &VolumeKey) -> String {
    key.to_text().trim_end().to_owned()
}

#[tokio::test]
async fn an_encrypted_volume_is_attached_with_its_key_and_with_nothing_else() {
    let agent = Agent::served(3).await;
    let (key, other) = (VolumeKey::random(), VolumeKey::random());
    let request = encrypted(&agent, &key).await;
    for activate in [Activate::Now, Activate::Later] {
        is(put(&agent, &request, activate).await, Code::VolumeKeyMissing);
        is(put_with(&agent, &request, activate, &text(&other)).await, Code::VolumeKeyWrong);
        is(put_with(&agent, &request, activate, &text(&key)[1..]).await, Code::VolumeKeyMalformed);
    }
    // No member has heard of the epoch, and there is nothing to be detached.
    is(agent.client.pantry_volume(id(&request)).await, Code::PantryVolumeNotFound);
    assert!(agent.client.pantry_volumes().await.unwrap().items.is_empty() && sockets(&agent).is_empty());
    let later = put_with(&agent, &request, Activate::Later, &text(&key)).await.unwrap();
    let later = later.volume.unwrap();
    assert_eq!((later.state, later.encrypted), (PantryVolumeState::NotActivated, true));
    for _ in 0..2 {
        let now = put_with(&agent, &request, Activate::Now, &text(&key)).await.unwrap();
        assert_eq!(now.result, RequestResult::VcrMatches);
        assert_eq!(now.volume.unwrap().state, PantryVolumeState::Active);
    }
    import(&agent, &request, &whole(), &content(40)).await.unwrap();
    // Another key is another volume's; without one it is the volume that is there.
    is(put_with(&agent, &request, Activate::Now, &text(&other)).await, Code::VolumeKeyWrong);
    assert_eq!(put(&agent, &request, Activate::Now).await.unwrap().result, RequestResult::VcrMatches);
    assert!(read(&agent, &request).await == content(40));
    let SubVolume::RegionSet(set) = &request.sub_volumes[0] else { panic!("it is a set") };
    let mut rekeyed = set.clone();
    rekeyed.encryption.as_mut().unwrap().key_check = other.check(set.id);
    let rekeyed = ConstructionRequest {
        config_version: 2,
        sub_volumes: vec![SubVolume::RegionSet(rekeyed)],
        ..request.clone()
    };
    is(put_with(&agent, &rekeyed, Activate::Now, &text(&other)).await, Code::PantryConflict);
    // One that is not encrypted takes none: who gives one believes that it is.
    let plain = attached(&agent).await;
    is(put_with(&agent, &plain, Activate::Now, &text(&key)).await, Code::VolumeKeyNotWanted);
    assert!(!agent.client.pantry_volume(id(&plain)).await.unwrap().encrypted);
    agent.client.delete_pantry_volume(id(&plain), 1).await.unwrap();
    let plain = ConstructionRequest { epoch: 2, ..plain };
    is(put_with(&agent, &plain, Activate::Now, &text(&key)).await, Code::VolumeKeyNotWanted);
    is(agent.client.pantry_volume(id(&plain)).await, Code::PantryVolumeNotFound);
}

#[tokio::test]
async fn an_encrypted_volume_is_repaired_compared_and_kept_as_a_snapshot_without_the_key_being_given_again() {
    let agent = Agent::served(4).await;
    let key = VolumeKey::random();
    let request = encrypted(&agent, &key).await;
    put_with(&agent, &request, Activate::Now, &text(&key)).await.unwrap();
    import(&agent, &request, &whole(), &content(41)).await.unwrap();
    let SubVolume::RegionSet(old) = &request.sub_volumes[0] else { panic!("it is a set") };
    let new = RegionMember { region_id: RegionId::generate(), incarnation: 4 };
    let new = set::region(&agent, 3, id(&request), old, BLOCK, new, Vec::new()).await;
    let mut members: RegionSet = old.clone();
    let leaves = std::mem::replace(&mut members.members[2], new);
    members.leaving.push(leaves);
    let next = ConstructionRequest {
        config_version: 2,
        sub_volumes: vec![SubVolume::RegionSet(members)],
        ..request.clone()
    };
    agent
        .eventually(async || match put(&agent, &next, Activate::Never).await.unwrap().result {
            RequestResult::CompletedAlready => Ok(()),
            other => Err(other),
        })
        .await;
    let order = ScrubRequest { executor_epoch: 1, job_id: None };
    let scrub = agent.client.pantry_scrub(id(&next), &order).await.unwrap();
    let scrub = ended(&agent, &next, scrub.id).await;
    assert_eq!((scrub.state, scrub.copies.len()), (PantryJobState::Done, 3), "{:?}", scrub.error);
    let snapshot = SnapshotId::generate();
    agent.client.pantry_snapshot(id(&next), snapshot, 1).await.unwrap();
    let mut kept = ConstructionRequest { id: uuid::Uuid::now_v7(), epoch: 0, ..next.clone() };
    let SubVolume::RegionSet(set) = &mut kept.sub_volumes[0] else { panic!("it is a set") };
    set.snapshot = Some(snapshot);
    set.leaving.clear();
    is(put(&agent, &kept, Activate::Now).await, Code::VolumeKeyMissing);
    put_with(&agent, &kept, Activate::Now, &text(&key)).await.unwrap();
    assert!(read(&agent, &kept).await == content(41));
}

#[tokio::test]
async fn after_its_pantry_was_killed_an_encrypted_volume_needs_its_key_again() {
    let mut agent = Agent::served(3).await;
    let key = VolumeKey::random();
    let request = encrypted(&agent, &key).await;
    put_with(&agent, &request, Activate::Now, &text(&key)).await.unwrap();
    import(&agent, &request, &whole(), &content(42)).await.unwrap();
    // The agent has nothing that the volume needs.
    agent.kill();
    agent.start();
    agent.eventually(async || agent.client.pantry_volume(id(&request)).await).await;
    assert!(read(&agent, &request).await == content(42));
    pantry_was_killed(&agent).await;
    for volume in [
        agent.client.pantry_volume(id(&request)).await.unwrap(),
        agent.client.pantry_volumes().await.unwrap().items.remove(0),
    ] {
        assert_eq!((volume.state, volume.encrypted), (PantryVolumeState::Ended, true));
        assert!(volume.reason.unwrap().contains("needs its key again"));
    }
    let next = ConstructionRequest { epoch: 2, ..request };
    is(put(&agent, &next, Activate::Now).await, Code::VolumeKeyMissing);
    is(put_with(&agent, &next, Activate::Now, &text(&VolumeKey::random())).await, Code::VolumeKeyWrong);
    assert_eq!(state(&agent, &next).await, PantryVolumeState::Ended);
    put_with(&agent, &next, Activate::Now, &text(&key)).await.unwrap();
    assert!(read(&agent, &next).await == content(42));
    // Taken over in this life, it is attached anew, which needs the key as well; before that nothing ends.
    let third = ConstructionRequest { epoch: 3, ..next.clone() };
    let pid = pantry_pid(&agent).await;
    let query = AttachQuery { executor_epoch: 1, activate: Activate::Now };
    let taken = ConstructionRequest { id: uuid::Uuid::now_v7(), ..third.clone() };
    let by = agent.client.put_encrypted_pantry_volume(id(&taken), query, &taken, &text(&key)).await;
    assert_eq!(by.unwrap().volume.unwrap().state, PantryVolumeState::Active);
    is_fenced(&agent, &next).await;
    let fourth = ConstructionRequest { epoch: 4, ..next };
    is(put(&agent, &fourth, Activate::Now).await, Code::VolumeKeyMissing);
    assert_eq!(state(&agent, &fourth).await, PantryVolumeState::Fenced);
    put_with(&agent, &fourth, Activate::Now, &text(&key)).await.unwrap();
    assert!(read(&agent, &fourth).await == content(42));
    assert_eq!(pantry_pid(&agent).await, pid);
}

/// All files below a directory that have one of these in them. What the agent removes meanwhile has nothing.
fn files_with(directory: &Utf8Path, needles: &[Vec<u8>]) -> Vec<String> {
    let mut found = Vec::new();
    let entries = match directory.read_dir_utf8() {
        Err(error) if error.kind() == ErrorKind::NotFound => return found,
        other => other.unwrap(),
    };
    for entry in entries {
        let entry = entry.unwrap();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files_with(entry.path(), needles));
        } else if kind.is_file() {
            let bytes = match fs::read(entry.path()) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                other => other.unwrap(),
            };
            let has = |needle: &Vec<u8>| bytes.windows(needle.len()).any(|window| window == needle);
            if needles.iter().any(has) {
                found.push(entry.path().to_string());
            }
        }
    }
    found
}

#[tokio::test]
async fn the_key_is_nowhere_but_in_memory() {
    let mut agent = Agent::served(3).await;
    let mut bytes: [u8; 32] = std::array::from_fn(|at| 0xc0 ^ (at as u8).wrapping_mul(37));
    let raw = bytes.to_vec();
    let key = VolumeKey::from_bytes(&mut bytes);
    let digits = text(&key);
    let request = encrypted(&agent, &key).await;
    // Right, wrong, and none, of which all is told that ever is.
    put_with(&agent, &request, Activate::Later, &digits).await.unwrap();
    let wrong = VolumeKey::random();
    let mut told = vec![
        format!("{:?}", put_with(&agent, &request, Activate::Now, &text(&wrong)).await.unwrap_err()),
        format!("{:?}", put_with(&agent, &request, Activate::Now, &digits[..62]).await.unwrap_err()),
        format!("{:?}", put_with(&agent, &request, Activate::Now, &format!("{digits}\n")).await.unwrap_err()),
        format!("{:?}", put_with(&agent, &request, Activate::Now, &digits).await.unwrap()),
    ];
    let plain = vec![0x5a; SIZE];
    import(&agent, &request, &whole(), &plain).await.unwrap();
    told.push(format!("{:?}", agent.client.pantry_volume(id(&request)).await.unwrap()));
    told.push(format!("{:?}", agent.client.pantry_volumes().await.unwrap()));
    is(put_as(&agent, &request, Activate::Now, 0).await, Code::BadRequest);
    for told in &told {
        for secret in [&digits[..16], &digits[40..56], &text(&wrong)[..16]] {
            assert!(!told.contains(secret), "{told}");
        }
    }
    let directory = agent.temp.path().to_owned();
    let needles = [digits[8..40].to_owned().into_bytes(), raw[4..20].to_vec(), plain[..64].to_vec()];
    assert_eq!(files_with(&directory, &needles), Vec::<String>::new());
    agent.client.delete_pantry_volume(id(&request), 1).await.unwrap();
    agent.stop();
    assert_eq!(files_with(&directory, &needles), Vec::<String>::new());
    // The search finds what is there.
    fs::write(directory.join("planted"), [b"..", &raw[..]].concat()).unwrap();
    assert_eq!(files_with(&directory, &needles), [directory.join("planted").to_string()]);
}
