//! Why a call does not do what it asks, and why a job failed. Owns what each refusal is called.

use crate::{stale_epoch::StaleEpoch, volume_io::IoError};
use http_edge::{ApiError, auth::TokenFileError};
use ids::{ArtifactHash, JobId, SnapshotId, VolumeId};
use problem::{Code, Finding, Problem};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use thiserror::Error;
use upstairs::{ActivateError, JobError, MembersError};
use volume_export::{CopyCompared, ExportError, NoAnswer, NoticesError};
use volume_layers::ScrubError;
use volume_repair::{BuildError, ChangeError};

/// Seconds after which a volume that gathers its members may be active.
const ACTIVE_RETRY_SECONDS: u32 = 2;

/// A call that was refused, or a job that failed.
#[derive(Debug, Error)]
pub enum PantryError {
    /// The path and the body are of two volumes.
    #[error("the request is of volume {theirs}, and the call of volume {id}")]
    OtherVolume {
        /// In the path.
        id: VolumeId,
        /// In the request.
        theirs: VolumeId,
    },
    /// There can be no such volume.
    #[error("there can be no such volume as {id} is to be [{}]", .source.code())]
    Build {
        /// Which.
        id: VolumeId,
        /// Why.
        #[source]
        source: Box<BuildError>,
    },
    /// A part of it is not to be had, or the system refuses.
    #[error("the volume cannot be held [{}]", .0.code())]
    Export(#[from] ExportError),
    /// What is to be told of its repairs cannot be kept, or nobody can be told it.
    #[error("nobody would be told of repairs of the volume [{}]", .0.code())]
    Notices(#[from] NoticesError),
    /// Whoever is told of its repairs would not know the sled.
    #[error("nobody would be told of repairs of the volume [notify_token_file]")]
    Token(#[from] TokenFileError),
    /// No thread, no socket.
    #[error("the system refuses a volume its thread or its socket")]
    System(#[source] std::io::Error),
    /// It is not there.
    #[error("volume {0} is not attached here")]
    NotFound(VolumeId),
    /// Its thread has ended.
    #[error("the holder of volume {0} has ended")]
    Ended(VolumeId),
    /// A newer coordinator has acted.
    #[error(transparent)]
    StaleEpoch(#[from] StaleEpoch),
    /// Another call is at it.
    #[error("another call is at work on volume {0}")]
    Busy(VolumeId),
    /// It takes longer than a call may.
    #[error("the work on volume {0} takes longer than a call may, and goes on: ask again")]
    GoesOn(VolumeId),
    /// As many as there may be.
    #[error("{count} volumes are attached, which is as many as may be{}", reminder(*.idlest))]
    Full {
        /// How many.
        count: usize,
        /// The one that nobody has used for the longest time.
        idlest: Option<(VolumeId, Duration)>,
    },
    /// Its members, or its request, stay as they are.
    #[error("the construction request is not applied to volume {id} [{}]", .source.code())]
    Change {
        /// Which.
        id: VolumeId,
        /// Why.
        #[source]
        source: Box<ChangeError>,
    },
    /// Its right to write is nobody's to change while it runs.
    #[error(
        "volume {id} was activated with epoch {ours}, and the request has epoch {theirs}: detach it before it is attached with another one"
    )]
    OtherEpoch {
        /// Which.
        id: VolumeId,
        /// Of the request.
        theirs: u32,
        /// That it has.
        ours: u32,
    },
    /// It cannot be activated in this way.
    #[error("volume {id} is not activated")]
    Activate {
        /// Which.
        id: VolumeId,
        /// Why.
        #[source]
        source: ActivateError,
    },
    /// Somebody else has it.
    #[error(
        "somebody else holds volume {id}: it was activated with epoch {theirs}, and here it has epoch {ours}"
    )]
    Fenced {
        /// Which.
        id: VolumeId,
        /// Of whoever holds it.
        theirs: u32,
        /// Of this Pantry.
        ours: u32,
    },
    /// Acknowledged writes are lost.
    #[error("the members of volume {0} have lost writes that were acknowledged")]
    Lost(VolumeId),
    /// Nobody has activated it.
    #[error("volume {0} was not activated: nothing of it can be read or written")]
    NotActivated(VolumeId),
    /// It gathers its members.
    #[error("volume {id} is not active yet: {waits}")]
    NotActive {
        /// Which.
        id: VolumeId,
        /// For what it waits.
        waits: String,
    },
    /// Nothing can be written.
    #[error("volume {0} is read-only: one of its parts is only read")]
    ReadOnly(VolumeId),
    /// It is written by somebody else.
    #[error("volume {id} {by}")]
    Written {
        /// Which.
        id: VolumeId,
        /// By whom.
        by: &'static str,
    },
    /// It is exported by the same way elsewhere.
    #[error("volume {id} is exported in this way already, at {uri}")]
    ExportConflict {
        /// Which.
        id: VolumeId,
        /// Where.
        uri: String,
    },
    /// Clients use the export.
    #[error("{clients} clients use this export of volume {id}: it is not taken back")]
    ExportInUse {
        /// Of which volume.
        id: VolumeId,
        /// How many.
        clients: u64,
    },
    /// Somebody listens there.
    #[error("somebody listens at {0} already")]
    ExportPortTaken(SocketAddr),
    /// Nobody can listen there.
    #[error("{0} is no address of this machine")]
    ExportAddress(IpAddr),
    /// The agent says where.
    #[error("an export over TCP needs the sled's address")]
    ExportAddressMissing,
    /// Its loop does not answer.
    #[error("volume {id} does not answer")]
    NoAnswer {
        /// Which.
        id: VolumeId,
        /// Why.
        #[source]
        source: NoAnswer,
    },
    /// No Content-Length.
    #[error("the length of the body is not known: nothing was read")]
    LengthMissing,
    /// More than there are to be.
    #[error("the import has {given} bytes, and {what} {wanted}: nothing was written")]
    TooLong {
        /// What there is.
        given: u64,
        /// Of what it is too much.
        what: &'static str,
        /// How many there are to be.
        wanted: u64,
    },
    /// Fewer than there are to be.
    #[error("the import has {given} bytes, and {what} {wanted}: nothing was written")]
    TooShort {
        /// What there is.
        given: u64,
        /// Of what it is too little.
        what: &'static str,
        /// How many there are to be.
        wanted: u64,
    },
    /// No whole number of blocks.
    #[error("{given} bytes are not a whole number of blocks of {block} bytes, or none: nothing was written")]
    Size {
        /// What there is.
        given: u64,
        /// Bytes of a block.
        block: u32,
    },
    /// It ended in the middle.
    #[error(
        "the import has stopped: {written} of {wanted} bytes are in, and what lies behind them is as it was ({why})"
    )]
    Stopped {
        /// Bytes that are in the volume.
        written: u64,
        /// That there were to be.
        wanted: u64,
        /// Why.
        why: String,
    },
    /// The bytes are other ones.
    #[error("the bytes that were written have SHA-256 {got}, and {wanted} was said")]
    Digest {
        /// What they have.
        got: ArtifactHash,
        /// What they were to have.
        wanted: ArtifactHash,
    },
    /// The web server is of no use.
    #[error("what is to be imported cannot be had from {url}: {why}")]
    Source {
        /// Where, without what may be secret.
        url: String,
        /// Why.
        why: String,
    },
    /// The volume refuses, or its socket has ended.
    #[error("the volume has failed")]
    Io(#[from] IoError),
    /// Nobody remembers it.
    #[error("volume {id} has no job {job}; ended jobs are forgotten after a while")]
    NoJob {
        /// Which volume.
        id: VolumeId,
        /// Which job.
        job: JobId,
    },
    /// The id means something else.
    #[error("job {0} is another one: an id stands for one job, with the same source, size and hash")]
    JobConflict(JobId),
    /// A body for a job that has one.
    #[error("job {0} runs, and has its bytes from another call")]
    JobRunning(JobId),
    /// Too many.
    #[error("volume {id} has {running} jobs that run, which is as many as it may have")]
    JobsFull {
        /// Which.
        id: VolumeId,
        /// How many.
        running: usize,
    },
    /// Somebody ended it.
    #[error("the job was cancelled")]
    Cancelled,
    /// It is not taken.
    #[error("snapshot {snapshot} of volume {id} is not taken")]
    Snapshot {
        /// Of which volume.
        id: VolumeId,
        /// Which.
        snapshot: SnapshotId,
        /// Why.
        #[source]
        source: JobError,
    },
    /// The volume could not be asked.
    #[error("the copies of volume {id} are not compared")]
    NotCompared {
        /// Which.
        id: VolumeId,
        /// Why.
        #[source]
        source: JobError,
    },
    /// A scrub has found what it could not mend.
    #[error(
        "volume {id} has copies that are wrong, and could not be mended: of region {}, {} blocks are not what they should be, {} differ from \
         other copies, and block {} of the volume is the first one; the job says it of all regions: replace the members that have it wrong",
        .copy.region, .copy.wrong - .copy.healed, .copy.differing, .copy.first_left.unwrap_or_default()
    )]
    CopiesDamaged {
        /// Which.
        id: VolumeId,
        /// The first copy of which that is so.
        copy: CopyCompared,
    },
    /// Nothing is to be copied.
    #[error("nothing is copied into volume {id}")]
    NoParent {
        /// Which.
        id: VolumeId,
        /// Why.
        #[source]
        source: ScrubError,
    },
    /// Somebody has told the volume to stop.
    #[error("volume {0} has stopped to copy what lies under it: begin again, and it goes on from there")]
    CopyStopped(VolumeId),
    /// A bug.
    #[error("the work on volume {0} has ended without an answer")]
    Died(VolumeId),
}

