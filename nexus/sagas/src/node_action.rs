//! One node under steno: attempts, pauses, doubt, panics, cancellation, and an undo that never fails.
//!
//! ```text
//!  do:   failing, says an earlier life ───────────────────────────────────────────────┐
//!        cancelled ────────────────────────────────────┐                              │
//!        attempt ──► output ──► succeeded              │                              │
//!           │ ▲                                        ▼                              ▼
//!           ▼ │ Transient, Unknown, panic: pause    in doubt? ─ yes ─► failing ───► undo ──► failed
//!        no more attempts, or Refused ────────────►    └─ no ────────  (durable) ────────────► failed
//!
//!  undo: abandoned ──► skipped, noted durably
//!        attempt ──► done                   ┌── retry ◄─┐
//!           │ ▲                             ▼           │
//!           ▼ │ any fault: pause      ──► attempts   needs attention ── abandon ──► skipped, noted durably
//! ```
//!
//! *In doubt* is a node of which some attempt, in this life or an earlier one, may have had an effect. steno never undoes a
//! node that has failed, so what it has left must be gone before steno hears of the failure. Before its undo runs it is
//! noted durably as *failing*: from then on the action runs no more, so that action and undo of one node never alternate.
//!
//! A crash leaves `started` in the log, and the next life is in doubt of the node: it runs it again, or, if it is failing or
//! the saga is cancelled, undoes it. Or it leaves `undo_started`, and the undo begins anew.

use crate::{
    fault::{CODE_CANCELLED, CODE_PANICKED, Cause, Failure, Fault},
    kind::{ActionSpec, SagaKind},
    live::{Verdicts, Waits},
    persist::{Persisted, persist},
    step::{Execution, Step, Typed, stopped},
    types::{Attention, Mark},
};
use futures::{FutureExt, future::BoxFuture};
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;
use std::{any::Any, fmt, future::Future, panic::AssertUnwindSafe, sync::Arc, time::Duration};
use steno::{Action, ActionContext, ActionError, ActionName, ActionResult, UndoResult};

/// An action of a kind, as steno calls it.
pub(crate) struct NodeAction<K: SagaKind> {
    pub(crate) name: String,
    pub(crate) spec: ActionSpec<K>,
}

/// One node of one saga, while it runs.
struct NodeRun<'a, K: SagaKind> {
    spec: &'a ActionSpec<K>,
    context: Arc<ActionContext<Typed<K>>>,
    path: Arc<str>,
}

impl<K: SagaKind> fmt::Debug for NodeAction<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeAction").field("name", &self.name).field("spec", &self.spec).finish()
    }
}

impl<K: SagaKind> Action<Typed<K>> for NodeAction<K> {
    fn do_it(&self, context: ActionContext<Typed<K>>) -> BoxFuture<'_, ActionResult> {
        let run = NodeRun::new(&self.spec, context);
        async move { run.act().await.map(Arc::new).map_err(ActionError::action_failed) }.boxed()
    }

    fn undo_it(&self, context: ActionContext<Typed<K>>) -> BoxFuture<'_, UndoResult> {
        let run = NodeRun::new(&self.spec, context);
        async move {
            run.take_back().await;
            Ok(())
        }
        .boxed()
    }

    fn name(&self) -> ActionName {
        ActionName::new(&self.name)
    }
}

impl<'a, K: SagaKind> NodeRun<'a, K> {
    fn new(spec: &'a ActionSpec<K>, context: ActionContext<Typed<K>>) -> Self {
        // The definition labels each action node with its path.
        let path = Arc::from(context.node_label());
        NodeRun { spec, context: Arc::new(context), path }
    }

    fn execution(&self) -> &Execution<K> {
        self.context.user_data()
    }

    /// The action, unless and until the executor is halted: then its future is dropped where it is, as in a crash.
    async fn act(&self) -> Result<Value, Failure> {
        tokio::select! {
            biased;
            () = self.execution().live.halted().cancelled() => Err(self.failure(stopped().cause().clone(), 0)),
            result = self.attempt_action() => result,
        }
    }

    async fn take_back(&self) {
        tokio::select! {
            biased;
            () = self.execution().live.halted().cancelled() => {}
            () = self.undo_until_done() => {}
        }
    }

    async fn attempt_action(&self) -> Result<Value, Failure> {
        let live = &self.execution().live;
        let begun_before = live.begun_earlier(&self.path);
        if let Some(failure) = live.failing(&self.path) {
            self.undo_until_done().await;
            return Err(failure);
        }
        if live.cancelled().is_cancelled() {
            let when = if begun_before { "before this node had ended" } else { "before this node" };
            let cause = Cause::new(CODE_CANCELLED, format!("the saga was cancelled {when}"));
            return Err(self.fail(self.failure(cause, 0), begun_before).await);
        }
        let mut in_doubt = begun_before;
        let mut attempt = 1;
        let fault = loop {
            live.attempt(&self.path, attempt);
            let step =
                Step::of_action(Arc::clone(&self.context), Arc::clone(&self.path), attempt, begun_before);
            let fault = match contained(|| (self.spec.does)(step)).await {
                Ok(output) => return Ok(output),
                Err(fault) => fault,
            };
            self.note(&fault, attempt, "attempt failed");
            in_doubt |= fault.is_unknown();
            match self.spec.retry.pause_after(attempt) {
                Some(pause) if !matches!(fault, Fault::Refused(_)) => self.pause(pause).await,
                _ => break fault,
            }
            attempt += 1;
        };
        Err(self.fail(self.failure(fault.cause().clone(), attempt), in_doubt).await)
    }

