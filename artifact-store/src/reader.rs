//! Reading a copy, chunk by chunk, one chunk ahead. Owns the rule that wrong bytes are never handed out whole as a success.
//!
//! A whole artifact is hashed while it is read, and its **last chunk is held back** until the digest is right. If it is not,
//! the copy is condemned, and the reader fails, or, if nothing was handed out yet, goes on with the next copy. A copy that
//! cannot be read is left for the next one at any point: the hash runs on over the same bytes, whoever delivers them.
//! If the digest is wrong after that, nobody can tell which copy it was, so all that took part are hashed again.
//!
//! A range is not hashed: who asks for parts puts them together and hashes the whole.

use crate::{
    copy::is_there,
    error::StoreError,
    inventory::{Copy, DatasetIndex, Event, Stamp, Trouble},
    layout,
    shared::Shared,
    verify::judge_read_error,
};
use bytes::Bytes;
use durable_fs::{ReadFile, StorageError};
use futures::Stream;
use ids::ArtifactHash;
use sha2::{Digest, Sha256};
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{task::JoinHandle, time::timeout};
use tracing::warn;

/// Bytes of one chunk. Two are in memory at once, whatever the artifact's size.
const CHUNK_BYTES: u64 = 256 << 10;

/// An artifact, or a part of one, on its way out.
#[derive(Debug)]
pub struct ArtifactReader {
    shared: Arc<Shared>,
    hash: ArtifactHash,
    size: u64,
    range: Range<u64>,
    whole: bool,
    copies: Vec<(DatasetIndex, Copy)>,
    /// Which of `copies` the reading thread is asking now.
    asking: Arc<AtomicUsize>,
    delivered: u64,
    ahead: Option<JoinHandle<ReadAhead>>,
}

/// The next chunk, and what is needed to read the one after it.
type ReadAhead = (ReadState, Result<Option<Bytes>, StoreError>);

impl ArtifactReader {
    /// Opens an artifact, or that range of it.
    pub(crate) fn open(
        shared: Arc<Shared>,
        hash: ArtifactHash,
        range: Option<Range<u64>>,
    ) -> Result<ArtifactReader, StoreError> {
        let copies = shared.look(|inventory| inventory.readable_copies(&hash));
        let size = copies.first().ok_or(StoreError::ArtifactNotFound { hash })?.1.stamp.size;
        let whole = range.is_none();
        let range = range.unwrap_or(0..size);
        if !whole && (range.start >= range.end || range.end > size) {
            return Err(StoreError::RangeOutside { hash, start: range.start, end: range.end, size });
        }
        let asking = Arc::new(AtomicUsize::new(0));
        let mut reader =
            ArtifactReader { shared, hash, size, range, whole, copies, asking, delivered: 0, ahead: None };
        reader.start_at(0);
        Ok(reader)
    }

    /// Bytes of the whole artifact.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Bytes that this reader delivers in all.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.range.end - self.range.start
    }

    /// The next bytes; `None` behind the last ones. After an error there are no more.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        let limit = self.shared.config.slow_writer_limit;
        loop {
            let Some(ahead) = self.ahead.as_mut() else { return Ok(None) };
            let Ok(done) = timeout(limit, ahead).await else {
                self.give_up_on_slow_dataset()?;
                continue;
            };
            self.ahead = None;
            let Ok((state, result)) = done else { return Err(StoreError::ShuttingDown) };
            let chunk = result?;
            if let Some(chunk) = &chunk {
                self.delivered += chunk.len() as u64;
                self.read_ahead(state);
            }
            return Ok(chunk);
        }
    }

    /// The bytes as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
        futures::stream::try_unfold(self, |mut reader| async move {
            let chunk = reader.next_chunk().await?;
            Ok(chunk.map(|chunk| (chunk, reader)))
        })
    }

    /// Starts to read from the copy of that rank on.
    fn start_at(&mut self, rank: usize) {
        self.asking = Arc::new(AtomicUsize::new(rank));
        let state = ReadState {
            shared: Arc::clone(&self.shared),
            hash: self.hash,
            copies: self.copies.clone(),
            rank,
            asking: Arc::clone(&self.asking),
            source: None,
            used: Vec::new(),
            hasher: self.whole.then(Sha256::new),
            start: self.range.start,
            position: self.range.start,
            end: self.range.end,
            last_error: None,
        };
        self.read_ahead(state);
    }

    fn read_ahead(&mut self, mut state: ReadState) {
        if state.position == state.end && self.delivered > 0 {
            return;
        }
        self.ahead = Some(self.shared.tasks.spawn_blocking(move || {
            let result = state.next();
            (state, result)
        }));
    }

    /// The dataset that is being asked does not answer: another one is asked, if nothing was delivered yet.
    fn give_up_on_slow_dataset(&mut self) -> Result<(), StoreError> {
        // The thread that hangs keeps its own state, and drops it when the disk answers.
        self.ahead = None;
        let rank = self.asking.load(Ordering::Relaxed).min(self.copies.len() - 1);
        let (dataset, _) = self.copies[rank];
        let limit = self.shared.config.slow_writer_limit;
        let incarnation = self.shared.incarnation(dataset);
        let reason = format!("a read did not return within {limit:?}");
        self.shared.report_trouble(dataset, incarnation, Trouble::Slow, reason);
        if self.delivered > 0 || rank + 1 == self.copies.len() {
            let dataset = self.shared.name(dataset).to_owned();
            return Err(StoreError::DatasetTooSlow { dataset, limit });
        }
        self.start_at(rank + 1);
        Ok(())
    }
}

