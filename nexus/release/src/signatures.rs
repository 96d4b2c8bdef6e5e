//! Why the signatures of one metadata file are not enough.
//!
//! `tough` decides whether metadata is believed, and says no more than "threshold not met" where it is not. For
//! the person who must act, three cases differ: somebody else signed it, a signature is broken, or signers are
//! missing. This room tells them apart, one signature at a time, with `tough`'s own verification of each: no
//! cryptography here.

use crate::hex::hex;
use problem::Code;
use std::{collections::BTreeSet, num::NonZeroU64};
use tough::schema::{
    Delegations, Role, RoleKeys, Root, Signature, Signed, Targets,
    decoded::{Decoded, Hex},
    key::Key,
};

/// What the signatures of a file amount to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SignatureCheck {
    /// The role's threshold is met.
    Enough,
    /// Signatures by keys of the role, none of which verify, or so few that the threshold needs the broken ones.
    Broken {
        /// The keys whose signatures do not verify.
        keyids: Vec<String>,
        valid: u64,
        threshold: u64,
    },
    /// Fewer signatures by keys of the role than its threshold asks for.
    TooFew {
        /// Also broken ones among them.
        broken: Vec<String>,
        valid: u64,
        threshold: u64,
    },
    /// Nobody signed whom the role knows.
    Stranger {
        /// Who did.
        keyids: Vec<String>,
        threshold: u64,
    },
}

impl SignatureCheck {
    /// The code of a file in this state. A stranger's signature on one file among others that are well signed
    /// means that the right one is missing; whether the whole repository is a stranger's is decided elsewhere.
    pub(crate) fn code(&self) -> Code {
        match self {
            SignatureCheck::Broken { .. } => Code::BadSignature,
            _ => Code::SignatureThreshold,
        }
    }

    /// What is the matter, in words.
    pub(crate) fn reason(&self) -> String {
        match self {
            SignatureCheck::Enough => "it is signed".to_owned(),
            SignatureCheck::Broken { keyids, valid, threshold } => format!(
                "the signature of key {} does not verify; {valid} valid, {threshold} needed",
                list(keyids)
            ),
            SignatureCheck::TooFew { broken, valid, threshold } if broken.is_empty() => {
                format!("{valid} valid signatures, {threshold} needed")
            }
            SignatureCheck::TooFew { broken, valid, threshold } => format!(
                "{valid} valid signatures, {threshold} needed; that of key {} does not verify",
                list(broken)
            ),
            SignatureCheck::Stranger { keyids, threshold } if keyids.is_empty() => {
                format!("it has no signature, {threshold} needed")
            }
            SignatureCheck::Stranger { keyids, threshold } => {
                format!("no key of the role signed it, {threshold} needed; signed by key {}", list(keyids))
            }
        }
    }
}

/// Checks a file that one of the four top-level roles must sign.
pub(crate) fn check_with_root<T: Role + Clone>(root: &Root, file: &Signed<T>) -> SignatureCheck {
    let Some(role) = root.roles.get(&T::TYPE) else {
        return SignatureCheck::Stranger { keyids: signers(&file.signatures), threshold: 1 };
    };
    let alone = |keyid: &Decoded<Hex>, key: &Key, signature: &Signature| {
        let keys =
            RoleKeys { keyids: vec![keyid.clone()], threshold: NonZeroU64::MIN, _extra: Default::default() };
        let lone_root = Root {
            spec_version: root.spec_version.clone(),
            consistent_snapshot: root.consistent_snapshot,
            version: root.version,
            expires: root.expires,
            keys: [(keyid.clone(), key.clone())].into_iter().collect(),
            roles: [(T::TYPE, keys)].into_iter().collect(),
            _extra: Default::default(),
        };
        let lone_file = Signed { signed: file.signed.clone(), signatures: vec![signature.clone()] };
        lone_root.verify_role(&lone_file).is_ok()
    };
    let counted = count(&role.keyids, |keyid| root.keys.get(keyid), &file.signatures, alone);
    counted.judge(role.threshold, &file.signatures)
}

/// Checks a file that a delegated targets role must sign.
pub(crate) fn check_with_delegation(
    delegations: &Delegations,
    role_name: &str,
    file: &Signed<Targets>,
) -> SignatureCheck {
    let Some(role) = delegations.roles.iter().find(|role| role.name == role_name) else {
        return SignatureCheck::Stranger { keyids: signers(&file.signatures), threshold: 1 };
    };
    let alone = |keyid: &Decoded<Hex>, key: &Key, signature: &Signature| {
        let mut lone_role = role.clone();
        lone_role.keyids = vec![keyid.clone()];
        lone_role.threshold = NonZeroU64::MIN;
        lone_role.targets = None;
        let lone = Delegations {
            keys: [(keyid.clone(), key.clone())].into_iter().collect(),
            roles: vec![lone_role],
        };
        let lone_file = Signed { signed: file.signed.clone(), signatures: vec![signature.clone()] };
        lone.verify_role(&lone_file, role_name).is_ok()
    };
    let counted = count(&role.keyids, |keyid| delegations.keys.get(keyid), &file.signatures, alone);
    counted.judge(role.threshold, &file.signatures)
}

