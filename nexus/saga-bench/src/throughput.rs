//! Sagas per second, from the call that starts one to its durable end, by so many clients that wait for their ends.

use crate::{
    bare::{Bare, Writing},
    trivial::{Length, Row, kinds, life_of},
};
use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use ids::CoordinatorId;
use nexus::sagas;
use nexus_database::Database;
use nexus_sagas::EndState;
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

/// How to measure.
#[derive(Debug, Args)]
pub(crate) struct ThroughputArgs {
    /// Who executes
    #[arg(long, value_enum)]
    engine: Who,
    /// Sagas at once
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Nodes of each
    #[arg(long, default_value_t = 18)]
    nodes: u32,
    /// How long
    #[arg(long, default_value_t = 10)]
    seconds: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Who {
    /// The engine with everything that it promises
    Ours,
    /// Bare steno, events written together
    Bare,
    /// Bare steno, a statement and a commit for each event
    BareOneByOne,
}

pub(crate) async fn measure(database: &Database, args: &ThroughputArgs) -> Result<Value> {
    let length = Length { nodes: args.nodes, waits: false };
    match args.engine {
        Who::Ours => {
            let coordinator = CoordinatorId::generate();
            let life = life_of(database, coordinator).await?;
            let (sagas, _) = sagas::start(database.clone(), &life, kinds()?);
            let engine = sagas.engine;
            count(args, move || {
                let engine = engine.clone();
                async move {
                    let id = engine.start::<Row>(&length).await?;
                    let end = engine.wait(id).await?;
                    ensure!(matches!(end, Some(EndState::Succeeded { .. })), "it ended as {end:?}");
                    Ok(())
                }
            })
            .await
        }
        Who::Bare | Who::BareOneByOne => {
            let one_by_one = args.engine == Who::BareOneByOne;
            let writing = if one_by_one { Writing::EachByItself } else { Writing::Together };
            let bare = Arc::new(Bare::new(database, length, writing).await?);
            count(args, move || {
                let bare = Arc::clone(&bare);
                async move { bare.run().await }
            })
            .await
        }
    }
}

/// Lets each client run one saga after the other. The first second warms up and is not counted.
async fn count<Running>(
    args: &ThroughputArgs,
    run: impl Fn() -> Running + Clone + Send + 'static,
) -> Result<Value>
where
    Running: Future<Output = Result<()>> + Send + 'static,
{
    let warm = Instant::now() + Duration::from_secs(1);
    let until = warm + Duration::from_secs(args.seconds);
    let mut clients = JoinSet::new();
    for _ in 0..args.clients {
        let run = run.clone();
        clients.spawn(async move {
            let mut counted = 0_u64;
            loop {
                run().await?;
                let now = Instant::now();
                if now >= until {
                    return Ok::<u64, anyhow::Error>(counted);
                }
                counted += u64::from(now >= warm);
            }
        });
    }
    let mut sagas = 0;
    while let Some(client) = clients.join_next().await {
        sagas += client??;
    }
    let seconds = args.seconds as f64;
    Ok(json!({ "sagas": sagas, "seconds": seconds, "per_second": sagas as f64 / seconds }))
}
