//! The rules of fencing and membership of which the tests must be able to tell when one is left out; like those of the region's
//! format, in builds with the feature `mutants` only.

named_rules::named_rules! {
    /// A rule of `docs/BLOCK.md`, by what it says.
    pub enum Rule {
        /// Who may write is durable before it is told.
        PromotionIsDurable,
        /// Only the connection that was promoted last acts.
        OnlyThePromotedActs,
        /// A lower epoch, or another session of the same one, is refused.
        LowerEpochIsRefused,
        /// An epoch that is much higher is refused.
        EpochsRiseSlowly,
        /// Who may write outlives every connection.
        PromotionOutlivesConnections,
        /// A stream has no gaps.
        NoGaps,
        /// A list that a member is in is kept only if it has everything up to the list's base.
        BaseIsApplied,
        /// A member that becomes full is synced before the list is kept.
        FullIsDurable,
        /// A flush is answered by a sync that began after it.
        FlushIsBehindItsSync,
        /// A Ping is answered behind the reads that were asked before it.
        PongIsBehindReads,
        /// A block that was zeroed or trimmed is not one that nobody ever wrote.
        TrimIsNotUnwritten,
        /// Copies go onto members that are not full.
        OnlyFillingInstalls,
        /// No write passes over a full member.
        OnlyFillingIsPassedOver,
        /// A snapshot of a position is taken there and nowhere else.
        SnapshotAtItsPosition,
        /// A clone is read by nobody before its content was read back and is the source's.
        OnlyProvenIsRead,
        /// What a clone holds is compared with what its source holds, hash by hash.
        HashesAreCompared,
    }
}
