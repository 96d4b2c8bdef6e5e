//! `soak sagas`: sagas under load and SIGKILL, for as long as one likes. Owns the command line and what is said; what is
//! done and what is right is the `soak` crate's.

use super::{INTERRUPTED, progress, seed_of_now};
use crate::{
    cargo::{Profile, build_programs},
    testbed::signals::Interrupts,
    workspace,
};
use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use clap::{Args, ValueEnum};
use soak::{CreationOrder, KillOrder, SoakReport, SoakSite, run_creation, run_kills};
use std::process::ExitCode;
use testbed::{DatabaseKind, KeeperCommand};
use tokio::runtime::Runtime;

/// What is done, and for how long.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 nothing was found wrong; 1 something was, or the run could not be made.\n\
A: clients create sagas while recovery is activated in a loop. B: clients create sagas while the coordinator is killed.\n\
Short: 600 sagas, 60 activations, 50 kills. Full: 100,000 sagas, 1,000 activations, 1,000 kills."
)]
pub(crate) struct SagasArgs {
    /// Only this run
    #[arg(long, value_name = "RUN")]
    only: Option<Run>,
    /// The short form, on programs as they are compiled for development; without it the full one, as they are shipped
    #[arg(long)]
    short: bool,
    /// Chooses the instants of the kills and what sagas are told to do; chosen, and printed, unless given
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Sagas of run A, at least
    #[arg(long, value_name = "N")]
    sagas: Option<u64>,
    /// Passes of recovery in run A, at least
    #[arg(long, value_name = "N")]
    activations: Option<u64>,
    /// Kills of run B
    #[arg(long, value_name = "N")]
    kills: Option<u64>,
    /// Clients at once, in both runs; 16 and 64 unless said
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    clients: Option<u32>,
    /// The coordinator's database
    #[arg(long, value_name = "DATABASE", default_value = "sqlite")]
    db: Db,
    /// Run the programs in this directory instead of building them
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<Utf8PathBuf>,
    /// The report as JSON instead of a table
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Run {
    /// Creating while recovery runs in a loop
    A,
    /// Killing
    B,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Db {
    /// A file
    Sqlite,
    /// A server of the run's own
    Postgres,
}

/// Runs the command.
pub(crate) fn run(args: &SagasArgs) -> Result<ExitCode> {
    if args.db == Db::Postgres {
        test_postgres::Programs::required().context("--db postgres")?;
    }
    let bin_dir = match &args.bin_dir {
        Some(bin_dir) => camino::absolute_utf8(bin_dir).with_context(|| format!("--bin-dir {bin_dir}"))?,
        None => build_programs(if args.short { Profile::Dev } else { Profile::Release })?,
    };
    let site = SoakSite {
        parent: workspace::target_dir()?.join("soak"),
        bin_dir: Some(bin_dir),
        keeper: Some(KeeperCommand::of_xtask(workspace::this_program()?)),
        database: match args.db {
            Db::Sqlite => DatabaseKind::Sqlite,
            Db::Postgres => DatabaseKind::Postgres,
        },
    };
    let outcome = Runtime::new()?.block_on(async {
        let mut interrupts = Interrupts::listen()?;
        tokio::select! {
            report = soak(args, &site) => report.map(Some),
            // Its processes end with what is dropped here.
            () = interrupts.next() => Ok(None),
        }
    })?;
    let Some(report) = outcome else {
        eprintln!("interrupted; everything is ended and removed");
        return Ok(ExitCode::from(INTERRUPTED));
    };
    if args.json {
        say!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        say!("{}", report.to_string().trim_end());
    }
    Ok(if report.is_well() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn soak(args: &SagasArgs, site: &SoakSite) -> Result<SoakReport> {
    let seed = args.seed.unwrap_or_else(seed_of_now);
    eprintln!("seed {seed}");
    let mut report = SoakReport::default();
    if args.only != Some(Run::B) {
        let run = run_creation(site, &args.creation(seed), &|text| progress(&format!("A  {text}"))).await;
        report.creation = Some(run.with_context(|| format!("run A, seed {seed}"))?);
    }
    if args.only != Some(Run::A) {
        let run = run_kills(site, &args.kills(seed), &|text| progress(&format!("B  {text}"))).await;
        report.kills = Some(run.with_context(|| format!("run B, seed {seed}"))?);
    }
    super::end_progress();
    Ok(report)
}

impl SagasArgs {
    fn creation(&self, seed: u64) -> CreationOrder {
        let form = if self.short { CreationOrder::short(seed) } else { CreationOrder::full(seed) };
        CreationOrder {
            sagas: self.sagas.unwrap_or(form.sagas),
            activations: self.activations.unwrap_or(form.activations),
            clients: self.clients.unwrap_or(form.clients),
            ..form
        }
    }

    fn kills(&self, seed: u64) -> KillOrder {
        let form = if self.short { KillOrder::short(seed) } else { KillOrder::full(seed) };
        KillOrder {
            kills: self.kills.unwrap_or(form.kills),
            clients: self.clients.unwrap_or(form.clients),
            ..form
        }
    }
}
