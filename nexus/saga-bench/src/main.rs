//! Measures sagas, one figure per process, so that none inherits the memory or the files of another. `xtask bench sagas`
//! starts it, alternates what is compared, and makes rows of the answers.
//!
//! - [`trivial`]: the saga that is measured: nodes in a row that do nothing.
//! - [`bare`]: the same graph on bare steno over the same store: what the facade costs.
//! - [`throughput`], [`recovery`], [`rest`], [`memory`]: the figures.

mod bare;
mod memory;
mod recovery;
mod rest;
mod throughput;
mod trivial;

use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use clap::{Args, Parser, Subcommand};
use mimalloc::MiMalloc;
use nexus_database::{Database, Location};

/// The coordinator's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Measures one thing about sagas and prints a JSON object.
#[derive(Debug, Parser)]
#[command(name = "saga-bench", version)]
struct Cli {
    #[command(flatten)]
    place: Place,
    #[command(subcommand)]
    command: Command,
}

/// Which database.
#[derive(Debug, Args)]
struct Place {
    /// An empty directory for SQLite's file
    #[arg(long, default_value = ".")]
    dir: Utf8PathBuf,
    /// PostgreSQL in place of SQLite
    #[arg(long)]
    url: Option<String>,
    /// The file that holds its password
    #[arg(long)]
    password_file: Option<Utf8PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Sagas per second
    Throughput(throughput::ThroughputArgs),
    /// Leaves unfinished sagas
    Unfinished(recovery::UnfinishedArgs),
    /// Seconds until they run again
    Recovery(recovery::RecoveryArgs),
    /// Seconds of a recovery pass that finds nothing
    Rest(rest::RestArgs),
    /// Resident memory after many sagas
    Memory(memory::MemoryArgs),
}

impl Place {
    async fn open(&self) -> Result<Database> {
        let sqlite = self.dir.join("nexus.db");
        let location = match &self.url {
            Some(url) => Location::parse(url, self.password_file.as_deref(), &sqlite)?,
            None => Location::Sqlite(sqlite),
        };
        Database::open(location).await.context("the database of the measurement")
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let cli = Cli::parse();
    let database = cli.place.open().await?;
    let answer = match cli.command {
        Command::Throughput(args) => throughput::measure(&database, &args).await?,
        Command::Unfinished(args) => recovery::leave(&database, &args).await?,
        Command::Recovery(args) => recovery::measure(&database, &args).await?,
        Command::Rest(args) => rest::measure(&database, &args).await?,
        Command::Memory(args) => memory::measure(&database, &args).await?,
    };
    print_answer(&answer)?;
    database.close().await;
    Ok(())
}

fn print_answer(answer: &serde_json::Value) -> Result<()> {
    use std::io::Write;
    writeln!(std::io::stdout(), "{answer}").context("nobody reads the answer")
}
