//! `sledctl artifact …`. Fetching bytes has a file of its own, `get.rs`.

use super::get;
use crate::{
    app::App,
    failure::{Failure, Outcome},
    render, resolve,
};
use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use ids::ArtifactHash;
use nexus_client::{OperatorClient, releases::Artifact};

/// What to do with artifacts.
#[derive(Debug, Subcommand)]
pub enum ArtifactCommand {
    /// Lists the artifacts that some release wants
    List,
    /// Shows an artifact and the sleds that hold it
    Show(ArtifactArgs),
    /// Shows which sled has what
    #[command(after_help = MATRIX_HELP)]
    Matrix(MatrixArgs),
    /// Fetches an artifact from the sleds that hold it, and verifies it
    Get(GetArgs),
}

const MATRIX_HELP: &str = "Cells: ok = a verified copy on each M.2 of the sled; 1/2 = verified copies on some of them; \
71 % = arriving; queued = its turn comes; absent = the last try failed or the sled refuses its config; no source = nobody \
has the bytes, upload the release again; blocked = nobody who has the bytes can send them now; no M.2 = the sled has no \
disk to put it on; ? = the sled does not answer; ok? = it does not answer, and held this when it did.";

/// Which artifact.
#[derive(Debug, Args)]
pub struct ArtifactArgs {
    /// Its name, NAME@VERSION, its hash, or the beginning of its hash (6 digits or more)
    pub artifact: String,
}

/// Which release.
#[derive(Debug, Args)]
pub struct MatrixArgs {
    /// The release's version; all of them unless given
    pub repo_version: Option<String>,
}

/// What to fetch, and where to.
#[derive(Debug, Args)]
pub struct GetArgs {
    /// Its name, NAME@VERSION, its hash, or the beginning of its hash (6 digits or more)
    pub artifact: String,
    /// Where to write it, - for standard output; a file of the artifact's name in this folder unless given
    #[arg(short = 'O', long = "output-file", value_name = "FILE")]
    pub output_file: Option<Utf8PathBuf>,
    /// Replace the file if it is there; write to a terminal
    #[arg(long)]
    pub force: bool,
}

/// Runs the command.
pub async fn run(app: &App, command: ArtifactCommand) -> Result<Outcome, Failure> {
    match command {
        ArtifactCommand::List => {
            let artifacts = app.client()?.artifacts().await?;
            app.emit_list(artifacts, "no release wants any artifact yet", |artifacts, look, _| {
                render::artifact::list(artifacts, look)
            })?;
        }
        ArtifactCommand::Show(args) => {
            let artifact = find(&app.client()?, &args.artifact).await?;
            app.emit(&artifact, |artifact, look, _| render::artifact::show(artifact, look))?;
        }
        ArtifactCommand::Matrix(args) => {
            let client = app.client()?;
            let replication = match &args.repo_version {
                Some(version) => client.repository_replication(version).await?,
                None => client.replication().await?,
            };
            app.emit(&replication, render::matrix::matrix)?;
        }
        ArtifactCommand::Get(args) => get::run(app, &args).await?,
    }
    Ok(Outcome::Done)
}

/// The artifact that a name stands for. A whole hash is asked for directly: the list of all may be long.
pub(super) async fn find(client: &OperatorClient, name: &str) -> Result<Artifact, Failure> {
    if let Ok(hash) = name.to_ascii_lowercase().parse::<ArtifactHash>() {
        return Ok(client.artifact(&hash).await?);
    }
    let artifacts = client.artifacts().await?;
    Ok(resolve::artifact(name, &artifacts)?.clone())
}
