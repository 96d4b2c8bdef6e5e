//! `sled-agent pantry`: holds the sled's volumes. Started by the agent, and outlives it. `sled-agent pantry-stop` ends it.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use daemon::{
    log::{self, LogError, LogFormat, LogSettings},
    program::ended,
    state_directory,
    state_lock::{StateLock, StateLockError},
    stop::{self, Again, SignalError},
};
use std::{io, net::IpAddr, process::ExitCode};
use supervised_process::{EndError, pantry};
use thiserror::Error;
use volume_pantry::{ServeError, Telling};

/// Threads that serve calls. They mostly wait; volumes and jobs have threads of their own.
const WORKER_THREADS: usize = 2;

/// Why no volumes are held, or the process is not ended.
#[derive(Debug, Error)]
enum PantryProcessError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("cannot start to wait for anything")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Signals(#[from] SignalError),
    #[error("the directory {path} cannot be made")]
    Directory {
        path: Utf8PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Lock(#[from] StateLockError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error(transparent)]
    End(#[from] EndError),
}

/// What a Pantry is told.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Where the volumes' sockets are.
    pub directory: Utf8PathBuf,
    /// Where it is asked.
    pub socket: Utf8PathBuf,
    /// From where it comes to members of volumes; without one the system chooses.
    pub address: Option<IpAddr>,
    /// Who is told of repairs, if somebody is.
    pub telling: Option<Telling>,
    /// How it logs.
    pub log_format: LogFormat,
}

/// Who is told of repairs.
#[derive(Debug, Args)]
pub struct TellingArguments {
    /// A directory where notices of repairs are kept until a coordinator has them.
    #[arg(long, value_name = "DIR", requires = "notify")]
    notices: Option<Utf8PathBuf>,
    /// A coordinator's sled-facing API, which is told of repairs. If there are several, any of them is enough.
    #[arg(long, value_name = "URL", requires = "notices")]
    notify: Vec<String>,
    /// The file with the token by which coordinators know the sled.
    #[arg(long, value_name = "FILE", requires = "notify")]
    notify_token_file: Option<Utf8PathBuf>,
}

impl From<TellingArguments> for Option<Telling> {
    fn from(arguments: TellingArguments) -> Option<Telling> {
        let TellingArguments { notices, notify, notify_token_file: token_file } = arguments;
        let mut notify = notify.into_iter();
        let (directory, coordinator) = notices.zip(notify.next())?;
        Some(Telling { directory, coordinator, others: notify.collect(), token_file })
    }
}

/// Holds volumes until SIGTERM or SIGINT; then all are detached, however often it is told.
#[must_use]
pub fn run(holding: &Holding) -> ExitCode {
    ended(serve(holding))
}

/// Ends the Pantry of a directory; done if there is none.
#[must_use]
pub fn run_stop(directory: &Utf8Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    ended(
        runtime
            .map_err(PantryProcessError::Runtime)
            .and_then(|runtime| Ok(runtime.block_on(pantry::end(directory))?)),
    )
}

fn serve(holding: &Holding) -> Result<(), PantryProcessError> {
    let Holding { directory, socket, address, telling, log_format } = holding;
    log::start(&LogSettings { format: *log_format, filter: None })?;
    crate::limits::raise_open_files();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(WORKER_THREADS).enable_all().build();
    let runtime = runtime.map_err(PantryProcessError::Runtime)?;
    let made = state_directory::create(directory);
    made.map_err(|source| PantryProcessError::Directory { path: directory.to_owned(), source })?;
    let _only_one = StateLock::take(directory)?;
    runtime.block_on(async {
        // Before it listens: whoever finds it may ask it to end.
        // To flush and end volumes is bounded, and cut off it would lose what clients have written and not flushed: a second signal changes nothing.
        let stop = stop::watch_signals(Again::ChangesNothing)?;
        let pantry = volume_pantry::Pantry::listen(directory, socket, *address, telling.clone())?;
        tracing::info!(%directory, %socket, "pantry ready");
        pantry.run(stop).await;
        tracing::info!(%directory, "pantry stopped");
        Ok(())
    })
}
