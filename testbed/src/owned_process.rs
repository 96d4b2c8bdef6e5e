//! A process that does not outlive this program: starting it, signals, its end. Owns the command line's first words, the process group
//! and the log; what is started is the caller's. (A cluster's processes are of another kind: they outlive the command that starts them.)
//!
//! ```text
//!   whoever holds it drops it ───────────► SIGKILL      (tokio's kill_on_drop)
//!   this program is killed, in any way ──► SIGKILL      (setpriv --pdeathsig, which the kernel sees to)
//!   Ctrl-C in the terminal ──────────────► nothing      (a process group of its own: whoever holds it ends it in order)
//! ```
//!
//! The kernel means the *thread* that started it, so whoever starts processes does it on a thread that lasts as long as they do: the one
//! of `block_on`, or a worker of the runtime, but not one of `spawn_blocking`.

use crate::{launch::log_tail, wait::wait_for};
use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::{
    ffi::OsStr,
    fs::File,
    process::{ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    process::{Child, Command},
    time::timeout,
};

/// A thread stops when the system call that it is in lets it: a sync may take seconds.
const PAUSE_LIMIT: Duration = Duration::from_secs(30);

/// Lines of its log that are told when something was wrong.
const LAST_LINES: usize = 25;

/// A command whose process does not outlive this program. It is to be given arguments, and run or started; nothing comes from its stdin.
///
/// It is `setpriv` that is started, which then becomes the program: one that is not there is an exit status of 127 and words on stderr.
#[must_use]
pub fn owned_command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.stdin(Stdio::null()).process_group(0).kill_on_drop(true);
    command
}

/// A running process with a log, which does not outlive whoever holds it.
#[derive(Debug)]
pub struct OwnedProcess {
    name: String,
    child: Child,
    pid: Pid,
    log: Utf8PathBuf,
}

