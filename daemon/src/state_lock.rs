//! One process per state directory.
//!
//! Two processes on one state directory would be two with one identity, and would write over each other. So a process
//! takes an advisory lock on `<state_dir>/lock` before it touches anything else there, and holds it for its life. The
//! kernel gives it back when the process ends, however it ends: there is no stale lock, and nothing to clean up. The
//! file stays; it holds the pid of whoever had the lock last, for people.

use crate::state_directory;
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    fs::{File, Metadata, TryLockError},
    io::{self, Read, Write},
};
use thiserror::Error;

/// The lock's file in the state directory.
const FILE_NAME: &str = "lock";

/// Bytes of the file that are read; a pid is shorter.
const PID_BYTES_MAX: u64 = 32;

/// A state directory that is this process's own for as long as this lives.
#[derive(Debug)]
pub struct StateLock {
    path: Utf8PathBuf,
    file: File,
}

/// A state directory that is not to be had.
#[derive(Debug, Error)]
pub enum StateLockError {
    /// The directory can not be made.
    #[error("cannot create the state directory {path}")]
    CreateDirectory {
        /// The directory.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The lock's file can not be opened or written.
    #[error("cannot open the lock {path}")]
    Open {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file system does not lock.
    #[error("cannot lock {path}")]
    Lock {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another process has it.
    #[error("the state directory {path} is in use by another process{}", in_words(*holder))]
    Held {
        /// The directory.
        path: Utf8PathBuf,
        /// The other process, if it has said so yet.
        holder: Option<u32>,
    },
}

fn in_words(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
}

impl StateLock {
    /// Makes the directory if it is not there, and takes it; refused at once if another process has it.
    pub fn take(directory: &Utf8Path) -> Result<StateLock, StateLockError> {
        state_directory::create(directory)
            .map_err(|source| StateLockError::CreateDirectory { path: directory.to_owned(), source })?;
        let path = directory.join(FILE_NAME);
        let open = |source| StateLockError::Open { path: path.clone(), source };
        // Not truncated: until the lock is ours, what is in it is another's.
        let mut file =
            File::options().read(true).write(true).create(true).truncate(false).open(&path).map_err(open)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let holder = read_pid(&mut file);
                return Err(StateLockError::Held { path: directory.to_owned(), holder });
            }
            Err(TryLockError::Error(source)) => return Err(StateLockError::Lock { path, source }),
        }
        // Not synced: after a power loss nobody holds the lock, whatever the file says.
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(open)?;
        Ok(StateLock { path, file })
    }

    /// Where the lock's file was when it was taken. What is there now may be another one.
    #[must_use]
    pub fn path(&self) -> &Utf8Path {
        &self.path
    }

    /// What the system says of the file that is held, wherever that is now.
    ///
    /// # Errors
    /// If it says nothing.
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.file.metadata()
    }
}

/// Whether a process has a directory, as far as can be seen without taking it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holding {
    /// Nobody has.
    Free,
    /// One has: this one, if it has said so yet.
    Held(Option<u32>),
}

/// Looks whether a process has this directory. Makes nothing, writes nothing, and is true for the instant only.
pub fn look(directory: &Utf8Path) -> Result<Holding, StateLockError> {
    let path = directory.join(FILE_NAME);
    let mut file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Holding::Free),
        Err(source) => return Err(StateLockError::Open { path, source }),
    };
    // Shared: whoever looks at the same time does not see this. Given back at once.
    match file.try_lock_shared() {
        Ok(()) => Ok(Holding::Free),
        Err(TryLockError::WouldBlock) => Ok(Holding::Held(read_pid(&mut file))),
        Err(TryLockError::Error(source)) => Err(StateLockError::Lock { path, source }),
    }
}

/// Who says to hold the lock; nobody if it has just been taken.
fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_BYTES_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_had_by_one_at_a_time_and_given_back_by_its_end() {
        let temp = camino_tempfile::tempdir().unwrap();
        let directory = temp.path().join("not/there/yet");
        let lock = StateLock::take(&directory).unwrap();
        let refusal = StateLock::take(&directory).unwrap_err();
        let me = std::process::id();
        assert_eq!(
            refusal.to_string(),
            format!("the state directory {directory} is in use by another process (pid {me})")
        );
        assert_eq!(look(&directory).unwrap(), Holding::Held(Some(me)));
        drop(lock);
        assert_eq!(look(&directory).unwrap(), Holding::Free);
        StateLock::take(&directory).unwrap();
    }

    #[test]
    fn a_file_that_an_earlier_life_left_is_no_obstacle() {
        let temp = camino_tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join(FILE_NAME), "4294967295 and more").unwrap();
        let _lock = StateLock::take(temp.path()).unwrap();
        let left = std::fs::read_to_string(temp.path().join(FILE_NAME)).unwrap();
        assert_eq!(left, format!("{}\n", std::process::id()));
    }

    #[test]
    fn what_is_held_stays_so_whatever_is_put_in_its_place() {
        use std::os::unix::fs::MetadataExt;
        let temp = camino_tempfile::tempdir().unwrap();
        let lock = StateLock::take(temp.path()).unwrap();
        let aside = temp.path().join("aside");
        std::fs::rename(lock.path(), &aside).unwrap();
        std::fs::write(lock.path(), "another").unwrap();
        assert_eq!(lock.metadata().unwrap().ino(), std::fs::metadata(&aside).unwrap().ino());
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let temp = camino_tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("file"), "").unwrap();
        let refusal = StateLock::take(&temp.path().join("file/state")).unwrap_err();
        assert!(refusal.to_string().ends_with("/file/state"), "{refusal}");
        assert!(matches!(refusal, StateLockError::CreateDirectory { .. }));
    }
}
