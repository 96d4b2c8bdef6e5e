//! `sledctl artifact get`: which artifact, from whom, where to.

use super::artifact::{GetArgs, find};
use crate::{
    app::App,
    failure::Failure,
    fetch::{self, FetchError},
    interrupt::Interrupt,
    progress::Display,
    render::words::size,
    sink::{self, Sink, SinkError},
};
use camino::{Utf8Path, Utf8PathBuf};
use nexus_client::releases::Artifact;
use std::{io, os::fd::AsFd};
use tokio::fs::File;

/// Where standard output is meant.
const STDOUT: &str = "-";

/// Fetches the artifact.
pub(super) async fn run(app: &App, args: &GetArgs) -> Result<(), Failure> {
    let mut interrupt = Interrupt::listen();
    tokio::select! {
        // What is done is done, also if Ctrl-C comes at that very moment.
        biased;
        fetched = get(app, args) => fetched,
        () = interrupt.came() => {
            Err(Failure::Interrupted { doing: "fetching", goes_on: "nothing was kept".to_owned() })
        }
    }
}

async fn get(app: &App, args: &GetArgs) -> Result<(), Failure> {
    let to_stdout = args.output_file.as_deref() == Some(Utf8Path::new(STDOUT));
    if to_stdout && app.environment.stdout_is_terminal && !args.force {
        return Err(FetchError::from(SinkError::Terminal).into());
    }
    if let Some(target) = args.output_file.as_deref().filter(|_| !to_stdout) {
        sink::check_target(target, args.force).map_err(FetchError::Sink)?;
    }
    let artifact = find(&app.client()?, &args.artifact).await?;
    let (sink, place) = if to_stdout {
        (
            Sink::stream(stdout().map_err(SinkError::Stdout).map_err(FetchError::Sink)?),
            "standard output".to_owned(),
        )
    } else {
        let target = args.output_file.clone().unwrap_or_else(|| file_name(&artifact));
        (Sink::file(&target, args.force).map_err(FetchError::Sink)?, target.into_string())
    };
    let from = match fetch::fetch(&artifact, sink, Display::new(app.talk)).await {
        // The reader has what it wanted.
        Err(FetchError::Sink(SinkError::Stdout(error))) if error.kind() == io::ErrorKind::BrokenPipe => {
            return Ok(());
        }
        other => other?,
    };
    app.talk.note(&format!(
        "{} {}, {} from {}, SHA-256 verified, written to {place}",
        artifact.name,
        artifact.version,
        size(artifact.size),
        from.join(" and "),
    ));
    Ok(())
}

/// Standard output as a file: the one of the standard library would look for lines in the bytes.
fn stdout() -> io::Result<File> {
    Ok(File::from_std(io::stdout().as_fd().try_clone_to_owned()?.into()))
}

/// The artifact's name as a file in this folder. A name that is a path gives its last part; one that could surprise
/// (hidden, or an option to the next command) is replaced by the hash.
fn file_name(artifact: &Artifact) -> Utf8PathBuf {
    let last = artifact.name.rsplit('/').next().unwrap_or_default();
    let surprising = last.is_empty() || last.starts_with(['.', '-']) || last.contains(char::is_control);
    if surprising { artifact.hash.to_string().into() } else { last.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample;

    #[test]
    fn file_is_named_after_the_artifact_unless_that_could_surprise() {
        let named = |name: &str| {
            let artifact = Artifact { name: name.into(), ..sample::artifacts().remove(0) };
            (file_name(&artifact).into_string(), artifact.hash.to_string())
        };
        assert_eq!(named("kernel").0, "kernel");
        assert_eq!(named("images/kernel.img").0, "kernel.img");
        for odd in ["", "images/", ".bashrc", "../..", "-rf", "a\nb"] {
            let (name, hash) = named(odd);
            assert_eq!(name, hash, "{odd:?}");
        }
    }
}
