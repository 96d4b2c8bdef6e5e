//! Errors as an operator reads them: what happened, each finding, what to do, where to look it up.
//!
//! ```text
//! error: the release was refused: 2 of its targets are wrong (400 target_digest_mismatch)
//!   target_digest_mismatch targets/kernel: has SHA-256 ab…, signed is cd…
//!   target_missing targets/tools: is not in the archive
//! hint: upload the .zip that the release tool wrote
//! request id 0b7c…
//! ```

use super::{Look, Tone, words::printable};
use crate::{
    connection::{Connection, TokenOrigin},
    failure::Failure,
};
use nexus_client::ClientError;
use problem::{Code, Finding, Problem};
use std::error::Error;

/// All lines about a failure. `connection` is the one that was used, if it came to that.
#[must_use]
pub fn failure(failure: &Failure, connection: Option<&Connection>, look: &Look) -> String {
    let mut lines = Lines { look, text: String::new() };
    lines.failure(failure, connection);
    lines.text
}

/// The lines so far.
struct Lines<'a> {
    look: &'a Look,
    text: String,
}

impl Lines<'_> {
    fn failure(&mut self, failure: &Failure, connection: Option<&Connection>) {
        match failure {
            Failure::Api(ClientError::Problem { problem, .. }) => self.problem(problem, connection),
            Failure::Api(error @ ClientError::Transport { .. }) => self.unreachable(error, connection),
            Failure::Api(error) => {
                self.error(&chain(error));
                if let Some(connection) = connection {
                    self.hint(&format!("{} comes from {}", connection.url, connection.url_origin));
                }
            }
            Failure::SomeCalls { first, .. } => {
                self.error(&failure.to_string());
                self.failure(first, connection);
            }
            // Its words end with the cause that matters; those in between say less.
            Failure::UploadBroken { .. } => self.error(&failure.to_string()),
            other => self.error(&chain(other)),
        }
        if let Some(hint) = failure.hint() {
            self.hint(&hint);
        }
    }

    fn error(&mut self, what: &str) {
        self.line(&format!("{} {}", self.look.paint(Tone::Bad, "error:"), printable(what)));
    }

    fn hint(&mut self, what: &str) {
        self.line(&format!("hint: {}", printable(what)));
    }

    fn line(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn problem(&mut self, problem: &Problem, connection: Option<&Connection>) {
        self.error(&format!("{} ({} {})", problem.detail, problem.status, problem.code));
        for finding in problem.problems.iter().filter(|finding| says_more(finding, problem)) {
            let subject =
                finding.subject.as_deref().map_or_else(String::new, |subject| format!(" {subject}"));
            let line = format!("  {}{subject}: {}", finding.code, finding.detail);
            self.line(&printable(&line));
        }
        if problem.is(Code::Unauthorized)
            && let Some(connection) = connection
        {
            self.hint(&match &connection.token_origin {
                TokenOrigin::None => {
                    format!(
                        "no token was sent to {}: set SLEDCTL_TOKEN, or give --token-file",
                        connection.url
                    )
                }
                origin => format!("{} does not know the token from {origin}", connection.url),
            });
        } else {
            self.advice(problem);
        }
        if !problem.request_id.is_empty() {
            self.line(&self.look.paint(Tone::Dim, &format!("request id {}", printable(&problem.request_id))));
        }
    }

    /// What the coordinator advises. Its advice speaks of headers, which an operator does not see.
    fn advice(&mut self, problem: &Problem) {
        match (&problem.hint, problem.retry_after_seconds) {
            (Some(hint), None) => self.hint(hint),
            (Some(hint), Some(_)) if !hint.contains("Retry-After") => self.hint(hint),
            (_, Some(seconds)) => self.hint(&format!("try again after {seconds} s")),
            (None, None) => {}
        }
    }

    fn unreachable(&mut self, error: &ClientError, connection: Option<&Connection>) {
        // The causes in between say "client error", "error sending request" and the like: the last one says why.
        let cause = root_cause(error);
        match connection {
            Some(connection) => {
                self.error(&format!("no answer from the coordinator at {}: {cause}", connection.url));
                self.hint(&format!(
                    "this URL comes from {}; is the coordinator running there?",
                    connection.url_origin
                ));
            }
            None => self.error(&format!("{error}: {cause}")),
        }
    }
}

/// A single finding about the whole is often the error itself.
fn says_more(finding: &Finding, problem: &Problem) -> bool {
    finding.subject.is_some() || finding.code != problem.code || finding.detail != problem.detail
}

/// The error that started it.
#[must_use]
pub fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// An error and its causes, outermost first, joined by colons; a cause that says the same again is left out.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let words = cause.to_string();
        if !text.ends_with(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connection::UrlOrigin, render::sample::narrow};

    fn connection() -> Connection {
        Connection {
            url: "http://127.0.0.1:12220".into(),
            url_origin: UrlOrigin::Variable,
            token: None,
            token_origin: TokenOrigin::None,
        }
    }

    fn refused(problem: Problem) -> Failure {
        let url = "PUT http://127.0.0.1:12220/v1/repositories".into();
        Failure::Api(ClientError::Problem { url, problem: Box::new(problem) })
    }

    #[test]
    fn each_finding_has_its_own_line() {
        let mut problem =
            Problem::new(Code::TargetDigestMismatch, "the release was refused: 2 targets are wrong")
                .with_problems(vec![
                    Finding::about(
                        Code::TargetDigestMismatch,
                        "targets/kernel",
                        "has SHA-256 ab, signed is cd",
                    ),
                    Finding::about(Code::TargetMissing, "targets/tools", "is not in the archive"),
                    Finding::new(Code::MetadataExpired, "timestamp.json expired yesterday"),
                ])
                .with_hint("upload the zip that the release tool wrote");
        problem.request_id = "0b7c".into();
        insta::assert_snapshot!(failure(&refused(problem), Some(&connection()), &narrow()));
    }

    #[test]
    fn finding_that_repeats_the_error_is_left_out() {
        let problem = Problem::new(Code::NoTrustRoots, "nothing can be believed")
            .with_problems(vec![Finding::new(Code::NoTrustRoots, "nothing can be believed")]);
        assert_eq!(failure(&refused(problem), None, &narrow()).matches("believed").count(), 1);
    }

    #[test]
    fn refused_token_names_its_origin() {
        let problem = Problem::new(Code::Unauthorized, "the token is not known");
        insta::assert_snapshot!(failure(&refused(problem.clone()), Some(&connection()), &narrow()));
        let with_token = Connection { token_origin: TokenOrigin::Context("lab".into()), ..connection() };
        let text = failure(&refused(problem), Some(&with_token), &narrow());
        assert!(text.contains("does not know the token from context \"lab\""), "{text}");
    }

    #[test]
    fn coordinator_that_is_busy_says_when_to_retry() {
        let problem = Problem::new(Code::TooManyRequests, "4 uploads are running").with_retry_after(7);
        insta::assert_snapshot!(failure(&refused(problem), Some(&connection()), &narrow()));
    }

    #[test]
    fn text_of_the_server_cannot_move_the_cursor() {
        let problem = Problem::new(Code::BadRequest, "\u{1b}[2Jgone");
        let text = failure(&refused(problem), None, &narrow());
        assert!(!text.contains('\u{1b}'), "{text:?}");
    }
}
