//! Everything that can keep a command from succeeding, and the exit code it gets.
//!
//! How a failure reads is decided in [`crate::render::failure`].

use crate::{
    connection::ConnectionError, context_file::ContextFileError, fetch::FetchError, render::words,
    resolve::NameError, upload_source::UploadSourceError,
};
use camino::Utf8PathBuf;
use ids::SagaId;
use nexus_client::ClientError;
use std::io;
use thiserror::Error;

/// It did what was asked.
pub const EXIT_OK: u8 = 0;
/// It did not.
pub const EXIT_ERROR: u8 = 1;
/// What was asked cannot be understood, or lacks something.
pub const EXIT_USAGE: u8 = 2;
/// The cluster answers, and says that something is not as it should be (`status` only).
pub const EXIT_DEGRADED: u8 = 6;
/// Interrupted with Ctrl-C: 128 + SIGINT, as shells have it.
pub const EXIT_INTERRUPTED: u8 = 130;

/// How a command that did not fail ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It did what was asked.
    Done,
    /// It did, and what it shows is not as it should be.
    Degraded,
}

impl Outcome {
    /// The exit code.
    #[must_use]
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Done => EXIT_OK,
            Outcome::Degraded => EXIT_DEGRADED,
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, Error)]
pub enum Failure {
    /// It is not known whom to call, or how to be let in.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The coordinator could not be reached, or refused.
    #[error(transparent)]
    Api(#[from] ClientError),
    /// A name stands for nothing, or for too much.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The context file cannot be used.
    #[error(transparent)]
    ContextFile(#[from] ContextFileError),
    /// The file that should be uploaded cannot be.
    #[error(transparent)]
    UploadSource(#[from] UploadSourceError),
    /// An artifact could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A file on the command line cannot be read.
    #[error("{path} could not be read")]
    ReadFile {
        /// Which file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something that cannot be undone was asked for without saying so.
    #[error("{what} cannot be undone, and nobody is at the terminal to confirm it")]
    Unconfirmed {
        /// What would happen.
        what: String,
        /// What to add to the command line.
        flag: String,
    },
    /// The command line lacks something that only the moment shows to be needed.
    #[error("{what}: {option} is needed")]
    MissingOption {
        /// Why.
        what: String,
        /// What is missing.
        option: &'static str,
    },
    /// What was typed is not what was asked for.
    #[error("not confirmed: {expected:?} was expected; nothing was changed")]
    Declined {
        /// What would have confirmed it.
        expected: String,
    },
    /// The question could not be asked.
    #[error("the question could not be asked")]
    Ask(#[source] io::Error),
    /// Standard input could not be read.
    #[error("standard input could not be read")]
    Stdin(#[source] io::Error),
    /// Standard output could not be written. A reader that has gone away is not a failure.
    #[error("standard output could not be written")]
    Stdout(#[source] io::Error),
    /// The API object could not be printed as JSON.
    #[error("the answer could not be printed as JSON")]
    Json(#[source] serde_json::Error),
    /// Ctrl-C.
    #[error("interrupted while {doing}: {goes_on}")]
    Interrupted {
        /// What was going on.
        doing: &'static str,
        /// What goes on without us, and what does not.
        goes_on: String,
    },
    /// The sled went away while it was waited for.
    #[error("the scrub of {sled} was not seen through: the sled went away or started anew; ask for it again")]
    ScrubLost {
        /// The sled's name.
        sled: String,
    },
    /// The coordinator took no bytes for too long.
    #[error("the coordinator has taken no bytes for {seconds} s, after {sent} of {size}; nothing was stored")]
    UploadStalled {
        /// Seconds without a byte taken.
        seconds: u64,
        /// Bytes that it took.
        sent: u64,
        /// Bytes in all.
        size: u64,
    },
    /// The connection broke while the upload ran.
    #[error("the connection to the coordinator broke after {} of {} were sent: {cause}", words::size(*sent), words::size(*size))]
    UploadBroken {
        /// Bytes handed to the network.
        sent: u64,
        /// Bytes in all.
        size: u64,
        /// Why, in the words of whatever failed first.
        cause: String,
        /// The call.
        #[source]
        source: ClientError,
    },
    /// The coordinator got all bytes and then fell silent.
    #[error("the coordinator has all {size} bytes, but has not answered anything for {seconds} s")]
    AnswerLost {
        /// Bytes that it got.
        size: u64,
        /// Seconds without any answer.
        seconds: u64,
    },
    /// The coordinator received other bytes than were read.
    #[error("the coordinator received bytes with SHA-256 {received}, but the file has {sent}")]
    UploadAltered {
        /// What was read.
        sent: String,
        /// What arrived.
        received: String,
    },
    /// A saga that was watched has not succeeded.
    #[error("saga {id} {ended}")]
    SagaEnded {
        /// Which.
        id: SagaId,
        /// How it ended, in words.
        ended: String,
    },
    /// The coordinator went away while it was asked again and again.
    #[error("the coordinator has not answered for {seconds} s; what it does goes on once it is back")]
    CoordinatorAway {
        /// Seconds without an answer.
        seconds: u64,
        /// Its last failure.
        #[source]
        source: ClientError,
    },
    /// Some of many calls did not succeed.
    #[error("{failed} of {calls} calls did not succeed; the first error:")]
    SomeCalls {
        /// So many.
        failed: u64,
        /// Of so many.
        calls: u64,
        /// What the first of them says.
        #[source]
        first: Box<Failure>,
    },
    /// A background task's pass failed.
    #[error("pass {iteration} of task {task:?} failed: {error}")]
    TaskPass {
        /// The task.
        task: String,
        /// The pass.
        iteration: u64,
        /// Why.
        error: String,
    },
}

impl Failure {
    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Failure::Unconfirmed { .. } | Failure::MissingOption { .. } => EXIT_USAGE,
            Failure::Interrupted { .. } => EXIT_INTERRUPTED,
            _ => EXIT_ERROR,
        }
    }

    /// What to do about it, where the coordinator has not said so itself.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Failure::Connection(ConnectionError::ContextFile(error)) | Failure::ContextFile(error) => {
                error.hint()
            }
            Failure::Name(error) => Some(error.hint()),
            Failure::Fetch(error) => error.hint(),
            Failure::Unconfirmed { flag, .. } => Some(format!("add {flag}")),
            Failure::UploadStalled { .. } => {
                Some("look at the coordinator and the network, then upload it again".to_owned())
            }
            Failure::UploadBroken { sent, size, .. } if sent < size => Some(
                "nothing was stored; look at sledctl status and the coordinator's log, then upload it again"
                    .to_owned(),
            ),
            Failure::AnswerLost { .. } | Failure::UploadBroken { .. } => Some(
                "it may have been stored: sledctl repo list; uploading the same file again does no harm"
                    .to_owned(),
            ),
            Failure::UploadAltered { .. } => Some(
                "the file changed while it was read, or the network damaged it: upload it again".to_owned(),
            ),
            Failure::SagaEnded { id, .. } => Some(format!("sledctl op show {id} --events")),
            Failure::CoordinatorAway { .. } => Some("sledctl status; then watch it again".to_owned()),
            Failure::TaskPass { task, .. } => Some(format!("sledctl task show {task}")),
            _ => None,
        }
    }
}
