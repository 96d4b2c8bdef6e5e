//! How many keys and signatures may be looked at, and that no key counts twice. Pure; no cryptography.
//!
//! A key id is the digest of how a key is *written*, so one key has as many ids as there are ways to write it (a field
//! more, PEM or hexadecimal). The TUF specification asks that a threshold counts keys; `tough` counts ids.
//! So a role that lists one key under two ids is refused: whoever wrote it did not mean what it says.

use crate::hex::hex;
use serde::{Deserialize, de::IgnoredAny};
use std::collections::BTreeMap;
use tough::schema::{
    Root,
    decoded::{Decoded, Hex},
    key::Key,
};

/// Keys of one role, and signatures of one file, at most. Each signature costs a verification, in milliseconds for RSA;
/// real roles have fewer than ten.
const KEYS_MAX: usize = 64;

/// Checks that a file does not have more signatures than are looked at. A file that cannot be read is others' matter.
///
/// # Errors
/// The reason.
pub(crate) fn check_signature_count(file: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Signatures {
        signatures: Vec<IgnoredAny>,
    }
    let count = serde_json::from_slice::<Signatures>(file).map_or(0, |file| file.signatures.len());
    if count > KEYS_MAX {
        return Err(format!("the file has {count} signatures, {KEYS_MAX} are accepted"));
    }
    Ok(())
}

/// Checks the keys of each role of a root.
///
/// # Errors
/// The reason.
pub(crate) fn check_root(root: &Root) -> Result<(), String> {
    let faults = root.roles.iter().filter_map(|(role, keys)| {
        let fault = check_role(&keys.keyids, |keyid| root.keys.get(keyid)).err()?;
        Some(format!("the {role} role: {fault}"))
    });
    // The roles stand in a hash map: the first in order of words, so that the same file gives the same answer.
    faults.min().map_or(Ok(()), Err)
}

/// Checks the keys of one role.
///
/// # Errors
/// The reason.
pub(crate) fn check_role<'a>(
    keyids: &[Decoded<Hex>],
    key_of: impl Fn(&Decoded<Hex>) -> Option<&'a Key>,
) -> Result<(), String> {
    if keyids.len() > KEYS_MAX {
        return Err(format!("it has {} keys, {KEYS_MAX} are accepted", keyids.len()));
    }
    let mut seen: BTreeMap<Vec<u8>, &Decoded<Hex>> = BTreeMap::new();
    for keyid in keyids {
        let Some(key) = key_of(keyid) else { continue };
        match seen.insert(material(key), keyid) {
            Some(other) if other != keyid => {
                let short = |keyid: &Decoded<Hex>| hex(keyid).chars().take(12).collect::<String>();
                return Err(format!("keys {} and {} are one key", short(other), short(keyid)));
            }
            _ => {}
        }
    }
    Ok(())
}

/// What makes a key that key, however it is written.
fn material(key: &Key) -> Vec<u8> {
    /// Bytes of a coordinate of the curve P-256.
    const COORDINATE_BYTES: usize = 32;
    match key {
        Key::Rsa { keyval, .. } => keyval.public.to_vec(),
        Key::Ed25519 { keyval, .. } => keyval.public.to_vec(),
        // A point is written as a byte that tells the form, x, and in most forms y. Keys of one x have one holder.
        Key::Ecdsa { keyval, .. } | Key::EcdsaOld { keyval, .. } => {
            keyval.public.iter().skip(1).take(COORDINATE_BYTES).copied().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse_trust_root;
    use sample_release::{Keys, SampleRelease};
    use serde_json::{Value, json};
    use sha2::{Digest, Sha256};
    use tough::schema::{RoleType, Signed};

    fn root() -> Value {
        root_of(&Keys::generate().unwrap())
    }

    fn root_of(keys: &Keys) -> Value {
        let dir = camino_tempfile::tempdir().unwrap();
        let made = SampleRelease::small("1").make(keys, &dir.path().join("release.zip")).unwrap();
        serde_json::from_slice(&made.root_json).unwrap()
    }

    /// The root with the one key of its root role under a second id as well, and a threshold of two.
    fn with_one_key_twice() -> Value {
        let mut root = root();
        let keyid = root["signed"]["roles"]["root"]["keyids"][0].as_str().unwrap().to_owned();
        let mut key = root["signed"]["keys"][&keyid].clone();
        key["note"] = json!("again");
        // Canonical JSON of plain ASCII: keys in order, no white space.
        let again = hex(&Sha256::digest(serde_json::to_vec(&key).unwrap()));
        root["signed"]["keys"][&again] = key;
        root["signed"]["roles"]["root"] = json!({"keyids": [keyid, again], "threshold": 2});
        root
    }

    #[test]
    fn one_key_under_two_ids_is_refused_where_it_would_count_twice() {
        let finding = parse_trust_root(with_one_key_twice().to_string().as_bytes()).unwrap_err();
        assert_eq!(finding.code, "root_invalid");
        assert!(finding.detail.contains("the root role: keys"), "{finding:?}");
        assert!(finding.detail.contains("are one key"), "{finding:?}");
    }

    #[test]
    fn several_keys_and_one_key_for_several_roles_are_fine() {
        let mut root = root();
        root["signed"]["roles"]["timestamp"] = root["signed"]["roles"]["root"].clone();
        let root: Signed<Root> = serde_json::from_value(root).unwrap();
        check_root(&root.signed).unwrap();
        assert!(root.signed.roles.contains_key(&RoleType::Timestamp));
    }

    #[test]
    fn more_keys_or_signatures_than_are_looked_at_are_refused() {
        let mut many_signatures = root();
        let signature = many_signatures["signatures"][0].clone();
        many_signatures["signatures"] = vec![signature; KEYS_MAX + 1].into();
        let reason = check_signature_count(many_signatures.to_string().as_bytes()).unwrap_err();
        assert!(reason.contains("65 signatures"), "{reason}");
        let mut many_keys = root();
        let ids: Vec<String> = (0..=KEYS_MAX).map(|number| format!("{number:064x}")).collect();
        many_keys["signed"]["roles"]["targets"]["keyids"] = ids.into();
        let finding = parse_trust_root(many_keys.to_string().as_bytes()).unwrap_err();
        assert!(finding.detail.contains("65 keys"), "{finding:?}");
    }

    #[test]
    fn a_version_that_no_database_keeps_is_refused() {
        let keys = Keys::generate().unwrap();
        let mut root = root_of(&keys);
        root["signed"]["version"] = json!(1_u64 << 63);
        let root = keys.sign_root(&root["signed"]).to_string();
        let finding = parse_trust_root(root.as_bytes()).unwrap_err();
        assert!(finding.detail.contains("9223372036854775807"), "{finding:?}");
    }
}
