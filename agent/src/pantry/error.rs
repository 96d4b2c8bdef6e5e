//! Why a call about a volume in the Pantry does not do what it asks, before the Pantry is asked. What that says is told as it is.

use daemon::state_file::StateFileError;
use ids::VolumeId;
use problem::{Code, Problem};
use sled_client::ClientError;
use std::net::IpAddr;
use thiserror::Error;
use volume_pantry::StaleEpoch;

/// A call that was refused, or that could not be finished.
#[derive(Debug, Error)]
pub enum PantryCallError {
    /// A right that nobody has.
    #[error("executor_epoch is {0}; it may be 1 to 2^53-1")]
    ExecutorEpoch(u64),
    /// A newer coordinator has acted.
    #[error(transparent)]
    StaleEpoch(#[from] StaleEpoch),
    /// It is not attached.
    #[error("volume {0} is not attached here")]
    NotFound(VolumeId),
    /// It was, and its process has ended.
    #[error("the Pantry that had volume {0} has ended, and its jobs with it")]
    Ended(VolumeId),
    /// As many as there may be, those that have ended among them.
    #[error("{0} volumes are attached, or were when their Pantry ended, which is as many as may be")]
    Full(usize),
    /// Another call is at it.
    #[error("another call is at work on volume {0}")]
    Busy(VolumeId),
    /// What is said does not go together.
    #[error("address and port are of exports over TCP: listen is unix")]
    NotOverTcp,
    /// Somebody else's address.
    #[error("{given} is not the sled's address, which is {own}")]
    ExportAddress {
        /// That was asked for.
        given: IpAddr,
        /// Of the sled.
        own: IpAddr,
    },
    /// A port that is kept.
    #[error("port {0} is kept for the sled's own processes")]
    ExportPortKept(u16),
    /// The config does not allow it.
    #[error("{0}")]
    ExportTcp(&'static str),
    /// No Content-Length.
    #[error("the length of the body is not known: nothing was read")]
    LengthMissing,
    /// What is remembered cannot be written.
    #[error("the record of volume {id} cannot be written")]
    Record {
        /// Which.
        id: VolumeId,
        /// Why.
        #[source]
        source: StateFileError,
    },
    /// The process does not come up.
    #[error("the Pantry does not run: {0}")]
    Down(String),
    /// The Pantry has refused, or has not answered.
    #[error("the Pantry was asked, and has not done it")]
    Asked(#[from] ClientError),
    /// A bug.
    #[error("the work on volume {0} has ended without an answer")]
    Died(VolumeId),
}

impl PantryCallError {
    /// Its name for programs.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            PantryCallError::ExecutorEpoch(_) => Code::BadRequest,
            PantryCallError::StaleEpoch(_) => Code::StaleEpoch,
            PantryCallError::NotFound(_) => Code::PantryVolumeNotFound,
            PantryCallError::Ended(_) => Code::PantryVolumeEnded,
            PantryCallError::Full(_) => Code::PantryVolumesFull,
            PantryCallError::Busy(_) => Code::PantryVolumeBusy,
            PantryCallError::NotOverTcp => Code::BadRequest,
            PantryCallError::ExportAddress { .. } => Code::ExportAddress,
            PantryCallError::ExportPortKept(_) => Code::ExportPortTaken,
            PantryCallError::ExportTcp(_) => Code::ExportTcpNotAllowed,
            PantryCallError::LengthMissing => Code::ImportLengthMissing,
            PantryCallError::Record { .. } => Code::Unavailable,
            PantryCallError::Down(_) | PantryCallError::Asked(_) => Code::PantryDown,
            PantryCallError::Died(_) => Code::Internal,
        }
    }

    /// As it is told: what the Pantry has said, in its own words.
    #[must_use]
    pub fn problem(&self) -> Problem {
        match self {
            PantryCallError::Asked(ClientError::Problem { problem, .. }) => problem.as_ref().clone(),
            error => Problem::from_error(error.code(), error),
        }
    }
}