/// What the blocking side of a reader knows; travels between its calls.
#[derive(Debug)]
struct ReadState {
    shared: Arc<Shared>,
    hash: ArtifactHash,
    copies: Vec<(DatasetIndex, Copy)>,
    rank: usize,
    asking: Arc<AtomicUsize>,
    source: Option<Box<dyn ReadFile>>,
    /// Copies that have delivered bytes.
    used: Vec<(DatasetIndex, Stamp)>,
    /// Of a whole artifact.
    hasher: Option<Sha256>,
    start: u64,
    position: u64,
    end: u64,
    last_error: Option<StoreError>,
}

impl ReadState {
    fn next(&mut self) -> Result<Option<Bytes>, StoreError> {
        loop {
            let Some((dataset, copy)) = self.copies.get(self.rank).copied() else {
                let hash = self.hash;
                return Err(self.last_error.take().unwrap_or(StoreError::ArtifactNotFound { hash }));
            };
            self.asking.store(self.rank, Ordering::Relaxed);
            let chunk = match self.read_chunk(dataset, copy.stamp) {
                Ok(chunk) => chunk,
                Err(error) => {
                    self.skip_copy(dataset, copy.stamp, error);
                    continue;
                }
            };
            if !self.used.contains(&(dataset, copy.stamp)) {
                self.used.push((dataset, copy.stamp));
            }
            let at_start = self.position == self.start;
            self.position += chunk.len() as u64;
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&chunk);
                if self.position == self.end
                    && let Err(error) = self.check_digest(dataset)
                {
                    if !at_start {
                        return Err(error);
                    }
                    self.start_over(error);
                    continue;
                }
            }
            return Ok((!chunk.is_empty()).then_some(chunk));
        }
    }

    /// Reads the next chunk of that copy.
    fn read_chunk(&mut self, dataset: DatasetIndex, stamp: Stamp) -> Result<Bytes, ReadFailure> {
        let source = match &mut self.source {
            Some(source) => source,
            empty => {
                let path = layout::artifact(&self.hash);
                let file = self.shared.datasets[dataset].storage().open(&path)?;
                let found = Stamp::from(file.metadata()?);
                if found != stamp {
                    return Err(ReadFailure::Changed(found));
                }
                empty.insert(file)
            }
        };
        let length = CHUNK_BYTES.min(self.end - self.position);
        let mut chunk = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = source.read_at(self.position, &mut chunk)?;
        if read < chunk.len() {
            let found = Stamp::from(source.metadata()?);
            return Err(ReadFailure::Changed(found));
        }
        Ok(chunk.into())
    }

    /// Leaves a copy that could not be read, and says what is wrong with it.
    fn skip_copy(&mut self, dataset: DatasetIndex, seen: Stamp, failure: ReadFailure) {
        let (shared, hash) = (&self.shared, self.hash);
        match failure {
            ReadFailure::Changed(stamp) => {
                warn!(artifact = %hash, dataset = shared.name(dataset), "copy is not the file that was verified");
                shared.apply(Event::Changed { dataset, hash, seen, stamp });
            }
            ReadFailure::Storage(error) => {
                let incarnation = shared.incarnation(dataset);
                if error.is_not_found() && is_there(shared, dataset, layout::ARTIFACTS) {
                    shared.apply(Event::Vanished { dataset, hash, seen });
                } else {
                    judge_read_error(shared, dataset, incarnation, hash, seen, &error);
                }
                let dataset = shared.name(dataset).to_owned();
                self.last_error = Some(StoreError::CopyUnreadable { hash, dataset, source: error });
            }
        }
        self.source = None;
        self.rank += 1;
    }

    /// Compares the digest of all bytes with the name. A wrong one condemns the copy that delivered them.
    fn check_digest(&mut self, dataset: DatasetIndex) -> Result<(), StoreError> {
        let digest = self.hasher.take().unwrap_or_default().finalize();
        if ArtifactHash(digest.into()) == self.hash {
            return Ok(());
        }
        let (shared, hash) = (&self.shared, self.hash);
        warn!(artifact = %hash, dataset = shared.name(dataset), "copy does not hash to its name");
        match self.used[..] {
            [(dataset, seen)] => {
                shared.condemn(dataset, shared.incarnation(dataset), hash, seen);
            }
            ref used => {
                for (dataset, seen) in used.iter().copied() {
                    shared.doubt(dataset, shared.incarnation(dataset), hash, seen);
                }
            }
        }
        Err(StoreError::CopyCorrupt { hash, dataset: shared.name(dataset).to_owned() })
    }

    /// Nothing was delivered yet, so the next copy may try from the start.
    fn start_over(&mut self, error: StoreError) {
        self.last_error = Some(error);
        self.hasher = Some(Sha256::new());
        self.position = self.start;
        self.used.clear();
        self.source = None;
        self.rank += 1;
    }
}

/// Why a copy did not deliver a chunk.
enum ReadFailure {
    Storage(StorageError),
    Changed(Stamp),
}

impl From<StorageError> for ReadFailure {
    fn from(error: StorageError) -> ReadFailure {
        ReadFailure::Storage(error)
    }
}
