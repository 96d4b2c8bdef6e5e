//! Doors that are being closed: for what each of them waits. Owns the order of things; [`door`](crate::door) draws it.

use crate::door::{ClosedDoor, DoorError, DoorId};
use std::{sync::mpsc::SyncSender, time::Duration};
use upstairs::{JobError, JobId};

/// One of them.
#[derive(Debug)]
pub(crate) struct Closing {
    pub(crate) door: DoorId,
    /// Clients that were in.
    pub(crate) clients: u64,
    /// When it is gone, whatever is under way.
    pub(crate) end: Duration,
    pub(crate) step: Step,
    pub(crate) answer: SyncSender<Result<ClosedDoor, DoorError>>,
}

/// For what it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// What was asked is answered.
    Draining {
        /// Whether something may have been written.
        is_to_flush: bool,
    },
    /// What was written is durable.
    Flushing(JobId),
    /// Nothing more.
    Done {
        /// Whether all of it is.
        is_flushed: bool,
    },
}

impl Closing {
    /// A job has ended so, which may be its flush.
    pub(crate) fn end(&mut self, job: JobId, result: &Result<(), JobError>) {
        if self.step == Step::Flushing(job) {
            self.step = Step::Done { is_flushed: result.is_ok() };
        }
    }

    /// Whether it is gone, and if so whether all that was written is durable.
    pub(crate) fn is_over(&self, now: Duration) -> Option<bool> {
        match self.step {
            Step::Done { is_flushed } => Some(is_flushed),
            Step::Draining { .. } | Step::Flushing(_) => (now >= self.end).then_some(false),
        }
    }
}
