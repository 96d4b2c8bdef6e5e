//! Bad input: each defect is refused with its own code, several are reported together, and good releases of every
//! shape are accepted.

use crate::archives;
use camino_tempfile::{Utf8TempDir, tempdir};
use ids::TrustRootId;
use jiff::Timestamp;
use nexus_release::{
    ExamineError, ExamineOptions, ExaminedRelease, ExpiryPolicy, TrustedRoot, examine, parse_trust_root,
};
use problem::Finding;
use sample_release::{Content, Defect, Keys, MadeRelease, Role, SampleRelease};
use std::fs;

/// One folder, one publisher, any number of releases.
struct Bench {
    dir: Utf8TempDir,
    keys: Keys,
}

impl Bench {
    fn new() -> Bench {
        // Three keys of which two must sign: the general case of every signature check.
        Bench { dir: tempdir().unwrap(), keys: Keys::generate_with(3, 2).unwrap() }
    }

    fn make(&self, release: &SampleRelease) -> MadeRelease {
        release.make(&self.keys, &self.dir.path().join("release.zip")).unwrap()
    }

    async fn examine(
        &self,
        release: &SampleRelease,
        options: &ExamineOptions,
    ) -> Result<ExaminedRelease, Vec<Finding>> {
        let made = self.make(release);
        examine_made(&made, options).await
    }
}

async fn examine_made(made: &MadeRelease, options: &ExamineOptions) -> Result<ExaminedRelease, Vec<Finding>> {
    let roots = [TrustedRoot { id: TrustRootId::generate(), root_json: made.root_json.clone() }];
    match examine(&made.path, &roots, options).await {
        Ok(release) => Ok(release),
        Err(ExamineError::Rejected(findings)) => Err(findings),
        Err(error) => panic!("the machine failed: {error:?}"),
    }
}

fn asking(version: &str) -> ExamineOptions {
    ExamineOptions { system_version: Some(version.to_owned()), ..ExamineOptions::default() }
}

fn codes(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.code.as_str()).collect()
}

#[tokio::test]
async fn each_defect_is_refused_with_its_own_code_first() {
    let bench = Bench::new();
    for outer_layout in [true, false] {
        for defect in Defect::all() {
            let mut release = SampleRelease::small("1.2.3").with_defect(defect);
            if outer_layout {
                release = release.with_consistent_snapshot().without_outer_folder();
            }
            let options = ExamineOptions {
                system_version: defect.asked_version().map(str::to_owned),
                expiry: ExpiryPolicy::Deny,
                ..ExamineOptions::default()
            };
            let findings =
                bench.examine(&release, &options).await.expect_err(&format!("{defect:?} was accepted"));
            assert_eq!(findings[0].code, defect.code().name(), "{defect:?}: {findings:#?}");
        }
    }
}

#[tokio::test]
async fn one_defect_is_not_reported_as_many() {
    let bench = Bench::new();
    for defect in Defect::all() {
        let release = SampleRelease::small("1.2.3").with_defect(defect);
        let options = ExamineOptions {
            system_version: defect.asked_version().map(str::to_owned),
            expiry: ExpiryPolicy::Deny,
            ..ExamineOptions::default()
        };
        let findings = bench.examine(&release, &options).await.unwrap_err();
        // A byte flipped on the way is both: damage of the archive, and of what was signed.
        let expected = if defect == Defect::DamagedOnTheWay { 1..=2 } else { 1..=1 };
        assert!(expected.contains(&findings.len()), "{defect:?}: {findings:#?}");
    }
}

#[tokio::test]
async fn several_defects_at_once_are_all_reported() {
    let bench = Bench::new();
    let defects = [
        Defect::PathTraversal,
        Defect::Symlink,
        Defect::BadSignature(Role::Snapshot),
        Defect::ThresholdNotMet(Role::Targets),
        Defect::MetadataMissing(Role::Root),
        Defect::Expired(Role::Timestamp),
        Defect::TargetMissing,
        Defect::TargetBytesDiffer,
        Defect::TargetLengthDiffers,
        Defect::ArtifactsJsonDuplicate,
        Defect::VersionMismatch,
    ];
    let release =
        defects.iter().fold(SampleRelease::small("1.2.3"), |release, defect| release.with_defect(*defect));
    let options = ExamineOptions { expiry: ExpiryPolicy::Deny, ..asking("99.99.99") };
    let findings = bench.examine(&release, &options).await.unwrap_err();
    for defect in defects {
        assert!(codes(&findings).contains(&defect.code().name()), "{defect:?} is not among {findings:#?}");
    }
    assert_eq!(findings[0].code, "zip_path_traversal");
}

#[tokio::test]
async fn an_unknown_root_does_not_hide_what_else_is_wrong() {
    let bench = Bench::new();
    let release = SampleRelease::small("1.2.3")
        .with_defect(Defect::UnknownRoot)
        .with_defect(Defect::BadSignature(Role::Timestamp))
        .with_defect(Defect::TargetBytesDiffer);
    let findings = bench.examine(&release, &ExamineOptions::default()).await.unwrap_err();
    assert_eq!(
        codes(&findings),
        ["unknown_root", "bad_signature", "target_digest_mismatch"],
        "{findings:#?}"
    );
}

