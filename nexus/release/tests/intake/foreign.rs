//! Releases made by other TUF implementations: the specification is the contract, not our own writer.
//!
//! The fixtures, what made them and how, are described in `tests/fixtures/foreign/README.md`.

use crate::archives;
use camino_tempfile::tempdir;
use ids::TrustRootId;
use nexus_release::{
    ExamineError, ExamineOptions, ExaminedRelease, ExpiryPolicy, TrustedRoot, examine, parse_trust_root,
};
use problem::Finding;

/// One fixture and what must come out of it.
struct Foreign {
    name: &'static str,
    zip: &'static [u8],
    root_json: &'static [u8],
    /// What the upload says.
    asked_version: Option<&'static str>,
    system_version: &'static str,
    /// (name, kind, target, size)
    artifacts: &'static [(&'static str, &'static str, &'static str, u64)],
    warnings: usize,
}

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../fixtures/foreign/", $name))
    };
}

const ALL: [Foreign; 5] = [
    Foreign {
        name: "python-tuf, ed25519, 2 of 3 keys, consistent snapshots, rotated root, delegation",
        zip: fixture!("python-tuf-ed25519-rotated.zip"),
        root_json: fixture!("python-tuf-ed25519-rotated.root.json"),
        asked_version: Some("5.0.0"),
        system_version: "5.0.0",
        artifacts: &[
            ("docs/notes.txt", "file", "docs/notes.txt", 6),
            ("firmware/nic.bin", "file", "firmware/nic.bin", 700),
            ("host-image.bin", "file", "host-image.bin", 900),
        ],
        warnings: 0,
    },
    Foreign {
        name: "python-tuf, RSA-PSS and ECDSA, 2 of 2 keys",
        zip: fixture!("python-tuf-rsa-ecdsa.zip"),
        root_json: fixture!("python-tuf-rsa-ecdsa.root.json"),
        asked_version: None,
        system_version: "2.0.0",
        artifacts: &[
            ("nexus", "service", "nexus.bin", 900),
            ("sled-agent", "service", "sled-agent.bin", 800),
        ],
        warnings: 0,
    },
    Foreign {
        name: "python-tuf, expired",
        zip: fixture!("python-tuf-expired.zip"),
        root_json: fixture!("python-tuf-expired.root.json"),
        asked_version: None,
        system_version: "0.9.0",
        artifacts: &[("host-image", "host_image", "host-image.bin", 900)],
        warnings: 3,
    },
    Foreign {
        name: "tuftool, ed25519 and ECDSA, 2 of 2 keys, consistent snapshots",
        zip: fixture!("tuftool-consistent.zip"),
        root_json: fixture!("tuftool-consistent.root.json"),
        asked_version: Some("3.0.0"),
        system_version: "3.0.0",
        artifacts: &[("host-image.bin", "file", "host-image.bin", 900), ("nic.bin", "file", "nic.bin", 700)],
        warnings: 0,
    },
    Foreign {
        name: "the layout of tufaceous v1, signed by tuftool",
        zip: fixture!("tufaceous-v1-layout.zip"),
        root_json: fixture!("tufaceous-v1-layout.root.json"),
        asked_version: None,
        system_version: "1.0.0",
        artifacts: &[
            ("SimGimletSp", "gimlet_sp", "gimlet_sp-SimGimletSp-1.0.0.tar.gz", 600),
            ("control-plane", "control_plane", "control_plane-control-plane-1.0.0.tar.gz", 800),
            ("host", "host", "host-host-1.0.0.tar.gz", 900),
        ],
        warnings: 0,
    },
];

impl Foreign {
    fn options(&self) -> ExamineOptions {
        let system_version = self.asked_version.map(str::to_owned);
        ExamineOptions { system_version, ..ExamineOptions::default() }
    }

    async fn examine(&self, zip: &[u8], options: &ExamineOptions) -> Result<ExaminedRelease, Vec<Finding>> {
        let dir = tempdir().unwrap();
        let path = dir.path().join("foreign.zip");
        std::fs::write(&path, zip).unwrap();
        let roots = [TrustedRoot { id: TrustRootId::generate(), root_json: self.root_json.to_vec() }];
        match examine(&path, &roots, options).await {
            Ok(release) => Ok(release),
            Err(ExamineError::Rejected(findings)) => Err(findings),
            Err(error) => panic!("{}: the machine failed: {error:?}", self.name),
        }
    }

