//! Volumes that a real agent's Pantry holds, on regions that its own Downstairs serve: attached, filled, exported, and who may.
//!
//! [`volumes`]: attached, changed, detached. [`imports`]: filled. [`exports`]: over NBD. [`keys`]: encrypted. [`scrubs`]: their copies compared.
//! [`jobs`]: what jobs tell of themselves. [`refusals`]: what is not done. [`parents`]: copied in. [`processes`]: who dies, and what goes on.

mod exports;
mod imports;
mod jobs;
mod keys;
mod parents;
mod processes;
mod refusals;
mod scrubs;
mod volumes;

use crate::{
    agent::{Agent, Owned, TOKEN},
    set::{self, Made},
    web::{Manner, Web},
};
use futures::stream;
use ids::{ArtifactHash, JobId, VolumeId};
use problem::Code;
use rustix::process::{Pid, Signal, kill_process};
use sha2::{Digest, Sha256};
use sled_client::{
    ClientError,
    pantry::{
        Activate, AttachAnswer, AttachQuery, ExportRequest, ImportQuery, ImportRequest, PantryJob,
        PantryVolumeState, RequestResult,
    },
};
use std::{fs, io, process::Command, time::Duration};
use volume_repair::ConstructionRequest;

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

/// An import of all of a volume from a server.
fn import_from(web: &Web) -> ImportRequest {
    let (url, size_bytes) = (web.url.clone(), SIZE as u64);
    ImportRequest { executor_epoch: 1, job_id: None, url, size_bytes, sha256: None }
}

async fn uri(agent: &Agent, request: &ConstructionRequest, read_only: bool) -> Result<String, ClientError> {
    uri_as(agent, request, read_only, 1).await
}

async fn uri_as(
    agent: &Agent,
    request: &ConstructionRequest,
    read_only: bool,
    executor_epoch: u64,
) -> Result<String, ClientError> {
    let order = ExportRequest::unix(executor_epoch, read_only);
    agent.client.pantry_export(id(request), &order).await.map(|answer| answer.uri)
}

/// What the volume holds.
async fn read(agent: &Agent, request: &ConstructionRequest) -> Vec<u8> {
    read_as(agent, request, 1).await
}

async fn read_as(agent: &Agent, request: &ConstructionRequest, executor_epoch: u64) -> Vec<u8> {
    let uri = uri_as(agent, request, true, executor_epoch).await.unwrap();
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

/// The files of volumes that the Pantry has left, without those of exports.
fn sockets(agent: &Agent) -> Vec<String> {
    left(agent).into_iter().filter(|name| name.ends_with(".nbd")).collect()
}

/// All files that the Pantry has left, but for its own.
fn left(agent: &Agent) -> Vec<String> {
    let entries = fs::read_dir(agent.temp.path().join("state/pantry")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| !["lock", "socket"].contains(&&**name)).collect()
}

async fn pantry_pid(agent: &Agent) -> Option<u32> {
    agent.client.pantry_volumes().await.unwrap().pantry.unwrap().pid
}

/// SIGKILL to the Pantry; the next one answers.
async fn pantry_was_killed(agent: &Agent) {
    let pid = pantry_pid(agent).await.unwrap();
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    agent
        .eventually(async || match agent.client.pantry_volumes().await {
            Ok(page)
                if page.pantry.as_ref().is_some_and(|pantry| pantry.pid.is_some_and(|new| new != pid)) =>
            {
                Ok(())
            }
            other => Err(other),
        })
        .await;
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

/// Waits until somebody else has taken it over.
async fn is_fenced(agent: &Agent, request: &ConstructionRequest) {
    agent
        .eventually(async || match state(agent, request).await {
            PantryVolumeState::Fenced => Ok(()),
            other => Err(other),
        })
        .await;
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
