//! One process of a subject: starting it, waiting until its socket answers, what it uses, ending it. Which programs with
//! which arguments is the business of `subject` and `ours`.

use crate::bench::process::{cpu_seconds, memory_mib};
use anyhow::{Context, Result, bail};
use camino::Utf8Path;
use std::{fmt, io, net::SocketAddr, time::Duration};
use testbed::{OwnedProcess, wait_for};
use tokio::net::{TcpStream, UnixStream};

/// How long a starting process may take until its socket answers.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// How long a process may take to end by itself before it is killed.
const END_LIMIT: Duration = Duration::from_secs(10);

/// Where a process listens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Door<'a> {
    Unix(&'a Utf8Path),
    Tcp(SocketAddr),
}

impl Door<'_> {
    async fn knock(self) -> io::Result<()> {
        match self {
            Door::Unix(socket) => UnixStream::connect(socket).await.map(drop),
            Door::Tcp(address) => TcpStream::connect(address).await.map(drop),
        }
    }
}

impl fmt::Display for Door<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Door::Unix(socket) => socket.fmt(f),
            Door::Tcp(address) => address.fmt(f),
        }
    }
}

/// A running process, which ends with whoever holds it, also when this program is killed.
pub(super) struct Server {
    process: OwnedProcess,
}

impl Server {
    /// Starts it; what it says goes to `NAME.log` in `dir`.
    pub(super) fn start(dir: &Utf8Path, name: &str, program: &Utf8Path, args: &[String]) -> Result<Server> {
        Ok(Server { process: OwnedProcess::start(dir, name, program, args)? })
    }

    /// What it is within its subject.
    pub(super) fn name(&self) -> &str {
        self.process.name()
    }

    /// Waits until it listens there.
    pub(super) async fn wait_ready(&mut self, door: Door<'_>) -> Result<()> {
        let what = format!("{} to listen on {door}", self.name());
        let ended = wait_for(&what, READY_LIMIT, async || {
            if let Ok(Some(status)) = self.process.ended() {
                return Ok(Some(status));
            }
            door.knock().await.map(|()| None)
        })
        .await?;
        match ended {
            None => Ok(()),
            Some(status) => {
                bail!(
                    "{} ended at its start, {status}: {}",
                    self.name(),
                    self.process.last_words().trim_end()
                )
            }
        }
    }

    /// Processor time so far, in seconds.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.process.pid()).with_context(|| format!("{} is gone", self.name()))
    }

    /// Lets the highest memory be counted from now on.
    pub(super) fn forget_highest_memory(&self) -> Result<()> {
        // 5 is this request, by proc(5).
        let file = format!("/proc/{}/clear_refs", self.process.pid());
        std::fs::write(&file, "5").with_context(|| format!("writing {file}"))
    }

    /// Resident memory now, in MiB.
    pub(super) fn memory_mib(&self) -> Result<f64> {
        Ok(memory_mib(self.process.pid()).with_context(|| format!("{} is gone", self.name()))?.0)
    }

    /// Highest resident memory since then, in MiB.
    pub(super) fn highest_memory_mib(&self) -> Result<f64> {
        Ok(memory_mib(self.process.pid()).with_context(|| format!("{} is gone", self.name()))?.1)
    }

    /// SIGKILL, and its end.
    pub(super) async fn kill(self) -> Result<()> {
        self.process.kill().await
    }

    /// Asks it to end, and kills it if it does not.
    pub(super) async fn stop(self) -> Result<()> {
        let name = self.name().to_owned();
        if self.process.stop(END_LIMIT).await?.is_none() {
            eprintln!("{name} has not ended after {END_LIMIT:?} and was killed");
        }
        Ok(())
    }
}
