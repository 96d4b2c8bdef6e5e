//! Ctrl-C and its like. Owns which signals mean "end now"; what ending means is the caller's business.

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens for the wish to end: SIGINT, SIGTERM, SIGHUP (the terminal is gone).
pub(crate) struct Interrupts {
    signals: [Signal; 3],
}

impl Interrupts {
    /// From now on these signals no longer end the process by themselves.
    pub(crate) fn listen() -> Result<Interrupts> {
        let listen = |kind| signal(kind).context("listening for signals");
        let signals = [
            listen(SignalKind::interrupt())?,
            listen(SignalKind::terminate())?,
            listen(SignalKind::hangup())?,
        ];
        Ok(Interrupts { signals })
    }

    /// Waits for the next one.
    pub(crate) async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.signals;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
