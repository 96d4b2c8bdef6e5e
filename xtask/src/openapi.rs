//! `cargo xtask openapi`: the API documents in `docs/openapi/`, as the programs print them. Owns which document is whose,
//! and the comparison; the programs own the contents.

use crate::{cargo, workspace};
use anyhow::{Context, Result, bail};
use camino::Utf8Path;
use clap::Args;
use std::{
    fs,
    process::{Command, ExitCode, Stdio},
};

/// Writes docs/openapi/*.json from the programs.
#[derive(Debug, Args)]
pub(crate) struct OpenapiArgs {
    /// Write nothing; fail if a document is not what the programs print
    #[arg(long)]
    check: bool,
}

/// (file, program, which of its APIs).
const DOCUMENTS: [(&str, &str, &str); 4] = [
    ("nexus.json", "nexus", "operator"),
    ("nexus-internal.json", "nexus", "internal"),
    ("sled-agent.json", "sled-agent", "sled"),
    ("depot.json", "sled-agent", "depot"),
];

/// Runs the command.
pub(crate) fn run(args: &OpenapiArgs) -> Result<ExitCode> {
    let bin_dir = cargo::build_programs(cargo::Profile::Dev)?;
    let directory = workspace::root()?.join("docs/openapi");
    let mut outdated = Vec::new();
    for (file, program, api) in DOCUMENTS {
        let document = printed(&bin_dir.join(program), api)?;
        let path = directory.join(file);
        if args.check {
            if fs::read(&path).ok().as_deref() != Some(&document) {
                outdated.push(path);
            }
            continue;
        }
        fs::create_dir_all(&directory).with_context(|| format!("creating {directory}"))?;
        fs::write(&path, document).with_context(|| format!("writing {path}"))?;
        say!("wrote {path}");
    }
    if outdated.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    for path in outdated {
        eprintln!("{path} is not what the program prints; `cargo xtask openapi` writes it");
    }
    Ok(ExitCode::FAILURE)
}

/// What the program prints for one of its APIs, byte for byte.
fn printed(program: &Utf8Path, api: &str) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(["openapi", api])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {program}"))?;
    if !output.status.success() {
        bail!("`{program} openapi {api}` failed: {}", output.status);
    }
    serde_json::from_slice::<serde_json::Value>(&output.stdout)
        .with_context(|| format!("`{program} openapi {api}` printed something that is not JSON"))?;
    Ok(output.stdout)
}
