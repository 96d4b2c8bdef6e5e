//! The `sled-agent` program: arguments, log, signals. Everything else is the library's.

use anyhow::Context;
use camino::Utf8PathBuf;
use clap::{Parser, Subcommand, ValueEnum};
use sled_agent::{Agent, Config};
use std::process::ExitCode;

/// The agent of one Bobsled host.
#[derive(Debug, Parser)]
#[command(name = "sled-agent", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until SIGTERM or SIGINT.
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
    /// What coordinators and operators ask of the sled.
    Sled,
    /// Public reads of artifacts.
    Depot,
}

/// A config that can not be used; as in sysexits(3).
const EXIT_CONFIG: u8 = 78;

/// Threads that run the agent's tasks. An agent mostly waits; disks have threads of their own.
const WORKER_THREADS: usize = 2;

fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Run { config } => match daemon::config_file::read::<Config>(&config) {
            Ok(config) => report(run(config), ExitCode::FAILURE),
            Err(error) => report(Err(error.into()), ExitCode::from(EXIT_CONFIG)),
        },
        Command::Check { config } => {
            let checked = daemon::config_file::read::<Config>(&config).map(drop);
            report(checked.map_err(Into::into), ExitCode::from(EXIT_CONFIG))
        }
        Command::Openapi { api } => report(print_openapi(api), ExitCode::FAILURE),
    }
}

fn report(result: anyhow::Result<()>, failure: ExitCode) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            failure
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    daemon::log::start(&config.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        let stop = daemon::stop::on_signals()?;
        Agent::start(config).await?.run(stop).await;
        Ok(())
    })
}

fn print_openapi(api: Api) -> anyhow::Result<()> {
    let document = match api {
        Api::Sled => sled_agent::http::sled::router().into_openapi(),
        Api::Depot => sled_agent::http::depot::router().into_openapi(),
    };
    println!("{}", document.to_pretty_json().context("cannot print the document")?);
    Ok(())
}
