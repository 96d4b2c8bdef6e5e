//! `cargo xtask release make`: the sample release, with its trust root beside it. Owns the files' names; what is in them
//! is the `sample-release` crate's business.

use crate::workspace;
use anyhow::{Context, Result};
use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use sample_release::{Keys, SampleRelease};
use std::{fs, process::ExitCode};

/// Sample releases.
#[derive(Debug, Subcommand)]
pub(crate) enum ReleaseCommand {
    /// Makes a really signed release: 18 artifacts, 200 MiB
    Make(MakeArgs),
}

/// Where to, and which.
#[derive(Debug, Args)]
#[command(
    after_help = "Writes bobsled-VERSION.zip, root.json (sledctl trust-root add root.json) and keys.json. A second\n\
release made in the same directory is signed with the same keys, so one trust root vouches for both;\n\
releases of different versions share ten of their artifacts."
)]
pub(crate) struct MakeArgs {
    /// The directory to write to; target/sample-release unless said
    #[arg(long, value_name = "DIR")]
    out: Option<Utf8PathBuf>,
    /// The release's version
    #[arg(long, default_value = "1.0.0", value_name = "VERSION")]
    version: String,
}

/// Runs the command.
pub(crate) fn run(command: ReleaseCommand) -> Result<ExitCode> {
    let ReleaseCommand::Make(args) = command;
    let directory = match args.out {
        Some(directory) => directory,
        None => workspace::target_dir()?.join("sample-release"),
    };
    fs::create_dir_all(&directory).with_context(|| format!("creating {directory}"))?;
    let keys_path = directory.join("keys.json");
    let keys = if keys_path.exists() {
        Keys::load(&keys_path)?
    } else {
        let keys = Keys::generate()?;
        keys.save(&keys_path)?;
        keys
    };
    let zip = directory.join(format!("bobsled-{}.zip", args.version));
    let made = SampleRelease::standard(&args.version).make(&keys, &zip)?;
    let root = directory.join("root.json");
    fs::write(&root, &made.root_json).with_context(|| format!("writing {root}"))?;
    let bytes: u64 = made.artifacts.iter().map(|artifact| artifact.size).sum();
    say!(
        "{zip}: release {}, {} artifacts, {} MiB ({} MiB zipped)\n{root}: its trust root",
        made.system_version,
        made.artifacts.len(),
        bytes >> 20,
        made.zip_bytes >> 20
    );
    Ok(ExitCode::SUCCESS)
}
