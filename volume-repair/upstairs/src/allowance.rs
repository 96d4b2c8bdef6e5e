//! How fast a member is filled at most, if somebody has said so.
//!
//! ```text
//!   time goes by ──► bytes that may be copied, as many as half a second gives at most
//!   a run is begun ──► its bytes are taken, also if there are fewer: the next one waits until they are made up for
//! ```
//!
//! [`crate::pace`] is about clients that ask just now. This is about what else a disk or a network has to do.

use std::{num::NonZeroU64, time::Duration};

/// What was not used of so long a time may be used at once. Whoever waits is looked after with each tick: a quarter of a second.
const BURST: Duration = Duration::from_millis(500);

const NANOSECONDS: i128 = 1_000_000_000;

/// Bytes that may be copied.
#[derive(Debug)]
pub(crate) struct Allowance {
    rate: Option<NonZeroU64>,
    /// Billionths of bytes: nothing is lost by rounding, however often it is asked.
    left: i128,
    at: Duration,
}

impl Allowance {
    /// So many bytes in a second; or as many as there are.
    pub(crate) fn new(rate: Option<NonZeroU64>) -> Allowance {
        Allowance { rate, left: 1, at: Duration::ZERO }
    }

    pub(crate) fn rate(&self) -> Option<NonZeroU64> {
        self.rate
    }

    /// From now on so many; what was taken already is made up for at the new rate.
    pub(crate) fn set_rate(&mut self, rate: Option<NonZeroU64>) {
        self.rate = rate;
    }

    /// Whether another run may be begun at this time.
    pub(crate) fn may_go_on(&mut self, now: Duration) -> bool {
        let Some(rate) = self.rate.map(|rate| i128::from(rate.get())) else { return true };
        let since = now.saturating_sub(self.at);
        self.at = self.at.max(now);
        let gained = billionths(since).saturating_mul(rate);
        self.left = self.left.saturating_add(gained).min(billionths(BURST).saturating_mul(rate));
        self.left > 0
    }

    /// A run of so many bytes is begun.
    pub(crate) fn take(&mut self, bytes: usize) {
        if self.rate.is_some() {
            let bytes = i128::try_from(bytes).expect("a run is small");
            self.left = self.left.saturating_sub(bytes * NANOSECONDS);
        }
    }
}

fn billionths(time: Duration) -> i128 {
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of which runs are begun in so many milliseconds, when it is asked once in each.
    fn begun(allowance: &mut Allowance, from: u64, until: u64, run: usize) -> usize {
        let mut begun = 0;
        for now in (from..until).map(Duration::from_millis) {
            while begun < 1 << 30 && allowance.may_go_on(now) {
                allowance.take(run);
                begun += run;
            }
        }
        begun
    }

    #[test]
    fn no_more_is_begun_than_the_rate_gives_and_no_less() {
        let rate = 10_000_000;
        for run in [1, 4_096, 262_144, 5_000_000] {
            let mut allowance = Allowance::new(NonZeroU64::new(rate));
            begun(&mut allowance, 0, 1_000, run);
            let ten_seconds = begun(&mut allowance, 1_000, 11_000, run);
            let expected = usize::try_from(rate * 10).expect("it is small");
            assert!(ten_seconds.abs_diff(expected) <= run, "{ten_seconds} bytes in runs of {run}");
        }
    }

    #[test]
    fn what_was_not_used_for_long_is_not_used_at_once() {
        let mut allowance = Allowance::new(NonZeroU64::new(1_000_000));
        begun(&mut allowance, 0, 1, 4_096);
        let at_once = begun(&mut allowance, 60_000, 60_001, 4_096);
        assert!((500_000..510_000).contains(&at_once), "{at_once} bytes");
    }

    #[test]
    fn a_small_rate_is_not_rounded_to_nothing() {
        let mut allowance = Allowance::new(NonZeroU64::new(1));
        begun(&mut allowance, 0, 1_000, 1);
        assert_eq!(begun(&mut allowance, 1_000, 11_000, 1), 10);
    }

    #[test]
    fn a_rate_that_is_changed_counts_from_then_on() {
        let mut allowance = Allowance::new(NonZeroU64::new(1_000_000));
        begun(&mut allowance, 0, 1_000, 4_096);
        for (from, rate) in [(1_000, 10_000_000), (11_000, 100_000)] {
            allowance.set_rate(NonZeroU64::new(rate));
            begun(&mut allowance, from, from + 1_000, 4_096);
            let nine_seconds = begun(&mut allowance, from + 1_000, from + 10_000, 4_096);
            let expected = usize::try_from(rate * 9).expect("it is small");
            assert!(nine_seconds.abs_diff(expected) <= 4_096, "{nine_seconds} bytes at {rate}");
        }
        allowance.set_rate(None);
        assert_eq!(begun(&mut allowance, 21_000, 21_001, 1 << 20), 1 << 30);
    }

    #[test]
    fn without_a_rate_all_may_be_begun() {
        assert_eq!(begun(&mut Allowance::new(None), 0, 1, 1 << 20), 1 << 30);
    }
}
