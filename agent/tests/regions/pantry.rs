//! Volumes that a real agent's Pantry holds, on regions that its own Downstairs serve: attached, filled, exported, and who may.

use crate::{
    agent::{Agent, Owned, TOKEN},
    set::{self, Made},
    web::{Manner, Web},
};
use camino::Utf8PathBuf;
use daemon::state_lock::{self, Holding};
use futures::stream;
use ids::{ArtifactHash, JobId, RegionId, RegionSetId, SnapshotId, VolumeId};
use problem::Code;
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use sled_agent::pantry::records::ATTACHED_MAX;
use sled_client::{
    ClientError, ClientOptions, SledClient,
    pantry::{
        Activate, AttachAnswer, AttachQuery, ExportRequest, Exported, ImportQuery, ImportRequest, PantryJob,
        PantryJobKind, PantryJobState, PantryState, PantryVolumeState, RequestResult, ScrubRequest,
    },
    regions::RegionMember,
};
use std::{
    fs, io,
    net::SocketAddr,
    process::{Command, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};
use volume_pantry::VOLUMES_MAX;
use volume_repair::{ConstructionRequest, Member, RegionSet, SubVolume};

const BLOCK: u32 = 4096;

/// Blocks of a volume: 4 MiB.
const BLOCKS: u64 = 1024;
const SIZE: usize = BLOCK as usize * BLOCKS as usize;

/// Long enough for whatever is waited for.
const WAIT: Duration = Duration::from_secs(20);

/// A web server that is held in the middle of the content, as often as it is asked for the rest.
const HELD: [Manner; 8] = [Manner::HeldAt(2_500_000); 8];

fn id(request: &ConstructionRequest) -> VolumeId {
    VolumeId(request.id)
}

async fn put(
    agent: &Agent,
    request: &ConstructionRequest,
    activate: Activate,
) -> Result<AttachAnswer, ClientError> {
    put_as(agent, request, activate, 1).await
}

async fn put_as(
    agent: &Agent,
    request: &ConstructionRequest,
    activate: Activate,
    executor_epoch: u64,
) -> Result<AttachAnswer, ClientError> {
    agent.client.put_pantry_volume(id(request), AttachQuery { executor_epoch, activate }, request).await
}

/// A volume that is attached, and active.
async fn attached(agent: &Agent) -> ConstructionRequest {
    let Made { request, .. } = set::make(agent, BLOCK, BLOCKS).await;
    let answer = put(agent, &request, Activate::Now).await.unwrap();
    assert_eq!(answer.result, RequestResult::VcrMatches);
    let volume = answer.volume.unwrap();
    assert_eq!((volume.state, volume.size_bytes), (PantryVolumeState::Active, Some(SIZE as u64)));
    request
}

async fn state(agent: &Agent, request: &ConstructionRequest) -> PantryVolumeState {
    agent.client.pantry_volume(id(request)).await.unwrap().state
}

fn code<T: std::fmt::Debug>(answer: Result<T, ClientError>) -> String {
    let error = answer.expect_err("it is refused");
    error.problem().unwrap_or_else(|| panic!("{error:?}")).code.clone()
}

fn is(answer: Result<impl std::fmt::Debug, ClientError>, expected: Code) {
    assert_eq!(code(answer), expected.name());
}

/// Bytes that say where they are, with zeros in between.
fn content(seed: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> =
        (0..SIZE as u64 / 8).flat_map(|word| (word * 8 + (seed << 48)).to_le_bytes()).collect();
    bytes[1 << 20..3 << 20].fill(0);
    bytes
}

fn sha256(bytes: &[u8]) -> ArtifactHash {
    ArtifactHash(Sha256::digest(bytes).into())
}

fn whole() -> ImportQuery {
    ImportQuery { executor_epoch: 1, job_id: None, size_bytes: None, sha256: None }
}

async fn import(
    agent: &Agent,
    request: &ConstructionRequest,
    query: &ImportQuery,
    bytes: &[u8],
) -> Result<PantryJob, ClientError> {
    let pieces: Vec<io::Result<bytes::Bytes>> =
        bytes.chunks(100_000).map(|piece| Ok(bytes::Bytes::copy_from_slice(piece))).collect();
    let body = stream::iter(pieces);
    agent.client.pantry_import(id(request), query, bytes.len() as u64, body).await
}

async fn uri(agent: &Agent, request: &ConstructionRequest, read_only: bool) -> Result<String, ClientError> {
    let order = ExportRequest { executor_epoch: 1, read_only };
    agent.client.pantry_export(id(request), &order).await.map(|answer| answer.uri)
}

/// What the volume holds.
async fn read(agent: &Agent, request: &ConstructionRequest) -> Vec<u8> {
    let uri = uri(agent, request, true).await.unwrap();
    let copy = agent.temp.path().join("copy");
    let done = Command::new("nbdcopy").arg(&uri).arg(&copy).status().expect("nbdcopy is there");
    assert!(done.success());
    fs::read(copy).unwrap()
}

async fn ended(agent: &Agent, request: &ConstructionRequest, job: JobId) -> PantryJob {
    let job = agent.client.pantry_job(id(request), job, WAIT).await.unwrap();
    assert!(job.state.is_terminal(), "{job:?}");
    job
}

/// The files of volumes that the Pantry has left.
fn sockets(agent: &Agent) -> Vec<String> {
    let entries = fs::read_dir(agent.temp.path().join("state/pantry")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".nbd")).collect()
}

