//! Instants, by which everything here is decided, as times for people.

use jiff::{Span, Timestamp, Unit};
use std::time::Instant;

/// One reading of both clocks. Projections take one, so that all their times agree.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The clock that never goes back.
    pub instant: Instant,
    /// The wall's.
    timestamp: Timestamp,
}

impl Clock {
    /// Reads both.
    #[must_use]
    pub fn read() -> Clock {
        Clock { instant: Instant::now(), timestamp: Timestamp::now() }
    }

    /// When that was, to the millisecond: two readings do not agree on more.
    #[must_use]
    pub fn time_of(&self, instant: Instant) -> Timestamp {
        let age = self.instant.saturating_duration_since(instant);
        let age = Span::new().milliseconds(i64::try_from(age.as_millis()).unwrap_or(i64::MAX / 1_000_000));
        let time = self.timestamp.checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH);
        time.round(Unit::Millisecond).unwrap_or(time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn an_instant_is_as_long_ago_as_it_is() {
        let clock = Clock::read();
        let before =
            clock.instant.checked_sub(Duration::from_secs(90)).expect("the machine is up for longer");
        let age = clock.time_of(clock.instant).as_millisecond() - clock.time_of(before).as_millisecond();
        assert_eq!(age, 90_000);
        assert_eq!(clock.time_of(clock.instant + Duration::from_secs(1)), clock.time_of(clock.instant));
    }
}
