//! The staging directory: uploaded zips, kept until the sleds hold their artifacts.
//!
//! Layout: `<state_dir>/staging/<upload id>.zip.part` while it is received and examined, `<upload id>.zip` once it is
//! durable. The database row that names the zip is written after that, and deleted before the zip is removed. So a
//! crash leaves at most files that no row names, and the clean-up (`clean_up`) removes those, at the start and later:
//!
//! | crash after | leaves | the clean-up |
//! |---|---|---|
//! | created, written | `.zip.part` | removed |
//! | synced, renamed, directory synced | `.zip` without a row: never acknowledged | removed |
//! | row inserted | `.zip` with its row | kept |
//! | row deleted | `.zip` without a row | removed |
//!
//! A file counts as gone only if the disk says so, and only in the directory that was there at the start: where the disk is
//! not mounted, an empty directory has its name, and says of every upload that it never was.
//!
//! Space is promised before a byte is received (`promises`): an upload that declares its length and does not fit is
//! refused at once, and uploads that run at the same time do not count on the same space.

use super::{
    live_uploads::{LiveUpload, LiveUploads},
    promises::{Promise, Promises},
};
use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{PendingFile, RealDisk, RootIdentity, Storage, StorageError};
use sha2::{Digest, Sha256};
use std::{io::IoSlice, sync::Arc};
use thiserror::Error;
use tokio::{sync::mpsc, task::JoinHandle};

/// Pieces of an upload that wait for the disk. Network pieces are at most a few hundred KiB, so this bounds an
/// upload's memory to a few MiB and still keeps disk and network busy at the same time.
const PIECES_QUEUED_MAX: usize = 8;

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
    /// Whether a staged zip is there can not be told.
    #[error("cannot tell whether {file} is in the staging directory")]
    Look {
        /// The file.
        file: String,
        /// Why.
        #[source]
        source: StorageError,
    },
    /// The path leads to another directory than at the start.
    #[error(
        "{path} is another directory than at the start, as when its disk is not mounted; nothing is concluded from it"
    )]
    Replaced {
        /// The directory.
        path: Utf8PathBuf,
    },
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
        "{needed} more bytes are needed and {available} are left in the staging directory, of which {promised} are promised to uploads that run"
    )]
    NoSpace {
        /// Bytes that the upload declared, or those with which it stopped fitting.
        needed: u64,
        /// Bytes left.
        available: u64,
        /// Those of them that are promised to uploads and not written yet.
        promised: u64,
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
    /// Which directory it was at the start; none where there is no other path to it.
    identity: Option<RootIdentity>,
    quota_bytes: Option<u64>,
    promises: Promises,
    live: LiveUploads,
}

/// A file in the directory.
#[derive(Clone, Debug)]
pub struct StagedFile {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub size: u64,
}

/// An upload that is being received. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Receiving {
    area: StagingArea,
    upload: LiveUpload,
    pieces: mpsc::Sender<Bytes>,
    writer: JoinHandle<Result<Written, StagingError>>,
}

/// Everything that the writer has written, and its SHA-256.
type Written = (PendingFile, [u8; 32]);

/// A received upload whose bytes are not durable yet. Dropped, it leaves nothing behind.
#[derive(Debug)]
pub struct Received {
    area: StagingArea,
    // Dropped in this order: the file goes while its upload still runs.
    file: PendingFile,
    upload: LiveUpload,
    /// SHA-256 of the zip, hexadecimal.
    pub sha256: String,
    /// Bytes of the zip.
    pub size: u64,
}

/// A zip that is durable. Until this is dropped, nothing but [`StagingArea::remove`] takes it away; after that, it
/// stays as long as a row names it.
#[derive(Debug)]
pub struct Staged {
    _upload: LiveUpload,
    /// Its name in the staging directory.
    pub file: String,
    /// Its bytes.
    pub size: u64,
}

impl StagingArea {
    /// Opens the directory.
    pub fn open(directory: &Utf8Path, quota_bytes: Option<u64>) -> Result<StagingArea, StagingError> {
        std::fs::create_dir_all(directory)
            .map_err(|source| StagingError::CreateDirectory { path: directory.to_owned(), source })?;
        StagingArea::on(Arc::new(RealDisk::new(directory)), directory, quota_bytes)
    }

