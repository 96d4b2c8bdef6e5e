//! `sled-agent pantry`: holds the sled's volumes. Started by the agent, and outlives it. `sled-agent pantry-stop` ends it.

use camino::{Utf8Path, Utf8PathBuf};
use clap::Args;
use daemon::{
    log::{self, LogError, LogFormat, LogSettings},
    state_directory,
    state_lock::{StateLock, StateLockError},
    stop::{self, SignalError},
};
use problem::chain;
use std::{io, net::IpAddr, process::ExitCode, time::Duration};
use supervised_process::{Holder, HolderError, pantry};
use thiserror::Error;
use tokio::time::timeout;
use volume_pantry::{ServeError, Telling};

/// How long it may take to end: each volume is flushed and ended, all at once, within 17 s.
const END_LIMIT: Duration = Duration::from_secs(60);

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
    Holder(#[from] HolderError),
    #[error(
        "{dir} is in use by a process{} that is not provably a Pantry ({why}): it is left alone; if it is one, end it by hand", .pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    Unknown { dir: Utf8PathBuf, pid: Option<u32>, why: String },
    #[error("the Pantry of {dir} (pid {pid}) cannot be asked to end")]
    Signal {
        dir: Utf8PathBuf,
        pid: u32,
        #[source]
        source: io::Error,
    },
    #[error("the Pantry of {dir} (pid {pid}) has not ended within {} s", END_LIMIT.as_secs())]
    StillThere { dir: Utf8PathBuf, pid: u32 },
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

/// Holds volumes until SIGTERM or SIGINT; then all are detached.
#[must_use]
pub fn run(holding: &Holding) -> ExitCode {
    told(serve(holding))
}

/// Ends the Pantry of a directory; done if there is none.
#[must_use]
pub fn run_stop(directory: &Utf8Path) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    told(runtime.map_err(PantryProcessError::Runtime).and_then(|runtime| runtime.block_on(stop(directory))))
}

fn told(done: Result<(), PantryProcessError>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
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
        let stop = stop::on_signals()?;
        let pantry = volume_pantry::Pantry::listen(directory, socket, *address, telling.clone())?;
        tracing::info!(%directory, %socket, "pantry ready");
        pantry.run(stop).await;
        tracing::info!(%directory, "pantry stopped");
        Ok(())
    })
}

async fn stop(dir: &Utf8Path) -> Result<(), PantryProcessError> {
    let ours = match pantry::look(dir)? {
        Holder::Nobody => return Ok(()),
        Holder::Unknown { pid, why } => {
            return Err(PantryProcessError::Unknown { dir: dir.to_owned(), pid, why });
        }
        Holder::Ours(ours, _) => ours,
    };
    let pid = ours.pid();
    let signal = |source| PantryProcessError::Signal { dir: dir.to_owned(), pid, source };
    ours.ask_to_end().map_err(signal)?;
    match timeout(END_LIMIT, ours.ended()).await {
        Ok(ended) => ended.map_err(signal),
        Err(_) => Err(PantryProcessError::StillThere { dir: dir.to_owned(), pid }),
    }
}
