//! `cargo xtask test`: all tests. Owns which runner runs what, in which order.
//!
//! ```text
//!   build programs and tests, together ─► doc tests ─► PostgreSQL, NBD clients, file systems
//!                                      ─► nextest, or else `cargo test`: its summary is the last word
//! ```
//!
//! Programs and tests are built in one go because cargo then chooses the features of shared dependencies once; built
//! apart, half of the dependencies would be compiled twice.

use crate::cargo::{cargo, has_subcommand, succeeds};
use anyhow::Result;
use camino::Utf8Path;
use clap::Args;
use std::process::{Command, ExitCode};
use test_postgres::{Programs, SERVER_VARIABLE, Server};

/// Builds the programs and runs all tests.
#[derive(Debug, Args)]
#[command(
    after_help = "Needs cargo, a C compiler, and for the tests of the NBD export Debian's qemu-utils, libnbd-bin and fio; for that of the testbed's\n\
demo curl and jq, too.\n\
cargo-nextest and PostgreSQL are used if they are there; with CI=true PostgreSQL must be. So must zfs-fuse, xfsprogs, btrfs-progs,\n\
nftables and root, which the tests of datasets and partitions need.\n\
FILTER and what follows it go to the runner: cargo xtask test keeper, cargo xtask test -- --no-capture"
)]
pub(crate) struct TestArgs {
    /// Only tests whose name contains this, and the runner's own options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "FILTER")]
    runner_args: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &TestArgs) -> Result<ExitCode> {
    if !succeeds(cargo()?.args(["build", "--workspace", "--bins", "--tests"]))? {
        eprintln!("error: the programs or the tests do not build; see above");
        return Ok(ExitCode::FAILURE);
    }
    // A filter is after something; examples in documentation are not what it is after.
    let doc_tests =
        !args.runner_args.is_empty() || succeeds(cargo()?.args(["test", "--workspace", "--doc", "--quiet"]))?;
    let server = postgres()?;
    programs_of("a client of NBD", &NBD_CLIENTS)?;
    programs_of("what the demo is done with by hand", &BY_HAND)?;
    programs_of("a file system of datasets", &FILE_SYSTEMS)?;
    programs_of("what cuts processes off", &PACKET_FILTER)?;
    let mut runner = cargo()?;
    if let Some(server) = &server {
        runner.env(SERVER_VARIABLE, server.directory());
    }
    if has_subcommand("nextest")? {
        runner.args(["nextest", "run", "--workspace", "--no-fail-fast"]).args(&args.runner_args);
    } else {
        runner
            .args(["test", "--workspace", "--bins", "--lib", "--tests", "--no-fail-fast"])
            .args(&args.runner_args);
    }
    let tests = succeeds(&mut runner)?;
    if server.is_none() {
        eprintln!("warning: no PostgreSQL on this machine: what is tested on it was left out");
    }
    if !doc_tests {
        eprintln!("error: documentation tests failed; see the beginning");
    }
    Ok(if tests && doc_tests { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The PostgreSQL server of this run. It ends with this process, however that ends.
fn postgres() -> Result<Option<Server>> {
    if Programs::find().is_none() {
        // Its own server is not wanted, only its programs; without it the tests say what is missing.
        install("PostgreSQL", &["postgresql"])?;
    }
    match Programs::find() {
        Some(_) => test_postgres::start_for_run().map(Some),
        None if test_postgres::is_required() => Programs::required().map(|_| None),
        None => Ok(None),
    }
}

/// The clients that the NBD export is tested with: a program of each package, and the package.
const NBD_CLIENTS: [(&str, &str); 3] = [("qemu-io", "qemu-utils"), ("nbdinfo", "libnbd-bin"), ("fio", "fio")];

/// What calls sleds, and reads their answers, where a test types what the testbed's demo says, likewise.
const BY_HAND: [(&str, &str); 2] = [("curl", "curl"), ("jq", "jq")];

/// What makes the file systems that datasets are tested on, likewise. They go where only administrators' PATHs lead.
const FILE_SYSTEMS: [(&str, &str); 3] = [
    ("/usr/sbin/zfs-fuse", "zfs-fuse"),
    ("/usr/sbin/mkfs.xfs", "xfsprogs"),
    ("/usr/bin/btrfs", "btrfs-progs"),
];

/// What speaks to the kernel's packet filter, likewise.
const PACKET_FILTER: [(&str, &str); 1] = [("/usr/sbin/nft", "nftables")];

/// Sees to it that they are there. If they cannot be, the tests that need them say what is missing: those of NBD and of the demo
/// fail, those of datasets and of partitions are left out, and with `CI=true` fail.
fn programs_of(what: &str, programs: &[(&str, &str)]) -> Result<()> {
    let absent = |program: &str| {
        if program.starts_with('/') {
            // Asked for its version, a daemon might start.
            !Utf8Path::new(program).is_file()
        } else {
            Command::new(program).arg("--version").output().is_err()
        }
    };
    let packages = programs.iter().filter(|(program, _)| absent(program)).map(|(_, package)| *package);
    let packages = packages.collect::<Vec<_>>();
    if packages.is_empty() { Ok(()) } else { install(what, &packages) }
}

/// Installs what is not there where that is as easy as it gets: as root of a Debian.
fn install(what: &str, packages: &[&str]) -> Result<()> {
    let apt = "/usr/bin/apt-get";
    if !rustix::process::geteuid().is_root() || !Utf8Path::new(apt).is_file() {
        return Ok(());
    }
    eprintln!("{what} is not there; installing {}", packages.join(", "));
    let run =
        |words: &[&str]| succeeds(Command::new(apt).args(words).env("DEBIAN_FRONTEND", "noninteractive"));
    let words = [&["install", "--yes", "--no-install-recommends"], packages].concat();
    let installed = run(&["update"])? && run(&words)?;
    if !installed {
        eprintln!("warning: {} could not be installed", packages.join(", "));
    }
    Ok(())
}
