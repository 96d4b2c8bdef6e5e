//! The stream of writes that some member may still need: from the first one that not all have, to the newest.

use crate::{
    status::{Behind, WindowStatus},
    types::Limits,
};
use region::Position;
use region_wire::{BlockData, Blocks, Request};
use std::collections::VecDeque;

/// Something that each member is sent once, in order.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    Write(Position, BlockData),
    Zero(Position, Blocks),
    /// The members make durable what came before: the writes up to this one.
    Flush(Position),
}

impl Entry {
    /// The write that it is, or follows. Never less than that of the entry before.
    pub(crate) fn position(&self) -> Position {
        match self {
            Entry::Write(position, _) | Entry::Zero(position, _) | Entry::Flush(position) => *position,
        }
    }

    pub(crate) fn is_flush(&self) -> bool {
        matches!(self, Entry::Flush(_))
    }

    /// The first block that it writes.
    pub(crate) fn first_block(&self) -> Option<u64> {
        match self {
            Entry::Write(_, data) => Some(data.first),
            Entry::Zero(_, blocks) => Some(blocks.first),
            Entry::Flush(_) => None,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        if let Entry::Write(_, data) = self { data.bytes.len() } else { 0 }
    }

    /// What a member is sent. A flush is asked with the number 0: whoever wants to hear of it asks it in its own words.
    pub(crate) fn request(&self) -> Request {
        match self {
            Entry::Write(position, data) => Request::Write(*position, data.clone()),
            Entry::Zero(position, blocks) => Request::Zero(*position, *blocks),
            Entry::Flush(_) => Request::Flush { id: 0 },
        }
    }
}

/// The entries, by numbers that go on for as long as the process does.
#[derive(Debug)]
pub(crate) struct Window {
    entries: VecDeque<Entry>,
    /// The number of the first.
    start: u64,
    /// The last write that is not there any more: all that need it have it.
    pub(crate) forgotten: Position,
    /// The last write.
    pub(crate) last: Position,
    bytes: usize,
    limits: Limits,
}

impl Window {
    /// Before the first write of an epoch.
    pub(crate) fn new(epoch: u32, limits: Limits) -> Window {
        let last = Position { epoch, counter: 0 };
        Window { entries: VecDeque::new(), start: 0, forgotten: Position::NONE, last, bytes: 0, limits }
    }

    /// Whether there is room for another one.
    pub(crate) fn has_room(&self) -> bool {
        self.bytes < self.limits.window_bytes && self.entries.len() < self.limits.window_entries
    }

    pub(crate) fn push_write(&mut self, entry: impl FnOnce(Position) -> Entry) -> Position {
        self.last = self.last.next();
        let entry = entry(self.last);
        self.bytes += entry.bytes();
        self.entries.push_back(entry);
        self.last
    }

    pub(crate) fn push_flush(&mut self) {
        self.entries.push_back(Entry::Flush(self.last));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number behind the last.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.entries.len() as u64
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(number.checked_sub(self.start)?).ok()?)
    }

    /// The number of the first that a member needs that has applied so much. None if it is not there any more.
    pub(crate) fn behind(&self, applied: Position) -> Option<u64> {
        if applied < self.forgotten || applied > self.last {
            return None;
        }
        // A flush behind the last write that it has may not have been heard.
        let is_applied =
            |entry: &Entry| entry.position() < applied || (entry.position() == applied && !entry.is_flush());
        Some(self.start + self.entries.partition_point(is_applied) as u64)
    }

    /// What a member lacks that has applied so much. None if that is not there any more.
    pub(crate) fn lag(&self, applied: Position) -> Option<Behind> {
        let first = usize::try_from(self.behind(applied)? - self.start).ok()?;
        let writes = self.entries.range(first..).filter(|entry| !entry.is_flush());
        let add = |sum: Behind, entry: &Entry| Behind {
            writes: sum.writes + 1,
            bytes: sum.bytes + entry.bytes() as u64,
        };
        Some(writes.fold(Behind::default(), add))
    }

    pub(crate) fn status(&self) -> WindowStatus {
        WindowStatus {
            entries: self.entries.len() as u64,
            entries_max: self.limits.window_entries as u64,
            bytes: self.bytes as u64,
            bytes_max: self.limits.window_bytes as u64,
        }
    }

    /// Whether a member that has applied so much needs more than half of what is kept.
    pub(crate) fn is_far_behind(&self, applied: Position) -> bool {
        let half = self.entries.get(self.entries.len() / 2);
        half.is_some_and(|half| applied < half.position())
    }

    /// All that need them have those up to this position, and have been sent those before this number.
    pub(crate) fn forget(&mut self, applied: Position, sent: u64) {
        while self.start < sent
            && let Some(first) = self.entries.front()
            && (first.is_flush() || first.position() <= applied)
        {
            self.bytes -= first.bytes();
            if !first.is_flush() {
                self.forgotten = first.position();
            }
            self.entries.pop_front();
            self.start += 1;
        }
    }
}
