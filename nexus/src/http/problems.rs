//! How errors become answers. The one place that maps them.

use crate::releases::{IntakeError, StagingError};
use http_edge::ApiError;
use ids::{CoordinatorId, SagaId, SledId};
use nexus_client::{repairs::RepairNotice, sagas::SagaElsewhere};
use nexus_database::{DatabaseError, ErrorClass, Trouble, repairs::Conflict, sagas::Unreadable};
use nexus_sagas::{StartError, SteerError, StoreFault};
use nexus_tasks::{ActivateError, UnknownTask};
use problem::{Code, Finding, Problem, chain};
use sled_client::ClientError;
use std::error::Error;

/// Seconds after which an upload that found no slot may try again: uploads take seconds to minutes.
const BUSY_RETRY_SECONDS: u32 = 5;

/// Seconds after which a sled that did not answer may have come back.
const SLED_RETRY_SECONDS: u32 = 5;

/// Seconds after which a database that did not answer may have come back.
const DATABASE_RETRY_SECONDS: u32 = 5;

/// What to do when nobody knows whether a change was made.
const COMMIT_UNKNOWN_HINT: &str =
    "look whether it was done before trying again; once the disk works, both are safe";

pub(crate) fn of_database(error: &DatabaseError) -> ApiError {
    let problem = match error.class() {
        ErrorClass::Full => Problem::from_error(Code::NoSpace, error),
        ErrorClass::Corrupt | ErrorClass::NewerSchema => Problem::from_error(Code::Internal, error),
        ErrorClass::CommitUnknown => database_unavailable(error).with_hint(COMMIT_UNKNOWN_HINT),
        ErrorClass::Retryable | ErrorClass::Failed => database_unavailable(error),
    };
    problem.into()
}

