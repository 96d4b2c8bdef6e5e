//! Answers of a coordinator that is newer than this program: read, with what is new in them passed over. Orders to a
//! coordinator are understood or refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use nexus_client::{
    releases::{RepositoryState, UploadStatus},
    repairs::{
        RepairFinish, RepairInterruption, RepairNotice, RepairOutcome, RepairPhase, RepairProgress,
        RepairReason, RepairStart, RepairState, RepairWait, VolumeRepair,
    },
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
    survives(("interrupted", &RepairState::Interrupted), &RepairState::Unrecognized);
    survives(("replaces_gone", &RepairReason::ReplacesGone), &RepairReason::Unrecognized);
    survives(("making_durable", &RepairPhase::MakingDurable), &RepairPhase::Unrecognized);
    survives(("disk_room", &RepairWait::DiskRoom), &RepairWait::Unrecognized);
    survives(("completed", &RepairOutcome::Completed), &RepairOutcome::Unrecognized);
    survives(("writes_lost", &RepairInterruption::WritesLost), &RepairInterruption::Unrecognized);
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

/// A notice, but for what its kind has to say.
fn notice() -> Value {
    let region = json!({"region_id": "0191f2a0-3c1e-7000-8000-000000000003", "incarnation": 1});
    json!({
        "repair": {
            "id": "0191f2a0-3c1e-7000-8000-000000000000", "volume_id": "0191f2a0-3c1e-7000-8000-000000000001",
            "region_set_id": "0191f2a0-3c1e-7000-8000-000000000002", "region": region, "bytes": 4096,
        },
        "stamp": {"epoch": 5, "sequence": 1, "config_version": 0, "told_at": "2026-11-20T12:00:00Z"},
    })
}

/// The refusal of a notice of this kind that would be one with its first words, and has another one at `key`.
fn refused<T: DeserializeOwned + Debug>(words: &Value, key: &str, bad: Value) -> String {
    let mut notice = notice();
    for (key, word) in words.as_object().unwrap() {
        notice[key] = word.clone();
    }
    read::<T>(notice.clone());
    notice[key] = bad;
    from_value::<T>(notice).unwrap_err().to_string()
}

#[test]
fn a_notice_of_a_repair_with_a_word_that_is_not_known_is_refused_with_those_that_are() {
    let start = json!({"why": "catches_up"});
    let progress = json!({"phase": "queued", "bytes_done": 0, "waits": ["list"]});
    let finish = json!({"outcome": "interrupted", "interrupted_by": "stopped"});
    for word in ["a_word_of_the_future", "unrecognized"] {
        let why = refused::<RepairStart>(&start, "why", json!(word));
        assert!(why.contains("replaces_gone, replaces_leaving, catches_up"), "{why}");
        let phase = refused::<RepairProgress>(&progress, "phase", json!(word));
        assert!(phase.contains("away, queued, copying"), "{phase}");
        let waits = refused::<RepairProgress>(&progress, "waits", json!(["list", word]));
        assert!(waits.contains("second_member"), "{waits}");
        let outcome = refused::<RepairFinish>(&finish, "outcome", json!(word));
        assert!(outcome.contains("completed, interrupted"), "{outcome}");
        let by = refused::<RepairFinish>(&finish, "interrupted_by", json!(word));
        assert!(by.contains("newer_epoch, member_dismissed, writes_lost, stopped"), "{by}");
    }
}

#[test]
fn a_repair_of_a_coordinator_that_tells_more_is_read() {
    let mut newest = notice()["stamp"].clone();
    newest["more"] = json!(1);
    let shown: VolumeRepair = read(json!({
        "id": "0191f2a0-3c1e-7000-8000-000000000000", "volume_id": "0191f2a0-3c1e-7000-8000-000000000001",
        "region_set_id": "0191f2a0-3c1e-7000-8000-000000000002",
        "region": {"region_id": "0191f2a0-3c1e-7000-8000-000000000003", "incarnation": 1, "more": 1},
        "replaces": null, "state": "paused", "why": "curiosity", "phase": null, "bytes_done": 0, "bytes": 4096,
        "waits": ["list", "godot"], "interrupted_by": null, "started_at": null, "progressed_at": null,
        "finished_at": null, "more": 1, "newest": newest,
    }));
    assert_eq!((shown.state, shown.why), (RepairState::Unrecognized, Some(RepairReason::Unrecognized)));
    assert!(shown.waits.contains(&RepairWait::Unrecognized) && shown.waits.contains(&RepairWait::List));
}

#[test]
fn the_largest_numbers_that_are_kept_are_true_and_one_more_is_not() {
    let start = |sequence: u64| {
        let mut start = notice();
        start["why"] = json!("catches_up");
        start["stamp"]["sequence"] = json!(sequence);
        RepairNotice::Start(read(start))
    };
    assert_eq!(start((1 << 63) - 1).check(), Ok(()));
    assert!(start(1 << 63).check().unwrap_err().to_string().contains("sequence"));
}
