//! Sagas: throughput beside bare steno over the same store, recovery after a restart, a pass at rest, memory. Each figure
//! is one process of `saga-bench`, in an empty database of its own; what is compared alternates, so that both see the
//! same machine.

use super::{
    row::{Limit, Peer, Row, Samples},
    sagas_http,
};
use crate::workspace;
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use serde::Deserialize;
use std::process::Stdio;
use test_postgres::Standing;
use tokio::process::Command;

/// What can be asked for.
const ROWS: [&str; 9] = [
    "sqlite_c16",
    "sqlite_c64",
    "postgres_c16",
    "postgres_c64",
    "http_c16",
    "http_c64",
    "recover_10k",
    "idle_pass_1m",
    "rss_1m",
];

/// Another engine of durable workflows, on the same PostgreSQL.
const PEER: &str = "dbos==3.4.0";

const MIB: f64 = (1_u64 << 20) as f64;

/// Refuses rows that there are not.
pub(crate) fn check(only: &[String]) -> Result<()> {
    match only.iter().find(|name| !ROWS.contains(&name.as_str())) {
        Some(unknown) => bail!("no row {unknown:?}; there are {}", ROWS.join(", ")),
        None => Ok(()),
    }
}

/// Measures the rows that are asked for; all of them if none is named.
pub(crate) async fn run(programs: &Utf8Path, only: &[String], samples: usize) -> Result<Vec<Row>> {
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    let dir = workspace::target_dir()?.join("bench").join("sagas");
    let mut bench = Bench { program: programs.join("saga-bench"), dir, postgres: None, databases: 0 };
    let mut rows = Vec::new();
    for (name, clients, postgres) in [
        ("sqlite_c16", 16, false),
        ("sqlite_c64", 64, false),
        ("postgres_c16", 16, true),
        ("postgres_c64", 64, true),
    ] {
        if wanted(name) {
            rows.push(bench.throughput(name, clients, postgres, samples).await?);
        }
    }
    for (name, clients) in [("http_c16", 16), ("http_c64", 64)] {
        if wanted(name) {
            rows.push(bench.over_http(name, clients, programs, samples).await?);
        }
    }
    if wanted("recover_10k") {
        rows.push(bench.recovery(samples).await?);
    }
    if wanted("idle_pass_1m") {
        rows.push(bench.rest().await?);
    }
    if wanted("rss_1m") {
        rows.push(bench.memory().await?);
    }
    bench.clean_up()?;
    Ok(rows)
}

struct Bench {
    program: Utf8PathBuf,
    dir: Utf8PathBuf,
    postgres: Option<Standing>,
    databases: u32,
}

#[derive(Deserialize)]
struct Throughput {
    per_second: f64,
}

#[derive(Deserialize)]
struct PeerThroughput {
    per_second: f64,
    version: String,
}

#[derive(Deserialize)]
struct Unfinished {
    coordinator: String,
}

#[derive(Deserialize)]
struct Recovery {
    seconds: f64,
}

#[derive(Deserialize)]
struct Rest {
    pass_seconds: Vec<f64>,
}

#[derive(Deserialize)]
struct Memory {
    samples: Vec<MemorySample>,
}

#[derive(Deserialize)]
struct MemorySample {
    sagas: u64,
    rss_bytes: f64,
}

/// A database.
struct Place {
    dir: Utf8PathBuf,
    /// As the program is told of it.
    args: Vec<String>,
}

impl Place {
    fn remove(&self) -> Result<()> {
        std::fs::remove_dir_all(&self.dir).with_context(|| format!("removing {}", self.dir))
    }
}

