//! SIGTERM and SIGINT as one watch that everything long-lived looks at.

use thiserror::Error;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// The signals can not be listened to.
#[derive(Debug, Error)]
#[error("cannot listen to signals")]
pub struct SignalError(#[source] std::io::Error);

/// What a second signal does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Again {
    /// It ends the process the hard way: whoever is there sees that the end takes too long.
    EndsAtOnce,
    /// Nothing: what is done at the end is bounded, and others depend on it. SIGKILL ends the process all the same.
    ChangesNothing,
}

/// A watch that turns true with the first SIGTERM or SIGINT. The second one ends the process the hard way.
pub fn on_signals() -> Result<watch::Receiver<bool>, SignalError> {
    watch_signals(Again::EndsAtOnce)
}

/// A watch that turns true with the first SIGTERM or SIGINT.
pub fn watch_signals(again: Again) -> Result<watch::Receiver<bool>, SignalError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(SignalError)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(SignalError)?;
    let (sender, receiver) = watch::channel(false);
    tokio::spawn(async move {
        let mut next = async || {
            tokio::select! {
                _ = terminate.recv() => "SIGTERM",
                _ = interrupt.recv() => "SIGINT",
            }
        };
        let signal = next().await;
        tracing::info!(signal, "stopping");
        // Nobody may be listening any more; then there is nothing left to stop.
        sender.send_replace(true);
        loop {
            let signal = next().await;
            match again {
                Again::EndsAtOnce => {
                    tracing::warn!(signal, "stopping at once");
                    std::process::abort();
                }
                Again::ChangesNothing => tracing::warn!(signal, "stopping already"),
            }
        }
    });
    Ok(receiver)
}
