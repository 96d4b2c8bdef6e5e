//! Why one dataset did not do its part while others may have: the per-dataset half of a report or an error.

use durable_fs::StorageError;
use ids::Generation;
use std::{error::Error, fmt, time::Duration};
use thiserror::Error;

/// Why one dataset did not get its copy, or could not be used.
#[derive(Debug, Error)]
#[error("{dataset}: {}", chain(cause))]
pub struct DatasetFailure {
    /// The dataset's name.
    pub dataset: String,
    /// What kept it from it. Its text is part of this failure's own.
    pub cause: FailureCause,
}

/// What kept a dataset from doing its part.
#[derive(Debug, Error)]
pub enum FailureCause {
    /// It was not in use: missing, failed, or slow since before.
    #[error("not in use: {reason}")]
    NotInUse {
        /// What was found wrong with it.
        reason: String,
    },
    /// It has no room.
    #[error("no room: {available} bytes are left for artifacts")]
    NoSpace {
        /// Bytes that it can still take.
        available: u64,
    },
    /// It kept the others waiting for too long.
    #[error("left out: it kept the write waiting for longer than {limit:?}")]
    TooSlow {
        /// How long it may.
        limit: Duration,
    },
    /// The config stopped wanting the artifact meanwhile.
    #[error("the config of generation {generation} does not want it any more")]
    NotWanted {
        /// The generation that was in force.
        generation: Generation,
    },
    /// An operation failed.
    #[error("an operation failed")]
    Storage(#[source] StorageError),
    /// The write ended before its last byte, or the store is shutting down.
    #[error("the write was given up")]
    GivenUp,
}

/// An error and its sources in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    struct Chain<'a>(&'a (dyn Error + 'static));
    impl fmt::Display for Chain<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            fmt::Display::fmt(self.0, f)?;
            self.0.source().map_or(Ok(()), |source| write!(f, ": {}", Chain(source)))
        }
    }
    Chain(error).to_string()
}
