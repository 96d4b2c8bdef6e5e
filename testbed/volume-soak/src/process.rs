//! One process: starting it, signals, its end. It ends with whoever holds it, and when this program is killed.

use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::File,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// How long a process may take to end by itself before it is killed: what is under way is answered first.
const END_LIMIT: Duration = Duration::from_secs(30);

/// Lines of a log that are told with a finding.
const TOLD_LINES: usize = 25;

/// A running process.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    pid: Pid,
    log: Utf8PathBuf,
}

impl Process {
    /// Starts it; what it says goes behind what is in its log.
    ///
    /// The death of this program kills it (`setpriv --pdeathsig`). The kernel means the thread that started it, so whoever starts
    /// processes stays on one thread that lasts as long as they do.
    pub(crate) fn start(dir: &Utf8Path, name: &str, program: &Utf8Path, args: &[String]) -> Result<Process> {
        let log = log_file(dir, name);
        let said = File::options().create(true).append(true).open(&log);
        let said = said.with_context(|| format!("opening {log}"))?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", program.as_str()])
            .args(args)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null())
            .stdout(said.try_clone().with_context(|| format!("opening {log} twice"))?)
            .stderr(said)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {program} by setpriv"))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let pid = pid.context("a process that was just started has a pid")?;
        Ok(Process { name: name.to_owned(), child, pid, log })
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("asking for the end of {}", self.name))
    }

    /// Its pid is its own until it was waited for.
    pub(crate) fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        kill_process(self.pid, signal).with_context(|| format!("sending {signal:?} to {}", self.name))
    }

    /// SIGKILL, and its end.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("killing {}", self.name))
    }

    /// Asks it to end. How it did; none if it did not, and was killed.
    pub(crate) async fn stop(mut self) -> Result<Option<ExitStatus>> {
        self.signal(Signal::TERM)?;
        match timeout(END_LIMIT, self.child.wait()).await {
            Ok(status) => status.map(Some).with_context(|| format!("waiting for {}", self.name)),
            Err(_) => self.kill().await.map(|()| None),
        }
    }

    /// The end of what it said, for people.
    pub(crate) fn last_words(&self) -> String {
        last_words(&self.log, &self.name)
    }
}

/// Where what it says is.
fn log_file(dir: &Utf8Path, name: &str) -> Utf8PathBuf {
    dir.join(format!("{name}.log"))
}

fn last_words(log: &Utf8Path, name: &str) -> String {
    let said = std::fs::read(log).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    let from = lines.len().saturating_sub(TOLD_LINES);
    let mut text = format!("{name} said at last:\n");
    for line in &lines[from..] {
        text.push_str("  ");
        text.push_str(line);
        text.push('\n');
    }
    text
}
