//! One write, until it is durable, or until the executor has to stop: where steno cannot take an error there is no third
//! way.

use crate::{
    live::{Halt, LiveSaga},
    ports::{StoreFault, Written},
};
use std::{future::Future, pin::pin, time::Duration};

/// Between two attempts at first; doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// The pauses grow no longer: a store that is back is noticed within it.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// An attempt that takes longer is told as waiting for the store while it still does. In peace one takes milliseconds.
const SLOW_AFTER: Duration = Duration::from_secs(1);

/// How long a stop waits for an attempt that is under way.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(2);

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Persisted {
    Durable,
    /// The executor is halted; whether the write is durable nobody here needs to know any more.
    Halted,
}

/// Writes until the answer is known. Both fault classes are tried again: every write is idempotent.
pub(crate) async fn persist<Writing>(live: &LiveSaga, mut write: impl FnMut() -> Writing) -> Persisted
where
    Writing: Future<Output = Result<Written, StoreFault>>,
{
    let mut pause = PAUSE_FIRST;
    loop {
        let mut attempt = pin!(attempt(live, write()));
        let answer = tokio::select! {
            biased;
            () = live.halted().cancelled() => {
                if live.why_halted() == Some(Halt::Stopped) {
                    // What it writes has happened: a store that is well takes it before the process ends.
                    let _ = tokio::time::timeout(STOP_LIMIT, attempt).await;
                }
                return Persisted::Halted;
            }
            answer = &mut attempt => answer,
        };
        match answer {
            Ok(Written::Now | Written::Already) => {
                live.unblocked();
                return Persisted::Durable;
            }
            Ok(Written::Fenced) => {
                tracing::warn!(saga = %live.key.id, adoption = %live.key.epoch, "saga is another adoption's, its executor stops");
                live.halt(Halt::Fenced);
                return Persisted::Halted;
            }
            Ok(Written::Contradicted) => {
                tracing::error!(saga = %live.key.id, adoption = %live.key.epoch, "the log of the saga says something else already, its executor stops");
                live.halt(Halt::Contradicted);
                return Persisted::Halted;
            }
            Err(fault) => {
                tracing::warn!(saga = %live.key.id, error = %fault, "saga waits for its store");
                live.blocked(fault.to_string());
            }
        }
        tokio::select! {
            biased;
            () = live.halted().cancelled() => return Persisted::Halted,
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

async fn attempt(
    live: &LiveSaga,
    writing: impl Future<Output = Result<Written, StoreFault>>,
) -> Result<Written, StoreFault> {
    let mut writing = pin!(writing);
    if let Ok(answer) = tokio::time::timeout(SLOW_AFTER, &mut writing).await {
        return answer;
    }
    live.blocked(format!("no answer for more than {} s", SLOW_AFTER.as_secs()));
    writing.await
}
