//! The Downstairs of sleds' disks: which there are, and signals to them. Owns nothing durable; who is one is proved by the disk's own
//! lock ([`supervised_process`]), and nobody else is ever signalled.
//!
//! A Downstairs outlives its agent, so it may be in no process group that the record knows, and a next life of the agent has adopted it:
//!
//! ```text
//!   agent ──starts──► Downstairs          in the agent's process group: a signal to the group reaches both
//!     │ SIGKILL to it alone
//!   next agent ──finds it by the lock──►  in the group of the agent that was: reached by the lock on its disk alone
//! ```
//!
//! So whatever is done to a whole sled is done to the agent's group first, after which nobody starts another Downstairs, and then to
//! whoever has a disk.

use crate::{layout::ClusterDirectory, process::ProcessIdentity, record::Node};
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use ids::DiskId;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use supervised_process::{Holder, Ours, Signal, Words, downstairs, started};

/// Between two looks whether a disk is free, where nobody's end can be waited for.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// The Downstairs of a disk that runs.
#[derive(Debug)]
pub(crate) struct Downstairs {
    /// Its disk.
    pub(crate) disk: DiskId,
    address: SocketAddr,
    process: Ours,
}

impl Downstairs {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal).with_context(|| format!("signal to the Downstairs {}", self.pid()))
    }
}

/// Those of a sled's disks that run now, in the order of its disks.
pub(crate) fn of_sled(directory: &ClusterDirectory, sled: &Node) -> Result<Vec<Downstairs>> {
    let mut found = Vec::new();
    for disk in &sled.disks {
        if let Holder::Ours(process, address) = downstairs::look(&directory.disk_dir(&sled.name, &disk.name))?
        {
            found.push(Downstairs { disk: disk.id, address, process });
        }
    }
    Ok(found)
}

/// Signals those of a sled's disks that run.
pub(crate) fn signal(directory: &ClusterDirectory, sled: &Node, signal: Signal) -> Result<()> {
    of_sled(directory, sled)?.iter().try_for_each(|downstairs| downstairs.signal(signal))
}

/// Asks every Downstairs of these sleds to end, and waits so long at most. Their agents have ended. Those in the process group of an agent
/// were asked with it; to be asked a second time while it closes its regions means nothing to a Downstairs.
pub(crate) fn ask_to_end(directory: &ClusterDirectory, sleds: &[&Node], patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    let mut asked = Vec::new();
    for sled in sleds {
        for downstairs in of_sled(directory, sled)? {
            downstairs.signal(Signal::TERM)?;
            // A paused one hears nothing else.
            downstairs.signal(Signal::CONT)?;
            asked.push(downstairs);
        }
    }
    for downstairs in asked {
        let left = deadline.saturating_duration_since(Instant::now());
        downstairs.process.ended_within(left).context("waiting for the end of a Downstairs")?;
    }
    Ok(())
}

/// SIGKILL to every Downstairs of these sleds, whose agents have ended; on return no disk of theirs is in use, and nobody is on the way to
/// using one. Fails if that takes longer than `limit`.
pub(crate) fn kill_all(directory: &ClusterDirectory, sleds: &[&Node], limit: Duration) -> Result<()> {
    let dirs: Vec<Utf8PathBuf> = sleds
        .iter()
        .flat_map(|sled| sled.disks.iter().map(|disk| directory.disk_dir(&sled.name, &disk.name)))
        .collect();
    if dirs.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + limit;
    loop {
        let Some(obstacle) = kill_once(&dirs)? else { return Ok(()) };
        if Instant::now() >= deadline {
            bail!("{obstacle}, also {} s after SIGKILL to all that provably serves it", limit.as_secs());
        }
    }
}

/// Kills whom it finds, and waits a moment. Why it is not over yet.
fn kill_once(dirs: &[Utf8PathBuf]) -> Result<Option<String>> {
    let mut obstacle = None;
    for dir in dirs {
        match downstairs::look(dir)? {
            Holder::Nobody => {}
            Holder::Ours(process, _) => {
                let pid = process.pid();
                process.signal(Signal::KILL).with_context(|| format!("killing the Downstairs {pid}"))?;
                process.ended_within(LOOK_PAUSE).context("waiting for the end of a Downstairs")?;
                obstacle = Some(format!("{dir} is in use by its Downstairs (pid {pid})"));
            }
            Holder::Unknown { pid, why } => {
                pause_at(pid)?;
                let pid = pid.map_or_else(String::new, |pid| format!(" (pid {pid})"));
                obstacle = Some(format!("{dir} is in use by a process{pid} that is left alone: {why}"));
            }
        }
    }
    if obstacle.is_some() {
        return Ok(obstacle);
    }
    // One that was started a moment ago has no lock yet: it gets it, and is proved by it, or it ends.
    let is_told = |words: Words<'_>| dirs.iter().any(|dir| downstairs::is_told_by(words, dir));
    let Some(pid) = started(is_told)?.first().copied() else {
        return Ok(None);
    };
    pause_at(Some(pid))?;
    Ok(Some(format!("pid {pid} says that it is to serve a disk of {}", common_parent(dirs))))
}

/// Waits for the process's end, for a moment.
fn pause_at(pid: Option<u32>) -> Result<()> {
    let process = pid.map(ProcessIdentity::of).transpose()?.flatten();
    match process.map(|process| process.open()).transpose()?.flatten() {
        Some(process) => process.ended_within_blocking(Some(LOOK_PAUSE)).map(drop),
        None => Ok(()),
    }
}

fn common_parent(dirs: &[Utf8PathBuf]) -> &Utf8Path {
    let parent = dirs.first().and_then(|dir| dir.parent()?.parent());
    parent.unwrap_or(Utf8Path::new("/"))
}
