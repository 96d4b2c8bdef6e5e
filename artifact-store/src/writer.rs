//! Receiving an artifact: once from the caller, hashed once, then to every usable dataset side by side. Owns the receiving
//! side; each dataset's own side is `write_lane`'s.
//!
//! ```text
//!                       ┌─ bounded queue ─▶ blocking writer ─▶ m2-0/tmp ─▶ publish
//!   write(Bytes) ─ hash ┤
//!                       └─ bounded queue ─▶ blocking writer ─▶ m2-1/tmp ─▶ publish
//! ```
//! The queues share the bytes, nothing is copied but small chunks into larger ones. When every queue is full the caller
//! waits: that is the disks' limit. When only some are, the time that they cost the others is on their account; a dataset
//! whose account is overdrawn is left out, and local repair gives it its copy later.
//!
//! A writer that is dropped, or whose bytes turn out wrong, publishes nothing and leaves nothing in `tmp`.

use crate::{
    error::StoreError,
    failure::{DatasetFailure, FailureCause},
    inventory::{DatasetIndex, Event, Trouble},
    reserve,
    shared::Shared,
    write_lane::{AdmittedWrite, Gather, Piece, WriteLane},
};
use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use ids::{ArtifactHash, Generation};
use sha2::{Digest, Sha256};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{timeout, timeout_at},
};
use tracing::{info, warn};

/// What a dataset that is slower than the others may cost them on top of the fixed limit: a second for this many bytes,
/// so that a large artifact on two sound but unequal disks still reaches both.
const SLOWER_BYTES_PER_SECOND: u64 = 64 << 20;
/// The slowest disk that a sync at the end waits for: below this a dataset counts as stuck.
const SYNC_BYTES_PER_SECOND_MIN: u64 = 8 << 20;
/// When no dataset at all makes progress there is nobody to protect from waiting, so the limit is this many times longer.
const ALL_STUCK_FACTOR: u32 = 3;

/// Where an artifact's bytes went.
#[derive(Debug)]
pub struct WriteReport {
    /// Datasets that the store is configured with.
    pub datasets: u32,
    /// Datasets that hold a verified, durable copy now.
    pub successful_writes: u32,
    /// What kept the others from getting theirs.
    pub failures: Vec<DatasetFailure>,
    /// The artifact's bytes.
    pub size: u64,
}

/// An artifact that is being received.
#[derive(Debug)]
pub struct ArtifactWriter {
    shared: Arc<Shared>,
    hash: ArtifactHash,
    expected_size: Option<u64>,
    hasher: Sha256,
    received: u64,
    gather: Gather,
    lanes: Vec<WriteLane>,
    failures: Vec<DatasetFailure>,
    _writing: Writing,
    _slot: OwnedSemaphorePermit,
}

/// Tells the inventory that an artifact is being received, for as long as it lives.
#[derive(Debug)]
struct Writing {
    shared: Arc<Shared>,
    hash: ArtifactHash,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.shared.apply(Event::WriteEnded { hash: self.hash });
    }
}

impl ArtifactWriter {
    /// Checks whether the artifact is wanted, and reserves room for it.
    pub(crate) async fn open(
        shared: Arc<Shared>,
        hash: ArtifactHash,
        generation: Generation,
        expected_size: Option<u64>,
    ) -> Result<ArtifactWriter, StoreError> {
        shared.look(|inventory| inventory.may_write(&hash, generation))?;
        let slots = Arc::clone(&shared.writer_slots);
        let slot = slots.acquire_owned().await.map_err(|_| StoreError::ShuttingDown)?;
        shared.check_running()?;
        // The wait for a slot may have been long.
        shared.look(|inventory| inventory.may_write(&hash, generation))?;
        shared.apply(Event::WriteBegan { hash });
        let mut writer = ArtifactWriter {
            _writing: Writing { shared: Arc::clone(&shared), hash },
            shared,
            hash,
            expected_size,
            hasher: Sha256::new(),
            received: 0,
            gather: Gather::default(),
            lanes: Vec::new(),
            failures: Vec::new(),
            _slot: slot,
        };
        writer.open_lanes().await;
        if writer.lanes.is_empty() { Err(writer.nowhere()) } else { Ok(writer) }
    }

    async fn open_lanes(&mut self) {
        let needed = self.expected_size.unwrap_or(0);
        let asked: FuturesUnordered<_> = (0..self.shared.datasets.len())
            .map(|dataset| {
                let shared = Arc::clone(&self.shared);
                async move { (dataset, reserve_in_time(&shared, dataset, needed).await) }
            })
            .collect();
        let mut answers: Vec<_> = asked.collect().await;
        answers.sort_by_key(|(dataset, _)| *dataset);
        for (dataset, answer) in answers {
            match answer {
                Ok(admitted) => {
                    self.lanes.push(WriteLane::open(&self.shared, dataset, self.hash, admitted));
                }
                Err(cause) => self.failed(dataset, cause),
            }
        }
    }

