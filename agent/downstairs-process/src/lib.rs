//! Which process serves a disk, provably: so that none is adopted, or signalled, because of a number that it happens to have.
//!
//! Agents look for what an earlier life of theirs has started; developers' clusters, for what outlives their agents.
//!
//! ```text
//!   the disk's lock is held, by what it says is pid N
//!     └─► pidfd_open(N) ──► /proc/N: its command line is that of this disk's Downstairs, and it has the lock's file open
//!           └─► the lock is still held by N, and the pidfd's process has not ended ──► ours: all of this was said of the one process
//!                                                                                      that the pidfd means, and always will mean
//! ```
//!
//! Whoever holds the lock and is not provably ours is left alone.

use camino::Utf8Path;
use daemon::state_lock::{self, Holding, StateLockError};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal},
};
use std::{
    fs, io,
    net::SocketAddr,
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};
use thiserror::Error;
use tokio::sync::oneshot;

pub use rustix::process::Signal;

/// The arguments that make the agent's program the Downstairs of a disk; others may follow.
#[must_use]
pub fn arguments(dir: &Utf8Path, address: SocketAddr) -> Vec<String> {
    let words = ["downstairs", "--datasets", "--directory", dir.as_str(), "--listen"];
    words.into_iter().map(str::to_owned).chain([address.to_string()]).collect()
}

/// Who serves a disk, or another directory that one process has.
#[derive(Debug)]
pub enum Holder<T = SocketAddr> {
    /// Nobody.
    Nobody,
    /// The Downstairs of this disk; of another directory, the process that is to have it.
    Ours(Ours<T>),
    /// Somebody else, or somebody who has not said yet who it is.
    Unknown {
        /// Who it says to be.
        pid: Option<u32>,
        /// Why it is not provably ours.
        why: String,
    },
}

/// The Downstairs of a disk, or a process like that, held by its pidfd.
#[derive(Debug)]
pub struct Ours<T = SocketAddr> {
    pidfd: OwnedFd,
    pid: u32,
    /// What its command line says of it.
    said: T,
}

