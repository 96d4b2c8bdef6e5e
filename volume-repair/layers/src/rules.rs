//! The rules of layers of which the test must be able to tell when one is left out; in builds with the feature `mutants` only.

named_rules::named_rules! {
    /// A rule of `docs/BLOCK.md`, "Volumes of several parts", by what it says.
    pub enum Rule {
        /// A block that was zeroed or trimmed never uncovers the parent.
        ZeroedCovers,
        /// A parent that is shorter than the volume is seen up to its last block.
        ParentIsSeenToItsEnd,
        /// A flush is done when all parts that are written have done it.
        FlushGoesToAll,
        /// What follows from "never written" is told only while the right to say that is there.
        LateAnswersNeedTheRight,
        /// What of a parent is not known to be zeros is not said to be.
        LooksAreTrue,
        /// A scrub does not write what clients have begun to write since it looked.
        NewWritesStay,
        /// Nor what they were writing when it looked.
        WritesUnderWayStay,
        /// Nor what they were told that it may be done later; and what it has left to such a write it looks at again.
        FailedWritesStay,
        /// What was begun while there were parents sees through to them, also when they were given up since.
        WhatWasBegunSeesThrough,
        /// Parents are given up only when all that they have is the volume's own.
        ParentsStayWhileNeeded,
    }
}
