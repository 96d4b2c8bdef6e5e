//! What a repository's metadata promises: which targets, of which length and digest, until when.
//!
//! Taken out of `tough`'s tree of roles into one flat list. Whether the metadata is believed is decided before.

use crate::{entry_name::shown, findings::Findings, hex::hex};
use jiff::Timestamp;
use problem::Code;
use std::collections::BTreeMap;
use tough::schema::{Root, Signed, Snapshot, Target, Targets, Timestamp as TimestampRole};
use unicode_normalization::is_nfc;

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
        if let Err(reason) = check_target_name(name) {
            findings.about(Code::MetadataInvalid, shown(name.as_bytes()), reason);
            return;
        }
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

/// Checks that a target's name means one thing. It becomes an artifact's name, goes to terminals, and is looked for in
/// the archive byte by byte.
///
/// Canonical JSON, over which signatures are made, is in Unicode's composed form (NFC) for `tough`: a name in another
/// form could be changed into its sibling without breaking a signature, and two names of one release could look alike.
/// So only that form is accepted. What `python-tuf` and `tuftool` write from a Linux file system is in it.
fn check_target_name(name: &str) -> Result<(), String> {
    if name.chars().any(char::is_control) {
        return Err("the target's name has a control character".to_owned());
    }
    if !is_nfc(name) {
        return Err("the target's name is not in Unicode's composed form (NFC)".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_one_spelling_and_nothing_that_moves_a_cursor() {
        for good in ["a.bin", "firmware/nic v2.bin", "targets/\u{e9}", "\u{65e5}\u{672c}"] {
            assert_eq!(check_target_name(good), Ok(()), "{good:?}");
        }
        for bad in ["e\u{301}.bin", "a\u{1b}[2J", "a\nb", "\u{212b}"] {
            assert!(check_target_name(bad).is_err(), "{bad:?}");
        }
    }
}
