//! A release's zip as a source of artifacts: bytes go straight from the staged file to a sled, in bounded memory.
//!
//! For files that [`crate::examine()`] has accepted, in this process or before a restart: opening one again costs a
//! pass over its central directory, no more. Whether the caller may trust the release is not asked here; that
//! each artifact is what its hash says is verified anew, on every read, because disks change their mind.

use crate::{
    entry_reader::{CHUNK_BYTES, ReadFault, read_entry},
    findings::Findings,
    layout::Layout,
    zip_index::{self, Entry, ZipIndex},
};
use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use futures::{Stream, stream};
use ids::ArtifactHash;
use sha2::{Digest, Sha256};
use std::{io, ops::ControlFlow, sync::Arc};
use thiserror::Error;
use tokio::sync::mpsc;

/// Chunks that wait for a slow receiver: 1 MiB per read in progress, so that the disk stays ahead of the network
/// and dozens of reads stay within the coordinator's 64 MiB.
const CHUNKS_AHEAD: usize = 4;

/// A staged zip, opened. Cheap to clone; any number of artifacts may be read at the same time.
#[derive(Clone, Debug)]
pub struct StagedZip {
    index: Arc<ZipIndex>,
    layout: Layout,
}

/// Why an artifact can not be had from a staged zip.
#[derive(Debug, Error)]
pub enum StagedZipError {
    /// The file could not be opened or read.
    #[error("reading the staged zip {path} failed")]
    Io {
        /// The zip file.
        path: Utf8PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file is no longer the archive that was accepted.
    #[error("the staged zip {path} is damaged: {reason}")]
    Damaged {
        /// The zip file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The archive has no file for this target.
    #[error("the staged zip {path} has no target {target:?} with hash {hash}")]
    TargetMissing {
        /// The zip file.
        path: Utf8PathBuf,
        /// The target's path.
        target: String,
        /// The artifact's hash.
        hash: ArtifactHash,
    },
    /// The target is there, but is not the artifact. Its bytes must not be used.
    #[error("target {target:?} of the staged zip {path} is not artifact {hash}: {reason}")]
    NotTheArtifact {
        /// The zip file.
        path: Utf8PathBuf,
        /// The target's path.
        target: String,
        /// The artifact's hash.
        hash: ArtifactHash,
        /// How it differs.
        reason: String,
    },
}

impl StagedZip {
    /// Opens a staged zip and reads its table of contents.
    ///
    /// # Errors
    /// [`StagedZipError::Io`], [`StagedZipError::Damaged`].
    pub async fn open(path: &Utf8Path) -> Result<StagedZip, StagedZipError> {
        let io_error = |source| StagedZipError::Io { path: path.to_owned(), source };
        let damaged = |reason| StagedZipError::Damaged { path: path.to_owned(), reason };
        let owned_path = path.to_owned();
        // The limit on expansion was checked when the release was accepted; a changed configuration does not make
        // accepted releases unreadable.
        let opened = tokio::task::spawn_blocking(move || zip_index::open(&owned_path, u64::MAX))
            .await
            .map_err(|error| io_error(io::Error::other(error)))?
            .map_err(io_error)?;
        match opened.index {
            Some(index) if opened.findings.is_empty() => {
                let layout = Layout::find(&index.entries).map_err(damaged)?;
                Ok(StagedZip { index: Arc::new(index), layout })
            }
            _ => Err(damaged(first_detail(opened.findings))),
        }
    }

    /// Where the file is.
    #[must_use]
    pub fn path(&self) -> &Utf8Path {
        &self.index.path
    }

    /// Reads one artifact as a stream of chunks of at most 256 KiB. `entry` is where its examination found it; without
    /// it (it was examined by an older program) it is looked for under the names that its target's path allows.
    ///
    /// The stream ends without an error only after `size` bytes that hash to `hash`; a receiver that needs to know
    /// must read to the end. Dropping the stream stops the reading.
    ///
    /// # Errors
    /// [`StagedZipError::TargetMissing`]; [`StagedZipError::NotTheArtifact`] where already the length differs.
    /// The stream's items: [`StagedZipError::Io`], [`StagedZipError::NotTheArtifact`].
    pub fn read(
        &self,
        target: &str,
        entry: Option<&str>,
        hash: ArtifactHash,
        size: u64,
    ) -> Result<impl Stream<Item = Result<Bytes, StagedZipError>> + Send + Unpin + use<>, StagedZipError>
    {
        let wanted = Wanted { path: self.index.path.clone(), target: target.to_owned(), hash };
        let entry = match entry {
            Some(entry) => self.index.entries.get(entry).copied(),
            None => self.find(target, hash),
        };
        let entry = entry.ok_or_else(|| wanted.missing())?;
        if entry.size != size {
            return Err(wanted.differs(format!("it has {} bytes instead of {size}", entry.size)));
        }
        let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
        let index = Arc::clone(&self.index);
        tokio::task::spawn_blocking(move || wanted.send(&index, &entry, &sender));
        Ok(Box::pin(stream::unfold(receiver, |mut receiver| async move {
            receiver.recv().await.map(|chunk| (chunk, receiver))
        })))
    }

    fn find(&self, target: &str, hash: ArtifactHash) -> Option<Entry> {
        // Where a target has several spellings, the examination verified all of them: any will do.
        let spellings = self.layout.target_entries(target, &[hash.to_string()], false);
        spellings.iter().find_map(|entry| self.index.entries.get(entry)).copied()
    }
}

/// The artifact that a read is for.
struct Wanted {
    path: Utf8PathBuf,
    target: String,
    hash: ArtifactHash,
}

impl Wanted {
    /// The blocking side of a read. That the receiver is gone ends it without a word.
    fn send(&self, index: &ZipIndex, entry: &Entry, sender: &mpsc::Sender<Result<Bytes, StagedZipError>>) {
        let mut hasher = Sha256::new();
        let read = read_entry(&index.file, entry, |chunk| {
            debug_assert!(chunk.len() <= CHUNK_BYTES, "the reader hands on bounded chunks");
            hasher.update(chunk);
            match sender.blocking_send(Ok(Bytes::copy_from_slice(chunk))) {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        });
        let fault = match read {
            Ok(()) => {
                let found = ArtifactHash(hasher.finalize().into());
                (found != self.hash).then(|| self.differs(format!("it hashes to {found}")))
            }
            Err(ReadFault::Refused(_, reason)) => Some(self.differs(reason)),
            Err(ReadFault::Io(source)) => Some(StagedZipError::Io { path: self.path.clone(), source }),
            Err(ReadFault::Stopped) => None,
        };
        if let Some(fault) = fault {
            // Nobody left to tell: then nobody uses the bytes either.
            let _ = sender.blocking_send(Err(fault));
        }
    }

    fn missing(&self) -> StagedZipError {
        StagedZipError::TargetMissing {
            path: self.path.clone(),
            target: self.target.clone(),
            hash: self.hash,
        }
    }

    fn differs(&self, reason: String) -> StagedZipError {
        StagedZipError::NotTheArtifact {
            path: self.path.clone(),
            target: self.target.clone(),
            hash: self.hash,
            reason,
        }
    }
}

fn first_detail(findings: Findings) -> String {
    let first = findings.into_sorted().into_iter().next();
    first.map_or_else(|| "it can not be read".to_owned(), |finding| finding.detail)
}
