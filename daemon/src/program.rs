//! The frame of a daemon's `main`: config, log, runtime, signals, exit code.
//!
//! Exit codes: 0 stopped as asked, 1 could not start or go on, 78 the config cannot be used (as in sysexits(3), so that
//! a supervisor need not try again).

use crate::{config_file, log, log::LogSettings, stop};
use camino::{Utf8Path, Utf8PathBuf};
use problem::chain;
use serde::de::DeserializeOwned;
use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
    time::Duration,
};
use tokio::{runtime::Builder, sync::watch};

/// A config that can not be used.
const EXIT_CONFIG: u8 = 78;

/// Threads for blocking work, at most, in a program that does not say how many it needs. Each disk operation under way holds one; more than this would only queue in the
/// kernel.
const BLOCKING_THREADS_MAX: usize = 64;

/// How long blocking work may go on after all else has ended.
const BLOCKING_END_LIMIT: Duration = Duration::from_secs(1);

/// What is wrong with a config that can be read.
#[derive(Debug, thiserror::Error)]
#[error("{path}")]
struct ConfigUnfit {
    path: Utf8PathBuf,
    #[source]
    source: Box<dyn Error>,
}

/// What a daemon is, to its frame.
#[derive(Clone, Copy, Debug)]
pub struct Program<C> {
    /// Where its config says how to log.
    pub log: fn(&C) -> &LogSettings,
    /// Checks what no single key of its config shows.
    pub verify: fn(&C) -> Result<(), Box<dyn Error>>,
    /// Threads that run its tasks; one for each processor if not given.
    pub worker_threads: Option<usize>,
    /// Threads for blocking work at most, by its config. They are made when they are needed.
    pub blocking_threads: Option<fn(&C) -> usize>,
}

impl<C: DeserializeOwned> Program<C> {
    /// Reads the config, starts the log, and runs `body` until it ends; `body` is given the watch that turns true when
    /// it is to stop.
    pub fn run<E: Error + 'static>(
        &self,
        config: &Utf8Path,
        body: impl AsyncFnOnce(C, watch::Receiver<bool>) -> Result<(), E>,
    ) -> ExitCode {
        match self.read(config) {
            Ok(config) => exit(self.start(config, body).map_err(|error| chain(&*error)), ExitCode::FAILURE),
            Err(error) => exit(Err(chain(&*error)), ExitCode::from(EXIT_CONFIG)),
        }
    }

    /// Reads the config and says what is wrong with it.
    #[must_use]
    pub fn check(&self, config: &Utf8Path) -> ExitCode {
        let checked = self.read(config).map(drop);
        exit(checked.map_err(|error| chain(&*error)), ExitCode::from(EXIT_CONFIG))
    }

    fn read(&self, config: &Utf8Path) -> Result<C, Box<dyn Error>> {
        let values = config_file::read::<C>(config)?;
        match (self.verify)(&values) {
            Ok(()) => Ok(values),
            Err(source) => Err(Box::new(ConfigUnfit { path: config.to_owned(), source })),
        }
    }

    fn start<E: Error + 'static>(
        &self,
        config: C,
        body: impl AsyncFnOnce(C, watch::Receiver<bool>) -> Result<(), E>,
    ) -> Result<(), Box<dyn Error>> {
        log::start((self.log)(&config))?;
        let mut builder = Builder::new_multi_thread();
        if let Some(threads) = self.worker_threads {
            builder.worker_threads(threads);
        }
        let blocking = self.blocking_threads.map_or(BLOCKING_THREADS_MAX, |threads| threads(&config));
        let runtime = builder.max_blocking_threads(blocking).enable_all().build()?;
        let ended = runtime.block_on(async {
            let stop = stop::on_signals()?;
            body(config, stop).await.map_err(Into::into)
        });
        // Dropping the runtime would wait for blocking work without end, and a hung disk never gives it back. What is
        // not finished by now was never acknowledged.
        runtime.shutdown_timeout(BLOCKING_END_LIMIT);
        ended
    }
}

/// Prints a document that a program can tell about itself.
#[must_use]
pub fn print(document: Result<String, serde_json::Error>) -> ExitCode {
    // Not println, which panics when the reader has seen enough.
    let printed = document.map_err(io::Error::from).and_then(|text| writeln!(io::stdout(), "{text}"));
    let printed = printed.map_err(|error| format!("cannot print the document: {}", chain(&error)));
    exit(printed, ExitCode::FAILURE)
}

/// How a command of a program has ended. Why it was not done is said on standard error.
#[must_use]
pub fn ended<E: Error + 'static>(done: Result<(), E>) -> ExitCode {
    exit(done.map_err(|error| chain(&error)), ExitCode::FAILURE)
}

fn exit(result: Result<(), String>, failure: ExitCode) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            failure
        }
    }
}
