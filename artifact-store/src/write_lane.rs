//! One dataset's side of a write: a bounded queue, and the blocking writer behind it. Also [`Gather`], which makes large
//! writes out of small chunks.

use crate::{copy, failure::FailureCause, inventory::DatasetIndex, shared::Shared, space::Reservation};
use bytes::{Bytes, BytesMut};
use durable_fs::PendingFile;
use ids::ArtifactHash;
use std::{
    io::IoSlice,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{
        OwnedSemaphorePermit,
        mpsc::{self, error::TrySendError},
    },
    task::JoinHandle,
};

/// Bytes that are written at once: enough that system calls cost nothing beside the disk.
const PIECE_BYTES: usize = 256 << 10;
/// Pieces that may wait for a dataset: a megabyte evens out the hiccups of two disks, and sixteen writes at once still
/// fit into the agent's memory.
const QUEUE_PIECES: usize = 4;
/// Chunks below this are copied together; larger ones are passed on as they are.
const SMALL_CHUNK_BYTES: usize = 16 << 10;

/// What goes through a lane's queue.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Bytes(Arc<Vec<Bytes>>),
    /// All bytes are there and they are right.
    Publish,
}

/// What a dataset has promised to a write: room, and a thread. Given back when the thread ends, which is after its bytes
/// count as stored, or are gone.
#[derive(Debug)]
pub(crate) struct AdmittedWrite {
    pub(crate) reservation: Reservation,
    pub(crate) _slot: OwnedSemaphorePermit,
}

/// The receiving side's end of one dataset's lane.
#[derive(Debug)]
pub(crate) struct WriteLane {
    pub(crate) dataset: DatasetIndex,
    /// How long the other datasets have waited for this one so far.
    pub(crate) cost: Duration,
    queue: mpsc::Sender<Piece>,
    writer: JoinHandle<Result<(), FailureCause>>,
    abandoned: Abandoned,
}

/// Tells the blocking writer, when dropped, not to bother with what is still in its queue.
#[derive(Debug, Default)]
struct Abandoned {
    flag: Arc<AtomicBool>,
}

impl Drop for Abandoned {
    fn drop(&mut self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}

impl WriteLane {
    /// Starts the blocking writer.
    pub(crate) fn open(
        shared: &Arc<Shared>,
        dataset: DatasetIndex,
        hash: ArtifactHash,
        admitted: AdmittedWrite,
    ) -> WriteLane {
        let (queue, pieces) = mpsc::channel(QUEUE_PIECES);
        let abandoned = Abandoned::default();
        let writer = LaneWriter {
            incarnation: shared.incarnation(dataset),
            shared: Arc::clone(shared),
            dataset,
            hash,
            admitted,
            pieces,
            abandoned: Arc::clone(&abandoned.flag),
        };
        let writer = shared.tasks.spawn_blocking(move || writer.run());
        WriteLane { dataset, cost: Duration::ZERO, queue, writer, abandoned }
    }

    /// Puts a piece into the queue if there is room; `Err` if the writer has ended.
    pub(crate) fn try_send(&self, piece: &Piece) -> Result<bool, ()> {
        match self.queue.try_send(piece.clone()) {
            Ok(()) => Ok(true),
            Err(TrySendError::Full(_)) => Ok(false),
            Err(TrySendError::Closed(_)) => Err(()),
        }
    }

    /// Puts a piece into the queue when there is room; `Err` if the writer has ended.
    pub(crate) async fn send(&self, piece: &Piece) -> Result<(), ()> {
        self.queue.send(piece.clone()).await.map_err(drop)
    }

    /// Gives the write up here; why the writer ended, once it has removed what it wrote.
    pub(crate) async fn close(self) -> Result<(), FailureCause> {
        let WriteLane { queue, writer, abandoned, .. } = self;
        drop((queue, abandoned));
        writer.await.unwrap_or(Err(FailureCause::GivenUp))
    }

