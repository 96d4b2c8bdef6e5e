//! One task per saga, from its start to its end: waits until steno lets go of it, makes the end durable, gives the claim
//! back.
//!
//! The count of sagas that were *fenced* here may have one that has ended here: where the answer to its end was lost, and the row
//! was archived and pruned before the end is asked for again, nothing tells that it was there. Rows are kept for weeks, so it
//! takes a database that does not answer for as long, or a coordinator that is told to keep none.

use crate::{
    engine::Inner,
    fault::{CODE_ENGINE, Cause, Failure},
    live::{Ended, Halt, LiveSaga},
    persist::{Persisted, STOP_LIMIT, persist},
    types::EndState,
};
use futures::{FutureExt, future::BoxFuture};
use nexus_saga_recovery::Claim;
use std::{panic::AssertUnwindSafe, sync::Arc};
use steno::{SagaResult, SagaResultErr, SecClient};

pub(crate) struct Completing {
    pub(crate) engine: Arc<Inner>,
    pub(crate) live: Arc<LiveSaga>,
    /// Kept until steno has let go: it ends with this.
    pub(crate) _sec: SecClient,
    pub(crate) claim: Claim,
}

impl Completing {
    pub(crate) async fn run(self, result: BoxFuture<'static, SagaResult>) {
        // The future panics if its SEC has died. Nodes of it may still run then, so the claim is not given back.
        let Ok(result) = AssertUnwindSafe(result).catch_unwind().await else {
            tracing::error!(saga = %self.live.key.id, "a SEC has died, its sagas wait for the next start");
            self.live.halt(Halt::Stopped);
            let Completing { engine, live, claim, .. } = self;
            engine.let_go(&live);
            // As lost: it is counted as missing.
            drop(claim);
            live.ended().send_replace(Some(Ended::Halted));
            return;
        };
        if self.live.why_halted().is_some() {
            return self.halted().await;
        }
        let Some(end) = end_state(&self.live, result) else {
            // No undo answers steno with an error, so this is a defect here; the row says that it is unfinished.
            tracing::error!(saga = %self.live.key.id, "steno reports an undo that failed; the saga stays unfinished");
            self.live.halt(Halt::Stopped);
            self.engine.let_go(&self.live);
            self.claim.contradicted();
            self.live.ended().send_replace(Some(Ended::Halted));
            return;
        };
        let Completing { engine, live, .. } = &self;
        let last = live.last_lines();
        match persist(live, || engine.store.end(live.key, &end, &last)).await {
            Persisted::Halted => self.halted().await,
            Persisted::Durable => {
                tracing::info!(saga = %live.key.id, kind = live.status().kind, "saga has ended");
                // In this order: whoever waits for the end finds the claim given back.
                engine.let_go(live);
                let (live, claim) = (Arc::clone(live), self.claim);
                claim.finished();
                live.ended().send_replace(Some(Ended::Here(end)));
            }
        }
    }

    async fn halted(self) {
        if self.live.why_halted() == Some(Halt::Stopped) {
            self.write_last_lines().await;
        }
        self.engine.let_go(&self.live);
        match self.live.why_halted() {
            Some(Halt::Fenced) => self.claim.fenced(),
            Some(Halt::Contradicted) => self.claim.contradicted(),
            _ => self.claim.stopped(),
        }
        self.live.ended().send_replace(Some(Ended::Halted));
    }
}

impl Completing {
    /// Of nodes that had ended before the stop, so that the next life does not run them again. One attempt: if it is not
    /// durable they run again, as after a crash.
    async fn write_last_lines(&self) {
        let last = self.live.last_lines();
        if last.is_empty() {
            return;
        }
        let writing = self.engine.store.append(self.live.key, &last);
        if !matches!(tokio::time::timeout(STOP_LIMIT, writing).await, Ok(Ok(_))) {
            tracing::warn!(saga = %self.live.key.id, "what its last nodes have done was not written before the stop");
        }
    }
}

/// None if steno reports an undo that failed.
fn end_state(live: &LiveSaga, result: SagaResult) -> Option<EndState> {
    let failed = match result.kind {
        Ok(ok) => {
            return Some(match ok.saga_output() {
                Ok(output) => EndState::Succeeded { output },
                Err(error) => failed_otherwise(String::new(), &error),
            });
        }
        Err(failed) => failed,
    };
    let SagaResultErr { error_node_name, error_source, undo_failure } = failed;
    if undo_failure.is_some() {
        return None;
    }
    let node: &str = error_node_name.as_ref();
    // Of several that have failed side by side, steno tells the one of the lowest number.
    let first = live.status().failure;
    let failure = match first.map_or_else(|| error_source.convert::<Failure>(), Ok) {
        Ok(failure) => failure,
        Err(error) => {
            Failure { node: node.to_owned(), cause: Cause::new(CODE_ENGINE, error.to_string()), attempts: 0 }
        }
    };
    Some(match live.abandoned() {
        Some(reason) => EndState::Abandoned { failure, reason, not_undone: live.not_undone() },
        None => EndState::Failed { failure },
    })
}

fn failed_otherwise(node: String, error: &steno::ActionError) -> EndState {
    let cause = Cause::new(CODE_ENGINE, error.to_string());
    EndState::Failed { failure: Failure { node, cause, attempts: 0 } }
}
