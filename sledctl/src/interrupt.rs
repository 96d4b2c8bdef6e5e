//! Ctrl-C, for commands that have something to take back or to say when it comes.
//!
//! It is listened for from the beginning of such a command. A command that began to listen once it waits would be killed
//! where it stands before that: with its temporary file left behind, and without a word.

use std::future::pending;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Listens from when it is made until the process ends.
#[derive(Debug)]
pub struct Interrupt(Option<Signal>);

impl Interrupt {
    /// Listens from now on. Where the system refuses that, Ctrl-C ends the process as it always does.
    #[must_use]
    pub fn listen() -> Interrupt {
        Interrupt(signal(SignalKind::interrupt()).ok())
    }

    /// Returns once it has come, since this listens; also when nobody waited at that moment.
    pub async fn came(&mut self) {
        match &mut self.0 {
            Some(signal) => drop(signal.recv().await),
            None => pending().await,
        }
    }
}