/// Nothing was changed, or nobody knows: the database is the reason.
fn database_unavailable(error: &(dyn Error + 'static)) -> Problem {
    Problem::from_error(Code::DatabaseUnavailable, error).with_retry_after(DATABASE_RETRY_SECONDS)
}

/// A request that has waited long enough for the database.
pub(crate) fn of_silent_database(trouble: &Trouble, is_change: bool) -> ApiError {
    let detail = format!("the database does not answer since {:.0}: {}", trouble.since, trouble.words);
    let problem = Problem::new(Code::DatabaseUnavailable, detail).with_retry_after(DATABASE_RETRY_SECONDS);
    if is_change { problem.with_hint(COMMIT_UNKNOWN_HINT).into() } else { problem.into() }
}

pub(crate) fn of_staging(error: &StagingError) -> ApiError {
    let code = if error.is_no_space() { Code::NoSpace } else { Code::Internal };
    Problem::from_error(code, error).into()
}

pub(crate) fn of_intake(error: IntakeError) -> ApiError {
    match error {
        IntakeError::Busy { .. } => {
            Problem::from_error(Code::TooManyRequests, &error).with_retry_after(BUSY_RETRY_SECONDS).into()
        }
        IntakeError::Body(error) => error,
        IntakeError::Staging(error) => of_staging(&error),
        IntakeError::Database(error) => of_database(&error),
        IntakeError::Rejected(findings) => of_findings(findings),
        IntakeError::Examine(_) => Problem::from_error(Code::Internal, &error).into(),
        IntakeError::TrustRootGone => Problem::from_error(Code::TrustRootDeleted, &error).into(),
        IntakeError::Conflict { ref differences, .. } => {
            let findings = differences
                .iter()
                .map(|difference| Finding::new(Code::VersionConflict, difference))
                .collect();
            Problem::from_error(Code::VersionConflict, &error).with_problems(findings).into()
        }
    }
}

/// Everything that is wrong with an upload; the first finding gives the answer its code.
pub(crate) fn of_findings(findings: Vec<Finding>) -> ApiError {
    let code_of = |name: &str| Code::ALL.iter().copied().find(|code| code.name() == name);
    let first = findings.first();
    let code = first.and_then(|finding| code_of(&finding.code)).unwrap_or(Code::BadRequest);
    let detail = match first {
        Some(Finding { detail, subject: Some(subject), .. }) => format!("{subject}: {detail}"),
        Some(Finding { detail, .. }) => detail.clone(),
        None => "the input is refused".to_owned(),
    };
    Problem::new(code, detail).with_problems(findings).into()
}

pub(crate) fn of_expunged(id: SledId) -> ApiError {
    ApiError::new(Code::SledExpunged, format!("sled {id} has been expunged for good"))
}

/// A notice of a repair that contradicts what was told before.
pub(crate) fn of_repair_conflict(notice: &RepairNotice, conflict: &Conflict) -> ApiError {
    let detail = match conflict {
        Conflict::OtherRepair(known) => format!(
            "{notice} is about region {} of volume {}; this id was given to the repair of region {} (incarnation {}) of \
             region set {} of volume {}, of {} bytes",
            notice.repair().region.region_id,
            notice.repair().volume_id,
            known.region.id,
            known.region.incarnation,
            known.region_set,
            known.volume,
            known.bytes
        ),
        Conflict::OtherContent => format!("{notice} was told before, with other content"),
    };
    ApiError::new(Code::RepairConflict, detail)
}

/// A sled of this name that does not answer.
pub(crate) fn of_silent_sled(name: &str, why: &str) -> ApiError {
    let problem = Problem::new(Code::SledUnreachable, format!("sled {name} does not answer: {why}"));
    problem.with_retry_after(SLED_RETRY_SECONDS).into()
}

/// A call of the sled of this name that failed. Only silence passes by itself, so that only then trying again is advised.
pub(crate) fn of_sled_call(name: &str, error: &ClientError) -> ApiError {
    let why = chain(error);
    match error.class() {
        sled_client::ErrorClass::Unreachable => of_silent_sled(name, &why),
        sled_client::ErrorClass::Refused => {
            ApiError::new(Code::SledRefused, format!("sled {name} refuses: {why}"))
        }
        sled_client::ErrorClass::Broken => {
            ApiError::new(Code::SledBroken, format!("sled {name} does not keep to its API: {why}"))
        }
    }
}

/// A saga that was not started.
pub(crate) fn of_saga_start(error: &StartError) -> ApiError {
    match error {
        StartError::UnknownKind { .. } | StartError::Definition { .. } => {
            Problem::from_error(Code::SagaRefused, error).into()
        }
        StartError::Exists { .. } => Problem::from_error(Code::SagaConflict, error).into(),
        StartError::NotCreated { source: StoreFault::NoSpace(_), .. } => {
            Problem::from_error(Code::NoSpace, error).into()
        }
        StartError::Unknown { id, .. } => database_unavailable(error)
            .with_hint(format!("ask for it: GET /v1/sagas/{id}; if it is there, it will end"))
            .into(),
        StartError::NotCreated { .. } | StartError::LeftToRecovery { .. } => {
            database_unavailable(error).into()
        }
    }
}

/// A saga whose creation the database does not answer in time. It is not given up.
pub(crate) fn of_slow_saga_start(id: SagaId) -> ApiError {
    let detail = format!("the database has not answered yet whether saga {id} was created");
    let hint = format!("ask for it: GET /v1/sagas/{id}; or say the same again with this id");
    let problem = Problem::new(Code::DatabaseUnavailable, detail).with_hint(hint);
    problem.with_retry_after(DATABASE_RETRY_SECONDS).into()
}

/// A saga that does not take an operator's word.
pub(crate) fn of_saga_steering(error: &SteerError) -> ApiError {
    let code = match error {
        SteerError::NotHere { .. } => Code::SagaNotExecuting,
        SteerError::NoAttention { .. } => Code::SagaNeedsNoAttention,
    };
    Problem::from_error(code, error).into()
}

/// A saga that takes such a word only from the coordinator that owns it.
pub(crate) fn of_saga_elsewhere(id: SagaId, owner: CoordinatorId, elsewhere: &SagaElsewhere) -> ApiError {
    let name = elsewhere.coordinator_name.as_deref().unwrap_or("which the database does not know");
    let detail = format!("saga {id} is coordinator {owner}'s ({name}), which alone can steer it");
    let hint = format!(
        "ask that coordinator: sledctl --url URL op show {id}; sledctl status says when it started last"
    );
    Problem::new(Code::SagaNotExecuting, detail).with_hint(hint).into()
}

/// A saga of which nobody knows whose it is.
pub(crate) fn of_saga_of_nobody(id: SagaId, unreadable: Option<&Unreadable>) -> ApiError {
    let why = unreadable.map(ToString::to_string).unwrap_or_default();
    let detail =
        format!("nobody executes saga {id}, because its row does not say any more whose it is: {why}");
    let hint =
        "write the id of a coordinator into the row's owner; that one then takes it up, or gives it up";
    Problem::new(Code::SagaNotExecuting, detail).with_hint(hint).into()
}

pub(crate) fn of_ended_saga(id: SagaId) -> ApiError {
    ApiError::new(Code::SagaEnded, format!("saga {id} has ended"))
}

/// The database does not take an operator's word in time. It is not forgotten.
pub(crate) fn of_slow_saga_store(id: SagaId) -> ApiError {
    let detail = format!(
        "the database does not take what was said to saga {id}; it takes effect once it does, if this coordinator lives until then: look, and say it again"
    );
    Problem::new(Code::DatabaseUnavailable, detail).with_retry_after(DATABASE_RETRY_SECONDS).into()
}

/// Recovery has not decided in time about a saga that was given up. It is not forgotten.
pub(crate) fn of_slow_recovery(id: SagaId, why: Option<&str>) -> ApiError {
    let why = why.unwrap_or("recovery has not come to it");
    let detail = format!("saga {id} is not given up yet: {why}");
    let hint = "what was said is kept while this coordinator lives, and ends the saga in the first pass of recovery that can; if \
                it turns out that the saga can be gone on with, it is: look, and say it again";
    let problem = Problem::new(Code::DatabaseUnavailable, detail).with_hint(hint);
    problem.with_retry_after(DATABASE_RETRY_SECONDS).into()
}

/// No pass of recovery was to be had for a saga that was given up.
pub(crate) fn of_giving_up(id: SagaId, error: &ActivateError) -> ApiError {
    let ApiError(problem) = of_activation(error);
    let is_paused = matches!(error, ActivateError::Paused { .. } | ActivateError::PausedMeanwhile { .. });
    let hint =
        format!("the pass that gives saga {id} up follows the pause: sledctl task resume saga_recovery");
    if is_paused { problem.with_hint(hint).into() } else { (*problem).into() }
}

/// A saga that is claimed here and that its executor has lost.
pub(crate) fn of_lost_saga(id: SagaId) -> ApiError {
    let detail = format!("saga {id} takes no word in this life of its coordinator: its executor has lost it");
    let hint = "restart the coordinator: it goes on with it; and report it, with its log";
    Problem::new(Code::SagaNotExecuting, detail).with_hint(hint).into()
}

/// What was waited for will not come from this life of the coordinator.
pub(crate) fn of_stop() -> ApiError {
    ApiError::new(Code::Unavailable, "the coordinator is told to stop".to_owned())
}

pub(crate) fn of_saga_store(fault: &StoreFault) -> ApiError {
    let problem = match fault {
        StoreFault::NoSpace(_) => Problem::from_error(Code::NoSpace, fault),
        StoreFault::NotDone(_) | StoreFault::Superseded => database_unavailable(fault),
        StoreFault::Unknown(_) => database_unavailable(fault).with_hint(COMMIT_UNKNOWN_HINT),
    };
    problem.into()
}

pub(crate) fn of_unknown_task(error: &UnknownTask) -> ApiError {
    Problem::from_error(Code::TaskNotFound, error).into()
}

pub(crate) fn of_activation(error: &ActivateError) -> ApiError {
    let code = match error {
        ActivateError::Unknown(_) => Code::TaskNotFound,
        ActivateError::Paused { .. } | ActivateError::PausedMeanwhile { .. } => Code::TaskPaused,
        ActivateError::Stopped { .. } => Code::Unavailable,
    };
    Problem::from_error(code, error).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sled_that_is_silent_is_worth_asking_again() {
        let answered = |code| ClientError::Problem {
            url: "http://127.0.0.1:1/scrub".to_owned(),
            problem: Box::new(Problem::new(code, "why")),
        };
        for (theirs, ours, retry) in [
            (Code::Unavailable, Code::SledUnreachable, Some(SLED_RETRY_SECONDS)),
            (Code::TooManyRequests, Code::SledUnreachable, Some(SLED_RETRY_SECONDS)),
            (Code::Unauthorized, Code::SledRefused, None),
            (Code::NoSuchRoute, Code::SledRefused, None),
            (Code::Internal, Code::SledBroken, None),
        ] {
            let ApiError(problem) = of_sled_call("sled-a", &answered(theirs));
            assert!(problem.is(ours) && problem.detail.contains("sled-a"), "{problem:?}");
            assert_eq!(problem.retry_after_seconds, retry, "{problem:?}");
        }
    }
}
