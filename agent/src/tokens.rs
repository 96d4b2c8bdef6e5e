//! The token files that the config names: read, and looked at for who else may read or write them.
//!
//! A token that everybody may write is refused: anybody on the host could make himself the coordinator. One that others
//! may read is used, with a warning at each start: on a host whose users are all trusted it does no harm.

use crate::config::AuthSettings;
use camino::{Utf8Path, Utf8PathBuf};
use http_edge::auth::{self, TokenFileError};
use std::os::unix::fs::PermissionsExt;
use thiserror::Error;

/// The mode bit that lets everybody write.
const WRITABLE_BY_ALL: u32 = 0o002;
/// The mode bits that let others than the owner read.
const READABLE_BY_OTHERS: u32 = 0o044;

/// A token that can not be used.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The file cannot be read, or holds no token.
    #[error(transparent)]
    File(#[from] TokenFileError),
    /// The file's mode cannot be read.
    #[error("cannot read the mode of the token file {path}")]
    Mode {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Whoever holds the one token holds the other.
    #[error("{first} and {second} hold the same token: each role needs a token of its own")]
    Same {
        /// The one file.
        first: Utf8PathBuf,
        /// The other file.
        second: Utf8PathBuf,
    },
    /// Anybody could put a token of his own there.
    #[error("the token file {path} can be written by everybody; `chmod 600 {path}`")]
    WritableByAll {
        /// The file.
        path: Utf8PathBuf,
    },
}

/// The three tokens of an agent, each another one: who holds the one must not be taken for who holds the other.
#[derive(Debug)]
pub struct Tokens {
    /// Sent to coordinators.
    pub own: String,
    /// Accepted from coordinators.
    pub coordinator: String,
    /// Accepted from operators.
    pub operator: String,
}

/// Reads the tokens; warns of those that others may read.
pub fn read(files: &AuthSettings) -> Result<Tokens, TokenError> {
    let [own, coordinator, operator] =
        [&files.token_file, &files.coordinator_token_file, &files.operator_token_file]
            .map(|path| read_one(path).map(|token| (path, token)));
    let tokens = [own?, coordinator?, operator?];
    for (index, (second, token)) in tokens.iter().enumerate() {
        if let Some((first, _)) = tokens[..index].iter().find(|(_, other)| other == token) {
            return Err(TokenError::Same { first: (*first).clone(), second: (*second).clone() });
        }
    }
    let [own, coordinator, operator] = tokens.map(|(_, token)| token);
    Ok(Tokens { own, coordinator, operator })
}

/// Reads the tokens to see whether that can be done.
pub fn check(files: &AuthSettings) -> Result<(), TokenError> {
    read(files).map(drop)
}

/// Reads one; warns if others may read it.
pub(crate) fn read_one(path: &Utf8Path) -> Result<String, TokenError> {
    let token = auth::read_token_file(path)?;
    let metadata =
        std::fs::metadata(path).map_err(|source| TokenError::Mode { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode();
    if mode & WRITABLE_BY_ALL != 0 {
        return Err(TokenError::WritableByAll { path: path.to_owned() });
    }
    if mode & READABLE_BY_OTHERS != 0 {
        tracing::warn!(%path, mode = format!("{:o}", mode & 0o777), "others than the owner may read this token");
    }
    Ok(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_token_in_two_files_is_refused() {
        let dir = camino_tempfile::tempdir().unwrap();
        let file = |name: &str, token: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, token).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
            path
        };
        let mut files = AuthSettings {
            token_file: file("own", "0123456789abcdef"),
            coordinator_token_file: file("coordinator", "0123456789abcdeg\n"),
            operator_token_file: file("operator", "0123456789abcdeg"),
        };
        let refusal = check(&files).unwrap_err().to_string();
        assert!(
            refusal.contains("/coordinator and ") && refusal.contains("/operator hold the same"),
            "{refusal}"
        );
        files.operator_token_file = file("another", "0123456789abcdeh");
        check(&files).unwrap();
    }

    #[test]
    fn a_token_that_everybody_may_write_is_refused_and_one_that_others_read_is_not() {
        let dir = camino_tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        for (mode, usable) in [(0o600, true), (0o640, true), (0o644, true), (0o646, false), (0o602, false)] {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            let read = read_one(&path);
            assert_eq!(read.is_ok(), usable, "{mode:o}");
            if let Err(error) = read {
                assert!(error.to_string().contains("chmod 600"), "{error}");
            }
        }
    }
}
