//! That each disk has a Downstairs: started, found again by the next life of the agent, started again when it ends. Never ended here.
//!
//! ```text
//!        ┌──────────────► looks at disk and lock ◄──────────────────────────────────┐
//!        │                │        │        │                                       │
//!   disk missing   nobody has it   │   somebody else has it                         │
//!   waiting_for_disk   │      ours has it   held_elsewhere ────────── PROBE ───────►│
//!        │             ▼           ▼                                                │
//!        └─ PROBE ─    starting ──► running ──it has ended──► backing_off ── pause ─┘
//!                    (listens?)
//! ```
//!
//! The agent's end moves nobody: the process goes on, and whoever looks next finds it by the lock on its disk. Only this task moves a
//! disk's standing. A crash of the agent between the start of a process and anything else is as its end.

use super::{faults, place::Place};
use crate::config::DiskSettings;
use camino::{Utf8Path, Utf8PathBuf};
use daemon::log::LogFormat;
use downstairs_process::{self as process, Holder, Ours};
use ids::DiskId;
use problem::chain;
use sled_client::disks::{DownstairsState, DownstairsStatus};
use std::{error::Error, io, net::SocketAddr, process::Stdio, time::Duration};
use tokio::{
    net::TcpStream,
    process::Command,
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Between two looks at a disk that is missing, or that somebody else has.
const PROBE: Duration = Duration::from_secs(2);

/// Between two attempts to see whether a process that was started listens.
const LISTEN_PROBE: Duration = Duration::from_millis(50);

/// How long one such attempt may take: it is an address of this machine.
const CONNECT_LIMIT: Duration = Duration::from_secs(1);

/// The pause before the first start after an end, and the longest one. It doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Who has run for so long has started well: the pause begins anew.
const RAN_WELL: Duration = Duration::from_secs(60);

/// How Downstairs are started.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The agent's program.
    pub program: Utf8PathBuf,
    /// How they log; to where the agent does.
    pub log_format: LogFormat,
    /// Where their fault sockets are; none unless the config says `[testing] faults = true`.
    pub fault_sockets: Option<Utf8PathBuf>,
}

/// The task of one disk.
#[derive(Debug)]
pub struct Supervisor {
    id: DiskId,
    name: String,
    place: Place,
    address: SocketAddr,
    launch: Launch,
    standing: watch::Sender<DownstairsStatus>,
}

impl Supervisor {
    pub(super) fn new(
        settings: &DiskSettings,
        address: SocketAddr,
        place: Place,
        launch: Launch,
    ) -> Supervisor {
        let standing = DownstairsStatus {
            state: DownstairsState::WaitingForDisk,
            address,
            pid: None,
            restarts: 0,
            reason: Some("the disk was not looked at yet".to_owned()),
        };
        let standing = watch::Sender::new(standing);
        let (id, name) = (settings.id, settings.name.clone());
        Supervisor { id, name, place, address, launch, standing }
    }

    pub(super) fn standing(&self) -> watch::Receiver<DownstairsStatus> {
        self.standing.subscribe()
    }

    /// Sees to it that the disk is served, until `stop` turns true. The process goes on after that.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.supervise() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn supervise(&self) {
        let mut pause = PAUSE_MIN;
        loop {
            let dir = match self.place.ready().await {
                Ok(dir) => dir,
                Err(reason) => {
                    self.stands(DownstairsState::WaitingForDisk, None, Some(reason));
                    sleep(PROBE).await;
                    continue;
                }
            };
            // It reads files of the disk.
            let found = tokio::task::spawn_blocking(move || process::look(&dir)).await;
            let since = Instant::now();
            let end = match found {
                Ok(Ok(Holder::Nobody)) => self.start().await,
                Ok(Ok(Holder::Ours(ours))) if ours.address() == self.address => self.adopt(ours).await,
                Ok(Ok(Holder::Ours(ours))) => {
                    let (pid, at) = (ours.pid(), ours.address());
                    let why = format!(
                        "it listens on {at}, where an earlier config had it: `sled-agent disk stop {}`",
                        self.place.last_found()
                    );
                    self.elsewhere(Some(pid), why).await;
                    continue;
                }
                Ok(Ok(Holder::Unknown { pid, why })) => {
                    self.elsewhere(pid, format!("a process has the disk, and {why}")).await;
                    continue;
                }
                Ok(Err(error)) => chain(&error),
                Err(panic) => panic.to_string(),
            };
            if since.elapsed() >= RAN_WELL {
                pause = PAUSE_MIN;
            }
            tracing::warn!(disk = %self.id, dir = %self.place, reason = end, pause_ms = pause.as_millis(), "a downstairs has ended");
            self.stands(DownstairsState::BackingOff, None, Some(end));
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            self.standing.send_modify(|standing| standing.restarts += 1);
        }
    }

    /// Starts one and waits for its end; tells how it ended.
    async fn start(&self) -> String {
        let mut command = Command::new(&self.launch.program);
        command.args(process::arguments(&self.place.last_found(), self.address));
        if let Some(dataset) = self.place.zfs() {
            command.args(["--zfs", dataset]);
        }
        if self.launch.log_format == LogFormat::Json {
            command.arg("--log-json");
        }
        if let Some(directory) = &self.launch.fault_sockets {
            let socket = faults::socket(directory, &self.name);
            command.args(["--fault-socket", socket.as_str(), "--fault-disk", &self.name]);
        }
        // Its words go to where the agent's go, and it is not ended with the agent.
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(false).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return cannot_start(&self.launch.program, &error),
        };
        let pid = child.id();
        tracing::info!(disk = %self.id, dir = %self.place, pid, address = %self.address, "downstairs started");
        self.stands(DownstairsState::Starting, pid, None);
        let ended = tokio::select! {
            ended = child.wait() => ended,
            () = self.listens() => {
                self.stands(DownstairsState::Running, pid, None);
                child.wait().await
            }
        };
        match ended {
            Ok(status) => format!("it has ended: {status}; its log says why"),
            Err(error) => format!("it cannot be waited for: {error}"),
        }
    }

    /// Takes over one that an earlier life of the agent has started, and waits for its end.
    async fn adopt(&self, ours: Ours) -> String {
        let pid = ours.pid();
        tracing::info!(disk = %self.id, dir = %self.place, pid, address = %self.address, "downstairs found again");
        self.stands(DownstairsState::Starting, Some(pid), None);
        let ended = ours.ended();
        tokio::pin!(ended);
        let ended = tokio::select! {
            ended = &mut ended => ended,
            () = self.listens() => {
                self.stands(DownstairsState::Running, Some(pid), None);
                ended.await
            }
        };
        match ended {
            Ok(()) => "it has ended; its log says why".to_owned(),
            Err(error) => format!("it cannot be waited for: {error}"),
        }
    }

    async fn elsewhere(&self, pid: Option<u32>, why: String) {
        self.stands(DownstairsState::HeldElsewhere, pid, Some(why));
        sleep(PROBE).await;
    }

    /// Returns once somebody listens at the disk's address.
    async fn listens(&self) {
        while !matches!(timeout(CONNECT_LIMIT, TcpStream::connect(self.address)).await, Ok(Ok(_))) {
            sleep(LISTEN_PROBE).await;
        }
    }

    fn stands(&self, state: DownstairsState, pid: Option<u32>, reason: Option<String>) {
        self.standing.send_modify(|standing| {
            standing.state = state;
            standing.pid = pid;
            standing.reason = reason;
        });
    }
}

fn cannot_start(program: &Utf8Path, error: &io::Error) -> String {
    let error: &dyn Error = error;
    format!("cannot start {program}: {error}")
}
