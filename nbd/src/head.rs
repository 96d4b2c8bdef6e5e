//! The bytes that begin a reply. Owns their layout, of simple replies and of every kind of chunk; who may send which is
//! `reply.rs` and `read_reply.rs`.

use crate::wire::{REPLY_FLAG_DONE, SIMPLE_REPLY_MAGIC, STRING_BYTES_MAX, STRUCTURED_REPLY_MAGIC, chunk};
use bytes::{BufMut, Bytes, BytesMut};
use std::ops::Deref;

/// The longest head: a chunk's header, an offset, and the length of a hole.
const HEAD_BYTES_MAX: usize = 32;
/// Bytes of a chunk before its payload.
const CHUNK_HEADER_BYTES: usize = 20;

/// A client's name for a request. Unique among its requests in flight, if it is a good client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cookie(pub u64);

/// The first bytes of a reply, or all of it. What the method that made it says has to follow is sent right behind it, from
/// wherever it lies; nothing of another reply may come between.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a reply that is not sent leaves its client waiting"]
pub struct Head {
    bytes: [u8; HEAD_BYTES_MAX],
    length: u8,
}

impl Head {
    /// A whole reply without data.
    pub(crate) fn simple(cookie: Cookie, error: u32) -> Self {
        let mut head = Head { bytes: [0; HEAD_BYTES_MAX], length: 0 };
        head.put(&SIMPLE_REPLY_MAGIC.to_be_bytes());
        head.put(&error.to_be_bytes());
        head.put(&cookie.0.to_be_bytes());
        head
    }

    /// A whole chunk that says that no other follows.
    pub(crate) fn chunk_none(cookie: Cookie) -> Self {
        Head::chunk(cookie, chunk::NONE, Order::Last, 0)
    }

    /// A chunk that `length` bytes of data have to follow.
    pub(crate) fn chunk_data(cookie: Cookie, order: Order, offset: u64, length: u32) -> Self {
        let mut head = Head::chunk(cookie, chunk::OFFSET_DATA, order, 8 + length);
        head.put(&offset.to_be_bytes());
        head
    }

    /// A whole chunk that stands for `length` zeroes.
    pub(crate) fn chunk_hole(cookie: Cookie, order: Order, offset: u64, length: u32) -> Self {
        let mut head = Head::chunk(cookie, chunk::OFFSET_HOLE, order, 12);
        head.put(&offset.to_be_bytes());
        head.put(&length.to_be_bytes());
        head
    }

    fn chunk(cookie: Cookie, kind: u16, order: Order, payload_bytes: u32) -> Self {
        let mut head = Head { bytes: [0; HEAD_BYTES_MAX], length: 0 };
        head.put(&STRUCTURED_REPLY_MAGIC.to_be_bytes());
        head.put(&order.flags().to_be_bytes());
        head.put(&kind.to_be_bytes());
        head.put(&cookie.0.to_be_bytes());
        head.put(&payload_bytes.to_be_bytes());
        head
    }

    fn put(&mut self, field: &[u8]) {
        let start = usize::from(self.length);
        self.bytes[start..start + field.len()].copy_from_slice(field);
        self.length += field.len() as u8;
    }
}

impl Deref for Head {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl AsRef<[u8]> for Head {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Head> for Bytes {
    fn from(head: Head) -> Bytes {
        Bytes::copy_from_slice(&head)
    }
}

/// The place of a chunk in its reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Others follow.
    MoreToCome,
    /// It ends the reply.
    Last,
}

impl Order {
    fn flags(self) -> u16 {
        match self {
            Order::MoreToCome => 0,
            Order::Last => REPLY_FLAG_DONE,
        }
    }
}

/// A whole chunk with an error. The message is cut to what the protocol allows.
pub(crate) fn error_chunk(cookie: Cookie, error: u32, message: &str) -> Bytes {
    let message = cut(message);
    let payload_bytes = 6 + message.len();
    let mut chunk = chunk_of(cookie, chunk::ERROR, Order::Last, payload_bytes);
    put_error(&mut chunk, error, message);
    chunk.freeze()
}

/// A whole chunk with an error that befell one place.
pub(crate) fn error_offset_chunk(cookie: Cookie, error: u32, message: &str, offset: u64) -> Bytes {
    let message = cut(message);
    let payload_bytes = 14 + message.len();
    let mut chunk = chunk_of(cookie, chunk::ERROR_OFFSET, Order::MoreToCome, payload_bytes);
    put_error(&mut chunk, error, message);
    chunk.put_u64(offset);
    chunk.freeze()
}

/// A whole chunk with the extents of one metadata context: lengths and status flags.
pub(crate) fn block_status_chunk(cookie: Cookie, context: u32, extents: &[(u32, u32)]) -> Bytes {
    let mut chunk = chunk_of(cookie, chunk::BLOCK_STATUS, Order::Last, 4 + 8 * extents.len());
    chunk.put_u32(context);
    for (length, status) in extents {
        chunk.put_u32(*length);
        chunk.put_u32(*status);
    }
    chunk.freeze()
}

fn chunk_of(cookie: Cookie, kind: u16, order: Order, payload_bytes: usize) -> BytesMut {
    let bounded = u32::try_from(payload_bytes).expect("messages and lists of extents are bounded");
    let mut chunk = BytesMut::with_capacity(CHUNK_HEADER_BYTES + payload_bytes);
    chunk.put_slice(&Head::chunk(cookie, kind, order, bounded));
    chunk
}

fn put_error(chunk: &mut BytesMut, error: u32, message: &str) {
    chunk.put_u32(error);
    chunk.put_u16(u16::try_from(message.len()).expect("the message was cut"));
    chunk.put_slice(message.as_bytes());
}

/// What of a message fits, in whole characters.
fn cut(message: &str) -> &str {
    &message[..message.floor_char_boundary(STRING_BYTES_MAX)]
}