    fn on(
        storage: Arc<dyn Storage>,
        directory: &Utf8Path,
        quota_bytes: Option<u64>,
    ) -> Result<StagingArea, StagingError> {
        let identity = storage.identity().map_err(StagingError::List)?;
        Ok(StagingArea {
            directory: directory.to_owned(),
            storage,
            identity,
            quota_bytes,
            promises: Promises::default(),
            live: LiveUploads::default(),
        })
    }

    /// Where a staged zip is.
    #[must_use]
    pub fn path(&self, file: &str) -> Utf8PathBuf {
        self.directory.join(file)
    }

    /// Whether a staged zip is there. `false` only if the disk says that there is no such file.
    pub async fn holds(&self, file: &str) -> Result<bool, StagingError> {
        let (storage, name) = (Arc::clone(&self.storage), file.to_owned());
        let looked = tokio::task::spawn_blocking(move || storage.metadata(Utf8Path::new(&name)));
        match looked.await.expect("looking at a file does not panic") {
            Ok(_) => Ok(true),
            Err(source) if source.is_not_found() => Ok(false),
            Err(source) => Err(StagingError::Look { file: file.to_owned(), source }),
        }
    }

    /// That this is still the directory of the start. What was seen of it before this was true of that one.
    pub async fn check_identity(&self) -> Result<(), StagingError> {
        let storage = Arc::clone(&self.storage);
        let now = tokio::task::spawn_blocking(move || storage.identity());
        let now = now.await.expect("looking at a directory does not panic").map_err(StagingError::List)?;
        if now == self.identity {
            return Ok(());
        }
        Err(StagingError::Replaced { path: self.directory.clone() })
    }

    /// Bytes of everything in the directory.
    pub fn used_bytes(&self) -> Result<u64, StagingError> {
        let entries = self.storage.list(Utf8Path::new("")).map_err(StagingError::List)?;
        Ok(entries.iter().map(|entry| entry.metadata.size).sum())
    }

    /// Every file but those of uploads that run.
    pub async fn files_at_rest(&self) -> Result<Vec<StagedFile>, StagingError> {
        let area = self.clone();
        let listed = tokio::task::spawn_blocking(move || {
            let entries = area.storage.list(Utf8Path::new("")).map_err(StagingError::List)?;
            let files =
                entries.into_iter().map(|entry| StagedFile { name: entry.name, size: entry.metadata.size });
            Ok(files.filter(|file| !area.live.own(&file.name)).collect())
        });
        listed.await.expect("listing a directory does not panic")
    }

    /// Starts to receive an upload, if there is room for the bytes that it declares.
    pub fn receive(&self, declared_bytes: Option<u64>) -> Result<Receiving, StagingError> {
        let promise = self.promises.open();
        self.promise(&promise, declared_bytes.unwrap_or(0))?;
        let upload = self.live.begin();
        let part = format!("{}.zip.part", upload.id());
        let file = PendingFile::create(Arc::clone(&self.storage), "upload", part.into())
            .map_err(StagingError::Write)?;
        let (pieces, queue) = mpsc::channel(PIECES_QUEUED_MAX);
        let area = self.clone();
        let promised = declared_bytes.unwrap_or(0);
        let live = upload.clone();
        let writer = tokio::task::spawn_blocking(move || {
            // The file is this thread's until it is handed on, also when nobody waits for that any more.
            let _live = live;
            area.write_pieces(queue, file, &promise, promised)
        });
        Ok(Receiving { area: self.clone(), upload, pieces, writer })
    }

    /// The writer's loop: each piece that was not promised gets its promise, is written and leaves it.
    fn write_pieces(
        &self,
        mut queue: mpsc::Receiver<Bytes>,
        mut file: PendingFile,
        promise: &Promise,
        mut promised: u64,
    ) -> Result<Written, StagingError> {
        let mut hasher = Sha256::new();
        while let Some(piece) = queue.blocking_recv() {
            let length = piece.len() as u64;
            let end = file.written() + length;
            if end > promised {
                self.promise(promise, end - promised)?;
                promised = end;
            }
            file.write(&mut [IoSlice::new(&piece)]).map_err(StagingError::Write)?;
            promise.keep(length);
            hasher.update(&piece);
        }
        Ok((file, hasher.finalize().into()))
    }

