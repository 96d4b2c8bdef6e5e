//! Releases that are refused: each with its own code, with everything that is wrong, and without a trace.

use crate::stage::{Stage, toml};
use problem::Problem;
use sample_release::{Defect, Role, SampleRelease};
use serde_json::Value;
use std::collections::BTreeSet;

/// A cluster with a release on it, which refuses whatever is wrong with a second one.
async fn stage_with_a_release() -> Stage {
    let stage = Stage::with(|builder| builder.sleds(1).nexus_config(toml("tuf.expiry = 'deny'"))).await;
    assert_eq!(stage.upload(&stage.make(&SampleRelease::small("1.0.0")), "").await.status, 201);
    stage.cluster.wait_replicated(&mut |_| {}).await.expect("the release reaches the sled");
    stage.wait_unstaged().await;
    stage
}

fn codes(problem: &Problem) -> BTreeSet<&str> {
    problem.problems.iter().map(|finding| finding.code.as_str()).collect()
}

#[tokio::test]
async fn every_defect_is_refused_under_its_own_code_and_leaves_no_trace() {
    let stage = stage_with_a_release().await;
    let before = stage.standing().await;
    // Which root has expired is the operator's matter, not the archive's: that one has a test of its own.
    for defect in Defect::all().into_iter().filter(|defect| *defect != Defect::Expired(Role::Root)) {
        let release = stage.broken("2.0.0", &[defect]);
        let query = defect.asked_version().map(|version| format!("?system_version={version}"));
        let reply = stage.upload(&release, &query.unwrap_or_default()).await;
        assert_eq!(reply.status, 400, "{defect:?}");
        assert_eq!(reply.refusal().1, defect.code().name(), "{defect:?}");
        let problem = reply.problem();
        assert_eq!(problem.problems[0].code, problem.code, "{defect:?}");
        assert!(problem.detail.contains(&problem.problems[0].detail), "{defect:?}: {problem}");
        assert_eq!(stage.staged_files(), [""; 0], "{defect:?}");
    }
    assert_eq!(stage.standing().await, before);
    // The version is not burnt by what was refused under it.
    assert_eq!(stage.upload(&stage.make(&SampleRelease::small("2.0.0")), "").await.status, 201);
}

#[tokio::test]
async fn a_release_under_a_root_that_has_expired_is_refused() {
    let stage = Stage::coordinator("tuf.expiry = 'deny'").await;
    let release = stage.broken("1.0.0", &[Defect::Expired(Role::Root)]);
    assert_eq!(stage.operator.delete(&format!("/v1/trust-roots/{}", stage.root_id)).await.status, 204);
    assert_eq!(stage.operator.post("/v1/trust-roots", release.root_json.clone()).await.status, 201);
    let before = stage.standing().await;
    assert_eq!(stage.upload(&release, "").await.refusal(), (400, "metadata_expired".to_owned()));
    assert_eq!(stage.standing().await, before);
}

#[tokio::test]
async fn expired_metadata_is_taken_with_a_warning_unless_the_config_denies_it() {
    let stage = Stage::coordinator("").await;
    let release = stage.broken("1.0.0", &[Defect::Expired(Role::Timestamp)]);
    let taken = stage.upload(&release, "").await;
    assert_eq!(taken.status, 201);
    assert!(taken.ok()["warnings"].to_string().contains("timestamp"), "{}", taken.ok());
}

#[tokio::test]
async fn everything_that_is_wrong_is_listed_the_most_important_first() {
    let stage = Stage::shared().await;
    for (defects, expected) in [
        (
            vec![Defect::TargetMissing, Defect::TargetBytesDiffer, Defect::TargetLengthDiffers],
            ["target_missing", "target_length_mismatch", "target_digest_mismatch"],
        ),
        (
            vec![Defect::DuplicateName, Defect::PathTraversal, Defect::PathAbsolute],
            ["zip_path_traversal", "zip_path_absolute", "zip_duplicate_name"],
        ),
        (
            vec![
                Defect::ArtifactsJsonUnknownTarget,
                Defect::TargetBytesDiffer,
                Defect::BadSignature(Role::Snapshot),
            ],
            ["bad_signature", "target_digest_mismatch", "release_invalid"],
        ),
    ] {
        let problem = stage.upload(&stage.broken("3.0.0", &defects), "").await.problem();
        assert_eq!(problem.code, expected[0], "{defects:?}");
        let found = codes(&problem);
        assert!(expected.iter().all(|code| found.contains(code)), "{defects:?}: {found:?}");
    }
}

