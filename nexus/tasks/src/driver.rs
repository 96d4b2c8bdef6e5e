//! The driver's public face: which tasks there are, what they have done, asking for a pass, pausing, stopping.
//!
//! Order is in the types: tasks are added to a [`TaskSet`](crate::TaskSet), [`TaskSet::start`](crate::TaskSet::start) turns
//! it into a [`Driver`], and a driver takes no more tasks.

use crate::{
    activator::Activator,
    history::Totals,
    pass_loop::Stop,
    state::{TaskState, Unanswered},
    task::Reason,
};
use jiff::Timestamp;
use nexus_client::tasks::{BackgroundTask as TaskStatus, FinishedPass, Pause};
use std::{collections::BTreeMap, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tracing::info;

/// How much longer than the limit a shutdown waits for loops to record that their pass was cut off. Cutting off is
/// immediate unless a task blocks its thread.
const CUT_OFF_GRACE: Duration = Duration::from_secs(1);

/// A task that the driver does not have.
#[derive(Debug, Error)]
#[error("there is no background task {name:?}; there are: {}", known.join(", "))]
pub struct UnknownTask {
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub known: Vec<&'static str>,
}

/// Why a pass will not run, or could not be waited for.
#[derive(Debug, Error)]
pub enum ActivateError {
    /// There is no such task.
    #[error(transparent)]
    Unknown(#[from] UnknownTask),
    /// The task is paused; nothing was asked for.
    #[error("background task {name:?} is paused since {:.0}{}", pause.since, words_of(pause))]
    Paused {
        /// The task.
        name: &'static str,
        /// Since and until when, and why.
        pause: Pause,
    },
    /// The task was paused before the pass that was asked for started. It starts when the task is resumed.
    #[error(
        "background task {name:?} was paused before the pass that was asked for started{}; it starts when the task is resumed",
        words_of(pause)
    )]
    PausedMeanwhile {
        /// The task.
        name: &'static str,
        /// Since and until when, and why.
        pause: Pause,
    },
    /// The driver stops; the pass that was asked for will not run in this life.
    #[error("background task {name:?} stops before the pass that was asked for has ended")]
    Stopped {
        /// The task.
        name: &'static str,
    },
}

/// Until when, and why, where that is known.
fn words_of(pause: &Pause) -> String {
    let until = pause.until.map(|until| format!(" until {until:.0}")).unwrap_or_default();
    let reason = pause.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    until + &reason
}

/// Tasks that did not stop: they block their thread, so that their pass cannot be cut off.
#[derive(Debug, Error)]
#[error("background tasks still run after {waited:?}: {}", names.join(", "))]
pub struct StillRunning {
    /// The tasks.
    pub names: Vec<&'static str>,
    /// How long was waited for them in all.
    pub waited: Duration,
}

/// One task in numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Figures {
    /// The task.
    pub name: &'static str,
    /// The passes that have ended.
    pub totals: Totals,
    /// Passes that failed since the last one that ended well.
    pub failed_in_a_row: u64,
    /// When the last pass ended that ended well.
    pub last_success_at: Option<Timestamp>,
    /// How long the last pass took, in seconds.
    pub last_pass_seconds: Option<f64>,
    /// Whether a pass runs now.
    pub running: bool,
    /// Whether the task is paused now.
    pub paused: bool,
}

/// Runs background tasks, each in a tokio task of its own, so that none waits for another. Dropping it stops them at
/// once; [`Driver::shutdown`] lets running passes end.
#[derive(Debug)]
pub struct Driver {
    tasks: BTreeMap<&'static str, Handle>,
    stop: watch::Sender<Stop>,
}

#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) activator: Activator,
    pub(crate) state: Arc<watch::Sender<TaskState>>,
}

impl Driver {
    pub(crate) fn new(tasks: BTreeMap<&'static str, Handle>, stop: watch::Sender<Stop>) -> Driver {
        Driver { tasks, stop }
    }

