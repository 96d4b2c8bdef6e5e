//! Ending everything of a cluster. Owns the order and the patience; blocks, because `Drop` and the keeper call it.
//!
//! ```text
//!   SIGTERM (and SIGCONT: a paused process hears nothing else) to every process group
//!     └─► wait, all together, at most the patience ─► SIGKILL to what is left ─► wait for the end
//!           └─► number given back ─► record: stopped, or the directory removed
//! ```
//!
//! A crash in between leaves a record that is not stopped and whose owner is dead: the keeper, or the next `up` or
//! `down`, does it again from the start, and every step may be done twice.

use crate::{
    claim::Claims,
    layout::ClusterDirectory,
    process::{LiveProcess, ProcessIdentity},
    record::{ClusterRecord, Intent, Phase},
};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::{
    fs, io,
    time::{Duration, Instant},
};

/// How long processes may take to stop after they were asked to.
pub(crate) const POLITE: Duration = Duration::from_secs(10);

/// No asking.
pub(crate) const AT_ONCE: Duration = Duration::ZERO;

/// How long the kernel may take to end what was killed. It is quick unless a disk hangs.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// What stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// The directories: `up` goes on with them.
    State,
    /// Nothing.
    Nothing,
}

/// Ends the cluster, if `whether` says so of its record. Whether it did.
pub(crate) fn tear_down(
    directory: &ClusterDirectory,
    claims: &Claims,
    patience: Duration,
    leave: Leave,
    whether: impl FnOnce(&ClusterRecord) -> Result<bool>,
) -> Result<bool> {
    directory.update(|record| {
        let Some(mut record) = record else { return Ok((None, false)) };
        if !whether(&record)? {
            return Ok((None, false));
        }
        end_processes(&mut record, patience)?;
        claims.release(directory, record.number)?;
        if leave == Leave::Nothing {
            remove_tree(directory)?;
            return Ok((None, true));
        }
        record.phase = Phase::Stopped;
        record.owner = None;
        Ok((Some(record), true))
    })
}

/// Ends every process of the record.
pub(crate) fn end_processes(record: &mut ClusterRecord, patience: Duration) -> Result<()> {
    let mut live = Vec::new();
    for node in &mut record.nodes {
        if let Some(process) = node.process.as_ref().map(ProcessIdentity::open).transpose()?.flatten() {
            node.intent = if patience.is_zero() { Intent::Kill } else { Intent::Stop };
            live.push((node.name.clone(), process));
        }
    }
    if !patience.is_zero() {
        for (_, process) in &live {
            process.signal_group(Signal::TERM)?;
            process.signal_group(Signal::CONT)?;
        }
        live = still_alive(live, patience)?;
    }
    for (_, process) in &live {
        process.signal_group(Signal::KILL)?;
    }
    let stuck = still_alive(live, KILL_LIMIT)?;
    if !stuck.is_empty() {
        let names: Vec<&str> = stuck.iter().map(|(name, _)| name.as_str()).collect();
        bail!("{} did not end within {} s of SIGKILL", names.join(", "), KILL_LIMIT.as_secs());
    }
    Ok(())
}

fn still_alive(processes: Vec<(String, LiveProcess)>, limit: Duration) -> Result<Vec<(String, LiveProcess)>> {
    let deadline = Instant::now() + limit;
    let mut alive = Vec::new();
    for (name, process) in processes {
        if !process.ended_within_blocking(Some(deadline.saturating_duration_since(Instant::now())))? {
            alive.push((name, process));
        }
    }
    Ok(alive)
}

/// Removes a cluster's directory; none is as good as removed.
pub(crate) fn remove_tree(directory: &ClusterDirectory) -> Result<()> {
    match fs::remove_dir_all(directory.root()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", directory.root()))
        }
        _ => Ok(()),
    }
}
