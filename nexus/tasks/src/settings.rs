//! When a task runs: its period, its time limit, its back-off.

use std::time::Duration;

/// When a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From the end of a pass that ended well to the next pass, when nothing else activates it. From the end, so that
    /// passes that take longer than the period do not follow each other without a pause.
    pub period: Duration,
    /// How long a pass may take before it is cut off and recorded as failed; none for no limit.
    pub time_limit: Option<Duration>,
    /// How long to wait after a pass that failed. Takes the place of the period.
    pub backoff: Backoff,
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

    const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(60) };

    #[test]
    fn doubles_with_every_failure_in_a_row_up_to_the_maximum() {
        let full: Vec<u64> = (1..=8).map(|failures| BACKOFF.wait(failures, 1.0).as_secs()).collect();
        assert_eq!(full, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(BACKOFF.wait(u64::MAX, 1.0), Duration::from_secs(60));
    }

    #[test]
    fn jitter_takes_away_at_most_half() {
        assert_eq!(BACKOFF.wait(3, 0.0), Duration::from_secs(2));
        assert_eq!(BACKOFF.wait(3, 0.5), Duration::from_secs(3));
        assert_eq!(BACKOFF.wait(3, f64::INFINITY), Duration::from_secs(4));
    }
}
