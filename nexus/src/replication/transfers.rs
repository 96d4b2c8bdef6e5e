//! One transfer, from start to end. Transfers run outside of passes; each one that ends activates the next pass.
//!
//! ```text
//!   started ──► PUT: stream from the staged zip ───────────────► ended(copies)  │ ended(failure)
//!           └─► COPY: ask the sled, follow its job to the end ─►
//! ```
//!
//! A crash of the coordinator ends PUTs (the sled discards what it has of one) and leaves copies going: they are the
//! sled's jobs, and the next life joins or finds them.

use crate::{
    releases::StagingArea,
    replication::{
        Observed, SledClients,
        observed::{HEARTBEAT_LIMIT, TransferFailure},
        sled_clients::Purpose,
    },
};
use futures::StreamExt;
use ids::{ArtifactHash, CoordinatorId, Generation, SledId};
use nexus_database::{sleds::SledAddress, wanted::WantedArtifact};
use nexus_release::StagedZip;
use nexus_replication::How;
use nexus_tasks::{Activator, Reason};
use problem::{Code, chain};
use sled_client::{
    ClientError, ErrorClass,
    artifacts::{ArtifactJobState, CopyRequest},
};
use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio_util::task::TaskTracker;

/// A PUT whose bytes do not move for this long is given up. An idle limit: a slow sled may take as long as it needs.
const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// The slowest disk whose sync is waited for after the last byte was sent: below this the sled itself gives up.
const SYNC_BYTES_PER_SECOND_MIN: u64 = 8 << 20;

/// How often a transfer is looked at for signs of life.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// One long poll of a copy job.
const JOB_WAIT: Duration = Duration::from_secs(2);

/// Polls of a job that may fail in a row before the transfer counts as failed; the job itself may well go on.
const JOB_POLLS_FAILED_MAX: u32 = 2;

/// Starts transfers.
#[derive(Clone, Debug)]
pub struct Transfers {
    /// Where transfers are recorded.
    pub observed: Observed,
    /// Connections to sleds.
    pub clients: SledClients,
    /// Where uploaded bytes are.
    pub staging: StagingArea,
    /// Whose staging that is.
    pub coordinator_id: CoordinatorId,
    /// Whom to tell of an end.
    pub replication: Activator,
    /// The tasks that run.
    pub tracker: TaskTracker,
}

/// A transfer to start.
#[derive(Clone, Debug)]
pub struct Order {
    /// The generation under which it is wanted.
    pub generation: Generation,
    /// What travels.
    pub hash: ArtifactHash,
    /// What is known of it.
    pub artifact: WantedArtifact,
    /// Where to.
    pub target: SledId,
    /// Where that is.
    pub address: SledAddress,
    /// Where from.
    pub how: How,
    /// Depots of the sources, in the order of `how`.
    pub depots: Vec<String>,
}

impl Transfers {
    /// Starts a transfer, unless one of the same artifact to the same sled is under way.
    pub fn start(&self, order: Order) {
        let Order { hash, target, .. } = order;
        let begun = self.observed.begin_transfer(target, hash, order.how.clone(), order.artifact.size);
        let Some(transferring) = begun else { return };
        let transfers = self.clone();
        self.tracker.spawn(async move {
            let result = match &order.how {
                How::Put => transfers.put(&order).await,
                How::Copy { sources } => transfers.copy(&order, sources).await,
            };
            match &result {
                Ok(copies) => tracing::info!(%hash, sled = %target, copies, how = word(&order.how), "artifact delivered"),
                Err(failure) => {
                    tracing::warn!(%hash, sled = %target, error = failure.error, how = word(&order.how), "transfer failed");
                }
            }
            transferring.end(result);
            transfers.replication.activate(Reason::Event("transfer_ended"));
        });
    }

    async fn put(&self, order: &Order) -> Result<u32, TransferFailure> {
        fault_points::reach("replication.put").await;
        let here =
            |staged: &&nexus_database::wanted::StagedTarget| staged.coordinator_id == self.coordinator_id;
        let staged = order.artifact.staged.iter().find(here).ok_or_else(|| ours("it is not staged here"))?;
        let zip =
            StagedZip::open(&self.staging.path(&staged.file)).await.map_err(|error| ours(&chain(&error)))?;
        let bytes = zip
            .read(&staged.target, staged.entry.as_deref(), order.hash, order.artifact.size)
            .map_err(|error| ours(&chain(&error)))?;
        let client = self
            .clients
            .get(&order.address.agent_url, Purpose::Bulk)
            .map_err(|error| ours(&chain(&error)))?;
        let sent = Arc::new(AtomicU64::new(0));
        let (counter, observed) = (Arc::clone(&sent), self.observed.clone());
        let (target, hash) = (order.target, order.hash);
        let body = bytes.then(move |chunk| {
            let length = chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            let done = counter.fetch_add(length, Ordering::AcqRel) + length;
            observed.transfer_progress(target, hash, done);
            async move {
                fault_points::reach("replication.put_chunk").await;
                chunk
            }
        });
        let call = client.put_artifact(&hash, order.generation, order.artifact.size, body);
        let result = tokio::select! {
            result = call => result.map_err(|error| refused(&error))?,
            reason = self.stalled(order, &sent) => return Err(of_target(reason)),
        };
        if result.successful_writes == 0 {
            return Err(of_target("the sled has written no copy".to_owned()));
        }
        Ok(result.successful_writes)
    }

