//! The name of an artifact: the SHA-256 of its bytes.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};
use thiserror::Error;
use utoipa::{PartialSchema, ToSchema};

/// The SHA-256 of an artifact's bytes; written as 64 lower-case hexadecimal digits, and nothing else is
/// accepted, so that one artifact has one name in paths, URLs and tables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArtifactHash(pub [u8; 32]);

/// A string that does not name an artifact.
#[derive(Debug, Error)]
#[error("{text:?} is not an artifact hash: 64 lower-case hexadecimal digits (a SHA-256) were expected")]
pub struct ParseArtifactHashError {
    text: String,
}

impl ArtifactHash {
    /// The first twelve digits: enough for people, never used as a key.
    #[must_use]
    pub fn short(&self) -> String {
        self.to_string()[..12].to_owned()
    }
}

impl fmt::Display for ArtifactHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut hex = [0u8; 64];
        for (pair, byte) in hex.chunks_exact_mut(2).zip(self.0) {
            pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
            pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
        }
        f.pad(std::str::from_utf8(&hex).expect("hexadecimal digits are ASCII"))
    }
}

impl fmt::Debug for ArtifactHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ArtifactHash {
    type Err = ParseArtifactHashError;

    fn from_str(text: &str) -> Result<Self, ParseArtifactHashError> {
        let refuse = || ParseArtifactHashError { text: text.chars().take(80).collect() };
        let digit = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(refuse()),
        };
        let text_bytes = text.as_bytes();
        if text_bytes.len() != 64 {
            return Err(refuse());
        }
        let mut bytes = [0u8; 32];
        for (byte, pair) in bytes.iter_mut().zip(text_bytes.chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(ArtifactHash(bytes))
    }
}

impl Serialize for ArtifactHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ArtifactHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl PartialSchema for ArtifactHash {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[0-9a-f]{64}$"))
            .description(Some("SHA-256 of the artifact's bytes, lower-case hexadecimal"))
            .into()
    }
}

impl ToSchema for ArtifactHash {
    fn name() -> std::borrow::Cow<'static, str> {
        "ArtifactHash".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn prints_what_it_parsed() {
        assert_eq!(HEX.parse::<ArtifactHash>().unwrap().to_string(), HEX);
        assert_eq!(HEX.parse::<ArtifactHash>().unwrap().short(), "e3b0c44298fc");
    }

    #[test]
    fn one_artifact_has_one_spelling() {
        for bad in [
            "",
            "e3",
            &HEX.to_uppercase(),
            &HEX[..63],
            &format!("{HEX}0"),
            &HEX.replace('e', "g"),
            &"é".repeat(32),
        ] {
            assert!(bad.parse::<ArtifactHash>().is_err(), "{bad:?} was accepted");
        }
    }
}
