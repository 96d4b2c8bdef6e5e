//! How long a pass of recovery takes that finds nothing, in a database that is full of sagas that have ended.

use crate::{
    bare,
    trivial::{kinds, life_of},
};
use anyhow::Result;
use clap::Args;
use ids::CoordinatorId;
use nexus::sagas;
use nexus_database::{Database, sql::sql};
use nexus_tasks::{Activation, BackgroundTask, Reason};
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Instant};

/// How many.
#[derive(Debug, Args)]
pub(crate) struct RestArgs {
    /// Sagas that have ended
    #[arg(long, default_value_t = 1_000_000)]
    ended: i64,
    /// Passes
    #[arg(long, default_value_t = 20)]
    passes: u64,
}

/// Rows as the store writes them, made by the database itself: to run a million sagas for this would take an hour.
const FILL: &str = "WITH RECURSIVE number (n) AS (SELECT CAST($2 AS BIGINT) UNION ALL SELECT n + 1 FROM number WHERE n < $3) \
    INSERT INTO saga (id, owner, adoption_epoch, kind, version, state, created_at, ended_at, outcome) \
    SELECT '00000000-0000-4000-8000-' || substr('000000000000' || n, -12, 12), $1, 0, 'row', 1, 'succeeded', \
    '2026-01-01T00:00:00.000000Z', '2026-01-01T00:00:01.000000Z', '{\"state\":\"succeeded\",\"output\":null}' FROM number";

/// Rows of one statement.
const CHUNK: i64 = 50_000;

pub(crate) async fn measure(database: &Database, args: &RestArgs) -> Result<Value> {
    let coordinator = CoordinatorId::generate();
    for first in (0..args.ended).step_by(CHUNK as usize) {
        let last = (first + CHUNK).min(args.ended) - 1;
        bare::execute(database, &sql(FILL).bind(coordinator.to_string()).bind(first).bind(last)).await?;
    }
    let life = life_of(database, coordinator).await?;
    let (_sagas, mut recovery) = sagas::start(database.clone(), &life, kinds()?);
    let mut seconds = Vec::new();
    for iteration in 1..=args.passes {
        let activation = Activation { iteration, reasons: BTreeSet::from([Reason::Timer]) };
        let begun = Instant::now();
        recovery.run(&activation).await.map_err(|failure| anyhow::anyhow!("{failure:?}"))?;
        seconds.push(begun.elapsed().as_secs_f64());
    }
    Ok(json!({ "ended": args.ended, "pass_seconds": seconds }))
}
