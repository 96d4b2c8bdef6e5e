//! The `nexus` program: arguments, log, signals. Everything else is the library's.

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand, ValueEnum};
use daemon::program::{self, Program};
use nexus::{Config, Nexus, StartError, background_tasks};
use std::process::ExitCode;

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
    /// Print the OpenAPI document of an API.
    Openapi {
        /// Which API.
        api: Api,
    },
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
            Nexus::start(config).await?.run(stop).await;
            Ok::<(), StartError>(())
        }),
        Command::Check { config } => PROGRAM.check(&config),
        Command::Openapi { api } => program::print(openapi(api).to_pretty_json()),
    }
}

fn openapi(api: Api) -> utoipa::openapi::OpenApi {
    match api {
        Api::Operator => nexus::http::operator::router().into_openapi(),
        Api::Internal => nexus::http::internal::router().into_openapi(),
    }
}
