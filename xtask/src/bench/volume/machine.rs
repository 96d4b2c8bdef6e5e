//! The machine below all subjects, while none of them works: its disk, and whether somebody else uses its processors. It
//! explains their figures, and when they drift, why.
//!
//! Who else is busy matters more than it seems: where every processor has a process that does not sleep, a thread whose
//! `fdatasync` is done waits for the scheduler's tick, 4 ms at 250 Hz, in place of 0.06 ms.

use crate::bench::row::Samples;
use anyhow::{Context, Result};
use camino::{Utf8Path, Utf8PathBuf};
use std::{
    fs::File,
    os::unix::fs::FileExt,
    time::{Duration, Instant},
};

/// Size of the file that is written: enough for a bandwidth, little enough to be written before each round of a job.
pub(super) const FILE_BYTES: u64 = 256 * MIB;

/// Syncs of single blocks in one look.
const SYNCS: u64 = 100;

/// How long the processors are watched.
const WATCH: Duration = Duration::from_millis(500);

const MIB: u64 = 1 << 20;

const BLOCK: usize = 4096;

/// One look.
#[derive(Clone, Copy, Debug)]
pub(super) struct Machine {
    /// Share of all processors that somebody used, or that the machine was not given.
    pub(super) busy_share: f64,
    /// Writing 1 MiB after the other over an allocated file, `fdatasync` at the end counted.
    pub(super) sequential_mib_per_second: f64,
    /// Median of `fdatasync` after one block was written over, in microseconds.
    pub(super) fdatasync_us: f64,
}

/// Tells a person if what is served does not fit into the memory that is available.
pub(super) fn warn_of_little_memory(bytes: u64) -> Result<()> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let available = available(&text).context("/proc/meminfo is not understood")?;
    if available < bytes {
        eprintln!(
            "{:.1} GiB of memory are available, and the files have {:.1} GiB: reads may measure the disk; --roles leaves some out",
            available as f64 / super::GIB,
            bytes as f64 / super::GIB
        );
    }
    Ok(())
}

/// Bytes that could be cached, by the contents of `/proc/meminfo`.
fn available(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// Looks, by means of this file; creates it if it is not there.
pub(super) async fn look(path: Utf8PathBuf) -> Result<Machine> {
    let busy_share = busy_share().await?;
    let disk = tokio::task::spawn_blocking(move || disk(&path)).await.context("looking at the disk")?;
    let (sequential_mib_per_second, fdatasync_us) = disk?;
    Ok(Machine { busy_share, sequential_mib_per_second, fdatasync_us })
}

/// Bandwidth in MiB/s, time of `fdatasync` in microseconds.
fn disk(path: &Utf8Path) -> Result<(f64, f64)> {
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
    Ok(((FILE_BYTES / MIB) as f64 / seconds, Samples::of(syncs).median))
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

/// Of a time in which nobody here does anything.
async fn busy_share() -> Result<f64> {
    let read = || std::fs::read_to_string("/proc/stat").context("reading /proc/stat");
    let before = read()?;
    // The measurement itself: this much time is watched.
    tokio::time::sleep(WATCH).await;
    let after = read()?;
    share_between(&before, &after).context("/proc/stat is not understood")
}

/// Of two contents of `/proc/stat`.
fn share_between(before: &str, after: &str) -> Option<f64> {
    let ((idle_before, all_before), (idle_after, all_after)) = (ticks(before)?, ticks(after)?);
    let all = all_after - all_before;
    (all > 0.0).then(|| 1.0 - (idle_after - idle_before) / all)
}

/// Ticks in which the processors were idle, and all.
fn ticks(stat: &str) -> Option<(f64, f64)> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?.split_whitespace();
    // user, nice, system, idle, iowait, irq, softirq, steal; the guests' that follow are within user and nice.
    let ticks = fields.take(8).map(|field| field.parse().ok()).collect::<Option<Vec<f64>>>()?;
    Some((ticks.get(3)? + ticks.get(4)?, ticks.iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_not_idle_or_waiting_for_a_disk_is_busy() {
        let before = "cpu  100 0 50 1000 10 0 0 0 7 0\ncpu0 1 2 3\n";
        let after = "cpu  110 0 60 1075 15 0 0 0 9 0\ncpu0 1 2 3\n";
        let share = share_between(before, after).unwrap();
        assert!((share - 0.2).abs() < 1e-9, "{share}");
    }

    #[test]
    fn available_memory_is_told_in_bytes() {
        assert_eq!(available("MemTotal: 9 kB\nMemAvailable:   22000 kB\n"), Some(22_000 << 10));
        assert_eq!(available("MemTotal: 9 kB\n"), None);
    }

    #[test]
    fn what_is_no_line_of_processors_gives_no_share() {
        for stat in ["", "intr 1 2", "cpu  1 2 x 4 5 6 7 8", "cpu  1 2"] {
            assert_eq!(share_between(stat, stat), None, "{stat}");
        }
        let same = "cpu  1 2 3 4 5 6 7 8 0 0";
        assert_eq!(share_between(same, same), None);
    }
}