async fn pantry_pid(agent: &Agent) -> Option<u32> {
    agent.client.pantry_volumes().await.unwrap().pantry.unwrap().pid
}

/// An export by hand, with this epoch.
fn elsewhere(agent: &Agent, request: &ConstructionRequest, epoch: u32) -> Owned {
    let (file, control) = (format!("{epoch}.json"), format!("{epoch}.control"));
    fs::write(agent.temp.path().join(&file), serde_json::to_vec(request).unwrap()).unwrap();
    let (epoch, listen) = (epoch.to_string(), format!("unix:{}/{epoch}.nbd", agent.temp.path()));
    let export = ["volume", "export", "--volume", &file, "--epoch", &epoch, "--listen", &listen, "--control"];
    let arguments: Vec<&str> = export.into_iter().chain([&*control]).collect();
    Owned(agent.command(&arguments).spawn().unwrap())
}

/// Waits until an export by hand is active.
fn is_active(agent: &Agent, epoch: u32) {
    let file = format!("{epoch}.json");
    let wait = ["volume", "wait", &file, "--for", "active"];
    assert!(agent.command(&wait).status().unwrap().success(), "{}", agent.log());
}

#[tokio::test]
async fn a_volume_is_attached_once_by_equal_requests_and_nothing_is_left_when_it_is_detached() {
    let agent = Agent::served(3, 10).await;
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
        assert!(agent.client.pantry_volumes().await.unwrap().items.is_empty() && sockets(&agent).is_empty());
    }
    is(import(&agent, &request, &whole(), &content(1)).await, Code::PantryVolumeNotFound);
    // Whoever wrote it has that right no more.
    is(put(&agent, &request, Activate::Now).await, Code::PantryFenced);
    let next = ConstructionRequest { epoch: 2, ..request };
    assert_eq!(put(&agent, &next, Activate::Now).await.unwrap().result, RequestResult::VcrMatches);
}

/// A volume of one region set, or of what that held at a snapshot, whose members are all at one address.
fn volume_at(address: SocketAddr, snapshot: Option<SnapshotId>) -> ConstructionRequest {
    let member = |incarnation| Member { region_id: RegionId::generate(), incarnation, address };
    let set = RegionSet {
        id: RegionSetId::generate(),
        blocks_per_extent: BLOCKS,
        extent_count: 1,
        members: (1..=3).map(member).collect(),
        leaving: Vec::new(),
        gone: Vec::new(),
        encryption: None,
        snapshot,
    };
    ConstructionRequest {
        id: uuid::Uuid::now_v7(),
        config_version: 1,
        epoch: 1,
        block_size: BLOCK,
        sub_volumes: vec![SubVolume::RegionSet(set)],
        read_only_parent: None,
    }
}

