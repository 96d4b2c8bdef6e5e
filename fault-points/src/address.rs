//! Socket paths of any length. Owns the detour around the kernel's limit; knows nothing of what is said on the socket.
//!
//! A unix socket's path has at most 107 bytes, and a state directory somewhere below a deep `target/` easily has more.
//! Such a socket is named through its directory's open file instead: `/proc/self/fd/7/faults.sock`.

use camino::{Utf8Path, Utf8PathBuf};
use std::{fs::File, io, os::fd::AsRawFd};

/// Bytes that `sun_path` holds besides its terminating zero.
const SOCKET_PATH_BYTES_MAX: usize = 107;

/// A path that fits into a socket address, valid for as long as this lives.
pub(crate) struct SocketAddress {
    path: Utf8PathBuf,
    /// Keeps the directory that `path` goes through open.
    _directory: Option<File>,
}

impl SocketAddress {
    /// The address of the socket at `path`, whose directory must exist.
    pub(crate) fn of(path: &Utf8Path) -> io::Result<SocketAddress> {
        if path.as_str().len() <= SOCKET_PATH_BYTES_MAX {
            return Ok(SocketAddress { path: path.to_owned(), _directory: None });
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a socket's path needs a file name"));
        };
        let directory = File::open(parent)?;
        let path = Utf8PathBuf::from(format!("/proc/self/fd/{}/{name}", directory.as_raw_fd()));
        Ok(SocketAddress { path, _directory: Some(directory) })
    }

    /// What to bind or connect to.
    pub(crate) fn path(&self) -> &Utf8Path {
        &self.path
    }
}
