//! A volume over NBD, beside imports, snapshots and volumes that wait.

use super::{
    BLOCK, BLOCKS, HELD, SIZE, attached, content, elsewhere, ended, id, import, import_from, is, is_active,
    put, read, sockets, state, uri, whole,
};
use crate::{
    agent::Agent,
    set::{self, Made},
    web::Web,
};
use camino::Utf8PathBuf;
use ids::{JobId, SnapshotId};
use problem::Code;
use sled_client::pantry::{
    Activate, Exported, PantryJobKind, PantryJobState, PantryVolumeState, ScrubRequest,
};
use std::{fs, process::Command, time::Duration};
use volume_repair::{ConstructionRequest, SubVolume};

#[tokio::test]
async fn a_volume_that_is_held_elsewhere_is_refused_by_name_and_nothing_has_changed() {
    let agent = Agent::served(3, 13).await;
    let Made { request, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    let request = ConstructionRequest { epoch: 4, ..request };
    let mut holder = elsewhere(&agent, &ConstructionRequest { epoch: 5, ..request.clone() }, 5);
    agent
        .eventually(async || {
            let look = agent.command(&["volume", "look", "5.json"]).status().unwrap();
            if look.success() { Ok(()) } else { Err(look) }
        })
        .await;
    is_active(&agent, 5);
    is(put(&agent, &request, Activate::Now).await, Code::PantryFenced);
    is(agent.client.pantry_volume(id(&request)).await, Code::PantryVolumeNotFound);
    assert!(sockets(&agent).is_empty());
    is_active(&agent, 5);
    // It is attached, and hears that it is held elsewhere when it is to be used.
    put(&agent, &request, Activate::Later).await.unwrap();
    is(put(&agent, &request, Activate::Now).await, Code::PantryFenced);
    assert_eq!(state(&agent, &request).await, PantryVolumeState::Fenced);
    for read_only in [false, true] {
        let refusal = uri(&agent, &request, read_only).await.unwrap_err();
        assert!(refusal.is(Code::PantryFenced));
        assert!(refusal.to_string().contains("epoch 5"), "{refusal}");
    }
    is(import(&agent, &request, &whole(), &content(3)).await, Code::PantryFenced);
    is(agent.client.pantry_snapshot(id(&request), SnapshotId::generate(), 1).await, Code::PantryFenced);
    is_active(&agent, 5);
    // With a higher epoch it takes over, and is taken over from.
    let request = ConstructionRequest { epoch: 6, ..request };
    let taken = put(&agent, &request, Activate::Now).await.unwrap();
    assert_eq!(taken.volume.unwrap().state, PantryVolumeState::Active);
    import(&agent, &request, &whole(), &content(3)).await.unwrap();
    assert!(!agent.command(&["volume", "wait", "5.json", "--for", "active"]).status().unwrap().success());
    assert!(agent.command(&["volume", "stop", "5.json"]).status().unwrap().success());
    assert!(holder.0.wait().unwrap().success());
    let _next = elsewhere(&agent, &ConstructionRequest { epoch: 7, ..request.clone() }, 7);
    agent
        .eventually(async || match state(&agent, &request).await {
            PantryVolumeState::Fenced => Ok(()),
            other => Err(other),
        })
        .await;
    is(uri(&agent, &request, false).await, Code::PantryFenced);
    let request = ConstructionRequest { epoch: 8, ..request };
    put(&agent, &request, Activate::Now).await.unwrap();
    assert!(read(&agent, &request).await == content(3));
}

#[tokio::test]
async fn exports_are_read_only_or_read_write_and_nobody_writes_beside_an_import() {
    let agent = Agent::served(3, 18).await;
    let request = attached(&agent).await;
    let all = content(10);
    let web = Web::start(all.clone(), &HELD).await;
    let order = import_from(&web);
    let job = agent.client.pantry_import_url(id(&request), &order).await.unwrap();
    is(uri(&agent, &request, false).await, Code::PantryWritten);
    is(import(&agent, &request, &whole(), &all).await, Code::PantryWritten);
    let read_only = uri(&agent, &request, true).await.unwrap();
    // Cancelled in the middle: what is in stays, and others may write.
    agent.client.cancel_pantry_job(id(&request), job.id, 1).await.unwrap();
    let job = ended(&agent, &request, job.id).await;
    assert_eq!((job.state, job.error.unwrap().code), (PantryJobState::Cancelled, "cancelled".to_owned()));
    is(agent.client.cancel_pantry_job(id(&request), JobId::generate(), 1).await, Code::PantryJobNotFound);
    let read_write = uri(&agent, &request, false).await.unwrap();
    let qemu = |uri: &str, arguments: &[&str]| {
        let done = Command::new("qemu-io").args(["-f", "raw", uri]).args(arguments).output();
        done.expect("qemu-io is there")
    };
    let written = qemu(&read_write, &["-c", "write -P 7 64k 64k", "-c", "flush"]);
    assert!(written.status.success(), "{written:?}");
    assert!(!qemu(&read_only, &["-c", "write -P 8 64k 64k"]).status.success());
    let held = read(&agent, &request).await;
    assert!(held[65_536..131_072].iter().all(|byte| *byte == 7));
    is(import(&agent, &request, &whole(), &all).await, Code::PantryWritten);
    let shown = agent.client.pantry_volume(id(&request)).await.unwrap();
    assert_eq!(shown.exported, Some(Exported::ReadWrite));
    // Detached, its clients are served no more.
    agent.client.delete_pantry_volume(id(&request), 1).await.unwrap();
    assert!(!qemu(&read_write, &["-c", "read 0 4k"]).status.success());
    // A volume that is only read takes neither.
    let file: Utf8PathBuf = agent.temp.path().join("image");
    fs::write(&file, &all).unwrap();
    let part = SubVolume::File(volume_repair::FilePart { path: file });
    let only_read = ConstructionRequest::first(uuid::Uuid::now_v7(), 0, BLOCK, vec![part]);
    let answer = put(&agent, &only_read, Activate::Now).await.unwrap();
    assert!(answer.volume.unwrap().read_only);
    is(uri(&agent, &only_read, false).await, Code::PantryReadOnly);
    is(import(&agent, &only_read, &whole(), &all).await, Code::PantryReadOnly);
    assert!(read(&agent, &only_read).await == all);
}

#[tokio::test]
async fn a_volume_whose_members_are_away_holds_up_no_other_one() {
    let agent = Agent::served(3, 19).await;
    let Made { mut request, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    let SubVolume::RegionSet(set) = &mut request.sub_volumes[0] else { panic!("it is a set") };
    // Nobody listens there.
    set.members.iter_mut().for_each(|member| member.address = "127.0.0.1:9".parse().unwrap());
    let hangs = put(&agent, &request, Activate::Now);
    let works = async {
        let request = attached(&agent).await;
        import(&agent, &request, &whole(), &content(11)).await.unwrap();
        request
    };
    let (hangs, works) = tokio::join!(hangs, works);
    assert_eq!(hangs.unwrap().volume.unwrap().state, PantryVolumeState::Activating);
    is(uri(&agent, &request, true).await, Code::PantryNotActive);
    is(import(&agent, &request, &whole(), &content(11)).await, Code::PantryNotActive);
    // A job that waits for a server, and one that reads all.
    let web = Web::start(content(12), &HELD).await;
    let order = import_from(&web);
    let waits = agent.client.pantry_import_url(id(&works), &order).await.unwrap();
    let order = ScrubRequest { executor_epoch: 1, job_id: None };
    let scrub = agent.client.pantry_scrub(id(&works), &order).await.unwrap();
    let scrub = ended(&agent, &works, scrub.id).await;
    assert_eq!(
        (scrub.kind, scrub.state, scrub.bytes_done),
        (PantryJobKind::Scrub, PantryJobState::Done, SIZE as u64)
    );
    assert_eq!(
        agent.client.pantry_job(id(&works), waits.id, Duration::ZERO).await.unwrap().state,
        PantryJobState::Running
    );
    // Both are detached, whatever they wait for.
    for request in [&request, &works] {
        agent.client.delete_pantry_volume(id(request), 1).await.unwrap();
    }
    assert!(sockets(&agent).is_empty());
}

#[tokio::test]
async fn a_snapshot_keeps_what_was_there_and_is_read_beside_the_volume() {
    let agent = Agent::served(3, 20).await;
    let request = attached(&agent).await;
    let (old, new) = (content(13), content(14));
    import(&agent, &request, &whole(), &old).await.unwrap();
    let snapshot = SnapshotId::generate();
    let taken = agent.client.pantry_snapshot(id(&request), snapshot, 1).await.unwrap();
    assert_eq!((taken.id, taken.regions.len()), (snapshot, 3));
    // The same one once more, as long as it is the same.
    assert_eq!(agent.client.pantry_snapshot(id(&request), snapshot, 1).await.unwrap(), taken);
    import(&agent, &request, &whole(), &new).await.unwrap();
    is(agent.client.pantry_snapshot(id(&request), snapshot, 1).await, Code::SnapshotNotDone);
    let mut kept = ConstructionRequest { id: uuid::Uuid::now_v7(), epoch: 0, ..request.clone() };
    let SubVolume::RegionSet(set) = &mut kept.sub_volumes[0] else { panic!("it is a set") };
    set.snapshot = Some(snapshot);
    put(&agent, &kept, Activate::Now).await.unwrap();
    assert!(read(&agent, &kept).await == old);
    assert!(read(&agent, &request).await == new);
    is(agent.client.pantry_snapshot(id(&kept), SnapshotId::generate(), 1).await, Code::PantryReadOnly);
}