impl OwnedProcess {
    /// Starts it; what it says goes behind what is in `NAME.log` in `dir`.
    ///
    /// # Errors
    /// If its log cannot be opened, or there is no `setpriv`.
    pub fn start(dir: &Utf8Path, name: &str, program: &Utf8Path, args: &[String]) -> Result<OwnedProcess> {
        let log = dir.join(format!("{name}.log"));
        let said = File::options().create(true).append(true).open(&log);
        let said = said.with_context(|| format!("opening {log}"))?;
        let child = owned_command(program)
            .args(args)
            .env("NO_COLOR", "1")
            .stdout(said.try_clone().with_context(|| format!("opening {log} twice"))?)
            .stderr(said)
            .spawn()
            .with_context(|| format!("starting {program} by setpriv"))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
        let pid = pid.context("a process that was just started has a pid")?;
        Ok(OwnedProcess { name: name.to_owned(), child, pid, log })
    }

    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own until its end was seen.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// How it has ended, if it has.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("asking for the end of {}", self.name))
    }

    /// Sends a signal, unless it has ended.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn signal(&mut self, signal: Signal) -> Result<()> {
        if self.ended()?.is_some() {
            // From now on its number may become another's.
            return Ok(());
        }
        kill_process(self.pid, signal).with_context(|| format!("sending {signal:?} to {}", self.name))
    }

    /// SIGSTOP. On return all of its threads have stopped, and nothing that it was writing is written any more; it goes on with SIGCONT.
    ///
    /// # Errors
    /// If it does not stop, or has ended.
    pub async fn pause(&mut self) -> Result<()> {
        self.signal(Signal::STOP)?;
        wait_for(&format!("{} to stop", self.name), PAUSE_LIMIT, async || {
            let options = WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            match waitid(WaitId::Pid(self.pid), options) {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err("it runs".to_owned()),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    /// SIGKILL, and its end.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("killing {}", self.name))
    }

    /// Asks it to end (SIGTERM), and kills it if it has not after `limit`. How it has ended by itself; none if it was killed.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn stop(mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        self.signal(Signal::TERM)?;
        match timeout(limit, self.child.wait()).await {
            Ok(status) => status.map(Some).with_context(|| format!("waiting for {}", self.name)),
            Err(_) => self.kill().await.map(|()| None),
        }
    }

    /// The end of what it said, for people.
    #[must_use]
    pub fn last_words(&self) -> String {
        let said = log_tail(&self.log, LAST_LINES);
        let said = said.unwrap_or_else(|error| format!("(its log cannot be read: {error:#})"));
        let mut text = format!("{} said at last:\n", self.name);
        for line in said.lines() {
            text.push_str("  ");
            text.push_str(line);
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::ProcessIdentity;
    use camino_tempfile::{Utf8TempDir, tempdir};
    use rustix::process::getpgid;

    /// Of what ends at once if it works.
    const LIMIT: Duration = Duration::from_secs(30);

    fn shell(dir: &Utf8TempDir, script: &str) -> OwnedProcess {
        let args = ["-c".to_owned(), script.to_owned()];
        OwnedProcess::start(dir.path(), "shell", Utf8Path::new("sh"), &args).unwrap()
    }

    /// Waits until it has said this: from then on it is the program, and not `setpriv` any more.
    async fn has_said(process: &OwnedProcess, what: &str) {
        wait_for("words", LIMIT, async || {
            let said = std::fs::read_to_string(&process.log).unwrap_or_default();
            if said.lines().any(|line| line == what) { Ok(()) } else { Err(said) }
        })
        .await
        .unwrap();
    }

    fn identity(process: &OwnedProcess) -> ProcessIdentity {
        ProcessIdentity::of(process.pid()).unwrap().expect("it runs")
    }

    #[tokio::test]
    async fn it_ends_with_whoever_holds_it_and_leads_its_own_group() {
        let dir = tempdir().unwrap();
        let process = shell(&dir, "echo here; exec sleep 60");
        has_said(&process, "here").await;
        assert_eq!(getpgid(Some(process.pid)).unwrap(), process.pid);
        let live = identity(&process).open().unwrap().unwrap();
        drop(process);
        assert!(live.ended_within(LIMIT).await.unwrap());
    }

    #[test]
    fn it_ends_with_the_thread_that_started_it_although_nobody_drops_it() {
        let dir = tempdir().unwrap();
        let start = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let process = shell(&dir, "echo here; exec sleep 60");
                has_said(&process, "here").await;
                let live = identity(&process).open().unwrap().unwrap();
                // As if this program were killed: nothing of its own is done.
                std::mem::forget(process);
                live
            })
        };
        let live = std::thread::scope(|scope| scope.spawn(start).join()).unwrap();
        assert!(live.ended_within_blocking(Some(LIMIT)).unwrap());
    }

    #[tokio::test]
    async fn it_is_asked_to_end_and_killed_if_it_does_not() {
        let dir = tempdir().unwrap();
        let willing = shell(&dir, "trap 'exit 3' TERM; echo willing; while :; do sleep 0.01; done");
        has_said(&willing, "willing").await;
        assert_eq!(willing.stop(LIMIT).await.unwrap().and_then(|status| status.code()), Some(3));
        let deaf = shell(&dir, "trap '' TERM; echo deaf; while :; do sleep 0.01; done");
        has_said(&deaf, "deaf").await;
        let live = identity(&deaf).open().unwrap().unwrap();
        assert_eq!(deaf.stop(Duration::from_millis(100)).await.unwrap(), None);
        assert!(live.ended_within(LIMIT).await.unwrap());
    }

    #[tokio::test]
    async fn a_paused_one_has_stopped_and_goes_on_when_it_is_told_to() {
        let dir = tempdir().unwrap();
        let mut process = shell(&dir, "while :; do echo here; sleep 0.01; done");
        has_said(&process, "here").await;
        for _ in 0..3 {
            process.pause().await.unwrap();
            let facts = identity(&process).facts().unwrap().unwrap();
            assert!(facts.stopped);
            process.signal(Signal::CONT).unwrap();
            let said = std::fs::metadata(&process.log).unwrap().len();
            wait_for("more words", LIMIT, async || {
                let now = std::fs::metadata(&process.log).unwrap().len();
                if now > said { Ok(()) } else { Err(now) }
            })
            .await
            .unwrap();
        }
    }

    #[tokio::test]
    async fn what_it_said_last_is_told_and_what_another_one_said_before_is_kept() {
        let dir = tempdir().unwrap();
        for lives in 1..=2 {
            let mut process = shell(&dir, &format!("for i in $(seq 30); do echo {lives}.$i; done >&2"));
            wait_for("its end", LIMIT, async || process.ended().unwrap().ok_or("it runs")).await.unwrap();
            let told = process.last_words();
            assert!(told.starts_with(&format!("shell said at last:\n  {lives}.6\n  {lives}.7\n")), "{told}");
            assert!(told.ends_with(&format!("  {lives}.30\n")), "{told}");
            // It has ended: nobody else gets the signal.
            process.signal(Signal::TERM).unwrap();
        }
        assert_eq!(std::fs::read_to_string(dir.path().join("shell.log")).unwrap().lines().count(), 60);
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_says_so() {
        let output = owned_command("no-such-program").output().await.unwrap();
        assert_eq!(output.status.code(), Some(127));
        assert!(String::from_utf8_lossy(&output.stderr).contains("no-such-program"));
    }
}
