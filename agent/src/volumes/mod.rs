//! Volumes by hand: regions, their Downstairs and an export over NBD, on one machine or several, with no coordinator.
//!
//! - [`arguments`]: what is written on the command line.
//! - [`create`], [`export`], [`downstairs`]: a command each.
//! - [`keys`]: the files with their keys.
//! - [`signals`]: how they are ended.

mod arguments;
mod create;
mod downstairs;
mod export;
mod keys;
mod signals;

use arguments::{ListenAt, Place, Size};
use camino::{Utf8Path, Utf8PathBuf};
use clap::Subcommand;
use keys::KeyFileError;
use std::{error::Error, net::SocketAddr, process::ExitCode};
use volume_repair::BuildError;

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
        /// Encrypt it, with the key of this file. Without the key nobody can read it ever again.
        #[arg(long, value_name = "FILE")]
        key_file: Option<Utf8PathBuf>,
    },
    /// Make a file with a new key for encrypted volumes, which nobody but its owner may read.
    Key {
        /// The file; it must not exist.
        file: Utf8PathBuf,
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
        /// The file with the key of the volume, if it is encrypted.
        #[arg(long, value_name = "FILE")]
        key_file: Option<Utf8PathBuf>,
    },
}

/// Does it.
#[must_use]
pub fn run(command: VolumeCommand) -> ExitCode {
    say(match command {
        VolumeCommand::Create { size, block_size, member, output, key_file } => {
            create::create(size, block_size, &member, &output, key_file.as_deref())
        }
        VolumeCommand::Key { file } => keys::make(&file).map_err(Into::into),
        VolumeCommand::Export { volume, epoch, listen, key_file } => {
            export::export(&volume, epoch, listen.0, key_file.as_deref())
        }
    })
}

/// Serves the regions of a directory until SIGTERM or SIGINT.
#[must_use]
pub fn run_downstairs(directory: &Utf8Path, address: SocketAddr) -> ExitCode {
    say(downstairs::downstairs(directory, address))
}

fn say(result: Result<(), Box<dyn Error>>) -> ExitCode {
    let Err(error) = result else { return ExitCode::SUCCESS };
    let code = code_of(error.as_ref()).map(|code| format!("[{code}]")).unwrap_or_default();
    eprintln!("error{code}: {}", problem::chain(error.as_ref()));
    ExitCode::FAILURE
}

/// The name of an error for programs, if it has one.
fn code_of(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let of_build = error.downcast_ref().map(BuildError::code);
    of_build.or_else(|| error.downcast_ref().map(KeyFileError::code))
}
