//! Running a program: with a time limit, bounded output, and an error that names command, exit and what it said. Owns that; what
//! the output means is the caller's.
//!
//! Arguments go to the program as they are, without a shell. A command whose caller is dropped runs to its end; one that runs into
//! the limit is killed, with all that it has started.

use crate::{attempts::Attempts, error::DatasetError};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    fmt, io,
    process::{ExitStatus, Stdio},
};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    process::{Child, Command},
    sync::oneshot,
    time::timeout,
};

/// Bytes of output at most: a listing of 20,000 datasets. A disk has some hundred.
const OUTPUT_BYTES_MAX: u64 = 16 << 20;

/// Bytes of what a command said that an error repeats.
const SAID_BYTES_MAX: usize = 2048;

/// Where programs are looked for: an agent's own PATH need not have the administrator's directories.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command that did not end well.
#[derive(Debug, Error)]
#[error("`{command}` {ended}{}{said}", if .said.is_empty() { "" } else { ": " })]
pub struct CommandFailed {
    /// Program and arguments.
    pub command: String,
    /// How it ended.
    pub ended: Ended,
    /// What it wrote to standard error; the beginning of it.
    pub said: String,
}

/// How a command ended.
#[derive(Debug)]
pub enum Ended {
    /// By itself, or by a signal.
    With(ExitStatus),
    /// It was not started, or could not be read.
    Not(io::Error),
    /// It wrote more than is read.
    TooMuch,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // "exit status: 1", "signal: 9 (SIGKILL)"
            Ended::With(status) => write!(f, "failed ({status})"),
            Ended::Not(error) => write!(f, "could not be run ({error})"),
            Ended::TooMuch => write!(f, "wrote more than {OUTPUT_BYTES_MAX} bytes"),
        }
    }
}

/// Runs a program; tells its standard output.
///
/// # Errors
/// [`DatasetError::DiskHangs`] after the limit, [`DatasetError::Command`] if it fails.
pub(crate) async fn run(
    attempts: &Attempts,
    program: &'static str,
    arguments: &[&str],
) -> Result<String, DatasetError> {
    let command = [&[program], arguments].concat().join(" ");
    let place = attempts.place(&command).await?;
    let failed = |ended, said| DatasetError::Command(CommandFailed { command: command.clone(), ended, said });
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs([("PATH", PATH), ("LC_ALL", "C")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|error| failed(Ended::Not(error), String::new()))?;
    let (answer, answered) = oneshot::channel();
    let limit = attempts.limit();
    tokio::spawn(async move {
        let ended = timeout(limit, finish(&mut child)).await;
        if !matches!(ended, Ok(Ok(Some(_)))) {
            kill(&child);
        }
        // Whoever waited may have been dropped.
        let _ = answer.send(ended);
        // One that cannot be killed keeps its place for as long as it is there.
        let _ = child.wait().await;
        drop(place);
    });
    match answered.await {
        Ok(Ok(Ok(Some(output)))) if output.status.success() => Ok(output.written),
        Ok(Ok(Ok(Some(output)))) => Err(failed(Ended::With(output.status), output.said)),
        Ok(Ok(Ok(None))) => Err(failed(Ended::TooMuch, String::new())),
        Ok(Ok(Err(error))) => Err(failed(Ended::Not(error), String::new())),
        // The task answers, unless its runtime ends, and then this one is not polled any more either.
        Ok(Err(_)) | Err(_) => Err(attempts.hangs(&command)),
    }
}

struct Output {
    status: ExitStatus,
    written: String,
    said: String,
}

/// Reads both outputs to their ends, and waits; `None` if there is more than is read.
async fn finish(child: &mut Child) -> io::Result<Option<Output>> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (written, said) = tokio::try_join!(read(stdout), read(stderr))?;
    let (Some(written), Some(said)) = (written, said) else { return Ok(None) };
    let status = child.wait().await?;
    let mut said = said.trim().to_owned();
    said.truncate(said.floor_char_boundary(SAID_BYTES_MAX));
    Ok(Some(Output { status, written, said }))
}

async fn read(from: Option<impl AsyncRead + Unpin>) -> io::Result<Option<String>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(OUTPUT_BYTES_MAX + 1).read_to_end(&mut bytes).await?;
    }
    let fits = bytes.len() as u64 <= OUTPUT_BYTES_MAX;
    Ok(fits.then(|| String::from_utf8_lossy(&bytes).into_owned()))
}

/// Kills the command and what it has started, such as `umount`.
fn kill(child: &Child) {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It may have ended in this moment.
        let _ = kill_process_group(pid, Signal::KILL);
    }
}
