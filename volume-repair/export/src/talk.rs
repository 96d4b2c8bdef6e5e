//! What is said on a control socket, and how it is asked: one JSON value in a line, each way.
//!
//! ```text
//!   {"request":"status"}                 {"status":{…}}
//!   {"request":"activate","epoch":3}     "done"    or    {"refused":{"code":"other_epoch","words":"…"}}
//!   {"request":"apply","volume":{…}}     {"applied":"started"}
//!   {"request":"check","volume":{…}}     the same: what would become of it
//!   {"request":"snapshot","id":"…"}   {"snapshotted":["…",…]}: the regions that have it
//!   {"request":"delete_snapshot","id":"…"}   "done"
//!   {"request":"compare","first":0,"count":1024}   {"compared":[{…},…]}: what each copy of these blocks is like
//!   {"request":"scrub","order":"start"}  "done"; how far it is, is in the status
//!   {"request":"set_repair_rate","bytes_per_second":104857600}   "done"; null, or nothing, is: as fast as it goes
//!   {"request":"stop"}                   "done"
//! ```

use crate::{handle::NoAnswer, scrubs::ScrubOrder, status::ExportStatus};
use camino::{Utf8Path, Utf8PathBuf};
use ids::{RegionId, SnapshotId};
use serde::{Deserialize, Serialize};
use std::{
    fmt, io,
    io::{BufRead, BufReader, Read, Write},
    num::NonZeroU64,
    os::unix::net::UnixStream,
    time::Duration,
};
use upstairs::{ActivateError, CopyCompared, JobError, MembersError};
use volume_layers::ScrubError;
use volume_repair::{Applied, ChangeError, ConstructionRequest};

/// Who asks waits so long for an answer: longer than the export lets anybody wait.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// The same for a snapshot, and for copies that are compared.
const SNAPSHOT_MAX: Duration = Duration::from_secs(30);

/// Bytes of a volume that are compared by one request at most.
pub const COMPARED_MAX: u64 = 16 << 20;

/// Bytes of an answer at most.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// What do you believe?
    Status,
    /// Be the writer.
    Activate {
        /// With this right.
        epoch: u32,
    },
    /// Go on by this construction request, which has other members.
    Apply {
        /// Newer than the one that the volume runs by, or the same.
        volume: Box<ConstructionRequest>,
    },
    /// Would you?
    Check {
        /// As with [`Request::Apply`].
        volume: Box<ConstructionRequest>,
    },
    /// Keep what was written until now, as a snapshot.
    Snapshot {
        /// Its name.
        id: SnapshotId,
    },
    /// A snapshot is not needed any more.
    DeleteSnapshot {
        /// Its name.
        id: SnapshotId,
    },
    /// Read every copy of these blocks, of the volume's own region sets, compare them, and mend what is wrong.
    Compare {
        /// The first.
        first: u64,
        /// How many: [`COMPARED_MAX`] bytes at most.
        count: u64,
    },
    /// Copy what lies under the volume into it, or stop that.
    Scrub {
        /// Which of the two.
        order: ScrubOrder,
    },
    /// From now on, fill members so fast at most.
    SetRepairRate {
        /// Of each region set; without it, as fast as it goes.
        #[serde(default)]
        bytes_per_second: Option<NonZeroU64>,
    },
    /// Answer what is under way, and end.
    Stop,
}

/// What is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To status.
    Status(Box<ExportStatus>),
    /// What has become of a construction request, or would.
    Applied(Applied),
    /// The regions that have the snapshot.
    Snapshotted(Vec<RegionId>),
    /// What the copies are like.
    Compared(Vec<CopyCompared>),
    /// It is done, or is being done.
    Done,
    /// It is not.
    Refused(Refusal),
}

/// Why something is not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{words}")]
pub struct Refusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people.
    pub words: String,
}

/// Why something is not done. The names are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalCode {
    /// The line is no request.
    NotARequest,
    /// The line is longer than any request.
    LineTooLong,
    /// Too many ask at once.
    Busy,
    /// The export has not answered in time.
    NoAnswer,
    /// Epoch 0 is nobody's.
    NoEpoch,
    /// The volume has had a higher epoch.
    EpochTooLow,
    /// It was activated with another epoch.
    OtherEpoch,
    /// Somebody else has taken over.
    Fenced,
    /// Acknowledged writes are lost.
    Lost,
    /// The request is of another volume.
    RequestOtherVolume,
    /// The volume runs by a newer request.
    RequestOlder,
    /// The volume runs by another request of that version.
    RequestVersionTaken,
    /// The request changes more than members.
    RequestDiffers,
    /// The request has no parent any more, and it is needed.
    RequestParentNeeded,
    /// Nothing lies under the volume.
    VolumeNoParent,
    /// A region is there twice.
    VolumeRegionTwice,
    /// There can be no such members.
    VolumeMembers,
    /// A snapshot is not read from so many members, or from such ones.
    VolumeSnapshotMembers,
    /// The volume does nothing more.
    VolumeEnded,
    /// It is not known yet which members are full.
    VolumeNotActive,
    /// No full member would stay.
    VolumeNobodyStays,
    /// A member is to be none any more, and nobody says that it is lost.
    VolumeMemberNotGone,
    /// A member that is to be gone is here.
    VolumeMemberIsHere,
    /// A new member says that it is another one: of another set, size, or incarnation, or nobody may write it.
    VolumeMemberUnfit,
    /// A snapshot is not taken, or is there still.
    SnapshotNotDone,
    /// A snapshot is not taken, and nobody was asked for it: two full members are not there.
    SnapshotFaulted,
    /// The volume is read-only.
    VolumeReadOnly,
    /// Blocks are not compared: there are no such ones, too many at once, or nobody to be asked.
    NotCompared,
}