    /// Every task, by name, with its last pass only. Never waits for a pass.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskStatus> {
        let now = Instant::now();
        self.tasks.values().map(|handle| handle.state.borrow().to_wire(now, false)).collect()
    }

    /// One task with its last [`RECENT_PASSES_MAX`](crate::RECENT_PASSES_MAX) passes. Never waits for a pass.
    pub fn task(&self, name: &str) -> Result<TaskStatus, UnknownTask> {
        Ok(self.find(name)?.state.borrow().to_wire(Instant::now(), true))
    }

    /// Every task in numbers, by name. Never waits for a pass.
    #[must_use]
    pub fn figures(&self) -> Vec<Figures> {
        let now = Instant::now();
        let figures = |handle: &Handle| {
            let state = handle.state.borrow();
            Figures {
                name: state.name(),
                totals: state.history().totals().clone(),
                failed_in_a_row: state.history().failed_in_a_row(),
                last_success_at: state.history().last_success_at(),
                last_pass_seconds: state.history().last().map(|pass| pass.duration_seconds),
                running: state.is_running(),
                paused: state.paused(now).is_some(),
            }
        };
        self.tasks.values().map(figures).collect()
    }

    /// Asks for a pass and does not wait for it. A task that is paused refuses: the person who asks expects a pass, and
    /// the one who paused it expects none. (An [`Activator`] is not refused; what it asks for waits for the end of the pause.)
    pub fn activate(&self, name: &str, reason: Reason) -> Result<(), ActivateError> {
        let handle = self.find(name)?;
        handle.may_ask()?;
        handle.activator.activate(reason);
        Ok(())
    }

    /// Asks for a pass and waits for the end of one that started after this call: the answer is the first of these,
    /// whatever has run since. A pass that failed is an `Ok` with its `error` set. Dropping the future takes nothing back:
    /// the pass runs all the same.
    pub async fn activate_and_wait(&self, name: &str, reason: Reason) -> Result<FinishedPass, ActivateError> {
        let handle = self.find(name)?;
        let name = handle.may_ask()?;
        let mut changes = handle.state.subscribe();
        let request = handle.activator.request(reason);
        loop {
            let answer = changes.borrow_and_update().answer(request, Instant::now());
            match answer {
                Some(Ok(pass)) => return Ok(pass),
                Some(Err(Unanswered::Paused(pause))) => {
                    return Err(ActivateError::PausedMeanwhile { name, pause });
                }
                Some(Err(Unanswered::Stopped)) => return Err(ActivateError::Stopped { name }),
                None => changes.changed().await.map_err(|_| ActivateError::Stopped { name })?,
            }
        }
    }

    /// Pauses a task: no pass starts until it is resumed, `limit` is over, or the process ends. A pass that runs goes on
    /// to its end. Pausing a task that is paused replaces its end and its reason.
    pub fn pause(
        &self,
        name: &str,
        limit: Option<Duration>,
        reason: Option<String>,
    ) -> Result<(), UnknownTask> {
        let handle = self.find(name)?;
        info!(task = name, limit_seconds = limit.map(|it| it.as_secs()), reason, "background task paused");
        handle.state.send_modify(|state| state.pause(Instant::now(), limit, reason));
        Ok(())
    }

    /// Ends a pause. What was asked for or fell due meanwhile is one pass, at once. Harmless where there is no pause.
    pub fn resume(&self, name: &str) -> Result<(), UnknownTask> {
        let mut pause = None;
        self.find(name)?.state.send_modify(|state| pause = state.resume(Instant::now()));
        if let Some(Pause { since, .. }) = pause {
            info!(task = name, paused_since = %since, "background task resumed");
        }
        Ok(())
    }

    /// Says whether the period activates the task, until the process ends. Switched on again, a period that is over is a
    /// pass at once.
    pub fn set_periodic(&self, name: &str, periodic: bool) -> Result<(), UnknownTask> {
        if self.find(name)?.state.send_if_modified(|state| state.set_periodic(periodic)) {
            info!(task = name, periodic, "periodic activation of a background task switched");
        }
        Ok(())
    }

    /// Stops every task: none starts a further pass; a pass that runs may go on for `limit`, then it is cut off and
    /// recorded as such. Answers when all have stopped. Calling it again is harmless; the first limit holds.
    pub async fn shutdown(&self, limit: Duration) -> Result<(), StillRunning> {
        let now = Instant::now();
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            stop.get_or_insert(now + limit);
            first
        });
        let last_call = now + limit + CUT_OFF_GRACE;
        let mut names = Vec::new();
        for (name, handle) in &self.tasks {
            let mut changes = handle.state.subscribe();
            if timeout_at(last_call, changes.wait_for(TaskState::is_stopped)).await.is_err() {
                names.push(*name);
            }
        }
        if names.is_empty() { Ok(()) } else { Err(StillRunning { names, waited: now.elapsed() }) }
    }

    fn find(&self, name: &str) -> Result<&Handle, UnknownTask> {
        let unknown = || UnknownTask { name: name.to_owned(), known: self.tasks.keys().copied().collect() };
        self.tasks.get(name).ok_or_else(unknown)
    }
}

impl Handle {
    /// Whether a person may ask for a pass now. The task's name.
    fn may_ask(&self) -> Result<&'static str, ActivateError> {
        let state = self.state.borrow();
        let name = state.name();
        if state.is_stopped() {
            return Err(ActivateError::Stopped { name });
        }
        match state.paused(Instant::now()) {
            Some(pause) => Err(ActivateError::Paused { name, pause }),
            None => Ok(name),
        }
    }
}
