//! What has arrived on one connection: bytes go in at the end, frames come out at the start.
//!
//! ```text
//!   socket ──► filling ──as soon as it has a whole frame──► ready ──► frames, which are parts of it
//!                 ▲────────── what is left behind the last whole frame ──┘
//! ```
//!
//! Only that rest is ever copied. Behind a large frame there is room for little more than the next one's header, so that little of a large
//! one is copied; and its bulk is put where a disk may take it from.

use crate::frame::{Frame, HEADER, Missing, WireError, split};
use bytes::Bytes;

/// Room for so many bytes is made at a time, at least.
const ROOM: usize = 64 << 10;

/// The same behind a large frame, which is likely to be followed by another one.
const ROOM_FOR_HEADER: usize = 4 << 10;

/// Bulk of at least [`ROOM`] bytes begins at a multiple of so many, as writing past the system's cache wants it.
const ALIGNMENT: usize = 4096;

/// Bytes that have arrived.
#[derive(Debug, Default)]
pub struct Inbox {
    filling: Vec<u8>,
    /// Where in it the first of them is.
    start: usize,
    ready: Bytes,
    /// Bytes that must be there before there can be another frame.
    needed: usize,
    /// The last frame was a large one.
    was_large: bool,
}

impl Inbox {
    /// With nothing in it.
    #[must_use]
    pub fn new() -> Inbox {
        Inbox::default()
    }

    /// Where what arrives is to be put, behind what is there. There is room.
    pub fn fill(&mut self) -> &mut Vec<u8> {
        let missing = self.needed.saturating_sub(self.filling.len() - self.start);
        let least = if self.was_large { ROOM_FOR_HEADER } else { ROOM };
        let room = self.filling.capacity() - self.filling.len();
        // Where all that is missing has room, more is not made: what is there would be moved.
        if room == 0 || room < missing {
            self.filling.reserve_exact(missing.max(least));
        }
        &mut self.filling
    }

    /// So many bytes must be there before there can be another frame: of a frame of which no more than a part is there, all of its own.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.needed
    }

    /// The next frame, if all of it is there.
    ///
    /// # Errors
    /// If what is there is no frame: as soon as its header says so.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, WireError> {
        if self.ready.is_empty() {
            if self.filling.len() - self.start < self.needed.max(1) {
                return Ok(None);
            }
            self.ready =
                Bytes::from(std::mem::take(&mut self.filling)).slice(std::mem::take(&mut self.start)..);
        }
        match split(&mut self.ready)? {
            Ok(frame) => {
                self.needed = 0;
                self.was_large = HEADER + frame.fields.len() + frame.bulk.len() > ROOM;
                Ok(Some(frame))
            }
            Err(missing) => {
                self.begin_to_fill(missing);
                self.needed = missing.needed;
                let is_there = self.filling.len() - self.start >= missing.needed;
                if is_there { self.next_frame() } else { Ok(None) }
            }
        }
    }

    /// Makes room for a frame of which a part is there.
    fn begin_to_fill(&mut self, Missing { needed, before_bulk }: Missing) {
        let rest = std::mem::take(&mut self.ready);
        // What has arrived since then, if anything, is behind it.
        let behind = std::mem::take(&mut self.filling).split_off(std::mem::take(&mut self.start));
        let size = needed.max(rest.len() + behind.len());
        match before_bulk.filter(|before_bulk| needed - before_bulk >= ROOM) {
            Some(before_bulk) => {
                self.filling = Vec::with_capacity(size + ALIGNMENT);
                let bulk = self.filling.as_ptr().wrapping_add(before_bulk);
                self.start = bulk.align_offset(ALIGNMENT).min(ALIGNMENT);
                self.filling.resize(self.start, 0);
            }
            None => self.filling = Vec::with_capacity(size.max(ROOM)),
        }
        self.filling.extend_from_slice(&rest);
        self.filling.extend_from_slice(&behind);
    }
}
