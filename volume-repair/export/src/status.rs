//! What an export says of itself: plain data. What it says of the volume is that one's own [`VolumeStatus`].

use crate::{door::DoorStatus, notices::NoticesStatus, repairs::RepairStatus};
use serde::{Deserialize, Serialize};
use std::num::NonZeroU64;
use volume_layers::VolumeStatus;

/// An export, and the volume that it serves. A part of the outside contract, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportStatus {
    /// Its process.
    pub pid: u32,
    /// Where clients come: `unix:PATH` or `tcp:ADDRESS:PORT`.
    pub listen: String,
    /// Milliseconds since it began.
    pub running_ms: u64,
    /// Clients that are connected.
    pub clients: u64,
    /// Milliseconds since the last one was, or since it began; 0 while one is.
    #[serde(default)]
    pub unused_ms: u64,
    /// Where else clients come, if they do.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doors: Vec<DoorStatus>,
    /// Whether it ends when what is under way was answered.
    pub is_stopping: bool,
    /// With how many bytes in a second members are filled at most, of each region set; none if that was not said.
    #[serde(default)]
    pub repair_bytes_per_second: Option<NonZeroU64>,
    /// The members that are filled, and the last ones that were.
    #[serde(default)]
    pub repairs: Vec<RepairStatus>,
    /// What of them the coordinator was not told yet; none if nobody is told.
    #[serde(default)]
    pub notices: Option<NoticesStatus>,
    /// What the volume believes: under `upstairs` if it is one region set, and under `layers` otherwise.
    #[serde(flatten)]
    pub volume: VolumeStatus,
}