impl Bench {
    /// Ours and bare steno, in turns. On PostgreSQL what must be beaten is a statement for each event.
    async fn throughput(&mut self, name: &str, clients: u32, postgres: bool, samples: usize) -> Result<Row> {
        let (rival, factor, what) = match postgres {
            false => ("bare", 0.8, "0.8 x bare steno on the same store"),
            true => ("bare-one-by-one", 1.5, "1.5 x bare steno, a statement for each event"),
        };
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        let mut peers = Vec::new();
        for _ in 0..samples {
            if postgres {
                peers.extend(self.peer(clients).await?);
            }
            for (engine, figures) in [(rival, &mut theirs), ("ours", &mut ours)] {
                let clients = clients.to_string();
                let args = ["throughput", "--engine", engine, "--clients", &clients];
                let answer: Throughput = self.measure(postgres, &args).await?;
                figures.push(answer.per_second);
            }
        }
        let spread: Vec<String> = theirs.iter().map(|figure| format!("{figure:.0}")).collect();
        let limit = Limit { name: what.to_owned(), median: factor * Samples::of(theirs).median };
        let note = format!(
            "sagas of 18 nodes in a row that do nothing, {clients} clients, in process, durable; {rival} alone: [{}]",
            spread.join(", ")
        );
        let peer = peers.last().map(|last| Peer {
            name: "dbos".to_owned(),
            version: last.version.clone(),
            samples: Samples::of(peers.iter().map(|peer| peer.per_second).collect()),
        });
        Ok(Row::at_least(name, "1/s", ours, limit, peer, note))
    }

    /// Reported beside nothing: the same saga in process has no witness on disk.
    async fn over_http(&self, name: &str, clients: u32, programs: &Utf8Path, samples: usize) -> Result<Row> {
        let mut per_second = Vec::new();
        for _ in 0..samples {
            per_second.push(sagas_http::per_second(programs, &self.dir, clients).await?);
        }
        let note = format!(
            "demo sagas of 18 nodes, each of which writes into a file, {clients} clients, over HTTP; SQLite"
        );
        Ok(Row::reported("sagas", name, "1/s", per_second, note))
    }

    async fn recovery(&mut self, samples: usize) -> Result<Row> {
        let mut seconds = Vec::new();
        for _ in 0..samples {
            let place = self.place(false)?;
            let left: Unfinished = self.run(&place, &["unfinished"]).await?;
            let answer: Recovery = self.run(&place, &["recovery", &left.coordinator]).await?;
            seconds.push(answer.seconds);
            place.remove()?;
        }
        let limit = Limit { name: "5 s".to_owned(), median: 5.0 };
        let note =
            "10,000 unfinished sagas of 18 nodes, each at its last one, until all are executed again; SQLite";
        Ok(Row::at_most("sagas", "recover_10k", "s", seconds, limit, note))
    }

    async fn rest(&mut self) -> Result<Row> {
        let answer: Rest = self.measure(false, &["rest"]).await?;
        let milliseconds = answer.pass_seconds.iter().map(|seconds| seconds * 1e3).collect();
        let limit = Limit { name: "2 ms".to_owned(), median: 2.0 };
        let note = "a pass of recovery that finds nothing, beside 1,000,000 sagas that have ended; SQLite";
        Ok(Row::at_most("sagas", "idle_pass_1m", "ms", milliseconds, limit, note))
    }

    async fn memory(&mut self) -> Result<Row> {
        let answer: Memory = self.measure(false, &["memory"]).await?;
        let course: Vec<String> =
            answer.samples.iter().map(|at| format!("{} {:.1}", at.sagas, at.rss_bytes / MIB)).collect();
        let last = answer.samples.last().context("no sample of memory")?.rss_bytes / MIB;
        let limit = Limit { name: "128 MiB".to_owned(), median: 128.0 };
        let note =
            format!("resident after so many sagas of 2 nodes, 64 at once: {}; SQLite", course.join(", "));
        Ok(Row::at_most("sagas", "rss_1m", "MiB", vec![last], limit, note))
    }

    /// Runs the program on an empty database.
    async fn measure<T: for<'d> Deserialize<'d>>(&mut self, postgres: bool, args: &[&str]) -> Result<T> {
        let place = self.place(postgres)?;
        let answer = self.run(&place, args).await?;
        place.remove()?;
        Ok(answer)
    }

