//! The key of a volume: as people keep it, and what shows that it is the right one.

use aws_lc_rs::{
    constant_time,
    hkdf::{HKDF_SHA256, KeyType, Prk, Salt},
    rand,
};
use ids::RegionSetId;
use serde::{Deserialize, Serialize};
use std::{fmt, fmt::Write as _, str::FromStr};
use zeroize::{Zeroize, Zeroizing};

/// Bytes of a key.
const KEY: usize = 32;

/// Bytes of a check value.
const CHECK: usize = 16;

/// Never changes: volumes that were made with it have their check values.
const CHECK_LABEL: &[u8] = b"bobsled volume key check 1";

/// The key of a volume, 256 bits. Wiped when it is dropped, and shown by nothing but [`VolumeKey::to_text`].
pub struct VolumeKey(Zeroizing<[u8; KEY]>);

impl VolumeKey {
    /// A new one, of the system's randomness.
    ///
    /// # Panics
    /// If the system has none.
    #[must_use]
    pub fn random() -> VolumeKey {
        let mut key = Zeroizing::new([0; KEY]);
        rand::fill(&mut key[..]).expect("the system has randomness");
        VolumeKey(key)
    }

    /// One that is known. What `bytes` holds is wiped.
    #[must_use]
    pub fn from_bytes(bytes: &mut [u8; KEY]) -> VolumeKey {
        let key = Zeroizing::new(*bytes);
        bytes.zeroize();
        VolumeKey(key)
    }

    /// As people keep it: 64 hexadecimal digits and the end of the line.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        // With its room at once: what a text leaves behind when it grows is not wiped.
        let mut text = Zeroizing::new(String::with_capacity(2 * KEY + 1));
        for byte in self.0.iter() {
            write!(text, "{byte:02x}").expect("a text takes everything");
        }
        text.push('\n');
        text
    }

    /// What shows, for this region set, that a key is the right one, and helps nobody to find it.
    #[must_use]
    pub fn check(&self, set: RegionSetId) -> KeyCheck {
        let mut check = [0; CHECK];
        let root = self.root(set);
        let okm = root.expand(&[CHECK_LABEL], CheckLength).expect("a check value is short");
        okm.fill(&mut check).expect("it is of that length");
        KeyCheck(check)
    }

    /// What all keys of this region set are derived from.
    pub(crate) fn root(&self, set: RegionSetId) -> Prk {
        Salt::new(HKDF_SHA256, set.0.as_bytes()).extract(&self.0[..])
    }
}

impl fmt::Debug for VolumeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("VolumeKey(..)")
    }
}

struct CheckLength;

impl KeyType for CheckLength {
    fn len(&self) -> usize {
        CHECK
    }
}

/// A text that is no key. It does not say what the text was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyTextError {
    /// Too short, too long, or on several lines.
    #[error("a key is one line of 64 hexadecimal digits, and this has {0} bytes")]
    Length(usize),
    /// Something else than digits.
    #[error("a key is one line of 64 hexadecimal digits, and byte {0} of this is none")]
    Digit(usize),
}

impl FromStr for VolumeKey {
    type Err = KeyTextError;

    fn from_str(text: &str) -> Result<VolumeKey, KeyTextError> {
        let digits = text.strip_suffix('\n').unwrap_or(text).as_bytes();
        if digits.len() != 2 * KEY {
            return Err(KeyTextError::Length(text.len()));
        }
        let mut key = Zeroizing::new([0; KEY]);
        for (at, pair) in digits.chunks_exact(2).enumerate() {
            let digit = |at: usize, digit: u8| char::from(digit).to_digit(16).ok_or(KeyTextError::Digit(at));
            let value = digit(2 * at, pair[0])? << 4 | digit(2 * at + 1, pair[1])?;
            key[at] = u8::try_from(value).expect("two digits are a byte");
        }
        Ok(VolumeKey(key))
    }
}

/// What is kept beside a volume's description, to tell a wrong key before anything is done with it.
#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyCheck([u8; CHECK]);

impl PartialEq for KeyCheck {
    fn eq(&self, other: &KeyCheck) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for KeyCheck {}

/// As 32 hexadecimal digits.
impl fmt::Display for KeyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for KeyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyCheck({self})")
    }
}

/// Of 32 hexadecimal digits; none of another text.
impl FromStr for KeyCheck {
    type Err = KeyCheckTextError;

    fn from_str(text: &str) -> Result<KeyCheck, KeyCheckTextError> {
        let is_check = text.len() == 2 * CHECK && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let number = u128::from_str_radix(text, 16).ok().filter(|_| is_check);
        number.map(|number| KeyCheck(number.to_be_bytes())).ok_or(KeyCheckTextError)
    }
}

impl From<KeyCheck> for String {
    fn from(check: KeyCheck) -> String {
        check.to_string()
    }
}

impl TryFrom<String> for KeyCheck {
    type Error = KeyCheckTextError;

    fn try_from(text: String) -> Result<KeyCheck, KeyCheckTextError> {
        text.parse()
    }
}

/// A text that is no check value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the check value of a key is 32 hexadecimal digits")]
pub struct KeyCheckTextError;
