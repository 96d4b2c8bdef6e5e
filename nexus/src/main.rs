//! The `nexus` program: arguments, log, signals. Everything else is the library's.

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand, ValueEnum};
use daemon::program::{self, Program};
use mimalloc::MiMalloc;
use nexus::{Config, DatabaseCommand, DatabaseCommandError, Nexus, RunError, background_tasks};
use std::{
    io::{self, Write},
    process::ExitCode,
};

/// A saga is some thousand small allocations of many sizes, made and freed by all threads. The C library's allocator took half
/// the time of a recovery of ten thousand.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The coordinator of a Bobsled cluster.
#[derive(Debug, Parser)]
#[command(name = "nexus", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the coordinator until SIGTERM or SIGINT.
    Run {
        /// The config file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Utf8PathBuf,
    },
    /// Check a config file and exit.
    Check {
        /// The config file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Utf8PathBuf,
    },
    /// Check, back up or restore the database.
    #[command(subcommand)]
    Db(Db),
    /// Print the OpenAPI document of an API.
    Openapi {
        /// Which API.
        api: Api,
    },
}

#[derive(Debug, Subcommand)]
enum Db {
    /// Look whether the database is in order; may run beside the coordinator.
    Check {
        /// The coordinator's config file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Utf8PathBuf,
    },
    /// Copy the database, also while it is used (SQLite; for PostgreSQL it says what to run).
    Backup {
        /// The new file; its SHA-256 goes beside it, into FILE.sha256.
        file: Utf8PathBuf,
        /// The coordinator's config file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Utf8PathBuf,
    },
    /// Put a backup in the place of the database, which is kept; the coordinator must be stopped.
    Restore {
        /// The backup; its SHA-256 is beside it, in FILE.sha256.
        file: Utf8PathBuf,
        /// The coordinator's config file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Utf8PathBuf,
    },
}

impl Db {
    fn parts(self) -> (Utf8PathBuf, DatabaseCommand) {
        match self {
            Db::Check { config } => (config, DatabaseCommand::Check),
            Db::Backup { file, config } => (config, DatabaseCommand::Backup(file)),
            Db::Restore { file, config } => (config, DatabaseCommand::Restore(file)),
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Api {
    /// What operators do.
    Operator,
    /// What sleds tell.
    Internal,
}

const PROGRAM: Program<Config> = Program {
    log: |config| &config.log,
    verify: |config| {
        config.verify()?;
        Ok(background_tasks::verify(&config.tasks)?)
    },
    worker_threads: None,
    blocking_threads: None,
};

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => PROGRAM.run(&config, async |config, stop| {
            Ok::<(), RunError>(Nexus::start(config).await?.run(stop).await?)
        }),
        Command::Check { config } => PROGRAM.check(&config),
        Command::Db(command) => {
            let (config, command) = command.parts();
            PROGRAM.run(&config, async |config, _stop| {
                let said = nexus::run_database_command(&config, &command).await?;
                // Not println, which panics when the reader has gone.
                let _ = writeln!(io::stdout(), "{said}");
                Ok::<(), DatabaseCommandError>(())
            })
        }
        Command::Openapi { api } => program::print(openapi(api).to_pretty_json()),
    }
}

fn openapi(api: Api) -> utoipa::openapi::OpenApi {
    match api {
        Api::Operator => nexus::http::operator::router().into_openapi(),
        Api::Internal => nexus::http::internal::router().into_openapi(),
    }
}