impl PantryError {
    /// Its name for programs.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            PantryError::OtherVolume { .. } => Code::BadRequest,
            PantryError::Build { source, .. } => match **source {
                BuildError::KeyMissing => Code::VolumeKeyMissing,
                BuildError::KeyWrong { .. } => Code::VolumeKeyWrong,
                BuildError::KeyNotWanted => Code::VolumeKeyNotWanted,
                _ => Code::BadVolume,
            },
            PantryError::Export(error) => match error {
                ExportError::Source(_) => Code::BadVolume,
                ExportError::Listen { .. }
                | ExportError::System(_)
                | ExportError::Doors(_)
                | ExportError::Export(_) => Code::Unavailable,
            },
            PantryError::Notices(_) | PantryError::Token(_) => Code::Unavailable,
            PantryError::System(_) | PantryError::NoAnswer { .. } => Code::Unavailable,
            PantryError::NotFound(_) => Code::PantryVolumeNotFound,
            PantryError::Ended(_) => Code::PantryVolumeEnded,
            PantryError::StaleEpoch(_) => Code::StaleEpoch,
            PantryError::Busy(_) | PantryError::GoesOn(_) => Code::PantryVolumeBusy,
            PantryError::Full { .. } => Code::PantryVolumesFull,
            PantryError::Change { source, .. } => match &**source {
                ChangeError::Unfit { .. } => Code::VolumeMemberUnfit,
                ChangeError::Members { source: MembersError::Ended { source: by }, .. } => match by {
                    JobError::Lost { .. } => Code::PantryLost,
                    _ => Code::PantryFenced,
                },
                ChangeError::Members { .. } | ChangeError::ParentNeeded(_) => Code::PantryChangeRefused,
                ChangeError::RegionTwice(_) | ChangeError::SnapshotMembers { .. } => Code::BadVolume,
                ChangeError::OtherVolume { .. }
                | ChangeError::Older { .. }
                | ChangeError::VersionTaken(_)
                | ChangeError::Differs { .. } => Code::PantryConflict,
            },
            PantryError::Activate { .. } | PantryError::OtherEpoch { .. } => Code::PantryConflict,
            PantryError::Fenced { .. } => Code::PantryFenced,
            PantryError::Lost(_) => Code::PantryLost,
            PantryError::NotActivated(_) => Code::PantryNotActivated,
            PantryError::NotActive { .. } => Code::PantryNotActive,
            PantryError::ReadOnly(_) => Code::PantryReadOnly,
            PantryError::Written { .. } => Code::PantryWritten,
            PantryError::ExportConflict { .. } => Code::PantryExportConflict,
            PantryError::ExportInUse { .. } => Code::PantryExportInUse,
            PantryError::ExportPortTaken(_) => Code::ExportPortTaken,
            PantryError::ExportAddress(_) | PantryError::ExportAddressMissing => Code::ExportAddress,
            PantryError::LengthMissing => Code::ImportLengthMissing,
            PantryError::TooLong { .. } => Code::ImportTooLong,
            PantryError::TooShort { .. } => Code::ImportTooShort,
            PantryError::Size { .. } => Code::ImportSize,
            PantryError::Stopped { .. } => Code::ImportStopped,
            PantryError::Digest { .. } => Code::DigestMismatch,
            PantryError::Source { .. } => Code::ImportSourceFailed,
            PantryError::Io(_) | PantryError::NotCompared { .. } => Code::VolumeFailed,
            PantryError::CopiesDamaged { .. } => Code::CopiesDamaged,
            PantryError::NoJob { .. } => Code::PantryJobNotFound,
            PantryError::JobConflict(_) => Code::PantryJobConflict,
            PantryError::JobRunning(_) => Code::PantryJobRunning,
            PantryError::JobsFull { .. } => Code::TooManyRequests,
            PantryError::Cancelled => Code::Cancelled,
            PantryError::Snapshot { source, .. } => match source {
                JobError::SnapshotFaulted { .. } => Code::SnapshotFaulted,
                JobError::Fenced { .. } => Code::PantryFenced,
                JobError::Lost { .. } => Code::PantryLost,
                _ => Code::SnapshotNotDone,
            },
            PantryError::NoParent { source: ScrubError::NoParent, .. } => Code::VolumeNoParent,
            PantryError::NoParent { source: ScrubError::ReadOnly, .. } => Code::PantryReadOnly,
            PantryError::CopyStopped(_) => Code::VolumeFailed,
            PantryError::Died(_) => Code::Internal,
        }
    }

    /// The refusal's own name, where one code is that of several.
    fn reason(&self) -> Option<&'static str> {
        match self {
            PantryError::Build { source, .. } => Some(source.code()),
            PantryError::Export(error) => Some(error.code()),
            PantryError::Change { source, .. } => Some(source.code()),
            PantryError::Notices(error) => Some(error.code()),
            PantryError::Token(_) => Some("notify_token_file"),
            PantryError::OtherEpoch { .. } => Some("request_other_epoch"),
            PantryError::Activate { source, .. } => Some(match source {
                ActivateError::NoEpoch => "request_no_epoch",
                ActivateError::Lower { .. } => "request_epoch_lower",
                ActivateError::Other { .. } => "request_other_epoch",
                ActivateError::Ended { .. } => "volume_ended",
            }),
            _ => None,
        }
    }

    /// As it is told.
    #[must_use]
    pub fn problem(&self) -> Problem {
        let mut problem = Problem::from_error(self.code(), self);
        let finding = |reason: &str| {
            let (code, detail) = (reason.to_owned(), problem.detail.clone());
            Finding { code, detail, subject: None }
        };
        problem.problems = self.reason().map(finding).into_iter().collect();
        match self {
            PantryError::NotActive { .. } | PantryError::JobsFull { .. } => {
                problem.with_retry_after(ACTIVE_RETRY_SECONDS)
            }
            _ => problem,
        }
    }
}

fn reminder(idlest: Option<(VolumeId, Duration)>) -> String {
    let told = idlest.map(|(id, idle)| {
        format!("; nobody has used volume {id} for {} s, and no other one for so long", idle.as_secs())
    });
    told.unwrap_or_default()
}

impl From<PantryError> for ApiError {
    fn from(error: PantryError) -> ApiError {
        error.problem().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_that_is_refused_is_told_with_the_volume_that_it_is_of() {
        let id = VolumeId::generate();
        let refusals = [
            PantryError::Build { id, source: Box::new(BuildError::KeyMissing) },
            PantryError::Change { id, source: Box::new(ChangeError::VersionTaken(3)) },
            PantryError::Activate { id, source: ActivateError::NoEpoch },
        ];
        for refusal in refusals {
            let problem = refusal.problem();
            assert!(problem.detail.contains(&id.to_string()), "{}", problem.detail);
            assert!(problem.hint.is_some(), "{}", problem.code);
        }
    }
}
