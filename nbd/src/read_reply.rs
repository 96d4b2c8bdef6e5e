//! Replies to reads. Owns what a client may rely on: every byte is sent once, none is missing from a success.
//!
//! ```text
//!   ReadReply ── whole ───────────► one head, then all of the data      both forms
//!       │ ────── error ───────────► one error                           both forms
//!       │
//!       └─ in_chunks (structured, not "in one piece")
//!               ▼
//!           ReadChunks ◄─┐ data, hole, error_at: in any order and number
//!               │ └──────┘
//!               ├─ last_data, last_hole, done    every byte was sent, or an error told
//!               └─ error                         whatever was sent
//! ```
//!
//! A head promises its data. A client that was promised data and must be told that it cannot be had can only be disconnected.

use crate::{
    head::{Cookie, Head, Order, error_offset_chunk},
    reply::{ErrorCode, Form, error_reply},
};
use bytes::Bytes;
use std::ops::Range;

/// Answers a read.
#[derive(Debug)]
#[must_use = "a request that is not answered leaves its client waiting"]
pub struct ReadReply {
    cookie: Cookie,
    form: Form,
    offset: u64,
    length: u32,
    one_piece: bool,
}

impl ReadReply {
    pub(crate) fn new(cookie: Cookie, form: Form, offset: u64, length: u32, one_piece: bool) -> Self {
        ReadReply { cookie, form, offset, length, one_piece }
    }

    /// The client's name for the request.
    pub fn cookie(&self) -> Cookie {
        self.cookie
    }

    /// The head of a reply with everything; all of the request's bytes have to follow.
    pub fn whole(self) -> Head {
        match self.form {
            Form::Simple => Head::simple(self.cookie, 0),
            Form::Structured => Head::chunk_data(self.cookie, Order::Last, self.offset, self.length),
        }
    }

    /// A reply in chunks, which may come in any order and be holes.
    ///
    /// # Errors
    /// The client takes one piece only: the reply is given back, to be given [`whole`](Self::whole).
    pub fn in_chunks(self) -> Result<ReadChunks, ReadReply> {
        if self.form == Form::Simple || self.one_piece {
            return Err(self);
        }
        let range = self.offset..self.offset + u64::from(self.length);
        Ok(ReadChunks { cookie: self.cookie, range, sent: Vec::new(), failed: Vec::new() })
    }

    /// Nothing could be read. The whole reply; the message is for people, and not sent where the client takes simple replies only.
    pub fn error(self, code: ErrorCode, message: &str) -> Bytes {
        error_reply(self.cookie, self.form, code, message)
    }
}

/// Answers a read, chunk by chunk. Chunks of other replies may be sent between these.
///
/// # Panics
/// Every method asserts that a chunk lies within the request, is not empty, and has nothing of what was sent before; the ones that
/// end the reply with success, that nothing is missing. A client would disconnect, or read wrong bytes.
#[derive(Debug)]
#[must_use = "a request that is not answered leaves its client waiting"]
pub struct ReadChunks {
    cookie: Cookie,
    range: Range<u64>,
    /// What was sent: in order, without overlaps, neighbours joined. One range, for who sends in order.
    sent: Vec<Range<u64>>,
    /// Where errors were told.
    failed: Vec<u64>,
}

impl ReadChunks {
    /// The client's name for the request.
    pub fn cookie(&self) -> Cookie {
        self.cookie
    }

    /// The head of a chunk of data; `length` bytes have to follow.
    pub fn data(&mut self, offset: u64, length: u32) -> Head {
        self.claim(offset, length);
        Head::chunk_data(self.cookie, Order::MoreToCome, offset, length)
    }

    /// A chunk of zeroes. Nothing follows.
    pub fn hole(&mut self, offset: u64, length: u32) -> Head {
        self.claim(offset, length);
        Head::chunk_hole(self.cookie, Order::MoreToCome, offset, length)
    }

    /// The byte at `offset` could not be read, nor does what was sent count from there to the end of its chunk.
    pub fn error_at(&mut self, offset: u64, code: ErrorCode, message: &str) -> Bytes {
        assert!(self.range.contains(&offset), "an error at {offset} is outside of the read {:?}", self.range);
        self.failed.push(offset);
        error_offset_chunk(self.cookie, code.number(), message, offset)
    }

    /// As [`data`](Self::data), and ends the reply.
    pub fn last_data(mut self, offset: u64, length: u32) -> Head {
        self.claim(offset, length);
        self.assert_complete();
        Head::chunk_data(self.cookie, Order::Last, offset, length)
    }

    /// As [`hole`](Self::hole), and ends the reply.
    pub fn last_hole(mut self, offset: u64, length: u32) -> Head {
        self.claim(offset, length);
        self.assert_complete();
        Head::chunk_hole(self.cookie, Order::Last, offset, length)
    }

    /// Ends the reply.
    pub fn done(self) -> Head {
        self.assert_complete();
        Head::chunk_none(self.cookie)
    }

    /// Ends the reply: nothing of what was sent counts.
    pub fn error(self, code: ErrorCode, message: &str) -> Bytes {
        error_reply(self.cookie, Form::Structured, code, message)
    }

    /// Notes that the range is sent.
    fn claim(&mut self, offset: u64, length: u32) {
        let chunk = offset..offset.saturating_add(u64::from(length));
        let (range, failed) = (&self.range, &self.failed);
        assert!(length > 0, "a chunk at {offset} is empty");
        assert!(
            range.start <= chunk.start && chunk.end <= range.end,
            "chunk {chunk:?} is outside of the read {range:?}"
        );
        assert!(
            !failed.iter().any(|failed| chunk.contains(failed)),
            "chunk {chunk:?} follows an error in it"
        );
        // Where it belongs among what was sent; behind everything, for who sends in order.
        let after = self.sent.partition_point(|sent| sent.start <= chunk.start);
        let overlaps_before = after > 0 && self.sent[after - 1].end > chunk.start;
        let overlaps_after = self.sent.get(after).is_some_and(|sent| sent.start < chunk.end);
        assert!(!overlaps_before && !overlaps_after, "chunk {chunk:?} was sent before: {:?}", self.sent);
        let joins_before = after > 0 && self.sent[after - 1].end == chunk.start;
        let joins_after = self.sent.get(after).is_some_and(|sent| sent.start == chunk.end);
        match (joins_before, joins_after) {
            (true, true) => self.sent[after - 1].end = self.sent.remove(after).end,
            (true, false) => self.sent[after - 1].end = chunk.end,
            (false, true) => self.sent[after].start = chunk.start,
            (false, false) => self.sent.insert(after, chunk),
        }
    }

    fn assert_complete(&self) {
        let complete = self.sent.first() == Some(&self.range);
        assert!(
            complete || !self.failed.is_empty(),
            "of the read {:?} only {:?} was sent",
            self.range,
            self.sent
        );
    }
}
