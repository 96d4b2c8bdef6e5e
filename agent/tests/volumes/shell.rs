//! Scripts that a person might type, with the built programs in their path.

use camino::Utf8Path;
use std::env;
use test_processes::{Group, Shell};

/// Seconds that all of a script may take. Alone the longest takes some 25.
pub(crate) const SECONDS_MAX: i64 = 120;

/// Starts one, in that directory.
pub(crate) fn start(script: &str, directory: &Utf8Path, output: &Utf8Path) -> Shell {
    let program = Utf8Path::new(env!("CARGO_BIN_EXE_sled-agent"));
    let programs = program.parent().expect("a program lies in a directory");
    let path = format!("{programs}:{}", env::var("PATH").unwrap_or_default());
    Shell::start(Group::start(), script, directory, output, &[("PATH", &path)])
}
