//! One job's work: bytes from whichever peer delivers, into the store, which alone decides whether they are the
//! artifact.
//!
//! Peers are tried in order. One that breaks off is followed by the next from the byte that was reached, so that a
//! dying peer costs no more than what it did not send. If what was put together in that way is not the artifact, or if
//! peers disagree about its length, some peer is wrong, and nobody can tell which: then each is tried alone, from the
//! first byte.
//!
//! A peer is believed nothing. One that announces more than an artifact may have is left at once, one that does not
//! end is left there; and one that announces more than the disks have room for may be lying, so the next is asked
//! before the job fails for want of space.

use crate::http::{problems, wire};
use api_client::{ClientError, ClientOptions};
use artifact_store::{ArtifactStore, ArtifactWriter, ErrorClass, StoreError};
use futures::StreamExt;
use ids::ArtifactHash;
use problem::{Code, Problem, chain};
use sled_client::{
    DepotClient,
    artifacts::{ArtifactJobState, PutArtifactResult},
};
use std::{collections::VecDeque, net::IpAddr, time::Duration};

/// A peer that delivers no byte for this long is given up for the next one.
const SOURCE_IDLE_LIMIT: Duration = Duration::from_secs(10);

/// How often one source that is busy is asked within a walk. Others are asked meanwhile.
const BUSY_TRIES_MAX: u32 = 6;

/// The longest pause that a busy source may ask for.
const BUSY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Fetches artifacts into the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fetcher {
    store: ArtifactStore,
    source_address: IpAddr,
    artifact_bytes_max: u64,
}

/// How a job ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) state: ArtifactJobState,
    pub(super) result: Option<PutArtifactResult>,
    pub(super) error: Option<Problem>,
}

/// Tells bytes done, bytes in all, and the source.
pub(super) type Progress<'a> = &'a (dyn Fn(u64, Option<u64>, &str) + Send + Sync);

/// Why one attempt brought nothing.
enum Failed {
    /// The store refuses or cannot.
    Store(StoreError),
    /// What came is not the artifact.
    WrongBytes(String),
    /// No source delivered to the end; what each said.
    Sources(Vec<String>),
}

impl Fetcher {
    /// Fetches artifacts of at most so many bytes into this store, from this address.
    #[must_use]
    pub fn new(store: ArtifactStore, source_address: IpAddr, artifact_bytes_max: u64) -> Fetcher {
        Fetcher { store, source_address, artifact_bytes_max }
    }

    /// Clients of the depots at these base URLs.
    pub(super) fn depots(&self, sources: &[String]) -> Result<Vec<DepotClient>, ClientError> {
        let options = ClientOptions {
            token: None,
            source_address: Some(self.source_address),
            read_idle_timeout: Some(SOURCE_IDLE_LIMIT),
        };
        sources.iter().map(|source| DepotClient::new(source, &options)).collect()
    }

    pub(super) async fn fetch(
        &self,
        hash: ArtifactHash,
        depots: &[DepotClient],
        progress: Progress<'_>,
    ) -> Ended {
        let mut outcome = self.attempt(hash, depots, progress).await;
        if matches!(outcome, Err(Failed::WrongBytes(_))) && depots.len() > 1 {
            outcome = self.attempt_alone(hash, depots, progress).await;
        }
        match outcome {
            Ok(result) => Ended::succeeded(result),
            Err(Failed::Store(error)) => Ended::of_store(&error),
            Err(Failed::WrongBytes(detail)) => Ended::failed(Problem::new(Code::SourceFailed, detail)),
            Err(Failed::Sources(said)) => Ended::failed(Problem::new(Code::SourceFailed, said.join("; "))),
        }
    }

