//! `downstairs --datasets`: serves the regions of a disk, which it alone does. Started by the agent, and outlives it.

use super::files::RegionFiles;
use camino::Utf8Path;
use daemon::{
    log::{self, LogError, LogFormat, LogSettings},
    state_lock::{StateLock, StateLockError},
    stop::{self, SignalError},
};
use datasets::{DatasetError, Datasets, Directories};
use downstairs::{Control, Disk, Server, ServerError};
use problem::chain;
use std::{io, net::SocketAddr, process::ExitCode, sync::Arc};
use thiserror::Error;

/// Why a disk is not served.
#[derive(Debug, Error)]
enum ServeError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("cannot start to wait for anything")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Signals(#[from] SignalError),
    #[error(transparent)]
    Disk(#[from] DatasetError),
    #[error(transparent)]
    Lock(#[from] StateLockError),
    #[error(transparent)]
    Server(#[from] ServerError),
}

/// The control socket. Without it blocks are served all the same: a disk that takes no writes takes no socket either.
pub(crate) fn control(directory: &Utf8Path, server: &Server) -> Option<Control> {
    match Control::start(directory, server.steward()) {
        Ok(control) => Some(control),
        Err(error) => {
            tracing::warn!(%directory, %error, "there is no control socket: neither clones nor snapshots can be ordered");
            None
        }
    }
}

/// Serves it until SIGTERM or SIGINT.
#[must_use]
pub fn run(directory: &Utf8Path, address: SocketAddr, log_format: LogFormat) -> ExitCode {
    match serve(directory, address, log_format) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn serve(directory: &Utf8Path, address: SocketAddr, log_format: LogFormat) -> Result<(), ServeError> {
    log::start(&LogSettings { format: log_format, filter: None })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ServeError::Runtime)?;
    // Before the lock, which would be made: where a disk is to be mounted there may be a directory.
    runtime.block_on(Directories::open(directory, super::STEP_LIMIT).list())?;
    // Two that serve the same regions would each believe that they know who may write.
    let _only_one = StateLock::take(directory)?;
    // Before it listens: whoever finds it may ask it to end.
    let mut stop = runtime.block_on(async { stop::on_signals() })?;
    let server = Server::start(Disk::new(Arc::new(RegionFiles::new(directory))), address)?;
    let control = control(directory, &server);
    tracing::info!(%directory, address = %server.address(), "downstairs serves the disk");
    // An error is that nobody will ever ask.
    let _ = runtime.block_on(stop.wait_for(|stop| *stop));
    drop(control);
    server.stop();
    tracing::info!(%directory, "downstairs stopped");
    Ok(())
}
