//! How a call can fail, and what kind of failure that is.

use problem::{Code, Problem};
use std::time::Duration;
use thiserror::Error;

/// A call that did not succeed.
#[derive(Debug, Error)]
pub enum ClientError {
    /// The base URL can not be used.
    #[error("{url:?} is not a base URL: {reason}")]
    BadUrl {
        /// What was given.
        url: String,
        /// Why it is refused.
        reason: String,
    },
    /// The HTTP client could not be built.
    #[error("the HTTP client could not be set up")]
    Setup(#[source] reqwest::Error),
    /// No answer: refused, timed out, cut off.
    #[error("no answer from {url}")]
    Transport {
        /// What was called.
        url: String,
        /// Why.
        #[source]
        source: reqwest::Error,
    },
    /// No answer within the time that the caller gave.
    #[error("no answer from {url} within {limit:?}")]
    Silent {
        /// What was called.
        url: String,
        /// The time given.
        limit: Duration,
    },
    /// The server answered with an error.
    #[error("{url} answered: {problem}")]
    Problem {
        /// What was called.
        url: String,
        /// What it said; made up from the status line if it sent no problem+json.
        problem: Box<Problem>,
    },
    /// The server answered with a success whose body is not what the API promises.
    #[error("{url} answered {status} with a body that is not understood")]
    Decode {
        /// What was called.
        url: String,
        /// The HTTP status.
        status: u16,
        /// Where decoding stopped.
        #[source]
        source: serde_json::Error,
    },
    /// The server answered with a success whose body is longer than any answer of the API.
    #[error("{url} answered with more than {limit_bytes} bytes, which no answer of this API has")]
    TooLarge {
        /// What was called.
        url: String,
        /// How much would have been read.
        limit_bytes: usize,
    },
}

/// What a failed call means to its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// The peer could not be reached or is overloaded: try again later, think nothing of it.
    Unreachable,
    /// The peer understood and refused: the same call will be refused again.
    Refused,
    /// The peer does not keep to the API.
    Broken,
}

impl ClientError {
    /// Sorts the error; the one place where that is decided.
    #[must_use]
    pub fn class(&self) -> ErrorClass {
        match self {
            ClientError::Transport { .. } | ClientError::Silent { .. } => ErrorClass::Unreachable,
            ClientError::Problem { problem, .. } => match problem.status {
                408 | 429 | 502 | 503 | 504 => ErrorClass::Unreachable,
                500..600 => ErrorClass::Broken,
                _ => ErrorClass::Refused,
            },
            ClientError::BadUrl { .. }
            | ClientError::Setup(_)
            | ClientError::Decode { .. }
            | ClientError::TooLarge { .. } => ErrorClass::Broken,
        }
    }

    /// The problem that the server sent, if it sent one.
    #[must_use]
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            ClientError::Problem { problem, .. } => Some(problem),
            _ => None,
        }
    }

    /// Whether the server refused with this code.
    #[must_use]
    pub fn is(&self, code: Code) -> bool {
        self.problem().is_some_and(|problem| problem.is(code))
    }
}
