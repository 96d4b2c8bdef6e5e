//! Fetching one artifact from the depots of the sleds that hold it.
//!
//! No depot is believed: every byte is hashed on its way to the sink, and the sink becomes visible only when the hash
//! is the artifact's name.
//!
//! ```text
//!  next holder ──► GET from `offset` ──► bytes: hash, write, offset grows ──► size reached ──► hash right ──► done
//!      ▲  ▲                                   │ cut off, silent, refused            │
//!      │  └──────── offset is kept ◄──────────┘                                     │ hash wrong
//!      └─────────── start over from 0; a holder that sent all of it is not asked again ◄┘
//! ```
//!
//! A holder is asked at most `TRIES_PER_HOLDER` times, so that this ends. Where the bytes go, and what a crash leaves
//! there, is the [`sink`](crate::sink)'s business.

use crate::{
    progress::{Display, Meter, Phase, Sample},
    render::{
        failure::{chain, root_cause},
        words::size,
    },
    sink::{Sink, SinkError},
    upload_source::hexadecimal,
};
use bytes::Bytes;
use futures::StreamExt;
use nexus_client::{
    ClientError, ClientOptions,
    releases::{Artifact, ArtifactHolder},
};
use sha2::{Digest, Sha256};
use sled_client::DepotClient;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use thiserror::Error;

/// A second try of each holder rides out a restart; more would hide that something is wrong.
const TRIES_PER_HOLDER: usize = 2;

/// Why an artifact could not be fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// The bytes could not be put where they are wanted.
    #[error(transparent)]
    Sink(#[from] SinkError),
    /// No sled holds it.
    #[error("no sled holds a verified copy of {artifact} yet")]
    NoHolders {
        /// Its name and version.
        artifact: String,
    },
    /// No sled that holds it could deliver.
    #[error("none of the sleds that hold {artifact} could deliver it: {}", failures.join("; "))]
    AllHoldersFailed {
        /// Its name and version.
        artifact: String,
        /// Each try, with the sled's name.
        failures: Vec<String>,
    },
}

impl FetchError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            FetchError::Sink(error) => error.hint(),
            FetchError::NoHolders { .. } => Some("see how far it is: sledctl artifact matrix".to_owned()),
            FetchError::AllHoldersFailed { .. } => Some("see what the sleds do: sledctl status".to_owned()),
        }
    }
}

/// Why one holder did not deliver.
#[derive(Debug, Error)]
enum HolderError {
    #[error(transparent)]
    Call(#[from] ClientError),
    #[error("says it has {told} bytes where {expected} were expected")]
    Length { told: u64, expected: u64 },
    #[error("sent more than the {expected} bytes expected")]
    TooLong { expected: u64 },
    #[error("stopped after {offset} of {expected} bytes")]
    CutOff { offset: u64, expected: u64 },
    #[error("the bytes hash to {found}")]
    Digest { found: String },
}

impl HolderError {
    /// What happened, short enough to stand beside others. Between a call and the reason why it broke off stand
    /// layers that say nothing.
    fn words(&self) -> String {
        match self {
            HolderError::Call(error @ ClientError::Transport { .. }) => root_cause(error),
            other => chain(other),
        }
    }
}

/// What went wrong with one try: the holder, which leaves the others, or the sink, which ends it all.
enum TryError {
    Holder(HolderError),
    Sink(SinkError),
}

impl From<SinkError> for TryError {
    fn from(error: SinkError) -> TryError {
        TryError::Sink(error)
    }
}

impl From<HolderError> for TryError {
    fn from(error: HolderError) -> TryError {
        TryError::Holder(error)
    }
}

/// One artifact on its way.
struct Fetch<'a> {
    artifact: &'a Artifact,
    sink: Sink,
    hasher: Sha256,
    offset: u64,
    /// Who sent the bytes from 0 to `offset`.
    contributors: BTreeSet<usize>,
    /// Who sent bytes that were not the artifact's.
    rejected: BTreeSet<usize>,
    display: Display,
    meter: Meter,
    started: Instant,
}

