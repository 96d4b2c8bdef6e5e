//! What the supervision of the Pantry has of its own; the machine is [`supervision`](crate::supervision)'s.
//!
//! ```text
//!   nobody has its directory, and nobody has needed it ──► not_started ── needed ──► another look
//!   nobody has its directory, and it is needed ──────────► started
//! ```
//!
//! It answers when somebody listens at its socket. One that runs is taken over, needed or not: it may hold volumes.

use crate::supervision::{
    Standing, State,
    ports::{self, Charge, Found},
};
use camino::{Utf8Path, Utf8PathBuf};
use sled_client::pantry::{PantryState, PantryStatus};
use std::{future::pending, net::IpAddr};
use supervised_process::{Holder, pantry};
use tokio::{net::UnixStream, sync::watch};
use tracing::Span;

/// The Pantry's process.
#[derive(Debug)]
pub struct Process {
    directory: Utf8PathBuf,
    socket: Utf8PathBuf,
    address: IpAddr,
    is_needed: watch::Receiver<bool>,
}

impl Process {
    pub(super) fn new(
        directory: &Utf8Path,
        socket: &Utf8Path,
        address: IpAddr,
        is_needed: watch::Receiver<bool>,
    ) -> Process {
        Process { directory: directory.to_owned(), socket: socket.to_owned(), address, is_needed }
    }
}

impl Charge for Process {
    fn span(&self) -> Span {
        tracing::info_span!("pantry", directory = %self.directory)
    }

    async fn look(&self) -> Result<Found, String> {
        let directory = self.directory.clone();
        Ok(match ports::look(move || pantry::look(&directory)).await? {
            Holder::Nobody if *self.is_needed.borrow() => Found::Nobody,
            Holder::Nobody => Found::NotNow(None),
            Holder::Ours(ours, _) => Found::Ours(ours),
            Holder::Unknown { pid, why } => {
                Found::Elsewhere { pid, why: format!("a process has its directory, and {why}") }
            }
        })
    }

    async fn worth_another_look(&self) {
        let mut is_needed = self.is_needed.clone();
        if is_needed.wait_for(|is_needed| *is_needed).await.is_err() {
            // Nobody will ever need it: the agent ends.
            pending::<()>().await;
        }
    }

    fn arguments(&self) -> Vec<String> {
        let own = pantry::arguments(&self.directory, &self.socket);
        own.into_iter().chain(pantry::source_arguments(self.address)).collect()
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
