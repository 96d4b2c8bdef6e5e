//! Ending everything of a cluster. Owns the order and the patience; blocks, because `Drop` and the keeper call it.
//!
//! ```text
//!   SIGTERM (and SIGCONT: a paused process hears nothing else) to coordinators and agents
//!     └─► wait, all together, at most the patience ─► SIGKILL to the process groups of what is left ─► wait for the end
//!           └─► the same with what agents supervise, Pantries first, then Downstairs: by their locks, since those that an earlier
//!               life of an agent started are in no group that is known
//!           └─► who is cut off is so no more ─► its PostgreSQL server, if it has one ─► number given back ─► record: stopped, or the directory removed
//! ```
//!
//! Which processes are the cluster's is the record's to say, and, for those that a crash kept out of it, the kernel's:
//! each is started with the path of its node's config; what an agent supervises has the lock of its directory.
//!
//! A crash in between leaves a record that is not stopped and whose owner is dead: the keeper, or the next `up` or
//! `down`, does it again from the start, and every step may be done twice.

use crate::{
    claim::Claims,
    launch,
    layout::ClusterDirectory,
    partition,
    process::{LiveProcess, ProcessIdentity},
    record::{ClusterRecord, DatabaseKind, Intent, Node, Phase, Role},
    supervised,
};
use anyhow::{Context, Result, bail};
use rustix::process::Signal;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    time::{Duration, Instant},
};
use test_postgres::Standing;

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
        end_processes(directory, &mut record, patience)?;
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

/// Ends every process of the record, and those that were started but never got into it.
pub(crate) fn end_processes(
    directory: &ClusterDirectory,
    record: &mut ClusterRecord,
    patience: Duration,
) -> Result<()> {
    let mut live = Vec::new();
    for node in &mut record.nodes {
        if let Some(process) = node.process.as_ref().map(ProcessIdentity::open).transpose()?.flatten() {
            node.intent = if patience.is_zero() { Intent::Kill } else { Intent::Stop };
            live.push((node.name.clone(), process));
        }
    }
    let recorded: BTreeSet<Option<u32>> =
        record.nodes.iter().map(|node| node.process.as_ref().map(|process| process.pid)).collect();
    for (who, process) in unrecorded(directory, record)? {
        if !recorded.contains(&Some(process.pid)) {
            live.extend(process.open()?.map(|process| (who, process)));
        }
    }
    if !patience.is_zero() {
        for (_, process) in &live {
            // It alone: what it supervises is asked below, once.
            process.signal(Signal::TERM)?;
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
    end_supervised(directory, &record.with_role(Role::Sled).collect::<Vec<_>>(), patience)?;
    if !record.partitions.is_empty() {
        partition::heal(record.number).context("ending that nodes are cut off")?;
        record.partitions.clear();
    }
    // After those who use it.
    match record.database {
        DatabaseKind::Sqlite => Ok(()),
        DatabaseKind::Postgres => Standing::at(&directory.postgres()).end(patience.is_zero()),
    }
}

/// Ends what agents supervise that have ended themselves.
pub(crate) fn end_supervised(
    directory: &ClusterDirectory,
    sleds: &[&Node],
    patience: Duration,
) -> Result<()> {
    if !patience.is_zero() {
        supervised::ask_to_end(directory, sleds, patience)?;
    }
    supervised::kill_all(directory, sleds, KILL_LIMIT)
}

/// Processes that run with the config of one of the cluster's nodes: whoever started them may have died before it wrote
/// down that it had.
fn unrecorded(
    directory: &ClusterDirectory,
    record: &ClusterRecord,
) -> Result<Vec<(String, ProcessIdentity)>> {
    let configs: BTreeMap<String, &str> = record
        .nodes
        .iter()
        .map(|node| (directory.config_file(&node.name).into(), node.name.as_str()))
        .collect();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("listing /proc")? {
        let name = entry.context("listing /proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It is told who it is before it is looked at, so that what is looked at is it or nothing.
        let Some(process) = ProcessIdentity::of(pid)? else { continue };
        let Ok(command_line) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let arguments: Vec<&[u8]> = command_line.split(|byte| *byte == 0).collect();
        let config = arguments.windows(2).find(|pair| pair[0] == launch::CONFIG_OPTION.as_bytes());
        let who = config.and_then(|pair| configs.get(std::str::from_utf8(pair[1]).ok()?));
        if let Some(who) = who {
            found.push(((*who).to_owned(), process));
        }
    }
    Ok(found)
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
