//! The wire type of an error.

use crate::Code;
use serde::{Deserialize, Serialize};
use std::{error::Error, fmt};
use utoipa::ToSchema;

/// The media type of a [`Problem`].
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Seconds after which to try again what was answered with 503, unless the answer knows better.
const RETRY_AFTER_SECONDS: u32 = 1;

/// One refused or failed request.
///
/// `code` is what programs branch on; `detail` is for people and names the thing, the cause, and what was
/// expected. Unknown codes (of a newer peer) are kept as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI reference that names the kind of problem: `/errors#<code>`.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The kind of problem in a few words; the same for every problem of one code.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// The stable code, snake_case; `docs/ERRORS.md` lists them all.
    pub code: String,
    /// The id of the request that failed, as in the server's log.
    #[serde(default)]
    pub request_id: String,
    /// What to do next.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Everything that is wrong, where a check finds more than one thing; the first gave `code` and `detail`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<Finding>,
    /// Seconds after which a retry makes sense; also sent as `Retry-After`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u32>,
}

/// One thing that is wrong with an input.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Finding {
    /// The stable code.
    pub code: String,
    /// What is wrong, in words.
    pub detail: String,
    /// Which part of the input: a file inside an archive, a field, a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
}

impl Problem {
    /// A problem of the given kind, with what happened this time.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Problem {
        Problem {
            type_uri: format!("/errors#{}", code.name()),
            title: code.title().to_owned(),
            status: code.status(),
            detail: detail.into(),
            code: code.name().to_owned(),
            request_id: String::new(),
            hint: code.hint().map(str::to_owned),
            problems: Vec::new(),
            retry_after_seconds: (code.status() == 503).then_some(RETRY_AFTER_SECONDS),
        }
    }

    /// A problem whose detail is an error and its chain of causes.
    #[must_use]
    pub fn from_error(code: Code, error: &(dyn Error + 'static)) -> Problem {
        Problem::new(code, chain(error))
    }

    /// Replaces the catalogue's advice with advice for this case.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Problem {
        self.hint = Some(hint.into());
        self
    }

    /// Says after how many seconds a retry makes sense.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Problem {
        self.retry_after_seconds = Some(seconds);
        self
    }

    /// Lists everything that is wrong.
    #[must_use]
    pub fn with_problems(mut self, problems: Vec<Finding>) -> Problem {
        self.problems = problems;
        self
    }

    /// Whether this is a problem of the given kind.
    #[must_use]
    pub fn is(&self, code: Code) -> bool {
        self.code == code.name()
    }
}

impl Finding {
    /// A finding about the whole input.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Finding {
        Finding { code: code.name().to_owned(), detail: detail.into(), subject: None }
    }

    /// A finding about a named part of the input.
    #[must_use]
    pub fn about(code: Code, subject: impl Into<String>, detail: impl Into<String>) -> Finding {
        Finding { subject: Some(subject.into()), ..Finding::new(code, detail) }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} {})", self.detail, self.status, self.code)
    }
}

impl Error for Problem {}

/// An error and its causes, outermost first, joined by colons: what a person is told.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serialises_as_the_contract_says() {
        let problem = Problem::new(Code::ArtifactNotFound, "no artifact ab12 here");
        let json = serde_json::to_value(&problem).unwrap();
        assert_eq!(json["code"], "artifact_not_found");
        assert_eq!(json["status"], 404);
        assert_eq!(json["type"], "/errors#artifact_not_found");
        assert_eq!(serde_json::from_value::<Problem>(json).unwrap(), problem);
    }

    #[test]
    fn whoever_is_to_come_back_is_told_when() {
        for code in Code::ALL {
            let told = Problem::new(*code, "x").retry_after_seconds.is_some();
            assert_eq!(told, code.status() == 503, "{}", code.name());
        }
    }

    #[test]
    fn a_code_of_a_newer_peer_is_kept() {
        let text = r#"{"type":"/errors#from_2031","title":"t","status":418,"detail":"d","code":"from_2031","request_id":"r"}"#;
        let problem: Problem = serde_json::from_str(text).unwrap();
        assert_eq!(problem.code, "from_2031");
        assert!(!problem.is(Code::Unauthorized));
    }
}
