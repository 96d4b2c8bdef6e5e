//! Resident memory while many sagas are executed, sampled as their number grows.

use crate::trivial::{Length, Row, kinds, life_of};
use anyhow::{Context, Result, ensure};
use clap::Args;
use futures::{StreamExt, stream};
use ids::CoordinatorId;
use nexus::sagas;
use nexus_database::Database;
use nexus_sagas::EndState;
use serde_json::{Value, json};

/// How many.
#[derive(Debug, Args)]
pub(crate) struct MemoryArgs {
    /// Sagas
    #[arg(long, default_value_t = 1_000_000)]
    sagas: usize,
    /// Nodes of each
    #[arg(long, default_value_t = 2)]
    nodes: u32,
    /// Sagas at once
    #[arg(long, default_value_t = 64)]
    clients: usize,
}

/// Times at which memory is looked at.
const SAMPLES: usize = 10;

pub(crate) async fn measure(database: &Database, args: &MemoryArgs) -> Result<Value> {
    let coordinator = life_of(database, CoordinatorId::generate()).await?;
    let (sagas, _) = sagas::start(database.clone(), &coordinator, kinds()?);
    let length = Length { nodes: args.nodes, waits: false };
    let (mut samples, mut done) = (Vec::new(), 0);
    while done < args.sagas {
        let some = (args.sagas / SAMPLES).max(1).min(args.sagas - done);
        let engine = &sagas.engine;
        let run = |_| async move {
            let id = engine.start::<Row>(&length).await?;
            let end = engine.wait(id).await?;
            ensure!(matches!(end, Some(EndState::Succeeded { .. })), "it ended as {end:?}");
            Ok(())
        };
        let mut ended = stream::iter(0..some).map(run).buffer_unordered(args.clients);
        while let Some(one) = ended.next().await {
            one?;
        }
        done += some;
        samples.push(json!({ "sagas": done, "rss_bytes": resident_bytes()? }));
    }
    Ok(json!({ "samples": samples }))
}

fn resident_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024)
}
