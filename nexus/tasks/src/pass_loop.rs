//! The one loop that every task runs in. Owns the task; decides when a pass starts and how it may end.
//!
//! ```text
//!   start
//!     │                       asked for, or period over
//!     ▼          ┌─────────────────────────────────────────────────┐
//!  ┌─────────────┴┐                                           ┌────▼────┐
//!  │   waiting    │◀───────────── ended well ─────────────────┤ running │◀── first pass at once
//!  └──────┬───────┘                                           └─┬──┬──▲─┘
//!         │                                                     │  │  │
//!    stop │           failed, panicked, over its time limit     │  │  │ asked for, or back-off over
//!         │                  ┌─────────────┐◀───────────────────┘  │  │
//!         │                  │ backing off ├───────────────────────┼──┘
//!         │                  └──────┬──────┘                       │ stop: may end within the limit,
//!         ▼                         ▼ stop                         ▼ then cut off and recorded as failed
//!      stopped (terminal) ◀────────────────────────────────────────┘
//! ```
//!
//! Nothing here is durable: a crash in any state means that the next life starts with the first pass. Only the loop
//! itself moves the state; from outside there are requests ([`Activator`]) and the one stop.

use crate::{
    activator::Activator,
    settings::Settings,
    status::Record,
    task::{Activation, BackgroundTask, Reason, TaskFailure},
};
use futures::FutureExt;
use rand::{Rng, rngs::SmallRng};
use serde_json::Value;
use std::{any::Any, collections::BTreeSet, panic::AssertUnwindSafe};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Instant, sleep, sleep_until, timeout},
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
    TimeLimit { limit: std::time::Duration },
    #[error("cut off because the coordinator stops")]
    Stopping,
}

/// One task and all that its loop needs.
pub(crate) struct PassLoop {
    pub(crate) task: Box<dyn BackgroundTask>,
    pub(crate) settings: Settings,
    pub(crate) activator: Activator,
    pub(crate) record: watch::Sender<Record>,
    pub(crate) stop: watch::Receiver<Stop>,
    /// Spreads the back-off.
    pub(crate) jitter: SmallRng,
}

/// What ends a wait.
enum Wake {
    Asked,
    Due(Reason),
    Stop,
}

impl PassLoop {
    /// Runs passes until the stop.
    pub(crate) async fn run(mut self) {
        let span = info_span!("background_task", task = self.task.name());
        async move {
            let mut iteration = 0;
            let mut own_reason = Some(Reason::Start);
            while !self.is_stopping() {
                iteration += 1;
                self.run_pass(iteration, own_reason).await;
                own_reason = match self.wait().await {
                    Wake::Asked => None,
                    Wake::Due(reason) => Some(reason),
                    Wake::Stop => break,
                };
            }
            debug!("background task stopped");
        }
        .instrument(span)
        .await;
    }

    fn is_stopping(&self) -> bool {
        self.stop.borrow().is_some() || self.stop.has_changed().is_err()
    }

    async fn wait(&mut self) -> Wake {
        let failed_in_a_row = self.record.borrow().failed_in_a_row();
        let (delay, due) = if failed_in_a_row == 0 {
            (self.settings.period, Reason::Timer)
        } else {
            (self.settings.backoff.wait(failed_in_a_row, self.jitter.random()), Reason::Retry)
        };
        tokio::select! {
            // Stop first: a task that is asked all the time must still stop.
            biased;
            // An error is a driver that was dropped, which is a stop, too.
            _ = self.stop.wait_for(Option::is_some) => Wake::Stop,
            () = self.activator.asked() => Wake::Asked,
            () = sleep(delay) => Wake::Due(due),
        }
    }

    async fn run_pass(&mut self, iteration: u64, own_reason: Option<Reason>) {
        // Taken before the task looks at anything: what is asked from here on needs a further pass.
        let (asked, answers) = self.activator.take();
        let reasons: BTreeSet<Reason> = asked.into_iter().chain(own_reason).collect();
        let activation = Activation { iteration, reasons };
        let failed_before = self.record.borrow().failed_in_a_row();
        self.record.send_modify(|record| record.begin(&activation, answers));
        let outcome = self.outcome(&activation).await;
        self.record.send_modify(|record| record.end(outcome));
        self.log(&activation, failed_before);
    }

    /// Runs one pass to its end, whichever comes first: its own, a panic, its time limit, the stop's limit.
    async fn outcome(&mut self, activation: &Activation) -> Result<Value, TaskFailure> {
        let PassLoop { task, settings, stop, .. } = self;
        // The call itself is inside the future, so that a panic before the first `.await` is caught as well. What a
        // panic leaves of the task's own fields is the task's to bear: it plans from the world, not from memory.
        let pass = AssertUnwindSafe(async { task.run(activation).await }).catch_unwind();
        let limited = async {
            match settings.time_limit {
                Some(limit) => timeout(limit, pass).await.map_err(|_| CutOff::TimeLimit { limit }),
                None => Ok(pass.await),
            }
        };
        let ended = tokio::select! {
            biased;
            ended = limited => ended,
            () = stop_limit(stop) => Err(CutOff::Stopping),
        };
        match ended {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(panic)) => {
                Err(TaskFailure::new(CutOff::Panicked { message: panic_message(panic.as_ref()) }))
            }
            Err(cut_off) => Err(TaskFailure::new(cut_off)),
        }
    }

    fn log(&self, activation: &Activation, failed_before: u64) {
        let record = self.record.borrow();
        let Some(pass) = record.last() else { return };
        let (iteration, trigger, seconds) = (activation.iteration, &pass.trigger, pass.duration_seconds);
        match &pass.error {
            Some(error) => {
                let failed_in_a_row = record.failed_in_a_row();
                warn!(iteration, trigger, seconds, failed_in_a_row, error, "background task failed");
            }
            None if failed_before > 0 => {
                info!(iteration, trigger, seconds, failed_before, "background task succeeded again");
            }
            None => debug!(iteration, trigger, seconds, "background task succeeded"),
        }
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
