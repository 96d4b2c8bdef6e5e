//! What has arrived on one connection: bytes go in at the end, frames come out at the start.
//!
//! ```text
//!   socket ──► filling ──as soon as it has a whole frame──► ready ──► frames, which are parts of it
//!                 ▲────────── what is left behind the last whole frame ──┘
//! ```
//!
//! Only that rest is ever copied, and who fills in as much as is missing of a large frame leaves none.

use crate::frame::{Frame, WireError, split};
use bytes::Bytes;

/// Room for so many bytes is made at a time, at least.
const ROOM: usize = 64 << 10;

/// Bytes that have arrived.
#[derive(Debug, Default)]
pub struct Inbox {
    filling: Vec<u8>,
    ready: Bytes,
    /// Bytes that must be there before there can be another frame.
    needed: usize,
}

impl Inbox {
    /// With nothing in it.
    #[must_use]
    pub fn new() -> Inbox {
        Inbox::default()
    }

    /// Where what arrives is to be put, behind what is there. There is room.
    pub fn fill(&mut self) -> &mut Vec<u8> {
        let missing = self.needed.saturating_sub(self.filling.len());
        self.filling.reserve_exact(if missing > ROOM { missing } else { ROOM });
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
            if self.filling.len() < self.needed.max(1) {
                return Ok(None);
            }
            self.ready = Bytes::from(std::mem::take(&mut self.filling));
        }
        match split(&mut self.ready)? {
            Ok(frame) => {
                self.needed = 0;
                Ok(Some(frame))
            }
            Err(needed) => {
                // What has arrived since then, if anything, is behind it.
                let rest = std::mem::take(&mut self.ready);
                let behind = std::mem::take(&mut self.filling);
                self.filling = Vec::with_capacity(needed.max(rest.len() + behind.len()));
                self.filling.extend_from_slice(&rest);
                self.filling.extend_from_slice(&behind);
                self.needed = needed;
                if self.filling.len() < needed { Ok(None) } else { self.next_frame() }
            }
        }
    }
}
