//! What a release consists of: a plain description, to be built up and then made.

use crate::{content::Content, defect::Defect, keys::Keys};
use jiff::{Timestamp, ToSpan};

/// A release that can be made.
#[derive(Clone, Debug)]
pub struct SampleRelease {
    pub(crate) system_version: String,
    pub(crate) artifacts: Vec<Artifact>,
    pub(crate) consistent_snapshot: bool,
    pub(crate) sha512_names: bool,
    pub(crate) describes_artifacts: bool,
    pub(crate) outer_folder: bool,
    pub(crate) expires: Timestamp,
    pub(crate) rotated_from: Option<Keys>,
    pub(crate) defects: Vec<Defect>,
}

/// One artifact of a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// Its kind.
    pub kind: String,
    /// Its target's path in the repository.
    pub target: String,
    /// Its bytes.
    pub content: Content,
}

impl SampleRelease {
    /// A release without artifacts as yet, valid for ten years.
    #[must_use]
    pub fn new(system_version: impl Into<String>) -> SampleRelease {
        SampleRelease {
            system_version: system_version.into(),
            artifacts: Vec::new(),
            consistent_snapshot: false,
            sha512_names: false,
            describes_artifacts: true,
            outer_folder: true,
            expires: in_ten_years(),
            rotated_from: None,
            defects: Vec::new(),
        }
    }

    /// A release for tests that are not about size: three artifacts of some KiB, one of them the same in every
    /// version.
    #[must_use]
    pub fn small(system_version: &str) -> SampleRelease {
        SampleRelease::new(system_version)
            .seeded("nexus", system_version, "service", 24 << 10, true)
            .seeded("sled-agent", system_version, "service", 16 << 10, false)
            .seeded("nic-firmware", "7.1.0", "firmware", 5_000, false)
    }

    /// Adds an artifact.
    #[must_use]
    pub fn artifact(mut self, artifact: Artifact) -> SampleRelease {
        self.artifacts.push(artifact);
        self
    }

    /// Adds an artifact whose bytes follow from its name and version: the same in every release that has it.
    #[must_use]
    pub fn seeded(
        self,
        name: &str,
        version: &str,
        kind: &str,
        size: u64,
        compressible: bool,
    ) -> SampleRelease {
        self.artifact(Artifact {
            name: name.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            target: format!("{name}-{version}.bin"),
            content: Content::named(&format!("{name} {version}"), size, compressible),
        })
    }

    /// Names files by version and digest.
    #[must_use]
    pub fn with_consistent_snapshot(mut self) -> SampleRelease {
        self.consistent_snapshot = true;
        self
    }

    /// Names files by version and digest, and targets by their SHA-512, which is signed beside the SHA-256: the
    /// specification leaves the choice to the publisher.
    #[must_use]
    pub fn with_sha512_names(mut self) -> SampleRelease {
        self.sha512_names = true;
        self.with_consistent_snapshot()
    }

    /// Leaves `artifacts.json` out: every target is an artifact, and the upload must say the version.
    #[must_use]
    pub fn without_artifacts_json(mut self) -> SampleRelease {
        self.describes_artifacts = false;
        self
    }

    /// Leaves the `repo/` around `metadata/` and `targets/` out.
    #[must_use]
    pub fn without_outer_folder(mut self) -> SampleRelease {
        self.outer_folder = false;
        self
    }

    /// Sets when all metadata expires.
    #[must_use]
    pub fn expiring(mut self, expires: Timestamp) -> SampleRelease {
        self.expires = expires;
        self
    }

    /// The publisher has changed its keys: the trust root (version 1) is by `earlier`, everything else by the keys
    /// that make the release, with a version 2 of the root in the archive that links the two.
    #[must_use]
    pub fn rotated_from(mut self, earlier: Keys) -> SampleRelease {
        self.rotated_from = Some(earlier);
        self
    }

    /// Breaks it. Several defects add up.
    #[must_use]
    pub fn with_defect(mut self, defect: Defect) -> SampleRelease {
        self.defects.push(defect);
        self
    }

    /// Its version.
    #[must_use]
    pub fn system_version(&self) -> &str {
        &self.system_version
    }

    /// Its artifacts.
    #[must_use]
    pub fn artifacts(&self) -> &[Artifact] {
        &self.artifacts
    }

    /// Bytes of all its artifacts.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.artifacts.iter().map(|artifact| artifact.content.size()).sum()
    }

    pub(crate) fn has(&self, defect: Defect) -> bool {
        self.defects.contains(&defect)
    }
}

/// Whole seconds, as metadata is written.
fn in_ten_years() -> Timestamp {
    let now =
        Timestamp::from_second(Timestamp::now().as_second()).expect("a time without its fraction is a time");
    now.checked_add((10 * 365 * 24).hours()).expect("ten years from now can be represented")
}
