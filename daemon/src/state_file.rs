//! The small JSON file that keeps who a process is (a sled's id and epoch, a coordinator's id).
//!
//! Written through temp → fsync → rename → fsync directory, so a crash leaves the old one or the new one. A file that
//! can not be read is never replaced: losing an identity is worse than not starting.

use crate::state_directory;
use camino::{Utf8Path, Utf8PathBuf};
use durable_fs::{RealDisk, Storage, StorageError};
use serde::{Serialize, de::DeserializeOwned};
use std::sync::Arc;
use thiserror::Error;

/// A state file that can not be used.
#[derive(Debug, Error)]
pub enum StateFileError {
    /// The directory can not be made.
    #[error("cannot create the state directory {path}")]
    CreateDirectory {
        /// The directory.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file can not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is not what it should be.
    #[error(
        "{path} is damaged or of a newer version; restore it, or remove it to start anew under a new identity"
    )]
    Damaged {
        /// The file.
        path: Utf8PathBuf,
        /// Where it is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The file can not be written.
    #[error("cannot write {path}")]
    Write {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: StorageError,
    },
}

/// Reads the file, lets `change` make the next content of it (from nothing if it is not there), and writes that
/// durably before it is handed back. Content that does not change is not written: a full disk keeps nobody from being
/// who they are.
pub fn update<T: Serialize + DeserializeOwned>(
    directory: &Utf8Path,
    name: &str,
    change: impl FnOnce(Option<T>) -> T,
) -> Result<T, StateFileError> {
    state_directory::create(directory)
        .map_err(|source| StateFileError::CreateDirectory { path: directory.to_owned(), source })?;
    let path = directory.join(name);
    let on_disk = match std::fs::read(&path) {
        Ok(bytes) => Some(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(StateFileError::Read { path, source }),
    };
    let known = on_disk
        .as_deref()
        .map(serde_json::from_slice)
        .transpose()
        .map_err(|source| StateFileError::Damaged { path: path.clone(), source })?;
    let next = change(known);
    let bytes = serde_json::to_vec_pretty(&next).expect("an identity is plain data");
    if on_disk.as_deref() == Some(bytes.as_slice()) {
        return Ok(next);
    }
    let disk: Arc<dyn Storage> = Arc::new(RealDisk::new(directory));
    durable_fs::write_atomically(&disk, "state", Utf8Path::new(name), &bytes)
        .map_err(|source| StateFileError::Write { path, source })?;
    Ok(next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn content_that_stays_is_not_written_again() {
        let dir = camino_tempfile::tempdir().unwrap();
        let keep = |old: Option<u32>| old.unwrap_or(7);
        assert_eq!(update(dir.path(), "n.json", keep).unwrap(), 7);
        let inode = || std::fs::metadata(dir.path().join("n.json")).unwrap().ino();
        let before = inode();
        assert_eq!(update(dir.path(), "n.json", keep).unwrap(), 7);
        assert_eq!(inode(), before, "the file was replaced");
    }

    #[test]
    fn content_outlives_the_process_and_damage_is_never_overwritten() {
        let dir = camino_tempfile::tempdir().unwrap();
        let count = |old: Option<u32>| old.unwrap_or(0) + 1;
        assert_eq!(update(dir.path(), "n.json", count).unwrap(), 1);
        assert_eq!(update(dir.path(), "n.json", count).unwrap(), 2);
        std::fs::write(dir.path().join("n.json"), "{half").unwrap();
        assert!(matches!(update(dir.path(), "n.json", count), Err(StateFileError::Damaged { .. })));
        assert_eq!(std::fs::read_to_string(dir.path().join("n.json")).unwrap(), "{half");
    }
}
