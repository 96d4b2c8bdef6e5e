//! The file that is uploaded: read once, in pieces, hashed on the way.
//!
//! Memory is bounded by `PIECE_BYTES` whatever the file's size. The file is checked before anything is sent; if it
//! changes while it is read, the upload fails with that as the reason rather than with a torn connection.

use bytes::{Bytes, BytesMut};
use camino::{Utf8Path, Utf8PathBuf};
use futures::Stream;
use sha2::{Digest, Sha256};
use std::{
    fmt::Write,
    io,
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};
use thiserror::Error;
use tokio::{fs::File, io::AsyncReadExt};

/// Bytes read at once: large enough for the disk and the socket, small enough to be nothing.
const PIECE_BYTES: usize = 256 * 1024;

/// A file that is going to be uploaded.
#[derive(Debug)]
pub struct UploadSource {
    path: Utf8PathBuf,
    file: File,
    size: u64,
    tally: Arc<Tally>,
}

/// What is known about an upload while it runs.
#[derive(Debug, Default)]
pub struct Tally {
    /// Bytes handed to the network.
    sent_bytes: AtomicU64,
    /// SHA-256 of the file, once all of it has been handed over.
    sha256: OnceLock<String>,
    /// Why reading stopped early.
    failure: Mutex<Option<UploadSourceError>>,
}

/// Why a file cannot be uploaded.
#[derive(Debug, Error)]
pub enum UploadSourceError {
    /// It cannot be opened or read.
    #[error("{path} could not be read")]
    Read {
        /// Which file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is a folder, a pipe, a device.
    #[error("{path} is {kind}; a release is a .zip file")]
    Kind {
        /// Which file.
        path: Utf8PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// It has no bytes.
    #[error("{path} is empty; a release is a .zip file")]
    Empty {
        /// Which file.
        path: Utf8PathBuf,
    },
    /// It became shorter.
    #[error(
        "{path} became shorter while it was uploaded: it ended after {read} of {size} bytes; nothing was stored"
    )]
    Shrank {
        /// Which file.
        path: Utf8PathBuf,
        /// Bytes that were there.
        read: u64,
        /// Bytes that it had when the upload began.
        size: u64,
    },
}

impl UploadSource {
    /// Opens the file and looks at it.
    pub async fn open(path: &Utf8Path) -> Result<UploadSource, UploadSourceError> {
        let failed = |source| UploadSourceError::Read { path: path.to_owned(), source };
        // Looked at before it is opened: opening a pipe would wait for its other end.
        let found = tokio::fs::metadata(path).await.map_err(failed)?;
        if !found.is_file() {
            let kind = if found.is_dir() { "a folder" } else { "not a regular file" };
            return Err(UploadSourceError::Kind { path: path.to_owned(), kind });
        }
        let file = File::open(path).await.map_err(failed)?;
        let size = file.metadata().await.map_err(failed)?.len();
        if size == 0 {
            return Err(UploadSourceError::Empty { path: path.to_owned() });
        }
        Ok(UploadSource { path: path.to_owned(), file, size, tally: Arc::default() })
    }

    /// Its bytes when it was opened: what is uploaded, even if it grows.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// What is known while it runs.
    #[must_use]
    pub fn tally(&self) -> Arc<Tally> {
        Arc::clone(&self.tally)
    }

    /// The bytes, exactly [`size`](UploadSource::size) of them.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + 'static {
        let reader = Reader { source: self, read: 0, hasher: Sha256::new() };
        futures::stream::try_unfold(reader, Reader::next)
    }
}

/// Where reading stands.
struct Reader {
    source: UploadSource,
    read: u64,
    hasher: Sha256,
}

