//! What a repository's metadata promises: which targets, of which length and digest, until when.
//!
//! Taken out of `tough`'s tree of roles into one flat list. Whether the metadata is believed is decided before.

use crate::{findings::Findings, trust_root::hex};
use jiff::Timestamp;
use problem::Code;
use std::collections::BTreeMap;
use tough::schema::{Root, Signed, Snapshot, Target, Targets, Timestamp as TimestampRole};

/// One signed target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SignedTarget {
    /// Its bytes.
    pub(crate) length: u64,
    /// Its SHA-256.
    pub(crate) sha256: [u8; 32],
    /// Every signed digest, hexadecimal: each may stand in front of the file's name.
    pub(crate) digests: Vec<String>,
}

/// Everything that the metadata promises.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SignedTargets {
    /// Whether files are named by version and digest.
    pub(crate) consistent: bool,
    /// The targets by path, delegated ones included.
    pub(crate) targets: BTreeMap<String, SignedTarget>,
    /// Each role and when it expires.
    pub(crate) expiries: Vec<(String, Timestamp)>,
}

impl SignedTargets {
    /// Flattens the roles. `targets` holds its delegated roles inside.
    pub(crate) fn collect(
        root: &Root,
        timestamp: Option<&Signed<TimestampRole>>,
        snapshot: Option<&Signed<Snapshot>>,
        targets: Option<&Signed<Targets>>,
        findings: &mut Findings,
    ) -> SignedTargets {
        let mut flat = SignedTargets { consistent: root.consistent_snapshot, ..SignedTargets::default() };
        flat.expiries.push(("root".to_owned(), root.expires));
        flat.expiries.extend(timestamp.map(|role| ("timestamp".to_owned(), role.signed.expires)));
        flat.expiries.extend(snapshot.map(|role| ("snapshot".to_owned(), role.signed.expires)));
        if let Some(targets) = targets {
            flat.role("targets", &targets.signed, &targets.signed, findings);
        }
        flat
    }

    fn role(&mut self, name: &str, role: &Targets, top: &Targets, findings: &mut Findings) {
        self.expiries.push((name.to_owned(), role.expires));
        for target_name in role.targets.keys() {
            // The specification's search order decides which role speaks for a target that several name.
            if let Ok(target) = top.find_target(target_name, false)
                && !self.targets.contains_key(target_name.raw())
            {
                self.target(target_name.raw(), target, findings);
            }
        }
        for delegated in role.delegations.iter().flat_map(|delegations| &delegations.roles) {
            if let Some(targets) = &delegated.targets {
                self.role(&delegated.name, &targets.signed, top, findings);
            }
        }
    }

    fn target(&mut self, name: &str, target: &Target, findings: &mut Findings) {
        let digest: &[u8] = &target.hashes.sha256;
        let Ok(sha256) = <[u8; 32]>::try_from(digest) else {
            findings.about(
                Code::MetadataInvalid,
                name,
                format!("the signed sha256 of the target has {} bytes instead of 32", digest.len()),
            );
            return;
        };
        let mut digests = vec![hex(&sha256)];
        digests.extend(target.hashes._extra.values().filter_map(|digest| digest.as_str().map(str::to_owned)));
        self.targets.insert(name.to_owned(), SignedTarget { length: target.length, sha256, digests });
    }
}
