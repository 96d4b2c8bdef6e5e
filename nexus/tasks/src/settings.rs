//! When a task runs: its period, its time limit, its back-off.

use std::time::Duration;

/// A pass that takes longer than this hangs, unless its task says otherwise.
const TIME_LIMIT: Duration = Duration::from_secs(60);

/// Soon enough that nobody waits for a fault that is over, late enough that a fault that stays costs nothing.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };

/// Enough that coordinators that started together drift apart within a few periods.
const JITTER_PERCENT: u8 = 10;

/// When a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From the end of a pass that ended well to the next pass, at most, when nothing else activates it. From the end, so
    /// that passes that take longer than the period do not follow each other without a pause.
    pub period: Duration,
    /// Whether the period activates the task at first; [`Driver::set_periodic`](crate::Driver::set_periodic) changes it
    /// later. Only the period: the first pass, retries, events, dependencies and people are not touched by it.
    pub periodic: bool,
    /// By how much of the period a wait may be shorter, at random: 0 to 100 percent. Shorter, never longer, so that the
    /// period stays a promise.
    pub jitter_percent: u8,
    /// How long a pass may take before it is cut off and recorded as failed; none for no limit.
    pub time_limit: Option<Duration>,
    /// How long to wait after a pass that failed. Takes the place of the period where it is shorter.
    pub backoff: Backoff,
}

impl Settings {
    /// A pass after each period, with the time limit (60 s), back-off (1 s to 60 s) and jitter (10 %) that suit most tasks.
    #[must_use]
    pub const fn every(period: Duration) -> Settings {
        Settings {
            period,
            periodic: true,
            jitter_percent: JITTER_PERCENT,
            time_limit: Some(TIME_LIMIT),
            backoff: BACKOFF,
        }
    }

    /// The wait for the timer after a pass that ended well; `share` (0 to 1) chooses within the jitter.
    #[must_use]
    pub fn wait_for_period(&self, share: f64) -> Duration {
        let jitter = f64::from(self.jitter_percent.min(100)) / 100.0;
        self.period.mul_f64(1.0 - jitter * share.clamp(0.0, 1.0))
    }

    /// The wait after the `failed_in_a_row`th failure in a row. Where the period counts, a pass that failed is never tried
    /// later than one that ended well.
    #[must_use]
    pub fn wait_for_retry(&self, failed_in_a_row: u64, share: f64, periodic: bool) -> Duration {
        let wait = self.backoff.wait(failed_in_a_row, share);
        if periodic { wait.min(self.period) } else { wait }
    }
}

/// How long to wait after a pass that failed: `first`, doubled with every further failure in a row, at most `max`; of
/// that, a random part between a half and all.
///
/// The random part keeps tasks (and coordinators) that failed together, for example on one database, from coming
/// back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// The most, whatever the number of failures.
    pub max: Duration,
}

impl Backoff {
    /// The wait after the `failed_in_a_row`th failure in a row; `share` (0 to 1) chooses between the half and all.
    #[must_use]
    pub fn wait(&self, failed_in_a_row: u64, share: f64) -> Duration {
        let doublings = u32::try_from(failed_in_a_row.saturating_sub(1)).unwrap_or(u32::MAX);
        let full = self.first.saturating_mul(2_u32.saturating_pow(doublings)).min(self.max);
        full.mul_f64(0.5 + 0.5 * share.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_with_every_failure_in_a_row_up_to_the_maximum() {
        let full: Vec<u64> = (1..=8).map(|failures| BACKOFF.wait(failures, 1.0).as_secs()).collect();
        assert_eq!(full, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(BACKOFF.wait(u64::MAX, 1.0), Duration::from_secs(60));
    }

    #[test]
    fn jitter_takes_away_at_most_half_of_a_back_off() {
        assert_eq!(BACKOFF.wait(3, 0.0), Duration::from_secs(2));
        assert_eq!(BACKOFF.wait(3, 0.5), Duration::from_secs(3));
        assert_eq!(BACKOFF.wait(3, f64::INFINITY), Duration::from_secs(4));
    }

    #[test]
    fn jitter_shortens_the_period_and_never_lengthens_it() {
        let settings = Settings::every(Duration::from_secs(100));
        let waits = [0.0, 0.5, 1.0, 7.0].map(|share| settings.wait_for_period(share).as_secs());
        assert_eq!(waits, [100, 95, 90, 90]);
        let none = Settings { jitter_percent: 0, ..settings };
        assert_eq!(none.wait_for_period(1.0), settings.period);
        let all = Settings { jitter_percent: 255, ..settings };
        assert_eq!(all.wait_for_period(1.0), Duration::ZERO);
    }

    #[test]
    fn retry_comes_no_later_than_the_period_where_the_period_counts() {
        let settings = Settings::every(Duration::from_secs(5));
        assert_eq!(settings.wait_for_retry(1, 1.0, true), Duration::from_secs(1));
        assert_eq!(settings.wait_for_retry(9, 1.0, true), Duration::from_secs(5));
        assert_eq!(settings.wait_for_retry(9, 1.0, false), Duration::from_secs(60));
    }
}
