//! That the Pantry runs once it is needed: started, found again by the next life of the agent, started again when it ends. Never ended here.
//!
//! ```text
//!        ┌──────────────► looks at the lock ◄───────────────────────────────────────┐
//!        │                │        │      │                                         │
//!   nobody has it, and    │        │      somebody else has it                      │
//!   nobody has needed it  │        │      held_elsewhere ─────── PROBE ────────────►│
//!   not_started ──needed──┤     ours has it                                         │
//!                         ▼        ▼                                                │
//!                        starting ──► running ──it has ended──► backing_off ── pause┘
//!                       (answers?)
//! ```
//!
//! Which process it is, provably, is seen as with a Downstairs: by the lock of its directory, its command line and its pidfd. Only
//! this task moves the standing. A crash of the agent between the start of the process and anything else is as its end.

use super::serve;
use crate::disks::Launch;
use camino::{Utf8Path, Utf8PathBuf};
use daemon::log::LogFormat;
use downstairs_process::{Holder, Ours};
use problem::chain;
use sled_client::pantry::{PantryState, PantryStatus};
use std::{net::IpAddr, process::Stdio, time::Duration};
use tokio::{
    net::UnixStream,
    process::Command,
    sync::watch,
    time::{Instant, sleep},
};

/// Between two looks at a directory that somebody else has.
const PROBE: Duration = Duration::from_secs(2);

/// Between two attempts to see whether a process that was started answers.
const LISTEN_PROBE: Duration = Duration::from_millis(20);

/// The pause before the first start after an end, and the longest one. It doubles.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Who has run for so long has started well: the pause begins anew.
const RAN_WELL: Duration = Duration::from_secs(60);

/// What the agent knows of the process before it has looked.
pub(super) const NOT_LOOKED: &str = "its directory was not looked at yet";

/// The task.
#[derive(Debug)]
pub struct Supervisor {
    directory: Utf8PathBuf,
    socket: Utf8PathBuf,
    address: IpAddr,
    launch: Launch,
    is_needed: watch::Receiver<bool>,
    standing: watch::Sender<PantryStatus>,
}

impl Supervisor {
    pub(super) fn new(
        directory: &Utf8Path,
        socket: &Utf8Path,
        address: IpAddr,
        launch: Launch,
        is_needed: watch::Receiver<bool>,
    ) -> Supervisor {
        let reason = Some(NOT_LOOKED.to_owned());
        let status = PantryStatus { state: PantryState::NotStarted, pid: None, restarts: 0, reason };
        let standing = watch::Sender::new(status);
        Supervisor {
            directory: directory.to_owned(),
            socket: socket.to_owned(),
            address,
            launch,
            is_needed,
            standing,
        }
    }

    pub(super) fn standing(&self) -> watch::Receiver<PantryStatus> {
        self.standing.subscribe()
    }

    /// Sees to it that it runs once it is needed, until `stop` turns true. The process goes on after that.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.supervise() => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }

    async fn supervise(&self) {
        let mut is_needed = self.is_needed.clone();
        let mut pause = PAUSE_MIN;
        loop {
            let directory = self.directory.clone();
            // It reads files. Before there is a directory nobody has it.
            let look = move || if directory.exists() { serve::look(&directory) } else { Ok(Holder::Nobody) };
            let found = tokio::task::spawn_blocking(look).await;
            let since = Instant::now();
            let end = match found {
                Ok(Ok(Holder::Nobody)) if *is_needed.borrow() => self.start().await,
                Ok(Ok(Holder::Nobody)) => {
                    self.stands(PantryState::NotStarted, None, None);
                    // An error is that nobody will ever need it: then the agent ends.
                    if is_needed.wait_for(|is_needed| *is_needed).await.is_err() {
                        return;
                    }
                    continue;
                }
                Ok(Ok(Holder::Ours(ours))) => self.adopt(ours).await,
                Ok(Ok(Holder::Unknown { pid, why })) => {
                    let why = format!("a process has its directory, and {why}");
                    self.stands(PantryState::HeldElsewhere, pid, Some(why));
                    sleep(PROBE).await;
                    continue;
                }
                Ok(Err(error)) => chain(&error),
                Err(panic) => panic.to_string(),
            };
            if since.elapsed() >= RAN_WELL {
                pause = PAUSE_MIN;
            }
            tracing::warn!(reason = end, pause_ms = pause.as_millis(), "the pantry has ended");
            self.stands(PantryState::BackingOff, None, Some(end));
            sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
            self.standing.send_modify(|standing| standing.restarts += 1);
        }
    }

    /// Starts it and waits for its end; tells how it ended.
    async fn start(&self) -> String {
        let mut command = Command::new(&self.launch.program);
        command.args(serve::arguments(&self.directory, &self.socket));
        command.args(serve::source_arguments(self.address));
        if self.launch.log_format == LogFormat::Json {
            command.arg("--log-json");
        }
        // Its words go to where the agent's go, and it is not ended with the agent.
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::null()).kill_on_drop(false).spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(error) => return format!("cannot start {}: {error}", self.launch.program),
        };
        let pid = child.id();
        tracing::info!(directory = %self.directory, pid, "pantry started");
        let ended = self.until_end(pid, child.wait()).await;
        ended.map_or_else(
            |error| format!("it cannot be waited for: {error}"),
            |status| format!("it has ended: {status}; its log says why"),
        )
    }

    /// Takes over one that an earlier life of the agent has started, and waits for its end.
    async fn adopt(&self, ours: Ours<Utf8PathBuf>) -> String {
        let pid = Some(ours.pid());
        tracing::info!(directory = %self.directory, pid, "pantry found again");
        let ended = self.until_end(pid, ours.ended()).await;
        ended.map_or_else(
            |error| format!("it cannot be waited for: {error}"),
            |()| "it has ended; its log says why".to_owned(),
        )
    }

    /// Waits for its end, and tells meanwhile once it answers.
    async fn until_end<T>(&self, pid: Option<u32>, ended: impl Future<Output = T>) -> T {
        self.stands(PantryState::Starting, pid, None);
        tokio::pin!(ended);
        tokio::select! {
            ended = &mut ended => ended,
            () = self.listens() => {
                self.stands(PantryState::Running, pid, None);
                ended.await
            }
        }
    }

    /// Returns once somebody listens at its socket.
    async fn listens(&self) {
        while UnixStream::connect(&self.socket).await.is_err() {
            sleep(LISTEN_PROBE).await;
        }
    }

    fn stands(&self, state: PantryState, pid: Option<u32>, reason: Option<String>) {
        self.standing.send_modify(|standing| {
            standing.state = state;
            standing.pid = pid;
            standing.reason = reason;
        });
    }
}
