//! Reading a copy, chunk by chunk, one chunk ahead. Owns the rule that wrong bytes are never handed out whole as a success.
//!
//! A whole artifact is hashed while it is read, and its **last chunk is held back** until the digest is right. If it is not,
//! the copy is condemned, and the reader fails, or, if nothing was handed out yet, goes on with the next copy. A copy that
//! cannot be read, or not in time, is left for the next one at any point: the hash runs on over the same bytes, whoever
//! delivers them. If the digest is wrong after that, nobody can tell which copy it was, so all that took part are hashed
//! again.
//!
//! ```text
//!   next_chunk ─▶ a read slot of the dataset ─▶ blocking read ─┬─▶ chunk
//!        ▲              (waits, a while)        (in time)      ├─▶ copy left: the next one, from the same byte
//!        └──── no slot, or no answer: the next copy, from ─────┘
//!              the progress that was there before the read
//! ```
//! **Why slots.** A disk that hangs keeps every thread that asks it. Each dataset has a bounded number of read slots, and
//! the thread holds its slot, not the reader that may have gone: so one disk can never take the threads of the others.
//!
//! A range is not hashed: who asks for parts puts them together and hashes the whole.

use crate::{
    copy::is_gone,
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
use std::{ops::Range, sync::Arc, time::Duration};
use tokio::{sync::OwnedSemaphorePermit, task::JoinHandle, time::timeout};
use tracing::warn;

/// Bytes of one chunk. Two are in memory at once, whatever the artifact's size.
const CHUNK_BYTES: u64 = 256 << 10;

/// How much of the time that a read may take is spent on waiting for a slot, where there is another copy. Slots are held for
/// milliseconds where a disk is well, so whoever waits for longer waits for a disk that hangs, or a machine that is busy.
const SLOT_WAIT_SHARE: u32 = 4;

/// An artifact, or a part of one, on its way out.
#[derive(Debug)]
pub struct ArtifactReader {
    shared: Arc<Shared>,
    hash: ArtifactHash,
    size: u64,
    length: u64,
    /// What was reached before the read that is under way.
    before: Progress,
    ahead: Option<JoinHandle<Option<ReadAhead>>>,
}

/// What became of a read, and what is needed for the next one.
type ReadAhead = (ReadState, Outcome);

/// What became of a read.
#[derive(Debug)]
enum Outcome {
    /// The next bytes, or `None` behind the last ones.
    Chunk(Option<Bytes>),
    /// That copy was left; another one may do.
    CopyLeft,
    /// No copy can do any more.
    Failed(StoreError),
}

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
        let length = range.end - range.start;
        let before = Progress {
            copies: copies.into(),
            rank: 0,
            used: Vec::new(),
            hasher: whole.then(Sha256::new),
            position: range.start,
            range,
        };
        let mut reader = ArtifactReader { shared, hash, size, length, before, ahead: None };
        reader.read_ahead(None);
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
        self.length
    }

    /// The next bytes; `None` behind the last ones. After an error there are no more.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, StoreError> {
        let limit = self.shared.config.slow_writer_limit;
        loop {
            let Some(ahead) = self.ahead.as_mut() else { return Ok(None) };
            let Ok(done) = timeout(limit + self.before.slot_wait(limit), ahead).await else {
                self.leave_slow_dataset(limit)?;
                continue;
            };
            self.ahead = None;
            let Ok(Some((state, outcome))) = done else { return Err(StoreError::ShuttingDown) };
            match outcome {
                Outcome::Chunk(chunk) => {
                    if chunk.is_some() && state.progress.position < state.progress.range.end {
                        self.read_ahead(Some(state));
                    }
                    return Ok(chunk);
                }
                Outcome::CopyLeft => self.read_ahead(Some(state)),
                Outcome::Failed(error) => return Err(error),
            }
        }
    }

    /// The bytes as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, StoreError>> + Send {
        futures::stream::try_unfold(self, |mut reader| async move {
            let chunk = reader.next_chunk().await?;
            Ok(chunk.map(|chunk| (chunk, reader)))
        })
    }

    /// Starts the next read, with what the last one left or, if that hangs with a thread, from the progress before it.
    fn read_ahead(&mut self, state: Option<ReadState>) {
        let state = state.unwrap_or_else(|| ReadState {
            shared: Arc::clone(&self.shared),
            hash: self.hash,
            progress: self.before.clone(),
            source: None,
            last_error: None,
        });
        self.before = state.progress.clone();
        let tasks = &self.shared.tasks;
        self.ahead = Some(match state.dataset().map(|dataset| &self.shared.datasets[dataset].read_slots) {
            None => tasks.spawn(async move { Some(state.without_copies()) }),
            Some(slots) => match Arc::clone(slots).try_acquire_owned() {
                Ok(slot) => tasks.spawn_blocking(move || Some(state.read(slot))),
                Err(_) => tasks.spawn(state.read_when_there_is_a_slot()),
            },
        });
    }

    /// The dataset that is being asked does not answer: the next copy is asked for the same bytes.
    fn leave_slow_dataset(&mut self, limit: Duration) -> Result<(), StoreError> {
        // The thread that hangs keeps its own state and its slot, and drops them when the disk answers.
        self.ahead = None;
        let Some(dataset) = self.before.dataset() else { return Err(StoreError::ShuttingDown) };
        let incarnation = self.shared.incarnation(dataset);
        let reason = format!("a read did not return within {limit:?}");
        self.shared.report_trouble(dataset, incarnation, Trouble::Slow, reason);
        self.before.rank += 1;
        if self.before.dataset().is_none() {
            let dataset = self.shared.name(dataset).to_owned();
            return Err(StoreError::DatasetTooSlow { dataset, limit });
        }
        self.read_ahead(None);
        Ok(())
    }
}

