//! Waiting for the end, where there is nothing else to wait for.

use std::error::Error;

pub(super) fn wait_for_signal() -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stop = daemon::stop::on_signals()?;
        // An error is that nobody will ever ask.
        let _ = stop.wait_for(|stop| *stop).await;
        Ok(())
    })
}