/// Fetches the artifact into the sink; gives the names of the sleds that it came from.
pub async fn fetch(artifact: &Artifact, sink: Sink, display: Display) -> Result<Vec<String>, FetchError> {
    let mut fetch = Fetch {
        meter: Meter::new(sample(0, artifact.size, ""), Duration::ZERO),
        started: Instant::now(),
        hasher: Sha256::new(),
        offset: 0,
        contributors: BTreeSet::new(),
        rejected: BTreeSet::new(),
        artifact,
        sink,
        display,
    };
    if artifact.holders.is_empty() {
        return Err(FetchError::NoHolders { artifact: label(artifact) });
    }
    let mut failures = Vec::new();
    for _ in 0..TRIES_PER_HOLDER {
        for (index, holder) in artifact.holders.iter().enumerate() {
            if fetch.rejected.contains(&index) {
                continue;
            }
            match fetch.try_holder(index, holder).await {
                Ok(()) => return fetch.finish().await,
                Err(TryError::Sink(error)) => return Err(error.into()),
                Err(TryError::Holder(error)) => {
                    let failure = format!("{}: {}", holder.sled_name, error.words());
                    let offset = size(fetch.offset);
                    fetch
                        .display
                        .say(|talk| talk.note(&format!("{failure}; {offset} are here, going on elsewhere")));
                    failures.push(failure);
                }
            }
        }
    }
    Err(FetchError::AllHoldersFailed { artifact: label(artifact), failures })
}

fn label(artifact: &Artifact) -> String {
    format!("{} {}", artifact.name, artifact.version)
}

fn sample(done_bytes: u64, total_bytes: u64, from: &str) -> Sample {
    let note = if from.is_empty() { String::new() } else { format!("from {from}") };
    Sample { phase: Phase::Receiving, done_bytes, total_bytes, note }
}

impl Fetch<'_> {
    /// Reads what is still missing from one holder, and checks the whole if that completes it.
    async fn try_holder(&mut self, index: usize, holder: &ArtifactHolder) -> Result<(), TryError> {
        let expected = self.artifact.size;
        // Reads of a depot need no token, and the coordinator's is none of its business.
        let depot =
            DepotClient::new(&holder.depot_url, &ClientOptions::default()).map_err(HolderError::Call)?;
        let body = depot.get(&self.artifact.hash, self.offset).await.map_err(HolderError::Call)?;
        if body.offset != self.offset {
            // It sends everything although asked for the rest.
            self.start_over("the sled began again from the start").await?;
        }
        if let Some(told) = body.total_bytes
            && told != expected
        {
            self.rejected.insert(index);
            return Err(HolderError::Length { told, expected }.into());
        }
        self.contributors.insert(index);
        let mut pieces = std::pin::pin!(body.into_stream());
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(HolderError::Call)?;
            if self.offset + piece.len() as u64 > expected {
                self.rejected.insert(index);
                self.start_over("it is too long").await?;
                return Err(HolderError::TooLong { expected }.into());
            }
            self.take(piece, holder).await?;
        }
        if self.offset < expected {
            return Err(HolderError::CutOff { offset: self.offset, expected }.into());
        }
        self.check().await
    }

    async fn take(&mut self, piece: Bytes, holder: &ArtifactHolder) -> Result<(), SinkError> {
        self.hasher.update(&piece);
        self.offset += piece.len() as u64;
        self.sink.write(piece).await?;
        let now = self.started.elapsed();
        self.meter.observe(sample(self.offset, self.artifact.size, &holder.sled_name), now);
        self.display.show(&self.meter, now);
        Ok(())
    }

    /// Whether the bytes are the artifact; if not, the next try starts from nothing.
    async fn check(&mut self) -> Result<(), TryError> {
        let digest = self.hasher.clone().finalize();
        if digest.as_slice() == self.artifact.hash.0 {
            return Ok(());
        }
        let error = HolderError::Digest { found: hexadecimal(&digest) };
        // Only where one holder sent all of it is it known who sent the bad bytes.
        if self.contributors.len() == 1 {
            self.rejected.append(&mut self.contributors);
        }
        self.start_over(&error.to_string()).await?;
        Err(error.into())
    }

    async fn start_over(&mut self, reason: &str) -> Result<(), SinkError> {
        self.sink.start_over(reason).await?;
        self.hasher = Sha256::new();
        self.offset = 0;
        self.contributors.clear();
        Ok(())
    }

    async fn finish(self) -> Result<Vec<String>, FetchError> {
        self.sink.finish().await?;
        let name = |&index: &usize| self.artifact.holders[index].sled_name.clone();
        Ok(self.contributors.iter().map(name).collect())
    }
}
