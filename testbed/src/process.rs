//! One process: which one it is, whether it lives, signals to it, its end. Owns nothing durable; a
//! [`ProcessIdentity`] is what the cluster's record keeps.
//!
//! A pid alone is not an identity: it is reused. An identity is pid + start time + boot, and a signal is only sent
//! through a pidfd that was opened *before* the start time was compared:
//!
//! ```text
//!   pidfd_open(pid) ──► /proc/pid/stat says the recorded start time? ──no──► gone (a reused pid, or a zombie)
//!                            │ yes: the pidfd is of the recorded process, whatever happens from here on
//!                            └──► pidfd_send_signal, poll for its end
//! ```

use anyhow::{Context, Result};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    os::fd::OwnedFd,
    time::{Duration, Instant},
};

/// Which process, unmistakably.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessIdentity {
    /// Its pid.
    pub pid: u32,
    /// When it started, in clock ticks since boot (`/proc/PID/stat`, field 22).
    pub start_ticks: u64,
    /// The boot that both are relative to.
    pub boot_id: String,
}

/// A live process, held by its pidfd.
#[derive(Debug)]
pub struct LiveProcess {
    pidfd: OwnedFd,
    pid: Pid,
}

/// What the kernel tells about a live process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessFacts {
    /// Whether it is stopped (`SIGSTOP`).
    pub stopped: bool,
    /// Resident memory, in bytes.
    pub resident_bytes: u64,
    /// Seconds since it started.
    pub age_seconds: u64,
}

impl ProcessIdentity {
    /// The identity of the process that has `pid` now; none if there is none.
    pub fn of(pid: u32) -> Result<Option<ProcessIdentity>> {
        let Some(stat) = ProcessStat::read(pid)? else { return Ok(None) };
        Ok(Some(ProcessIdentity { pid, start_ticks: stat.start_ticks, boot_id: boot_id()? }))
    }

    /// The identity of this very process.
    pub fn current() -> Result<ProcessIdentity> {
        Self::of(std::process::id())?.context("this process has no entry in /proc")
    }

    /// The process, if it still lives. A zombie does not; neither does one that merely has the same pid.
    pub fn open(&self) -> Result<Option<LiveProcess>> {
        if self.boot_id != boot_id()? {
            return Ok(None);
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else { return Ok(None) };
        let pidfd = match pidfd_open(pid, PidfdFlags::NONBLOCK) {
            Ok(pidfd) => pidfd,
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("pidfd_open of pid {pid:?}")),
        };
        let same = ProcessStat::read(self.pid)?
            .is_some_and(|stat| stat.start_ticks == self.start_ticks && !matches!(stat.state, 'Z' | 'X'));
        Ok(same.then_some(LiveProcess { pidfd, pid }))
    }

    /// Whether it lives.
    pub fn lives(&self) -> Result<bool> {
        Ok(self.open()?.is_some())
    }

    /// What the kernel tells about it; none if it does not live.
    pub fn facts(&self) -> Result<Option<ProcessFacts>> {
        if !self.lives()? {
            return Ok(None);
        }
        let Some(stat) = ProcessStat::read(self.pid)? else { return Ok(None) };
        Ok(Some(ProcessFacts {
            stopped: matches!(stat.state, 'T' | 't'),
            resident_bytes: stat.resident_pages * rustix::param::page_size() as u64,
            age_seconds: age_seconds(stat.start_ticks)?,
        }))
    }
}

impl LiveProcess {
    /// Sends a signal to this process only.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        ignore_gone(pidfd_send_signal(&self.pidfd, signal))
            .with_context(|| format!("signal to pid {:?}", self.pid))
    }

    /// Sends a signal to the process group that this process leads: itself and all that it supervises. To each once: to
    /// most programs a second SIGTERM or SIGINT means not to wait for a clean stop.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        if self.ended_within_blocking(Some(Duration::ZERO))? {
            // From now on its number may become another's.
            return Ok(());
        }
        ignore_gone(kill_process_group(self.pid, signal))
            .with_context(|| format!("signal to process group {:?}", self.pid))
    }

    /// Waits until it has ended, at most `limit`. Whether it has. A thread does the waiting: a pidfd cannot be handed to
    /// tokio without `unsafe`.
    pub async fn ended_within(self, limit: Duration) -> Result<bool> {
        let wait = move || self.ended_within_blocking(Some(limit));
        tokio::task::spawn_blocking(wait).await.context("waiting on a pidfd")?
    }

    /// Waits until it has ended, at most `limit`, or for ever. Whether it has. Blocks: for `Drop` and the keeper,
    /// which have no runtime.
    pub fn ended_within_blocking(&self, limit: Option<Duration>) -> Result<bool> {
        let deadline = limit.map(|limit| Instant::now() + limit);
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.map(|left| Timespec::try_from(left).expect("a limit of seconds fits"));
            let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Ok(false),
                Ok(_) => return Ok(true),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("polling a pidfd"),
            }
        }
    }
}