/// How far the reading of an artifact has come: all that is needed to go on with another copy.
#[derive(Clone, Debug)]
struct Progress {
    /// The copies, best first.
    copies: Arc<[(DatasetIndex, Copy)]>,
    /// Which of them is asked.
    rank: usize,
    /// Copies that have delivered bytes.
    used: Vec<(DatasetIndex, Stamp)>,
    /// Of a whole artifact.
    hasher: Option<Sha256>,
    position: u64,
    range: Range<u64>,
}

impl Progress {
    fn dataset(&self) -> Option<DatasetIndex> {
        self.copies.get(self.rank).map(|(dataset, _)| *dataset)
    }

    /// How long a slot is waited for. The last copy is left for nothing, so it is given as long as a read.
    fn slot_wait(&self, limit: Duration) -> Duration {
        if self.rank + 1 < self.copies.len() { limit / SLOT_WAIT_SHARE } else { limit }
    }
}

/// What the blocking side of a reader knows; travels between its calls.
#[derive(Debug)]
struct ReadState {
    shared: Arc<Shared>,
    hash: ArtifactHash,
    progress: Progress,
    source: Option<Box<dyn ReadFile>>,
    last_error: Option<StoreError>,
}

impl ReadState {
    fn dataset(&self) -> Option<DatasetIndex> {
        self.progress.dataset()
    }

    /// The end of a reader that has asked every copy.
    fn without_copies(mut self) -> ReadAhead {
        let hash = self.hash;
        let error = self.last_error.take().unwrap_or(StoreError::ArtifactNotFound { hash });
        (self, Outcome::Failed(error))
    }

    /// Reads once the dataset has a slot; leaves it if that takes long. `None` if the runtime ends.
    async fn read_when_there_is_a_slot(mut self) -> Option<ReadAhead> {
        let Some(dataset) = self.dataset() else { return Some(self.without_copies()) };
        let shared = Arc::clone(&self.shared);
        let limit = self.progress.slot_wait(shared.config.slow_writer_limit);
        let slots = Arc::clone(&shared.datasets[dataset].read_slots);
        match timeout(limit, slots.acquire_owned()).await {
            Ok(Ok(slot)) => shared.tasks.spawn_blocking(move || self.read(slot)).await.ok(),
            _ => {
                let dataset = shared.name(dataset).to_owned();
                self.leave_copy(Some(StoreError::DatasetTooSlow { dataset, limit }));
                Some((self, Outcome::CopyLeft))
            }
        }
    }

