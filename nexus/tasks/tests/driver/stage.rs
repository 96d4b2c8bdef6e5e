//! Tasks made of closures, and drivers with one of them.

use futures::future::{BoxFuture, FutureExt};
use nexus_tasks::{
    Activation, Activator, BackgroundTask, Backoff, Driver, PassFuture, Reason, Settings, TaskFailure,
    TaskSet,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{Semaphore, mpsc},
    time::Instant,
};

pub(crate) const PERIOD: Duration = Duration::from_secs(60);
pub(crate) const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(8) };
/// Without jitter and limit: each instant is exact.
pub(crate) const SETTINGS: Settings =
    Settings { jitter_percent: 0, time_limit: None, backoff: BACKOFF, ..Settings::every(PERIOD) };
pub(crate) const TRANSFER_ENDED: Reason = Reason::Event("transfer_ended");

pub(crate) type Pass = BoxFuture<'static, Result<Value, TaskFailure>>;

/// A task made of a closure.
pub(crate) struct Worker<F> {
    pub(crate) name: &'static str,
    pub(crate) pass: F,
}

impl<F: FnMut(&Activation) -> Pass + Send + 'static> BackgroundTask for Worker<F> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn description(&self) -> &'static str {
        "does what the test says"
    }

    fn run<'a>(&'a mut self, activation: &'a Activation) -> PassFuture<'a> {
        (self.pass)(activation)
    }
}

/// A driver with one task, `worker`.
pub(crate) fn start(
    settings: Settings,
    pass: impl FnMut(&Activation) -> Pass + Send + 'static,
) -> (Driver, Activator) {
    let activator = Activator::new();
    let mut tasks = TaskSet::new();
    tasks.add(Worker { name: "worker", pass }, settings, &activator);
    (tasks.start(), activator)
}

pub(crate) fn done() -> Pass {
    async { Ok(json!("done")) }.boxed()
}

pub(crate) fn failed() -> Pass {
    async { Err(TaskFailure::new("out of luck")) }.boxed()
}

/// A pass that says when it has begun, and ends when the test lets it.
pub(crate) fn gated()
-> (impl FnMut(&Activation) -> Pass + Send + 'static, mpsc::UnboundedReceiver<Activation>, Arc<Semaphore>) {
    let (begun, begins) = mpsc::unbounded_channel();
    let gate = Arc::new(Semaphore::new(0));
    let permits = Arc::clone(&gate);
    let pass = move |activation: &Activation| {
        begun.send(activation.clone()).expect("the test listens");
        let permits = Arc::clone(&permits);
        async move {
            permits.acquire().await.expect("the gate is never closed").forget();
            Ok(json!("let through"))
        }
        .boxed()
    };
    (pass, begins, gate)
}

/// When passes began, and why.
pub(crate) type Begins = mpsc::UnboundedReceiver<(Instant, Activation)>;

/// A pass that takes no time, and when passes began.
pub(crate) fn timed(
    mut pass: impl FnMut() -> Pass + Send + 'static,
) -> (impl FnMut(&Activation) -> Pass + Send + 'static, Begins) {
    let (begun, begins) = mpsc::unbounded_channel();
    let timed = move |activation: &Activation| {
        // A test that has seen enough listens no longer.
        let _ = begun.send((Instant::now(), activation.clone()));
        pass()
    };
    (timed, begins)
}

/// Lets this much time pass, and everything run that is due in it. The passes that began meanwhile.
pub(crate) async fn passes_within(time: Duration, begins: &mut Begins) -> Vec<(Instant, Vec<Reason>)> {
    tokio::time::sleep(time).await;
    let mut seen = Vec::new();
    while let Ok((at, activation)) = begins.try_recv() {
        seen.push((at, reasons(&activation)));
    }
    seen
}

pub(crate) fn reasons(activation: &Activation) -> Vec<Reason> {
    activation.reasons.iter().copied().collect()
}