    async fn copy(&self, order: &Order, sources: &[SledId]) -> Result<u32, TransferFailure> {
        fault_points::reach("replication.copy").await;
        tokio::select! {
            result = self.follow_copy(order, sources) => result,
            () = self.silence(order.target) => Err(of_target("no sign of life; its job may go on".to_owned())),
        }
    }

    async fn follow_copy(&self, order: &Order, sources: &[SledId]) -> Result<u32, TransferFailure> {
        let client = self
            .clients
            .get(&order.address.agent_url, Purpose::Control)
            .map_err(|error| ours(&chain(&error)))?;
        let request = CopyRequest { depot_base_url: None, sources: order.depots.clone() };
        let accepted = client
            .copy_from_depot(&order.hash, order.generation, &request)
            .await
            .map_err(|error| refused(&error))?;
        let mut failed_polls = 0;
        loop {
            let job = match client.job(accepted.job_id, JOB_WAIT).await {
                Ok(job) => job,
                Err(error)
                    if error.class() == ErrorClass::Unreachable && failed_polls < JOB_POLLS_FAILED_MAX =>
                {
                    failed_polls += 1;
                    continue;
                }
                Err(error) => return Err(refused(&error)),
            };
            failed_polls = 0;
            self.observed.transfer_progress(order.target, order.hash, job.bytes_done);
            let error =
                || job.error.as_ref().map_or_else(|| "no reason was given".to_owned(), ToString::to_string);
            match job.state {
                ArtifactJobState::Queued | ArtifactJobState::Running => {}
                ArtifactJobState::Succeeded => {
                    return Ok(job.result.map_or(1, |result| result.successful_writes).max(1));
                }
                ArtifactJobState::Cancelled => return Err(of_target(error())),
                ArtifactJobState::Failed => {
                    let of_sources = job.error.as_ref().is_some_and(|problem| problem.is(Code::SourceFailed));
                    let failed_sources =
                        if of_sources { sources.iter().copied().collect() } else { BTreeSet::new() };
                    return Err(TransferFailure { error: error(), failed_sources, ask_target: true });
                }
            }
        }
    }

    /// Ends, with the reason, when a PUT is not worth waiting for any longer: no byte moves, and the target shows no
    /// other sign of life either, or it has gone on for too long.
    async fn stalled(&self, order: &Order, sent: &AtomicU64) -> String {
        let size = order.artifact.size;
        let (mut before, mut idle_since, mut was_silent) = (0, Instant::now(), false);
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let now = sent.load(Ordering::Acquire);
            if now != before {
                (before, idle_since) = (now, Instant::now());
            }
            let (idle, is_silent) = (idle_since.elapsed(), self.observed.is_silent(order.target));
            if is_silent && was_silent && idle >= HEARTBEAT_LIMIT {
                return format!(
                    "neither a byte moved nor a heartbeat came for {} s",
                    HEARTBEAT_LIMIT.as_secs()
                );
            }
            was_silent = is_silent;
            let limit = if now < size {
                IDLE_LIMIT
            } else {
                IDLE_LIMIT + Duration::from_secs(size / SYNC_BYTES_PER_SECOND_MIN)
            };
            if idle >= limit {
                return format!(
                    "{now} of {size} bytes were sent, and nothing moved for {} s",
                    limit.as_secs()
                );
            }
        }
    }

    /// Ends when a sled shows no sign of life. Two looks have to agree: at the first one it may be about to be asked.
    async fn silence(&self, target: SledId) {
        let mut was_silent = false;
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            let is_silent = self.observed.is_silent(target);
            if is_silent && was_silent {
                return;
            }
            was_silent = is_silent;
        }
    }
}

/// The failure is the coordinator's own; asking the target again would tell nothing.
fn ours(error: &str) -> TransferFailure {
    TransferFailure { error: error.to_owned(), failed_sources: BTreeSet::new(), ask_target: false }
}

/// The target has to be asked what it holds now.
fn of_target(error: String) -> TransferFailure {
    TransferFailure { error, failed_sources: BTreeSet::new(), ask_target: true }
}

fn refused(error: &ClientError) -> TransferFailure {
    of_target(chain(error))
}

fn word(how: &How) -> &'static str {
    match how {
        How::Put => "put",
        How::Copy { .. } => "copy",
    }
}
