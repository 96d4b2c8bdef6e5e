//! The number of a write.

use std::fmt;

/// Which write: the epoch of its writer, and its number among that writer's writes. Ordered as the writes are.
///
/// One epoch has one writer, so a position is one write; as the *version* of a block it says whose bytes the block has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The right under which it was written; 0 is nobody's.
    pub epoch: u32,
    /// From 1 on; less than [`COUNTERS`](Position::COUNTERS).
    pub counter: u64,
}

impl Position {
    /// Before every write: the version of a block that was never written.
    pub const NONE: Position = Position { epoch: 0, counter: 0 };

    /// Writes of one epoch at most: it is kept in six bytes. At a million a second they last for nine years.
    pub const COUNTERS: u64 = 1 << 48;

    /// The one after it, of the same writer.
    ///
    /// # Panics
    /// After the last one.
    #[must_use]
    pub fn next(self) -> Position {
        let counter = self.counter + 1;
        assert!(counter < Position::COUNTERS, "an epoch ends before its numbers do");
        Position { counter, ..self }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.counter)
    }
}
