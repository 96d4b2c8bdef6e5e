//! Publishing a file: its name appears with all of its bytes, durably, or not at all.
//!
//! | step | what a crash right after it leaves |
//! |---|---|
//! | [`Created`](PublishStep::Created) | the temporary file, empty, or nothing |
//! | [`Written`](PublishStep::Written) | the temporary file with any part of the bytes, or nothing |
//! | [`Synced`](PublishStep::Synced) | the temporary file, whole, or nothing (its entry was not synced) |
//! | [`Renamed`](PublishStep::Renamed) | under the final name: the old content or the new, whole; perhaps the temporary name too |
//! | [`DirectorySynced`](PublishStep::DirectorySynced) | under the final name: the new content |
//!
//! **The rule on open:** whatever has a temporary name is worthless and is removed; whatever has a final name is whole.
//! Why both syncs: without the first the name may arrive before the bytes; without the second it may not arrive at all.
//!
//! A writer that fails or is dropped before the rename removes its temporary file; if that fails too, whoever asked for it is
//! told ([`PendingFile::if_left_behind`]), and the rule on open takes care of it.

use crate::{
    error::StorageError,
    ports::{FileMetadata, StepPoint, Storage, WriteFile},
};
use camino::{Utf8Path, Utf8PathBuf};
use std::{fmt, io::IoSlice, sync::Arc};

/// Written bytes after which the medium is asked to start on them.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// The durable steps of publishing a file, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PublishStep {
    /// The temporary file exists.
    Created,
    /// It has all its bytes.
    Written,
    /// They are durable.
    Synced,
    /// It has its final name.
    Renamed,
    /// The name is durable.
    DirectorySynced,
}

impl PublishStep {
    /// Every step, in order.
    pub const ALL: [PublishStep; 5] = [
        PublishStep::Created,
        PublishStep::Written,
        PublishStep::Synced,
        PublishStep::Renamed,
        PublishStep::DirectorySynced,
    ];

    /// The step's place in the procedure of that name, as announced to [`Storage::reached`].
    #[must_use]
    pub fn of(self, procedure: &'static str) -> StepPoint {
        let step = match self {
            PublishStep::Created => "created",
            PublishStep::Written => "written",
            PublishStep::Synced => "synced",
            PublishStep::Renamed => "renamed",
            PublishStep::DirectorySynced => "directory_synced",
        };
        StepPoint { procedure, step }
    }
}

/// A file that is being written under a temporary name. Dropped, it removes that name.
#[derive(Debug)]
pub struct PendingFile {
    procedure: &'static str,
    file: Box<dyn WriteFile>,
    written: u64,
    /// Up to where the medium was asked to start writing.
    started: u64,
    temporary: TemporaryName,
}

/// A file under a temporary name whose bytes are durable. Dropped, it removes that name.
#[derive(Debug)]
pub struct SealedFile {
    procedure: &'static str,
    metadata: FileMetadata,
    temporary: TemporaryName,
}

impl PendingFile {
    /// Creates the file `temporary`, which must not exist; `procedure` names what it is for in the steps.
    pub fn create(
        storage: Arc<dyn Storage>,
        procedure: &'static str,
        temporary: Utf8PathBuf,
    ) -> Result<PendingFile, StorageError> {
        let file = storage.create_new(&temporary)?;
        let temporary = TemporaryName { storage, path: Some(temporary), left_behind: None };
        temporary.storage.reached(PublishStep::Created.of(procedure))?;
        Ok(PendingFile { procedure, file, written: 0, started: 0, temporary })
    }

    /// Says who is told if the temporary file is of no use in the end and is not removed. That it is not there may mean that it
    /// was removed already, or that the disk is not there.
    #[must_use]
    pub fn if_left_behind(mut self, tell: impl FnOnce(StorageError) + Send + Sync + 'static) -> PendingFile {
        self.temporary.left_behind = Some(Box::new(tell));
        self
    }

