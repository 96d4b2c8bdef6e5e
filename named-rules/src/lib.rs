//! Rules that have names, so that a test can leave one out and see that it is missed.
//!
//! **Problem.** A test of what happens in a crash or a race may pass because it looks at the wrong thing. The proof that it looks at the
//! right one is that it fails without the rule.
//!
//! **Theory.** The code asks a rule whether it is kept where it is followed. In a build with the feature `mutants` a test leaves one out,
//! for its own thread; in any other it is always kept, at no cost, and nobody can leave it out.
//!
//! ```
//! named_rules::named_rules! {
//!     /// What a shop does.
//!     pub enum Rule {
//!         /// Change is given.
//!         ChangeIsGiven,
//!     }
//! }
//!
//! let change = if Rule::ChangeIsGiven.is_kept() { 5 } else { 0 };
//! assert_eq!((change, Rule::ALL.len()), (5, 1));
//! ```

#[cfg(feature = "mutants")]
mod left_out;

#[cfg(feature = "mutants")]
pub use left_out::{Slot, while_left_out};

/// Declares the rules: the enum, `ALL` of them, `is_kept`, and with the feature `mutants` `left_out` and `is_missed_by`.
#[macro_export]
macro_rules! named_rules {
    (
        $(#[$doc:meta])*
        $visibility:vis enum $Rule:ident { $( $(#[$rule_doc:meta])* $rule:ident, )+ }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        $visibility enum $Rule { $( $(#[$rule_doc])* $rule, )+ }

        impl $Rule {
            /// All of them.
            $visibility const ALL: &'static [$Rule] = &[ $( $Rule::$rule, )+ ];
        }

        $crate::keeping!($visibility $Rule);
    };
}

/// Every rule is kept.
#[cfg(not(feature = "mutants"))]
#[doc(hidden)]
#[macro_export]
macro_rules! keeping {
    ($visibility:vis $Rule:ident) => {
        impl $Rule {
            /// Whether it is kept.
            pub(crate) fn is_kept(self) -> bool {
                true
            }
        }
    };
}

/// Every rule is kept but one, if a test says so.
#[cfg(feature = "mutants")]
#[doc(hidden)]
#[macro_export]
macro_rules! keeping {
    ($visibility:vis $Rule:ident) => {
        std::thread_local! {
            static LEFT_OUT: $crate::Slot<$Rule> = const { $crate::Slot::new(None) };
        }

        impl $Rule {
            /// Whether it is kept.
            pub(crate) fn is_kept(self) -> bool {
                LEFT_OUT.get() != Some(self)
            }

            /// Leaves it out in this thread while `act` runs. If that panics, too.
            $visibility fn left_out<T>(self, act: impl FnOnce() -> T) -> T {
                $crate::while_left_out(&LEFT_OUT, self, act)
            }

            /// Sees that this scenario, which does not panic, does without the rule.
            ///
            /// # Panics
            /// If it panics all the same, or the rule may be left out.
            $visibility fn is_missed_by(self, scenario: fn()) {
                scenario();
                let without = ::std::panic::catch_unwind(|| self.left_out(scenario));
                assert!(without.is_err(), "{self:?} may be left out");
            }
        }
    };
}
