//! Which rule a thread leaves out.

use std::{cell::Cell, thread::LocalKey};

/// The one that is left out, if any is.
pub type Slot<R> = Cell<Option<R>>;

/// Leaves a rule out while `act` runs, and puts it back, also if that panics.
pub fn while_left_out<R: Copy, T>(slot: &'static LocalKey<Slot<R>>, rule: R, act: impl FnOnce() -> T) -> T {
    struct PutBack<R: Copy + 'static>(&'static LocalKey<Slot<R>>);
    impl<R: Copy> Drop for PutBack<R> {
        fn drop(&mut self) {
            self.0.set(None);
        }
    }
    slot.set(Some(rule));
    let _put_back = PutBack(slot);
    act()
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    crate::named_rules! {
        /// Of this test.
        pub(crate) enum Rule {
            /// One.
            One,
            /// Another.
            Other,
        }
    }

    #[test]
    fn one_rule_is_left_out_at_a_time_and_put_back_even_by_a_panic() {
        let kept = || Rule::ALL.iter().map(|rule| rule.is_kept()).collect::<Vec<bool>>();
        assert_eq!(Rule::Other.left_out(kept), [true, false]);
        assert_eq!(kept(), [true, true]);
        let panicked = catch_unwind(|| Rule::One.left_out(|| assert!(Rule::One.is_kept())));
        assert!(panicked.is_err());
        assert_eq!(kept(), [true, true]);
    }

    #[test]
    fn a_rule_is_missed_by_what_fails_without_it_and_by_nothing_else() {
        Rule::One.is_missed_by(|| assert!(Rule::One.is_kept()));
        let others: [fn(); 3] = [|| {}, || assert!(Rule::Other.is_kept()), || panic!("with it, too")];
        for other in others {
            assert!(catch_unwind(|| Rule::One.is_missed_by(other)).is_err());
        }
        assert!(Rule::One.is_kept());
    }
}
