//! What one Downstairs keeps in memory for regions that nobody uses: a row of its own, beside the jobs.
//!
//! ```text
//!   50 volumes of two members each, all in one directory ─► one Downstairs
//!   for each volume: export ─► write, flush through it ─► end it
//!   the memory of the Downstairs while all 100 regions are open, and no connection is there
//! ```
//!
//! A Downstairs closes a region that nobody has been connected to for a minute, and then has nothing of it in memory. Here
//! all are measured open, which is the most that idle ones cost; so all of it must take less than a minute.

use super::{
    Place,
    ours::{self, Keys, Volume},
    server::Server,
    subject::qemu_io,
};
use crate::bench::row::{Limit, Row};
use anyhow::{Context, Result, ensure};
use camino::Utf8Path;
use std::time::{Duration, Instant};

/// The row.
pub(super) const NAME: &str = "idle_regions_memory";

/// Volumes, with two regions each.
const VOLUMES: usize = 50;

/// Regions that the process serves.
const REGIONS: usize = 2 * VOLUMES;

/// Of a volume. A file takes this much twice, as the room to move in a small region is as large as the region.
const VOLUME_BYTES: u64 = 32 << 20;

/// Bytes of disk that all of it takes.
pub(super) const BYTES: u64 = REGIONS as u64 * (2 * VOLUME_BYTES + (8 << 20));

/// What is written into each region through its volume, in MiB: all of it, so that it has all the pages that it ever has.
const WRITTEN_MIB: u64 = VOLUME_BYTES >> 20;

/// What the issue allows, in MiB.
const MIB_MAX: f64 = 64.0;

/// A Downstairs closes regions that nobody has used for so long.
const UNUSED_MAX: Duration = Duration::from_secs(60);

/// Measures it.
pub(super) async fn run(place: &Place, programs: &Utf8Path) -> Result<Row> {
    let (dir, agent) = (&place.dir, programs.join("sled-agent"));
    let address = ours::free_addresses(1)?[0];
    let disk = ours::Place { directory: dir.join("regions"), address };
    std::fs::create_dir(&disk.directory).with_context(|| format!("creating {}", disk.directory))?;
    eprintln!("making {REGIONS} regions");
    let mut volumes = Vec::new();
    for number in 1..=VOLUMES {
        let members = [disk.clone(), disk.clone()];
        let name = format!("volume{number}");
        volumes.push(Volume::create(&agent, dir, &name, VOLUME_BYTES, &members, Keys::None).await?);
    }
    let server = ours::downstairs(&agent, dir, "downstairs", &disk).await?;
    let empty = server.memory_mib()?;
    eprintln!("using each of them once");
    let started = Instant::now();
    for volume in &volumes {
        use_once(dir, &agent, volume).await?;
    }
    let memory = server.memory_mib()?;
    let took = started.elapsed();
    ensure!(took < UNUSED_MAX, "it took {took:?} to use all regions: the first ones are closed by now");
    let highest = server.highest_memory_mib()?;
    server.stop().await?;
    let note = format!(
        "resident memory of one Downstairs with {REGIONS} open regions of {WRITTEN_MIB} MiB that nobody uses, after all of \
each was written; {empty:.1} MiB before the first one was opened, {highest:.1} MiB at the most"
    );
    let limit = Limit { name: "bound".to_owned(), median: MIB_MAX };
    Ok(Row::at_most("volume", NAME, "MiB", vec![memory], limit, note))
}

/// A short life of an Upstairs.
async fn use_once(dir: &Utf8Path, agent: &Utf8Path, volume: &Volume) -> Result<()> {
    let socket = dir.join("idle.sock");
    let export: Server = volume.export(agent, dir, "idle-export", &socket, 1).await?;
    let write = format!("write -P 7 0 {WRITTEN_MIB}M");
    qemu_io(&socket, &[&write, "flush"]).await?;
    export.stop().await
}
