//! Where fetched bytes go, and when they become visible: only when they are known to be right.
//!
//! - A file: temporary file beside the target → fsync → rename → fsync of the folder. A crash before the rename leaves
//!   the target as it was and at worst a `.sledctl-*` file beside it; after it, the new file.
//! - A stream: the last piece is held back until all is right, so that a reader of bad bytes never gets all of them.
//!   What has been written cannot be taken back, so starting over is only possible before that.

use bytes::Bytes;
use camino::{Utf8Path, Utf8PathBuf};
use camino_tempfile::NamedUtf8TempFile;
use std::{fs, io, os::unix::fs::PermissionsExt, pin::Pin};
use thiserror::Error;
use tokio::{
    fs::File,
    io::{AsyncSeekExt, AsyncWrite, AsyncWriteExt},
};

/// Permissions of a new file before the umask takes its part.
const FILE_MODE: u32 = 0o666;

/// Where the bytes go.
pub struct Sink {
    kind: SinkKind,
}

enum SinkKind {
    File { temporary: NamedUtf8TempFile, file: File, target: Utf8PathBuf, replace: bool },
    Stream { out: Pin<Box<dyn AsyncWrite + Send>>, held_back: Bytes, written: bool },
}

/// Why bytes could not be put where they are wanted.
#[derive(Debug, Error)]
pub enum SinkError {
    /// The target is there already.
    #[error("{path} exists already")]
    Exists {
        /// The target.
        path: Utf8PathBuf,
    },
    /// The target is a folder, a device, a pipe.
    #[error("{path} is not a regular file")]
    NotAFile {
        /// The target.
        path: Utf8PathBuf,
    },
    /// A terminal is no place for an artifact.
    #[error("standard output is a terminal, and artifacts are not text")]
    Terminal,
    /// Bad bytes have already gone where they cannot be taken back from.
    #[error(
        "what was written to standard output is not the artifact: {reason}; its last piece was held back"
    )]
    BadBytesWritten {
        /// How that was found out.
        reason: String,
    },
    /// The target cannot be written.
    #[error("{path} could not be written: {step}")]
    Write {
        /// The target.
        path: Utf8PathBuf,
        /// The step that failed.
        step: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Standard output cannot be written.
    #[error("standard output could not be written")]
    Stdout(#[source] io::Error),
}

impl SinkError {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            SinkError::Exists { .. } => Some("add --force to replace it".to_owned()),
            SinkError::NotAFile { .. } => Some("to write there: -O - with a redirection".to_owned()),
            SinkError::Terminal => Some("redirect it, or give -O FILE".to_owned()),
            SinkError::BadBytesWritten { .. } => Some("throw the output away and try again".to_owned()),
            SinkError::Write { .. } | SinkError::Stdout(_) => None,
        }
    }
}

/// Whether a file may be put at `target`: asked before anybody is called.
pub fn check_target(target: &Utf8Path, replace: bool) -> Result<(), SinkError> {
    match fs::symlink_metadata(target) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(SinkError::Write { path: target.to_owned(), step: "looking at it", source }),
        // A link is replaced itself; what it points to stays.
        Ok(found) if !found.is_file() && !found.is_symlink() => {
            Err(SinkError::NotAFile { path: target.to_owned() })
        }
        Ok(_) if !replace => Err(SinkError::Exists { path: target.to_owned() }),
        Ok(_) => Ok(()),
    }
}

impl Sink {
    /// A file that appears at `target` when it is complete and right.
    pub fn file(target: &Utf8Path, replace: bool) -> Result<Sink, SinkError> {
        let failed = |source| SinkError::Write {
            path: target.to_owned(),
            step: "making a temporary file beside it",
            source,
        };
        check_target(target, replace)?;
        let temporary = camino_tempfile::Builder::new()
            .prefix(".sledctl-")
            .permissions(fs::Permissions::from_mode(FILE_MODE))
            .tempfile_in(folder_of(target))
            .map_err(failed)?;
        let file = File::from_std(temporary.as_file().try_clone().map_err(failed)?);
        Ok(Sink { kind: SinkKind::File { temporary, file, target: target.to_owned(), replace } })
    }

    /// A stream that gets the last piece only when all of it is right.
    pub fn stream(out: impl AsyncWrite + Send + 'static) -> Sink {
        Sink { kind: SinkKind::Stream { out: Box::pin(out), held_back: Bytes::new(), written: false } }
    }

    /// Takes the next bytes.
    pub async fn write(&mut self, piece: Bytes) -> Result<(), SinkError> {
        match &mut self.kind {
            SinkKind::File { file, target, .. } => file.write_all(&piece).await.map_err(|source| {
                SinkError::Write { path: target.clone(), step: "writing the temporary file", source }
            }),
            SinkKind::Stream { held_back, .. } if piece.is_empty() || held_back.is_empty() => {
                if !piece.is_empty() {
                    *held_back = piece;
                }
                Ok(())
            }
            SinkKind::Stream { out, held_back, written } => {
                *written = true;
                let earlier = std::mem::replace(held_back, piece);
                out.write_all(&earlier).await.map_err(SinkError::Stdout)
            }
        }
    }

