//! What waits to be sent on one connection: small messages together, bulk as it is.

use crate::frame::{HEADER, header};
use bytes::Bytes;
use std::{collections::VecDeque, io::IoSlice};

/// Bulk of so many bytes, or fewer, is copied: cheaper than a slice of its own.
const COPIED_MAX: usize = 4_096;

/// Small messages are put together up to so many bytes.
const TOGETHER: usize = 64 << 10;

/// Bytes in the order in which they are to be sent.
#[derive(Debug, Default)]
pub struct Outbox {
    chunks: VecDeque<Bytes>,
    /// What follows the chunks.
    open: Vec<u8>,
    bytes: usize,
}

impl Outbox {
    /// With nothing in it.
    #[must_use]
    pub fn new() -> Outbox {
        Outbox::default()
    }

    /// Bytes that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes
    }

    /// Whether none do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds a frame; `put` appends its fields.
    pub(crate) fn push(&mut self, kind: u8, bulk: &Bytes, put: impl FnOnce(&mut Vec<u8>)) {
        let start = self.open.len();
        self.open.resize(start + HEADER, 0);
        put(&mut self.open);
        let (before, fields) = self.open.split_at_mut(start + HEADER);
        before[start..].copy_from_slice(&header(kind, fields, bulk.len()));
        if bulk.len() <= COPIED_MAX {
            self.open.extend_from_slice(bulk);
        }
        self.bytes += self.open.len() - start;
        if bulk.len() > COPIED_MAX {
            self.close();
            self.bytes += bulk.len();
            self.chunks.push_back(bulk.clone());
        } else if self.open.len() >= TOGETHER {
            self.close();
        }
    }

    /// Adds bytes of another protocol, which are few.
    pub fn put(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
        self.bytes += bytes.len();
    }

    /// Adds bytes of another protocol, which may be many.
    pub fn put_bulk(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPIED_MAX {
            return self.put(bytes);
        }
        self.close();
        self.bytes += bytes.len();
        self.chunks.push_back(bytes.clone());
    }

    /// The first of them, as many slices as there is room for. Returns how many.
    pub fn slices<'a>(&'a self, into: &mut [IoSlice<'a>]) -> usize {
        let all = self.chunks.iter().map(|chunk| &chunk[..]).chain(Some(&self.open[..]));
        let mut count = 0;
        for (slot, chunk) in into.iter_mut().zip(all.filter(|chunk| !chunk.is_empty())) {
            *slot = IoSlice::new(chunk);
            count += 1;
        }
        count
    }

    /// So many bytes were sent.
    ///
    /// # Panics
    /// If there were fewer.
    pub fn sent(&mut self, mut count: usize) {
        assert!(count <= self.bytes, "{count} bytes were sent of {}", self.bytes);
        self.bytes -= count;
        while let Some(first) = self.chunks.front_mut() {
            if first.len() > count {
                *first = first.slice(count..);
                return;
            }
            count -= first.len();
            self.chunks.pop_front();
        }
        if count == self.open.len() {
            self.open.clear();
        } else if count > 0 {
            // What is left would be moved otherwise.
            let left = Bytes::from(std::mem::take(&mut self.open)).slice(count..);
            self.chunks.push_back(left);
        }
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.chunks.push_back(Bytes::from(std::mem::take(&mut self.open)));
        }
    }
}
