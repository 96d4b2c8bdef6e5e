//! `sled-agent disk`: what is done with a disk by hand.

use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use daemon::program::ended;
use datasets::{DatasetError, Datasets, Directories, Zfs};
use std::{io, process::ExitCode};
use supervised_process::{EndError, downstairs};
use thiserror::Error;

/// What is done with a disk.
#[derive(Debug, Subcommand)]
pub enum DiskCommand {
    /// Take a disk into use for regions: puts a mark on a mounted one, without which it counts as missing; creates a dataset. One that has the
    /// mark, or is there, stays as it is.
    Prepare {
        /// Which one.
        #[command(flatten)]
        disk: DiskArgument,
    },
    /// End the Downstairs that an agent has started for a disk. With the agent running, it starts another one.
    Stop {
        /// Which one.
        #[command(flatten)]
        disk: DiskArgument,
    },
}

/// Which disk, as the agent's config has it.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct DiskArgument {
    /// Where it is mounted.
    #[arg(value_name = "DIR")]
    dir: Option<Utf8PathBuf>,
    /// The dataset that it is. To prepare it is to create it, in a pool that is there.
    #[arg(long, value_name = "POOL/DATASET")]
    zfs: Option<String>,
}

/// Why it was not done.
#[derive(Debug, Error)]
enum DiskCommandError {
    #[error("cannot start to wait for anything")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Dataset(#[from] DatasetError),
    #[error(transparent)]
    End(#[from] EndError),
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
                    DiskCommand::Prepare { disk } => prepare(disk).await,
                    DiskCommand::Stop { disk } => Ok(downstairs::end(&directory(disk).await?).await?),
                }
            })
        });
    ended(done)
}

async fn prepare(disk: &DiskArgument) -> Result<(), DiskCommandError> {
    if let Some(dataset) = &disk.zfs {
        zfs(dataset)?.prepare().await?;
    }
    if let Some(dir) = &disk.dir {
        Directories::open(dir, super::STEP_LIMIT).prepare().await?;
    }
    Ok(())
}

/// Where it is mounted. One is given of the two.
async fn directory(disk: &DiskArgument) -> Result<Utf8PathBuf, DiskCommandError> {
    match (&disk.zfs, &disk.dir) {
        (Some(dataset), _) => Ok(zfs(dataset)?.directory().await?),
        (None, dir) => Ok(dir.clone().unwrap_or_default()),
    }
}

/// To be looked at, or made; nothing in it is changed, so nobody is kept from it.
fn zfs(dataset: &str) -> Result<Zfs, DatasetError> {
    Zfs::open(dataset, Utf8Path::new("/dev/null"), super::STEP_LIMIT)
}
