//! What differs between the processes that are supervised: where they are looked for, whether one is to run, and how one sees that it answers.

use problem::chain;
use std::time::Duration;
use supervised_process::{Holder, HolderError, Ours};
use tokio::{task::spawn_blocking, time::sleep};
use tracing::Span;

/// Between two looks at a place where nothing can be done: that costs little, and nobody tells when it changes.
pub const PROBE: Duration = Duration::from_secs(2);

/// Who was found in the place.
#[derive(Debug)]
pub enum Found {
    /// Nobody is to be started now; why, if that is worth telling.
    NotNow(Option<String>),
    /// Nobody, and somebody is to be.
    Nobody,
    /// The process.
    Ours(Ours),
    /// Somebody who is left alone.
    Elsewhere {
        /// Who it says to be.
        pid: Option<u32>,
        /// Why it is left alone.
        why: String,
    },
}

/// What a supervisor looks after: a place, and the process that is to have it.
pub trait Charge: Send + Sync {
    /// What each line of the log says of it.
    fn span(&self) -> Span;

    /// Looks who has the place.
    ///
    /// # Errors
    /// Why that cannot be seen. It counts as an end.
    fn look(&self) -> impl Future<Output = Result<Found, String>> + Send;

    /// Returns once another look is worth it, after one that found that it is not now.
    fn worth_another_look(&self) -> impl Future<Output = ()> + Send {
        sleep(PROBE)
    }

    /// The arguments that make the agent's program the process.
    fn arguments(&self) -> Vec<String>;

    /// Whether somebody answers where the process is to answer; asked once.
    fn answers(&self) -> impl Future<Output = bool> + Send;
}

/// A look that reads files, which blocks.
pub(crate) async fn look<T: Send + 'static>(
    look: impl FnOnce() -> Result<Holder<T>, HolderError> + Send + 'static,
) -> Result<Holder<T>, String> {
    match spawn_blocking(look).await {
        Ok(found) => found.map_err(|error| chain(&error)),
        Err(panic) => Err(panic.to_string()),
    }
}
