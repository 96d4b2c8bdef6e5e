//! What can happen in the world.

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The creator claims the saga.
    Claim,
    /// Its INSERT is committed and answered.
    InsertCommits,
    /// Its INSERT is answered with an error, and may or may not be committed later.
    InsertIsAmbiguous,
    /// Its INSERT is answered with an error although it was committed.
    InsertCommitsUnanswered,
    /// The INSERT that was given up is committed.
    InsertCommitsLate,
    /// The INSERT that was given up is never committed.
    InsertVanishes,
    /// The created saga is executed.
    Start,
    /// The executor that runs ends the row.
    EndRow,
    /// The executor gives its claim back, because its row has ended.
    Finish,
    /// The executor is refused its next write, because the row is another's by now, and stops.
    Fence,
    /// Another coordinator adopts the row.
    AdoptAway,
    /// This coordinator adopts it back.
    AdoptBack,
    /// The other coordinator ends the row.
    OtherEndsRow,
    /// A pass that does it in the wrong order lists.
    ListEarly,
    /// A pass begins.
    Open,
    /// It lists.
    List,
    /// The listing fails.
    ListFails,
    /// It plans.
    Plan,
    /// The epoch of what it wants resumed is raised.
    Adopt,
    /// The same, and the answer is lost.
    AdoptUnanswered,
    /// The row is not any more as it was listed.
    AdoptRefused,
    /// The log of what was adopted is loaded.
    Load,
    /// What was loaded is executed on.
    Resume,
    /// What it wants resumed can not be resumed.
    ResumeFails,
    /// The process dies and another one starts.
    Crash,
    /// The last write of an executor that has died comes to the store.
    LateWrite,
}
