//! The staging directory: uploaded zips, kept until the sleds hold their artifacts.
//!
//! Layout: `<state_dir>/staging/<upload id>.zip.part` while it is received and examined, `<upload id>.zip` once it is
//! durable. The database row that names the zip is written after that, and deleted before the zip is removed. So a
//! crash leaves at most files that no row names, and opening removes those:
//!
//! | crash after | leaves | on open |
//! |---|---|---|
//! | created, written | `.zip.part` | removed |
//! | synced, renamed, directory synced | `.zip` without a row: never acknowledged | removed |
//! | row inserted | `.zip` with its row | kept |
//! | row deleted | `.zip` without a row | removed |
//!
//! Space is reserved before a byte is received: an upload that declares its length and does not fit is refused at
//! once, and uploads that run at the same time do not count on the same space.

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{PendingFile, RealDisk, Storage, StorageError};
use ids::UploadId;
use sha2::{Digest, Sha256};
use std::{
    collections::BTreeSet,
    io::IoSlice,
    sync::{Arc, Mutex},
};
use thiserror::Error;
use tokio::{sync::mpsc, task::JoinHandle};

/// Pieces of an upload that wait for the disk. Network pieces are at most a few hundred KiB, so this bounds an
/// upload's memory to a few MiB and still keeps disk and network busy at the same time.
const PIECES_QUEUED_MAX: usize = 8;

/// Bytes after which writeback is started, so that the final fsync finds little left to do.
const WRITEBACK_BYTES: u64 = 8 << 20;

/// Bytes of the file system that staging never takes: the database beside it must be able to commit.
const RESERVE_BYTES: u64 = 64 << 20;

/// The staging directory could not do something.
#[derive(Debug, Error)]
pub enum StagingError {
    /// The directory can not be made.
    #[error("cannot create the staging directory {path}")]
    CreateDirectory {
        /// The directory.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What it holds can not be told.
    #[error("cannot list the staging directory")]
    List(#[source] StorageError),
    /// A leftover can not be removed.
    #[error("cannot remove {file} from the staging directory")]
    Remove {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: StorageError,
    },
    /// The upload does not fit.
    #[error(
        "{needed} bytes are needed and {available} are left in the staging directory, after the {reserved} of uploads that run"
    )]
    NoSpace {
        /// Bytes that the upload declared, or had when it stopped fitting.
        needed: u64,
        /// Bytes left.
        available: u64,
        /// Bytes promised to other uploads.
        reserved: u64,
    },
    /// The disk failed, or filled up against expectation.
    #[error("cannot write an upload to the staging directory")]
    Write(#[source] StorageError),
}

impl StagingError {
    /// Whether more space would help.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            StagingError::NoSpace { .. } => true,
            StagingError::Write(error) => error.is_no_space(),
            _ => false,
        }
    }
}

/// The staging directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StagingArea {
    directory: Utf8PathBuf,
    storage: Arc<dyn Storage>,
    quota_bytes: Option<u64>,
    reserved: Arc<Mutex<u64>>,
}

/// An upload that is being received. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Receiving {
    area: StagingArea,
    id: UploadId,
    pieces: mpsc::Sender<Bytes>,
    writer: JoinHandle<Result<(PendingFile, [u8; 32]), StorageError>>,
    reservation: Reservation,
    received: u64,
}

/// A received upload whose bytes are not durable yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Received {
    area: StagingArea,
    id: UploadId,
    file: PendingFile,
    /// SHA-256 of the zip, hexadecimal.
    pub sha256: String,
    /// Bytes of the zip.
    pub size: u64,
    reservation: Reservation,
}

/// A zip that is durable. It stays until [`StagingArea::remove`].
#[derive(Debug)]
pub struct Staged {
    /// Its name in the staging directory.
    pub file: String,
    /// Its bytes.
    pub size: u64,
}