/// Signatures by keys of the role.
struct Counted {
    valid: u64,
    broken: Vec<String>,
}

impl Counted {
    fn judge(self, threshold: NonZeroU64, signatures: &[Signature]) -> SignatureCheck {
        let threshold = threshold.get();
        let Counted { valid, broken } = self;
        if valid >= threshold {
            SignatureCheck::Enough
        } else if valid + broken.len() as u64 >= threshold {
            SignatureCheck::Broken { keyids: broken, valid, threshold }
        } else if valid == 0 && broken.is_empty() {
            SignatureCheck::Stranger { keyids: signers(signatures), threshold }
        } else {
            SignatureCheck::TooFew { broken, valid, threshold }
        }
    }
}

fn count<'a>(
    role_keyids: &[Decoded<Hex>],
    key_of: impl Fn(&Decoded<Hex>) -> Option<&'a Key>,
    signatures: &[Signature],
    verifies: impl Fn(&Decoded<Hex>, &Key, &Signature) -> bool,
) -> Counted {
    let mut counted = Counted { valid: 0, broken: Vec::new() };
    let mut seen = BTreeSet::new();
    for signature in signatures {
        let keyid = &signature.keyid;
        // A key counts once, however often it signs.
        if !role_keyids.contains(keyid) || !seen.insert(hex(keyid)) {
            continue;
        }
        match key_of(keyid) {
            Some(key) if verifies(keyid, key, signature) => counted.valid += 1,
            Some(_) => counted.broken.push(hex(keyid)),
            None => {}
        }
    }
    counted
}

fn signers(signatures: &[Signature]) -> Vec<String> {
    signatures.iter().map(|signature| hex(&signature.keyid)).collect()
}

/// Key ids as people compare them: the first twelve digits, a few of them.
fn list(keyids: &[String]) -> String {
    const SHOWN_MAX: usize = 5;
    let shown: Vec<&str> =
        keyids.iter().take(SHOWN_MAX).map(|keyid| keyid.get(..12).unwrap_or(keyid)).collect();
    let more = if keyids.len() > SHOWN_MAX { " and others" } else { "" };
    format!("{}{more}", shown.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sample_release::{Keys, SampleRelease};
    use tough::schema::RoleType;

    /// A root whose roles have two keys of which both must sign.
    fn root() -> Signed<Root> {
        let dir = camino_tempfile::tempdir().unwrap();
        let keys = Keys::generate_with(2, 2).unwrap();
        let made = SampleRelease::small("1").make(&keys, &dir.path().join("release.zip")).unwrap();
        serde_json::from_slice(&made.root_json).unwrap()
    }

    #[test]
    fn a_key_of_another_role_counts_for_nothing() {
        let mut root = root();
        assert_eq!(check_with_root(&root.signed, &root), SignatureCheck::Enough);
        let trusted = {
            let mut trusted = root.signed.clone();
            let of_targets = trusted.roles[&RoleType::Targets].clone();
            trusted.roles.insert(RoleType::Root, of_targets);
            trusted
        };
        let check = check_with_root(&trusted, &root);
        assert!(
            matches!(&check, SignatureCheck::Stranger { keyids, threshold: 2 } if keyids.len() == 2),
            "{check:?}"
        );
        root.signatures.clear();
        let check = check_with_root(&root.signed, &root);
        assert!(matches!(&check, SignatureCheck::Stranger { keyids, .. } if keyids.is_empty()), "{check:?}");
    }

    #[test]
    fn one_key_counts_once_however_often_it_signs() {
        let mut root = root();
        root.signatures[1] = root.signatures[0].clone();
        let check = check_with_root(&root.signed, &root);
        assert!(matches!(check, SignatureCheck::TooFew { valid: 1, threshold: 2, .. }), "{check:?}");
    }

    #[test]
    fn a_broken_signature_is_told_from_a_missing_one() {
        let mut root = root();
        root.signatures[0].sig = vec![0; 64].into();
        let check = check_with_root(&root.signed, &root);
        assert!(matches!(check, SignatureCheck::Broken { valid: 1, threshold: 2, .. }), "{check:?}");
        root.signatures.pop();
        let check = check_with_root(&root.signed, &root);
        assert!(
            matches!(&check, SignatureCheck::TooFew { broken, valid: 0, .. } if broken.len() == 1),
            "{check:?}"
        );
    }
}
