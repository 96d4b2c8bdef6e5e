//! `kill`, `pause`, `resume`, `restart`, `add-sled`, `disk`, `volume`, `partition`, `down`, `reset`: what changes a cluster. Owns the
//! words; the `testbed` crate does it.

use super::Place;
use anyhow::{Context, Result, bail};
use camino::{Utf8Path, Utf8PathBuf};
use clap::{Args, Subcommand};
use std::fs::{self, File};
use testbed::{Cluster, ClusterDirectory, ConstructionRequest, DiskFault, DiskName, KillScope};

/// Whom it is done to.
#[derive(Debug, Args)]
pub(crate) struct Who {
    /// sled-b, nexus-1, …
    who: String,
}

/// Whom, and how much of it.
#[derive(Debug, Args)]
pub(crate) struct KillArgs {
    /// sled-b, nexus-1, …
    who: String,
    /// Only the agent, not what it supervises
    #[arg(long)]
    agent_only: bool,
}

/// What to do to a disk.
#[derive(Debug, Subcommand)]
pub(crate) enum DiskCommand {
    /// Every operation fails with EIO from now on, also on open files
    Fail(Disk),
    /// Every operation takes MS milliseconds longer
    Slow {
        /// Milliseconds added to each operation
        ms: u64,
        #[command(flatten)]
        disk: Disk,
    },
    /// Every write finds no space
    Full(Disk),
    /// Bits are flipped in K stored artifacts (M.2) or blocks (data disks), once, silently
    Corrupt {
        /// How many artifacts or blocks
        k: u64,
        #[command(flatten)]
        disk: Disk,
        /// Chooses which; the same seed over the same contents chooses the same
        #[arg(long, default_value_t = 0)]
        seed: u64,
    },
    /// Takes the fault away; what was corrupted stays so
    Heal(Disk),
}

/// Which disk.
#[derive(Debug, Args)]
pub(crate) struct Disk {
    /// sled-b/m2-0, sled-b/disk-0
    #[arg(value_name = "WHO/DISK")]
    disk: String,
}

/// Whom to cut off.
#[derive(Debug, Args)]
pub(crate) struct PartitionArgs {
    /// sled-b nexus-1 …; or heal
    #[arg(required = true)]
    who: Vec<String>,
}

/// What volume to make.
#[derive(Debug, Args)]
pub(crate) struct VolumeArgs {
    /// Mebibytes of it
    #[arg(long, value_name = "MIB", default_value_t = 64)]
    size_mib: u64,
    /// The file that describes it, which is not there yet
    #[arg(long, value_name = "FILE")]
    output: Utf8PathBuf,
    /// The three disks; unless said, disk-0 of the first three sleds
    #[arg(value_name = "WHO/DISK")]
    disks: Vec<String>,
}

/// Which region of a volume is to be another one.
#[derive(Debug, Args)]
pub(crate) struct VolumeReplaceArgs {
    /// The file that describes the volume; what is to be is written over it
    #[arg(value_name = "FILE")]
    file: Utf8PathBuf,
    /// The disk of the region that leaves
    #[arg(value_name = "FROM/DISK")]
    from: String,
    /// The disk of the new one
    #[arg(value_name = "TO/DISK")]
    to: String,
}

/// Which volume.
#[derive(Debug, Args)]
pub(crate) struct VolumeRemoveArgs {
    /// The file that describes it, which is removed, too
    #[arg(value_name = "FILE")]
    file: Utf8PathBuf,
}

/// Kills.
pub(crate) async fn kill(cluster: &Cluster, args: &KillArgs) -> Result<()> {
    let scope = if args.agent_only { KillScope::AgentOnly } else { KillScope::WholeSled };
    cluster.kill(&args.who, scope).await?;
    say!("{0} is killed; `cargo xtask testbed restart {0}` brings it back", args.who);
    Ok(())
}

/// Pauses.
pub(crate) fn pause(cluster: &Cluster, args: &Who) -> Result<()> {
    cluster.pause(&args.who)?;
    say!("{} is paused", args.who);
    Ok(())
}

/// Resumes.
pub(crate) fn resume(cluster: &Cluster, args: &Who) -> Result<()> {
    cluster.resume(&args.who)?;
    say!("{} is resumed", args.who);
    Ok(())
}

/// Restarts.
pub(crate) async fn restart(cluster: &Cluster, args: &Who) -> Result<()> {
    cluster.restart(&args.who).await?;
    say!("{} serves", args.who);
    Ok(())
}

/// Adds a sled.
pub(crate) async fn add_sled(cluster: &Cluster) -> Result<()> {
    let who = cluster.add_sled().await?;
    say!("{who} serves");
    Ok(())
}

