//! When something is tried again.
//!
//! A coordinator that is away costs every notice the same, so all of them wait, for longer each time. One that refuses a notice
//! would refuse it again at once, but perhaps not after it was mended or brought up to date: that notice waits for long, and the others go on.

use std::time::Duration;

/// The first wait for a coordinator that is away: one that restarts is back within seconds.
pub(crate) const AWAY_MIN: Duration = Duration::from_millis(200);

/// The longest: a coordinator that returns hears of what happened within this time, and until then each volume asks twice a minute.
pub(crate) const AWAY_MAX: Duration = Duration::from_secs(30);

/// The wait of a notice that was refused: what would change that, an operator does.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_secs(600);

/// Whether the coordinator is away, and until when nobody asks it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Retry {
    failures: u32,
    not_before: Duration,
    words: Option<String>,
}

impl Retry {
    /// It has answered.
    pub(crate) fn heard(&mut self) {
        *self = Retry::default();
    }

    /// It has not.
    pub(crate) fn missed(&mut self, now: Duration, words: String) {
        let wait = AWAY_MIN.saturating_mul(1 << self.failures.min(16)).min(AWAY_MAX);
        *self = Retry {
            failures: self.failures.saturating_add(1),
            not_before: now.saturating_add(wait),
            words: Some(words),
        };
    }

    /// From when on it may be asked.
    pub(crate) fn not_before(&self) -> Duration {
        self.not_before
    }

    /// Why nobody asks it now.
    pub(crate) fn words(&self) -> Option<&str> {
        self.words.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_limit_and_begin_anew_after_an_answer() {
        let mut retry = Retry::default();
        let mut now = Duration::from_secs(100);
        let mut waits = Vec::new();
        for _ in 0..100 {
            retry.missed(now, "no answer".to_owned());
            waits.push(retry.not_before() - now);
            now = retry.not_before();
        }
        assert_eq!(waits[..3], [AWAY_MIN, AWAY_MIN * 2, AWAY_MIN * 4]);
        assert!(waits.is_sorted() && waits[99] == AWAY_MAX);
        retry.heard();
        assert_eq!((retry.not_before(), retry.words()), (Duration::ZERO, None));
        retry.missed(now, "no answer".to_owned());
        assert_eq!(retry.not_before() - now, AWAY_MIN);
    }
}
