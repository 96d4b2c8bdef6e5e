//! How often and after which pauses a node's action and its undo are tried. Pure: no clock.

use std::time::Duration;

/// When an action that answered `Transient` or `Unknown` is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Before the second attempt; doubled before each further one.
    pub first_pause: Duration,
    /// The pauses grow no longer.
    pub pause_max: Duration,
    /// Attempts in one life of the coordinator, the first included. A life that resumes the node counts anew: its
    /// predecessor may have died at the very trouble that the attempts are for.
    pub attempts_max: u32,
}

/// When an undo that failed is tried again. After its last attempt the saga needs attention; an undo never just fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UndoPolicy(pub RetryPolicy);

impl RetryPolicy {
    /// One attempt.
    pub const ONCE: RetryPolicy =
        RetryPolicy { first_pause: Duration::ZERO, pause_max: Duration::ZERO, attempts_max: 1 };

    /// How long to wait after the attempt of this number (from 1) has failed; none if it was the last.
    #[must_use]
    pub fn pause_after(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.attempts_max {
            return None;
        }
        let doublings = attempt.saturating_sub(1).min(31);
        Some(self.first_pause.saturating_mul(1 << doublings).min(self.pause_max))
    }
}

impl Default for RetryPolicy {
    /// Ten attempts in about four minutes: longer than a sled agent takes to start again.
    fn default() -> RetryPolicy {
        RetryPolicy {
            first_pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(60),
            attempts_max: 10,
        }
    }
}

impl Default for UndoPolicy {
    /// Retried for about a day, because what is left behind otherwise waits for a person.
    fn default() -> UndoPolicy {
        UndoPolicy(RetryPolicy {
            first_pause: Duration::from_millis(500),
            pause_max: Duration::from_secs(60),
            attempts_max: 1_440,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_their_bound_and_end_with_the_last_attempt() {
        let policy = RetryPolicy {
            first_pause: Duration::from_secs(1),
            pause_max: Duration::from_secs(5),
            attempts_max: 5,
        };
        let pauses: Vec<_> =
            (1..=5).map(|attempt| policy.pause_after(attempt).map(|p| p.as_secs())).collect();
        assert_eq!(pauses, [Some(1), Some(2), Some(4), Some(5), None]);
        assert_eq!(UndoPolicy::default().0.pause_after(1_000), Some(Duration::from_secs(60)));
    }
}
