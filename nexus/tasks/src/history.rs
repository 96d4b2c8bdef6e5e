//! What a task has done: the last passes with their results, and totals over all of them. When passes run is not known
//! here.

use crate::{activator::Ticket, task::TaskFailure};
use jiff::Timestamp;
use nexus_client::tasks::{FinishedPass, PassOutcome, RunningPass};
use serde_json::Value;
use std::{collections::VecDeque, time::Duration};

/// Finished passes that are kept per task: at the shortest periods in use (seconds) still the last minutes, and with
/// reports of a few KiB well under a MiB.
pub const RECENT_PASSES_MAX: usize = 100;

/// Bounds of the histogram of durations, in seconds: from a pass that finds nothing to do to one at its time limit.
pub const DURATION_BOUNDS: [f64; 6] = [0.01, 0.1, 1.0, 10.0, 60.0, f64::INFINITY];

/// How a pass ended, with what it leaves.
#[derive(Debug)]
pub(crate) struct Ended {
    outcome: PassOutcome,
    error: Option<String>,
    report: Value,
}

impl Ended {
    /// Its own end.
    pub(crate) fn by_itself(result: Result<Value, TaskFailure>) -> Ended {
        match result {
            Ok(report) => Ended { outcome: PassOutcome::Succeeded, error: None, report },
            Err(failure) => Ended::failed(PassOutcome::Failed, failure),
        }
    }

    /// An end that is not its own doing.
    pub(crate) fn failed(outcome: PassOutcome, failure: TaskFailure) -> Ended {
        let (words, report) = failure.into_parts();
        Ended { outcome, error: Some(words), report }
    }
}

/// How many passes ended in which way, and how long they took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Totals {
    /// Passes by the way in which they ended, in the order of [`PassOutcome::ALL`].
    by_outcome: [u64; PassOutcome::ALL.len()],
    /// Passes by how long they took: as many as took at most the bound and more than the one before.
    by_duration: [u64; DURATION_BOUNDS.len()],
    /// What all passes took together.
    seconds: f64,
}

impl Totals {
    /// Passes that ended so.
    #[must_use]
    pub fn ended(&self, outcome: PassOutcome) -> u64 {
        let counted = PassOutcome::ALL.iter().zip(self.by_outcome);
        counted.filter(|(of, _)| **of == outcome).map(|(_, count)| count).sum()
    }

    /// Passes that ended in another way than well.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.passes() - self.ended(PassOutcome::Succeeded)
    }

    /// All passes that have ended.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.by_outcome.iter().sum()
    }

    /// What all passes took together, in seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.seconds
    }

    /// For each of [`DURATION_BOUNDS`], the passes that took at most that and more than the bound before.
    #[must_use]
    pub fn durations(&self) -> [(f64, u64); DURATION_BOUNDS.len()] {
        std::array::from_fn(|index| (DURATION_BOUNDS[index], self.by_duration[index]))
    }

    fn count(&mut self, outcome: PassOutcome, seconds: f64) {
        for (of, count) in PassOutcome::ALL.iter().zip(&mut self.by_outcome) {
            *count += u64::from(*of == outcome);
        }
        let bucket = DURATION_BOUNDS.iter().position(|bound| seconds <= *bound);
        self.by_duration[bucket.unwrap_or(DURATION_BOUNDS.len() - 1)] += 1;
        self.seconds += seconds;
    }
}

/// The passes of one task that have ended.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Newest first.
    recent: VecDeque<Answering>,
    totals: Totals,
    failed_in_a_row: u64,
    last_success_at: Option<Timestamp>,
}

/// A pass, and the requests up to which it is an answer.
#[derive(Debug)]
struct Answering {
    answers: Ticket,
    pass: FinishedPass,
}

impl History {
    /// Adds a pass that has ended just now.
    pub(crate) fn add(&mut self, pass: RunningPass, answers: Ticket, took: Duration, ended: Ended) {
        let Ended { outcome, error, report } = ended;
        let duration_seconds = took.as_secs_f64();
        self.totals.count(outcome, duration_seconds);
        if outcome == PassOutcome::Succeeded {
            self.failed_in_a_row = 0;
            self.last_success_at = Some(Timestamp::now());
        } else {
            self.failed_in_a_row += 1;
        }
        let RunningPass { iteration, trigger, started_at } = pass;
        let pass = FinishedPass { iteration, trigger, started_at, duration_seconds, outcome, error, report };
        self.recent.truncate(RECENT_PASSES_MAX - 1);
        self.recent.push_front(Answering { answers, pass });
    }

    /// The first pass that started after the request and has ended. Where so many have ended since that it is not kept
    /// any more, the oldest that is.
    pub(crate) fn answer(&self, request: Ticket) -> Option<&FinishedPass> {
        self.recent.iter().rev().find(|kept| kept.answers >= request).map(|kept| &kept.pass)
    }

    pub(crate) fn last(&self) -> Option<&FinishedPass> {
        self.recent.front().map(|kept| &kept.pass)
    }

    pub(crate) fn recent(&self) -> impl Iterator<Item = &FinishedPass> {
        self.recent.iter().map(|kept| &kept.pass)
    }

    pub(crate) fn totals(&self) -> &Totals {
        &self.totals
    }

    pub(crate) fn failed_in_a_row(&self) -> u64 {
        self.failed_in_a_row
    }

    pub(crate) fn last_success_at(&self) -> Option<Timestamp> {
        self.last_success_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(iteration: u64) -> RunningPass {
        RunningPass { iteration, trigger: "timer".into(), started_at: Timestamp::UNIX_EPOCH }
    }

    #[test]
    fn totals_tell_every_way_to_end_and_every_duration_apart() {
        let mut history = History::default();
        let ends = [
            (PassOutcome::Succeeded, 0.01),
            (PassOutcome::Failed, 0.5),
            (PassOutcome::Panicked, 0.6),
            (PassOutcome::TimedOut, 60.5),
            (PassOutcome::Stopped, 5.0),
        ];
        for (number, (outcome, seconds)) in (1..).zip(ends) {
            let ended = match outcome {
                PassOutcome::Succeeded => Ended::by_itself(Ok(Value::Null)),
                outcome => Ended::failed(outcome, TaskFailure::new("out of luck")),
            };
            history.add(pass(number), Ticket::default(), Duration::from_secs_f64(seconds), ended);
        }
        let totals = history.totals();
        assert_eq!(PassOutcome::ALL.map(|outcome| totals.ended(outcome)), [1; 5]);
        assert_eq!((totals.passes(), totals.failed(), history.failed_in_a_row()), (5, 4, 4));
        assert_eq!(totals.durations().map(|(_, passes)| passes), [1, 0, 2, 1, 0, 1]);
        assert!((totals.seconds() - 66.61).abs() < 1e-9);
    }
}