    /// Writes the bytes of all the slices behind what was written before. Every now and then the medium is asked to start
    /// on them, so that the sync at the end is short.
    pub fn write(&mut self, slices: &mut [IoSlice<'_>]) -> Result<(), StorageError> {
        let length: u64 = slices.iter().map(|slice| slice.len() as u64).sum();
        self.file.write_all_vectored(slices)?;
        self.written += length;
        if self.written - self.started >= WRITEBACK_BYTES {
            self.start_writeback(self.started);
            self.started = self.written;
        }
        Ok(())
    }

    /// Bytes written so far.
    #[must_use]
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Asks for the bytes from `offset` on to be written to the medium soon. A hint.
    pub fn start_writeback(&mut self, offset: u64) {
        self.file.start_writeback(offset, self.written.saturating_sub(offset));
    }

    /// Makes the bytes durable; `read_only` also sets mode 0444.
    pub fn seal(mut self, read_only: bool) -> Result<SealedFile, StorageError> {
        let storage = Arc::clone(&self.temporary.storage);
        storage.reached(PublishStep::Written.of(self.procedure))?;
        if read_only {
            self.file.set_read_only()?;
        }
        self.file.sync()?;
        // After the sync: nothing changes the content any more, so this is what a later look at the file must find.
        let metadata = self.file.metadata()?;
        storage.reached(PublishStep::Synced.of(self.procedure))?;
        Ok(SealedFile { procedure: self.procedure, metadata, temporary: self.temporary })
    }
}

impl SealedFile {
    /// Size and time of change, as they will be under the final name.
    #[must_use]
    pub fn metadata(&self) -> FileMetadata {
        self.metadata
    }

    /// Gives the file its final name, replacing what had it, and makes that durable.
    pub fn publish(mut self, to: &Utf8Path) -> Result<FileMetadata, StorageError> {
        let storage = Arc::clone(&self.temporary.storage);
        self.temporary.rename(to)?;
        storage.reached(PublishStep::Renamed.of(self.procedure))?;
        storage.sync_directory(parent(to))?;
        storage.reached(PublishStep::DirectorySynced.of(self.procedure))?;
        Ok(self.metadata)
    }
}

/// Writes a small file whole. Leaves the old content or the new one, whatever happens in between.
///
/// The temporary name is `path` with `.new` behind it, so one path must have one writer at a time.
pub fn write_atomically(
    storage: &Arc<dyn Storage>,
    procedure: &'static str,
    path: &Utf8Path,
    bytes: &[u8],
) -> Result<(), StorageError> {
    remove_leftover(storage.as_ref(), path)?;
    let mut file = PendingFile::create(Arc::clone(storage), procedure, temporary_of(path))?;
    file.write(&mut [IoSlice::new(bytes)])?;
    file.seal(false)?.publish(path).map(drop)
}

/// Removes what an interrupted [`write_atomically`] of `path` left behind, if anything.
pub fn remove_leftover(storage: &dyn Storage, path: &Utf8Path) -> Result<(), StorageError> {
    match storage.remove(&temporary_of(path)) {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

fn temporary_of(path: &Utf8Path) -> Utf8PathBuf {
    Utf8PathBuf::from(format!("{path}.new"))
}

fn parent(path: &Utf8Path) -> &Utf8Path {
    path.parent().unwrap_or(Utf8Path::new(""))
}

/// Removes its file when dropped, unless the file has got its final name.
struct TemporaryName {
    storage: Arc<dyn Storage>,
    path: Option<Utf8PathBuf>,
    left_behind: Option<Box<dyn FnOnce(StorageError) + Send + Sync>>,
}

impl fmt::Debug for TemporaryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemporaryName").field("storage", &self.storage).field("path", &self.path).finish()
    }
}

impl TemporaryName {
    fn rename(&mut self, to: &Utf8Path) -> Result<(), StorageError> {
        if let Some(path) = &self.path {
            self.storage.rename(path, to)?;
            self.path = None;
        }
        Ok(())
    }
}

impl Drop for TemporaryName {
    fn drop(&mut self) {
        let Some(path) = &self.path else { return };
        if let Err(error) = self.storage.remove(path)
            && let Some(tell) = self.left_behind.take()
        {
            tell(error);
        }
    }
}
