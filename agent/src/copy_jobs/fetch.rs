//! One job's work: bytes from whichever peer delivers, into the store, which alone decides whether they are the
//! artifact.
//!
//! Peers are tried in order. One that breaks off is followed by the next from the byte that was reached, so that a
//! dying peer costs no more than what it did not send. If what was put together in that way does not hash to the
//! name, some peer sent wrong bytes, and nobody can tell which: then each is tried alone, from the first byte.

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
use std::{net::IpAddr, time::Duration};

/// A peer that delivers no byte for this long is given up for the next one.
const SOURCE_IDLE_LIMIT: Duration = Duration::from_secs(10);

/// Fetches artifacts into the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Fetcher {
    store: ArtifactStore,
    source_address: IpAddr,
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
    /// Fetches into this store, from this address.
    #[must_use]
    pub fn new(store: ArtifactStore, source_address: IpAddr) -> Fetcher {
        Fetcher { store, source_address }
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
        let mut failed = match self.attempt(hash, depots, progress).await {
            Ok(result) => return Ended::succeeded(result),
            Err(failed) => failed,
        };
        if matches!(failed, Failed::WrongBytes(_)) && depots.len() > 1 {
            for depot in depots {
                match self.attempt(hash, std::slice::from_ref(depot), progress).await {
                    Ok(result) => return Ended::succeeded(result),
                    Err(Failed::Store(error)) => return Ended::of_store(&error),
                    Err(other) => failed = other,
                }
            }
        }
        match failed {
            Failed::Store(error) => Ended::of_store(&error),
            Failed::WrongBytes(detail) => Ended::failed(Problem::new(Code::SourceFailed, detail)),
            Failed::Sources(said) => Ended::failed(Problem::new(Code::SourceFailed, said.join("; "))),
        }
    }

    /// One walk over the sources, each going on where the one before broke off.
    async fn attempt(
        &self,
        hash: ArtifactHash,
        depots: &[DepotClient],
        progress: Progress<'_>,
    ) -> Result<PutArtifactResult, Failed> {
        let mut writer: Option<ArtifactWriter> = None;
        let mut said = Vec::new();
        for depot in depots {
            match self.read_from(hash, depot, &mut writer, progress).await {
                Ok(()) => {
                    let writer = writer.take().expect("a source that delivered has a writer");
                    return finish(writer, depot).await;
                }
                Err(Broken::Store(error)) => return Err(Failed::Store(error)),
                Err(Broken::Source(reason)) => said.push(reason),
            }
        }
        Err(Failed::Sources(said))
    }

    /// Reads from one source to the end of the artifact.
    async fn read_from(
        &self,
        hash: ArtifactHash,
        depot: &DepotClient,
        writer: &mut Option<ArtifactWriter>,
        progress: Progress<'_>,
    ) -> Result<(), Broken> {
        let start = writer.as_ref().map_or(0, ArtifactWriter::bytes_written);
        let body = depot.get(&hash, start).await.map_err(|error| Broken::Source(chain(&error)))?;
        let total = body.total_bytes;
        let name = depot.base_url().to_owned();
        // A depot that does not know ranges sends everything again.
        let mut skip = start - body.offset;
        let writer = match writer {
            Some(writer) => writer,
            None => writer.insert(self.open_writer(hash, total).await.map_err(Broken::Store)?),
        };
        progress(start, total, &name);
        let mut stream = std::pin::pin!(body.into_stream());
        while let Some(piece) = stream.next().await {
            let mut piece = piece.map_err(|error| Broken::Source(chain(&error)))?;
            let skipped = skip.min(piece.len() as u64);
            skip -= skipped;
            let piece = piece.split_off(usize::try_from(skipped).expect("no more than the piece's length"));
            writer.write(piece).await.map_err(Broken::Store)?;
            progress(writer.bytes_written(), total, &name);
            fault_points::reach("copy.piece").await;
        }
        match total {
            Some(total) if writer.bytes_written() < total => {
                Err(Broken::Source(format!("{name} ended after {} of {total} bytes", writer.bytes_written())))
            }
            _ => Ok(()),
        }
    }

    /// The config may have moved on since the job was asked for; what counts is whether it still wants the artifact.
    async fn open_writer(&self, hash: ArtifactHash, size: Option<u64>) -> Result<ArtifactWriter, StoreError> {
        let generation = self.store.config().ok_or(StoreError::NoConfig)?.generation;
        self.store.writer(hash, generation, size).await
    }
}

/// Why a source was left.
enum Broken {
    /// The store's trouble: other sources would not help.
    Store(StoreError),
    /// The source's trouble.
    Source(String),
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
