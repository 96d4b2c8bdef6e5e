//! `cargo xtask testbed`: the command line of the testbed. Owns arguments, words and exit codes; the `testbed` crate does
//! the work. One file per group of commands:
//!
//! - [`up`]: `testbed`, `testbed up`: bringing a cluster up, in the foreground or detached.
//! - [`demo`]: `testbed --demo`: what a volume is for, shown once the cluster is up.
//! - [`narrator`]: what is said meanwhile. [`signals`]: Ctrl-C and its like.
//! - [`look`]: `status`, `env`, `logs`. [`act`]: `kill`, `pause`, `disk` and the rest that changes something.
//! - [`keeper`]: the hidden command that cleans up after a crash.

mod act;
mod demo;
pub(crate) mod keeper;
mod look;
mod narrator;
pub(crate) mod signals;
mod up;

use crate::workspace;
use anyhow::{Context, Result, bail};
use camino::Utf8PathBuf;
use clap::{Args, Subcommand};
use std::process::ExitCode;
use testbed::{Cluster, names::DEFAULT_CLUSTER_NAME};

/// A real cluster on this machine; without a subcommand: the whole tour in the foreground.
#[derive(Debug, Args)]
#[command(after_help = "\
Without a subcommand: builds, starts 1 coordinator and 4 sleds with 2 data disks each, brings a
signed sample release onto every sled, says what to try next, and ends and removes everything on
Ctrl-C. With --demo: goes on with a volume that loses a disk, says of each step how to do it by
hand, and then ends and removes everything.

The first cluster has sled-a on 127.0.1.1, sled-b on 127.0.1.2, … and its coordinator on 127.0.0.1;
the K-th has its sleds on 127.0.K.N and its coordinator on 127.0.K.251. Nothing that was killed
restarts by itself. Examples:

  cargo xtask testbed up --detach --sleds 3
  eval \"$(cargo xtask testbed env)\"; sledctl status
  cargo xtask testbed kill sled-b; cargo xtask testbed restart sled-b
  cargo xtask testbed disk corrupt 3 sled-a/m2-1 --seed 7
  cargo xtask testbed volume --output volume.json; cargo xtask testbed disk fail sled-b/disk-0
  cargo xtask testbed partition sled-c; cargo xtask testbed partition heal

docs/DEVELOPING.md, \"Break it\", goes through the last ones.")]
pub(crate) struct TestbedArgs {
    /// Which cluster, if there are several
    #[arg(long, global = true, default_value = DEFAULT_CLUSTER_NAME, value_name = "NAME")]
    name: String,
    /// Where the clusters' directories are; target/testbed unless said
    #[arg(long, global = true, env = "TESTBED_DIR", value_name = "DIR")]
    dir: Option<Utf8PathBuf>,
    #[command(flatten)]
    up: up::UpArgs,
    #[command(subcommand)]
    command: Option<TestbedCommand>,
}

#[derive(Debug, Subcommand)]
enum TestbedCommand {
    /// Brings a cluster up: in the foreground from nothing; with --detach going on with what `down` kept
    Up(up::UpArgs),
    /// Says what runs, and what the coordinator thinks of it
    Status(look::StatusArgs),
    /// Prints how to reach the cluster: for eval, or as JSON
    Env(look::EnvArgs),
    /// Prints the log of a process
    Logs(look::LogsArgs),
    /// Ends every process; keeps the directories
    Down,
    /// Ends every process and removes the directories
    Reset,
    /// SIGKILL: a whole sled, or a coordinator
    Kill(act::KillArgs),
    /// SIGSTOP: it is there, and answers nothing
    Pause(act::Who),
    /// SIGCONT
    Resume(act::Who),
    /// Stops it politely if it runs, and starts it with its old directory and address
    Restart(act::Who),
    /// Adds one sled
    AddSled,
    /// Faults a disk, or heals it
    #[command(subcommand)]
    Disk(act::DiskCommand),
    /// Makes a volume by hand on three data disks, and the file that describes it: for a Pantry, or `sled-agent volume export`
    Volume(act::VolumeArgs),
    /// Makes a region on another disk, and the next version of such a file, which has it in the place of one that leaves
    VolumeReplace(act::VolumeReplaceArgs),
    /// Destroys what such a file describes, which nobody holds any more, and removes the file
    VolumeRemove(act::VolumeRemoveArgs),
    /// Cuts WHO… off from everybody else, and not from each other; `heal` ends it. Needs root and nft
    Partition(act::PartitionArgs),
}

/// Which cluster a command is about.
#[derive(Clone, Debug)]
struct Place {
    /// Directory in which clusters' directories lie.
    dir: Utf8PathBuf,
    name: String,
}

impl Place {
    fn open(&self) -> Result<Cluster> {
        Cluster::open(&self.dir, &self.name)
    }

    /// How to name this cluster in commands that a person may type next.
    fn name_option(&self) -> String {
        if self.name == DEFAULT_CLUSTER_NAME { String::new() } else { format!(" --name {}", self.name) }
    }
}

/// Runs the command.
pub(crate) fn run(args: TestbedArgs) -> Result<ExitCode> {
    let dir = match args.dir {
        Some(dir) => dir,
        None => workspace::target_dir()?.join("testbed"),
    };
    let place = Place { dir, name: args.name };
    testbed::names::check_cluster_name(&place.name)?;
    if args.command.is_some() && args.up != up::UpArgs::default() {
        bail!("options of `up` stand after it: cargo xtask testbed up …");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("starting the asynchronous runtime")?;
    let Some(command) = args.command else { return up::run(&place, &args.up, &runtime) };
    if let TestbedCommand::Up(up_args) = command {
        return up::run(&place, &up_args, &runtime);
    }
    runtime.block_on(async { dispatch(&place, command).await }).map(|()| ExitCode::SUCCESS)
}

async fn dispatch(place: &Place, command: TestbedCommand) -> Result<()> {
    match command {
        TestbedCommand::Up(_) => bail!("up was dealt with before"),
        TestbedCommand::Status(args) => look::status(&place.open()?, &args).await,
        TestbedCommand::Env(args) => look::env(&place.open()?, &args),
        TestbedCommand::Logs(args) => look::logs(&place.open()?, &args).await,
        TestbedCommand::Down => act::down(place).await,
        TestbedCommand::Reset => act::reset(place).await,
        TestbedCommand::Kill(args) => act::kill(&place.open()?, &args).await,
        TestbedCommand::Pause(args) => act::pause(&place.open()?, &args),
        TestbedCommand::Resume(args) => act::resume(&place.open()?, &args),
        TestbedCommand::Restart(args) => act::restart(&place.open()?, &args).await,
        TestbedCommand::AddSled => act::add_sled(&place.open()?).await,
        TestbedCommand::Disk(command) => act::disk(&place.open()?, command).await,
        TestbedCommand::Volume(args) => act::volume(&place.open()?, &args).await,
        TestbedCommand::VolumeReplace(args) => act::volume_replace(&place.open()?, &args).await,
        TestbedCommand::VolumeRemove(args) => act::volume_remove(&place.open()?, &args).await,
        TestbedCommand::Partition(args) => act::partition(&place.open()?, &args),
    }
}