#[tokio::test]
async fn without_trust_roots_nothing_is_believed() {
    let bench = Bench::new();
    let made = bench.make(&SampleRelease::small("1.2.3"));
    let error = examine(&made.path, &[], &ExamineOptions::default()).await.unwrap_err();
    let ExamineError::Rejected(findings) = error else { panic!("{error:?}") };
    assert_eq!(codes(&findings), ["no_trust_roots"]);
}

#[tokio::test]
async fn good_releases_of_every_shape_are_accepted_with_what_was_made() {
    let bench = Bench::new();
    let nested = sample_release::Artifact {
        name: "nested".to_owned(),
        version: "1".to_owned(),
        kind: "file".to_owned(),
        target: "a/b/nested file.bin".to_owned(),
        content: Content::Bytes(Vec::new()),
    };
    for consistent in [true, false] {
        for outer in [true, false] {
            for described in [true, false] {
                let mut release = SampleRelease::small("1.2.3-rc.1+git").artifact(nested.clone());
                if consistent {
                    release = release.with_consistent_snapshot();
                }
                if !outer {
                    release = release.without_outer_folder();
                }
                if !described {
                    release = release.without_artifacts_json();
                }
                let made = bench.make(&release);
                let accepted = examine_made(&made, &asking("1.2.3-rc.1+git")).await.unwrap();
                assert_eq!(accepted.system_version, "1.2.3-rc.1+git");
                assert_eq!(accepted.warnings, Vec::<String>::new());
                let mut expected: Vec<_> =
                    made.artifacts.iter().map(|one| (one.target.clone(), one.hash, one.size)).collect();
                let mut found: Vec<_> =
                    accepted.artifacts.iter().map(|one| (one.target.clone(), one.hash, one.size)).collect();
                expected.sort();
                found.sort();
                assert_eq!(found, expected);
                let kinds: Vec<&str> = accepted.artifacts.iter().map(|one| one.kind.as_str()).collect();
                assert_eq!(kinds.contains(&"service"), described);
            }
        }
    }
}

#[tokio::test]
async fn expired_metadata_is_a_warning_for_each_role_unless_denied() {
    let bench = Bench::new();
    let release = Role::ALL
        .iter()
        .fold(SampleRelease::small("1.2.3"), |release, role| release.with_defect(Defect::Expired(*role)));
    // What expires in 2020 was fine in 2019, whatever this machine's clock says.
    let in_2019 = ExamineOptions {
        expiry: ExpiryPolicy::Deny,
        now: Timestamp::constant(1_550_000_000, 0),
        ..ExamineOptions::default()
    };
    assert_eq!(bench.examine(&release, &in_2019).await.unwrap().warnings.len(), 0);
    let accepted = bench.examine(&release, &ExamineOptions::default()).await.unwrap();
    for (role, warning) in ["root", "timestamp", "snapshot", "targets"].iter().zip(&accepted.warnings) {
        assert!(warning.contains(role) && warning.contains("2020-01-01"), "{:?}", accepted.warnings);
    }
    assert_eq!(accepted.warnings.len(), 4);
    let deny = ExamineOptions { expiry: ExpiryPolicy::Deny, ..ExamineOptions::default() };
    let findings = bench.examine(&release, &deny).await.unwrap_err();
    assert_eq!(codes(&findings), ["metadata_expired"; 4]);
}

#[tokio::test]
async fn a_rotated_root_is_followed_from_the_trusted_one() {
    let bench = Bench::new();
    let earlier = Keys::generate().unwrap();
    let release = SampleRelease::small("1.2.3").rotated_from(earlier.clone());
    let made = bench.make(&release);
    assert_eq!(parse_trust_root(&made.root_json).unwrap().version, 1);
    examine_made(&made, &ExamineOptions::default()).await.unwrap();
    // A publisher who merely signs with new keys has not rotated.
    let other = SampleRelease::small("1.2.3").make(&earlier, &bench.dir.path().join("other.zip")).unwrap();
    let jumped = MadeRelease { root_json: other.root_json, ..bench.make(&SampleRelease::small("1.2.3")) };
    let findings = examine_made(&jumped, &ExamineOptions::default()).await.unwrap_err();
    assert_eq!(codes(&findings), ["unknown_root"]);
}

#[tokio::test]
async fn the_root_that_vouches_is_named_whatever_its_place_in_the_list() {
    let bench = Bench::new();
    let made = bench.make(&SampleRelease::small("1.2.3"));
    let stranger =
        SampleRelease::small("1").make(&Keys::generate().unwrap(), &bench.dir.path().join("s.zip")).unwrap();
    let ours = TrustedRoot { id: TrustRootId::generate(), root_json: made.root_json.clone() };
    let theirs = TrustedRoot { id: TrustRootId::generate(), root_json: stranger.root_json };
    for roots in [[ours.clone(), theirs.clone()], [theirs.clone(), ours.clone()]] {
        let accepted = examine(&made.path, &roots, &ExamineOptions::default()).await.unwrap();
        assert_eq!(accepted.trust_root, ours.id);
    }
}

