//! The one loop that every task runs in. Owns the task: waits, runs a pass, sees to it that the pass ends. What is waited
//! for, and whether a pass may begin, is the state's to say.
//!
//! ```text
//!   ┌──▶ stop? ── yes ──▶ stopped
//!   │      │ no
//!   │      ▼
//!   │  begin, if one was asked for or is due ── begun ──▶ run ──▶ end ──▶ ask dependents ──┐
//!   │      │ not                                           │                               │
//!   │      ▼                                      a panic, its time limit, the             │
//!   │  wait for: the stop, a request, what is     stop's limit cut it off                  │
//!   │  due, a pause or its end, …                                                          │
//!   └──────┴───────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The stop's limit cuts a running pass off; it is recorded, and no other begins.

use crate::{
    activator::Activator,
    history::Ended,
    state::{Next, TaskState},
    task::{Activation, BackgroundTask, Reason, TaskFailure},
};
use futures::FutureExt;
use nexus_client::tasks::PassOutcome;
use rand::{Rng, rngs::SmallRng};
use std::{any::Any, future, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::{Instrument, debug, info, info_span, warn};

/// Whether to stop, and until when a pass that runs may go on.
pub(crate) type Stop = Option<Instant>;

/// How a pass can fail without its own doing.
#[derive(Debug, Error)]
enum CutOff {
    #[error("panicked: {message}")]
    Panicked { message: String },
    #[error("cut off after its time limit of {limit:?}")]
    TimeLimit { limit: Duration },
    #[error("cut off because the coordinator stops")]
    Stopping,
}

impl CutOff {
    fn outcome(&self) -> PassOutcome {
        match self {
            CutOff::Panicked { .. } => PassOutcome::Panicked,
            CutOff::TimeLimit { .. } => PassOutcome::TimedOut,
            CutOff::Stopping => PassOutcome::Stopped,
        }
    }
}

/// One task and all that its loop needs.
pub(crate) struct PassLoop {
    pub(crate) task: Box<dyn BackgroundTask>,
    pub(crate) time_limit: Option<Duration>,
    pub(crate) activator: Activator,
    /// Tasks that run after this one.
    pub(crate) dependents: Vec<Activator>,
    pub(crate) state: Arc<watch::Sender<TaskState>>,
    /// Sees what others do to the state.
    pub(crate) changes: watch::Receiver<TaskState>,
    pub(crate) stop: watch::Receiver<Stop>,
    /// Spreads the waits.
    pub(crate) jitter: SmallRng,
}

/// Says that the loop has ended, however it ends: who waits for a pass is not left waiting.
struct StopMark(Arc<watch::Sender<TaskState>>);

impl Drop for StopMark {
    fn drop(&mut self) {
        self.0.send_modify(|state| state.stop(Instant::now()));
    }
}

impl PassLoop {
    /// Runs passes until the stop.
    pub(crate) async fn run(mut self) {
        let _mark = StopMark(Arc::clone(&self.state));
        let span = info_span!("background_task", task = self.task.name());
        async move {
            while let Some(activation) = self.next().await {
                self.run_pass(&activation).await;
            }
            debug!("background task stopped");
        }
        .instrument(span)
        .await;
    }

    /// The next pass, begun; none at the stop.
    async fn next(&mut self) -> Option<Activation> {
        while !self.is_stopping() {
            let mut begun = None;
            self.state.send_if_modified(|state| {
                begun = state.begin(Instant::now(), &self.activator);
                begun.is_some()
            });
            if begun.is_some() {
                return begun;
            }
            self.wait().await;
        }
        None
    }

    fn is_stopping(&self) -> bool {
        // An error is a driver that was dropped, which is a stop, too.
        self.stop.borrow().is_some() || self.stop.has_changed().is_err()
    }

    /// Ends when it is worth looking again whether a pass may begin.
    async fn wait(&mut self) {
        let next = self.changes.borrow_and_update().next(Instant::now());
        let (open, until) = match next {
            Next::Open { due } => (true, due.map(|due| due.at)),
            Next::Paused { until } => (false, until),
        };
        tokio::select! {
            _ = self.stop.wait_for(Option::is_some) => {}
            // Never an error: this loop has the state, too.
            _ = self.changes.changed() => {}
            () = self.activator.asked(), if open => {}
            () = at(until) => {}
        }
    }

    async fn run_pass(&mut self, activation: &Activation) {
        let failed_before = self.changes.borrow().history().failed_in_a_row();
        let ended = self.ended(activation).await;
        let share = self.jitter.random();
        self.state.send_modify(|state| state.end(Instant::now(), ended, share));
        let reason = Reason::After(self.task.name());
        self.dependents.iter().for_each(|dependent| dependent.activate(reason));
        self.log(activation, failed_before);
    }

    /// Runs one pass to its end, whichever comes first: its own, a panic, its time limit, the stop's limit.
    async fn ended(&mut self, activation: &Activation) -> Ended {
        let PassLoop { task, time_limit, stop, .. } = self;
        // The call itself is inside the future, so that a panic before the first `.await` is caught as well. What a
        // panic leaves of the task's own fields is the task's to bear: it plans from the world, not from memory.
        let pass = AssertUnwindSafe(async { task.run(activation).await }).catch_unwind();
        let limited = async {
            match *time_limit {
                Some(limit) => timeout(limit, pass).await.map_err(|_| CutOff::TimeLimit { limit }),
                None => Ok(pass.await),
            }
        };
        let ended = tokio::select! {
            biased;
            ended = limited => ended,
            () = stop_limit(stop) => Err(CutOff::Stopping),
        };
        let cut_off = match ended {
            Ok(Ok(result)) => return Ended::by_itself(result),
            Ok(Err(panic)) => CutOff::Panicked { message: panic_message(panic.as_ref()) },
            Err(cut_off) => cut_off,
        };
        Ended::failed(cut_off.outcome(), TaskFailure::new(cut_off))
    }

    fn log(&self, activation: &Activation, failed_before: u64) {
        let state = self.changes.borrow();
        let Some(pass) = state.history().last() else { return };
        let (iteration, trigger, seconds) = (activation.iteration, &pass.trigger, pass.duration_seconds);
        match &pass.error {
            Some(error) => {
                let failed_in_a_row = state.history().failed_in_a_row();
                let outcome = pass.outcome.word();
                warn!(iteration, trigger, seconds, failed_in_a_row, outcome, error, "background task failed");
            }
            None if failed_before > 0 => {
                info!(iteration, trigger, seconds, failed_before, "background task succeeded again");
            }
            None => debug!(iteration, trigger, seconds, "background task succeeded"),
        }
    }
}

/// Ends at this time, if there is one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => future::pending().await,
    }
}

/// Ends when a pass that runs may not go on: the stop's limit is over, or the driver was dropped.
async fn stop_limit(stop: &mut watch::Receiver<Stop>) {
    let limit = stop.wait_for(Option::is_some).await.map(|limit| *limit);
    if let Ok(Some(limit)) = limit {
        sleep_until(limit).await;
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&'static str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}
