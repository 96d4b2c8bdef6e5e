//! Volumes are attached, changed and detached, and do not pile up.

use super::{
    BLOCK, BLOCKS, HELD, SIZE, WAIT, attached, content, elsewhere, ended, head, id, import, import_from, is,
    is_active, left, pantry_pid, put, read, sockets, state, uri, whole,
};
use crate::{
    agent::{Agent, TOKEN},
    set::{self, Made},
    web::Web,
};
use ids::{JobId, RegionId, RegionSetId, SnapshotId, VolumeId};
use problem::Code;
use sled_agent::pantry::records::ATTACHED_MAX;
use sled_client::{
    ClientOptions, SledClient,
    pantry::{
        Activate, AttachAnswer, AttachQuery, ImportQuery, PantryJobState, PantryState, PantryVolume,
        PantryVolumeState, RequestResult,
    },
    regions::RegionMember,
};
use std::{fs, net::SocketAddr, os::unix::net::UnixStream, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use volume_pantry::VOLUMES_MAX;
use volume_repair::{ConstructionRequest, Member, RegionSet, SubVolume};

#[tokio::test]
async fn a_volume_is_attached_once_by_equal_requests_and_nothing_is_left_when_it_is_detached() {
    let agent = Agent::served(3).await;
    let before = agent.client.pantry_volumes().await.unwrap();
    assert_eq!((before.items.len(), before.pantry.unwrap().state), (0, PantryState::NotStarted));
    let Made { request, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    let missing = put(&agent, &request, Activate::Never).await.unwrap();
    assert_eq!((missing.result, missing.volume), (RequestResult::Missing, None));
    assert_eq!(pantry_pid(&agent).await, None, "nobody has needed it");
    is(agent.client.pantry_volume(id(&request)).await, Code::PantryVolumeNotFound);

    let later = put(&agent, &request, Activate::Later).await.unwrap();
    assert_eq!(later.volume.unwrap().state, PantryVolumeState::NotActivated);
    is(uri(&agent, &request, true).await, Code::PantryNotActivated);
    is(import(&agent, &request, &whole(), &content(1)).await, Code::PantryNotActivated);
    for _ in 0..2 {
        let now = put(&agent, &request, Activate::Now).await.unwrap();
        assert_eq!(now.result, RequestResult::VcrMatches);
        assert_eq!(now.volume.unwrap().state, PantryVolumeState::Active);
    }
    let page = agent.client.pantry_volumes().await.unwrap();
    assert_eq!((page.items.len(), page.pantry.unwrap().state), (1, PantryState::Running));
    let shown = agent.client.pantry_volume(id(&request)).await.unwrap();
    assert_eq!(shown.status.unwrap()["upstairs"]["members"].as_array().unwrap().len(), 3);
    assert_eq!(sockets(&agent).len(), 1);

    // Another request of that version, an older one, one of another volume, and none at all.
    let mut other = request.clone();
    other.sub_volumes.push(SubVolume::File(volume_repair::FilePart { path: "/etc/hosts".into() }));
    is(put(&agent, &other, Activate::Now).await, Code::PantryConflict);
    let older = ConstructionRequest { config_version: 0, ..request.clone() };
    is(put(&agent, &older, Activate::Now).await, Code::PantryConflict);
    for epoch in [2, 0] {
        let other = ConstructionRequest { epoch, ..request.clone() };
        is(put(&agent, &other, Activate::Now).await, Code::PantryConflict);
    }
    assert_eq!(agent.client.pantry_volume(id(&request)).await.unwrap().epoch, 1);
    let query = AttachQuery { executor_epoch: 1, activate: Activate::Now };
    let elsewhere = agent.client.put_pantry_volume(VolumeId::generate(), query, &request).await;
    is(elsewhere, Code::BadRequest);
    let none = agent.client.put_pantry_volume(id(&request), query, &serde_json::json!({"id": 1})).await;
    is(none, Code::BadJson);
    let odd = ConstructionRequest { id: uuid::Uuid::now_v7(), block_size: 1000, ..request.clone() };
    is(put(&agent, &odd, Activate::Now).await, Code::BadVolume);
    assert_eq!(agent.client.pantry_volumes().await.unwrap().items.len(), 1);

    for _ in 0..2 {
        agent.client.delete_pantry_volume(id(&request), 1).await.unwrap();
        is(agent.client.pantry_volume(id(&request)).await, Code::PantryVolumeNotFound);
        assert!(agent.client.pantry_volumes().await.unwrap().items.is_empty() && left(&agent).is_empty());
    }
    is(import(&agent, &request, &whole(), &content(1)).await, Code::PantryVolumeNotFound);
    // Whoever wrote it has that right no more.
    is(put(&agent, &request, Activate::Now).await, Code::PantryFenced);
    let next = ConstructionRequest { epoch: 2, ..request };
    assert_eq!(put(&agent, &next, Activate::Now).await.unwrap().result, RequestResult::VcrMatches);
}

#[tokio::test]
async fn a_newer_request_replaces_a_member_of_a_volume_that_is_in_use() {
    let agent = Agent::served(4).await;
    let request = attached(&agent).await;
    import(&agent, &request, &whole(), &content(2)).await.unwrap();
    let SubVolume::RegionSet(old) = &request.sub_volumes[0] else { panic!("it is a set") };
    let new = RegionMember { region_id: RegionId::generate(), incarnation: 4 };
    let new: Member = set::region(&agent, 3, id(&request), old, BLOCK, new, Vec::new()).await;
    let mut set: RegionSet = old.clone();
    let leaves = std::mem::replace(&mut set.members[2], new);
    // The one that is there is left out, and nobody says that it leaves, or is gone.
    let next = |set: &RegionSet| ConstructionRequest {
        config_version: 2,
        sub_volumes: vec![SubVolume::RegionSet(set.clone())],
        ..request.clone()
    };
    is(put(&agent, &next(&set), Activate::Never).await, Code::PantryChangeRefused);
    assert_eq!(agent.client.pantry_volume(id(&request)).await.unwrap().config_version, 1);
    set.leaving.push(leaves);
    let answer = put(&agent, &next(&set), Activate::Never).await.unwrap();
    assert_eq!((answer.result, answer.volume.unwrap().config_version), (RequestResult::Started, 2));
    // Newer still, and with another right: it goes on with the one that it has.
    let newest = ConstructionRequest { config_version: 3, epoch: 9, ..next(&set) };
    let applied = put(&agent, &newest, Activate::Now).await.unwrap();
    assert!(matches!(applied.result, RequestResult::StartedAlready | RequestResult::CompletedAlready));
    let volume = applied.volume.unwrap();
    assert_eq!((volume.config_version, volume.epoch), (3, 1));
    // The very same once more is no mistake, whichever right it names; a third one is.
    let with = |epoch| ConstructionRequest { epoch, ..newest.clone() };
    for (activate, epoch) in [(Activate::Never, 9), (Activate::Now, 9), (Activate::Later, 1)] {
        let again = put(&agent, &with(epoch), activate).await.unwrap();
        assert!(matches!(again.result, RequestResult::StartedAlready | RequestResult::CompletedAlready));
        assert_eq!(again.volume.unwrap().epoch, 1);
    }
    is(put(&agent, &with(8), Activate::Now).await, Code::PantryConflict);
    let completed = agent
        .eventually(async || match put(&agent, &newest, Activate::Now).await {
            Ok(AttachAnswer { result: RequestResult::CompletedAlready, volume }) => Ok(volume.unwrap()),
            Ok(AttachAnswer { result: RequestResult::StartedAlready, .. }) => Err("not yet".to_owned()),
            other => panic!("{other:?}"),
        })
        .await;
    let members = completed.status.unwrap()["upstairs"]["members"].to_string();
    assert!(members.contains(&new.region_id.to_string()), "{members}");
    is(put(&agent, &request, Activate::Now).await, Code::PantryConflict);
    assert!(read(&agent, &request).await == content(2));
}

/// The path in `nbd+unix:///?socket=PATH`.
fn socket_of(uri: &str) -> &str {
    uri.strip_prefix("nbd+unix:///?socket=").unwrap()
}

/// Waits until a volume is used by nobody, or by somebody.
async fn is_idle(agent: &Agent, request: &ConstructionRequest, is_idle: bool) {
    agent
        .eventually(async || match agent.client.pantry_volume(id(request)).await.unwrap().idle_ms {
            Some(idle) if (idle > 0) == is_idle => Ok(()),
            other => Err(other),
        })
        .await;
}

#[tokio::test]
async fn volumes_do_not_pile_up_and_calls_for_one_do_not_mix() {
    let agent = Agent::served(3).await;
    let request = attached(&agent).await;
    let image = agent.temp.path().join("image");
    fs::write(&image, [5; 4096]).unwrap();
    let only_read = || ConstructionRequest {
        id: uuid::Uuid::now_v7(),
        config_version: 1,
        epoch: 0,
        block_size: BLOCK,
        sub_volumes: vec![SubVolume::File(volume_repair::FilePart { path: image.clone() })],
        read_only_parent: None,
    };
    let others: Vec<ConstructionRequest> = (1..VOLUMES_MAX).map(|_| only_read()).collect();
    for other in &others {
        put(&agent, other, Activate::Now).await.unwrap();
    }
    let one_more = only_read();
    // A coordinator has forgotten them. Whoever comes next is told which one nobody has used for the longest time, and may detach it.
    let mut used = others.iter().chain([&request]);
    let idlest = used.next().unwrap();
    let client = UnixStream::connect(socket_of(&uri(&agent, idlest, true).await.unwrap())).unwrap();
    is_idle(&agent, idlest, false).await;
    drop(client);
    is_idle(&agent, idlest, true).await;
    for used in used {
        assert_eq!(put(&agent, used, Activate::Never).await.unwrap().result, RequestResult::VcrMatches);
    }
    let full = put(&agent, &one_more, Activate::Now).await.unwrap_err();
    assert!(full.is(Code::PantryVolumesFull) && full.to_string().contains(&id(idlest).to_string()), "{full}");
    is(agent.client.pantry_volume(id(&one_more)).await, Code::PantryVolumeNotFound);
    put(&agent, &request, Activate::Now).await.unwrap();
    assert_eq!(agent.client.pantry_volumes().await.unwrap().items.len(), VOLUMES_MAX);
    assert_eq!(sockets(&agent).len(), VOLUMES_MAX);
    for other in &others {
        agent.client.delete_pantry_volume(id(other), 1).await.unwrap();
    }
    put(&agent, &one_more, Activate::Now).await.unwrap();
    // One that waits for its members, and another call meanwhile.
    let Made { request: mut slow, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    let SubVolume::RegionSet(set) = &mut slow.sub_volumes[0] else { panic!("it is a set") };
    set.members.iter_mut().for_each(|member| member.address = "127.0.0.1:9".parse().unwrap());
    let (first, second) = tokio::join!(put(&agent, &slow, Activate::Now), put(&agent, &slow, Activate::Now));
    let (done, refused) = if first.is_ok() { (first, second) } else { (second, first) };
    assert_eq!(done.unwrap().volume.unwrap().state, PantryVolumeState::Activating);
    is(refused, Code::PantryVolumeBusy);
    // A second body for an import that runs.
    let job = JobId::generate();
    let query = ImportQuery { job_id: Some(job), ..whole() };
    let (address, head) =
        head(&agent, &request, &format!("&job_id={job}"), &format!("content-length: {SIZE}"));
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&head).await.unwrap();
    agent.eventually(async || agent.client.pantry_job(id(&request), job, Duration::ZERO).await).await;
    is(import(&agent, &request, &query, &content(15)).await, Code::PantryJobRunning);
    agent.client.cancel_pantry_job(id(&request), job, 1).await.unwrap();
    assert_eq!(ended(&agent, &request, job).await.state, PantryJobState::Cancelled);
    let mut told = String::new();
    socket.read_to_string(&mut told).await.unwrap();
    assert!(told.starts_with("HTTP/1.1 409") && told.contains("\"cancelled\""), "{told}");
}

#[tokio::test]
async fn volumes_that_have_ended_are_bounded_until_somebody_detaches_them() {
    let mut agent = Agent::served(3).await;
    let Made { request, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    agent.stop();
    let ended: Vec<VolumeId> = (0..ATTACHED_MAX).map(|_| VolumeId::generate()).collect();
    let record = serde_json::json!({"executor_epoch": 3, "attached": {"config_version": 1, "epoch": 1}});
    let volumes: serde_json::Map<_, _> = ended.iter().map(|id| (id.to_string(), record.clone())).collect();
    let file = serde_json::json!({"version": 1, "volumes": volumes});
    fs::write(agent.temp.path().join("state/pantry.json"), file.to_string()).unwrap();
    agent.start();
    let page = agent.eventually(async || agent.client.pantry_volumes().await).await;
    assert!(page.items.iter().all(|volume| volume.state == PantryVolumeState::Ended));
    assert_eq!(page.items.len(), ATTACHED_MAX);
    is(put(&agent, &request, Activate::Now).await, Code::PantryVolumesFull);
    agent.client.delete_pantry_volume(ended[7], 3).await.unwrap();
    put(&agent, &request, Activate::Now).await.unwrap();
    assert_eq!(agent.client.pantry_volumes().await.unwrap().items.len(), ATTACHED_MAX);
}

#[tokio::test]
async fn whoever_has_no_token_is_not_heard() {
    let agent = Agent::served(3).await;
    let Made { request, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    let nobody = SledClient::new(&format!("http://{}", agent.address()), &ClientOptions::default()).unwrap();
    let query = AttachQuery { executor_epoch: 1, activate: Activate::Now };
    is(nobody.put_pantry_volume(id(&request), query, &request).await, Code::Unauthorized);
    is(nobody.pantry_volumes().await, Code::Unauthorized);
    assert_eq!(pantry_pid(&agent).await, None);
}

/// A volume of one region set, or of what that held at a snapshot, whose members are all at one address.
fn volume_at(address: SocketAddr, snapshot: Option<SnapshotId>) -> ConstructionRequest {
    let member = |incarnation| Member { region_id: RegionId::generate(), incarnation, address };
    let set = RegionSet::of(RegionSetId::generate(), BLOCKS, (1..=3).map(member).collect());
    let part = SubVolume::RegionSet(RegionSet { snapshot, ..set });
    ConstructionRequest::first(uuid::Uuid::now_v7(), 1, BLOCK, vec![part])
}

/// Puts a request whose body says whether it is activated; the status of the answer.
async fn put_saying(agent: &Agent, request: &ConstructionRequest, activate: &str, query: &str) -> String {
    let mut body = serde_json::to_value(request).unwrap();
    body["activate"] = activate.into();
    let (address, body) = (agent.address(), body.to_string());
    let message = format!(
        "PUT /pantry/volumes/{}?executor_epoch=1{query} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        request.id,
        body.len()
    );
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(message.as_bytes()).await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

#[tokio::test]
async fn whether_a_volume_is_activated_may_be_said_in_the_body() {
    let agent = Agent::served(3).await;
    let Made { request, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    assert_eq!(put_saying(&agent, &request, "never", "").await, "200");
    is(agent.client.pantry_volume(id(&request)).await, Code::PantryVolumeNotFound);
    assert_eq!(put_saying(&agent, &request, "later", "&activate=now").await, "400");
    is(agent.client.pantry_volume(id(&request)).await, Code::PantryVolumeNotFound);
    // Whoever has the volume goes on with it, as long as it is attached for later.
    let _writer = elsewhere(&agent, &request, 1);
    is_active(&agent, 1);
    let next = ConstructionRequest { epoch: 2, ..request };
    assert_eq!(put_saying(&agent, &next, "later", "").await, "200");
    assert_eq!(state(&agent, &next).await, PantryVolumeState::NotActivated);
    is_active(&agent, 1);
    assert_eq!(put_saying(&agent, &next, "now", "").await, "200");
    assert_eq!(state(&agent, &next).await, PantryVolumeState::Active);
    let wait = ["volume", "wait", "1.json", "--for", "active"];
    agent
        .eventually(async || match agent.command(&wait).status().unwrap().success() {
            true => Err("it was not fenced"),
            false => Ok(()),
        })
        .await;
}

#[tokio::test]
async fn how_fast_members_are_filled_is_said_by_each_put_and_changed_while_everything_goes_on() {
    let agent = Agent::served(3).await;
    let Made { request, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    let query = AttachQuery { executor_epoch: 1, activate: Activate::Now };
    let put_with = async |request: &ConstructionRequest, rate: serde_json::Value| {
        let mut body = serde_json::to_value(request).unwrap();
        body["repair_bytes_per_second"] = rate;
        agent.client.put_pantry_volume(id(request), query, &body).await
    };
    let told = |volume: PantryVolume| volume.status.unwrap()["repair_bytes_per_second"].clone();
    for wrong in [serde_json::json!(0), serde_json::json!(-5), serde_json::json!("1MiB")] {
        is(put_with(&request, wrong).await, Code::BadJson);
    }
    is(agent.client.pantry_volume(id(&request)).await, Code::PantryVolumeNotFound);
    let first = put_with(&request, 4096.into()).await.unwrap();
    assert_eq!(told(first.volume.unwrap()), 4096);

    let web = Web::start(content(70), &HELD).await;
    let job = agent.client.pantry_import_url(id(&request), &import_from(&web)).await.unwrap();
    // The same request with another one: it is no other request, and what runs goes on.
    for rate in [serde_json::json!(1 << 20), serde_json::Value::Null, serde_json::json!(7)] {
        let answer = put_with(&request, rate.clone()).await.unwrap();
        assert_eq!(answer.result, RequestResult::VcrMatches);
        assert_eq!(told(answer.volume.unwrap()), rate);
    }
    let older = ConstructionRequest { config_version: 0, ..request.clone() };
    is(put_with(&older, 9.into()).await, Code::PantryConflict);
    is(put_with(&request, 0.into()).await, Code::BadJson);
    assert_eq!(
        told(agent.client.pantry_volume(id(&request)).await.unwrap()),
        7,
        "what is refused changes nothing"
    );
    let without = put(&agent, &request, Activate::Now).await.unwrap();
    assert_eq!(told(without.volume.unwrap()), serde_json::Value::Null);
    web.release();
    assert_eq!(ended(&agent, &request, job.id).await.state, PantryJobState::Done);
}

#[tokio::test]
async fn members_are_come_to_from_the_address_of_the_sled() {
    let agent = Agent::served(1).await;
    let own: SocketAddr = agent.address().parse().unwrap();
    for snapshot in [None, Some(SnapshotId::generate())] {
        let members = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let request = volume_at(members.local_addr().unwrap(), snapshot);
        // Whoever comes later finds nobody.
        let come = async move {
            let mut from = Vec::new();
            // Each of three, once at least.
            while from.len() < 3 {
                from.push(members.accept().await.unwrap().1.ip());
            }
            from
        };
        let (answer, from) = tokio::join!(put(&agent, &request, Activate::Now), timeout(WAIT, come));
        assert_eq!(from.unwrap_or_else(|_| panic!("nobody comes: {answer:?}")), [own.ip(); 3]);
    }
}
