//! `artifacts.json`: which of the signed targets are artifacts, and what they are called. Pure.
//!
//! ```json
//! {"system_version":"1.2.3","artifacts":[{"name":"nexus","version":"1.2.3","kind":"zone","target":"nexus.tar.gz"}]}
//! ```
//! Rules: fields that are not known are ignored (other programs add some); a target may be several artifacts, but
//! (name, version, kind) is unique; each target that is named must be signed; at least one artifact. Signed
//! targets that are not named are verified like all others, are no artifacts, and give a warning. Without the file every
//! target is an artifact: name = path, kind = `file`, version = system version, and the version must be given.

use crate::{
    findings::{Findings, Warnings},
    signed_targets::SignedTarget,
};
use ids::ArtifactHash;
use problem::Code;
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The target's name.
pub(crate) const ARTIFACTS_JSON: &str = "artifacts.json";
/// Its largest size, in bytes: some 20,000 artifacts.
pub(crate) const ARTIFACTS_JSON_BYTES_MAX: u64 = 4 << 20;
/// The kind of every artifact of a release without the file.
const KIND_FILE: &str = "file";
/// The longest name of an artifact, in characters: it is a column of a table and part of a log line.
const NAME_CHARS_MAX: usize = 255;
/// The longest version or kind, in characters, as `tufaceous` has it.
const WORD_CHARS_MAX: usize = 63;

/// What the release says that it is.
pub(crate) struct Described {
    /// Its version; `None` where it has none or a bad one, and then there is a finding.
    pub(crate) system_version: Option<String>,
    /// Its artifacts, sorted.
    pub(crate) artifacts: Vec<DescribedArtifact>,
}

/// One artifact, and what is signed of its target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct DescribedArtifact {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) target: String,
    pub(crate) hash: ArtifactHash,
    pub(crate) size: u64,
}

/// The file, as loosely typed as needed to report each entry by itself.
#[derive(Deserialize)]
struct Document {
    system_version: String,
    artifacts: Vec<Value>,
}

#[derive(Deserialize)]
struct Row {
    name: String,
    version: String,
    kind: String,
    target: String,
}

/// Whether the text may be a version: 1 to 63 characters of `A-Za-z0-9._+-`, and neither `.` nor `..`.
pub(crate) fn is_word(text: &str) -> bool {
    (1..=WORD_CHARS_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
        // It stands in paths, where these two mean something else.
        && !matches!(text, "." | "..")
}

/// Describes a release from the bytes of its `artifacts.json`.
pub(crate) fn describe(
    bytes: &[u8],
    targets: &BTreeMap<String, SignedTarget>,
    asked_version: Option<&str>,
    findings: &mut Findings,
    warnings: &mut Warnings,
) -> Described {
    let document: Document = match serde_json::from_slice(bytes) {
        Ok(document) => document,
        Err(error) => {
            findings.about(
                Code::ReleaseInvalid,
                ARTIFACTS_JSON,
                format!("the file can not be read: {error}"),
            );
            return Described { system_version: None, artifacts: Vec::new() };
        }
    };
    let version = document.system_version;
    if !is_word(&version) {
        invalid(findings, "system_version", format!("{version:?} is not a version: {WORD_RULE}"));
    }
    if let Some(asked) = asked_version.filter(|asked| *asked != version) {
        findings.add(
            Code::VersionMismatch,
            format!("the upload says version {asked:?}, artifacts.json says {version:?}"),
        );
    }
    let mut rows = Rows { targets, seen: BTreeSet::new(), named: BTreeSet::new(), artifacts: Vec::new() };
    for (position, value) in document.artifacts.into_iter().enumerate() {
        rows.row(position, value, findings);
    }
    if rows.seen.is_empty() && findings.is_empty() {
        invalid(findings, "artifacts", "the release has no artifacts");
    }
    for target in targets.keys().filter(|name| *name != ARTIFACTS_JSON && !rows.named.contains(*name)) {
        warnings.add(format!(
            "target {target} is signed, but artifacts.json does not name it: it is no artifact"
        ));
    }
    rows.artifacts.sort();
    Described { system_version: is_word(&version).then_some(version), artifacts: rows.artifacts }
}

/// Describes a release that has no `artifacts.json`.
pub(crate) fn describe_plain(
    targets: &BTreeMap<String, SignedTarget>,
    asked_version: Option<&str>,
    findings: &mut Findings,
) -> Described {
    let Some(version) = asked_version else {
        findings.add(Code::VersionMissing, "the release has no artifacts.json, so its version must be given");
        return Described { system_version: None, artifacts: Vec::new() };
    };
    if targets.is_empty() {
        invalid(findings, "targets", "the release has no targets, so it has no artifacts");
    }
    let artifacts = targets
        .iter()
        .map(|(name, target)| DescribedArtifact {
            name: name.clone(),
            version: version.to_owned(),
            kind: KIND_FILE.to_owned(),
            target: name.clone(),
            hash: ArtifactHash(target.sha256),
            size: target.length,
        })
        .collect();
    Described { system_version: Some(version.to_owned()), artifacts }
}

const WORD_RULE: &str = "1 to 63 characters of A-Z a-z 0-9 . _ + - were expected";

struct Rows<'a> {
    targets: &'a BTreeMap<String, SignedTarget>,
    seen: BTreeSet<(String, String, String)>,
    named: BTreeSet<String>,
    artifacts: Vec<DescribedArtifact>,
}

