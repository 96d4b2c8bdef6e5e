//! Says why `tough` refuses a repository: everything, file by file, in words that name who must act.
//!
//! `tough` stops at the first fault and decides alone whether metadata is believed; this room is asked only after
//! it has said no. It walks the same way through the same files, but goes on after a fault, so that one upload
//! answers every question:
//!
//! ```text
//! trusted root N ──> N+1.root.json ──> … ──> newest root
//!                                               │ keys of each role
//!             timestamp.json <──────────────────┤
//!                   │ version, digest           │
//!             [n.]snapshot.json <───────────────┤
//!                   │ version, digest           │
//!             [n.]targets.json <────────────────┘
//!                   │ keys of each delegation
//!             [n.]<delegated>.json …
//! ```
//! Where a file is missing the walk guesses its version from the names in the archive, to look at the rest.

use crate::{
    findings::Findings,
    hex::hex,
    metadata_files::{Lookup, MetadataFiles, is_of_role},
    signatures::{SignatureCheck, check_with_delegation, check_with_root},
    signed_targets::SignedTargets,
};
use bytes::Bytes;
use problem::Code;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use std::{collections::BTreeSet, fmt::Write as _};
use tough::schema::{Metafile, Role, RoleType, Root, Signed, Snapshot, Targets, Timestamp};

/// Delegations below delegations that are followed. Two levels are what anybody uses.
const DELEGATION_DEPTH_MAX: usize = 8;

/// What the walk found with one trusted root.
pub(crate) struct Diagnosis {
    /// What is wrong, as seen from that root.
    pub(crate) findings: Findings,
    /// No key of that root, or of those it leads to, signed anything here.
    pub(crate) is_stranger: bool,
    /// What the files promise, believed or not: enough to check targets against.
    pub(crate) promised: SignedTargets,
}

/// Walks through the metadata as seen from `trusted`.
pub(crate) fn diagnose(files: &MetadataFiles, trusted: Signed<Root>) -> Diagnosis {
    let mut walk = Walk { files, findings: Findings::default(), known: 0, strangers: Vec::new() };
    let root = walk.newest_root(trusted);
    let timestamp = walk.timestamp(&root.signed);
    let snapshot = walk.snapshot(&root.signed, timestamp.as_ref());
    let targets = walk.targets(&root.signed, snapshot.as_ref());
    let promised = SignedTargets::collect(
        &root.signed,
        timestamp.as_ref(),
        snapshot.as_ref(),
        targets.as_ref(),
        &mut walk.findings,
    );
    walk.finish(promised)
}

struct Walk<'a> {
    files: &'a MetadataFiles,
    findings: Findings,
    /// Files that some key of their role signed.
    known: usize,
    /// Files that no key of their role signed.
    strangers: Vec<(String, SignatureCheck)>,
}

