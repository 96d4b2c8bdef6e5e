//! Which calls are sent again without the caller's knowledge, and when.
//!
//! A peer that restarts closes its connections; a client that takes one of them from its pool in that moment sends into
//! the void and sees a reset, though the peer is well. Nobody can tell that from a peer that took the request and died.
//! So a call is sent again only if
//!
//! - it is a read (`GET`, `HEAD`) without a body: to ask twice changes nothing;
//! - the connection broke before the first byte of an answer. A refused connection, a time limit or an answer that
//!   breaks off in the middle are the caller's to judge;
//! - it was sent fewer than [`ATTEMPTS_MAX`] times.

use reqwest::{Method, Request};
use std::{error::Error, io};

/// How often a read is sent at most: each try takes one connection that has broken out of the pool, and few break
/// unnoticed.
pub(crate) const ATTEMPTS_MAX: usize = 3;

/// A copy to send again, if the request may be.
pub(crate) fn copy_of(request: &Request) -> Option<Request> {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD) && request.body().is_none();
    reads.then(|| request.try_clone()).flatten()
}

/// Whether the connection broke before the answer began.
pub(crate) fn broke_before_an_answer(error: &reqwest::Error) -> bool {
    if error.is_connect() || error.is_timeout() || !error.is_request() {
        return false;
    }
    let mut next = error.source();
    while let Some(cause) = next {
        if let Some(error) = cause.downcast_ref::<hyper::Error>()
            && error.is_incomplete_message()
        {
            return true;
        }
        if let Some(error) = cause.downcast_ref::<io::Error>() {
            use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset};
            return matches!(error.kind(), ConnectionReset | ConnectionAborted | BrokenPipe);
        }
        next = cause.source();
    }
    false
}
