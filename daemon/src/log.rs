//! Structured logs on standard error; who collects them (journald, a file) is the supervisor's matter.

use serde::Deserialize;
use std::{backtrace::Backtrace, io::IsTerminal};
use thiserror::Error;
use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

/// How to log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LogSettings {
    /// How a line looks.
    pub format: LogFormat,
    /// What is logged, in the syntax of `RUST_LOG`; `info` unless said.
    pub filter: Option<String>,
}

/// How a line looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for machines.
    Json,
}

/// A log that can not be set up.
#[derive(Debug, Error)]
pub enum LogError {
    /// The filter is not in the syntax of `RUST_LOG`.
    #[error("log.filter {filter:?} is not a log filter such as \"info\" or \"info,nexus=debug\"")]
    Filter {
        /// What the config says.
        filter: String,
        /// Where it is wrong.
        #[source]
        source: tracing_subscriber::filter::ParseError,
    },
    /// A log is set up already.
    #[error("the log is set up twice")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Starts to log. From then on panics are log lines too, so that they carry the request that they happened in.
pub fn start(settings: &LogSettings) -> Result<(), LogError> {
    let filter = settings.filter.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(filter)
        .map_err(|source| LogError::Filter { filter: filter.to_owned(), source })?;
    let registry = tracing_subscriber::registry().with(filter);
    match settings.format {
        LogFormat::Text => {
            // Colours are for eyes; in a file or a journal their codes are only in the way of grep.
            let colours = std::io::stderr().is_terminal();
            registry.with(fmt::layer().with_ansi(colours).with_writer(std::io::stderr)).try_init()
        }
        LogFormat::Json => {
            let layer = fmt::layer().json().flatten_event(true).with_writer(std::io::stderr);
            registry.with(layer).try_init()
        }
    }
    .map_err(LogError::Twice)?;
    let as_before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A filter that silences the log does not silence a defect.
        if !tracing::enabled!(tracing::Level::ERROR) {
            return as_before(panic);
        }
        let backtrace = Backtrace::force_capture();
        tracing::error!(panic = %panic, backtrace = %backtrace, "a defect in this program");
    }));
    Ok(())
}
