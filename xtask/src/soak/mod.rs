//! `soak WHAT`: real processes under load and SIGKILL, for as long as one likes. Owns what the groups have in common; one file each:
//!
//! - [`sagas`]: created, recovered and killed. [`volume`]: written, read and killed.
//!
//! What is done and what is right is the crates' in `testbed/`.

mod sagas;
mod volume;

use anyhow::Result;
use clap::Subcommand;
use std::{
    io::{IsTerminal, Write},
    process::ExitCode,
    time::SystemTime,
};

/// Exit code of a run that Ctrl-C ended before it was done, as shells have it.
const INTERRUPTED: u8 = 130;

/// What is soaked.
#[derive(Debug, Subcommand)]
pub(crate) enum SoakCommand {
    /// Sagas under load and SIGKILL: none is lost, none runs twice
    Sagas(sagas::SagasArgs),
    /// Volumes under load while their processes are killed and paused: no byte is wrong, no client notices
    Volume(volume::VolumeArgs),
}

/// Runs the command.
pub(crate) fn run(command: &SoakCommand) -> Result<ExitCode> {
    match command {
        SoakCommand::Sagas(args) => sagas::run(args),
        SoakCommand::Volume(args) => volume::run(args),
    }
}

/// One line that is written over by the next one; where nobody watches, nothing.
fn progress(text: &str) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        // Who does not read it misses nothing.
        let _ = write!(err, "\r\x1b[2K{text}").and_then(|()| err.flush());
    }
}

/// What follows stands on a line of its own.
fn end_progress() {
    if std::io::stderr().is_terminal() {
        eprintln!();
    }
}

/// Another one each time, short enough to be typed again.
fn seed_of_now() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::from(now.subsec_micros())
}
