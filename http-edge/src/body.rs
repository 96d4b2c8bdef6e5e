//! Bodies that are refused, and bodies that are bounded.
//!
//! A server that answers while the client still sends, and then closes, makes the kernel reset the connection; the
//! client then sees "connection reset" instead of the answer. So a body that is dropped before its end is read on for
//! a while, in the background and into nothing, with bounds on bytes and time. Handlers need not think of it: to
//! refuse is to answer.
//!
//! A client that waits for `100 Continue` sends nothing before somebody reads: when nobody did, there is nothing to
//! drain, and reading would invite the bytes that are being refused.

use crate::ApiError;
use axum::{
    body::{Body, Bytes, HttpBody},
    extract::Request,
    http::header,
};
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use problem::Code;
use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

/// Bytes of a refused body that are still read, so that the client gets to read the answer.
const REFUSED_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// For how long a refused body is still read.
const REFUSED_TIME_MAX: Duration = Duration::from_secs(2);

/// A request whose body is drained when it is dropped before its end.
pub(crate) fn drained_when_dropped(request: Request) -> Request {
    let awaits_continue = request
        .headers()
        .get(header::EXPECT)
        .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"));
    request.map(|body| Body::new(Drained { body, awaits_continue, ended: false }))
}

/// A body that is drained when it is dropped before its end.
struct Drained {
    body: Body,
    /// Whether the sender still holds its bytes back until somebody reads.
    awaits_continue: bool,
    ended: bool,
}

impl HttpBody for Drained {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.awaits_continue = false;
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.ended = !matches!(frame, Some(Ok(_)));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Drained {
    fn drop(&mut self) {
        if self.ended || self.awaits_continue || self.body.is_end_stream() {
            return;
        }
        // Without a runtime the process is ending, and so is the connection.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(REFUSED_TIME_MAX, drain(std::mem::take(&mut self.body))));
    }
}

async fn drain(mut body: Body) {
    let mut read = 0u64;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, |data| data.len() as u64);
        if read > REFUSED_BYTES_MAX {
            break;
        }
    }
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
                    Code::SenderSilent,
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

    /// All of the body in one piece; for bodies whose limit is small.
    pub async fn read_to_end(mut self) -> Result<Vec<u8>, ApiError> {
        let mut bytes = Vec::new();
        while let Some(piece) = self.next().await? {
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Gives up on the body. The same as dropping it, said aloud.
    pub fn refuse(self) {}
}

fn too_large(what: &str, bytes_max: u64) -> ApiError {
    ApiError::new(
        Code::BodyTooLarge,
        format!("at most {bytes_max} bytes are taken here, and the body {what}"),
    )
}
