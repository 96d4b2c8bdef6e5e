//! `sledctl repo …`: signed releases. Uploading has a file of its own, `upload.rs`.

use super::upload;
use crate::{
    app::App,
    confirm::{self, Question},
    failure::{Failure, Outcome},
    render::{
        self,
        words::{count, size},
    },
};
use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use problem::Code;

/// What to do with repositories.
#[derive(Debug, Subcommand)]
pub enum RepoCommand {
    /// Uploads a signed release
    Upload(UploadArgs),
    /// Lists the releases
    List,
    /// Shows a release and its artifacts
    Show(RepoArgs),
    /// Takes a release away; what no other release wants leaves every sled
    Delete(DeleteArgs),
}

/// What to upload, and how.
#[derive(Debug, Args)]
pub struct UploadArgs {
    /// The release: a .zip file
    pub file: Utf8PathBuf,
    /// Wait until enough sleds hold verified copies of everything
    #[arg(long)]
    pub wait: bool,
    /// Seconds to wait at most; after that replication goes on by itself [default: 600]
    #[arg(long, value_name = "SECONDS", requires = "wait")]
    pub wait_seconds: Option<u32>,
    /// The version of a release without artifacts.json; must agree with it otherwise
    #[arg(long, value_name = "VERSION")]
    pub system_version: Option<String>,
}

/// Which release.
#[derive(Debug, Args)]
pub struct RepoArgs {
    /// The release's version
    pub version: String,
}

/// Which release to take away.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// The release's version
    pub version: String,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Runs the command.
pub async fn run(app: &App, command: RepoCommand) -> Result<Outcome, Failure> {
    match command {
        RepoCommand::Upload(args) => upload::run(app, &args).await?,
        RepoCommand::List => {
            let repositories = app.client()?.repositories().await?;
            app.emit_list(repositories, "no release yet; sledctl repo upload FILE", render::repo::list)?;
        }
        RepoCommand::Show(args) => {
            let detail = app.client()?.repository(&args.version).await?;
            app.emit(&detail, render::repo::show)?;
        }
        RepoCommand::Delete(args) => delete(app, &args).await?,
    }
    Ok(Outcome::Done)
}

async fn delete(app: &App, args: &DeleteArgs) -> Result<(), Failure> {
    let client = app.client()?;
    let detail = match client.repository(&args.version).await {
        // What a script asks for is so already; a person sees a slip of the pen.
        Err(error) if error.is(Code::RepositoryNotFound) => {
            app.talk.note(&format!("there is no release {}; nothing was deleted", args.version));
            return Ok(());
        }
        detail => detail?,
    };
    if !args.yes {
        let repository = &detail.repository;
        let artifacts = count(repository.artifact_count, "artifact");
        let question = Question {
            what: &format!("deleting release {}", repository.system_version),
            consequence: &format!(
                "Of its {artifacts} ({}), those that no other release has leave every sled.",
                size(repository.size_bytes)
            ),
            expected: &repository.system_version,
            flag: "--yes",
        };
        confirm::ask(&question, app)?;
    }
    client.repository_delete(&args.version).await?;
    app.talk
        .note(&format!("release {} is deleted; sleds let go of its artifacts by themselves", args.version));
    Ok(())
}
