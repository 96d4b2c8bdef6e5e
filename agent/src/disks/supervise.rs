//! What the supervision of a disk's Downstairs has of its own; the machine is [`supervision`](crate::supervision)'s.
//!
//! ```text
//!   disk missing ───────────────────────────────► waiting_for_disk ── PROBE ──► another look
//!   disk there, and nobody has it ──────────────► started
//!   ours has it, and listens somewhere else ────► held_elsewhere: an earlier config had it there
//! ```
//!
//! It answers when somebody listens at the disk's address. Before the disk is known to be there, nothing on it is looked at.

use super::{faults, place::Place};
use crate::{
    config::DiskSettings,
    supervision::{
        Standing, State,
        launch::Launch,
        ports::{Charge, Found},
    },
};
use camino::Utf8PathBuf;
use ids::DiskId;
use problem::chain;
use sled_client::disks::{DownstairsState, DownstairsStatus};
use std::net::SocketAddr;
use supervised_process::{Holder, downstairs};
use tokio::net::TcpStream;
use tracing::Span;

/// The Downstairs of one disk.
#[derive(Debug)]
pub struct Downstairs {
    id: DiskId,
    name: String,
    place: Place,
    address: SocketAddr,
    fault_socket: Option<Utf8PathBuf>,
}

impl Downstairs {
    pub(super) fn new(
        settings: &DiskSettings,
        address: SocketAddr,
        place: Place,
        launch: &Launch,
    ) -> Downstairs {
        let (id, name) = (settings.id, settings.name.clone());
        let fault_socket =
            launch.fault_sockets.as_deref().map(|directory| faults::socket(directory, &settings.name));
        Downstairs { id, name, place, address, fault_socket }
    }
}

impl Charge for Downstairs {
    fn span(&self) -> Span {
        tracing::info_span!("downstairs", disk = %self.id, dir = %self.place, address = %self.address)
    }

    async fn look(&self) -> Result<Found, String> {
        let dir = match self.place.ready().await {
            Ok(dir) => dir,
            Err(reason) => return Ok(Found::NotNow(Some(reason))),
        };
        // The disk may have begun to hang since.
        let look = move || Ok(downstairs::look(&dir).map_err(|error| chain(&error)));
        let looked = self.place.attempts().blocking("look at its lock", look).await;
        Ok(match looked.map_err(|error| chain(&error))?? {
            Holder::Nobody => Found::Nobody,
            Holder::Ours(ours, address) if address == self.address => Found::Ours(ours),
            Holder::Ours(ours, address) => {
                let why = format!(
                    "it listens on {address}, where an earlier config had it: `sled-agent disk stop {}`",
                    self.place.last_found()
                );
                Found::Elsewhere { pid: Some(ours.pid()), why }
            }
            Holder::Unknown { pid, why } => {
                Found::Elsewhere { pid, why: format!("a process has the disk, and {why}") }
            }
        })
    }

    fn arguments(&self) -> Vec<String> {
        let mut arguments = downstairs::arguments(&self.place.last_found(), self.address);
        if let Some(dataset) = self.place.zfs() {
            arguments.extend(["--zfs", dataset].map(str::to_owned));
        }
        if let Some(socket) = &self.fault_socket {
            let words = ["--fault-socket", socket.as_str(), "--fault-disk", &self.name];
            arguments.extend(words.map(str::to_owned));
        }
        arguments
    }

    async fn answers(&self) -> bool {
        TcpStream::connect(self.address).await.is_ok()
    }
}

/// As it is told.
pub(super) fn status(standing: &Standing, address: SocketAddr) -> DownstairsStatus {
    let Standing { state, pid, restarts, reason } = standing.clone();
    let (state, reason) = match state {
        State::NotLooked => {
            (DownstairsState::WaitingForDisk, Some("the disk was not looked at yet".to_owned()))
        }
        State::Idle => (DownstairsState::WaitingForDisk, reason),
        State::Starting => (DownstairsState::Starting, reason),
        State::Running => (DownstairsState::Running, reason),
        State::BackingOff => (DownstairsState::BackingOff, reason),
        State::HeldElsewhere => (DownstairsState::HeldElsewhere, reason),
    };
    DownstairsStatus { state, address, pid, restarts, reason }
}