impl StagingArea {
    /// Opens the directory and removes every file that is not in `keep`: what a crash has left.
    pub fn open(
        directory: &Utf8Path,
        quota_bytes: Option<u64>,
        keep: &BTreeSet<String>,
    ) -> Result<StagingArea, StagingError> {
        std::fs::create_dir_all(directory)
            .map_err(|source| StagingError::CreateDirectory { path: directory.to_owned(), source })?;
        let storage: Arc<dyn Storage> = Arc::new(RealDisk::new(directory));
        for entry in storage.list(Utf8Path::new("")).map_err(StagingError::List)? {
            if !keep.contains(&entry.name) {
                tracing::info!(
                    file = entry.name,
                    bytes = entry.metadata.size,
                    "removing an unfinished upload"
                );
                storage
                    .remove(Utf8Path::new(&entry.name))
                    .map_err(|source| StagingError::Remove { file: entry.name, source })?;
            }
        }
        let reserved = Arc::new(Mutex::new(0));
        Ok(StagingArea { directory: directory.to_owned(), storage, quota_bytes, reserved })
    }

    /// Where a staged zip is.
    #[must_use]
    pub fn path(&self, file: &str) -> Utf8PathBuf {
        self.directory.join(file)
    }

    /// Whether a staged zip is there.
    #[must_use]
    pub fn contains(&self, file: &str) -> bool {
        self.storage.metadata(Utf8Path::new(file)).is_ok()
    }

    /// Bytes of everything in the directory.
    pub fn used_bytes(&self) -> Result<u64, StagingError> {
        let entries = self.storage.list(Utf8Path::new("")).map_err(StagingError::List)?;
        Ok(entries.iter().map(|entry| entry.metadata.size).sum())
    }

    /// Starts to receive an upload, if there is room for the bytes that it declares.
    pub fn receive(&self, declared_bytes: Option<u64>) -> Result<Receiving, StagingError> {
        let mut reservation = Reservation { area: self.clone(), bytes: 0 };
        reservation.grow(declared_bytes.unwrap_or(0))?;
        let id = UploadId::generate();
        let mut file =
            PendingFile::create(Arc::clone(&self.storage), "upload", format!("{id}.zip.part").into())
                .map_err(StagingError::Write)?;
        let (pieces, mut queue) = mpsc::channel::<Bytes>(PIECES_QUEUED_MAX);
        let writer = tokio::task::spawn_blocking(move || {
            let mut hasher = Sha256::new();
            let mut started = 0;
            while let Some(piece) = queue.blocking_recv() {
                file.write(&mut [IoSlice::new(&piece)])?;
                hasher.update(&piece);
                if file.written() - started >= WRITEBACK_BYTES {
                    file.start_writeback(started);
                    started = file.written();
                }
            }
            Ok((file, hasher.finalize().into()))
        });
        Ok(Receiving { area: self.clone(), id, pieces, writer, reservation, received: 0 })
    }

    /// Removes a zip that no row names any more.
    pub async fn remove(&self, file: &str) -> Result<(), StagingError> {
        let storage = Arc::clone(&self.storage);
        let name = file.to_owned();
        let removed = tokio::task::spawn_blocking(move || storage.remove(Utf8Path::new(&name)))
            .await
            .expect("removing a file does not panic");
        match removed {
            Err(source) if !source.is_not_found() => {
                Err(StagingError::Remove { file: file.to_owned(), source })
            }
            _ => Ok(()),
        }
    }

    /// Bytes that may still be written: the quota's or the file system's, whichever is less.
    fn available(&self) -> Result<u64, StagingError> {
        let space = self.storage.space().map_err(StagingError::List)?;
        let of_file_system = space.available.saturating_sub(RESERVE_BYTES);
        let Some(quota) = self.quota_bytes else { return Ok(of_file_system) };
        Ok(of_file_system.min(quota.saturating_sub(self.used_bytes()?)))
    }
}

impl Receiving {
    /// Takes the next piece.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), StagingError> {
        self.received += piece.len() as u64;
        if self.received > self.reservation.bytes {
            self.reservation.grow(self.received - self.reservation.bytes)?;
        }
        if self.pieces.send(piece).await.is_err() {
            // The writer has ended, so it has failed; it knows why.
            return Err(self.failure().await);
        }
        Ok(())
    }

    /// Ends the receiving; everything is written, though not durable yet.
    pub async fn finish(self) -> Result<Received, StagingError> {
        let Receiving { area, id, pieces, writer, reservation, received } = self;
        drop(pieces);
        let (file, digest) = writer.await.expect("the writer does not panic").map_err(StagingError::Write)?;
        let sha256 = ids::ArtifactHash(digest).to_string();
        Ok(Received { area, id, file, sha256, size: received, reservation })
    }

    async fn failure(&mut self) -> StagingError {
        match (&mut self.writer).await.expect("the writer does not panic") {
            Err(error) => StagingError::Write(error),
            Ok(_) => unreachable!("the writer ends well only after its queue was closed"),
        }
    }
}

