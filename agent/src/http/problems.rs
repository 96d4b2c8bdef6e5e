//! How errors become answers. The one place that maps them.

use crate::{copy_jobs::JobRefused, pantry::PantryCallError, regions::RegionError};
use artifact_store::{ErrorClass, StoreError};
use http_edge::ApiError;
use problem::{Code, Problem};

/// Seconds after which a call that found a disk failing may try again: probes of failed disks run every few seconds.
const DISK_RETRY_SECONDS: u32 = 5;

/// Seconds after which a copy that found no place in the queue may try again.
const QUEUE_RETRY_SECONDS: u32 = 5;

/// Seconds after which a region that somebody has open may be free: a Downstairs closes it a minute after its last connection.
const IN_USE_RETRY_SECONDS: u32 = 20;

pub(crate) fn of_store(error: &StoreError) -> ApiError {
    let code = match error.class() {
        ErrorClass::NoConfig => Code::NoConfig,
        ErrorClass::NotInConfig => Code::NotInConfig,
        ErrorClass::ConfigGeneration => Code::ConfigGeneration,
        ErrorClass::ClusterMismatch => Code::ClusterMismatch,
        ErrorClass::DigestMismatch => Code::DigestMismatch,
        ErrorClass::LengthMismatch => Code::LengthMismatch,
        ErrorClass::ArtifactWanted => Code::ArtifactWanted,
        ErrorClass::NoSpace => Code::NoSpace,
        ErrorClass::NoHealthyDataset => Code::NoHealthyDataset,
        ErrorClass::ArtifactNotFound => Code::ArtifactNotFound,
        ErrorClass::RangeNotSatisfiable => Code::RangeNotSatisfiable,
        ErrorClass::Unavailable => Code::Unavailable,
    };
    let problem = Problem::from_error(code, error);
    match code {
        Code::Unavailable | Code::NoHealthyDataset => problem.with_retry_after(DISK_RETRY_SECONDS).into(),
        _ => problem.into(),
    }
}

impl From<RegionError> for ApiError {
    fn from(error: RegionError) -> ApiError {
        let code = error.code();
        let problem = Problem::from_error(code, &error);
        match code {
            Code::DiskUnusable | Code::DownstairsAway => problem.with_retry_after(DISK_RETRY_SECONDS).into(),
            Code::RegionInUse => problem.with_retry_after(IN_USE_RETRY_SECONDS).into(),
            _ => problem.into(),
        }
    }
}

impl From<PantryCallError> for ApiError {
    fn from(error: PantryCallError) -> ApiError {
        error.problem().into()
    }
}

pub(crate) fn of_job(error: &JobRefused) -> ApiError {
    match error {
        JobRefused::TooMany => {
            Problem::from_error(Code::TooManyRequests, error).with_retry_after(QUEUE_RETRY_SECONDS).into()
        }
        JobRefused::Sources { .. } | JobRefused::Source(_) => {
            Problem::from_error(Code::BadRequest, error).into()
        }
    }
}
