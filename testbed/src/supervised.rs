//! The processes that a sled's agent supervises, the Downstairs of its disks and its Pantry: which there are, and signals to them. Owns
//! nothing durable; who is one is proved by the lock of its directory ([`supervised_process`]), and nobody else is ever signalled.
//!
//! Such a process outlives its agent, so it may be in no process group that the record knows, and a next life of the agent has adopted it:
//!
//! ```text
//!   agent ──starts──► Downstairs, Pantry      in the agent's process group: a signal to the group reaches all
//!     │ SIGKILL to it alone
//!   next agent ──finds them by their locks──► in the group of the agent that was: reached by these locks alone
//! ```
//!
//! So whatever is done to a whole sled is done to the agent's group first, after which nobody starts another process, and then to whoever
//! has a lock. But each is *asked* to end by its lock alone, and once: to be asked a second time means at once. Pantries are asked first,
//! and waited for: volumes are detached while their members are there.

use crate::{
    layout::ClusterDirectory,
    process::ProcessIdentity,
    record::{Node, Role},
};
use anyhow::{Context, Result, bail};
use camino::Utf8PathBuf;
use ids::DiskId;
use std::{
    fmt,
    net::SocketAddr,
    time::{Duration, Instant},
};
use supervised_process::{Holder, HolderError, Ours, Signal, Words, downstairs, pantry, started};

/// Between two looks whether a directory is free, where nobody's end can be waited for.
const LOOK_PAUSE: Duration = Duration::from_millis(10);

/// What a process is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Duty {
    /// To serve this disk.
    Downstairs(DiskId),
    /// To hold the sled's volumes.
    Pantry,
}

/// For people.
impl fmt::Display for Duty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Duty::Downstairs(_) => f.write_str("Downstairs"),
            Duty::Pantry => f.write_str("Pantry"),
        }
    }
}

/// One that runs.
#[derive(Debug)]
pub(crate) struct Supervised {
    pub(crate) duty: Duty,
    /// Where Upstairs find it; a Pantry has a socket instead.
    pub(crate) address: Option<SocketAddr>,
    process: Ours,
}

impl Supervised {
    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal).with_context(|| format!("signal to the {} {}", self.duty, self.pid()))
    }

    fn ended_within(&self, limit: Duration) -> Result<bool> {
        let ended = self.process.ended_within(limit);
        ended.with_context(|| format!("waiting for the end of the {} {}", self.duty, self.pid()))
    }
}

/// A directory that one process has.
#[derive(Debug)]
struct Place {
    dir: Utf8PathBuf,
    duty: Duty,
}

impl Place {
    /// Those of a sled, in the order of its disks; its Pantry's last. A coordinator has none.
    fn of_sled(directory: &ClusterDirectory, sled: &Node) -> Vec<Place> {
        let disks = sled.disks.iter().map(|disk| Place {
            dir: directory.disk_dir(&sled.name, &disk.name),
            duty: Duty::Downstairs(disk.id),
        });
        let pantry = (sled.role == Role::Sled)
            .then(|| Place { dir: directory.pantry_dir(&sled.name), duty: Duty::Pantry });
        disks.chain(pantry).collect()
    }

    /// Who has it; of a Downstairs, where it listens.
    fn look(&self) -> Result<Holder<Option<SocketAddr>>, HolderError> {
        match self.duty {
            Duty::Downstairs(_) => Ok(downstairs::look(&self.dir)?.map(Some)),
            Duty::Pantry => Ok(pantry::look(&self.dir)?.map(|_| None)),
        }
    }

    fn is_told_by(&self, words: Words<'_>) -> bool {
        match self.duty {
            Duty::Downstairs(_) => downstairs::is_told_by(words, &self.dir),
            Duty::Pantry => pantry::is_told_by(words, &self.dir),
        }
    }
}

/// Those of a sled that run now, in the order of its disks; its Pantry last.
pub(crate) fn of_sled(directory: &ClusterDirectory, sled: &Node) -> Result<Vec<Supervised>> {
    let mut found = Vec::new();
    for place in Place::of_sled(directory, sled) {
        if let Holder::Ours(process, address) = place.look()? {
            found.push(Supervised { duty: place.duty, address, process });
        }
    }
    Ok(found)
}

/// Signals those of a sled that run.
pub(crate) fn signal(directory: &ClusterDirectory, sled: &Node, signal: Signal) -> Result<()> {
    of_sled(directory, sled)?.iter().try_for_each(|process| process.signal(signal))
}

/// Asks every process of these sleds to end, the Pantries before the others, and waits so long at most for each of the two kinds. Their
/// agents have ended.
pub(crate) fn ask_to_end(directory: &ClusterDirectory, sleds: &[&Node], patience: Duration) -> Result<()> {
    let mut running = Vec::new();
    for sled in sleds {
        running.extend(of_sled(directory, sled)?);
    }
    // A paused one hears nothing else, and is missed by others.
    running.iter().try_for_each(|process| process.signal(Signal::CONT))?;
    let (pantries, others): (Vec<_>, Vec<_>) =
        running.into_iter().partition(|process| process.duty == Duty::Pantry);
    for asked in [pantries, others] {
        let deadline = Instant::now() + patience;
        asked.iter().try_for_each(|process| process.signal(Signal::TERM))?;
        for process in asked {
            process.ended_within(deadline.saturating_duration_since(Instant::now()))?;
        }
    }
    Ok(())
}

/// SIGKILL to every process of these sleds, whose agents have ended; on return none of their directories is in use, and nobody is on the
/// way to using one. Fails if that takes longer than `limit`.
pub(crate) fn kill_all(directory: &ClusterDirectory, sleds: &[&Node], limit: Duration) -> Result<()> {
    let places: Vec<Place> = sleds.iter().flat_map(|sled| Place::of_sled(directory, sled)).collect();
    if places.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + limit;
    loop {
        let Some(obstacle) = kill_once(directory, &places)? else { return Ok(()) };
        if Instant::now() >= deadline {
            bail!("{obstacle}, also {} s after SIGKILL to all that provably has one", limit.as_secs());
        }
    }
}

/// Kills whom it finds, and waits a moment. Why it is not over yet.
fn kill_once(directory: &ClusterDirectory, places: &[Place]) -> Result<Option<String>> {
    let mut obstacle = None;
    for place in places {
        let (dir, duty) = (&place.dir, place.duty);
        match place.look()? {
            Holder::Nobody => {}
            Holder::Ours(process, address) => {
                let process = Supervised { duty, address, process };
                process.signal(Signal::KILL)?;
                process.ended_within(LOOK_PAUSE)?;
                obstacle = Some(format!("{dir} is in use by its {duty} (pid {})", process.pid()));
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
    let is_told = |words: Words<'_>| places.iter().any(|place| place.is_told_by(words));
    let Some(pid) = started(is_told)?.first().copied() else {
        return Ok(None);
    };
    pause_at(Some(pid))?;
    Ok(Some(format!("pid {pid} says that it is to have a directory of {}", directory.root())))
}

/// Waits for the process's end, for a moment.
fn pause_at(pid: Option<u32>) -> Result<()> {
    let process = pid.map(ProcessIdentity::of).transpose()?.flatten();
    match process.map(|process| process.open()).transpose()?.flatten() {
        Some(process) => process.ended_within_blocking(Some(LOOK_PAUSE)).map(drop),
        None => Ok(()),
    }
}
