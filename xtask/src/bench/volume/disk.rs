//! The disk below all subjects, without any of them: it explains their figures, and when they drift, why.

use anyhow::{Context, Result};
use camino::Utf8Path;
use std::{fs::File, os::unix::fs::FileExt, time::Instant};

/// Size of the file that is written: enough for a bandwidth, little enough to be written before each round of a job.
pub(super) const FILE_BYTES: u64 = 256 * MIB;

/// Syncs of single blocks in one look.
const SYNCS: u64 = 100;

const MIB: u64 = 1 << 20;

const BLOCK: usize = 4096;

/// One look at the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Disk {
    /// Writing 1 MiB after the other over an allocated file, `fdatasync` at the end counted.
    pub(super) sequential_mib_per_second: f64,
    /// Median of `fdatasync` after one block was written over, in microseconds.
    pub(super) fdatasync_us: f64,
}

/// Looks, by means of this file; creates it if it is not there.
pub(super) fn look(path: &Utf8Path) -> Result<Disk> {
    let options = File::options().create(true).truncate(false).write(true).open(path);
    let file = options.with_context(|| format!("opening {path}"))?;
    if file.metadata().with_context(|| format!("asking for the size of {path}"))?.len() < FILE_BYTES {
        // Not counted: to give a file its blocks costs more than to write over them.
        write_all(&file, path)?;
    }
    let seconds = write_all(&file, path)?;
    let mut syncs = Vec::new();
    for sync in 0..SYNCS {
        // A stride that is prime to the number of blocks: each one is another, none beside the one before.
        let offset = sync * 7919 % (FILE_BYTES / BLOCK as u64) * BLOCK as u64;
        file.write_all_at(&[0x5a; BLOCK], offset).with_context(|| format!("writing {path}"))?;
        let started = Instant::now();
        file.sync_data().with_context(|| format!("syncing {path}"))?;
        syncs.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(Disk {
        sequential_mib_per_second: (FILE_BYTES / MIB) as f64 / seconds,
        fdatasync_us: crate::bench::row::Samples::of(syncs).median,
    })
}

/// Seconds that it takes to write it all, durably.
fn write_all(file: &File, path: &Utf8Path) -> Result<f64> {
    let bytes = vec![0x5a; MIB as usize];
    let started = Instant::now();
    for at in (0..FILE_BYTES).step_by(bytes.len()) {
        file.write_all_at(&bytes, at).with_context(|| format!("writing {path}"))?;
    }
    file.sync_data().with_context(|| format!("syncing {path}"))?;
    Ok(started.elapsed().as_secs_f64())
}
