//! Reading what a peer answers, with bounds: no peer is trusted to be brief.

use crate::ClientError;
use problem::{Code, Problem};
use reqwest::{Response, StatusCode, header};

/// JSON documents are read no further than this. The longest tells of every artifact on every sled: 300 sleds with 1,000
/// artifacts each are about 45 MB.
const DOCUMENT_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Error answers are read no further than this: they are short.
const PROBLEM_BYTES_MAX: usize = 256 * 1024;

/// Reads the document of a success; refuses one that is too long, before reading it if its length is declared.
pub(crate) async fn read_document(mut response: Response, url: &str) -> Result<Vec<u8>, ClientError> {
    let too_large = || ClientError::TooLarge { url: url.to_owned(), limit_bytes: DOCUMENT_BYTES_MAX };
    let declared = response.content_length().unwrap_or_default();
    if declared > DOCUMENT_BYTES_MAX as u64 {
        return Err(too_large());
    }
    let mut body = Vec::new();
    loop {
        let chunk = response
            .chunk()
            .await
            .map_err(|source| ClientError::Transport { url: url.to_owned(), source: source.without_url() })?;
        let Some(chunk) = chunk else { return Ok(body) };
        if body.len() + chunk.len() > DOCUMENT_BYTES_MAX {
            return Err(too_large());
        }
        body.extend_from_slice(&chunk);
    }
}

/// Reads what the server says is wrong; never fails, because the status alone is already an answer.
pub(crate) async fn read_problem(mut response: Response) -> Problem {
    let status = response.status();
    let retry_after = response
        .headers()
        .get(header::RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > PROBLEM_BYTES_MAX {
            break;
        }
    }
    let mut problem = serde_json::from_slice(&body).unwrap_or_else(|_| problem_of_status(status, &body));
    problem.retry_after_seconds = problem.retry_after_seconds.or(retry_after);
    problem
}

/// A problem for an answer that is not problem+json: from a proxy, or from something that is not ours.
fn problem_of_status(status: StatusCode, body: &[u8]) -> Problem {
    let code = match status.as_u16() {
        401 => Code::Unauthorized,
        403 => Code::Forbidden,
        404 => Code::NotFound,
        408 => Code::SenderSilent,
        413 => Code::BodyTooLarge,
        429 => Code::TooManyRequests,
        503 => Code::Unavailable,
        507 => Code::NoSpace,
        400..500 => Code::BadRequest,
        _ => Code::Internal,
    };
    let start: String = String::from_utf8_lossy(body).chars().take(200).collect();
    let mut problem = Problem::new(code, format!("answered {status} without problem+json: {start:?}"));
    problem.status = status.as_u16();
    // Whoever answered did not say when to come back, and our own catalogue does not speak for it.
    problem.retry_after_seconds = None;
    problem
}