    /// Each source by itself, from the first byte, until one delivers.
    async fn attempt_alone(
        &self,
        hash: ArtifactHash,
        depots: &[DepotClient],
        progress: Progress<'_>,
    ) -> Result<PutArtifactResult, Failed> {
        let mut said = Vec::new();
        let mut no_room = None;
        for depot in depots {
            match self.attempt(hash, std::slice::from_ref(depot), progress).await {
                Ok(result) => return Ok(result),
                Err(Failed::Store(error)) if is_no_room(&error) => no_room = Some(error),
                Err(Failed::Store(error)) => return Err(Failed::Store(error)),
                Err(Failed::WrongBytes(detail)) => said.push(detail),
                Err(Failed::Sources(reasons)) => said.extend(reasons),
            }
        }
        Err(no_room.map_or(Failed::Sources(said), Failed::Store))
    }

    /// One walk over the sources, each going on where the one before broke off. One that is busy is asked again after the
    /// others; to be busy is no failure, and says nothing about what it has.
    async fn attempt(
        &self,
        hash: ArtifactHash,
        depots: &[DepotClient],
        progress: Progress<'_>,
    ) -> Result<PutArtifactResult, Failed> {
        let mut received: Option<Received> = None;
        let mut said = Vec::new();
        let mut no_room = None;
        let mut busy = 0;
        let mut walk: VecDeque<(&DepotClient, u32)> = depots.iter().map(|depot| (depot, 1)).collect();
        while let Some((depot, tries)) = walk.pop_front() {
            match self.read_from(hash, depot, &mut received, progress).await {
                Ok(()) => {
                    let received = received.take().expect("a source that delivered has a writer");
                    return finish(received.writer, depot).await;
                }
                Err(Broken::Store(error)) if is_no_room(&error) => {
                    received = None;
                    no_room = Some(error);
                }
                Err(Broken::Store(error)) => return Err(Failed::Store(error)),
                Err(Broken::Wrong(detail)) => return Err(Failed::WrongBytes(detail)),
                Err(Broken::Busy { pause, .. }) if tries < BUSY_TRIES_MAX => {
                    walk.push_back((depot, tries + 1));
                    busy += 1;
                    if busy >= walk.len() {
                        busy = 0;
                        tokio::time::sleep(pause).await;
                    }
                }
                Err(Broken::Busy { reason, .. } | Broken::Source(reason)) => said.push(reason),
            }
        }
        Err(no_room.map_or(Failed::Sources(said), Failed::Store))
    }

    /// Reads from one source to the end of the artifact.
    async fn read_from(
        &self,
        hash: ArtifactHash,
        depot: &DepotClient,
        received: &mut Option<Received>,
        progress: Progress<'_>,
    ) -> Result<(), Broken> {
        let name = depot.base_url();
        let start = received.as_ref().map_or(0, |received| received.writer.bytes_written());
        let body = depot.get(&hash, start).await.map_err(|error| broken_read(&error))?;
        let total = body.total_bytes;
        self.check_length(name, total, received.as_ref())?;
        // A depot that does not know ranges sends everything again.
        let mut skip = start - body.offset;
        let received = match received {
            Some(received) => received,
            None => received.insert(Received {
                writer: self.open_writer(hash, total).await.map_err(Broken::Store)?,
                announced: total,
            }),
        };
        let writer = &mut received.writer;
        progress(start, total, name);
        let mut stream = std::pin::pin!(body.into_stream());
        while let Some(piece) = stream.next().await {
            let mut piece = piece.map_err(|error| Broken::Source(chain(&error)))?;
            let skipped = skip.min(piece.len() as u64);
            skip -= skipped;
            let piece = piece.split_off(usize::try_from(skipped).expect("no more than the piece's length"));
            if writer.bytes_written() + piece.len() as u64 > self.artifact_bytes_max {
                return Err(Broken::Wrong(self.too_long(name, "sends")));
            }
            writer.write(piece).await.map_err(|error| broken_write(name, error))?;
            progress(writer.bytes_written(), total, name);
            fault_points::reach("copy.piece").await;
        }
        match total {
            Some(total) if writer.bytes_written() < total => {
                Err(Broken::Source(format!("{name} ended after {} of {total} bytes", writer.bytes_written())))
            }
            _ => Ok(()),
        }
    }

