//! The release depot: the main job beside a plain write of the same bytes, memory under a large artifact, the idle
//! agent.

use super::{
    cluster,
    process::{cpu_seconds, memory_mib},
    row::{Limit, Row},
};
use crate::workspace;
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use sample_release::{Keys, MadeRelease, SampleRelease};
use std::{
    process::Stdio,
    time::{Duration, Instant},
};
use testbed::OwnedCluster;
use tokio::{net::TcpStream, process::Command};

const MIB: u64 = 1 << 20;

/// Copies of every byte that the main job writes: four sleds with two M.2s each. The staged zip comes on top.
const COPIES: u64 = 8;

/// How long the idle agent is watched.
const IDLE_WATCH: Duration = Duration::from_secs(60);

/// How long a starting agent is waited for.
const READY_LIMIT: Duration = Duration::from_secs(10);

/// What can be asked for.
const ROWS: [&str; 4] = ["main_job", "put_rss", "agent_idle", "agent_ready"];

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
    let place = Place { programs: programs.to_owned(), dir: workspace::target_dir()?.join("bench") };
    std::fs::create_dir_all(&place.dir).with_context(|| format!("creating {}", place.dir))?;
    let mut rows = Vec::new();
    if wanted("main_job") {
        rows.push(main_job(&place, samples).await?);
    }
    if wanted("put_rss") {
        rows.extend(put_rss(&place).await?);
    }
    if wanted("agent_idle") {
        rows.extend(agent_idle(&place).await?);
    }
    if wanted("agent_ready") {
        rows.push(agent_ready(&place, samples).await?);
    }
    Ok(rows)
}

struct Place {
    programs: Utf8PathBuf,
    dir: Utf8PathBuf,
}

impl Place {
    async fn cluster(&self, sleds: usize) -> Result<OwnedCluster> {
        cluster::start(&self.programs, &self.dir, sleds).await
    }

    fn make(&self, release: &SampleRelease) -> Result<MadeRelease> {
        Ok(release.make(&Keys::generate()?, &self.dir.join("release.zip"))?)
    }
}

/// Brings a release onto every sled, and asks the sleds themselves whether it is there.
async fn bring(cluster: &OwnedCluster, release: &MadeRelease) -> Result<()> {
    cluster.wait_in_service().await?;
    cluster.upload_release(&release.path, release.root_json.clone(), &mut |_| {}).await?;
    let copies = cluster.wait_replicated(&mut |_| {}).await?;
    if !copies.is_complete() {
        bail!("not everything arrived: {copies}");
    }
    Ok(())
}

/// From nothing to two verified copies of 18 artifacts on each of 4 sleds, keys and release made on the way.
async fn main_job(place: &Place, samples: usize) -> Result<Row> {
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for _ in 0..samples {
        let zip_bytes;
        let started = Instant::now();
        {
            let cluster = place.cluster(4).await?;
            let release = place.make(&SampleRelease::standard("1.0.0"))?;
            zip_bytes = release.zip_bytes;
            bring(&cluster, &release).await?;
            ours.push(started.elapsed().as_secs_f64());
            cluster.finish().await?;
        }
        let bytes = SampleRelease::standard("1.0.0").size_bytes() * COPIES + zip_bytes;
        plain.push(plain_write(&place.dir, bytes).await?);
    }
    let dd = super::row::Samples::of(plain.clone()).median;
    let limit =
        Limit { name: "2 x dd conv=fsync of the same bytes + 5 s".to_owned(), median: 2.0 * dd + 5.0 };
    let spread: Vec<String> = plain.iter().map(|seconds| format!("{seconds:.3}")).collect();
    Ok(Row::at_most(
        "depot",
        "main_job",
        "s",
        ours,
        limit,
        format!(
            "start to verified everywhere, release made on the way; dd alone took [{}] s",
            spread.join(", ")
        ),
    ))
}

/// What `dd conv=fsync` takes to write so many bytes.
async fn plain_write(dir: &Utf8Path, bytes: u64) -> Result<f64> {
    let file = dir.join("dd");
    let started = Instant::now();
    let status = Command::new("dd")
        .args(["if=/dev/zero", &format!("of={file}"), "bs=1M", &format!("count={}", bytes.div_ceil(MIB))])
        .arg("conv=fsync")
        .stderr(Stdio::null())
        .status()
        .await
        .context("running dd")?;
    let seconds = started.elapsed().as_secs_f64();
    std::fs::remove_file(&file).with_context(|| format!("removing {file}"))?;
    if !status.success() {
        bail!("dd failed: {status}");
    }
    Ok(seconds)
}

