//! `downstairs --datasets`: serves the regions of a disk, which it alone does. Started by the agent, and outlives it.

use super::{faults::FaultableDisk, files::RegionFiles, presence::Presence};
use camino::{Utf8Path, Utf8PathBuf};
use daemon::{
    log::{self, LogError, LogFormat, LogSettings},
    program::ended,
    state_lock::{StateLock, StateLockError},
    stop::{self, SignalError},
};
use datasets::{DatasetError, Datasets, Directories};
use downstairs::{Control, Disk, Server, ServerError};
use durable_fs::{DiskFaults, FaultyDisk, RealDisk, Storage};
use std::{io, net::SocketAddr, process::ExitCode, sync::Arc};
use thiserror::Error;
use tokio::runtime::Runtime;

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
    #[error("cannot see what is mounted at {directory}")]
    Mounts {
        directory: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{dataset} is not mounted at {directory}: `zfs mount {dataset}`")]
    NotMounted { dataset: String, directory: Utf8PathBuf },
    #[error("cannot look at the lock on {directory} that was taken just now")]
    Presence {
        directory: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("the disk that was at {directory} is gone ({why}): mount or import it again")]
    Gone { directory: Utf8PathBuf, why: String },
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

/// What a Downstairs is told.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Where its disk is mounted.
    pub directory: Utf8PathBuf,
    /// The dataset of ZFS that is to be mounted there, if the disk is one.
    pub zfs: Option<String>,
    /// Where Upstairs come.
    pub address: SocketAddr,
    /// How it logs.
    pub log_format: LogFormat,
    /// Through which its disk can be faulted.
    pub faults: Option<FaultSocket>,
}

/// Where a disk is faulted, for tests and drills.
#[derive(Clone, Debug)]
pub struct FaultSocket {
    /// The socket.
    pub path: Utf8PathBuf,
    /// The disk's name there.
    pub disk: String,
}

/// Serves it until SIGTERM or SIGINT.
#[must_use]
pub fn run(serving: &Serving) -> ExitCode {
    ended(serve(serving))
}

fn serve(serving: &Serving) -> Result<(), ServeError> {
    let Serving { directory, zfs, address, log_format, faults } = serving;
    log::start(&LogSettings { format: *log_format, filter: None })?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ServeError::Runtime)?;
    // Before the lock, which would be made: where a disk is to be mounted there may be a directory.
    match zfs {
        None => drop(runtime.block_on(Directories::open(directory, super::STEP_LIMIT).list())?),
        Some(dataset) => is_mounted(dataset, directory)?,
    }
    // Two that serve the same regions would each believe that they know who may write.
    let only_one = StateLock::take(directory)?;
    let presence = Presence::of(&only_one)
        .map_err(|source| ServeError::Presence { directory: directory.clone(), source })?;
    // Before it listens: whoever finds it may ask it to end.
    let mut stop = runtime.block_on(async { stop::on_signals() })?;
    let disk = open(directory, faults.as_ref(), &runtime);
    let files = if zfs.is_some() { RegionFiles::on_zfs(disk) } else { RegionFiles::new(disk) };
    let disk = Disk::new(Arc::new(files)).with_room_for_snapshots();
    let server = Server::start(disk, *address)?;
    let control = control(directory, &server);
    tracing::info!(%directory, address = %server.address(), "downstairs serves the disk");
    let ended = runtime.block_on(async {
        tokio::select! {
            // An error is that nobody will ever ask.
            _ = stop.wait_for(|stop| *stop) => Ok(()),
            why = presence.gone() => Err(ServeError::Gone { directory: directory.clone(), why }),
        }
    });
    drop(control);
    server.stop();
    tracing::info!(%directory, "downstairs stopped");
    ended
}

/// Refuses the place where a dataset is to be mounted.
fn is_mounted(dataset: &str, directory: &Utf8Path) -> Result<(), ServeError> {
    match datasets::is_mounted(dataset, directory) {
        Ok(true) => Ok(()),
        Ok(false) => {
            Err(ServeError::NotMounted { dataset: dataset.to_owned(), directory: directory.to_owned() })
        }
        Err(source) => Err(ServeError::Mounts { directory: directory.to_owned(), source }),
    }
}

/// The disk; where that is wanted, with a socket through which it is faulted. That this cannot be opened fails the test that wanted it, not
/// the process.
fn open(directory: &Utf8Path, faults: Option<&FaultSocket>, runtime: &Runtime) -> Arc<dyn Storage> {
    let disk = RealDisk::new(directory);
    let Some(FaultSocket { path, disk: name }) = faults.cloned() else { return Arc::new(disk) };
    let switch = DiskFaults::new();
    let control = Arc::new(FaultableDisk::new(&name, disk.clone(), switch.clone()));
    runtime.spawn(async move {
        if let Err(error) = fault_points::serve(path.clone(), Some(control)).await {
            tracing::error!(%path, error = &error as &dyn std::error::Error, "the fault socket cannot be opened");
        }
    });
    Arc::new(FaultyDisk::new(disk, switch))
}
