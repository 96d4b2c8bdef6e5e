//! The rules of fencing and membership of which the tests must be able to tell when one is left out; like those of the region's
//! format, in builds with the feature `mutants` only.

/// A rule of `docs/BLOCK.md`, by what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Who may write is durable before it is told.
    PromotionIsDurable,
    /// Only the connection that was promoted last acts.
    OnlyThePromotedActs,
    /// A lower epoch, or another session of the same one, is refused.
    LowerEpochIsRefused,
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
    /// Copies go onto members that are not full.
    OnlyFillingInstalls,
}

impl Rule {
    /// All of them.
    pub const ALL: [Rule; 9] = [
        Rule::PromotionIsDurable,
        Rule::OnlyThePromotedActs,
        Rule::LowerEpochIsRefused,
        Rule::PromotionOutlivesConnections,
        Rule::NoGaps,
        Rule::BaseIsApplied,
        Rule::FullIsDurable,
        Rule::FlushIsBehindItsSync,
        Rule::OnlyFillingInstalls,
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
