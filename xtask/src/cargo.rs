//! Running cargo. Owns the command lines that several commands share; what they are for is the commands' business.

use crate::workspace;
use anyhow::{Context, Result, bail};
use camino::Utf8PathBuf;
use std::process::{Command, Stdio};

/// How the programs are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// Quick to compile; what handles every byte is optimised all the same.
    Dev,
    /// As it is shipped.
    Release,
}

impl Profile {
    /// The directory below the target directory.
    fn directory(self) -> &'static str {
        match self {
            Profile::Dev => "debug",
            Profile::Release => "release",
        }
    }
}

/// Cargo, at the checkout's root.
pub(crate) fn cargo() -> Result<Command> {
    let mut cargo = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()));
    cargo.current_dir(workspace::root()?);
    // Of `cargo run`, about this package; another cargo should not take them for its own.
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR")
    {
        cargo.env_remove(name);
    }
    Ok(cargo)
}

/// Runs a command that talks to the terminal itself; whether it succeeded.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool> {
    let status = command.stdin(Stdio::null()).status();
    Ok(status.with_context(|| format!("running {command:?}"))?.success())
}

/// Whether cargo has a subcommand, such as `fmt` or `nextest`.
pub(crate) fn has_subcommand(name: &str) -> Result<bool> {
    let mut cargo = cargo()?;
    let probe =
        cargo.args([name, "--version"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Ok(probe.status().with_context(|| format!("asking for cargo {name}"))?.success())
}

/// Builds `nexus`, `sled-agent` and `sledctl`, with cargo's own progress; answers with their directory.
pub(crate) fn build_programs(profile: Profile) -> Result<Utf8PathBuf> {
    build(&[], profile)
}

/// The same, and one package more.
pub(crate) fn build_also(package: &str, profile: Profile) -> Result<Utf8PathBuf> {
    build(&["-p", package], profile)
}

/// Builds `sled-agent` alone: without what tests of block storage have in it, which is on the path of every byte.
pub(crate) fn build_agent_alone(profile: Profile) -> Result<Utf8PathBuf> {
    build_packages(&["-p", "sled-agent"], profile)
}

fn build(more: &[&str], profile: Profile) -> Result<Utf8PathBuf> {
    // Together with this program, so that dependencies are shared with it: see its Cargo.toml.
    let packages = ["-p", "nexus", "-p", "sled-agent", "-p", "sledctl", "-p", "xtask"];
    build_packages(&[&packages[..], more].concat(), profile)
}

fn build_packages(packages: &[&str], profile: Profile) -> Result<Utf8PathBuf> {
    let mut cargo = cargo()?;
    cargo.arg("build").args(packages);
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    if !succeeds(&mut cargo)? {
        bail!("the programs do not build; see above");
    }
    Ok(workspace::target_dir()?.join(profile.directory()))
}
