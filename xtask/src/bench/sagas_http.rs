//! Sagas over HTTP: clients of the operator's API, each of which begins one demo saga after the other and waits for its end.
//! The coordinator is a process of its own, and every saga's witness is on its disk.

use super::cluster;
use anyhow::{Result, ensure};
use camino::Utf8Path;
use nexus_client::{
    OperatorClient,
    sagas::{DemoSaga, SagaState, SagaWaitQuery},
};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Not counted.
const WARMING: Duration = Duration::from_secs(1);

/// What is counted.
const COUNTED: Duration = Duration::from_secs(10);

/// Seconds that one call waits for an end.
const WAIT_SECONDS: u32 = 20;

/// Sagas per second, of so many clients at once.
pub(super) async fn per_second(programs: &Utf8Path, dir: &Utf8Path, clients: u32) -> Result<f64> {
    let cluster = cluster::start(programs, dir, 0).await?;
    let warm = Instant::now() + WARMING;
    let mut at_work = JoinSet::new();
    for _ in 0..clients {
        at_work.spawn(work(cluster.operator()?, warm));
    }
    let mut sagas = 0;
    while let Some(client) = at_work.join_next().await {
        sagas += client??;
    }
    cluster.finish().await?;
    Ok(f64::from(sagas) / COUNTED.as_secs_f64())
}

/// How many ended while it was counted.
async fn work(operator: OperatorClient, warm: Instant) -> Result<u32> {
    let mut counted = 0;
    loop {
        let id = operator.saga_demo(&DemoSaga::default()).await?.id;
        let saga = operator.saga(id, &SagaWaitQuery { wait_seconds: Some(WAIT_SECONDS) }).await?.saga;
        ensure!(saga.state == SagaState::Succeeded, "{id} is {}, not succeeded", saga.state.word());
        let now = Instant::now();
        if now >= warm + COUNTED {
            return Ok(counted);
        }
        counted += u32::from(now >= warm);
    }
}
