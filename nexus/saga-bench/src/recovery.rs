//! How long it takes after a restart until so many unfinished sagas are executed again. They are real: each has run all of
//! its nodes but the last, which waits. They are made by one process and resumed by another, as it is with a restart.

use crate::trivial::{Length, Row, kinds, life_of};
use anyhow::{Result, ensure};
use clap::Args;
use futures::{StreamExt, TryStreamExt, stream};
use ids::CoordinatorId;
use nexus::sagas;
use nexus_database::Database;
use nexus_tasks::{Activation, BackgroundTask, Reason};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Instant};

/// What to leave.
#[derive(Debug, Args)]
pub(crate) struct UnfinishedArgs {
    /// Unfinished sagas
    #[arg(long, default_value_t = 10_000)]
    sagas: usize,
    /// Nodes of each
    #[arg(long, default_value_t = 18)]
    nodes: u32,
}

/// What to resume.
#[derive(Debug, Args)]
pub(crate) struct RecoveryArgs {
    /// Whose sagas
    coordinator: CoordinatorId,
    /// As many as it has
    #[arg(long, default_value_t = 10_000)]
    sagas: usize,
}

/// Makes them, and leaves them as they are; whose they are.
pub(crate) async fn leave(database: &Database, args: &UnfinishedArgs) -> Result<Value> {
    let coordinator = CoordinatorId::generate();
    let length = Length { nodes: args.nodes, waits: true };
    let life = life_of(database, coordinator).await?;
    let (sagas, _) = sagas::start(database.clone(), &life, kinds()?);
    let start = |_| async { sagas.engine.start::<Row>(&length).await };
    stream::iter(0..args.sagas).map(start).buffer_unordered(256).try_collect::<Vec<_>>().await?;
    let last = format!("node{}", args.nodes);
    for key in sagas.engine.executing() {
        while sagas.engine.status(key.id).is_some_and(|saga| !saga.nodes.contains_key(&last)) {
            tokio::task::yield_now().await;
        }
    }
    sagas.engine.halt().await;
    Ok(json!({ "coordinator": coordinator }))
}

/// Resumes all that a coordinator has.
pub(crate) async fn measure(database: &Database, args: &RecoveryArgs) -> Result<Value> {
    let life = life_of(database, args.coordinator).await?;
    let (sagas, mut recovery) = sagas::start(database.clone(), &life, kinds()?);
    let begun = Instant::now();
    let activation = Activation { iteration: 1, reasons: BTreeSet::from([Reason::Start]) };
    let report = recovery.run(&activation).await;
    let seconds = begun.elapsed().as_secs_f64();
    let running = sagas.engine.executing().len();
    ensure!(running == args.sagas, "{running} of {} run again: {report:?}", args.sagas);
    sagas.engine.halt().await;
    Ok(json!({ "sagas": running, "seconds": seconds }))
}
