//! What makes a `root.json` fit to be added as a trust root.

use crate::{
    hex::hex,
    key_rules,
    metadata_files::is_of_role,
    signatures::{self, SignatureCheck},
};
use jiff::Timestamp;
use problem::{Code, Finding};
use sha2::{Digest, Sha256};
use tough::schema::{Root, Signed};

/// The largest `root.json`, in bytes: what the TUF library accepts for one, too.
pub(crate) const ROOT_BYTES_MAX: usize = 1 << 20;

/// The largest version of a root, so that databases can keep it.
const VERSION_MAX: u64 = i64::MAX as u64;

/// What a `root.json` says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedRoot {
    /// SHA-256 of the bytes as they were sent, hexadecimal: what the publisher and the operator compare.
    pub fingerprint: String,
    /// Its version; below 2^63.
    pub version: u64,
    /// When it expires.
    pub expires: Timestamp,
}

/// Parses a `root.json` and checks that its own root keys sign it, as many as it asks for.
///
/// # Errors
/// A `root_invalid` finding that says what is wrong: too large, no JSON, no root, not signed by itself.
pub fn parse_trust_root(bytes: &[u8]) -> Result<ParsedRoot, Finding> {
    let invalid = |reason: String| Finding::new(Code::RootInvalid, reason);
    let root = parse_self_signed(bytes).map_err(|(_, reason)| invalid(reason))?;
    let version = root.signed.version.get();
    if version > VERSION_MAX {
        return Err(invalid(format!("version {version} is beyond {VERSION_MAX}, the largest that is kept")));
    }
    Ok(ParsedRoot { fingerprint: hex(&Sha256::digest(bytes)), version, expires: root.signed.expires })
}

/// Parses a root and checks its own signatures.
///
/// # Errors
/// The code that the fault has in a root *inside an archive*, and the reason.
pub(crate) fn parse_self_signed(bytes: &[u8]) -> Result<Signed<Root>, (Code, String)> {
    if bytes.len() > ROOT_BYTES_MAX {
        let reason = format!("the file has {} bytes, {ROOT_BYTES_MAX} are accepted", bytes.len());
        return Err((Code::MetadataInvalid, reason));
    }
    let root: Signed<Root> = serde_json::from_slice(bytes)
        .map_err(|error| (Code::MetadataInvalid, format!("this is not a TUF root: {error}")))?;
    if !is_of_role(bytes, "root") {
        return Err((Code::MetadataInvalid, "the file does not say that it is a root".to_owned()));
    }
    let rules = key_rules::check_signature_count(bytes).and_then(|()| key_rules::check_root(&root.signed));
    rules.map_err(|reason| (Code::MetadataInvalid, reason))?;
    match signatures::check_with_root(&root.signed, &root) {
        SignatureCheck::Enough => Ok(root),
        fault => Err((fault.code(), format!("the root does not sign itself: {}", fault.reason()))),
    }
}