    /// Examines the release with one file changed, everything else as it was.
    async fn examine_changed(&self, changed: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<Finding> {
        let mut files = archives::unpack(self.zip);
        let file = files.iter_mut().find(|(name, _)| name == changed).unwrap();
        change(&mut file.1);
        let archive = archives::pack(&files);
        self.examine(&archive, &self.options()).await.err().unwrap_or_default()
    }

    fn files(&self, folder: &str) -> Vec<(String, Vec<u8>)> {
        archives::unpack(self.zip).into_iter().filter(|(name, _)| name.contains(folder)).collect()
    }
}

#[tokio::test]
async fn each_foreign_release_is_accepted_with_its_artifacts() {
    for foreign in ALL {
        let accepted = foreign.examine(foreign.zip, &foreign.options()).await;
        let accepted = accepted.unwrap_or_else(|findings| panic!("{}: {findings:#?}", foreign.name));
        assert_eq!(accepted.system_version, foreign.system_version, "{}", foreign.name);
        let found: Vec<_> = accepted
            .artifacts
            .iter()
            .map(|one| (one.name.as_str(), one.kind.as_str(), one.target.as_str(), one.size))
            .collect();
        assert_eq!(found, foreign.artifacts, "{}", foreign.name);
        assert_eq!(accepted.warnings.len(), foreign.warnings, "{}: {:?}", foreign.name, accepted.warnings);
    }
}

#[tokio::test]
async fn foreign_roots_are_fit_to_be_trust_roots() {
    for foreign in ALL {
        assert_eq!(parse_trust_root(foreign.root_json).unwrap().version, 1, "{}", foreign.name);
    }
}

#[tokio::test]
async fn a_foreign_release_is_a_strangers_to_every_other_root() {
    for (index, foreign) in ALL.into_iter().enumerate() {
        let other = Foreign { root_json: ALL[(index + 1) % ALL.len()].root_json, ..foreign };
        let findings = other.examine(other.zip, &other.options()).await.unwrap_err();
        assert_eq!(findings[0].code, "unknown_root", "{}: {findings:#?}", other.name);
    }
}

#[tokio::test]
async fn expired_foreign_metadata_is_refused_where_expiry_is() {
    let expired = &ALL[2];
    let options = ExamineOptions { expiry: ExpiryPolicy::Deny, ..expired.options() };
    let findings = expired.examine(expired.zip, &options).await.unwrap_err();
    let codes: Vec<&str> = findings.iter().map(|finding| finding.code.as_str()).collect();
    assert_eq!(codes, ["metadata_expired"; 3], "{findings:#?}");
}

#[tokio::test]
async fn a_delegated_role_that_the_snapshot_does_not_name_is_missing() {
    let foreign = Foreign {
        name: "python-tuf, a delegation that the snapshot does not name",
        zip: fixture!("python-tuf-unnamed-delegation.zip"),
        root_json: fixture!("python-tuf-unnamed-delegation.root.json"),
        asked_version: Some("5.0.0"),
        ..ALL[0]
    };
    let findings = foreign.examine(foreign.zip, &foreign.options()).await.unwrap_err();
    assert_eq!(findings.len(), 1, "{findings:#?}");
    assert_eq!(findings[0].code, "metadata_missing");
    assert_eq!(findings[0].subject.as_deref(), Some("metadata/firmware.json"));
}

#[tokio::test]
async fn a_flipped_byte_in_any_foreign_target_is_found() {
    for foreign in ALL {
        for (name, content) in foreign.files("targets/") {
            let findings = foreign.examine_changed(&name, |bytes| bytes[content.len() / 2] ^= 1).await;
            assert_eq!(findings[0].code, "target_digest_mismatch", "{} {name}", foreign.name);
            // Also of artifacts.json: bytes that nobody signed describe nothing that could be wrong, too.
            assert_eq!(findings.len(), 1, "{} {name}: {findings:#?}", foreign.name);
            let findings = foreign.examine_changed(&name, |bytes| bytes.push(0)).await;
            assert_eq!(findings[0].code, "target_length_mismatch", "{} {name}", foreign.name);
        }
    }
}

#[tokio::test]
async fn a_changed_expiry_or_signature_in_any_foreign_metadata_is_a_bad_signature() {
    for foreign in ALL {
        for (name, content) in foreign.files("metadata/") {
            let text = String::from_utf8(content).unwrap();
            let expires = text.find("\"expires\":").unwrap();
            let year = expires + text[expires..].find("20").unwrap();
            let sig = text.find("\"sig\":").unwrap() + 6;
            let sig = sig + text[sig..].find('"').unwrap() + 1;
            for position in [year + 3, sig + 40] {
                let findings = foreign
                    .examine_changed(&name, |bytes| {
                        bytes[position] = if bytes[position] == b'1' { b'2' } else { b'1' }
                    })
                    .await;
                assert_eq!(findings[0].code, "bad_signature", "{} {name}: {findings:#?}", foreign.name);
            }
        }
    }
}

#[tokio::test]
async fn missing_foreign_metadata_is_named() {
    for foreign in ALL {
        for (name, _) in foreign.files("metadata/") {
            let files: Vec<_> =
                archives::unpack(foreign.zip).into_iter().filter(|(other, _)| *other != name).collect();
            let verdict = foreign.examine(&archives::pack(&files), &foreign.options()).await;
            // One root is enough: the trusted one leads to the keys of the other roles, which were not rotated.
            if foreign.name.contains("rotated") && name.ends_with(".root.json") {
                assert!(verdict.is_ok(), "{} {name}: {verdict:#?}", foreign.name);
                continue;
            }
            let findings = verdict.unwrap_err();
            assert_eq!(findings[0].code, "metadata_missing", "{} {name}: {findings:#?}", foreign.name);
        }
    }
}

#[tokio::test]
async fn no_byte_of_any_foreign_metadata_can_be_flipped_unnoticed() {
    // Every byte would take minutes; a step that is prime to common field lengths comes by every kind of place.
    const STEP: usize = 127;
    for foreign in ALL {
        for (name, content) in foreign.files("metadata/") {
            for position in (0..content.len()).step_by(STEP) {
                let findings = foreign.examine_changed(&name, |bytes| bytes[position] ^= 1).await;
                let first = findings.first().map_or("accepted", |finding| finding.code.as_str());
                assert!(
                    [
                        "metadata_invalid",
                        "metadata_missing",
                        "bad_signature",
                        "signature_threshold",
                        "unknown_root"
                    ]
                    .contains(&first),
                    "{} {name} byte {position}: {findings:#?}",
                    foreign.name
                );
            }
        }
    }
}