/// A process that has ended meanwhile needs no signal any more.
fn ignore_gone(result: rustix::io::Result<()>) -> rustix::io::Result<()> {
    match result {
        Err(Errno::SRCH) => Ok(()),
        other => other,
    }
}

/// The kernel's id of this boot.
pub(crate) fn boot_id() -> Result<String> {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").context("reading the boot id")?;
    Ok(text.trim().to_owned())
}

fn age_seconds(start_ticks: u64) -> Result<u64> {
    let uptime = fs::read_to_string("/proc/uptime").context("reading /proc/uptime")?;
    let seconds: u64 = uptime.split('.').next().and_then(|whole| whole.parse().ok()).unwrap_or(0);
    Ok(seconds.saturating_sub(start_ticks / rustix::param::clock_ticks_per_second().max(1)))
}

/// The fields of `/proc/PID/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct ProcessStat {
    state: char,
    start_ticks: u64,
    resident_pages: u64,
}

impl ProcessStat {
    fn read(pid: u32) -> Result<Option<ProcessStat>> {
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(text) => {
                Self::parse(&text).map(Some).with_context(|| format!("/proc/{pid}/stat is odd: {text:?}"))
            }
            // ESRCH: it ended between open and read.
            Err(error) if error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(3) => {
                Ok(None)
            }
            Err(error) => Err(error).with_context(|| format!("reading /proc/{pid}/stat")),
        }
    }

    /// The second field is the program's name in parentheses and may hold anything, also parentheses.
    fn parse(text: &str) -> Option<ProcessStat> {
        let after_name = &text[text.rfind(')')? + 1..];
        let fields: Vec<&str> = after_name.split_ascii_whitespace().collect();
        // fields[0] is field 3 of proc(5).
        Some(ProcessStat {
            state: fields.first()?.chars().next()?,
            start_ticks: fields.get(19)?.parse().ok()?,
            resident_pages: fields.get(21)?.parse().ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Child, Command, Stdio};

    fn sleeper() -> Child {
        use std::os::unix::process::CommandExt;
        Command::new("sleep")
            .arg("1000")
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .expect("sleep is there")
    }

    #[test]
    fn a_program_name_with_parentheses_is_parsed() {
        let mut text = "12 (a) R (b) ) S".to_owned();
        for field in 4..=24 {
            text.push_str(&format!(" {field}"));
        }
        let stat = ProcessStat::parse(&text).unwrap();
        assert_eq!(stat, ProcessStat { state: 'S', start_ticks: 22, resident_pages: 24 });
        assert_eq!(ProcessStat::parse("12 (short) S 1"), None);
        assert_eq!(ProcessStat::parse(""), None);
    }

    #[test]
    fn a_reused_pid_is_never_signalled() {
        let mut child = sleeper();
        let real = ProcessIdentity::of(child.id()).unwrap().unwrap();
        let earlier_owner = ProcessIdentity { start_ticks: real.start_ticks - 1, ..real.clone() };
        let before_reboot = ProcessIdentity { boot_id: "another boot".to_owned(), ..real };
        for stranger in [earlier_owner, before_reboot] {
            assert!(stranger.open().unwrap().is_none());
        }
        assert!(child.try_wait().unwrap().is_none(), "it was signalled");
        real.open().unwrap().unwrap().signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        assert!(!real.lives().unwrap());
    }

    #[test]
    fn a_pidfd_outlives_its_process_without_reaching_another() {
        let mut child = sleeper();
        let process = ProcessIdentity::of(child.id()).unwrap().unwrap().open().unwrap().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        process.signal(Signal::KILL).unwrap();
        assert!(process.ended_within_blocking(Some(Duration::ZERO)).unwrap());
    }

    #[test]
    fn a_zombie_does_not_live() {
        let mut child = sleeper();
        let identity = ProcessIdentity::of(child.id()).unwrap().unwrap();
        let process = identity.open().unwrap().unwrap();
        process.signal(Signal::KILL).unwrap();
        assert!(process.ended_within_blocking(Some(Duration::from_secs(10))).unwrap());
        assert!(!identity.lives().unwrap());
        child.wait().unwrap();
    }

    #[tokio::test]
    async fn a_stopped_process_lives_and_is_told_apart() {
        let mut child = sleeper();
        let identity = ProcessIdentity::of(child.id()).unwrap().unwrap();
        let process = identity.open().unwrap().unwrap();
        process.signal_group(Signal::STOP).unwrap();
        // The state changes a moment after the signal was sent.
        crate::wait::wait_for("the process to stop", Duration::from_secs(10), async || {
            match identity.facts().unwrap() {
                Some(facts) if facts.stopped => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await
        .unwrap();
        process.signal_group(Signal::KILL).unwrap();
        assert!(process.ended_within(Duration::from_secs(10)).await.unwrap());
        child.wait().unwrap();
        assert_eq!(identity.facts().unwrap(), None);
    }
}
