//! Answers of a coordinator that is newer than this program: read, with what is new in them passed over. Orders to a
//! coordinator are understood or refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use nexus_client::{
    releases::{RepositoryState, UploadStatus},
    replication::{ArtifactBlocked, CellState, ReplicationCell, ReplicationSledState, TransferKind},
    sleds::{M2Health, SledLiveness, SledPolicy, SledUpdate},
    tasks::{BackgroundTask, PassOutcome},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, from_value, json};
use std::fmt::Debug;

fn read<T: DeserializeOwned>(value: Value) -> T {
    from_value(value).unwrap()
}

#[track_caller]
fn survives<T: DeserializeOwned + PartialEq + Debug>((word, known): (&str, &T), unrecognized: &T) {
    assert_eq!(&read::<T>(json!(word)), known);
    assert_eq!(&read::<T>(json!("a_word_of_the_future")), unrecognized);
}

#[test]
fn words_of_the_future_are_read_in_every_closed_list() {
    survives(("expunged", &SledPolicy::Expunged), &SledPolicy::Unrecognized);
    survives(("unknown", &SledLiveness::Unknown), &SledLiveness::Unrecognized);
    survives(("read_only", &M2Health::ReadOnly), &M2Health::Unrecognized);
    survives(("refusing", &ReplicationSledState::Refusing), &ReplicationSledState::Unrecognized);
    survives(("no_source", &ArtifactBlocked::NoSource), &ArtifactBlocked::Unrecognized);
    survives(("no_writable_m2", &CellState::NoWritableM2), &CellState::Unrecognized);
    survives(("copy", &TransferKind::Copy), &TransferKind::Unrecognized);
    survives(("needs_upload", &RepositoryState::NeedsUpload), &RepositoryState::Unrecognized);
    survives(("inserted", &UploadStatus::Inserted), &UploadStatus::Unrecognized);
    survives(("timed_out", &PassOutcome::TimedOut), &PassOutcome::Unrecognized);
}

#[test]
fn fields_of_the_future_and_missing_new_fields_are_no_errors() {
    let cell: ReplicationCell = read(json!({"copies": 1, "flavour": "sweet"}));
    assert_eq!((cell.copies, cell.state), (1, CellState::Unrecognized));
}

#[test]
fn task_of_a_coordinator_that_is_older_is_read_as_one_that_is_not_held() {
    let pass = json!({"iteration": 1, "trigger": "start", "started_at": "2026-11-20T12:00:00Z",
        "duration_seconds": 0.1, "error": null, "report": {}});
    let task: BackgroundTask = read(json!({"name": "worker", "description": "works", "period_seconds": 60.0,
        "running": null, "last": pass, "succeeded": 1, "failed": 0, "failed_in_a_row": 0}));
    assert!(task.periodic && task.paused.is_none() && task.answer.is_none());
    assert_eq!(task.last.unwrap().outcome, PassOutcome::Unrecognized);
}

#[test]
fn word_of_an_outcome_is_the_one_on_the_wire() {
    for outcome in PassOutcome::ALL {
        assert_eq!(serde_json::to_value(outcome).unwrap(), json!(outcome.word()));
    }
}

#[test]
fn policy_that_is_not_known_is_refused_as_an_order() {
    let known: SledUpdate = read(json!({"policy": "no_provision"}));
    assert_eq!(known.policy, SledPolicy::NoProvision);
    for word in ["retired", "unrecognized", "Expunged"] {
        let error = from_value::<SledUpdate>(json!({"policy": word})).unwrap_err().to_string();
        assert!(error.contains("in_service, no_provision, expunged"), "{word}: {error}");
    }
}
