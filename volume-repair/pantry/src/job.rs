//! One job: how far it is, and how it ended.
//!
//! ```text
//!   running ──all done, and durable──► done
//!      ├──────error──────────────────► failed
//!      └──cancelled, or detached─────► cancelled
//! ```
//!
//! All but running are terminal; the job's own thread alone moves it. A crash of the process forgets it, with its volume.

use crate::{error::PantryError, volume_io::Cut};
use ids::{ArtifactHash, JobId, RegionId};
use jiff::Timestamp;
use sled_client::pantry::{CopyScrubbed, PantryJob, PantryJobKind, PantryJobPhase, PantryJobState};
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use volume_export::CopyCompared;

/// What a job was asked for: as long as that is the same, an id means the same job.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// From the body of a call, or from a URL.
    Import { url: Option<String>, sha256: Option<ArtifactHash> },
    /// Every copy of every block.
    Scrub,
    /// What lies under the volume.
    CopyParent,
}

/// A job that is asked for.
#[derive(Clone)]
pub(crate) struct Order {
    /// The right of the coordinator that asks.
    pub(crate) executor_epoch: u64,
    /// One that is chosen here, unless said.
    pub(crate) id: Option<JobId>,
    pub(crate) wanted: Wanted,
}

/// A job.
pub(crate) struct Job {
    pub(crate) id: JobId,
    pub(crate) wanted: Wanted,
    /// Bytes to do.
    pub(crate) bytes: u64,
    done: AtomicU64,
    phase: Mutex<PantryJobPhase>,
    began: Timestamp,
    started: Instant,
    ending: watch::Sender<Option<Ending>>,
    pub(crate) cancelled: CancellationToken,
    cut: Mutex<Option<Cut>>,
    found: Mutex<BTreeMap<RegionId, CopyCompared>>,
}

/// How it ended.
#[derive(Clone)]
struct Ending {
    state: PantryJobState,
    sha256: Option<ArtifactHash>,
    error: Option<problem::Problem>,
    at: Timestamp,
    after: Duration,
}

impl Job {
    pub(crate) fn new(id: JobId, wanted: Wanted, bytes: u64) -> Job {
        let phase = match wanted {
            Wanted::Import { .. } => PantryJobPhase::AwaitingBytes,
            Wanted::Scrub => PantryJobPhase::Comparing,
            Wanted::CopyParent => PantryJobPhase::Copying,
        };
        Job {
            id,
            phase: Mutex::new(phase),
            wanted,
            bytes,
            done: AtomicU64::new(0),
            began: Timestamp::now(),
            started: Instant::now(),
            ending: watch::Sender::new(None),
            cancelled: CancellationToken::new(),
            cut: Mutex::default(),
            found: Mutex::default(),
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.ending.borrow().is_none()
    }

    /// It does this from now on.
    pub(crate) fn note_phase(&self, phase: PantryJobPhase) {
        *self.phase.lock().unwrap_or_else(PoisonError::into_inner) = phase;
    }

    /// So many bytes are done.
    pub(crate) fn note_done(&self, bytes: u64) {
        self.done.store(bytes, Ordering::Relaxed);
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// This was found in copies of more of the volume.
    pub(crate) fn note_found(&self, copies: &[CopyCompared]) {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        for copy in copies {
            found.entry(copy.region).or_insert_with(|| CopyCompared::new(copy.region)).add(copy);
        }
    }

    /// What was found until now, in the order of the regions.
    pub(crate) fn found(&self) -> Vec<CopyCompared> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Its connection, which is cut when it is cancelled. An error is that it was.
    pub(crate) fn holds(&self, cut: Cut) -> Result<(), PantryError> {
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner) = Some(cut);
        // Behind the lock: whoever cancels does so before he looks for the connection.
        if self.cancelled.is_cancelled() { Err(PantryError::Cancelled) } else { Ok(()) }
    }

    /// Asks it to end. One that has ended stays as it is.
    pub(crate) fn cancel(&self) {
        self.cancelled.cancel();
        if let Some(cut) = &*self.cut.lock().unwrap_or_else(PoisonError::into_inner) {
            cut.cut();
        }
    }

    /// It has ended; whatever happens to one that was cancelled comes from that.
    pub(crate) fn end(&self, result: Result<Option<ArtifactHash>, PantryError>) {
        let result = if self.cancelled.is_cancelled() { Err(PantryError::Cancelled) } else { result };
        *self.cut.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let (state, sha256, error) = match result {
            Ok(sha256) => (PantryJobState::Done, sha256, None),
            Err(error @ PantryError::Cancelled) => (PantryJobState::Cancelled, None, Some(error.problem())),
            Err(error) => (PantryJobState::Failed, None, Some(error.problem())),
        };
        let words = error.as_ref().map(ToString::to_string);
        tracing::info!(job = %self.id, ?state, bytes = self.done(), error = words, "a job has ended");
        let ending = Ending { state, sha256, error, at: Timestamp::now(), after: self.started.elapsed() };
        self.ending.send_replace(Some(ending));
    }

    /// Waits for its end, so long at most.
    pub(crate) async fn wait(&self, limit: Duration) {
        let mut ending = self.ending.subscribe();
        // Whether it has ended or the time is over: what is there now is the answer.
        let _ = tokio::time::timeout(limit, ending.wait_for(Option::is_some)).await;
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> PantryJob {
        // Only who has the job can drop its sender, which is whoever waits here.
        let _ = self.ending.subscribe().wait_for(Option::is_some).await;
        self.status()
    }

    pub(crate) fn status(&self) -> PantryJob {
        let ending = self.ending.borrow().clone();
        let after = ending.as_ref().map_or_else(|| self.started.elapsed(), |ending| ending.after);
        let done = self.done();
        let rate = u128::from(done) * 1000 / after.as_millis().max(1);
        PantryJob {
            id: self.id,
            kind: match self.wanted {
                Wanted::Import { .. } => PantryJobKind::Import,
                Wanted::Scrub => PantryJobKind::Scrub,
                Wanted::CopyParent => PantryJobKind::CopyParent,
            },
            state: ending.as_ref().map_or(PantryJobState::Running, |ending| ending.state),
            phase: ending.is_none().then(|| *self.phase.lock().unwrap_or_else(PoisonError::into_inner)),
            waits: None,
            bytes_done: done,
            bytes: self.bytes,
            rate: u64::try_from(rate).unwrap_or(u64::MAX),
            copies: self.found().iter().map(told).collect(),
            sha256: ending.as_ref().and_then(|ending| ending.sha256),
            error: ending.as_ref().and_then(|ending| ending.error.clone()),
            began: self.began,
            ended: ending.map(|ending| ending.at),
        }
    }
}

fn told(copy: &CopyCompared) -> CopyScrubbed {
    CopyScrubbed {
        region_id: copy.region,
        blocks: copy.blocks,
        wrong_blocks: copy.wrong,
        healed_blocks: copy.healed,
        differing_blocks: copy.differing,
        first_bad_block: copy.first_left,
    }
}
