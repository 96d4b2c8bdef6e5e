//! A door: where clients come, what they are offered there, and how many may be in at a time. A volume has one from the start, and others that
//! are opened and closed while it is in use.
//!
//! ```text
//!   open ──to be closed──► draining ──what was asked is answered──► flushing ──durable, or it cannot be──► gone
//!                              └───────────────────── CLOSE_MAX, whatever is under way ───────────────────────►┘
//! ```
//!
//! Open alone lets clients in. From draining on nobody comes, and whoever asks is told that it ends (`ESHUTDOWN`); only gone are they
//! cut off. Gone is terminal, and the loop alone moves it. A crash of the process in each state leaves the name of a unix socket, which the
//! next one that listens there removes; what was acknowledged and not flushed is as with every crash.

use crate::{
    listener::{Address, Listener},
    offer::ExportError,
};
use nbd_server::{Access, Exports};
use serde::{Deserialize, Serialize};
use std::{fmt, sync::Arc, time::Duration};

/// Doors at a time, with the one from the start: each way to come there is (unix and TCP, to read and to write), and as many again.
pub const DOORS_MAX: usize = 8;

/// How long what clients of a door have asked, and what they have written, may take when it is closed. Members that are away need not come back.
pub(crate) const CLOSE_MAX: Duration = Duration::from_secs(5);

/// Which door: no second one of an export ever has the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DoorId(pub u64);

impl fmt::Display for DoorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A door that is to be opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DoorOrder {
    /// Where. Port 0 is any port.
    pub address: Address,
    /// What clients have to call the volume; if it is empty, that is its name.
    pub name: String,
    /// Whether they may only read. If the volume is only read, they may only read in any case.
    pub is_read_only: bool,
    /// Clients at a time; one more is not let in.
    pub clients_max: usize,
}

/// One that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenDoor {
    /// Which.
    pub id: DoorId,
    /// Where, with its port.
    pub address: Address,
}

/// A door that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedDoor {
    /// Clients that were cut off.
    pub clients: u64,
    /// Whether all that they had written was durable before.
    pub is_flushed: bool,
}

/// Why a door is open still, or was not closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DoorError {
    /// There is none, or none any more; or it is being closed.
    #[error("there is no door {0}")]
    NotThere(DoorId),
    /// Somebody is in.
    #[error("{clients} clients use door {id}")]
    InUse {
        /// Which.
        id: DoorId,
        /// How many.
        clients: u64,
    },
}

/// A door, as it is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorStatus {
    /// Which.
    pub id: DoorId,
    /// Where: `unix:PATH` or `tcp:ADDRESS:PORT`.
    pub listen: String,
    /// What clients call the volume.
    pub name: String,
    /// Whether they may only read.
    pub read_only: bool,
    /// Clients that use it.
    pub clients: u64,
    /// Clients at a time.
    pub clients_max: u64,
    /// Clients that were not let in, since it was opened.
    pub clients_refused: u64,
}

/// What is kept of one.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) id: DoorId,
    /// None from draining on.
    pub(crate) listener: Option<Listener>,
    pub(crate) exports: Arc<Exports>,
    pub(crate) clients_max: usize,
    /// Somebody may be waiting to be accepted, who was not for lack of files, most likely. Nobody tells of him again.
    pub(crate) is_to_accept: bool,
    pub(crate) refused: u64,
}

/// What is offered at a door, of what is offered at the first one.
pub(crate) fn exports(all: &Exports, order: &DoorOrder) -> Result<Exports, ExportError> {
    let own = all.iter().next().expect("the volume is offered").as_ref().clone();
    let access = if order.is_read_only { Access::ReadOnly } else { own.access };
    let mut exports = Exports::new(all.payload_bytes_max()).map_err(ExportError::Export)?;
    exports
        .add(nbd_server::Export { name: order.name.clone(), access, ..own })
        .map_err(ExportError::Export)?;
    Ok(exports)
}

impl Door {
    pub(crate) fn is_read_only(&self) -> bool {
        self.exports.iter().all(|export| export.access == Access::ReadOnly)
    }

    pub(crate) fn status(&self, clients: u64) -> DoorStatus {
        let name = self.exports.iter().next().map(|export| export.name.clone());
        DoorStatus {
            id: self.id,
            listen: self.listener.as_ref().map(|listener| listener.address().to_string()).unwrap_or_default(),
            name: name.unwrap_or_default(),
            read_only: self.is_read_only(),
            clients,
            clients_max: self.clients_max as u64,
            clients_refused: self.refused,
        }
    }
}
