//! `sledctl trust-root …`.

use crate::{
    app::App,
    confirm::{self, Question},
    failure::{Failure, Outcome},
    render, resolve,
};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use std::{io, io::Read};

/// A TUF root is a few KiB; the coordinator has a limit of its own.
const ROOT_BYTES_MAX: u64 = 1 << 20;

/// What to do with trust roots.
#[derive(Debug, Subcommand)]
pub enum TrustRootCommand {
    /// Believes what this root signs
    Add(AddArgs),
    /// Lists the trust roots
    List,
    /// Believes a root no longer; releases that are here stay
    Delete(DeleteArgs),
}

/// Which root.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// The publisher's root.json
    pub file: Utf8PathBuf,
}

/// Which root to believe no longer.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Its id, its fingerprint, or the beginning of one
    pub trust_root: String,
    /// Do not ask
    #[arg(long)]
    pub yes: bool,
}

/// Runs the command.
pub async fn run(app: &App, command: TrustRootCommand) -> Result<Outcome, Failure> {
    match command {
        TrustRootCommand::Add(args) => {
            let root_json =
                read(&args.file).map_err(|source| Failure::ReadFile { path: args.file, source })?;
            let root = app.client()?.trust_root_add(root_json).await?;
            app.emit(&root, |root, look, now| {
                render::trust_root::list(std::slice::from_ref(root), look, now)
            })?;
        }
        TrustRootCommand::List => {
            let roots = app.client()?.trust_roots().await?;
            app.emit_list(roots, "no trust root yet; sledctl trust-root add FILE", render::trust_root::list)?;
        }
        TrustRootCommand::Delete(args) => delete(app, &args).await?,
    }
    Ok(Outcome::Done)
}

async fn delete(app: &App, args: &DeleteArgs) -> Result<(), Failure> {
    let client = app.client()?;
    let roots = client.trust_roots().await?;
    let root = resolve::trust_root(&args.trust_root, &roots)?;
    if !args.yes {
        let id = root.id.to_string();
        let question = Question {
            what: &format!("deleting trust root {id} (fingerprint {})", root.fingerprint),
            consequence: "Releases that it signs are refused from then on.",
            expected: &id,
            flag: "--yes",
        };
        confirm::ask(&question, app)?;
    }
    client.trust_root_delete(root.id).await?;
    app.talk.note(&format!("trust root {} is deleted", root.id));
    Ok(())
}

fn read(path: &Utf8Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(ROOT_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > ROOT_BYTES_MAX {
        return Err(io::Error::other(format!(
            "it is longer than {ROOT_BYTES_MAX} bytes, which no root.json is"
        )));
    }
    if bytes.is_empty() {
        return Err(io::Error::other("it is empty"));
    }
    Ok(bytes)
}