impl Received {
    /// Where the bytes are for now.
    #[must_use]
    pub fn path(&self) -> Utf8PathBuf {
        self.area.path(&format!("{}.zip.part", self.id))
    }

    /// Makes the upload durable under its final name. Call it only for what is going to be recorded.
    pub async fn publish(self) -> Result<Staged, StagingError> {
        let Received { id, file, size, reservation, .. } = self;
        let name = format!("{id}.zip");
        let target = Utf8PathBuf::from(&name);
        let published = tokio::task::spawn_blocking(move || file.seal(true)?.publish(&target))
            .await
            .expect("publishing a file does not panic");
        published.map_err(StagingError::Write)?;
        drop(reservation);
        Ok(Staged { file: name, size })
    }
}

/// Bytes that are promised to an upload that runs.
#[derive(Debug)]
struct Reservation {
    area: StagingArea,
    bytes: u64,
}

impl Reservation {
    fn grow(&mut self, more: u64) -> Result<(), StagingError> {
        let available = self.area.available()?;
        let mut reserved = self.area.reserved.lock().expect("nothing panics while it holds a number");
        // What is received is both on disk and reserved; that errs on the side of refusing.
        if more > available.saturating_sub(*reserved) {
            return Err(StagingError::NoSpace { needed: self.bytes + more, available, reserved: *reserved });
        }
        *reserved += more;
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut reserved = self.area.reserved.lock().expect("nothing panics while it holds a number");
        *reserved -= self.bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn area(quota: Option<u64>) -> (camino_tempfile::Utf8TempDir, StagingArea) {
        let dir = camino_tempfile::tempdir().unwrap();
        let area = StagingArea::open(dir.path(), quota, &BTreeSet::new()).unwrap();
        (dir, area)
    }

    async fn receive(area: &StagingArea, bytes: &'static [u8]) -> Received {
        let mut receiving = area.receive(Some(bytes.len() as u64)).unwrap();
        receiving.write(Bytes::from_static(bytes)).await.unwrap();
        receiving.finish().await.unwrap()
    }

    #[tokio::test]
    async fn a_published_upload_is_there_and_a_dropped_one_leaves_nothing() {
        let (_dir, area) = area(None);
        let staged = receive(&area, b"content").await.publish().await.unwrap();
        assert_eq!(std::fs::read(area.path(&staged.file)).unwrap(), b"content");
        drop(receive(&area, b"refused").await);
        assert_eq!(area.used_bytes().unwrap(), 7);
        area.remove(&staged.file).await.unwrap();
        area.remove(&staged.file).await.unwrap();
        assert_eq!(area.used_bytes().unwrap(), 0);
        assert_eq!(*area.reserved.lock().unwrap(), 0);
    }

    #[tokio::test]
    async fn uploads_that_run_do_not_count_on_the_same_space() {
        let (_dir, area) = area(Some(10));
        let first = area.receive(Some(6)).unwrap();
        let refused = area.receive(Some(6)).unwrap_err();
        assert!(refused.is_no_space(), "{refused}");
        drop(first);
        let mut second = area.receive(None).unwrap();
        second.write(Bytes::from_static(b"12345")).await.unwrap();
        assert!(second.write(Bytes::from_static(b"678901")).await.unwrap_err().is_no_space());
    }

    #[tokio::test]
    async fn opening_removes_what_no_row_names() {
        let (dir, area) = area(None);
        let kept = receive(&area, b"kept").await.publish().await.unwrap();
        receive(&area, b"orphan").await.publish().await.unwrap();
        std::fs::write(dir.path().join("x.zip.part"), b"half").unwrap();
        let area = StagingArea::open(dir.path(), None, &BTreeSet::from([kept.file.clone()])).unwrap();
        assert!(area.contains(&kept.file));
        assert_eq!(area.used_bytes().unwrap(), 4);
    }
}
