//! The `sled-agent` program: arguments, log, signals. Everything else is the library's.

use camino::Utf8PathBuf;
use clap::{Parser, Subcommand, ValueEnum};
use daemon::{
    log::LogFormat,
    program::{self, Program},
};
use mimalloc::MiMalloc;
use sled_agent::{
    Agent, Config, StartError,
    disks::{self, FaultSocket, Serving, command::DiskCommand},
    pantry::{self, serve::Holding},
    tokens,
    volumes::{self, RegionCommand, VolumeCommand},
};
use std::process::ExitCode;

/// A volume and its copies ask for much memory in many sizes, all the time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// The agent of one Bobsled host.
#[derive(Debug, Parser)]
#[command(name = "sled-agent", version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the agent until SIGTERM or SIGINT.
    Run {
        /// The config file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Utf8PathBuf,
    },
    /// Check a config file and exit.
    Check {
        /// The config file (TOML).
        #[arg(long, value_name = "FILE")]
        config: Utf8PathBuf,
    },
    /// Serve the regions of a directory until SIGTERM or SIGINT.
    Downstairs {
        /// The directory.
        #[arg(long)]
        directory: Utf8PathBuf,
        /// Where Upstairs come: ADDRESS:PORT.
        #[arg(long)]
        listen: std::net::SocketAddr,
        /// The directory is a disk with datasets, each region in its own. So the agent starts it.
        #[arg(long)]
        datasets: bool,
        /// The disk is this dataset of ZFS: it must be what is mounted at the directory.
        #[arg(long, requires = "datasets", value_name = "POOL/DATASET")]
        zfs: Option<String>,
        /// Log as JSON.
        #[arg(long, requires = "datasets")]
        log_json: bool,
        /// A socket through which the disk is faulted, for tests and drills.
        #[arg(long, requires_all = ["datasets", "fault_disk"])]
        fault_socket: Option<Utf8PathBuf>,
        /// The disk's name there.
        #[arg(long, requires = "fault_socket")]
        fault_disk: Option<String>,
    },
    /// Hold volumes with no VM until SIGTERM or SIGINT. The agent starts it, and asks it.
    Pantry {
        /// Where the volumes' sockets are; made if it is not there, and kept from others.
        #[arg(long)]
        directory: Utf8PathBuf,
        /// Where it is asked: a socket in the file system.
        #[arg(long)]
        socket: Utf8PathBuf,
        /// The sled's address, from which members of volumes are come to. Unless said, the system chooses.
        #[arg(long)]
        address: Option<std::net::IpAddr>,
        #[command(flatten)]
        telling: pantry::serve::TellingArguments,
        /// Log as JSON.
        #[arg(long)]
        log_json: bool,
    },
    /// End the Pantry of a directory: all its volumes are detached. With the agent running, it starts another one.
    PantryStop {
        /// Its directory: `pantry` in the agent's state directory.
        #[arg(long)]
        directory: Utf8PathBuf,
    },
    /// Disks for regions.
    #[command(subcommand)]
    Disk(DiskCommand),
    /// Volumes by hand, with no coordinator.
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Single regions, at rest.
    #[command(subcommand)]
    Region(RegionCommand),
    /// Print the OpenAPI document of an API.
    Openapi {
        /// Which API.
        api: Api,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Api {
    /// What coordinators and operators ask of the sled.
    Sled,
    /// Public reads of artifacts.
    Depot,
}

/// Threads that run the agent's tasks. An agent mostly waits; disks have threads of their own.
const WORKER_THREADS: usize = 2;

/// Threads for blocking work that is not the store's: names, files of state, a little to spare.
const OTHER_BLOCKING_THREADS: usize = 16;

const PROGRAM: Program<Config> = Program {
    log: |config| &config.log,
    verify: |config| Ok(config.verify()?),
    worker_threads: Some(WORKER_THREADS),
    blocking_threads: Some(|config| {
        OTHER_BLOCKING_THREADS + config.m2.len() * artifact_store::BLOCKING_THREADS_PER_DATASET
    }),
};

/// What a check looks at beside the config itself: a start tells of it too, but a check is there to tell it earlier.
const CHECK: Program<Config> = Program {
    verify: |config| {
        config.verify()?;
        Ok(tokens::check(&config.auth)?)
    },
    ..PROGRAM
};

/// Of a process that answers clients' reads and writes: a page of 2 MiB is made of zeros at once when its first byte is written, and until
/// that is done, which takes up to several milliseconds, its processor does nothing else. Whatever it starts has it so, too.
fn have_small_pages() {
    // Without it, it is only slower now and then.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    if matches!(command, Command::Downstairs { .. } | Command::Pantry { .. } | Command::Volume(_)) {
        have_small_pages();
    }
    match command {
        Command::Run { config } => PROGRAM.run(&config, async |config, stop| {
            Agent::start(config).await?.run(stop).await;
            Ok::<(), StartError>(())
        }),
        Command::Check { config } => CHECK.check(&config),
        Command::Downstairs {
            directory,
            listen,
            datasets: true,
            zfs,
            log_json,
            fault_socket,
            fault_disk,
        } => {
            let log_format = if log_json { LogFormat::Json } else { LogFormat::Text };
            let faults = fault_socket.zip(fault_disk).map(|(path, disk)| FaultSocket { path, disk });
            disks::serve::run(&Serving { directory, zfs, address: listen, log_format, faults })
        }
        Command::Downstairs { directory, listen, .. } => volumes::run_downstairs(&directory, listen),
        Command::Pantry { directory, socket, address, telling, log_json } => {
            let log_format = if log_json { LogFormat::Json } else { LogFormat::Text };
            pantry::serve::run(&Holding { directory, socket, address, telling: telling.into(), log_format })
        }
        Command::PantryStop { directory } => pantry::serve::run_stop(&directory),
        Command::Disk(command) => disks::command::run(&command),
        Command::Volume(command) => volumes::run(command),
        Command::Region(command) => volumes::run_region(command),
        Command::Openapi { api } => program::print(openapi(api).to_pretty_json()),
    }
}

fn openapi(api: Api) -> utoipa::openapi::OpenApi {
    match api {
        Api::Sled => sled_agent::http::sled::router().into_openapi(),
        Api::Depot => sled_agent::http::depot::router().into_openapi(),
    }
}