#[tokio::test]
async fn members_are_come_to_from_the_address_of_the_sled() {
    let agent = Agent::served(1, 25).await;
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

#[tokio::test]
async fn a_coordinator_that_was_replaced_changes_nothing_also_after_the_agent_was_killed() {
    let mut agent = Agent::served(3, 11).await;
    let Made { request, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    put_as(&agent, &request, Activate::Now, 7).await.unwrap();
    for _ in 0..2 {
        is(put_as(&agent, &request, Activate::Now, 6).await, Code::StaleEpoch);
        is(agent.client.delete_pantry_volume(id(&request), 6).await, Code::StaleEpoch);
        let stale = ImportQuery { executor_epoch: 6, ..whole() };
        is(import(&agent, &request, &stale, &content(1)).await, Code::StaleEpoch);
        let order = ExportRequest { executor_epoch: 6, read_only: true };
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
async fn a_newer_request_replaces_a_member_of_a_volume_that_is_in_use() {
    let agent = Agent::served(4, 12).await;
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
    let next = |set: &RegionSet| ConstructionRequest { config_version: 3, ..next(set) };
    let completed = agent
        .eventually(async || match put(&agent, &next(&set), Activate::Now).await {
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
async fn an_import_that_is_too_long_too_short_or_stops_is_told_so_by_code() {
    let agent = Agent::served(3, 14).await;
    let request = attached(&agent).await;
    let (all, first) = (content(4), content(5));
    import(&agent, &request, &whole(), &first).await.unwrap();
    let too_long = [&all[..], &[0; BLOCK as usize]].concat();
    is(import(&agent, &request, &whole(), &too_long).await, Code::ImportTooLong);
    is(import(&agent, &request, &whole(), &all[BLOCK as usize..]).await, Code::ImportTooShort);
    let sized = |size_bytes| ImportQuery { size_bytes: Some(size_bytes), ..whole() };
    is(import(&agent, &request, &sized(8192), &all[..4096]).await, Code::ImportTooShort);
    is(import(&agent, &request, &sized(4096), &all[..8192]).await, Code::ImportTooLong);
    is(import(&agent, &request, &sized(5000), &all[..5000]).await, Code::ImportSize);
    is(import(&agent, &request, &sized(too_long.len() as u64), &too_long).await, Code::ImportTooLong);
    assert!(agent.client.pantry_jobs(id(&request)).await.unwrap().items.len() == 1, "none has begun");
    assert_eq!(chunked(&agent, &request).await, "411");
    assert!(read(&agent, &request).await == first, "nothing has changed");

    // It stops: its sender is gone in the middle, and the job says how far it came.
    let stops = JobId::generate();
    let half = 2_500_000;
    stop_in_the_middle(&agent, &request, stops, &all[..half]).await;
    let job = ended(&agent, &request, stops).await;
    assert_eq!((job.state, job.error.unwrap().code), (PantryJobState::Failed, "import_stopped".to_owned()));
    let written = usize::try_from(job.bytes_done).unwrap();
    assert!(written > 1 << 20 && written <= half && job.bytes == SIZE as u64, "{written}");
    let mixed = read(&agent, &request).await;
    assert!(mixed[..written] == all[..written] && mixed[written..] == first[written..]);

    // Other bytes than were said.
    let wrong = ImportQuery { sha256: Some(sha256(&first)), job_id: Some(JobId::generate()), ..whole() };
    is(import(&agent, &request, &wrong, &all).await, Code::DigestMismatch);
    // Whole; a part; and again under the same id, of which nothing is read.
    let right = ImportQuery { sha256: Some(sha256(&all)), job_id: Some(JobId::generate()), ..whole() };
    let job = import(&agent, &request, &right, &all).await.unwrap();
    assert_eq!((job.state, job.sha256, job.bytes_done), (PantryJobState::Done, right.sha256, SIZE as u64));
    let again = import(&agent, &request, &right, &first).await.unwrap();
    assert_eq!((again.id, again.ended), (job.id, job.ended));
    is(import(&agent, &request, &ImportQuery { sha256: None, ..right }, &all).await, Code::PantryJobConflict);
    assert!(read(&agent, &request).await == all);
    import(&agent, &request, &sized(8192), &first[..8192]).await.unwrap();
    assert!(read(&agent, &request).await == [&first[..8192], &all[8192..]].concat());
}

/// The head of an import, as it is sent.
fn head(agent: &Agent, request: &ConstructionRequest, query: &str, length: &str) -> (String, Vec<u8>) {
    let address = agent.address();
    let head = format!(
        "PUT /pantry/volumes/{}/import?executor_epoch=1{query} HTTP/1.1\r\nhost: {address}\r\n\
         authorization: Bearer {TOKEN}\r\n{length}\r\n\r\n",
        request.id
    );
    (address, head.into_bytes())
}

/// Sends an import that does not say how long it is; the status of the answer.
async fn chunked(agent: &Agent, request: &ConstructionRequest) -> String {
    let (address, head) = head(agent, request, "", "transfer-encoding: chunked");
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&head).await.unwrap();
    socket.write_all(b"1000\r\n").await.unwrap();
    let mut answer = [0; 12];
    socket.read_exact(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer[9..]).into_owned()
}

/// Sends the beginning of an import of all bytes; once the job has some of them in, the sender is gone.
async fn stop_in_the_middle(agent: &Agent, request: &ConstructionRequest, job: JobId, bytes: &[u8]) {
    let length = format!("content-length: {SIZE}");
    let (address, head) = head(agent, request, &format!("&job_id={job}"), &length);
    let mut socket = TcpStream::connect(address).await.unwrap();
    socket.write_all(&[&head, bytes].concat()).await.unwrap();
    agent
        .eventually(async || match agent.client.pantry_job(id(request), job, Duration::ZERO).await {
            Ok(job) if job.bytes_done > 0 => Ok(()),
            other => Err(other),
        })
        .await;
}

#[tokio::test]
async fn what_a_web_server_has_is_imported_also_if_it_breaks_off_and_refused_if_it_is_something_else() {
    let agent = Agent::served(3, 15).await;
    let request = attached(&agent).await;
    let all = content(6);
    let order = |web: &Web| ImportRequest {
        executor_epoch: 1,
        job_id: Some(JobId::generate()),
        url: web.url.clone(),
        size_bytes: SIZE as u64,
        sha256: Some(sha256(&all)),
    };
    let run = async |web: &Web| {
        let job = agent.client.pantry_import_url(id(&request), &order(web)).await.unwrap();
        ended(&agent, &request, job.id).await
    };
    // Other lengths than were said: nothing is written.
    let before = read(&agent, &request).await;
    for (length, expected) in [(SIZE + 512, "import_too_long"), (SIZE - 4096, "import_too_short")] {
        let mut other = all.clone();
        other.resize(length, 0);
        let job = run(&Web::start(other, &[]).await).await;
        assert_eq!(
            (job.state, job.error.unwrap().code, job.bytes_done),
            (PantryJobState::Failed, expected.to_owned(), 0)
        );
    }
    let nobody =
        ImportRequest { url: "http://127.0.0.1:9/x".to_owned(), ..order(&Web::start(Vec::new(), &[]).await) };
    let job = agent.client.pantry_import_url(id(&request), &nobody).await.unwrap();
    let job = ended(&agent, &request, job.id).await;
    assert_eq!(job.error.unwrap().code, "import_source_failed");
    let ftp = ImportRequest { url: "ftp://h/x".to_owned(), ..nobody };
    is(agent.client.pantry_import_url(id(&request), &ftp).await, Code::BadRequest);
    assert!(read(&agent, &request).await == before);
    // It breaks off, and cannot be known again; or is something else by then.
    for manners in [
        [Manner::Unnamed(2_000_000), Manner::Unnamed(SIZE)],
        [Manner::BreaksOffAt(2_000_000), Manner::Changed],
    ] {
        let job = run(&Web::start(all.clone(), &manners).await).await;
        let error = job.error.unwrap();
        assert_eq!(error.code, "import_stopped");
        assert!(!error.detail.contains("secret"), "{}", error.detail);
        assert!(job.bytes_done > 0 && job.bytes_done < 2_000_000, "{}", job.bytes_done);
    }
    // It breaks off twice, and goes on where it was.
    let web =
        Web::start(all.clone(), &[Manner::BreaksOffAt(1_500_000), Manner::BreaksOffAt(3_500_000)]).await;
    let job = run(&web).await;
    assert_eq!((job.state, job.sha256), (PantryJobState::Done, Some(sha256(&all))), "{:?}", job.error);
    let asked = web.asked.lock().unwrap().clone();
    assert!(matches!(asked[..], [None, Some(_), Some(_)]), "{asked:?}");
    assert!(read(&agent, &request).await == all);
}

#[tokio::test]
async fn a_job_goes_on_while_the_agent_is_killed_and_its_process_is_found_again() {
    let mut agent = Agent::served(3, 16).await;
    let request = attached(&agent).await;
    let all = content(7);
    let web = Web::start(all.clone(), &HELD).await;
    let order = ImportRequest {
        executor_epoch: 1,
        job_id: Some(JobId::generate()),
        url: web.url.clone(),
        size_bytes: SIZE as u64,
        sha256: Some(sha256(&all)),
    };
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
    let agent = Agent::served(3, 17).await;
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
async fn exports_are_read_only_or_read_write_and_nobody_writes_beside_an_import() {
    let agent = Agent::served(3, 18).await;
    let request = attached(&agent).await;
    let all = content(10);
    let web = Web::start(all.clone(), &HELD).await;
    let order = ImportRequest {
        executor_epoch: 1,
        job_id: None,
        url: web.url.clone(),
        size_bytes: SIZE as u64,
        sha256: None,
    };
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
    let only_read = ConstructionRequest {
        id: uuid::Uuid::now_v7(),
        config_version: 1,
        epoch: 0,
        block_size: BLOCK,
        sub_volumes: vec![SubVolume::File(volume_repair::FilePart { path: file })],
        read_only_parent: None,
    };
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
    let order = ImportRequest {
        executor_epoch: 1,
        job_id: None,
        url: web.url.clone(),
        size_bytes: SIZE as u64,
        sha256: None,
    };
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

#[tokio::test]
async fn volumes_do_not_pile_up_and_calls_for_one_do_not_mix() {
    let agent = Agent::served(3, 22).await;
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
    is(put(&agent, &one_more, Activate::Now).await, Code::PantryVolumesFull);
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
    let mut agent = Agent::served(3, 24).await;
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
async fn a_directory_that_somebody_else_has_is_left_to_him() {
    let agent = Agent::served(3, 23).await;
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

#[tokio::test]
async fn whoever_has_no_token_is_not_heard() {
    let agent = Agent::served(3, 21).await;
    let Made { request, .. } = set::make(&agent, BLOCK, BLOCKS).await;
    let nobody = SledClient::new(&format!("http://{}", agent.address()), &ClientOptions::default()).unwrap();
    let query = AttachQuery { executor_epoch: 1, activate: Activate::Now };
    is(nobody.put_pantry_volume(id(&request), query, &request).await, Code::Unauthorized);
    is(nobody.pantry_volumes().await, Code::Unauthorized);
    assert_eq!(pantry_pid(&agent).await, None);
}
