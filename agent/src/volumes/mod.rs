//! Volumes by hand: regions, their Downstairs and an export over NBD, on one machine or several, with no coordinator.
//!
//! - [`arguments`]: what is written on the command line.
//! - [`create`], [`export`], [`downstairs`]: a command each.
//! - [`signals`]: how they are ended.

mod arguments;
mod create;
mod downstairs;
mod export;
mod signals;

use arguments::{ListenAt, Place, Size};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Subcommand;
use std::{error::Error, net::SocketAddr, process::ExitCode};

/// What is done with volumes.
#[derive(Debug, Subcommand)]
pub enum VolumeCommand {
    /// Make a volume: a region in each of two or three directories, and a file that describes it.
    Create {
        /// Size of the volume: bytes, or a number with KiB, MiB, GiB or TiB.
        #[arg(long)]
        size: Size,
        /// Bytes of a block: 512 or 4096.
        #[arg(long, default_value_t = 4096)]
        block_size: u32,
        /// A directory, and where its regions will be served: DIRECTORY@ADDRESS:PORT. Two or three times.
        #[arg(long, required = true)]
        member: Vec<Place>,
        /// The file that describes the volume; it must not exist.
        #[arg(long, value_name = "FILE")]
        output: Utf8PathBuf,
    },
    /// Serve a volume over NBD until SIGTERM or SIGINT.
    Export {
        /// The file that describes the volume.
        #[arg(long, value_name = "FILE")]
        volume: Utf8PathBuf,
        /// The right to write: higher than that of every export of this volume before.
        #[arg(long)]
        epoch: u32,
        /// Where clients come: unix:PATH or tcp:ADDRESS:PORT.
        #[arg(long)]
        listen: ListenAt,
    },
}

/// Does it.
#[must_use]
pub fn run(command: VolumeCommand) -> ExitCode {
    say(match command {
        VolumeCommand::Create { size, block_size, member, output } => {
            create::create(size, block_size, &member, &output)
        }
        VolumeCommand::Export { volume, epoch, listen } => export::export(&volume, epoch, listen.0),
    })
}

/// Serves the regions of a directory until SIGTERM or SIGINT.
#[must_use]
pub fn run_downstairs(directory: &Utf8Path, address: SocketAddr) -> ExitCode {
    say(downstairs::downstairs(directory, address))
}

fn say(result: Result<(), Box<dyn Error>>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    eprintln!("error: {}", problem::chain(error.as_ref()));
    ExitCode::FAILURE
}