    /// Takes the next bytes. Waits while every dataset has enough to do.
    ///
    /// An error ends the write: more bytes than announced, or no dataset left that takes them.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), StoreError> {
        self.received += chunk.len() as u64;
        if let Some(expected) = self.expected_size
            && self.received > expected
        {
            return Err(StoreError::LengthMismatch { expected, actual: self.received });
        }
        self.hasher.update(&chunk);
        match self.gather.push(chunk) {
            Some(piece) => self.hand_over(Piece::Bytes(Arc::new(piece))).await,
            None => Ok(()),
        }
    }

    /// Bytes taken so far.
    #[must_use]
    pub fn bytes_written(&self) -> u64 {
        self.received
    }

    /// Ends the write: if the bytes hash to the name, every dataset that kept up publishes its copy. At least one copy is
    /// durable and listed when this succeeds.
    pub async fn finish(mut self) -> Result<WriteReport, StoreError> {
        let actual = ArtifactHash(std::mem::take(&mut self.hasher).finalize().into());
        let refused = match self.expected_size {
            Some(expected) if expected != self.received => {
                Some(StoreError::LengthMismatch { expected, actual: self.received })
            }
            _ if actual != self.hash => Some(StoreError::DigestMismatch { expected: self.hash, actual }),
            _ => None,
        };
        if let Some(error) = refused {
            self.discard().await;
            return Err(error);
        }
        if let Some(rest) = self.gather.take() {
            self.hand_over(Piece::Bytes(Arc::new(rest))).await?;
        }
        self.hand_over(Piece::Publish).await?;
        let successful_writes = self.await_copies().await;
        if successful_writes == 0 {
            return Err(self.nowhere());
        }
        self.failures.sort_by(|a, b| a.dataset.cmp(&b.dataset));
        info!(artifact = %self.hash, size = self.received, copies = successful_writes,
            datasets = self.shared.datasets.len(), "artifact stored");
        Ok(WriteReport {
            datasets: u32::try_from(self.shared.datasets.len()).unwrap_or(u32::MAX),
            successful_writes,
            failures: std::mem::take(&mut self.failures),
            size: self.received,
        })
    }

    /// Lets every lane remove what it has written, and waits for that, so that the space is free when the caller answers.
    async fn discard(&mut self) {
        let limit = self.shared.config.slow_writer_limit;
        let ends: FuturesUnordered<_> = self.lanes.drain(..).map(WriteLane::close).collect();
        let _ = timeout(limit, ends.count()).await;
    }

    /// Puts a piece into every lane's queue. Fails if no lane is left.
    async fn hand_over(&mut self, piece: Piece) -> Result<(), StoreError> {
        let mut left = Vec::new();
        let mut waiting = Vec::new();
        for lane in std::mem::take(&mut self.lanes) {
            match lane.try_send(&piece) {
                Ok(true) => left.push(lane),
                Ok(false) => waiting.push(lane),
                Err(()) => self.lane_ended(lane).await,
            }
        }
        if !waiting.is_empty() {
            self.wait_for_room(&piece, waiting, &mut left).await;
        }
        left.sort_by_key(|lane| lane.dataset);
        self.lanes = left;
        if self.lanes.is_empty() { Err(self.nowhere()) } else { Ok(()) }
    }

    /// Waits for the lanes whose queues are full: for the first of all for long, for the rest as long as their accounts
    /// allow.
    async fn wait_for_room(&mut self, piece: &Piece, waiting: Vec<WriteLane>, left: &mut Vec<WriteLane>) {
        let limit = self.shared.config.slow_writer_limit;
        let allowance = limit + Duration::from_secs(self.received / SLOWER_BYTES_PER_SECOND);
        let credit = waiting.iter().map(|lane| allowance.saturating_sub(lane.cost)).max().unwrap_or_default();
        let mut first_at = (!left.is_empty()).then(Instant::now);
        let mut sends: FuturesUnordered<_> = waiting
            .into_iter()
            .map(|lane| async move {
                let sent = lane.send(piece).await;
                (lane, sent)
            })
            .collect();
        let mut give_up_at = Instant::now() + first_at.map_or(limit * ALL_STUCK_FACTOR, |_| credit);
        loop {
            match timeout_at(give_up_at.into(), sends.next()).await {
                Ok(None) => break,
                Ok(Some((lane, Err(())))) => self.lane_ended(lane).await,
                Ok(Some((mut lane, Ok(())))) => {
                    let since = *first_at.get_or_insert_with(|| {
                        give_up_at = Instant::now() + credit;
                        Instant::now()
                    });
                    lane.cost += since.elapsed();
                    left.push(lane);
                }
                Err(_) => break,
            }
        }
        // A lane whose wait was cut short is gone with its future: whoever neither stayed nor failed.
        drop(sends);
        for dataset in 0..self.shared.datasets.len() {
            let failed = self.failures.iter().any(|failure| failure.dataset == self.shared.name(dataset));
            if !failed && !left.iter().any(|lane| lane.dataset == dataset) {
                self.leave_out(dataset, limit);
            }
        }
    }

    /// A dataset keeps the others waiting: the write goes on without it.
    fn leave_out(&mut self, dataset: DatasetIndex, limit: Duration) {
        let incarnation = self.shared.incarnation(dataset);
        let reason = format!("it kept a write waiting for longer than {limit:?}");
        self.shared.report_trouble(dataset, incarnation, Trouble::Slow, reason);
        self.failed(dataset, FailureCause::TooSlow { limit });
    }

    /// A lane's writer ended by itself: it failed, and says why.
    async fn lane_ended(&mut self, lane: WriteLane) {
        let dataset = lane.dataset;
        let cause = lane.close().await.err().unwrap_or(FailureCause::GivenUp);
        self.failed(dataset, cause);
    }

    /// Waits for the lanes to publish; how many did.
    async fn await_copies(&mut self) -> u32 {
        let limit = self.shared.config.slow_writer_limit;
        let sync_time = Duration::from_secs(self.received / SYNC_BYTES_PER_SECOND_MIN);
        let mut give_up_at = Instant::now() + limit * ALL_STUCK_FACTOR + sync_time;
        let mut waiting: Vec<DatasetIndex> = self.lanes.iter().map(|lane| lane.dataset).collect();
        let mut ends: FuturesUnordered<_> =
            self.lanes.drain(..).map(|lane| async move { (lane.dataset, lane.published().await) }).collect();
        let mut copies = 0;
        while let Ok(Some((dataset, end))) = timeout_at(give_up_at.into(), ends.next()).await {
            waiting.retain(|other| *other != dataset);
            match end {
                Ok(()) => {
                    copies += 1;
                    give_up_at = give_up_at.min(Instant::now() + limit);
                }
                Err(cause) => self.failed(dataset, cause),
            }
        }
        drop(ends);
        for dataset in waiting {
            self.leave_out(dataset, limit);
        }
        copies
    }

    fn failed(&mut self, dataset: DatasetIndex, cause: FailureCause) {
        let failure = DatasetFailure { dataset: self.shared.name(dataset).to_owned(), cause };
        warn!(artifact = %self.hash, error = %failure, "dataset gets no copy");
        self.failures.push(failure);
    }

    /// The error of a write that no dataset takes.
    fn nowhere(&mut self) -> StoreError {
        let mut failures = std::mem::take(&mut self.failures);
        failures.sort_by(|a, b| a.dataset.cmp(&b.dataset));
        let room = failures.iter().filter_map(|failure| match &failure.cause {
            FailureCause::NoSpace { available } => Some(*available),
            _ => None,
        });
        if let Some(available) = room.max() {
            return StoreError::NoSpace { needed: self.expected_size.unwrap_or(self.received), available };
        }
        let unwanted = failures.iter().find_map(|failure| match failure.cause {
            FailureCause::NotWanted { generation } => Some(generation),
            _ => None,
        });
        if let Some(generation) = unwanted {
            return StoreError::NotInConfig { hash: self.hash, generation };
        }
        StoreError::NoHealthyDataset { failures }
    }
}

