//! What the supervision of the Pantry has of its own; the machine is [`supervision`](crate::supervision)'s.
//!
//! ```text
//!   nobody has its directory, and nobody has needed it ──► not_started ── needed ──► another look
//!   nobody has its directory, and it is needed ──────────► started
//! ```
//!
//! It answers when somebody listens at its socket. One that runs is taken over: somebody has needed it in an earlier life of the agent, so it is
//! needed in this one, and started again if it dies.

use crate::supervision::{
    Standing, State,
    ports::{self, Charge, Found},
};
use camino::{Utf8Path, Utf8PathBuf};
use sled_client::pantry::{PantryState, PantryStatus};
use supervised_process::{Holder, pantry};
use tokio::{net::UnixStream, sync::watch};
use tracing::Span;

/// The Pantry's process.
#[derive(Debug)]
pub struct Process {
    directory: Utf8PathBuf,
    socket: Utf8PathBuf,
    arguments: Vec<String>,
    needed: watch::Sender<bool>,
}

impl Process {
    pub(super) fn new(
        directory: &Utf8Path,
        socket: &Utf8Path,
        arguments: Vec<String>,
        needed: watch::Sender<bool>,
    ) -> Process {
        Process { directory: directory.to_owned(), socket: socket.to_owned(), arguments, needed }
    }
}

impl Charge for Process {
    fn span(&self) -> Span {
        tracing::info_span!("pantry", directory = %self.directory)
    }

    async fn look(&self) -> Result<Found, String> {
        let directory = self.directory.clone();
        Ok(match ports::look(move || pantry::look(&directory)).await? {
            Holder::Nobody if *self.needed.borrow() => Found::Nobody,
            Holder::Nobody => Found::NotNow(None),
            Holder::Ours(ours, _) => {
                self.needed.send_replace(true);
                Found::Ours(ours)
            }
            Holder::Unknown { pid, why } => {
                Found::Elsewhere { pid, why: format!("a process has its directory, and {why}") }
            }
        })
    }

    async fn worth_another_look(&self) {
        // It is told from here, too, so there is always somebody who may tell.
        let _ = self.needed.subscribe().wait_for(|is_needed| *is_needed).await;
    }

    fn arguments(&self) -> Vec<String> {
        self.arguments.clone()
    }

    async fn answers(&self) -> bool {
        UnixStream::connect(&self.socket).await.is_ok()
    }
}

/// As it is told.
pub(super) fn status(standing: &Standing) -> PantryStatus {
    let Standing { state, pid, restarts, reason } = standing.clone();
    let (state, reason) = match state {
        State::NotLooked => (PantryState::NotStarted, Some("its directory was not looked at yet".to_owned())),
        State::Idle => (PantryState::NotStarted, reason),
        State::Starting => (PantryState::Starting, reason),
        State::Running => (PantryState::Running, reason),
        State::BackingOff => (PantryState::BackingOff, reason),
        State::HeldElsewhere => (PantryState::HeldElsewhere, reason),
    };
    PantryStatus { state, pid, restarts, reason }
}
