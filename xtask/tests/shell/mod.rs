//! A shell into which a test types what a page, or a command, says. Owns that its cluster ends with it, and with the test.

use camino::Utf8Path;
use std::process::Command;
use test_processes::Group;

/// The developer commands.
const XTASK: &str = env!("CARGO_BIN_EXE_xtask");

/// Alone it takes some 30 s.
const SECONDS_MAX: i64 = 180;

/// A shell, what it has started, and the cluster; all of it is ended with this.
pub(crate) struct Shell(test_processes::Shell);

impl Shell {
    /// Runs this script in this directory, in which the testbed's clusters are, too; what it says goes to a file.
    pub(crate) fn start(script: &str, dir: &Utf8Path, output: &Utf8Path) -> Shell {
        let mut reset = Command::new(XTASK);
        reset.args(["testbed", "--dir", dir.as_str(), "reset"]);
        let programs = Utf8Path::new(XTASK).parent().expect("a program lies in a directory");
        let variables = [("XTASK", XTASK), ("BIN_DIR", programs.as_str()), ("TESTBED_DIR", dir.as_str())];
        let (group, script) = (Group::start_with_last_act(&reset), format!("set -x\n{script}"));
        Shell(test_processes::Shell::start(group, &script, dir, output, &variables))
    }

    /// Whether it has ended in time, and without an error.
    pub(crate) fn ends_well(&self) -> bool {
        self.0.ends_well(SECONDS_MAX)
    }
}
