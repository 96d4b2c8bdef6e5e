//! One process of a subject: starting it, waiting until its socket answers, what it uses, ending it. Which programs with
//! which arguments is the business of `subject` and `ours`.

use crate::bench::process::{cpu_seconds, memory_mib};
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process};
use std::{fmt, io, net::SocketAddr, process::Stdio, time::Duration};
use testbed::wait_for;
use tokio::{
    net::{TcpStream, UnixStream},
    process::{Child, Command},
    time::timeout,
};

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
    /// What it is within its subject.
    pub(super) name: String,
    child: Child,
    pid: u32,
    /// What it said.
    log: Utf8PathBuf,
}

impl Server {
    /// Starts it; what it says goes to `NAME.log` in `dir`.
    ///
    /// The death of this program kills it (`setpriv --pdeathsig`), because Ctrl-C is not the only way to die. The
    /// kernel means the thread that started it; that is the one that runs everything here, and ends last.
    pub(super) fn start(dir: &Utf8Path, name: &str, program: &str, args: &[String]) -> Result<Server> {
        let log = dir.join(format!("{name}.log"));
        let said = std::fs::File::create(&log).with_context(|| format!("creating {log}"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", program])
            .args(args)
            .stdin(Stdio::null())
            .stdout(said.try_clone().with_context(|| format!("opening {log} twice"))?)
            .stderr(said)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {program} by setpriv"))?;
        let pid = child.id().context("a process that was just started has a pid")?;
        Ok(Server { name: name.to_owned(), child, pid, log })
    }

    /// Waits until it listens there.
    pub(super) async fn wait_ready(&mut self, door: Door<'_>) -> Result<()> {
        let (name, log, child) = (&self.name, &self.log, &mut self.child);
        let ended = wait_for(&format!("{name} to listen on {door}"), READY_LIMIT, async || {
            if let Ok(Some(status)) = child.try_wait() {
                return Ok(Some(status));
            }
            door.knock().await.map(|()| None)
        })
        .await?;
        match ended {
            None => Ok(()),
            Some(status) => {
                let said = std::fs::read_to_string(log).with_context(|| format!("reading {log}"))?;
                bail!("{name} ended at its start, {status}: {}", said.trim());
            }
        }
    }

    /// Processor time so far, in seconds.
    pub(super) fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.pid).with_context(|| format!("{} is gone", self.name))
    }

    /// Lets the highest memory be counted from now on.
    pub(super) fn forget_highest_memory(&self) -> Result<()> {
        // 5 is this request, by proc(5).
        let file = format!("/proc/{}/clear_refs", self.pid);
        std::fs::write(&file, "5").with_context(|| format!("writing {file}"))
    }

    /// Resident memory now, in MiB.
    pub(super) fn memory_mib(&self) -> Result<f64> {
        Ok(memory_mib(self.pid).with_context(|| format!("{} is gone", self.name))?.0)
    }

    /// Highest resident memory since then, in MiB.
    pub(super) fn highest_memory_mib(&self) -> Result<f64> {
        Ok(memory_mib(self.pid).with_context(|| format!("{} is gone", self.name))?.1)
    }

    /// Asks it to end, and kills it if it does not.
    pub(super) async fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw);
        // It was not waited for, so the pid is still its own; that it has ended already is no mistake.
        let _ = kill_process(pid.context("a pid is positive")?, Signal::TERM);
        if timeout(END_LIMIT, self.child.wait()).await.is_err() {
            eprintln!("{} has not ended after {END_LIMIT:?} and is killed", self.name);
            self.child.kill().await.with_context(|| format!("killing {}", self.name))?;
        }
        Ok(())
    }
}