/// Faults or heals a disk; prints what the sled says it did.
pub(crate) async fn disk(cluster: &Cluster, command: DiskCommand) -> Result<()> {
    let (disk, fault, what) = match command {
        DiskCommand::Fail(disk) => (disk, DiskFault::Fail, "fails".to_owned()),
        DiskCommand::Slow { ms, disk } => (disk, DiskFault::Slow { ms }, format!("is slower by {ms} ms")),
        DiskCommand::Full(disk) => (disk, DiskFault::Full, "is full".to_owned()),
        DiskCommand::Corrupt { k, disk, seed } => {
            (disk, DiskFault::Corrupt { count: k, seed }, format!("is corrupted (seed {seed})"))
        }
        DiskCommand::Heal(disk) => (disk, DiskFault::Heal, "is healed".to_owned()),
    };
    let told = cluster.disk_fault(&DiskName::parse(&disk.disk)?, fault).await?;
    say!("{} {what}", disk.disk);
    if !told.is_null() {
        say!("{told}");
    }
    Ok(())
}

/// Cuts off, or ends that.
pub(crate) fn partition(cluster: &Cluster, args: &PartitionArgs) -> Result<()> {
    if args.who == ["heal"] {
        let was = cluster.heal_partitions()?;
        say!("{}", if was { "nobody is cut off any more" } else { "nobody was cut off" });
        return Ok(());
    }
    cluster.partition(&args.who)?;
    say!("{} cut off; `cargo xtask testbed partition heal` ends that", args.who.join(", "));
    Ok(())
}

/// Makes a volume, and says how it is used.
pub(crate) async fn volume(cluster: &Cluster, args: &VolumeArgs) -> Result<()> {
    let size = args.size_mib.checked_mul(1 << 20).context("no disk has so many mebibytes")?;
    let disks = args.disks.iter().map(|disk| DiskName::parse(disk)).collect::<Result<Vec<_>>>()?;
    // Before anything is made: what nobody can find again would stay.
    let file = File::options().write(true).create_new(true).open(&args.output);
    let file = file.with_context(|| format!("creating {}", args.output))?;
    let made = cluster.make_volume(size, &disks).await.and_then(|request| {
        serde_json::to_writer_pretty(file, &request).with_context(|| format!("writing {}", args.output))?;
        Ok(request)
    });
    if made.is_err() {
        let _ = fs::remove_file(&args.output);
    }
    say!("volume {} of {} MiB: {}", made?.id, args.size_mib, args.output);
    say!("sled-agent volume export --volume {} --epoch 1 --listen unix:$PWD/volume.sock", args.output);
    Ok(())
}

/// Makes a region on another disk, and describes the volume that has it.
pub(crate) async fn volume_replace(cluster: &Cluster, args: &VolumeReplaceArgs) -> Result<()> {
    let (from, to) = (DiskName::parse(&args.from)?, DiskName::parse(&args.to)?);
    let request = read_volume(&args.file)?;
    // Before anything is made, as above; and renamed over the old one when it is whole.
    let whole = Utf8PathBuf::from(format!("{}.new", args.file));
    let file = File::create(&whole).with_context(|| format!("creating {whole}"))?;
    let next = cluster.replace_region(&request, &from, &to).await;
    if next.is_err() {
        let _ = fs::remove_file(&whole);
    }
    let next = next?;
    serde_json::to_writer_pretty(file, &next).with_context(|| format!("writing {whole}"))?;
    fs::rename(&whole, &args.file).with_context(|| format!("renaming {whole} to {}", args.file))?;
    say!(
        "a region is made on {to}; in version {} of {} it is in the place of that on {from}",
        next.config_version,
        args.file
    );
    say!("put the file to whoever holds the volume: then the region is filled");
    Ok(())
}

/// Destroys a volume that nobody holds.
pub(crate) async fn volume_remove(cluster: &Cluster, args: &VolumeRemoveArgs) -> Result<()> {
    let request = read_volume(&args.file)?;
    let regions = cluster.destroy_volume(&request).await?;
    fs::remove_file(&args.file).with_context(|| format!("removing {}", args.file))?;
    say!("volume {} is removed: {regions} regions are destroyed", request.id);
    Ok(())
}

fn read_volume(file: &Utf8Path) -> Result<ConstructionRequest> {
    let text = fs::read(file).with_context(|| format!("reading {file}"))?;
    serde_json::from_slice(&text).with_context(|| format!("{file} does not describe a volume"))
}

/// Ends the cluster.
pub(crate) async fn down(place: &Place) -> Result<()> {
    if !ClusterDirectory::new(&place.dir, &place.name)?.root().exists() {
        say!("there is no cluster {}", place.name);
        return Ok(());
    }
    let cluster = place.open()?;
    if cluster.down().await? {
        say!("cluster {} is stopped; its directories are kept in {}", place.name, cluster.directory().root());
    } else {
        say!("cluster {} was stopped already", place.name);
    }
    Ok(())
}

/// Ends the cluster and removes its directories.
pub(crate) async fn reset(place: &Place) -> Result<()> {
    let directory = ClusterDirectory::new(&place.dir, &place.name)?;
    if !directory.root().exists() {
        say!("there is no cluster {}", place.name);
        return Ok(());
    }
    if !directory.record_file().exists() {
        bail!("{} is there and is no cluster's; remove it by hand", directory.root());
    }
    place.open()?.reset().await?;
    say!("cluster {} is removed", place.name);
    Ok(())
}
