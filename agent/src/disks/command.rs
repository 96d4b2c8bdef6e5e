//! `sled-agent disk`: what is done with a disk by hand.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Subcommand;
use datasets::{DatasetError, Directories};
use problem::chain;
use std::{io, process::ExitCode, time::Duration};
use supervised_process::{Holder, HolderError, downstairs};
use thiserror::Error;
use tokio::time::timeout;

/// How long a Downstairs may take to end: it closes its regions in order, and a disk under load takes a while to sync them.
const END_LIMIT: Duration = Duration::from_secs(60);

/// What is done with a disk.
#[derive(Debug, Subcommand)]
pub enum DiskCommand {
    /// Take a mounted disk into use for regions: puts a mark on it, without which it counts as missing. One that has it stays as it is.
    Prepare {
        /// Where it is mounted.
        #[arg(value_name = "DIR")]
        dir: Utf8PathBuf,
    },
    /// End the Downstairs that an agent has started for a disk. With the agent running, it starts another one.
    Stop {
        /// Where the disk is mounted, as the agent's config has it.
        #[arg(value_name = "DIR")]
        dir: Utf8PathBuf,
    },
}

/// Why it was not done.
#[derive(Debug, Error)]
enum DiskCommandError {
    #[error("cannot start to wait for anything")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    Holder(#[from] HolderError),
    #[error(
        "{dir} is in use by a process{} that is not provably its Downstairs ({why}): it is left alone; if it is one, end it by hand", .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Unknown { dir: Utf8PathBuf, pid: Option<u32>, why: String },
    #[error("the Downstairs of {dir} (pid {pid}) cannot be asked to end")]
    Signal {
        dir: Utf8PathBuf,
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error("the Downstairs of {dir} (pid {pid}) has not ended within {} s: it may wait for its disk", END_LIMIT.as_secs())]
    StillThere { dir: Utf8PathBuf, pid: u32 },
}

/// Does it.
#[must_use]
pub fn run(command: &DiskCommand) -> ExitCode {
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(DiskCommandError::Runtime)
        .and_then(|runtime| {
            runtime.block_on(async {
                match command {
                    DiskCommand::Prepare { dir } => {
                        Ok(Directories::open(dir, super::STEP_LIMIT).prepare().await?)
                    }
                    DiskCommand::Stop { dir } => stop(dir).await,
                }
            })
        });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

/// Done if nobody serves it.
async fn stop(dir: &Utf8Path) -> Result<(), DiskCommandError> {
    let ours = match downstairs::look(dir)? {
        Holder::Nobody => return Ok(()),
        Holder::Unknown { pid, why } => {
            return Err(DiskCommandError::Unknown { dir: dir.to_owned(), pid, why });
        }
        Holder::Ours(ours, _) => ours,
    };
    let pid = ours.pid();
    let signal = |source| DiskCommandError::Signal { dir: dir.to_owned(), pid, source };
    ours.ask_to_end().map_err(signal)?;
    match timeout(END_LIMIT, ours.ended()).await {
        Ok(ended) => ended.map_err(signal),
        Err(_) => Err(DiskCommandError::StillThere { dir: dir.to_owned(), pid }),
    }
}
