//! What a writer has asked and was not done yet, in its order. Owns how much that is.

use region_wire::{BlockCopy, Request};
use std::collections::VecDeque;

/// More than this is not read from a writer whose first request waits for its disk: as much as an Upstairs sends ahead of answers.
const BYTES_MAX: usize = 10 << 20;

/// The same, in requests.
const REQUESTS_MAX: usize = 4_096;

/// Requests that wait.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    requests: VecDeque<Request>,
    bytes: usize,
}

impl Queue {
    pub(crate) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    /// Whether more may come.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < BYTES_MAX && self.requests.len() < REQUESTS_MAX
    }

    pub(crate) fn push(&mut self, request: Request) {
        self.bytes += bytes_of(&request);
        self.requests.push_back(request);
    }

    /// What was taken comes first again.
    pub(crate) fn put_back(&mut self, request: Request) {
        self.bytes += bytes_of(&request);
        self.requests.push_front(request);
    }

    pub(crate) fn take(&mut self) -> Option<Request> {
        self.take_if(|_| true)
    }

    /// The next one, if it is of the kind that is looked for.
    pub(crate) fn take_if(&mut self, is_it: impl Fn(&Request) -> bool) -> Option<Request> {
        let request = self.requests.pop_front_if(|request| is_it(request))?;
        self.bytes -= bytes_of(&request);
        Some(request)
    }

    /// Takes all Pings, wherever they are.
    pub(crate) fn take_pings(&mut self) -> Vec<u64> {
        let mut ids = Vec::new();
        self.requests.retain(|request| match request {
            Request::Ping { id } => {
                ids.push(*id);
                false
            }
            _ => true,
        });
        ids
    }

    pub(crate) fn clear(&mut self) {
        *self = Queue::default();
    }
}

/// Bytes of blocks that came with it.
fn bytes_of(request: &Request) -> usize {
    let of_copy = |copy: &BlockCopy| copy.data().map_or(0, |data| data.bytes.len());
    match request {
        Request::Write(_, data) => data.bytes.len(),
        Request::Install { copy, .. } | Request::Heal { copy, .. } | Request::Stage { copy, .. } => {
            of_copy(copy)
        }
        _ => 0,
    }
}
