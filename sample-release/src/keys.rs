//! Who signs: ed25519 keys for the four roles of a TUF repository.
//!
//! Made on the spot for one testbed; nobody should ever trust them for anything else. They can be written to a
//! file (readable by its owner only) so that a second release can be signed by the same publisher.

use crate::canonical_json::canonical_json;
use aws_lc_rs::{
    digest::{SHA256, digest},
    error::Unspecified,
    rand::{SecureRandom, SystemRandom},
    signature::{Ed25519KeyPair, KeyPair},
};
use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{
    fmt, fs,
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    sync::Arc,
};
use thiserror::Error;

/// The keys of one publisher.
#[derive(Clone, Debug)]
pub struct Keys {
    pub(crate) root: RoleKeys,
    pub(crate) timestamp: RoleKeys,
    pub(crate) snapshot: RoleKeys,
    pub(crate) targets: RoleKeys,
}

/// The keys of one role, and how many of them must sign.
#[derive(Clone, Debug)]
pub(crate) struct RoleKeys {
    pub(crate) keys: Vec<Arc<Key>>,
    pub(crate) threshold: usize,
}

/// One key.
pub(crate) struct Key {
    seed: [u8; 32],
    pair: Ed25519KeyPair,
    /// The key as metadata shows it.
    pub(crate) public: Value,
    /// SHA-256 of that, hexadecimal.
    pub(crate) id: String,
}

