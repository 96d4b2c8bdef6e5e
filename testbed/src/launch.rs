//! Starting one process and waiting until it serves. Owns the command line, the process group and the log file; what
//! the record says about it is written by the caller.

use crate::{
    addresses::{AGENT_PORT, OPERATOR_PORT, url},
    layout::ClusterDirectory,
    process::ProcessIdentity,
    record::{ClusterRecord, Intent, Node, Role},
    wait::wait_for,
};
use anyhow::{Context, Result, anyhow, bail};
use camino::Utf8Path;
use std::{fs, process::Stdio, time::Duration};

/// How long a process may take until it serves. A start takes well below a second; a loaded machine with a test per
/// core takes longer.
const READY_LIMIT: Duration = Duration::from_secs(30);

/// How long one question whether it is ready may take.
const PROBE_LIMIT: Duration = Duration::from_secs(2);

/// What comes before the path of its config on a process's command line.
pub(crate) const CONFIG_OPTION: &str = "--config";

/// Lines of a dead process's log that an error repeats.
pub(crate) const LOG_TAIL_LINES: usize = 12;

/// Bytes of a log that are searched for these lines at most.
const LOG_TAIL_BYTES: u64 = 64 * 1024;

/// Starts the process of a node and enters it into the record. Must be called where the record is locked.
///
/// It leads a process group of its own: Ctrl-C in the terminal does not reach it, and a signal to the group reaches
/// all that it supervises.
pub(crate) fn start(directory: &ClusterDirectory, record: &mut ClusterRecord, who: &str) -> Result<()> {
    let bin_dir = record.bin_dir.clone();
    let node = record.node_mut(who)?;
    if let Some(process) = &node.process
        && process.lives()?
    {
        bail!("{who} is running already, as pid {}", process.pid);
    }
    let program = bin_dir.join(match node.role {
        Role::Coordinator => "nexus",
        Role::Sled => "sled-agent",
    });
    let log_path = directory.log_file(who);
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .with_context(|| format!("opening {log_path}"))?;
    let child = tokio::process::Command::new(&program)
        .arg("run")
        .arg(CONFIG_OPTION)
        .arg(directory.config_file(who))
        .current_dir(directory.node(who))
        .env("RUST_BACKTRACE", "1")
        .stdin(Stdio::null())
        .stdout(log.try_clone().context("a second handle of the log file")?)
        .stderr(log)
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting {program}"))?;
    // The child is dropped, not waited for: tokio reaps it, and its end is seen through its pidfd by anybody.
    let pid = child.id().context("a process that was just started has a pid")?;
    node.process =
        Some(ProcessIdentity::of(pid)?.with_context(|| format!("{program} has no entry in /proc"))?);
    node.intent = Intent::Run;
    Ok(())
}

/// Waits until the process of a node serves. Fails at once, with the end of its log, if it ends instead.
pub(crate) async fn wait_ready(directory: &ClusterDirectory, node: &Node) -> Result<()> {
    // A coordinator is ready when it can do its work. A sled is up when it serves, also without a coordinator.
    let probe_url = match node.role {
        Role::Coordinator => format!("{}/readyz", url(node.address, OPERATOR_PORT)),
        Role::Sled => format!("{}/healthz", url(node.address, AGENT_PORT)),
    };
    let process = node.process.as_ref().with_context(|| format!("{} was never started", node.name))?;
    // As from its own host: it is asked also while it is cut off.
    let http = reqwest::Client::builder().no_proxy().timeout(PROBE_LIMIT).local_address(node.address);
    let http = http.build().context("an HTTP client")?;
    let what = format!("{} to serve ({probe_url}; log: {})", node.name, directory.log_file(&node.name));
    wait_for(&what, READY_LIMIT, async || {
        match process.lives() {
            Ok(true) => {}
            Ok(false) => return Ok(Err(ended(directory, &node.name))),
            Err(error) => return Ok(Err(error)),
        }
        match http.get(&probe_url).send().await {
            Ok(answer) if answer.status().is_success() => Ok(Ok(())),
            Ok(answer) => Err(format!("it answers {}", answer.status())),
            Err(error) => Err(format!("{:#}", anyhow!(error.without_url()))),
        }
    })
    .await?
}

fn ended(directory: &ClusterDirectory, who: &str) -> anyhow::Error {
    let log = directory.log_file(who);
    let tail =
        log_tail(&log, LOG_TAIL_LINES).unwrap_or_else(|error| format!("(its log cannot be read: {error:#})"));
    anyhow!("{who} ended instead of serving. The end of {log}:\n{tail}")
}

/// The last lines of a log, so many at most.
pub(crate) fn log_tail(log: &Utf8Path, lines_max: usize) -> Result<String> {
    use std::io::{Read, Seek, SeekFrom};
    let mut file = fs::File::open(log)?;
    let bytes = file.metadata()?.len();
    file.seek(SeekFrom::Start(bytes.saturating_sub(LOG_TAIL_BYTES)))?;
    let mut end = Vec::new();
    file.take(LOG_TAIL_BYTES).read_to_end(&mut end)?;
    let text = String::from_utf8_lossy(&end);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(lines_max)..].join("\n"))
}
