//! Whether the database takes writes, looked at once a second and told by `/readyz`.
//!
//! That the process runs says nothing: with a full or hanging disk it answers reads and refuses every change.

use http_edge::Readiness;
use nexus_database::Database;
use problem::chain;
use std::{pin::pin, time::Duration};
use tokio::sync::watch;

/// Between two looks. In peace one costs no disk access.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A write that has not begun by then is as good as refused: the disk hangs, or the writes before it take that long.
const LOOK_LIMIT: Duration = Duration::from_secs(5);

/// The check's name in `/readyz`.
pub(crate) const CHECK: &str = "database";

/// Looks until `stop` turns true.
pub(crate) async fn watch(database: Database, readiness: Readiness, mut stop: watch::Receiver<bool>) {
    let look_on = async {
        let mut was_well = true;
        loop {
            let state = look(&database, &readiness).await;
            match &state {
                Err(error) if was_well => tracing::error!(error, "the database takes no writes"),
                Ok(()) if !was_well => tracing::info!("the database takes writes again"),
                _ => {}
            }
            was_well = state.is_ok();
            readiness.report(CHECK, state);
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    };
    tokio::select! {
        () = look_on => {}
        _ = stop.wait_for(|stop| *stop) => {}
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
