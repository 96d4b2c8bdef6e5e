//! Writes the four roles of a TUF repository. Pure but for the signatures.
//!
//! Specification 1.0: <https://theupdateframework.github.io/specification/v1.0.33/>. All versions are 1, but for a
//! rotated root. Defects of metadata are made here, before the file above pins the broken file's digest, so that
//! each shows as itself and not as a wrong digest.

use crate::{
    canonical_json::canonical_json,
    defect::{Defect, Role},
    keys::{Keys, RoleKeys, hex},
    release::SampleRelease,
};
use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

const SPEC_VERSION: &str = "1.0.31";

/// One signed target.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) path: String,
    pub(crate) length: u64,
    pub(crate) sha256: [u8; 32],
    /// Hexadecimal, where it is signed as well.
    pub(crate) sha512: Option<String>,
}

/// The metadata of one repository.
pub(crate) struct Metadata {
    /// File names within the metadata folder, and contents.
    pub(crate) files: Vec<(String, Vec<u8>)>,
    /// The root that operators add as their trust root.
    pub(crate) trust_root: Vec<u8>,
}

/// Signs a repository with these targets.
pub(crate) fn metadata(release: &SampleRelease, keys: &Keys, targets: &[Target]) -> Metadata {
    let writer = Writer { release };
    let mut files = Vec::new();
    let trust_root = writer.roots(keys, &mut files);
    let named = |role: Role| match release.consistent_snapshot {
        true => format!("1.{}.json", role.name()),
        false => format!("{}.json", role.name()),
    };
    let targets = writer.file(Role::Targets, json!({"targets": target_map(targets)}), &keys.targets);
    let pins = json!({"meta": {"targets.json": pin(&targets)}});
    let snapshot = writer.file(Role::Snapshot, pins, &keys.snapshot);
    let pins = json!({"meta": {"snapshot.json": pin(&snapshot)}});
    let timestamp = writer.file(Role::Timestamp, pins, &keys.timestamp);
    for (role, file, content) in [
        (Role::Targets, named(Role::Targets), targets),
        (Role::Snapshot, named(Role::Snapshot), snapshot),
        (Role::Timestamp, "timestamp.json".to_owned(), timestamp),
    ] {
        if !release.has(Defect::MetadataMissing(role)) {
            files.push((file, content));
        }
    }
    Metadata { files, trust_root }
}

struct Writer<'a> {
    release: &'a SampleRelease,
}

impl Writer<'_> {
    /// Writes the root, or the chain of two. Returns the one to trust.
    fn roots(&self, keys: &Keys, files: &mut Vec<(String, Vec<u8>)>) -> Vec<u8> {
        let mut chain = Vec::new();
        match &self.release.rotated_from {
            None => chain.push(self.root(1, keys, &[&keys.root])),
            Some(earlier) => {
                chain.push(self.root(1, earlier, &[&earlier.root]));
                chain.push(self.root(2, keys, &[&earlier.root, &keys.root]));
            }
        }
        // What the operator has is good, whatever becomes of the copy in the archive.
        let trust_root = pretty(&chain[0]);
        if !self.release.has(Defect::MetadataMissing(Role::Root)) {
            for (index, mut root) in chain.into_iter().enumerate() {
                self.spoil_signatures(Role::Root, &mut root);
                files.push((format!("{}.root.json", index + 1), self.spoil_bytes(Role::Root, pretty(&root))));
            }
        }
        trust_root
    }

    fn root(&self, version: u64, keys: &Keys, signers: &[&RoleKeys]) -> Value {
        let by_role = [
            (Role::Root, &keys.root),
            (Role::Timestamp, &keys.timestamp),
            (Role::Snapshot, &keys.snapshot),
            (Role::Targets, &keys.targets),
        ];
        let mut all_keys = Map::new();
        let mut roles = Map::new();
        for (role, keys) in by_role {
            for key in &keys.keys {
                all_keys.insert(key.id.clone(), key.public.clone());
            }
            let keyids: Vec<&str> = keys.keys.iter().map(|key| key.id.as_str()).collect();
            roles.insert(role.name().to_owned(), json!({"keyids": keyids, "threshold": keys.threshold}));
        }
        let fields = json!({
            "consistent_snapshot": self.release.consistent_snapshot,
            "keys": all_keys,
            "roles": roles,
        });
        signed(&self.body(Role::Root, version, fields), signers)
    }

    /// The bytes of one file of version 1.
    fn file(&self, role: Role, fields: Value, keys: &RoleKeys) -> Vec<u8> {
        let mut file = signed(&self.body(role, 1, fields), &[keys]);
        self.spoil_signatures(role, &mut file);
        self.spoil_bytes(role, pretty(&file))
    }

    fn body(&self, role: Role, version: u64, fields: Value) -> Value {
        let expires = match self.release.has(Defect::Expired(role)) {
            true => Timestamp::constant(1_577_836_800, 0),
            false => self.release.expires,
        };
        let mut body = fields;
        body["_type"] = role.name().into();
        body["spec_version"] = SPEC_VERSION.into();
        body["version"] = version.into();
        body["expires"] = expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
        body
    }

    fn spoil_signatures(&self, role: Role, file: &mut Value) {
        let Some(signatures) = file["signatures"].as_array_mut() else { return };
        if self.release.has(Defect::BadSignature(role)) {
            let spoiled = signatures[0]["sig"].as_str().map(|sig| {
                let other = if sig.starts_with('0') { "1" } else { "0" };
                format!("{other}{}", &sig[1..])
            });
            signatures[0]["sig"] = spoiled.into();
        }
        if self.release.has(Defect::ThresholdNotMet(role)) {
            signatures.pop();
        }
    }

    fn spoil_bytes(&self, role: Role, mut bytes: Vec<u8>) -> Vec<u8> {
        if self.release.has(Defect::MetadataNotJson(role)) {
            bytes.truncate(bytes.len() / 2);
        }
        bytes
    }
}

/// Signs with as many keys of each signer as its threshold asks for.
fn signed(body: &Value, signers: &[&RoleKeys]) -> Value {
    let canonical = canonical_json(body);
    let mut signatures: Vec<Value> = Vec::new();
    for role in signers {
        signatures.extend(role.keys.iter().take(role.threshold).map(|key| key.sign(&canonical)));
    }
    json!({"signed": body, "signatures": signatures})
}

fn target_map(targets: &[Target]) -> Value {
    let entries = targets.iter().map(|target| {
        let mut hashes = json!({"sha256": hex(&target.sha256)});
        if let Some(sha512) = &target.sha512 {
            hashes["sha512"] = sha512.as_str().into();
        }
        (target.path.clone(), json!({"length": target.length, "hashes": hashes}))
    });
    Value::Object(entries.collect())
}

/// What a file says about the file below it.
fn pin(content: &[u8]) -> Value {
    json!({
        "version": 1,
        "length": content.len(),
        "hashes": {"sha256": hex(digest(&SHA256, content).as_ref())},
    })
}

fn pretty(file: &Value) -> Vec<u8> {
    serde_json::to_vec_pretty(file).expect("a JSON value is JSON")
}