    /// Throws away what was taken so far, because of `reason`; the next bytes are the first again.
    pub async fn start_over(&mut self, reason: &str) -> Result<(), SinkError> {
        match &mut self.kind {
            SinkKind::File { file, target, .. } => {
                let failed = |source| SinkError::Write {
                    path: target.clone(),
                    step: "emptying the temporary file",
                    source,
                };
                file.flush().await.map_err(failed)?;
                file.set_len(0).await.map_err(failed)?;
                file.rewind().await.map_err(failed)?;
                Ok(())
            }
            SinkKind::Stream { written: true, .. } => {
                Err(SinkError::BadBytesWritten { reason: reason.to_owned() })
            }
            SinkKind::Stream { held_back, .. } => {
                held_back.clear();
                Ok(())
            }
        }
    }

    /// Makes what was written visible; called when it is known to be right.
    pub async fn finish(self) -> Result<(), SinkError> {
        match self.kind {
            SinkKind::File { temporary, mut file, target, replace } => {
                let failed = |step, source| SinkError::Write { path: target.clone(), step, source };
                file.flush().await.map_err(|error| failed("writing the temporary file", error))?;
                file.sync_all().await.map_err(|error| failed("syncing the temporary file", error))?;
                publish(temporary, &target, replace)
            }
            SinkKind::Stream { mut out, held_back, .. } => {
                out.write_all(&held_back).await.map_err(SinkError::Stdout)?;
                out.flush().await.map_err(SinkError::Stdout)
            }
        }
    }
}

/// Gives the temporary file its name.
fn publish(temporary: NamedUtf8TempFile, target: &Utf8Path, replace: bool) -> Result<(), SinkError> {
    let failed = |step, source| SinkError::Write { path: target.to_owned(), step, source };
    let result = if replace { temporary.persist(target) } else { temporary.persist_noclobber(target) };
    match result {
        Ok(_) => {}
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(SinkError::Exists { path: target.to_owned() });
        }
        Err(error) => return Err(failed("giving the temporary file its name", error.error)),
    }
    let folder = fs::File::open(folder_of(target));
    folder.and_then(|folder| folder.sync_all()).map_err(|error| failed("syncing its folder", error))
}

fn folder_of(target: &Utf8Path) -> &Utf8Path {
    target.parent().filter(|folder| !folder.as_str().is_empty()).unwrap_or(Utf8Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &[u8] = b"what the name stands for";

    async fn bytes_of(path: &Utf8Path) -> Vec<u8> {
        tokio::fs::read(path).await.unwrap()
    }

    #[tokio::test]
    async fn file_appears_only_when_finished() {
        let dir = camino_tempfile::tempdir().unwrap();
        let target = dir.path().join("artifact");
        let mut sink = Sink::file(&target, false).unwrap();
        sink.write(Bytes::from_static(b"bad bytes that are longer than the good ones")).await.unwrap();
        sink.start_over("they were bad").await.unwrap();
        sink.write(Bytes::from_static(GOOD)).await.unwrap();
        assert!(!target.exists());
        sink.finish().await.unwrap();
        assert_eq!(bytes_of(&target).await, GOOD);
    }

    #[tokio::test]
    async fn unfinished_file_leaves_nothing() {
        let dir = camino_tempfile::tempdir().unwrap();
        let mut sink = Sink::file(&dir.path().join("artifact"), false).unwrap();
        sink.write(Bytes::from_static(GOOD)).await.unwrap();
        drop(sink);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn target_that_appears_meanwhile_is_not_replaced() {
        let dir = camino_tempfile::tempdir().unwrap();
        let target = dir.path().join("artifact");
        let mut sink = Sink::file(&target, false).unwrap();
        sink.write(Bytes::from_static(GOOD)).await.unwrap();
        fs::write(&target, b"somebody else's").unwrap();
        assert!(matches!(sink.finish().await, Err(SinkError::Exists { .. })));
        assert_eq!(bytes_of(&target).await, b"somebody else's");
    }

    #[test]
    fn devices_and_folders_are_never_replaced() {
        let dir = camino_tempfile::tempdir().unwrap();
        assert!(matches!(check_target(Utf8Path::new("/dev/null"), true), Err(SinkError::NotAFile { .. })));
        assert!(matches!(check_target(dir.path(), true), Err(SinkError::NotAFile { .. })));
    }

    #[tokio::test]
    async fn stream_holds_the_last_piece_back() {
        let (reader, writer) = tokio::io::duplex(1024);
        let mut sink = Sink::stream(writer);
        for piece in [b"one ".as_slice(), b"two ", b"three"] {
            sink.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        assert!(matches!(sink.start_over("bad").await, Err(SinkError::BadBytesWritten { .. })));
        drop(sink);
        assert_eq!(read_all(reader).await, b"one two ");
    }

    #[tokio::test]
    async fn finished_stream_has_every_byte() {
        let (reader, writer) = tokio::io::duplex(1024);
        let mut sink = Sink::stream(writer);
        sink.write(Bytes::from_static(b"bad")).await.unwrap();
        sink.start_over("nothing was written yet").await.unwrap();
        for piece in [b"one ".as_slice(), b"", b"two"] {
            sink.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        sink.finish().await.unwrap();
        assert_eq!(read_all(reader).await, b"one two");
    }

    async fn read_all(mut reader: tokio::io::DuplexStream) -> Vec<u8> {
        let mut bytes = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut reader, &mut bytes).await.unwrap();
        bytes
    }
}
