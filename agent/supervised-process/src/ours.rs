//! A process that is provably ours, held by its pidfd: what may be done to it, and its end.

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::pidfd_send_signal,
};
use std::{
    io,
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};
use tokio::sync::oneshot;

pub use rustix::process::Signal;

/// The process.
#[derive(Debug)]
pub struct Ours {
    pub(crate) pidfd: OwnedFd,
    pub(crate) pid: u32,
}

impl Ours {
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

    pub(crate) fn has_ended(&self) -> io::Result<bool> {
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
