//! What makes a `root.json` fit to be added as a trust root.

use crate::{
    metadata_files::is_of_role,
    signatures::{self, SignatureCheck},
};
use jiff::Timestamp;
use problem::{Code, Finding};
use sha2::{Digest, Sha256};
use tough::schema::{Root, Signed};

/// The largest `root.json`, in bytes: what the TUF library accepts for one, too.
pub(crate) const ROOT_BYTES_MAX: usize = 1 << 20;

/// What a `root.json` says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedRoot {
    /// SHA-256 of the bytes as they were sent, hexadecimal: what the publisher and the operator compare.
    pub fingerprint: String,
    /// Its version.
    pub version: u64,
    /// When it expires.
    pub expires: Timestamp,
}

/// Parses a `root.json` and checks that its own root keys sign it, as many as it asks for.
///
/// # Errors
/// A `root_invalid` finding that says what is wrong: too large, no JSON, no root, not signed by itself.
pub fn parse_trust_root(bytes: &[u8]) -> Result<ParsedRoot, Finding> {
    let root = parse_self_signed(bytes).map_err(|reason| Finding::new(Code::RootInvalid, reason.1))?;
    Ok(ParsedRoot {
        fingerprint: hex(&Sha256::digest(bytes)),
        version: root.signed.version.get(),
        expires: root.signed.expires,
    })
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
    match signatures::check_with_root(&root.signed, &root) {
        SignatureCheck::Enough => Ok(root),
        fault => Err((fault.code(), format!("the root does not sign itself: {}", fault.reason()))),
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
