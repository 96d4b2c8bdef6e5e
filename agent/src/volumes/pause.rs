//! The pause between two looks at another process, which tells nobody when it changes.

use std::{io, time::Duration};
use tokio::runtime::{Builder, Runtime};

/// Waits for time to go by.
pub(super) struct Pause(Runtime);

impl Pause {
    pub(super) fn new() -> io::Result<Pause> {
        Ok(Pause(Builder::new_current_thread().enable_time().build()?))
    }

    pub(super) fn wait(&self, length: Duration) {
        self.0.block_on(async { tokio::time::sleep(length).await });
    }
}
