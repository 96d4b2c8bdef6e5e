//! One write, until it is durable, or until the executor has to stop: where steno cannot take an error there is no third
//! way.

use crate::{
    live::{Halt, LiveSaga},
    ports::{StoreFault, Written},
};
use std::{future::Future, time::Duration};

/// Between two attempts at first; doubled each time.
const PAUSE_FIRST: Duration = Duration::from_millis(20);
/// The pauses grow no longer: a store that is back is noticed within it.
const PAUSE_MAX: Duration = Duration::from_secs(2);

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
        let answer = tokio::select! {
            biased;
            () = live.halted().cancelled() => return Persisted::Halted,
            answer = write() => answer,
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