/// The highest memory of the coordinator and of an agent while one artifact of 2 GiB goes to two sleds, beside the same
/// with 2 MiB.
async fn put_rss(place: &Place) -> Result<Vec<Row>> {
    let mut highest = Vec::new();
    for size in [2 * MIB, 2048 * MIB] {
        let release = SampleRelease::new("1.0.0").seeded("image", "1.0.0", "host-image", size, false);
        let release = place.make(&release)?;
        let cluster = place.cluster(2).await?;
        bring(&cluster, &release).await?;
        let environment = cluster.environment()?;
        let nexus = environment.nexus.iter().filter_map(|nexus| nexus.pid);
        let agents = environment.sleds.iter().filter_map(|sled| sled.pid);
        highest.push((peak(nexus)?, peak(agents)?));
        cluster.finish().await?;
        std::fs::remove_file(&release.path).with_context(|| format!("removing {}", release.path))?;
    }
    let limit = || Limit { name: "64 MiB".to_owned(), median: 64.0 };
    let row = |name: &str, pick: fn(&(f64, f64)) -> f64| {
        let note = format!(
            "highest resident memory with one 2 GiB artifact; with 2 MiB: {:.1} MiB",
            pick(&highest[0])
        );
        Row::at_most("depot", name, "MiB", vec![pick(&highest[1])], limit(), note)
    };
    Ok(vec![row("put_rss_nexus", |pair| pair.0), row("put_rss_agent", |pair| pair.1)])
}

fn peak(pids: impl Iterator<Item = u32>) -> Result<f64> {
    let mut highest = 0.0_f64;
    for pid in pids {
        highest = highest.max(memory_mib(pid)?.1);
    }
    Ok(highest)
}

/// Memory and processor share of agents that hold a release and have nothing to do.
async fn agent_idle(place: &Place) -> Result<Vec<Row>> {
    let release = place.make(&SampleRelease::standard("1.0.0"))?;
    let cluster = place.cluster(4).await?;
    bring(&cluster, &release).await?;
    let pids: Vec<u32> = cluster.environment()?.sleds.iter().filter_map(|sled| sled.pid).collect();
    let used = |pids: &[u32]| pids.iter().map(|pid| cpu_seconds(*pid)).collect::<Result<Vec<f64>>>();
    let before = used(&pids)?;
    // The measurement itself: this much time is watched.
    tokio::time::sleep(IDLE_WATCH).await;
    let after = used(&pids)?;
    let memory = pids.iter().map(|pid| Ok(memory_mib(*pid)?.0)).collect::<Result<Vec<f64>>>()?;
    let shares =
        before.iter().zip(&after).map(|(before, after)| (after - before) / IDLE_WATCH.as_secs_f64() * 100.0);
    let rows = vec![
        Row::at_most(
            "depot",
            "agent_idle_rss",
            "MiB",
            memory,
            Limit { name: "30 MiB".to_owned(), median: 30.0 },
            "resident memory of each of 4 agents, a minute after they received 18 artifacts",
        ),
        Row::at_most(
            "depot",
            "agent_idle_cpu",
            "%",
            shares.collect(),
            Limit { name: "0.5 % of a core".to_owned(), median: 0.5 },
            "processor share of each of 4 agents over 60 s of heartbeats",
        ),
    ];
    cluster.finish().await?;
    Ok(rows)
}

/// From the start of an agent that holds 18 artifacts to its first answer that it is ready.
async fn agent_ready(place: &Place, samples: usize) -> Result<Row> {
    let release = place.make(&SampleRelease::standard("1.0.0"))?;
    let cluster = place.cluster(1).await?;
    bring(&cluster, &release).await?;
    let sled = cluster.environment()?.sleds.into_iter().next().context("the cluster has a sled")?;
    let address = sled.agent_url.trim_start_matches("http://").to_owned();
    let config = cluster.directory().node(&sled.name).join("config.toml");
    let mut ours = Vec::new();
    for _ in 0..samples {
        cluster.stop(&sled.name).await?;
        let started = Instant::now();
        let mut agent = Command::new(place.programs.join("sled-agent"))
            .args(["run", "--config", config.as_str()])
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .context("starting an agent")?;
        tokio::time::timeout(READY_LIMIT, ready(&address)).await.context("the agent is not ready")??;
        ours.push(started.elapsed().as_secs_f64() * 1000.0);
        agent.kill().await.context("ending an agent")?;
    }
    cluster.finish().await?;
    let limit = Limit { name: "200 ms".to_owned(), median: 200.0 };
    Ok(Row::at_most(
        "depot",
        "agent_ready",
        "ms",
        ours,
        limit,
        "from the start of the program to its first /readyz that says ok",
    ))
}

/// Asks again and again, without a pause, until the answer is that it is ready.
async fn ready(address: &str) -> Result<()> {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    loop {
        let Ok(mut stream) = TcpStream::connect(address).await else {
            tokio::task::yield_now().await;
            continue;
        };
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        if answer.starts_with("HTTP/1.1 200") {
            return Ok(());
        }
    }
}
