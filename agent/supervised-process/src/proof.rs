//! Who has a directory, and whether that is provably the process that is to have it.

use crate::{
    command_line::{Words, is_gone, of_process, words_of},
    ours::Ours,
};
use camino::Utf8Path;
use daemon::state_lock::{self, Holding, StateLockError};
use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open},
};
use std::{fs, io};
use thiserror::Error;

/// Who has a directory that one process may have.
#[derive(Debug)]
pub enum Holder<T> {
    /// Nobody.
    Nobody,
    /// The process that is to have it, and what its command line says beside that.
    Ours(Ours, T),
    /// Somebody else, or somebody who has not said yet who it is.
    Unknown {
        /// Who it says to be.
        pid: Option<u32>,
        /// Why it is not provably ours.
        why: String,
    },
}

impl<T> Holder<T> {
    /// The same, with something else in place of what its command line says.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Holder<U> {
        match self {
            Holder::Nobody => Holder::Nobody,
            Holder::Ours(ours, said) => Holder::Ours(ours, change(said)),
            Holder::Unknown { pid, why } => Holder::Unknown { pid, why },
        }
    }
}

/// Why it cannot be seen.
#[derive(Debug, Error)]
pub enum HolderError {
    /// The lock cannot be looked at.
    #[error(transparent)]
    Lock(#[from] StateLockError),
    /// The process cannot be looked at.
    #[error("cannot look at the process {pid}, which has the lock")]
    Process {
        /// Which.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Looks who has a directory; ours is whoever has a command line of which `read` makes something. Nobody has one that is not there.
pub(crate) fn look<T>(
    dir: &Utf8Path,
    read: impl Fn(Words<'_>) -> Option<T>,
) -> Result<Holder<T>, HolderError> {
    let pid = match state_lock::look(dir)? {
        Holding::Free => return Ok(Holder::Nobody),
        Holding::Held(None) => {
            return Ok(Holder::Unknown { pid: None, why: "it has not said yet who it is".to_owned() });
        }
        Holding::Held(Some(pid)) => pid,
    };
    let unknown = |why: &str| Ok(Holder::Unknown { pid: Some(pid), why: why.to_owned() });
    let process = |source: io::Error| HolderError::Process { pid, source };
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return unknown("what it says is no pid");
    };
    let pidfd = match pidfd_open(raw, PidfdFlags::NONBLOCK) {
        Ok(pidfd) => pidfd,
        // What the file says is of an earlier holder, or the holder has ended just now.
        Err(Errno::SRCH | Errno::INVAL) => return unknown("there is no process of that number"),
        Err(error) => return Err(process(error.into())),
    };
    let line = of_process(pid).map_err(process)?.unwrap_or_default();
    let Some(said) = words_of(&line).get(1..).and_then(read) else {
        return unknown("its command line is not that of the process that is to have it");
    };
    if !has_open(pid, &dir.join("lock")).map_err(process)? {
        return unknown("it does not have the lock's file open");
    }
    let is_held = state_lock::look(dir)? == Holding::Held(Some(pid));
    let ours = Ours { pidfd, pid };
    if !is_held || ours.has_ended().map_err(process)? {
        return unknown("it has ended just now");
    }
    Ok(Holder::Ours(ours, said))
}

fn has_open(pid: u32, path: &Utf8Path) -> io::Result<bool> {
    let real = path.canonicalize_utf8()?;
    let entries = match fs::read_dir(format!("/proc/{pid}/fd")) {
        Err(error) if is_gone(&error) => return Ok(false),
        other => other?,
    };
    for entry in entries {
        // It may be closed while it is looked at.
        let Ok(target) = fs::read_link(entry?.path()) else { continue };
        if target == real.as_std_path() {
            return Ok(true);
        }
    }
    Ok(false)
}