impl fmt::Display for RefusalCode {
    /// As it is called in JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

impl Refusal {
    pub(crate) fn new(code: RefusalCode, words: impl Into<String>) -> Refusal {
        Refusal { code, words: words.into() }
    }
}

impl From<NoAnswer> for Refusal {
    fn from(no_answer: NoAnswer) -> Refusal {
        let code = match no_answer {
            NoAnswer::Busy | NoAnswer::Full => RefusalCode::Busy,
            NoAnswer::Late(_) | NoAnswer::Gone => RefusalCode::NoAnswer,
        };
        Refusal::new(code, no_answer.to_string())
    }
}

impl From<ChangeError> for Refusal {
    fn from(error: ChangeError) -> Refusal {
        let code = match &error {
            ChangeError::OtherVolume { .. } => RefusalCode::RequestOtherVolume,
            ChangeError::Older { .. } => RefusalCode::RequestOlder,
            ChangeError::VersionTaken(_) => RefusalCode::RequestVersionTaken,
            ChangeError::Differs { .. } => RefusalCode::RequestDiffers,
            ChangeError::ParentNeeded(_) => RefusalCode::RequestParentNeeded,
            ChangeError::RegionTwice(_) => RefusalCode::VolumeRegionTwice,
            ChangeError::SnapshotMembers { .. } => RefusalCode::VolumeSnapshotMembers,
            ChangeError::Unfit { .. } => RefusalCode::VolumeMemberUnfit,
            ChangeError::Members { source, .. } => match source {
                MembersError::Count(_) | MembersError::LeavingCount(_) => RefusalCode::VolumeMembers,
                MembersError::Twice(_) => RefusalCode::VolumeRegionTwice,
                MembersError::Ended { .. } => RefusalCode::VolumeEnded,
                MembersError::NotActive => RefusalCode::VolumeNotActive,
                MembersError::NobodyStays => RefusalCode::VolumeNobodyStays,
                MembersError::NotGone { .. } => RefusalCode::VolumeMemberNotGone,
                MembersError::Here { .. } => RefusalCode::VolumeMemberIsHere,
            },
        };
        Refusal::new(code, problem::chain(&error))
    }
}

impl From<ScrubError> for Refusal {
    fn from(error: ScrubError) -> Refusal {
        let code = match error {
            ScrubError::NoParent => RefusalCode::VolumeNoParent,
            ScrubError::ReadOnly => RefusalCode::VolumeReadOnly,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<JobError> for Refusal {
    fn from(error: JobError) -> Refusal {
        let code = match &error {
            JobError::Fenced { .. } => RefusalCode::Fenced,
            JobError::Lost { .. } => RefusalCode::Lost,
            JobError::ReadOnly => RefusalCode::VolumeReadOnly,
            JobError::SnapshotFaulted { .. } => RefusalCode::SnapshotFaulted,
            _ => RefusalCode::SnapshotNotDone,
        };
        Refusal::new(code, error.to_string())
    }
}

impl From<ActivateError> for Refusal {
    fn from(error: ActivateError) -> Refusal {
        let words = error.to_string();
        match error {
            ActivateError::NoEpoch => Refusal::new(RefusalCode::NoEpoch, words),
            ActivateError::Lower { .. } => Refusal::new(RefusalCode::EpochTooLow, words),
            ActivateError::Other { .. } => Refusal::new(RefusalCode::OtherEpoch, words),
            ActivateError::Ended { source } => {
                let is_lost = matches!(source, JobError::Lost { .. });
                let code = if is_lost { RefusalCode::Lost } else { RefusalCode::Fenced };
                Refusal::new(code, format!("{words}: {source}"))
            }
        }
    }
}

/// Why something was not asked, or not answered.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// Nobody is there: there is no socket, or nobody listens on it any more.
    #[error("no export answers at {path}")]
    NotThere {
        /// The socket.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Whether anybody is there is not known.
    #[error("whether an export is at {path} cannot be asked")]
    NotAsked {
        /// The socket.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has ended in between, or takes too long.
    #[error("the export at {path} has not answered")]
    NotAnswered {
        /// The socket.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Of another program, or of another version.
    #[error("what answers at {path} is no export, or one of another version")]
    Strange {
        /// The socket.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

/// Asks once.
///
/// # Errors
/// [`AskError`]. That it refuses is an answer.
pub fn ask(path: &Utf8Path, request: &Request) -> Result<Answer, AskError> {
    let not_connected = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            AskError::NotThere { path: path.to_owned(), source }
        }
        // Whoever asks has no right to, or the system no room: that says nothing of an export.
        _ => AskError::NotAsked { path: path.to_owned(), source },
    };
    let not_answered = |source| AskError::NotAnswered { path: path.to_owned(), source };
    let mut socket = UnixStream::connect(path).map_err(not_connected)?;
    let is_slow = matches!(
        request,
        Request::Snapshot { .. } | Request::DeleteSnapshot { .. } | Request::Compare { .. }
    );
    let patience = if is_slow { SNAPSHOT_MAX } else { ANSWER_MAX };
    socket.set_read_timeout(Some(patience)).map_err(not_answered)?;
    socket.set_write_timeout(Some(ANSWER_MAX)).map_err(not_answered)?;
    let mut line = serde_json::to_vec(request).expect("a request is JSON");
    line.push(b'\n');
    socket.write_all(&line).map_err(not_answered)?;
    let mut answer = Vec::new();
    let mut reader = BufReader::new(socket.take(ANSWER_BYTES_MAX));
    reader.read_until(b'\n', &mut answer).map_err(not_answered)?;
    if answer.is_empty() {
        return Err(not_answered(io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&answer).map_err(|source| AskError::Strange { path: path.to_owned(), source })
}
