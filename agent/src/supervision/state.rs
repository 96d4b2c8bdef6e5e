//! How a process stands, and how long it is waited before it is started again.

use std::time::Duration;

/// The pause before the first start after an end, and the longest one. It doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Who has run for so long has started well: the pause begins anew.
const RAN_WELL: Duration = Duration::from_secs(60);

/// Where it is in the diagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its place was not looked at yet.
    NotLooked,
    /// It is not to run now.
    Idle,
    /// It runs, and does not answer yet.
    Starting,
    /// It answers.
    Running,
    /// It has ended, and is started again in a moment.
    BackingOff,
    /// Another process has its place, and is left alone.
    HeldElsewhere,
}

/// What is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it is.
    pub state: State,
    /// Its pid, while there is one.
    pub pid: Option<u32>,
    /// How often this life of the agent has started it again after it had ended.
    pub restarts: u64,
    /// Why it does not serve.
    pub reason: Option<String>,
}

impl Standing {
    /// Before the first look.
    pub(super) fn not_looked() -> Standing {
        Standing { state: State::NotLooked, pid: None, restarts: 0, reason: None }
    }
}

/// How long to wait after the next end.
#[derive(Debug)]
pub(super) struct Pause(Duration);

impl Pause {
    pub(super) fn new() -> Pause {
        Pause(PAUSE_MIN)
    }

    /// How long to wait after the end of one that has run for so long.
    pub(super) fn after(&mut self, ran: Duration) -> Duration {
        if ran >= RAN_WELL {
            self.0 = PAUSE_MIN;
        }
        let pause = self.0;
        self.0 = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_limit_and_begin_anew_after_one_that_has_run_well() {
        let mut pause = Pause::new();
        let waited: Vec<u128> = (0..9).map(|_| pause.after(Duration::ZERO).as_millis()).collect();
        assert_eq!(waited, [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
        assert_eq!(pause.after(RAN_WELL - Duration::from_millis(1)), PAUSE_MAX);
        assert_eq!(pause.after(RAN_WELL), PAUSE_MIN);
        assert_eq!(pause.after(Duration::ZERO), PAUSE_MIN * 2);
    }
}
