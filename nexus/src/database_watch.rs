//! Whether the database takes writes, looked at once a second and told by `/readyz`.
//!
//! That the process runs says nothing: with a full or hanging disk it answers reads and refuses every change.

use http_edge::Readiness;
use nexus_database::{Database, Trouble};
use problem::chain;
use std::{pin::pin, time::Duration};
use tokio::sync::watch;

/// Between two looks. In peace one costs no disk access.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A write that has not begun by then is as good as refused: the disk hangs, or the writes before it take that long.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// The check's name in `/readyz`.
pub(crate) const CHECK: &str = "database";

/// Looks without end; more often once `stop` turns true, because then somebody waits for what is found.
pub(crate) async fn watch(database: Database, readiness: Readiness, mut stop: watch::Receiver<bool>) {
    let mut was_well = true;
    loop {
        let state = look(&database, &readiness).await;
        match &state {
            // At the end of a stop it is closed.
            Err(error) if was_well && !*stop.borrow() => {
                tracing::error!(error, "the database takes no writes");
            }
            Ok(()) if !was_well => tracing::info!("the database takes writes again"),
            _ => {}
        }
        was_well = state.is_ok();
        readiness.report(CHECK, state);
        let stopped = tokio::time::timeout(LOOK_INTERVAL, stop.wait_for(|stop| *stop)).await.is_ok();
        if stopped {
            tokio::time::sleep(LOOK_AT_STOP).await;
        }
    }
}

/// How long a write may be under way at a stop: nobody waits for it but whoever wants the process to end.
const SLOW_AT_STOP: Duration = Duration::from_secs(1);

/// Between two looks at a stop.
const LOOK_AT_STOP: Duration = Duration::from_millis(100);

/// Waits until the database is known not to answer, at a stop: there is no use in waiting for what it is to do, and what is
/// not durable by now was never acknowledged.
pub(crate) async fn is_silent_at_stop(database: &Database) -> Trouble {
    loop {
        tokio::time::sleep(LOOK_AT_STOP).await;
        if let Some(trouble) = database.trouble_after(SLOW_AT_STOP) {
            return trouble;
        }
    }
}

/// One look. Past its limit the answer is known and told, and the same look goes on: given up and begun anew, each one
/// would leave a thread behind on a disk that hangs.
async fn look(database: &Database, readiness: &Readiness) -> Result<(), String> {
    let mut probe = pin!(database.probe_write());
    let result = match tokio::time::timeout(LOOK_LIMIT, &mut probe).await {
        Ok(result) => result,
        Err(_) => {
            let reason = format!("no write could begin within {} s", LOOK_LIMIT.as_secs());
            tracing::error!(reason, "the database takes no writes");
            readiness.report(CHECK, Err(reason));
            probe.await
        }
    };
    result.map_err(|error| chain(&error))
}
