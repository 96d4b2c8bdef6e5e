//! The jobs: which there are, where each stands, and how many may be.

use crate::copy_jobs::fetch::{Ended, Fetcher};
use ids::{ArtifactHash, Generation, JobId};
use jiff::Timestamp;
use sled_client::artifacts::{ArtifactJob, ArtifactJobState};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

/// Jobs that wait for a slot, at most. A coordinator keeps a few transfers to a sled under way; this many waiting
/// means that something asks without looking.
const QUEUED_MAX: usize = 1024;

/// Jobs that have ended and are remembered, at most.
const ENDED_MAX: usize = 1000;

/// The jobs. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CopyJobs {
    board: Arc<Mutex<Board>>,
    slots: Arc<Semaphore>,
    fetcher: Fetcher,
}

#[derive(Debug, Default)]
struct Board {
    jobs: BTreeMap<JobId, Entry>,
    /// The one job of an artifact that has not ended.
    active: BTreeMap<ArtifactHash, JobId>,
    /// Jobs that have ended, oldest first.
    ended: VecDeque<JobId>,
}

#[derive(Debug)]
struct Entry {
    status: watch::Sender<ArtifactJob>,
    cancel: CancellationToken,
}

/// A job that was not accepted.
#[derive(Debug, Error)]
pub enum JobRefused {
    /// Too many wait already.
    #[error("{QUEUED_MAX} copy jobs are waiting already")]
    TooMany,
    /// The sources can not be used.
    #[error("give 1 to {max} sources")]
    Sources {
        /// Sources at most.
        max: usize,
    },
    /// A source is no base URL.
    #[error("a source cannot be used")]
    Source(#[source] api_client::ClientError),
}

/// Sources of one job at most: more than that are not going to be tried before the coordinator knows better.
const SOURCES_MAX: usize = 16;

impl CopyJobs {
    /// Fetches at most so many at once.
    #[must_use]
    pub fn new(fetcher: Fetcher, copies_at_once: u32) -> CopyJobs {
        let slots = Arc::new(Semaphore::new(copies_at_once.max(1) as usize));
        CopyJobs { board: Arc::default(), slots, fetcher }
    }

    /// Starts a job, or joins the one that the artifact has.
    pub fn submit(
        &self,
        hash: ArtifactHash,
        generation: Generation,
        sources: &[String],
    ) -> Result<JobId, JobRefused> {
        if sources.is_empty() || sources.len() > SOURCES_MAX {
            return Err(JobRefused::Sources { max: SOURCES_MAX });
        }
        let depots = self.fetcher.depots(sources).map_err(JobRefused::Source)?;
        let mut board = self.lock();
        if let Some(active) = board.active.get(&hash) {
            return Ok(*active);
        }
        if board.active.len() >= QUEUED_MAX {
            return Err(JobRefused::TooMany);
        }
        let id = JobId::generate();
        let entry = Entry {
            status: watch::Sender::new(queued(id, hash, generation)),
            cancel: CancellationToken::new(),
        };
        let (status, cancel) = (entry.status.clone(), entry.cancel.clone());
        board.jobs.insert(id, entry);
        board.active.insert(hash, id);
        drop(board);
        let jobs = self.clone();
        tokio::spawn(async move {
            let ended = jobs.run(&status, &cancel, hash, depots).await;
            jobs.end(id, hash, &status, ended);
        });
        Ok(id)
    }

    /// Every job that is remembered, newest first.
    #[must_use]
    pub fn list(&self) -> Vec<ArtifactJob> {
        self.lock().jobs.values().rev().map(|entry| entry.status.borrow().clone()).collect()
    }

    /// Where a job stands; waits up to `wait` for its end. `None` if there is no such job.
    pub async fn get(&self, id: JobId, wait: Duration) -> Option<ArtifactJob> {
        let mut status = self.lock().jobs.get(&id)?.status.subscribe();
        // Whether it has ended or the time is over: what is there now is the answer.
        let _ = tokio::time::timeout(wait, status.wait_for(|job| job.state.is_terminal())).await;
        let job = status.borrow().clone();
        Some(job)
    }

    /// Asks a job to end; false if there is no such job. One that has ended stays as it is.
    #[must_use]
    pub fn cancel(&self, id: JobId) -> bool {
        let board = self.lock();
        let Some(entry) = board.jobs.get(&id) else { return false };
        entry.cancel.cancel();
        true
    }

    async fn run(
        &self,
        status: &watch::Sender<ArtifactJob>,
        cancel: &CancellationToken,
        hash: ArtifactHash,
        depots: Vec<sled_client::DepotClient>,
    ) -> Ended {
        let work = async {
            let _slot = self.slots.acquire().await.expect("the semaphore is never closed");
            status.send_modify(|job| {
                job.state = ArtifactJobState::Running;
                job.started_at = Some(Timestamp::now());
            });
            let started = Instant::now();
            let progress = |done: u64, total: Option<u64>, source: &str| {
                status.send_modify(|job| {
                    job.bytes_done = job.bytes_done.max(done);
                    job.bytes_total = total.or(job.bytes_total);
                    job.bytes_per_second = rate(job.bytes_done, started.elapsed());
                    if job.source.as_deref() != Some(source) {
                        job.source = Some(source.to_owned());
                    }
                });
            };
            self.fetcher.fetch(hash, &depots, &progress).await
        };
        tokio::select! {
            ended = work => ended,
            () = cancel.cancelled() => Ended::cancelled("somebody cancelled the job"),
        }
    }

    fn end(&self, id: JobId, hash: ArtifactHash, status: &watch::Sender<ArtifactJob>, ended: Ended) {
        let mut board = self.lock();
        board.active.remove(&hash);
        board.ended.push_back(id);
        while board.ended.len() > ENDED_MAX {
            if let Some(oldest) = board.ended.pop_front() {
                board.jobs.remove(&oldest);
            }
        }
        drop(board);
        status.send_modify(|job| {
            job.finished_at = Some(Timestamp::now());
            job.state = ended.state;
            job.result = ended.result;
            job.error = ended.error;
        });
        let job = status.borrow();
        tracing::info!(
            job = %id, %hash, state = ?job.state, bytes = job.bytes_done, source = job.source,
            error = job.error.as_ref().map(ToString::to_string), "copy job ended"
        );
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().expect("nothing panics while it holds the board")
    }
}

fn queued(id: JobId, hash: ArtifactHash, generation: Generation) -> ArtifactJob {
    ArtifactJob {
        id,
        hash,
        generation,
        state: ArtifactJobState::Queued,
        bytes_done: 0,
        bytes_total: None,
        bytes_per_second: 0,
        source: None,
        result: None,
        error: None,
        created_at: Timestamp::now(),
        started_at: None,
        finished_at: None,
    }
}

/// Bytes per second; 0 before a measurable time has passed.
fn rate(bytes: u64, elapsed: Duration) -> u64 {
    u64::try_from(u128::from(bytes) * 1000 / elapsed.as_millis().max(1)).unwrap_or(u64::MAX)
}
