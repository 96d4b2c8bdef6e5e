//! What each task has done: a bounded history, kept current by the loop and readable at any instant.

use crate::{
    activator::Ticket,
    settings::Settings,
    task::{Activation, TaskFailure},
};
use jiff::Timestamp;
use nexus_client::tasks::{BackgroundTask, FinishedPass, RunningPass};
use serde_json::Value;
use std::{collections::VecDeque, time::Duration};
use tokio::time::Instant;

/// Finished passes that are kept per task: at the shortest periods in use (seconds) still the last minutes, and with
/// reports of a few KiB well under a MiB.
pub const RECENT_PASSES_MAX: usize = 100;

/// One task's history. Lives inside a `watch`, so that readers never wait for a pass.
#[derive(Debug)]
pub(crate) struct Record {
    name: &'static str,
    description: &'static str,
    period: Duration,
    running: Option<Running>,
    recent: VecDeque<FinishedPass>,
    succeeded: u64,
    failed: u64,
    failed_in_a_row: u64,
    /// Requests up to here are answered by passes that have ended.
    answered: Ticket,
}

#[derive(Debug)]
struct Running {
    pass: RunningPass,
    since: Instant,
    answers: Ticket,
}

impl Record {
    pub(crate) fn new(name: &'static str, description: &'static str, settings: &Settings) -> Record {
        Record {
            name,
            description,
            period: settings.period,
            running: None,
            recent: VecDeque::new(),
            succeeded: 0,
            failed: 0,
            failed_in_a_row: 0,
            answered: Ticket::default(),
        }
    }

    pub(crate) fn begin(&mut self, activation: &Activation, answers: Ticket) {
        assert!(self.running.is_none(), "a task runs one pass at a time");
        let pass = RunningPass {
            iteration: activation.iteration,
            trigger: activation.trigger(),
            started_at: Timestamp::now(),
        };
        self.running = Some(Running { pass, since: Instant::now(), answers });
    }

    pub(crate) fn end(&mut self, outcome: Result<Value, TaskFailure>) {
        let Running { pass, since, answers } = self.running.take().expect("only a pass that runs can end");
        let (error, report) = match outcome {
            Ok(report) => {
                self.succeeded += 1;
                self.failed_in_a_row = 0;
                (None, report)
            }
            Err(failure) => {
                self.failed += 1;
                self.failed_in_a_row += 1;
                let (words, report) = failure.into_parts();
                (Some(words), report)
            }
        };
        let RunningPass { iteration, trigger, started_at } = pass;
        let duration_seconds = since.elapsed().as_secs_f64();
        self.recent.truncate(RECENT_PASSES_MAX - 1);
        self.recent.push_front(FinishedPass {
            iteration,
            trigger,
            started_at,
            duration_seconds,
            error,
            report,
        });
        self.answered = answers;
    }

    pub(crate) fn failed_in_a_row(&self) -> u64 {
        self.failed_in_a_row
    }

    pub(crate) fn last(&self) -> Option<&FinishedPass> {
        self.recent.front()
    }

    /// Whether a pass that started after the request has ended.
    pub(crate) fn has_answered(&self, ticket: Ticket) -> bool {
        self.answered >= ticket
    }

    /// What an operator sees, with all passes that are kept or without any but the last.
    pub(crate) fn to_wire(&self, with_recent: bool) -> BackgroundTask {
        BackgroundTask {
            name: self.name.to_owned(),
            description: self.description.to_owned(),
            period_seconds: self.period.as_secs_f64(),
            running: self.running.as_ref().map(|running| running.pass.clone()),
            last: self.last().cloned(),
            succeeded: self.succeeded,
            failed: self.failed,
            failed_in_a_row: self.failed_in_a_row,
            recent: if with_recent { self.recent.iter().cloned().collect() } else { Vec::new() },
        }
    }
}