#[tokio::test]
async fn unsigned_extra_files_are_warned_of_and_never_counted() {
    let bench = Bench::new();
    let made = bench.make(&SampleRelease::small("1.2.3"));
    let mut entries = archives::unpack(&fs::read(&made.path).unwrap());
    entries.push(("repo/targets/extra.bin".to_owned(), b"extra".to_vec()));
    let path = bench.dir.path().join("extra.zip");
    fs::write(&path, archives::pack(&entries)).unwrap();
    let with_extra = MadeRelease { path, ..made };
    let accepted = examine_made(&with_extra, &ExamineOptions::default()).await.unwrap();
    assert_eq!(accepted.artifacts.len(), 3);
    assert_eq!(accepted.warnings, ["repo/targets/extra.bin is no signed target: it is ignored"]);
}

#[tokio::test]
async fn a_release_without_artifacts_is_invalid() {
    let bench = Bench::new();
    for release in [SampleRelease::new("1.0.0"), SampleRelease::new("1.0.0").without_artifacts_json()] {
        let findings = bench.examine(&release, &asking("1.0.0")).await.unwrap_err();
        assert_eq!(codes(&findings), ["release_invalid"], "{findings:#?}");
    }
}

#[tokio::test]
async fn a_malformed_version_of_the_upload_is_a_bad_request() {
    let bench = Bench::new();
    for version in ["", "a b", "v/1", &"1".repeat(64)] {
        let release = SampleRelease::small("1.0.0").without_artifacts_json();
        let findings = bench.examine(&release, &asking(version)).await.unwrap_err();
        assert_eq!(findings[0].code, "bad_request", "{version:?}");
    }
}

#[tokio::test]
async fn the_expansion_limit_is_the_callers() {
    let bench = Bench::new();
    let release = SampleRelease::small("1.0.0");
    let options =
        ExamineOptions { expanded_bytes_max: release.size_bytes() - 1, ..ExamineOptions::default() };
    assert_eq!(codes(&bench.examine(&release, &options).await.unwrap_err()), ["zip_bomb"]);
}

#[tokio::test]
async fn a_file_that_is_not_there_is_the_machines_fault() {
    let bench = Bench::new();
    let error =
        examine(&bench.dir.path().join("none.zip"), &[], &ExamineOptions::default()).await.unwrap_err();
    assert!(matches!(error, ExamineError::Io { .. }), "{error:?}");
}

#[tokio::test]
async fn short_and_empty_files_are_no_zips_and_an_empty_zip_is_no_release() {
    let bench = Bench::new();
    let path = bench.dir.path().join("file");
    let mut empty_zip = b"PK\x05\x06".to_vec();
    empty_zip.resize(22, 0);
    for (content, code) in [
        (&b""[..], "not_a_zip"),
        (b"PK", "not_a_zip"),
        (b"PK\x03\x04", "zip_truncated"),
        (&[0u8; 100_000], "not_a_zip"),
        (&empty_zip, "metadata_missing"),
    ] {
        fs::write(&path, content).unwrap();
        let made = MadeRelease { path: path.clone(), ..bench.make(&SampleRelease::small("1")) };
        let findings = examine_made(&made, &ExamineOptions::default()).await.unwrap_err();
        assert_eq!(findings[0].code, code, "{findings:?}");
    }
}

#[tokio::test]
async fn bytes_after_the_end_of_the_archive_are_damage() {
    let bench = Bench::new();
    let made = bench.make(&SampleRelease::small("1.0.0"));
    let archive = fs::read(&made.path).unwrap();
    // Twice the same archive is one file with two ends.
    for tail in [&b"\n"[..], &archive] {
        fs::write(&made.path, [&archive, tail].concat()).unwrap();
        let findings = examine_made(&made, &ExamineOptions::default()).await.unwrap_err();
        assert_eq!(findings[0].code, "zip_truncated", "{findings:#?}");
    }
}

#[test]
fn a_trust_root_must_be_a_root_that_signs_itself() {
    let bench = Bench::new();
    let made = bench.make(&SampleRelease::small("1"));
    let parsed = parse_trust_root(&made.root_json).unwrap();
    assert_eq!((parsed.version, parsed.fingerprint.len()), (1, 64));
    let text = String::from_utf8(made.root_json).unwrap();
    let signed_at = text.find("\"sig\": \"").unwrap() + 8;
    let mut forged = text.clone();
    forged.replace_range(signed_at..=signed_at, if &text[signed_at..=signed_at] == "0" { "1" } else { "0" });
    let huge = " ".repeat(2 << 20);
    for bad in
        ["", "{}", "[1", &text.replace("\"root\"", "\"targets\""), &text.replace("20", "21"), &forged, &huge]
    {
        let finding = parse_trust_root(bad.as_bytes()).unwrap_err();
        assert_eq!(finding.code, "root_invalid", "{finding:?}");
    }
}