    /// Returns, with the failure, when nothing is left that the node may have made.
    async fn fail(&self, failure: Failure, in_doubt: bool) -> Failure {
        if in_doubt && self.spec.undoes.is_some() {
            let Execution { live, store, .. } = self.execution();
            let mark = Mark::Failing { failure: failure.clone() };
            if persist(live, || store.mark(live.key, &mark)).await == Persisted::Halted {
                return std::future::pending().await;
            }
            live.marked(mark);
            self.undo_until_done().await;
        }
        failure
    }

    /// Returns when the effect is gone, or when an operator has given up on it.
    async fn undo_until_done(&self) {
        let Some(undo) = &self.spec.undoes else { return };
        let live = &self.execution().live;
        let begun_before = live.undo_begun_earlier(&self.path);
        let mut attempts = 0;
        loop {
            if live.abandoned().is_some() {
                return self.skip().await;
            }
            let mut attempt = 1;
            let fault = loop {
                live.attempt(&self.path, attempt);
                let step =
                    Step::of_undo(Arc::clone(&self.context), Arc::clone(&self.path), attempt, begun_before);
                let Err(fault) = contained(|| undo(step)).await else { return };
                self.note(&fault, attempt, "undo failed");
                match self.spec.undo_retry.0.pause_after(attempt) {
                    Some(pause) => self.pause(pause).await,
                    None => break fault,
                }
                attempt += 1;
            };
            attempts += attempt;
            self.ask_operator(self.failure(fault.cause().clone(), attempts)).await;
        }
    }

    /// Returns when an operator has said what is to happen.
    async fn ask_operator(&self, failure: Failure) {
        let Execution { live, store, .. } = self.execution();
        let mut verdicts = live.verdicts().subscribe();
        let retries = verdicts.borrow().retries;
        tracing::error!(saga = %live.key.id, node = %self.path, error = %failure, "saga needs attention");
        let attention = Attention { failure, since: Timestamp::now() };
        if persist(live, || store.set_attention(live.key, Some(&attention))).await == Persisted::Halted {
            return std::future::pending().await;
        }
        live.set_attention(&self.path, Some(attention));
        let decided = |verdicts: &Verdicts| verdicts.abandoned.is_some() || verdicts.retries > retries;
        // The sender is in `live`, which this borrows.
        let _ = verdicts.wait_for(decided).await;
        live.set_attention(&self.path, None);
        // Another node may have been answered, too, while this was written: whose write came last looks again, so that the row
        // does not go on saying what is over.
        loop {
            let left = live.status().attention.into_values().next();
            if persist(live, || store.set_attention(live.key, left.as_ref())).await == Persisted::Halted {
                return std::future::pending().await;
            }
            if live.status().attention.into_values().next() == left {
                return;
            }
        }
    }

    /// Notes durably that the effect may still be there.
    async fn skip(&self) {
        let Execution { live, store, .. } = self.execution();
        let mark = Mark::UndoSkipped { node: self.path.to_string() };
        if persist(live, || store.mark(live.key, &mark)).await == Persisted::Durable {
            live.marked(mark);
        }
    }

    /// Before the next attempt.
    async fn pause(&self, pause: Duration) {
        let live = &self.execution().live;
        let until = SignedDuration::try_from(pause).ok().and_then(|p| Timestamp::now().checked_add(p).ok());
        live.waits(&self.path, until.map(Waits::Retry));
        tokio::time::sleep(pause).await;
        live.waits(&self.path, None);
    }

    fn note(&self, fault: &Fault, attempt: u32, what: &'static str) {
        let live = &self.execution().live;
        live.fault(&self.path, fault);
        tracing::warn!(saga = %live.key.id, node = %self.path, attempt, error = %fault, what, "saga node has a fault");
    }

    fn failure(&self, cause: Cause, attempts: u32) -> Failure {
        Failure { node: self.path.to_string(), cause, attempts }
    }
}

/// Runs an action or undo; its panic, while it is made or polled, becomes a fault of unknown effect.
async fn contained<T, Running>(run: impl FnOnce() -> Running) -> Result<T, Fault>
where
    Running: Future<Output = Result<T, Fault>>,
{
    AssertUnwindSafe(async { run().await }).catch_unwind().await.unwrap_or_else(|panic| {
        Err(Fault::unknown(CODE_PANICKED, format!("panicked: {}", words_of(panic.as_ref()))))
    })
}

fn words_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without words".to_owned())
}