/// Why it cannot be seen.
#[derive(Debug, Error)]
pub enum HolderError {
    /// The lock cannot be looked at.
    #[error(transparent)]
    Lock(#[from] StateLockError),
    /// The process cannot be looked at.
    #[error("cannot look at the process {pid}, which has the disk")]
    Process {
        /// Which.
        pid: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Looks who serves the disk that is mounted there.
///
/// # Errors
/// [`HolderError`].
pub fn look(dir: &Utf8Path) -> Result<Holder, HolderError> {
    look_for(dir, |words| address_in(words, dir))
}

/// Looks who has a directory; ours is whoever has a command line, without the program, of which `read` makes something.
///
/// # Errors
/// [`HolderError`].
pub fn look_for<T>(dir: &Utf8Path, read: impl Fn(&[&[u8]]) -> Option<T>) -> Result<Holder<T>, HolderError> {
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
    let line = command_line(pid).map_err(process)?.unwrap_or_default();
    let Some(said) = words_of(&line).get(1..).and_then(read) else {
        return unknown("its command line is not that of the process that is to have it");
    };
    if !has_open(pid, &dir.join("lock")).map_err(process)? {
        return unknown("it does not have the lock's file open");
    }
    let is_held = state_lock::look(dir)? == Holding::Held(Some(pid));
    let ours = Ours { pidfd, pid, said };
    if !is_held || ours.has_ended().map_err(process)? {
        return unknown("it has ended just now");
    }
    Ok(Holder::Ours(ours))
}

/// The processes that were started as the Downstairs of one of these disks, whether they have it yet or not: those that [`look`] will
/// soon find, or that will end by themselves because another one has it. That they say so proves nothing.
///
/// # Errors
/// If the system does not tell which processes there are.
pub fn started_for(dirs: &[impl AsRef<Utf8Path>]) -> io::Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        // Of a process that may not be looked at nothing is known: it is another user's, and so are its disks.
        let Ok(Some(line)) = command_line(pid) else { continue };
        let words = words_of(&line);
        let is_for = |dir: &Utf8Path| words.get(1..).and_then(|words| address_in(words, dir)).is_some();
        if dirs.iter().any(|dir| is_for(dir.as_ref())) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// What it was started with; none if it is gone.
fn command_line(pid: u32) -> io::Result<Option<Vec<u8>>> {
    match fs::read(format!("/proc/{pid}/cmdline")) {
        Err(error) if is_gone(&error) => Ok(None),
        other => other.map(Some),
    }
}

/// The program's name, and what it was told.
fn words_of(line: &[u8]) -> Vec<&[u8]> {
    line.split(|byte| *byte == 0).collect()
}

/// Where it listens, if that is what the Downstairs of this disk was told.
fn address_in(words: &[&[u8]], dir: &Utf8Path) -> Option<SocketAddr> {
    let (listen, said) = words.get(..6)?.split_last()?;
    let address = std::str::from_utf8(listen).ok()?.parse::<SocketAddr>().ok()?;
    let expected = arguments(dir, address);
    said.iter().copied().eq(expected[..5].iter().map(String::as_bytes)).then_some(address)
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

/// ESRCH: it ended between open and read.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::SRCH.raw_os_error())
}

impl Ours {
    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.said
    }
}

impl<T> Ours<T> {
    /// Its own as long as it lives.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Sends it a signal: to it alone, also if it has ended and its number is another's.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(&self.pidfd, signal) {
            Err(Errno::SRCH) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Asks it to end. One that has ended needs no asking.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn ask_to_end(&self) -> io::Result<()> {
        self.signal(Signal::TERM)
    }

    fn has_ended(&self) -> io::Result<bool> {
        self.ended_within(Duration::ZERO)
    }

    /// Waits until it has ended, so long at most. Whether it has. Blocks.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn ended_within(&self, limit: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&left)) {
                Err(Errno::INTR) => {}
                other => return Ok(other? > 0),
            }
        }
    }

    /// Waits until it has ended. A thread does the waiting: a pidfd cannot be handed to tokio without `unsafe`. It is none of the
    /// runtime's, so it keeps nobody from ending.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn ended(self) -> io::Result<()> {
        let (tell, told) = oneshot::channel();
        thread::Builder::new().name("pidfd".to_owned()).spawn(move || {
            let ended = loop {
                match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], None) {
                    Err(Errno::INTR) => {}
                    other => break other.map(drop),
                }
            };
            // Nobody may be waiting any more.
            let _ = tell.send(ended);
        })?;
        told.await.map_err(io::Error::other)??;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::state_lock::StateLock;
    use std::process::{Child, Command, Stdio};

    /// A process with these words as its command line, which holds nothing.
    fn sleeper(words: &[String]) -> Child {
        let mut command = Command::new("bash");
        // `exec -a` names the program; the rest of the words would be sleep's, so it reads from a pipe that nobody writes instead.
        command.args(["-c", "read line; exit 0"]).args(words).stdin(Stdio::piped());
        command.spawn().expect("bash is there")
    }

    #[test]
    fn who_holds_a_disk_and_is_not_its_downstairs_is_not_ours() {
        let temp = camino_tempfile::tempdir().unwrap();
        assert!(matches!(look(temp.path()).unwrap(), Holder::Nobody));
        // This very process holds the lock, and is a test.
        let _lock = StateLock::take(temp.path()).unwrap();
        let Holder::Unknown { pid, why } = look(temp.path()).unwrap() else { panic!("it is not ours") };
        assert_eq!(pid, Some(std::process::id()));
        assert!(why.contains("command line"), "{why}");
        // The file names a process that is not there.
        for (said, expected) in [("4194999", "no process"), ("4294967295", "no pid"), ("", "not said")] {
            fs::write(temp.path().join("lock"), said).unwrap();
            let Holder::Unknown { why, .. } = look(temp.path()).unwrap() else { panic!("it is not ours") };
            assert!(why.contains(expected), "{said}: {why}");
        }
        // Or one that runs something else.
        let mut other = sleeper(&arguments(temp.path(), "127.0.0.1:1".parse().unwrap()));
        let started = started_for(&[temp.path()]).unwrap();
        assert!(!started.contains(&other.id()), "they are another program's words");
        fs::write(temp.path().join("lock"), other.id().to_string()).unwrap();
        let Holder::Unknown { why, .. } = look(temp.path()).unwrap() else { panic!("it is not ours") };
        assert!(why.contains("command line"), "{why}");
        assert!(other.try_wait().unwrap().is_none(), "it was left alone");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