impl Walk<'_> {
    /// Follows the chain of rotations. A root that is badly signed is reported and followed, or everything
    /// that its keys signed would be reported as well.
    fn newest_root(&mut self, trusted: Signed<Root>) -> Signed<Root> {
        let mut root = trusted;
        loop {
            let Some(next_version) = root.signed.version.get().checked_add(1) else { return root };
            let file = format!("{next_version}.root.json");
            let Lookup::Present(content) = self.files.get(&file) else { return root };
            // The archive's own roots have been checked by themselves; here only the step between two counts.
            let Ok(next) = serde_json::from_slice::<Signed<Root>>(content) else { return root };
            let check = check_with_root(&root.signed, &next);
            let is_stranger = matches!(check, SignatureCheck::Stranger { .. });
            self.note(&file, check);
            if next.signed.version.get() != next_version {
                self.wrong(&file, format!("the file says that it is version {}", next.signed.version));
                return root;
            }
            if is_stranger {
                return root;
            }
            root = next;
        }
    }

    fn timestamp(&mut self, root: &Root) -> Option<Signed<Timestamp>> {
        let file = "timestamp.json";
        let (timestamp, _) = self.load::<Timestamp>(file)?;
        let check = check_with_root(root, &timestamp);
        self.note(file, check);
        if timestamp.signed.meta.len() != 1 || !timestamp.signed.meta.contains_key("snapshot.json") {
            self.wrong(file, "it must name snapshot.json and nothing else");
        }
        Some(timestamp)
    }

    fn snapshot(&mut self, root: &Root, timestamp: Option<&Signed<Timestamp>>) -> Option<Signed<Snapshot>> {
        let pin = timestamp.and_then(|timestamp| timestamp.signed.meta.get("snapshot.json"));
        let file = self.file_of(root, "snapshot", pin);
        let (snapshot, content) = self.load::<Snapshot>(&file)?;
        let check = check_with_root(root, &snapshot);
        self.pinned(&file, &check, &content, snapshot.signed.version.get(), pin);
        self.note(&file, check);
        if !snapshot.signed.meta.contains_key("targets.json") {
            self.wrong(&file, "it does not name targets.json");
        }
        Some(snapshot)
    }

    fn targets(&mut self, root: &Root, snapshot: Option<&Signed<Snapshot>>) -> Option<Signed<Targets>> {
        let pin = snapshot.and_then(|snapshot| snapshot.signed.meta.get("targets.json"));
        let file = self.file_of(root, "targets", pin);
        let (mut targets, content) = self.load::<Targets>(&file)?;
        let check = check_with_root(root, &targets);
        self.pinned(&file, &check, &content, targets.signed.version.get(), pin);
        self.note(&file, check);
        if let Some(snapshot) = snapshot {
            self.delegations(root, &snapshot.signed, &mut targets, &mut BTreeSet::new(), 0);
        }
        Some(targets)
    }

    /// Loads the delegated roles into the tree, each once.
    fn delegations(
        &mut self,
        root: &Root,
        snapshot: &Snapshot,
        targets: &mut Signed<Targets>,
        loaded: &mut BTreeSet<String>,
        depth: usize,
    ) {
        let Some(delegations) = &mut targets.signed.delegations else { return };
        if depth == DELEGATION_DEPTH_MAX && !delegations.roles.is_empty() {
            self.findings.add(
                Code::MetadataInvalid,
                format!("delegations go deeper than the {DELEGATION_DEPTH_MAX} levels that are accepted"),
            );
            return;
        }
        let names: Vec<String> = delegations.roles.iter().map(|role| role.name.clone()).collect();
        for (position, name) in names.iter().enumerate() {
            if !loaded.insert(name.clone()) {
                continue;
            }
            let encoded = encode_role_name(name);
            let Some(pin) = snapshot.meta.get(&format!("{name}.json")) else {
                let subject = self.files.entry_name(&format!("{encoded}.json"));
                self.findings.about(
                    Code::MetadataMissing,
                    subject,
                    format!("the snapshot does not name the delegated role {name:?}"),
                );
                continue;
            };
            let file = self.file_of(root, &encoded, Some(pin));
            let Some((mut role, content)) = self.load::<Targets>(&file) else { continue };
            let check = check_with_delegation(delegations, name, &role);
            self.pinned(&file, &check, &content, role.signed.version.get(), Some(pin));
            self.note(&file, check);
            self.delegations(root, snapshot, &mut role, loaded, depth + 1);
            delegations.roles[position].targets = Some(role);
        }
    }

    /// The name of a role's file: as the file above says, or the newest in the archive where nothing says.
    fn file_of(&self, root: &Root, role: &str, pin: Option<&Metafile>) -> String {
        match pin {
            Some(pin) if root.consistent_snapshot => format!("{}.{role}.json", pin.version),
            None => match self.files.versions_of(role).last() {
                Some((file, _)) => (*file).to_owned(),
                None => format!("{role}.json"),
            },
            Some(_) => format!("{role}.json"),
        }
    }

    fn load<T: Role + DeserializeOwned>(&mut self, file: &str) -> Option<(Signed<T>, Bytes)> {
        let content = match self.files.get(file) {
            Lookup::Present(content) => content.clone(),
            Lookup::Unreadable => return None,
            Lookup::Missing => {
                let subject = self.files.entry_name(file);
                let detail = format!("{subject} is not in the archive");
                self.findings.about(Code::MetadataMissing, subject, detail);
                return None;
            }
        };
        match serde_json::from_slice(&content) {
            Ok(parsed) => {
                let role = match T::TYPE {
                    RoleType::Timestamp => "timestamp",
                    RoleType::Snapshot => "snapshot",
                    _ => "targets",
                };
                if !is_of_role(&content, role) {
                    self.wrong(file, format!("it does not say that it is of the role {role}"));
                }
                Some((parsed, content))
            }
            Err(error) => {
                self.wrong(file, format!("this is not TUF metadata of its role: {error}"));
                None
            }
        }
    }

    /// Whether the file is the one that the file above it names. A file with a broken signature has been
    /// changed, so its digest differs too: that is not a second fault.
    fn pinned(
        &mut self,
        file: &str,
        check: &SignatureCheck,
        content: &[u8],
        version: u64,
        pin: Option<&Metafile>,
    ) {
        let Some(pin) = pin.filter(|_| !matches!(check, SignatureCheck::Broken { .. })) else { return };
        if version != pin.version.get() {
            self.wrong(file, format!("it is version {version}, the file above it names {}", pin.version));
            return;
        }
        if pin.length.is_some_and(|length| content.len() as u64 > length) {
            self.wrong(file, format!("it has {} bytes, more than the file above it allows", content.len()));
            return;
        }
        let found = Sha256::digest(content);
        if let Some(hashes) = &pin.hashes
            && *hashes.sha256 != found[..]
        {
            let mut detail = format!("its SHA-256 is {}", hex(&found));
            let _ = write!(detail, ", the file above it names {}", hex(&hashes.sha256));
            self.wrong(file, detail);
        }
    }

    fn wrong(&mut self, file: &str, detail: impl Into<String>) {
        self.findings.about(Code::MetadataInvalid, self.files.entry_name(file), detail);
    }

    fn note(&mut self, file: &str, check: SignatureCheck) {
        match check {
            SignatureCheck::Enough => self.known += 1,
            SignatureCheck::Stranger { .. } => self.strangers.push((file.to_owned(), check)),
            fault => {
                self.known += 1;
                self.findings.about(fault.code(), self.files.entry_name(file), fault.reason());
            }
        }
    }

    fn finish(mut self, promised: SignedTargets) -> Diagnosis {
        let is_stranger = self.known == 0 && !self.strangers.is_empty();
        if !is_stranger {
            for (file, check) in std::mem::take(&mut self.strangers) {
                self.findings.about(check.code(), self.files.entry_name(&file), check.reason());
            }
        }
        Diagnosis { findings: self.findings, is_stranger, promised }
    }
}

/// The name of a delegated role as it stands in file names: everything but letters, digits and `_.-~` is
/// percent-encoded, as the specification's reference implementation does.
fn encode_role_name(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"_.-~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_names_are_encoded_as_in_file_names() {
        assert_eq!(encode_role_name("project-1_a.b~"), "project-1_a.b~");
        assert_eq!(encode_role_name("../a b"), "..%2Fa%20b");
    }
}