    /// An empty database.
    fn place(&mut self, postgres: bool) -> Result<Place> {
        self.databases += 1;
        let dir = self.dir.join(format!("{}", self.databases));
        std::fs::create_dir_all(&dir).with_context(|| format!("creating {dir}"))?;
        let mut args = vec!["--dir".to_owned(), dir.to_string()];
        if postgres {
            let number = self.databases;
            let server = self.postgres()?;
            let url = server.database(&format!("bench_{number}"))?;
            args.extend([
                "--url".to_owned(),
                url,
                "--password-file".to_owned(),
                server.password_file().into(),
            ]);
        }
        Ok(Place { dir, args })
    }

    /// Runs the program on a database.
    async fn run<T: for<'d> Deserialize<'d>>(&self, place: &Place, args: &[&str]) -> Result<T> {
        let mut command = Command::new(&self.program);
        let output = command.args(&place.args).args(args).stderr(Stdio::inherit()).output().await;
        let output = output.with_context(|| format!("running {}", self.program))?;
        if !output.status.success() {
            bail!("saga-bench {}: {}", args.join(" "), output.status);
        }
        serde_json::from_slice(&output.stdout).context("the answer of saga-bench")
    }

    /// The same number of durable steps by DBOS on the same server; none if this machine cannot run it.
    async fn peer(&mut self, clients: u32) -> Result<Option<PeerThroughput>> {
        let Some(python) = peer_python().await? else { return Ok(None) };
        self.databases += 1;
        let server = self.postgres()?;
        let url = server.database(&format!("bench_{}", self.databases))?;
        let password =
            std::fs::read_to_string(server.password_file()).context("the password of PostgreSQL")?;
        // As libpq has it: the password is in it.
        let url =
            url.replacen("postgres://postgres@", &format!("postgresql://postgres:{}@", password.trim()), 1);
        let script = workspace::root()?.join("nexus/saga-bench/peers/dbos_row.py");
        let args = [script.as_str(), &url, &clients.to_string(), "10", "18"];
        let output = Command::new(python).args(args).stderr(Stdio::inherit()).output().await;
        let output = output.context("running the peer")?;
        if !output.status.success() {
            bail!("the peer: {}", output.status);
        }
        let answer = output.stdout.split(|byte| *byte == b'\n').rfind(|line| line.starts_with(b"{"));
        let answer = serde_json::from_slice(answer.unwrap_or_default()).context("the answer of the peer")?;
        Ok(Some(answer))
    }

    /// A server of our own, with its own `fsync` on.
    fn postgres(&mut self) -> Result<Standing> {
        if let Some(server) = &self.postgres {
            return Ok(server.clone());
        }
        let server = Standing::at(&self.dir.join("postgres"));
        self.postgres = Some(server.clone());
        server.start()?;
        Ok(server)
    }

    fn clean_up(&mut self) -> Result<()> {
        if let Some(server) = self.postgres.take() {
            server.end(false)?;
        }
        match std::fs::remove_dir_all(&self.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Bench {
    /// Also after a measurement that failed.
    fn drop(&mut self) {
        let _ = self.clean_up();
    }
}

/// A Python that has the peer, installed from PyPI into a place of its own; none where there is no Python or no network.
async fn peer_python() -> Result<Option<Utf8PathBuf>> {
    let place = workspace::target_dir()?.join("bench-peers").join(PEER.replace("==", "-"));
    let python = place.join("bin/python");
    if place.join("installed").exists() {
        return Ok(Some(python));
    }
    let made = Command::new("python3").args(["-m", "venv", place.as_str()]).status().await;
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("the peer is left out: python3 -m venv does not work here");
        return Ok(None);
    }
    let installed = Command::new(&python).args(["-m", "pip", "install", "--quiet", PEER]).status().await;
    if !installed.is_ok_and(|status| status.success()) {
        eprintln!("the peer is left out: {PEER} cannot be installed here");
        return Ok(None);
    }
    std::fs::write(place.join("installed"), PEER).with_context(|| format!("writing into {place}"))?;
    Ok(Some(python))
}
