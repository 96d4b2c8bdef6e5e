//! Bearer tokens and the roles that they stand for.
//!
//! Tokens come from files that the config names, so that neither the config nor the command line holds a secret.
//! Only their SHA-256 is kept in memory; comparing digests tells an attacker nothing about a token by its timing.

use crate::ApiError;
use axum::{
    extract::{Request, State},
    http::header,
    middleware::Next,
    response::{IntoResponse, Response},
};
use camino::{Utf8Path, Utf8PathBuf};
use problem::Code;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use thiserror::Error;

/// A token shorter than this is refused at start: it can be guessed.
const TOKEN_CHARS_MIN: usize = 16;

/// Who a caller is. An operator may do all that the others may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// A person or their script.
    Operator,
    /// A coordinator.
    Coordinator,
    /// A sled.
    Sled,
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Role::Operator => "operator",
            Role::Coordinator => "coordinator",
            Role::Sled => "sled",
        }
    }
}

/// The tokens that an API knows.
#[derive(Clone, Debug, Default)]
pub struct TokenTable {
    tokens: Vec<([u8; 32], Role)>,
}

/// A token file that can not be used.
#[derive(Debug, Error)]
pub enum TokenFileError {
    /// It can not be read.
    #[error("cannot read the token file {path}")]
    Read {
        /// The file.
        path: Utf8PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What it holds is no token.
    #[error(
        "the token file {path} must hold one line of at least {TOKEN_CHARS_MIN} visible ASCII characters"
    )]
    Malformed {
        /// The file.
        path: Utf8PathBuf,
    },
}

/// Reads a token: the file's one line, without white space around it.
pub fn read_token_file(path: &Utf8Path) -> Result<String, TokenFileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| TokenFileError::Read { path: path.to_owned(), source })?;
    let token = text.trim();
    if token.len() < TOKEN_CHARS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenFileError::Malformed { path: path.to_owned() });
    }
    Ok(token.to_owned())
}

impl TokenTable {
    /// Adds a token and the role it stands for.
    #[must_use]
    pub fn with(mut self, token: &str, role: Role) -> TokenTable {
        self.tokens.push((Sha256::digest(token.as_bytes()).into(), role));
        self
    }

    /// The role of the caller who sent this `Authorization` header.
    fn role_of(&self, authorization: Option<&str>) -> Result<Role, ApiError> {
        let Some(authorization) = authorization else {
            return Err(ApiError::new(Code::Unauthorized, "the request has no Authorization header"));
        };
        let Some((scheme, token)) = authorization.split_once(' ') else {
            return Err(ApiError::new(Code::Unauthorized, "the Authorization header has no scheme"));
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::new(Code::Unauthorized, format!("the scheme {scheme:?} is not Bearer")));
        }
        let digest: [u8; 32] = Sha256::digest(token.trim().as_bytes()).into();
        self.tokens
            .iter()
            .find(|(known, _)| *known == digest)
            .map(|(_, role)| *role)
            .ok_or_else(|| ApiError::new(Code::Unauthorized, "the token is not one that is known here"))
    }
}

/// Which callers an API lets in.
#[derive(Clone, Debug)]
pub(crate) struct Gate {
    pub(crate) tokens: Arc<TokenTable>,
    pub(crate) allowed: &'static [Role],
}

/// Lets a request through if its token stands for a role that this API serves. Runs before the body is read.
pub(crate) async fn authenticate(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let verdict = gate.tokens.role_of(authorization).and_then(|role| {
        if role == Role::Operator || gate.allowed.contains(&role) {
            Ok(role)
        } else {
            Err(ApiError::new(Code::Forbidden, format!("a {} token may not call this API", role.name())))
        }
    });
    match verdict {
        Ok(_) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TokenTable {
        TokenTable::default()
            .with("operator-token-0001", Role::Operator)
            .with("sled-token-00000001", Role::Sled)
    }

    #[test]
    fn a_token_stands_for_its_role_and_nothing_else_does() {
        assert_eq!(table().role_of(Some("Bearer sled-token-00000001")).unwrap(), Role::Sled);
        assert_eq!(table().role_of(Some("bearer operator-token-0001")).unwrap(), Role::Operator);
        for bad in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Basic sled-token-00000001"),
            Some("Bearer sled-token-0000000"),
            Some("Bearer sled-token-000000011"),
        ] {
            assert!(table().role_of(bad).unwrap_err().0.is(Code::Unauthorized), "{bad:?}");
        }
    }

    #[test]
    fn a_token_file_holds_one_token_that_cannot_be_guessed() {
        let dir = camino_tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        assert!(matches!(read_token_file(&path), Err(TokenFileError::Read { .. })));
        for bad in ["", "short", "two words that are long enough", "línea-con-acentos-larga"] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(read_token_file(&path), Err(TokenFileError::Malformed { .. })), "{bad:?}");
        }
        std::fs::write(&path, "0123456789abcdef\n").unwrap();
        assert_eq!(read_token_file(&path).unwrap(), "0123456789abcdef");
    }
}
