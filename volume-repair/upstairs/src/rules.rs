//! The rules of writing and reading of which the simulation must be able to tell when one is left out; in builds with the feature
//! `mutants` only.

named_rules::named_rules! {
    /// A rule of `docs/BLOCK.md`, by what it says.
    pub enum Rule {
        /// A write is acknowledged when two full members have it.
        TwoHaveAWrite,
        /// A flush is acknowledged when two full members have everything before it durable.
        TwoHaveAFlush,
        /// A snapshot is taken when two members have it.
        TwoHaveASnapshot,
        /// Activation takes the longest prefix of two.
        LongestPrefix,
        /// Activation waits for two full members.
        TwoActivate,
        /// A list counts only if none of its members tells an older one.
        ListIsKeptByAll,
        /// Who keeps a list that is newer than the one that counts takes part.
        NewerListsCountForWhoKeptThem,
        /// One of a list whose others are gone is enough only if it is known that nobody went on without it.
        TheLastOneIsKnownToBe,
        /// Then whoever was full before that list takes part.
        WhoWasLeftOutOfTheLastListCounts,
        /// Whoever has lost its power waits longer for a third one.
        SuspectsWaitLonger,
        /// A member that is not full does not count.
        FillingNeverCounts,
        /// A member that is not full is not read from.
        FillingIsNoSource,
        /// What a member lacks is forgotten only when a list without it is in force.
        RemovedBeforeSkipped,
        /// A list is in force when all its members keep it.
        ListBeforeUse,
        /// A member becomes full when a whole round has found nothing to copy.
        FullAfterAQuietRound,
        /// What is read has its checksum.
        ReadsAreChecked,
        /// What is read from an encrypted volume was sealed with its key, for its place.
        SealsAreChecked,
        /// What is copied within one, or heals, was.
        CopiedSealsAreChecked,
        /// What was not heard of two members lately answers nothing.
        SilenceStopsReads,
        /// What is copied was asked of both behind the same position.
        SamePosition,
        /// No write is passed over whose blocks were looked at.
        PassedOverBeforeItIsLookedAt,
        /// What the source of a copy says is newer than it was is looked at once more.
        NewerIsLookedAtAgain,
        /// A block is lost when everybody was asked who may have it right.
        AllAreAskedBeforeLost,
        /// What nobody has right is lost, and the rest is copied.
        LostStopsNobody,
        /// A list of one is made only if all others are gone.
        AloneOnlyIfOthersAreGone,
        /// Of copies that are compared, those differ that had to have the same write.
        ComparedBehindOneWrite,
        /// When copies are compared each full member's is looked at.
        EachCopyIsLookedAt,
        /// What nobody was told of is kept, also if all full members have it.
        UntoldIsKept,
    }
}
