//! Bodies that are refused, and bodies that are bounded.
//!
//! A server that answers an error while the client still sends, and then closes, makes the kernel reset the
//! connection; the client then sees "connection reset" instead of the answer. So a refused body is read on for a
//! while, in the background and into nothing, with bounds on bytes and time.

use crate::ApiError;
use axum::body::{Body, Bytes, HttpBody};
use http_body_util::BodyExt;
use problem::Code;
use std::time::Duration;

/// Bytes of a refused body that are still read, so that the client gets to read the answer.
const REFUSED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// For how long a refused body is still read.
const REFUSED_TIME_MAX: Duration = Duration::from_secs(2);

/// Lets a client finish enough of its sending to see the answer. Returns at once; needs a Tokio runtime.
pub fn refuse(body: Body) {
    if body.is_end_stream() {
        return;
    }
    tokio::spawn(tokio::time::timeout(REFUSED_TIME_MAX, async move {
        let mut body = body;
        let mut read = 0u64;
        while let Some(Ok(frame)) = body.frame().await {
            read += frame.data_ref().map_or(0, |data| data.len() as u64);
            if read > REFUSED_BYTES_MAX {
                break;
            }
        }
    }));
}

/// A request body that may hold at most so many bytes, read piece by piece.
#[derive(Debug)]
pub struct BoundedBody {
    body: Body,
    declared_bytes: Option<u64>,
    read_bytes: u64,
    bytes_max: u64,
    idle_limit: Duration,
}

impl BoundedBody {
    /// Refuses at once, without reading, a body whose declared length is over the limit. `idle_limit` is how long
    /// the sender may be silent.
    pub fn new(body: Body, bytes_max: u64, idle_limit: Duration) -> Result<BoundedBody, ApiError> {
        let declared_bytes = body.size_hint().exact();
        if let Some(declared) = declared_bytes.filter(|declared| *declared > bytes_max) {
            refuse(body);
            return Err(too_large(&format!("declares {declared} bytes"), bytes_max));
        }
        Ok(BoundedBody { body, declared_bytes, read_bytes: 0, bytes_max, idle_limit })
    }

    /// The length that the sender declared.
    #[must_use]
    pub fn declared_bytes(&self) -> Option<u64> {
        self.declared_bytes
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            let frame = tokio::time::timeout(self.idle_limit, self.body.frame()).await.map_err(|_| {
                ApiError::new(
                    Code::LengthMismatch,
                    format!(
                        "the sender was silent for {} s after {} bytes",
                        self.idle_limit.as_secs(),
                        self.read_bytes
                    ),
                )
            })?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|error| {
                ApiError::new(
                    Code::LengthMismatch,
                    format!("the body broke off after {} bytes: {error}", self.read_bytes),
                )
            })?;
            let Ok(data) = frame.into_data() else { continue };
            self.read_bytes += data.len() as u64;
            if self.read_bytes > self.bytes_max {
                return Err(too_large("is longer than that", self.bytes_max));
            }
            return Ok(Some(data));
        }
    }

    /// Gives up on the body: the rest is read into nothing for a while so that the sender sees the answer.
    pub fn refuse(self) {
        refuse(self.body);
    }
}

fn too_large(what: &str, bytes_max: u64) -> ApiError {
    ApiError::new(
        Code::BodyTooLarge,
        format!("at most {bytes_max} bytes are taken here, and the body {what}"),
    )
}
