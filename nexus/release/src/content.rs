//! The one pass over the content of an archive: every entry is read once, inflated, and checked against what the
//! archive declares; targets also against what is signed.
//!
//! Entries that no metadata mentions are read as well: a damaged archive is refused as a whole, not only where
//! the damage was looked for. Blocking work, [`READERS`] entries at a time, one chunk of memory each.

use crate::{
    entry_reader::{ReadFault, read_entry},
    findings::Findings,
    hex::hex,
    zip_index::{Entry, ZipIndex},
};
use problem::Code;
use sha2::{Digest, Sha256};
use std::{
    cmp::Reverse,
    io,
    ops::ControlFlow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::task::JoinSet;

/// Entries read at the same time. Hashing is bound by the processor; coordinators have two cores at least, and
/// must go on answering others meanwhile.
const READERS: usize = 2;

/// What is signed about one entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// The target's path.
    pub(crate) target: String,
    /// Its signed length.
    pub(crate) length: u64,
    /// Its signed digest.
    pub(crate) sha256: [u8; 32],
}

/// One entry to read.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    /// Its name in the archive.
    pub(crate) name: String,
    /// Where it is.
    pub(crate) entry: Entry,
    /// What it must be; nothing where it is only to be intact.
    pub(crate) expected: Vec<Expected>,
}

/// Reads every entry of `tasks`.
///
/// # Errors
/// Only where the machine failed.
pub(crate) async fn check(index: Arc<ZipIndex>, mut tasks: Vec<Task>) -> io::Result<Findings> {
    // The large ones first, or the last one would be read alone.
    tasks.sort_by_key(|task| Reverse(task.entry.compressed_size));
    let shared = Arc::new(Shared { index, tasks, next: AtomicUsize::new(0), stop: AtomicBool::new(false) });
    let _stop_when_dropped = StopWhenDropped(Arc::clone(&shared));
    let mut readers = JoinSet::new();
    for _ in 0..READERS {
        let shared = Arc::clone(&shared);
        readers.spawn_blocking(move || shared.read_until_done());
    }
    let mut found = Vec::new();
    while let Some(joined) = readers.join_next().await {
        found.extend(joined.map_err(io::Error::other)??);
    }
    // In the order of names, whoever was faster.
    found.sort_by(|left, right| left.0.cmp(&right.0));
    let mut findings = Findings::default();
    for (_, one) in found {
        findings.append(one);
    }
    Ok(findings)
}

struct Shared {
    index: Arc<ZipIndex>,
    tasks: Vec<Task>,
    next: AtomicUsize,
    stop: AtomicBool,
}

/// The examination was given up (the client hung up): its blocking readers stop at their next chunk.
struct StopWhenDropped(Arc<Shared>);

impl Drop for StopWhenDropped {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Relaxed);
    }
}

impl Shared {
    fn read_until_done(&self) -> io::Result<Vec<(String, Findings)>> {
        let mut found = Vec::new();
        while let Some(task) = self.tasks.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let findings = self.read(task).inspect_err(|_| self.stop.store(true, Ordering::Relaxed))?;
            if !findings.is_empty() {
                found.push((task.name.clone(), findings));
            }
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(found)
    }

    fn read(&self, task: &Task) -> io::Result<Findings> {
        let mut findings = Findings::default();
        for expected in task.expected.iter().filter(|expected| expected.length != task.entry.size) {
            findings.about(
                Code::TargetLengthMismatch,
                expected.target.clone(),
                format!("{} has {} bytes, {} are signed", task.name, task.entry.size, expected.length),
            );
        }
        let to_hash: Vec<&Expected> =
            task.expected.iter().filter(|expected| expected.length == task.entry.size).collect();
        let mut hasher = (!to_hash.is_empty()).then(Sha256::new);
        let mut received = 0;
        let read = read_entry(&self.index.file, &task.entry, |chunk| {
            received += chunk.len() as u64;
            if let Some(hasher) = &mut hasher {
                hasher.update(chunk);
            }
            match self.stop.load(Ordering::Relaxed) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        match read {
            Ok(()) => {}
            Err(ReadFault::Stopped) => return Ok(findings),
            Err(ReadFault::Io(error)) => return Err(error),
            Err(ReadFault::Refused(code, reason)) => {
                findings.about(code, task.name.clone(), reason);
                // A wrong CRC is known only at the end, and then so is the digest.
                if received != task.entry.size {
                    return Ok(findings);
                }
            }
        }
        let found = hasher.map(|hasher| <[u8; 32]>::from(hasher.finalize()));
        for expected in to_hash {
            if found.is_some_and(|found| found != expected.sha256) {
                let found = found.map(|found| hex(&found)).unwrap_or_default();
                findings.about(
                    Code::TargetDigestMismatch,
                    expected.target.clone(),
                    format!("the SHA-256 of {} is {found}, signed is {}", task.name, hex(&expected.sha256)),
                );
            }
        }
        Ok(findings)
    }
}