/// Why keys could not be made, written or read.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The system gave no randomness.
    #[error("the system gave no random bytes for a key")]
    Randomness,
    /// No threshold of this kind can be met.
    #[error("{threshold} of {per_role} keys can not sign: at least one, at most all were expected")]
    Threshold {
        /// Keys of each role.
        per_role: usize,
        /// How many of them were to sign.
        threshold: usize,
    },
    /// The file could not be read or written.
    #[error("the key file {path} could not be read or written")]
    File {
        /// The file.
        path: Utf8PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The file holds something else.
    #[error("{path} is not a key file: {reason}")]
    NotKeys {
        /// The file.
        path: Utf8PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// The key file: seeds, hexadecimal.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    threshold: usize,
    root: Vec<String>,
    timestamp: Vec<String>,
    snapshot: Vec<String>,
    targets: Vec<String>,
}

impl Keys {
    /// A new publisher: one key per role.
    ///
    /// # Errors
    /// [`KeysError::Randomness`].
    pub fn generate() -> Result<Keys, KeysError> {
        Keys::generate_with(1, 1)
    }

    /// A new publisher with several keys per role, of which `threshold` must sign.
    ///
    /// # Errors
    /// [`KeysError::Randomness`], [`KeysError::Threshold`].
    pub fn generate_with(per_role: usize, threshold: usize) -> Result<Keys, KeysError> {
        if threshold == 0 || threshold > per_role {
            return Err(KeysError::Threshold { per_role, threshold });
        }
        let random = SystemRandom::new();
        let role = || -> Result<RoleKeys, KeysError> {
            let keys = (0..per_role).map(|_| {
                let mut seed = [0u8; 32];
                random.fill(&mut seed).map_err(|Unspecified| KeysError::Randomness)?;
                Ok(Arc::new(Key::from_seed(seed)))
            });
            Ok(RoleKeys { keys: keys.collect::<Result<_, KeysError>>()?, threshold })
        };
        Ok(Keys { root: role()?, timestamp: role()?, snapshot: role()?, targets: role()? })
    }

    /// The file of a root with this body (what stands under `signed`), signed with as many root keys as sign.
    #[must_use]
    pub fn sign_root(&self, body: &Value) -> Value {
        let canonical = canonical_json(body);
        let signers = self.root.keys.iter().take(self.root.threshold);
        let signatures: Vec<Value> = signers.map(|key| key.sign(&canonical)).collect();
        json!({"signed": body, "signatures": signatures})
    }

    /// Writes the keys to a new file that only its owner may read.
    ///
    /// # Errors
    /// [`KeysError::File`], also where the file exists.
    pub fn save(&self, path: &Utf8Path) -> Result<(), KeysError> {
        let seeds = |role: &RoleKeys| role.keys.iter().map(|key| hex(&key.seed)).collect();
        let file = KeyFile {
            threshold: self.root.threshold,
            root: seeds(&self.root),
            timestamp: seeds(&self.timestamp),
            snapshot: seeds(&self.snapshot),
            targets: seeds(&self.targets),
        };
        let text = serde_json::to_vec_pretty(&file).expect("strings and a number are JSON");
        let mut options = fs::OpenOptions::new();
        options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .and_then(|mut file| file.write_all(&text))
            .map_err(|source| KeysError::File { path: path.to_owned(), source })
    }

    /// Reads keys that [`Keys::save`] wrote.
    ///
    /// # Errors
    /// [`KeysError::File`], [`KeysError::NotKeys`].
    pub fn load(path: &Utf8Path) -> Result<Keys, KeysError> {
        let text = fs::read(path).map_err(|source| KeysError::File { path: path.to_owned(), source })?;
        let not_keys = |reason: String| KeysError::NotKeys { path: path.to_owned(), reason };
        let file: KeyFile = serde_json::from_slice(&text).map_err(|error| not_keys(error.to_string()))?;
        let role = |seeds: &[String]| {
            if file.threshold == 0 || file.threshold > seeds.len() {
                return Err(not_keys(format!("{} of {} keys can not sign", file.threshold, seeds.len())));
            }
            let keys = seeds.iter().map(|seed| {
                let seed =
                    unhex(seed).ok_or_else(|| not_keys("a seed is not 64 hexadecimal digits".to_owned()))?;
                Ok(Arc::new(Key::from_seed(seed)))
            });
            Ok(RoleKeys { keys: keys.collect::<Result<_, KeysError>>()?, threshold: file.threshold })
        };
        Ok(Keys {
            root: role(&file.root)?,
            timestamp: role(&file.timestamp)?,
            snapshot: role(&file.snapshot)?,
            targets: role(&file.targets)?,
        })
    }
}

impl Key {
    fn from_seed(seed: [u8; 32]) -> Key {
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("any 32 bytes are an ed25519 seed");
        let public = json!({
            "keytype": "ed25519",
            "scheme": "ed25519",
            "keyval": {"public": hex(pair.public_key().as_ref())},
        });
        let id = hex(digest(&SHA256, &canonical_json(&public)).as_ref());
        Key { seed, pair, public, id }
    }

    /// The signature of a document's canonical form, as metadata shows it.
    pub(crate) fn sign(&self, canonical: &[u8]) -> Value {
        json!({"keyid": self.id, "sig": hex(self.pair.sign(canonical).as_ref())})
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The seed stays out of logs.
        f.debug_tuple("Key").field(&self.id).finish()
    }
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]])
        .map(char::from)
        .collect()
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0u8; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saved_keys_are_the_same_publisher_and_only_the_owner_may_read_them() {
        use std::os::unix::fs::PermissionsExt;
        let dir = camino_tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        let keys = Keys::generate_with(3, 2).unwrap();
        keys.save(&path).unwrap();
        let loaded = Keys::load(&path).unwrap();
        assert_eq!(loaded.targets.keys[2].id, keys.targets.keys[2].id);
        assert_eq!(loaded.root.threshold, 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(keys.save(&path), Err(KeysError::File { .. })), "an existing file was overwritten");
    }

    #[test]
    fn a_file_that_holds_no_keys_is_refused_with_its_reason() {
        let dir = camino_tempfile::tempdir().unwrap();
        let path = dir.path().join("keys.json");
        for text in [
            "{}",
            "nonsense",
            r#"{"threshold":2,"root":["00"],"timestamp":[],"snapshot":[],"targets":[]}"#,
            r#"{"threshold":1,"root":["xx"],"timestamp":[],"snapshot":[],"targets":[]}"#,
        ] {
            fs::write(&path, text).unwrap();
            assert!(matches!(Keys::load(&path), Err(KeysError::NotKeys { .. })), "{text}");
        }
    }

    #[test]
    fn a_threshold_that_nobody_can_meet_is_refused() {
        assert!(matches!(Keys::generate_with(1, 2), Err(KeysError::Threshold { .. })));
        assert!(matches!(Keys::generate_with(1, 0), Err(KeysError::Threshold { .. })));
    }

    #[test]
    fn debug_output_does_not_show_seeds() {
        let keys = Keys::generate().unwrap();
        assert!(!format!("{keys:?}").contains(&hex(&keys.root.keys[0].seed)));
    }
}
