//! What a client asks: one request, its number, and how many of each kind were answered. Plain data.

use serde::Serialize;
use std::ops::AddAssign;

/// A request, by a number that is never used again. A write's number is what its blocks say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) number: u64,
    pub(crate) what: What,
    /// Of the volume.
    pub(crate) first: u64,
    pub(crate) count: u32,
    /// Whether it is durable before it is answered.
    pub(crate) is_durable: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Read,
    Write,
    /// Zeros, which are not to become a hole.
    Zero,
    Trim,
    Flush,
}

impl What {
    pub(crate) fn changes(self) -> bool {
        matches!(self, What::Write | What::Zero | What::Trim)
    }
}

/// What was asked and answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Reads that were answered, and right.
    pub reads: u64,
    /// Writes that were acknowledged.
    pub writes: u64,
    /// Blocks of them.
    pub blocks_written: u64,
    /// Zeroings and trims that were acknowledged.
    pub zeroings: u64,
    /// Flushes that were acknowledged.
    pub flushes: u64,
    /// Blocks that were read and held against the book.
    pub blocks_checked: u64,
    /// Requests that were under way when the export was killed.
    pub lost_answers: u64,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.blocks_written += other.blocks_written;
        self.zeroings += other.zeroings;
        self.flushes += other.flushes;
        self.blocks_checked += other.blocks_checked;
        self.lost_answers += other.lost_answers;
    }
}

impl Counts {
    /// All that was answered.
    pub(crate) fn answered(&self) -> u64 {
        self.reads + self.writes + self.zeroings + self.flushes
    }
}
