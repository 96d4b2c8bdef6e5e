//! What the kernel says of a process: memory, processor time.

use anyhow::{Context, Result};

/// Clock ticks in a second, as `/proc` counts them on every Linux that this runs on (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

const MIB: f64 = 1024.0 * 1024.0;

/// Resident memory now, and at its highest so far, in MiB.
pub(crate) fn memory_mib(pid: u32) -> Result<(f64, f64)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("reading the status of process {pid}"))?;
    let field = |name: &str| -> Result<f64> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib =
            line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse::<f64>().ok());
        Ok(kib.with_context(|| format!("process {pid} has no {name}"))? * 1024.0 / MIB)
    };
    Ok((field("VmRSS:")?, field("VmHWM:")?))
}

/// Processor time that it has used so far, in seconds.
pub(crate) fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("reading the times of process {pid}"))?;
    // The command's name may hold anything; fields count from behind its closing bracket.
    let fields: Vec<&str> =
        stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
    let ticks = |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok());
    let used = ticks(11).zip(ticks(12)).with_context(|| format!("process {pid} has no times"))?;
    Ok((used.0 + used.1) / TICKS_PER_SECOND)
}