    fn promise(&self, promise: &Promise, more: u64) -> Result<(), StagingError> {
        promise.grow(more, || self.available())?.map_err(|short| StagingError::NoSpace {
            needed: more,
            available: short.available,
            promised: short.promised,
        })
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
        if self.pieces.send(piece).await.is_err() {
            // The writer has ended, so it has failed; it knows why.
            return Err(self.failure().await);
        }
        Ok(())
    }

    /// Ends the receiving; everything is written, though not durable yet.
    pub async fn finish(self) -> Result<Received, StagingError> {
        let Receiving { area, upload, pieces, writer } = self;
        drop(pieces);
        let (file, digest) = writer.await.expect("the writer does not panic")?;
        let size = file.written();
        let sha256 = ids::ArtifactHash(digest).to_string();
        Ok(Received { area, upload, file, sha256, size })
    }

    async fn failure(&mut self) -> StagingError {
        match (&mut self.writer).await.expect("the writer does not panic") {
            Err(error) => error,
            Ok(_) => unreachable!("the writer ends well only after its queue was closed"),
        }
    }
}

impl Received {
    /// Where the bytes are for now.
    #[must_use]
    pub fn path(&self) -> Utf8PathBuf {
        self.area.path(&format!("{}.zip.part", self.upload.id()))
    }

    /// Makes the upload durable under its final name. Call it only for what is going to be recorded.
    pub async fn publish(self) -> Result<Staged, StagingError> {
        let Received { upload, file, size, .. } = self;
        let name = format!("{}.zip", upload.id());
        let target = Utf8PathBuf::from(&name);
        let published = tokio::task::spawn_blocking(move || file.seal(true)?.publish(&target))
            .await
            .expect("publishing a file does not panic");
        published.map_err(StagingError::Write)?;
        Ok(Staged { _upload: upload, file: name, size })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use durable_fs::{DiskFaults, FaultyDisk};

    fn area(quota: Option<u64>) -> (camino_tempfile::Utf8TempDir, StagingArea) {
        let dir = camino_tempfile::tempdir().unwrap();
        let area = StagingArea::open(dir.path(), quota).unwrap();
        (dir, area)
    }

    #[tokio::test]
    async fn a_disk_that_fails_does_not_say_that_an_upload_is_gone() {
        let dir = camino_tempfile::tempdir().unwrap();
        let faults = DiskFaults::new();
        let storage = Arc::new(FaultyDisk::new(RealDisk::new(dir.path()), faults.clone()));
        let area = StagingArea::on(storage, dir.path(), None).unwrap();
        let staged = receive(&area, b"content").await.publish().await.unwrap();
        faults.fail();
        let error = area.holds(&staged.file).await.unwrap_err();
        assert!(matches!(error, StagingError::Look { .. }), "{error}");
        assert!(area.check_identity().await.is_err());
        faults.heal();
        assert!(area.holds(&staged.file).await.unwrap() && !area.holds("gone.zip").await.unwrap());
        area.check_identity().await.unwrap();
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
        assert_eq!(area.promises.outstanding(), 0);
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
        second.write(Bytes::from_static(b"678901")).await.unwrap();
        assert!(second.finish().await.unwrap_err().is_no_space());
    }

    #[tokio::test]
    async fn an_upload_without_a_declared_length_may_fill_the_whole_room() {
        let (_dir, area) = area(Some(100));
        let mut receiving = area.receive(None).unwrap();
        for _ in 0..10 {
            receiving.write(Bytes::from_static(b"0123456789")).await.unwrap();
        }
        drop(receiving.finish().await.unwrap());
        let mut longer = area.receive(None).unwrap();
        longer.write(Bytes::from(vec![0; 101])).await.unwrap();
        assert!(longer.finish().await.unwrap_err().is_no_space());
        let mut declared = area.receive(Some(100)).unwrap();
        declared.write(Bytes::from_static(b"0123456789")).await.unwrap();
        assert!(area.receive(Some(1)).unwrap_err().is_no_space(), "ninety of a hundred are promised");
    }
}