    /// Holds the length that a source announces against the limit, and against what an earlier source announced.
    fn check_length(
        &self,
        name: &str,
        total: Option<u64>,
        received: Option<&Received>,
    ) -> Result<(), Broken> {
        let Some(total) = total else { return Ok(()) };
        if total > self.artifact_bytes_max {
            return Err(Broken::Source(self.too_long(name, "announces")));
        }
        match received.and_then(|received| received.announced) {
            Some(announced) if announced != total => Err(Broken::Wrong(format!(
                "{name} announces {total} bytes, and a source before it announced {announced}"
            ))),
            _ => Ok(()),
        }
    }

    fn too_long(&self, name: &str, does: &str) -> String {
        format!("{name} {does} more than the {} bytes that an artifact may have", self.artifact_bytes_max)
    }

    /// The config may have moved on since the job was asked for; what counts is whether it still wants the artifact.
    async fn open_writer(&self, hash: ArtifactHash, size: Option<u64>) -> Result<ArtifactWriter, StoreError> {
        let generation = self.store.config().ok_or(StoreError::NoConfig)?.generation;
        self.store.writer(hash, generation, size).await
    }
}

/// What has come so far.
struct Received {
    writer: ArtifactWriter,
    /// The length that the first source announced.
    announced: Option<u64>,
}

/// Why a source was left.
enum Broken {
    /// The store's trouble: other sources would not help, unless it is about room.
    Store(StoreError),
    /// The source's trouble.
    Source(String),
    /// None: it has others to serve first.
    Busy {
        /// When to come back.
        pause: Duration,
        /// What it said.
        reason: String,
    },
    /// Some source's trouble, this one's or an earlier one's.
    Wrong(String),
}

fn is_no_room(error: &StoreError) -> bool {
    error.class() == ErrorClass::NoSpace
}

/// A peer whose copy ends before the byte that was reached disagrees with the peers before it.
fn broken_read(error: &ClientError) -> Broken {
    if error.is(Code::RangeNotSatisfiable) {
        Broken::Wrong(chain(error))
    } else if error.is(Code::TooManyRequests) {
        let seconds = error.problem().and_then(|problem| problem.retry_after_seconds).unwrap_or(1);
        let pause = Duration::from_secs(u64::from(seconds)).min(BUSY_PAUSE_MAX);
        Broken::Busy { pause, reason: chain(error) }
    } else {
        Broken::Source(chain(error))
    }
}

/// More bytes than the writer was told of are wrong bytes; anything else is the store's trouble.
fn broken_write(name: &str, error: StoreError) -> Broken {
    match error.class() {
        ErrorClass::LengthMismatch => Broken::Wrong(format!("{name} sent other bytes: {error}")),
        _ => Broken::Store(error),
    }
}

async fn finish(writer: ArtifactWriter, depot: &DepotClient) -> Result<PutArtifactResult, Failed> {
    match writer.finish().await {
        Ok(report) => Ok(wire::write_report(report)),
        Err(error) => match error.class() {
            ErrorClass::DigestMismatch | ErrorClass::LengthMismatch => {
                Err(Failed::WrongBytes(format!("{} sent other bytes: {error}", depot.base_url())))
            }
            _ => Err(Failed::Store(error)),
        },
    }
}

impl Ended {
    fn succeeded(result: PutArtifactResult) -> Ended {
        Ended { state: ArtifactJobState::Succeeded, result: Some(result), error: None }
    }

    fn failed(error: Problem) -> Ended {
        Ended { state: ArtifactJobState::Failed, result: None, error: Some(error) }
    }

    pub(super) fn cancelled(detail: &str) -> Ended {
        let error = Problem::new(Code::Cancelled, detail);
        Ended { state: ArtifactJobState::Cancelled, result: None, error: Some(error) }
    }

    fn of_store(error: &StoreError) -> Ended {
        match error.class() {
            ErrorClass::NotInConfig | ErrorClass::NoConfig => Ended::cancelled(&error.to_string()),
            _ => Ended::failed(*problems::of_store(error).0),
        }
    }
}