/// Reserves room and a thread on a dataset, if it answers in time.
async fn reserve_in_time(
    shared: &Arc<Shared>,
    dataset: DatasetIndex,
    needed: u64,
) -> Result<AdmittedWrite, FailureCause> {
    let unusable = shared.look(|inventory| {
        let state = &inventory.datasets[dataset];
        (!state.health.is_writable()).then(|| state.not_in_use())
    });
    if let Some(cause) = unusable {
        return Err(cause);
    }
    let limit = shared.config.slow_writer_limit;
    let slots = Arc::clone(&shared.datasets[dataset].write_slots);
    let asked = async {
        // There are as many slots as writers: only threads that earlier writers have left behind keep one waiting.
        let slot = slots.acquire_owned().await.ok()?;
        let reserve = move |shared: &Arc<Shared>| {
            let reservation = reserve::reserve(shared, dataset, needed)?;
            Ok(AdmittedWrite { reservation, _slot: slot })
        };
        shared.run_blocking(reserve).await
    };
    match timeout(limit, asked).await {
        Ok(answer) => answer.unwrap_or(Err(FailureCause::GivenUp)),
        Err(_) => {
            let incarnation = shared.incarnation(dataset);
            let reason = format!("it did not tell its free space within {limit:?}");
            shared.report_trouble(dataset, incarnation, Trouble::Slow, reason);
            Err(FailureCause::TooSlow { limit })
        }
    }
}
