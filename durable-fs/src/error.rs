//! The port's one error: which operation failed, on which path, and why. What to do about it is the caller's.

use camino::{Utf8Path, Utf8PathBuf};
use std::{fmt, io};
use thiserror::Error;

/// An operation of the port that failed.
#[derive(Debug, Error)]
#[error("cannot {operation} {}", in_words(path))]
pub struct StorageError {
    /// What was tried.
    pub operation: Operation,
    /// On what.
    pub path: Utf8PathBuf,
    /// What the operating system, or the test disk in its place, said.
    #[source]
    pub source: io::Error,
}

fn in_words(path: &Utf8Path) -> &str {
    if path.as_str().is_empty() { "the directory itself" } else { path.as_str() }
}

/// What has the name is a directory, a link, a pipe, a socket or a device.
#[derive(Debug, Error)]
#[error("it is not a regular file")]
pub(crate) struct NotAFile;

impl From<NotAFile> for io::Error {
    fn from(error: NotAFile) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidInput, error)
    }
}

/// The operations of the port, as the words of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Make a directory.
    CreateDirectory,
    /// Create a file that did not exist.
    Create,
    /// Open a file for appending.
    OpenAppend,
    /// Open a file for reading.
    Open,
    /// Write to an open file.
    Write,
    /// Read from an open file.
    Read,
    /// Take space for bytes of an open file.
    Reserve,
    /// Make an open file's bytes durable.
    Sync,
    /// Make a directory's entries durable.
    SyncDirectory,
    /// Rename a file.
    Rename,
    /// Remove a file.
    Remove,
    /// List a directory.
    List,
    /// Read size and time of change.
    Metadata,
    /// Forbid further writing.
    SetReadOnly,
    /// Ask for the space that is left.
    Space,
    /// A test disk stopped after a named step.
    Stop,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::CreateDirectory => "create directory",
            Operation::Create => "create",
            Operation::OpenAppend => "open for appending",
            Operation::Open => "open",
            Operation::Write => "write",
            Operation::Read => "read",
            Operation::Reserve => "take space for",
            Operation::Sync => "sync",
            Operation::SyncDirectory => "sync directory",
            Operation::Rename => "rename",
            Operation::Remove => "remove",
            Operation::List => "list",
            Operation::Metadata => "read metadata of",
            Operation::SetReadOnly => "set read-only",
            Operation::Space => "ask for free space of",
            Operation::Stop => "go on after a step at",
        })
    }
}

impl StorageError {
    /// The error of `operation` on `path`.
    pub fn new(operation: Operation, path: &Utf8Path, source: impl Into<io::Error>) -> StorageError {
        StorageError { operation, path: path.to_owned(), source: source.into() }
    }

    /// Nothing is there under that name.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }

    /// Something is there already.
    #[must_use]
    pub fn is_already_exists(&self) -> bool {
        self.source.kind() == io::ErrorKind::AlreadyExists
    }

    /// The file system, or the owner's quota on it, has no room.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// The file system takes no writes, as after an error that made the kernel remount it.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.source.kind() == io::ErrorKind::ReadOnlyFilesystem
    }

    /// What has the name is no regular file, so it holds nothing that this port reads or writes.
    #[must_use]
    pub fn is_not_a_file(&self) -> bool {
        let ours = self.source.get_ref().and_then(|source| source.downcast_ref::<NotAFile>()).is_some();
        ours || self.source.kind() == io::ErrorKind::IsADirectory
    }

    /// The medium does not give back what was asked for: that is known of these bytes, and of no others.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        use rustix::io::Errno;
        let is_medium =
            matches!(Errno::from_io_error(&self.source), Some(Errno::IO | Errno::NODATA | Errno::ILSEQ));
        self.operation == Operation::Read && is_medium
    }

    /// The process or the host has run out of open files or of memory. That says nothing about the disk.
    #[must_use]
    pub fn is_exhausted(&self) -> bool {
        matches!(
            rustix::io::Errno::from_io_error(&self.source),
            Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE | rustix::io::Errno::NOMEM)
        )
    }
}
