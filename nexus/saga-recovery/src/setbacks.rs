//! When a saga that could not be resumed is tried again: after a second, then after twice as long each time, up to a
//! minute. No number of failures ends it: what cannot be resumed today may be resumed once its cause is mended, and
//! giving a saga up is a person's decision.

use ids::SagaId;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// After the first failure.
const FIRST_PAUSE: SignedDuration = SignedDuration::from_secs(1);

/// After many.
const PAUSE_MAX: SignedDuration = SignedDuration::from_secs(60);

/// What has failed, and when to try again.
#[derive(Clone, Debug, Default)]
pub struct Setbacks {
    of: BTreeMap<SagaId, Setback>,
}

#[derive(Clone, Copy, Debug)]
struct Setback {
    failures: u32,
    until: Timestamp,
}

impl Setbacks {
    /// Notes a failure.
    pub fn failed(&mut self, id: SagaId, now: Timestamp) {
        let failures = self.of.get(&id).map_or(0, |setback| setback.failures).saturating_add(1);
        let doublings = (failures - 1).min(PAUSE_MAX.as_secs().ilog2() + 1);
        let pause = (FIRST_PAUSE * 2i32.pow(doublings)).min(PAUSE_MAX);
        let until = now.saturating_add(pause).expect("a duration that is not zoned");
        self.of.insert(id, Setback { failures, until });
    }

    /// Forgets a saga that was resumed, or that is to be tried at once; whether it had failed before.
    pub fn forget(&mut self, id: SagaId) -> bool {
        self.of.remove(&id).is_some()
    }

    /// Forgets all but these: the rest has ended, or is another coordinator's.
    pub fn keep_only(&mut self, listed: &BTreeSet<SagaId>) {
        self.of.retain(|id, _| listed.contains(id));
    }

    /// Until when the saga is not to be tried again; none if it may be tried now.
    #[must_use]
    pub fn until(&self, id: SagaId, now: Timestamp) -> Option<Timestamp> {
        self.of.get(&id).map(|setback| setback.until).filter(|&until| until > now)
    }

    /// When the first of them may be tried again.
    #[must_use]
    pub fn next(&self) -> Option<Timestamp> {
        self.of.values().map(|setback| setback.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    const SAGA: SagaId = SagaId(Uuid::from_u128(1));

    #[test]
    fn pauses_double_up_to_a_minute_and_start_again_after_a_success() {
        let mut setbacks = Setbacks::default();
        let now = Timestamp::UNIX_EPOCH;
        let mut pauses = Vec::new();
        for _ in 0..40 {
            setbacks.failed(SAGA, now);
            let until = setbacks.until(SAGA, now).expect("it has just failed");
            pauses.push(until.as_second());
            assert_eq!(setbacks.until(SAGA, until), None, "the pause is over at its end");
        }
        assert_eq!(pauses[..8], [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pauses.last(), Some(&60));
        assert!(setbacks.forget(SAGA) && !setbacks.forget(SAGA));
        assert_eq!(setbacks.next(), None);
        setbacks.failed(SAGA, now);
        assert_eq!(setbacks.next().map(Timestamp::as_second), Some(1));
    }

    #[test]
    fn what_is_not_listed_any_more_is_forgotten() {
        let mut setbacks = Setbacks::default();
        setbacks.failed(SAGA, Timestamp::UNIX_EPOCH);
        setbacks.keep_only(&BTreeSet::from([SAGA]));
        assert!(setbacks.next().is_some());
        setbacks.keep_only(&BTreeSet::new());
        assert_eq!(setbacks.next(), None);
    }
}