#[tokio::test]
async fn a_finding_names_the_entry_or_target_that_it_is_about() {
    let stage = Stage::shared().await;
    let problem = stage.upload(&stage.broken("3.0.0", &[Defect::TargetBytesDiffer]), "").await.problem();
    assert_eq!(problem.problems[0].subject.as_deref(), Some("nexus-3.0.0.bin"));
    assert!(problem.detail.starts_with("nexus-3.0.0.bin: "), "{problem}");
}

#[tokio::test]
async fn the_same_version_with_other_content_is_refused_with_the_differences() {
    let stage = stage_with_a_release().await;
    let before = stage.standing().await;
    let other = SampleRelease::small("1.0.0").seeded("newcomer", "1.0.0", "service", 3_000, false);
    let reply = stage.upload(&stage.make(&other), "").await;
    assert_eq!(reply.refusal(), (409, "version_conflict".to_owned()));
    let problem = reply.problem();
    assert!(problem.problems.iter().any(|finding| finding.detail.contains("newcomer")), "{problem:?}");
    assert!(problem.detail.contains("1.0.0"), "{problem}");
    assert_eq!(stage.standing().await, before);
}

#[tokio::test]
async fn the_same_release_again_is_known_already_and_moves_no_generation() {
    let stage = stage_with_a_release().await;
    let before = stage.standing().await;
    let again = stage.upload(&stage.make(&SampleRelease::small("1.0.0")), "").await;
    assert_eq!((again.status, &again.ok()["status"]), (200, &Value::from("already_exists")));
    stage.wait_unstaged().await;
    assert_eq!(stage.standing().await.generation, before.generation);
}

#[tokio::test]
async fn the_asked_version_must_be_the_releases_own() {
    let stage = Stage::shared().await;
    let release = stage.make(&SampleRelease::small("1.0.0"));
    let reply = stage.upload(&release, "?system_version=1.0.1").await;
    assert_eq!(reply.refusal(), (400, "version_mismatch".to_owned()));
    let problem = reply.problem();
    assert!(problem.detail.contains("1.0.0") && problem.detail.contains("1.0.1"), "{problem}");
    // Saying what is so anyway is fine.
    assert_eq!(stage.upload(&release, "?system_version=1.0.0").await.status, 200);
}

#[tokio::test]
async fn a_release_that_says_no_version_needs_one_that_can_stand_in_a_path() {
    let stage = Stage::shared().await;
    let release = stage.make(&SampleRelease::small("4.0.0").without_artifacts_json());
    assert_eq!(stage.upload(&release, "").await.refusal(), (400, "version_missing".to_owned()));
    for bad in ["", ".", "..", "a/b", "..%2fx", "with%20blank", "%1b[31m", &"9".repeat(64)] {
        let reply = stage.upload(&release, &format!("?system_version={bad}")).await;
        assert_eq!(reply.refusal(), (400, "bad_request".to_owned()), "{bad:?}");
    }
}

#[tokio::test]
async fn queries_that_are_not_understood_are_refused_before_the_body_counts() {
    let stage = Stage::shared().await;
    let release = stage.make(&SampleRelease::small("5.0.0"));
    for query in [
        "?system_versoin=5.0.0",
        "?wait=for-godot",
        "?wait=replicated&wait_seconds=-1",
        "?wait=replicated&wait_seconds=soon",
        "?file_name=a&file_name=b",
        "?file_name=%1b[2J",
        &format!("?file_name={}", "x".repeat(256)),
    ] {
        let reply = stage.upload(&release, query).await;
        assert_eq!(reply.refusal(), (400, "bad_request".to_owned()), "{query}");
    }
    assert_eq!(stage.operator.get("/v1/repositories/5.0.0").await.refusal().1, "repository_not_found");
}

#[tokio::test]
async fn an_empty_body_is_no_zip() {
    let stage = Stage::shared().await;
    let reply = stage.operator.put("/v1/repositories", "").await;
    assert_eq!(reply.refusal(), (400, "not_a_zip".to_owned()));
}