impl Reader {
    async fn next(mut self) -> io::Result<Option<(Bytes, Reader)>> {
        let left = self.source.size - self.read;
        if left == 0 {
            return Ok(None);
        }
        let piece_bytes = usize::try_from(left).unwrap_or(usize::MAX).min(PIECE_BYTES);
        let mut piece = BytesMut::with_capacity(piece_bytes);
        let result = (&mut self.source.file).take(left).read_buf(&mut piece).await;
        let path = || self.source.path.clone();
        match result {
            Err(source) => {
                let cause = io::Error::new(source.kind(), "the file could not be read");
                self.source.tally.fail(UploadSourceError::Read { path: path(), source });
                return Err(cause);
            }
            Ok(0) => {
                let (read, size) = (self.read, self.source.size);
                self.source.tally.fail(UploadSourceError::Shrank { path: path(), read, size });
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"));
            }
            Ok(_) => {}
        }
        self.hasher.update(&piece);
        self.read += piece.len() as u64;
        let tally = &self.source.tally;
        if self.read == self.source.size {
            // Nobody else sets it, and this happens once: an upload is read once.
            let _ = tally.sha256.set(hexadecimal(&self.hasher.clone().finalize()));
        }
        tally.sent_bytes.store(self.read, Ordering::Relaxed);
        Ok(Some((piece.freeze(), self)))
    }
}

impl Tally {
    /// Bytes handed to the network so far.
    #[must_use]
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    /// SHA-256 of the file, hexadecimal, once all of it has been handed over.
    #[must_use]
    pub fn sha256(&self) -> Option<&str> {
        self.sha256.get().map(String::as_str)
    }

    /// Why reading stopped early, if it did; told once.
    #[must_use]
    pub fn take_failure(&self) -> Option<UploadSourceError> {
        self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take()
    }

    fn fail(&self, error: UploadSourceError) {
        *self.failure.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
    }
}

/// Bytes as lower-case hexadecimal digits.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all text");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::TryStreamExt;

    async fn opened(bytes: &[u8]) -> (camino_tempfile::Utf8TempDir, Utf8PathBuf, UploadSource) {
        let dir = camino_tempfile::tempdir().unwrap();
        let path = dir.path().join("release.zip");
        std::fs::write(&path, bytes).unwrap();
        let source = UploadSource::open(&path).await.unwrap();
        (dir, path, source)
    }

    #[tokio::test]
    async fn every_byte_is_sent_counted_and_hashed() {
        let bytes: Vec<u8> = (0..PIECE_BYTES * 2 + 17).map(|index| index as u8).collect();
        let (_dir, _path, source) = opened(&bytes).await;
        let tally = source.tally();
        assert_eq!(tally.sha256(), None);
        let pieces: Vec<Bytes> = source.into_stream().try_collect().await.unwrap();
        assert_eq!(pieces.concat(), bytes);
        assert!(pieces.iter().all(|piece| piece.len() <= PIECE_BYTES));
        assert_eq!(tally.sent_bytes(), bytes.len() as u64);
        assert_eq!(tally.sha256(), Some(hexadecimal(&Sha256::digest(&bytes)).as_str()));
    }

    #[tokio::test]
    async fn file_that_becomes_shorter_is_the_reason_of_the_failure() {
        let (_dir, path, source) = opened(&[7; 1000]).await;
        let tally = source.tally();
        std::fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(10).unwrap();
        assert!(source.into_stream().try_collect::<Vec<Bytes>>().await.is_err());
        assert!(matches!(tally.take_failure(), Some(UploadSourceError::Shrank { read: 10, size: 1000, .. })));
    }

    #[tokio::test]
    async fn file_that_grows_is_sent_as_it_was() {
        let (_dir, path, source) = opened(&[7; 1000]).await;
        std::fs::write(&path, [7; 2000]).unwrap();
        let pieces: Vec<Bytes> = source.into_stream().try_collect().await.unwrap();
        assert_eq!(pieces.concat().len(), 1000);
    }

    #[tokio::test]
    async fn what_is_not_a_file_with_bytes_is_refused() {
        let (dir, path, _source) = opened(b"x").await;
        std::fs::write(&path, b"").unwrap();
        let empty = UploadSource::open(&path).await.unwrap_err();
        assert!(matches!(empty, UploadSourceError::Empty { .. }), "{empty}");
        let folder = UploadSource::open(dir.path()).await.unwrap_err();
        assert!(matches!(folder, UploadSourceError::Kind { kind: "a folder", .. }), "{folder}");
        let device = UploadSource::open(Utf8Path::new("/dev/null")).await.unwrap_err();
        assert!(matches!(device, UploadSourceError::Kind { .. }), "{device}");
        let missing = UploadSource::open(&dir.path().join("none")).await.unwrap_err();
        assert!(matches!(missing, UploadSourceError::Read { .. }), "{missing}");
    }
}