    /// Reads the next chunk from the copy that is asked. Blocking; the slot is given back when the disk has answered.
    fn read(mut self, slot: OwnedSemaphorePermit) -> ReadAhead {
        let Some((dataset, copy)) = self.progress.copies.get(self.progress.rank).copied() else {
            return self.without_copies();
        };
        let chunk = match self.read_chunk(dataset, copy.stamp) {
            Ok(chunk) => chunk,
            Err(error) => {
                self.skip_copy(dataset, copy, error);
                return (self, Outcome::CopyLeft);
            }
        };
        drop(slot);
        let progress = &mut self.progress;
        if !progress.used.contains(&(dataset, copy.stamp)) {
            progress.used.push((dataset, copy.stamp));
        }
        let at_start = progress.position == progress.range.start;
        progress.position += chunk.len() as u64;
        let at_end = progress.position == progress.range.end;
        if let Some(hasher) = &mut progress.hasher {
            hasher.update(&chunk);
            if at_end && let Err(error) = self.check_digest(dataset) {
                if !at_start {
                    return (self, Outcome::Failed(error));
                }
                self.start_over(error);
                return (self, Outcome::CopyLeft);
            }
        }
        (self, Outcome::Chunk((!chunk.is_empty()).then_some(chunk)))
    }

    fn leave_copy(&mut self, error: Option<StoreError>) {
        self.last_error = error.or(self.last_error.take());
        self.source = None;
        self.progress.rank += 1;
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
        let progress = &self.progress;
        let length = CHUNK_BYTES.min(progress.range.end - progress.position);
        let mut chunk = vec![0; usize::try_from(length).unwrap_or(0)];
        let read = source.read_at(progress.position, &mut chunk)?;
        if read < chunk.len() {
            let found = Stamp::from(source.metadata()?);
            return Err(ReadFailure::Changed(found));
        }
        Ok(chunk.into())
    }

    /// Leaves a copy that could not be read, and says what is wrong with it.
    fn skip_copy(&mut self, dataset: DatasetIndex, known: Copy, failure: ReadFailure) {
        let (shared, hash, seen) = (&self.shared, self.hash, known.stamp);
        let error = match failure {
            ReadFailure::Changed(stamp) => {
                warn!(artifact = %hash, dataset = shared.name(dataset), "copy is not the file that was verified");
                shared.apply(Event::Changed { dataset, hash, seen, stamp });
                None
            }
            ReadFailure::Storage(error) => {
                match is_gone(shared, dataset, &layout::artifact(&hash), &error) {
                    Ok(true) => shared.apply(Event::Vanished { dataset, hash, seen }),
                    Ok(false) => judge_read_error(shared, dataset, hash, known, &error),
                    Err(looking) => judge_read_error(shared, dataset, hash, known, &looking),
                }
                let dataset = shared.name(dataset).to_owned();
                Some(StoreError::CopyUnreadable { hash, dataset, source: error })
            }
        };
        self.leave_copy(error);
    }

    /// Compares the digest of all bytes with the name. A wrong one condemns the copy that delivered them.
    fn check_digest(&mut self, dataset: DatasetIndex) -> Result<(), StoreError> {
        let digest = self.progress.hasher.take().unwrap_or_default().finalize();
        if ArtifactHash(digest.into()) == self.hash {
            return Ok(());
        }
        let (shared, hash) = (&self.shared, self.hash);
        warn!(artifact = %hash, dataset = shared.name(dataset), "copy does not hash to its name");
        match self.progress.used[..] {
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
        self.progress.hasher = Some(Sha256::new());
        self.progress.position = self.progress.range.start;
        self.progress.used.clear();
        self.leave_copy(Some(error));
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
