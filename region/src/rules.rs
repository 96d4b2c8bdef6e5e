//! The rules of which the crash tests must be able to tell when one is left out. In a build with the feature `mutants` a test
//! leaves one out, for its own thread; in any other they are kept, at no cost.

named_rules::named_rules! {
    /// A rule of `docs/BLOCK.md`, by what it says.
    pub enum Rule {
        /// What was replaced is written over only when its replacement is durable.
        ReplacedIsKeptUntilDurable,
        /// The pages of a checkpoint, and the records that are in them, are durable before the super names them.
        PagesBeforeSuper,
        /// What a checkpoint was to write that found no room, the next one writes.
        AbandonedIsWrittenAgain,
        /// A page is written over the half that does not count.
        OtherHalf,
        /// Of super and control, one copy is durable before the other is written.
        OneCopyAtATime,
        /// The copy that is not relied on is written first, however the other came to be the only right one.
        WrongCopyFirst,
        /// An opening makes copies that differ equal.
        CopiesAreEqual,
        /// An opening syncs what a killed process left in the cache.
        OpeningSyncs,
        /// An opening begins with a record of its own, which is durable before anything else is.
        LifeBeginsDurably,
        /// The journal ends where a record's bytes are missing.
        EndHasItsBytes,
        /// What is looked for are the bytes of all blocks at the end that is tried, and not those that later records replaced.
        BytesInForceAtTheEnd,
        /// A group of records counts as a whole.
        GroupIsWhole,
        /// Records that were durable and are missing are noticed.
        DurableIsMissed,
        /// When a sync has failed, no later one counts.
        FailedSyncIsForGood,
        /// What a snapshot has is not written over.
        SnapshotsKeepTheirBlocks,
        /// Before a page of the map is replaced, a snapshot that has it gets it.
        ReplacedPagesAreKept,
        /// It is durable there before it is replaced.
        KeptPagesFirst,
        /// A snapshot is there when its checkpoint is in force, and not before.
        SnapshotBehindItsCheckpoint,
        /// One that was deleted, or was to be, is not taken any more.
        DeletedAreNotTaken,
        /// One that is being taken is deleted behind that.
        WhatIsTakenIsWaitedFor,
        /// What is in the file of a snapshot that goes, and older ones need, they get.
        OlderOnesGetItsPages,
        /// A page that is newer than a snapshot is not taken for its.
        NoNewerPageIsTaken,
        /// Bytes that were read beside the writer are what the map said of them, or are read again.
        ReadBesideIsChecked,
    }
}
