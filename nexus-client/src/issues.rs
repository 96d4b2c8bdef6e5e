//! What is not as it should be, each with a stable code: what `/v1/status` lists, and what scripts and alarms branch on.
//!
//! Whether something is an issue is the coordinator's to decide; this is the list of kinds there are. To add one: add a
//! row, and a line to the table in `docs/OPERATING.md`.

use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Issue {
    /// The kind, stable and snake_case: a name of [`IssueCode`], or one of a newer coordinator.
    pub code: String,
    /// What it is about: `sled-a`, `sled-a/m2-0`, `kernel 6.1.0`.
    pub subject: String,
    /// What is wrong with it, in words.
    pub detail: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl Issue {
    /// An issue of this kind, without a hint.
    #[must_use]
    pub fn new(code: IssueCode, subject: impl Into<String>, detail: impl Into<String>) -> Issue {
        Issue { code: code.name().to_owned(), subject: subject.into(), detail: detail.into(), hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Issue {
        self.hint = Some(hint.into());
        self
    }

    /// Whether it is of this kind.
    #[must_use]
    pub fn is(&self, code: IssueCode) -> bool {
        self.code == code.name()
    }
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.code, self.subject, self.detail)
    }
}

/// Generates [`IssueCode`] from the rows below, so that a code and its meaning stand in one place.
macro_rules! catalogue {
    ($($variant:ident $name:literal $meaning:literal;)*) => {
        /// A kind of issue. The name is stable.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum IssueCode {
            $(#[doc = concat!("`", $name, "`: ", $meaning, ".")] $variant,)*
        }

        impl IssueCode {
            /// Every code, in the order of the catalogue.
            pub const ALL: &'static [IssueCode] = &[$(IssueCode::$variant),*];

            /// The stable name, snake_case.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(IssueCode::$variant => $name,)* }
            }
        }
    };
}

catalogue! {
    SledOffline "sled_offline" "no heartbeat of the sled came within the limit";
    SledUnreachable "sled_unreachable" "the sled says that it lives, but does not answer the coordinator";
    SledRefusing "sled_refusing" "the sled does not take the artifact config";
    SledRefused "sled_refused" "the sled's registrations are refused";
    SledIdentityConflict "sled_identity_conflict" "two hosts say that they are the same sled";
    SledNoM2 "sled_no_m2" "the sled has no M.2 that can be written";
    M2Failed "m2_failed" "operations on the M.2 fail";
    M2Missing "m2_missing" "the M.2 is not there";
    M2Full "m2_full" "the M.2 has no space";
    M2ReadOnly "m2_read_only" "the M.2 takes no writes";
    M2Slow "m2_slow" "the M.2 does not answer within the time limit";
    M2Unusable "m2_unusable" "the M.2 cannot be used, for a reason of a newer sled";
    CopiesQuarantined "copies_quarantined" "copies on the sled had rotted and were set aside";
    TransferFailing "transfer_failing" "artifacts do not get to the sled";
    ArtifactNeedsUpload "artifact_needs_upload" "the artifact's bytes are nowhere";
    ArtifactOutOfReach "artifact_out_of_reach" "only sleds that cannot serve it now have the artifact";
    SagaNeedsAttention "saga_needs_attention" "an undo of the saga does not succeed, and waits for an operator";
    SagaNotResumed "saga_not_resumed" "an unfinished saga cannot be executed on";
    SagaWaitsForVersion "saga_waits_for_version" "an unfinished saga is of a kind or version that the coordinator does not know";
    SagaUnreadable "saga_unreadable" "something of an unfinished saga cannot be read, so nobody can execute it on";
    SagaElsewhere "saga_elsewhere" "unfinished sagas of another coordinator have had no new line in their logs for a while";
    SagaWaitsForDatabase "saga_waits_for_database" "the database does not take what sagas have to write";
    DatabaseUnavailable "database_unavailable" "the database does not answer, or not in time";
    TaskPaused "task_paused" "a background task is paused";
    TaskFailing "task_failing" "the last passes of a background task failed";
    MinReplicationUnreachable "min_replication_unreachable" "fewer sleds are in service than have to hold an upload";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_snake_case_and_unique() {
        let mut seen = BTreeSet::new();
        for code in IssueCode::ALL {
            assert!(seen.insert(code.name()), "{} stands twice", code.name());
            assert!(
                code.name().chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                "{}",
                code.name()
            );
        }
    }

    #[test]
    fn issue_of_a_newer_coordinator_keeps_its_code() {
        let json = serde_json::json!({"code": "core_breach", "subject": "sled-a", "detail": "run"});
        let issue: Issue = serde_json::from_value(json.clone()).expect("unknown codes are read");
        assert_eq!(serde_json::to_value(issue).expect("it is plain data"), json);
    }
}
