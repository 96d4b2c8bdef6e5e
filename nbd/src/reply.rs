//! Replies to everything but reads. Owns the errors that a client can be told, and which form a reply has: simple, or structured
//! where the client has negotiated it and the reply has something to say.
//!
//! A reply is made by what came with its request, so it has the request's cookie and the connection's form, and it is made once:
//! making it consumes that.

use crate::{
    head::{Cookie, Head, block_status_chunk, error_chunk},
    wire::{BASE_ALLOCATION_ID, state},
};
use bytes::Bytes;

/// Extents of one reply to `NBD_CMD_BLOCK_STATUS`: 64 KiB of them. Clients ask on from where it ends.
pub const EXTENTS_MAX: usize = 8192;

/// The form of a connection's replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Simple,
    Structured,
}

/// The errors of the protocol. [`Overflow`](Self::Overflow) and [`NotSupported`](Self::NotSupported) have one place each, and are
/// given there by this library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorCode {
    /// EPERM: the export is read-only.
    NotPermitted,
    /// EIO: it did not work.
    Io,
    /// ENOMEM: there was no memory for it.
    OutOfMemory,
    /// EINVAL: the request is wrong.
    Invalid,
    /// ENOSPC: beyond the end, or no room.
    NoSpace,
    /// EOVERFLOW: too long to be read in one piece.
    Overflow,
    /// ENOTSUP: zeroing would not be fast.
    NotSupported,
    /// ESHUTDOWN: the server ends; the client is to disconnect.
    ShuttingDown,
}

impl ErrorCode {
    /// The protocol's number.
    pub fn number(self) -> u32 {
        match self {
            ErrorCode::NotPermitted => 1,
            ErrorCode::Io => 5,
            ErrorCode::OutOfMemory => 12,
            ErrorCode::Invalid => 22,
            ErrorCode::NoSpace => 28,
            ErrorCode::Overflow => 75,
            ErrorCode::NotSupported => 95,
            ErrorCode::ShuttingDown => 108,
        }
    }
}

/// A whole reply that says that the request failed.
pub(crate) fn error_reply(cookie: Cookie, form: Form, code: ErrorCode, message: &str) -> Bytes {
    match form {
        Form::Simple => Head::simple(cookie, code.number()).into(),
        Form::Structured => error_chunk(cookie, code.number(), message),
    }
}

/// Answers a request that either worked or did not.
#[derive(Debug)]
#[must_use = "a request that is not answered leaves its client waiting"]
pub struct StatusReply {
    pub(crate) cookie: Cookie,
    pub(crate) form: Form,
}

impl StatusReply {
    /// The client's name for the request.
    pub fn cookie(&self) -> Cookie {
        self.cookie
    }

    /// It worked. The whole reply, and always a simple one: that is allowed without data, and shorter.
    pub fn success(self) -> Head {
        Head::simple(self.cookie, 0)
    }

    /// It did not work. The whole reply; the message is for people, and not sent where the client takes simple replies only.
    pub fn error(self, code: ErrorCode, message: &str) -> Bytes {
        error_reply(self.cookie, self.form, code, message)
    }
}

/// Answers `NBD_CMD_WRITE_ZEROES`.
#[derive(Debug)]
#[must_use = "a request that is not answered leaves its client waiting"]
pub struct ZeroesReply {
    pub(crate) reply: StatusReply,
    pub(crate) fast: bool,
}

impl ZeroesReply {
    /// The client's name for the request.
    pub fn cookie(&self) -> Cookie {
        self.reply.cookie
    }

    /// The range reads as zeroes. The whole reply.
    pub fn success(self) -> Head {
        self.reply.success()
    }

    /// It did not work. The whole reply, as of [`StatusReply::error`].
    pub fn error(self, code: ErrorCode, message: &str) -> Bytes {
        self.reply.error(code, message)
    }

    /// Nothing was done, because it would not have been fast. The whole reply.
    ///
    /// # Panics
    /// If the client has not asked for it to be fast: it would take this for a failure.
    pub fn not_fast(self) -> Bytes {
        assert!(self.fast, "only a request for fast zeroing may be refused for not being fast");
        self.reply.error(ErrorCode::NotSupported, "zeroing this range would not be fast")
    }
}

/// A run of bytes of one status, in `base:allocation`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its bytes.
    pub length: u64,
    /// It has no storage of its own; a write may fail for want of space.
    pub hole: bool,
    /// It reads as zeroes.
    pub zero: bool,
}

/// Answers `NBD_CMD_BLOCK_STATUS`, always in the structured form.
#[derive(Debug)]
#[must_use = "a request that is not answered leaves its client waiting"]
pub struct BlockStatusReply {
    cookie: Cookie,
    length: u32,
    only_first: bool,
}

impl BlockStatusReply {
    pub(crate) fn new(cookie: Cookie, length: u32, only_first: bool) -> Self {
        BlockStatusReply { cookie, length, only_first }
    }

    /// The client's name for the request.
    pub fn cookie(&self) -> Cookie {
        self.cookie
    }

    /// The whole reply: the extents from the request's offset on, one after the other.
    ///
    /// Neighbours of one status are joined, what is beyond the request is left out, and so is everything behind [`EXTENTS_MAX`]
    /// extents, or behind the first if the client wants no more. Extents may end early: the client asks on. If there
    /// are none, all of the range is told to be data, which is always true enough.
    pub fn extents(self, extents: impl IntoIterator<Item = Extent>) -> Bytes {
        let extents_max = if self.only_first { 1 } else { EXTENTS_MAX };
        let mut told: Vec<(u32, u32)> = Vec::new();
        let mut remaining = self.length;
        for Extent { length, hole, zero } in extents {
            // What is cut to 32 bits' worth of remainder fits 32 bits.
            let length = length.min(u64::from(remaining)) as u32;
            let status = if hole { state::HOLE } else { 0 } | if zero { state::ZERO } else { 0 };
            let full = told.len() == extents_max;
            match told.last_mut() {
                Some((before, same)) if *same == status => *before += length,
                _ if length == 0 => {}
                _ if full => break,
                _ => told.push((length, status)),
            }
            remaining -= length;
            if remaining == 0 {
                break;
            }
        }
        if told.is_empty() {
            told.push((self.length, 0));
        }
        block_status_chunk(self.cookie, BASE_ALLOCATION_ID, &told)
    }

    /// It did not work. The whole reply.
    pub fn error(self, code: ErrorCode, message: &str) -> Bytes {
        error_chunk(self.cookie, code.number(), message)
    }
}
