//! The `nexus` program: arguments, log, signals. Everything else is the library's.

use anyhow::Context;
use camino::Utf8PathBuf;
use clap::{Parser, Subcommand, ValueEnum};
use nexus::{Config, Nexus};
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

/// A config that can not be used; as in sysexits(3).
const EXIT_CONFIG: u8 = 78;

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
        .enable_all()
        .build()
        .context("cannot start the async runtime")?;
    runtime.block_on(async {
        let stop = daemon::stop::on_signals()?;
        Nexus::start(config).await?.run(stop).await;
        Ok(())
    })
}

fn print_openapi(api: Api) -> anyhow::Result<()> {
    let document = match api {
        Api::Operator => nexus::http::operator::router().into_openapi(),
        Api::Internal => nexus::http::internal::router().into_openapi(),
    };
    println!("{}", document.to_pretty_json().context("cannot print the document")?);
    Ok(())
}