    /// Waits for the writer to publish.
    pub(crate) async fn published(self) -> Result<(), FailureCause> {
        // The queue is empty behind `Publish`, so the flag that goes with `self` stops nothing.
        let WriteLane { writer, abandoned, .. } = self;
        let result = writer.await.unwrap_or(Err(FailureCause::GivenUp));
        drop(abandoned);
        result
    }
}

/// The blocking side.
struct LaneWriter {
    shared: Arc<Shared>,
    dataset: DatasetIndex,
    incarnation: u64,
    hash: ArtifactHash,
    admitted: AdmittedWrite,
    pieces: mpsc::Receiver<Piece>,
    abandoned: Arc<AtomicBool>,
}

impl LaneWriter {
    fn run(mut self) -> Result<(), FailureCause> {
        let mut file = copy::begin(&self.shared, self.dataset, &self.hash)
            .map_err(|error| self.shared.failed(self.dataset, self.incarnation, error))?;
        loop {
            match self.pieces.blocking_recv() {
                Some(_) | None if self.abandoned.load(Ordering::Relaxed) => {
                    return Err(FailureCause::GivenUp);
                }
                None => return Err(FailureCause::GivenUp),
                Some(Piece::Bytes(piece)) => self.write(&mut file, &piece)?,
                Some(Piece::Publish) => break,
            }
        }
        let sealed =
            file.seal(true).map_err(|error| self.shared.failed(self.dataset, self.incarnation, error))?;
        copy::publish(&self.shared, self.dataset, self.incarnation, self.hash, sealed)
    }

    fn write(&self, file: &mut PendingFile, piece: &[Bytes]) -> Result<(), FailureCause> {
        let length: usize = piece.iter().map(Bytes::len).sum();
        let shared = &self.shared;
        self.admitted.reservation.take(length as u64, || shared.known_bounds(self.dataset)).map_err(
            |available| {
                let trouble = crate::inventory::Trouble::Full { needed: 1 };
                let reason =
                    format!("an artifact of unknown length met the quota, with {available} bytes left");
                shared.report_trouble(self.dataset, self.incarnation, trouble, reason);
                FailureCause::NoSpace { available }
            },
        )?;
        let mut slices: Vec<IoSlice<'_>> = piece.iter().map(|chunk| IoSlice::new(chunk)).collect();
        file.write(&mut slices).map_err(|error| shared.failed(self.dataset, self.incarnation, error))
    }
}

/// Collects chunks until they are worth a write.
#[derive(Debug, Default)]
pub(crate) struct Gather {
    chunks: Vec<Bytes>,
    small: BytesMut,
    bytes: usize,
}

impl Gather {
    /// Adds a chunk; the collected ones, if they are enough now.
    pub(crate) fn push(&mut self, chunk: Bytes) -> Option<Vec<Bytes>> {
        self.bytes += chunk.len();
        if chunk.len() < SMALL_CHUNK_BYTES {
            if self.small.is_empty() {
                self.small.reserve(SMALL_CHUNK_BYTES * 4);
            }
            self.small.extend_from_slice(&chunk);
            if self.small.len() >= SMALL_CHUNK_BYTES * 3 {
                self.flush_small();
            }
        } else {
            self.flush_small();
            self.chunks.push(chunk);
        }
        if self.bytes >= PIECE_BYTES { self.take() } else { None }
    }

    /// What has been collected, if anything.
    pub(crate) fn take(&mut self) -> Option<Vec<Bytes>> {
        self.flush_small();
        self.bytes = 0;
        let chunks = std::mem::take(&mut self.chunks);
        (!chunks.is_empty()).then_some(chunks)
    }

    fn flush_small(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push(self.small.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gathering_keeps_every_byte_in_order_and_large_chunks_as_they_are() {
        let mut gather = Gather::default();
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        let mut largest = 0;
        for round in 0..2000_usize {
            let length = if round % 7 == 0 { 40_000 } else { round % 50 };
            let chunk = Bytes::from(vec![u8::try_from(round % 251).unwrap(); length]);
            sent.extend_from_slice(&chunk);
            let address = chunk.as_ptr();
            if let Some(piece) = gather.push(chunk) {
                largest = largest.max(piece.len());
                let bytes: usize = piece.iter().map(Bytes::len).sum();
                assert!(bytes >= PIECE_BYTES, "{bytes} bytes are no piece");
                assert!(length < SMALL_CHUNK_BYTES || piece.last().unwrap().as_ptr() == address, "copied");
                got.extend(piece.into_iter().flatten());
            }
        }
        got.extend(gather.take().into_iter().flatten().flatten());
        assert_eq!(sent, got);
        assert!(largest < 64, "{largest} slices in a piece");
    }
}
