//! The rules of writing and reading of which the simulation must be able to tell when one is left out; in builds with the feature
//! `mutants` only.

/// A rule of `docs/BLOCK.md`, by what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// A write is acknowledged when two full members have it.
    TwoHaveAWrite,
    /// A flush is acknowledged when two full members have everything before it durable.
    TwoHaveAFlush,
    /// Activation takes the longest prefix of two.
    LongestPrefix,
    /// Activation waits for two full members.
    TwoActivate,
    /// A list counts only if none of its members tells an older one.
    ListIsKeptByAll,
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
    /// What was not heard of two members lately answers nothing.
    SilenceStopsReads,
    /// What is copied was asked of both behind the same position.
    SamePosition,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 13] = [
        Rule::TwoHaveAWrite,
        Rule::TwoHaveAFlush,
        Rule::LongestPrefix,
        Rule::TwoActivate,
        Rule::ListIsKeptByAll,
        Rule::FillingNeverCounts,
        Rule::FillingIsNoSource,
        Rule::RemovedBeforeSkipped,
        Rule::ListBeforeUse,
        Rule::FullAfterAQuietRound,
        Rule::ReadsAreChecked,
        Rule::SilenceStopsReads,
        Rule::SamePosition,
    ];

    /// Whether it is kept.
    #[cfg(not(feature = "mutants"))]
    pub(crate) fn is_kept(self) -> bool {
        true
    }
}

#[cfg(feature = "mutants")]
mod mutants {
    use super::Rule;
    use std::cell::Cell;

    thread_local! {
        static LEFT_OUT: Cell<Option<Rule>> = const { Cell::new(None) };
    }

    impl Rule {
        /// Whether it is kept.
        pub(crate) fn is_kept(self) -> bool {
            LEFT_OUT.get() != Some(self)
        }

        /// Leaves it out in this thread while `act` runs. If that panics, too.
        pub fn left_out<T>(self, act: impl FnOnce() -> T) -> T {
            struct PutBack;
            impl Drop for PutBack {
                fn drop(&mut self) {
                    LEFT_OUT.set(None);
                }
            }
            LEFT_OUT.set(Some(self));
            let _put_back = PutBack;
            act()
        }
    }
}
