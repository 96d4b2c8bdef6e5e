//! `status`, `env`, `logs`: what one is told. Owns the printing; the `testbed` crate owns the facts.

use anyhow::{Context, Result};
use clap::Args;
use std::io::Write;
use testbed::{Cluster, Phase, status::ClusterStatus};

/// How to print.
#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// How to print.
#[derive(Debug, Args)]
pub(crate) struct EnvArgs {
    /// Everything, as JSON; without it, shell assignments for eval
    #[arg(long)]
    json: bool,
}

/// Which log.
#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    /// sled-b, nexus-1, …
    who: String,
    /// Go on as it grows
    #[arg(short, long)]
    follow: bool,
}

/// Prints how the cluster stands.
pub(crate) async fn status(cluster: &Cluster, args: &StatusArgs) -> Result<()> {
    let status = cluster.status().await?;
    if args.json {
        return print(&format!("{:#}\n", serde_json::to_value(&status).context("encoding the status")?));
    }
    print(&(headline(&status) + &table(&rows(&status))))
}

/// Prints how to reach the cluster.
pub(crate) fn env(cluster: &Cluster, args: &EnvArgs) -> Result<()> {
    let environment = cluster.environment()?;
    if args.json {
        return print(&format!(
            "{}\n",
            serde_json::to_string(&environment).context("encoding the environment")?
        ));
    }
    print(&environment.to_shell())
}

/// Prints a log.
pub(crate) async fn logs(cluster: &Cluster, args: &LogsArgs) -> Result<()> {
    cluster.copy_log(&args.who, args.follow, &mut std::io::stdout()).await
}

/// Writes data to stdout; a reader that has seen enough is no error.
fn print(text: &str) -> Result<()> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("writing to stdout"),
    }
}

fn headline(status: &ClusterStatus) -> String {
    let phase = match status.phase {
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Stopped => "stopped (directories are kept; `up` goes on with them)",
    };
    let owner = match (status.owner_pid, status.owner_lives) {
        (Some(pid), Some(true)) => format!(", in the foreground of pid {pid}"),
        (Some(pid), _) => format!(", left behind by pid {pid}, which died: `down` cleans up"),
        (None, _) => String::new(),
    };
    let mut text = format!("cluster {} (number {}): {phase}{owner}\n", status.name, status.number);
    for group in &status.partitions {
        let group: Vec<&str> = group.iter().map(String::as_str).collect();
        text += &format!("cut off from everybody else: {}\n", group.join(", "));
    }
    text
}

fn rows(status: &ClusterStatus) -> Vec<[String; 7]> {
    let dash = || "-".to_owned();
    let head = ["WHO", "STATE", "PID", "AGE", "RSS", "URL", "THE COORDINATOR SAYS"].map(str::to_owned);
    let row = |node: &testbed::status::NodeStatus| {
        [
            node.name.clone(),
            node.state.word().to_owned(),
            node.pid.map_or_else(dash, |pid| pid.to_string()),
            node.age_seconds.map_or_else(dash, age),
            node.resident_bytes.map_or_else(dash, mib),
            node.url.clone(),
            node.seen.clone().unwrap_or_else(dash),
        ]
    };
    let disk = |node: &testbed::status::NodeStatus, server: &testbed::status::DiskServer| {
        [
            format!("{}/{}", node.name, server.disk),
            server.state.word().to_owned(),
            server.pid.map_or_else(dash, |pid| pid.to_string()),
            server.age_seconds.map_or_else(dash, age),
            server.resident_bytes.map_or_else(dash, mib),
            server.address.map_or_else(dash, |address| address.to_string()),
            dash(),
        ]
    };
    let pantry = |node: &testbed::status::NodeStatus, pantry: &testbed::status::PantryProcess| {
        [
            format!("{}/pantry", node.name),
            pantry.state.word().to_owned(),
            pantry.pid.to_string(),
            age(pantry.age_seconds),
            mib(pantry.resident_bytes),
            dash(),
            dash(),
        ]
    };
    let of_node = |node: &testbed::status::NodeStatus| {
        let disks = node.disks.iter().map(|server| disk(node, server));
        let pantry = node.pantry.iter().map(|process| pantry(node, process));
        std::iter::once(row(node)).chain(disks).chain(pantry).collect::<Vec<_>>()
    };
    std::iter::once(head).chain(status.nodes.iter().flat_map(of_node)).collect()
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn age(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

/// Columns as wide as their widest cell, two spaces apart.
fn table(rows: &[[String; 7]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..7).map(width).collect();
    let line = |row: &[String; 7]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use testbed::{
        addresses::ClusterNumber,
        status::{NodeState, NodeStatus},
    };

    #[test]
    fn a_killed_sled_is_shown_as_killed_without_pid() {
        let node = |name: &str, state, pid| NodeStatus {
            name: name.to_owned(),
            url: "http://127.0.1.1:12345".to_owned(),
            state,
            pid,
            resident_bytes: pid.map(|_| 9 << 20),
            age_seconds: pid.map(|_| 150),
            seen: None,
            disks: Vec::new(),
            pantry: None,
        };
        let status = ClusterStatus {
            name: "default".to_owned(),
            number: ClusterNumber::new(1).unwrap(),
            phase: Phase::Running,
            owner_pid: None,
            owner_lives: None,
            partitions: vec![["sled-a".to_owned()].into()],
            nodes: vec![node("sled-a", NodeState::Running, Some(7)), node("sled-b", NodeState::Killed, None)],
        };
        let text = headline(&status) + &table(&rows(&status));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "cluster default (number 1): running");
        assert_eq!(lines[1], "cut off from everybody else: sled-a");
        assert!(lines[3].starts_with("sled-a  running  7    2 min  9 MiB  http://"), "{text}");
        assert!(lines[4].starts_with("sled-b  killed   -    -      -      http://"), "{text}");
    }
}
