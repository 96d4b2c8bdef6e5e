//! The process: reads the command line, starts the runtime, turns the outcome into an exit code.

use clap::Parser;
use sledctl::{Cli, Environment};
use std::{
    io::{self, Write},
    process::ExitCode,
};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody reads help that cannot be printed; the exit code still says what was asked.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(sledctl::failure::EXIT_USAGE));
        }
    };
    let environment = Environment::of_this_process();
    match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => ExitCode::from(runtime.block_on(sledctl::run(cli, environment))),
        Err(error) => {
            // `eprintln!` would panic where nobody listens.
            let _ = writeln!(io::stderr(), "error: the runtime could not be started: {error}");
            ExitCode::from(sledctl::failure::EXIT_ERROR)
        }
    }
}
