//! The sample release that the testbed uploads: 18 artifacts, 200 MiB, one of 64 MiB.

use crate::release::SampleRelease;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// Changes with every release: its version is the release's.
const EACH_RELEASE: Option<&str> = None;

/// (name, kind, bytes, compressible, version where it is not the release's). Images and firmware come compressed or
/// encrypted and do not compress again; programs do.
const ARTIFACTS: [(&str, &str, u64, bool, Option<&str>); 18] = [
    ("host-image", "host_image", 64 * MIB, false, EACH_RELEASE),
    ("recovery-image", "host_image", 32 * MIB, false, EACH_RELEASE),
    ("nexus", "service", 20 * MIB, true, EACH_RELEASE),
    ("sled-agent", "service", 16 * MIB, true, EACH_RELEASE),
    ("database", "service", 16 * MIB, true, Some("25.2.4")),
    ("guest-kernel", "guest_image", 10 * MIB, false, Some("6.12.41")),
    ("console", "service", 8 * MIB, true, EACH_RELEASE),
    ("pantry", "service", 8 * MIB, true, EACH_RELEASE),
    ("switch-firmware", "firmware", 6 * MIB, false, Some("4.0.2")),
    ("installer", "installer", 5 * MIB - 64 * KIB, false, EACH_RELEASE),
    ("bmc-firmware", "firmware", 4 * MIB, false, Some("2.14.0")),
    ("guest-firmware", "guest_image", 4 * MIB, true, Some("2025.2")),
    ("nic-firmware", "firmware", 3 * MIB, false, Some("7.1.0")),
    ("disk-firmware", "firmware", 2 * MIB, false, Some("1.0.9")),
    ("power-shelf-firmware", "firmware", MIB, false, Some("0.6.1")),
    ("root-of-trust-a", "root_of_trust", 512 * KIB, false, Some("1.3.0")),
    ("root-of-trust-b", "root_of_trust", 512 * KIB, false, Some("1.3.0")),
    ("measurement-corpus", "measurements", 64 * KIB, true, EACH_RELEASE),
];

impl SampleRelease {
    /// 18 artifacts of exactly 200 MiB in all, one of them 64 MiB, some compressible and some not. Releases of
    /// different versions share ten of them (firmware and other parts with a version of their own).
    #[must_use]
    pub fn standard(system_version: &str) -> SampleRelease {
        ARTIFACTS.iter().fold(
            SampleRelease::new(system_version),
            |release, (name, kind, size, compressible, version)| {
                release.seeded(name, version.unwrap_or(system_version), kind, *size, *compressible)
            },
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_standard_release_is_what_the_issue_asks_for() {
        let release = SampleRelease::standard("1.0.0");
        assert_eq!(release.artifacts().len(), 18);
        assert_eq!(release.size_bytes(), 200 * MIB);
        assert!(release.artifacts().iter().any(|artifact| artifact.content.size() == 64 * MIB));
        let compressible =
            release.artifacts().iter().filter(|artifact| artifact.content.is_compressible()).count();
        assert!((1..18).contains(&compressible));
        let names: BTreeSet<&str> =
            release.artifacts().iter().map(|artifact| artifact.name.as_str()).collect();
        assert_eq!(names.len(), 18);
    }

    #[test]
    fn two_versions_share_what_has_a_version_of_its_own() {
        let (one, two) = (SampleRelease::standard("1.0.0"), SampleRelease::standard("1.1.0"));
        let shared = one.artifacts().iter().filter(|artifact| two.artifacts().contains(artifact)).count();
        assert_eq!(shared, 10);
    }
}