impl Rows<'_> {
    fn row(&mut self, position: usize, value: Value, findings: &mut Findings) {
        let place = format!("artifacts[{position}]");
        let row: Row = match serde_json::from_value(value) {
            Ok(row) => row,
            Err(error) => return invalid(findings, &place, format!("not an artifact: {error}")),
        };
        let name_chars = row.name.chars().count();
        if !(1..=NAME_CHARS_MAX).contains(&name_chars) || row.name.chars().any(char::is_control) {
            let rule = format!("1 to {NAME_CHARS_MAX} printable characters were expected");
            invalid(findings, &place, format!("{:?} is not a name: {rule}", row.name));
        }
        for (field, text) in [("version", &row.version), ("kind", &row.kind)] {
            if !is_word(text) {
                invalid(findings, &place, format!("{text:?} is not a {field}: {WORD_RULE}"));
            }
        }
        if !self.seen.insert((row.name.clone(), row.version.clone(), row.kind.clone())) {
            let which = format!("{} {} ({})", row.name, row.version, row.kind);
            invalid(findings, &place, format!("{which} stands twice"));
        }
        self.named.insert(row.target.clone());
        match self.targets.get(&row.target) {
            _ if row.target == ARTIFACTS_JSON => {
                invalid(findings, &place, "artifacts.json can not be an artifact itself");
            }
            None => invalid(findings, &place, format!("its target {:?} is not a signed target", row.target)),
            Some(target) => self.artifacts.push(DescribedArtifact {
                name: row.name,
                version: row.version,
                kind: row.kind,
                target: row.target,
                hash: ArtifactHash(target.sha256),
                size: target.length,
            }),
        }
    }
}

fn invalid(findings: &mut Findings, place: &str, detail: impl Into<String>) {
    findings.about(Code::ReleaseInvalid, format!("{ARTIFACTS_JSON}: {place}"), detail);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> BTreeMap<String, SignedTarget> {
        let target = SignedTarget { length: 3, sha256: [7; 32], digests: vec![] };
        ["a.bin", "b.bin", ARTIFACTS_JSON].map(|name| (name.to_owned(), target.clone())).into_iter().collect()
    }

    fn findings_of(json: &str) -> Vec<String> {
        let mut findings = Findings::default();
        describe(json.as_bytes(), &targets(), None, &mut findings, &mut Warnings::default());
        findings.into_sorted().into_iter().map(|finding| finding.detail).collect()
    }

    fn with_rows(rows: &str) -> String {
        format!(r#"{{"system_version":"1.0.0","artifacts":[{rows}],"metadata":{{"x":1}}}}"#)
    }

    const GOOD: &str = r#"{"name":"a","version":"1","kind":"zone","target":"a.bin","tags":[]}"#;

    #[test]
    fn unknown_fields_are_tolerated_and_an_unnamed_target_is_a_warning() {
        let (mut findings, mut warnings) = (Findings::default(), Warnings::default());
        let described =
            describe(with_rows(GOOD).as_bytes(), &targets(), Some("1.0.0"), &mut findings, &mut warnings);
        assert!(findings.is_empty());
        assert_eq!(described.system_version.as_deref(), Some("1.0.0"));
        assert_eq!(described.artifacts.len(), 1);
        assert_eq!(described.artifacts[0].hash, ArtifactHash([7; 32]));
        let warnings = warnings.into_texts();
        assert!(warnings.len() == 1 && warnings[0].contains("b.bin"), "{warnings:?}");
    }

    #[test]
    fn each_fault_of_the_file_is_found() {
        let long = "v".repeat(64);
        for (json, words) in [
            ("nonsense".to_owned(), "can not be read"),
            (r#"{"system_version":"1.0.0"}"#.to_owned(), "missing field `artifacts`"),
            (with_rows(""), "no artifacts"),
            (with_rows(GOOD).replace("1.0.0", "1 0"), "not a version"),
            (with_rows(GOOD).replace("1.0.0", ""), "not a version"),
            (with_rows(GOOD).replace("1.0.0", &long), "not a version"),
            (with_rows(&GOOD.replace("zone", "")), "not a kind"),
            (with_rows(&GOOD.replace(r#""name":"a""#, r#""name":"""#)), "not a name"),
            (with_rows(&GOOD.replace(r#""name":"a""#, r#""name":7"#)), "not an artifact"),
            (with_rows(&GOOD.replace("a.bin", "c.bin")), "not a signed target"),
            (with_rows(&GOOD.replace("a.bin", ARTIFACTS_JSON)), "artifact itself"),
            (with_rows(&format!("{GOOD},{GOOD}")), "stands twice"),
        ] {
            let found = findings_of(&json);
            assert!(found.iter().any(|detail| detail.contains(words)), "{json}: {found:?}");
        }
    }

    #[test]
    fn all_bad_rows_are_reported_together() {
        let rows = format!("{},{},7", GOOD.replace("a.bin", "c.bin"), GOOD.replace("zone", "a b"));
        assert_eq!(findings_of(&with_rows(&rows)).len(), 3);
    }

    #[test]
    fn the_version_must_agree_with_the_one_asked_for() {
        let mut findings = Findings::default();
        describe(
            with_rows(GOOD).as_bytes(),
            &targets(),
            Some("2.0.0"),
            &mut findings,
            &mut Warnings::default(),
        );
        assert!(findings.has(Code::VersionMismatch));
    }

    #[test]
    fn without_the_file_every_target_is_an_artifact_of_the_given_version() {
        let mut findings = Findings::default();
        let described = describe_plain(&targets(), Some("3.1"), &mut findings);
        assert_eq!(described.artifacts.len(), 3);
        assert!(
            described.artifacts.iter().all(|artifact| artifact.kind == "file" && artifact.version == "3.1")
        );
        describe_plain(&targets(), None, &mut findings);
        assert!(findings.has(Code::VersionMissing));
    }
}
