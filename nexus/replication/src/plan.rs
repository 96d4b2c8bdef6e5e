//! What the planner answers: what to start now, and for everything else why not.

use crate::{How, Summary};
use ids::{ArtifactHash, Generation, SledId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use utoipa::ToSchema;

/// One pass's decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The generation that was planned for. Transfers carry it, so a sled refuses those of an old plan. What is released
    /// must be the very bytes that were planned for: by the upload's own id, or in a transaction that finds this
    /// generation still the wanted one. A repository that was deleted and uploaded again in between needs its bytes
    /// afresh.
    pub generation: Generation,
    /// Transfers to start now, the most urgent first. All of them fit the limits; any may be left out.
    pub start: Vec<Start>,
    /// Artifacts whose bytes cannot be had now, and why.
    pub blocked: BTreeMap<ArtifactHash, Blocked>,
    /// Artifacts that this coordinator's staging area need not keep: at least `min_replication` sleds that can serve
    /// them hold verified copies.
    pub releasable: BTreeSet<ArtifactHash>,
    /// Where each wanted artifact stands on each sled.
    pub cells: CellTable,
    /// The same in numbers.
    pub summary: Summary,
}

/// A transfer to start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// What travels.
    pub hash: ArtifactHash,
    /// Where to.
    pub target: SledId,
    /// Where from.
    pub how: How,
}

/// Where one wanted artifact stands on one sled: what happens, or why nothing does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    /// The sled holds at least one verified copy. Its other M.2s are its own work.
    Complete,
    /// This plan starts a transfer.
    Starting,
    /// A transfer is under way.
    InFlight,
    /// The last transfer failed, and its back-off is not over.
    BackingOff,
    /// As many transfers to this sled are under way as may be.
    WaitingForTargetSlot,
    /// Every sled that could be the source serves as many copies as it may.
    WaitingForSourceSlot,
    /// The coordinator sends as many artifacts as it may.
    WaitingForPutSlot,
    /// As many transfers are under way as may be in all.
    WaitingForTransferSlot,
    /// No sled can serve it yet; one is getting it now, or `min_replication` of them are, slowly.
    WaitingForFirstCopy,
    /// No sled can serve it; another coordinator has the bytes and has to send them.
    WaitingForOtherCoordinator,
    /// Only sleds that cannot serve now hold it: not ready, or with a depot that peers cannot reach.
    HoldersUnavailable,
    /// Nobody is known to hold it, but some sled has not said yet what it holds.
    HoldersUnknown,
    /// Nobody has the bytes: a new upload is needed.
    NoSource,
    /// The sled has no M.2 that can be written.
    NoWritableDataset,
    /// The sled does not answer.
    SledUnreachable,
    /// The sled refuses the config.
    SledRefusing,
    /// The sled has not been asked yet.
    SledUnknown,
}

impl Cell {
    /// How many states there are.
    const STATES: usize = Cell::SledUnknown as usize + 1;
}

/// Why an artifact's bytes cannot be had now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Blocked {
    /// Not staged anywhere, and no sled has it: a new upload is needed.
    NoSource,
    /// Not staged anywhere, and no sled that has answered has it; some sled has not answered yet.
    HoldersUnknown,
    /// Not staged anywhere; the sleds that have it cannot serve it now. It goes on when one of them returns.
    HoldersUnavailable,
}

impl Blocked {
    /// What the sleds that wait for such an artifact show.
    #[must_use]
    pub fn cell(self) -> Cell {
        match self {
            Blocked::NoSource => Cell::NoSource,
            Blocked::HoldersUnknown => Cell::HoldersUnknown,
            Blocked::HoldersUnavailable => Cell::HoldersUnavailable,
        }
    }
}

/// Where each wanted artifact stands on each sled: dense, one byte per pair, because a large cluster has a million
/// of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CellTable {
    /// Sorted.
    hashes: Vec<ArtifactHash>,
    /// Sorted.
    sleds: Vec<SledId>,
    /// By artifact, then by sled: `hashes.len() * sleds.len()` of them.
    cells: Vec<Cell>,
}

impl CellTable {
    pub(crate) fn new(hashes: Vec<ArtifactHash>, sleds: Vec<SledId>, cells: Vec<Cell>) -> CellTable {
        assert_eq!(cells.len(), hashes.len() * sleds.len(), "one cell per artifact and sled");
        CellTable { hashes, sleds, cells }
    }

    /// Where `hash` stands on `sled`; none if the one is not wanted or the other not in service.
    #[must_use]
    pub fn get(&self, sled: SledId, hash: &ArtifactHash) -> Option<Cell> {
        let row = self.hashes.binary_search(hash).ok()?;
        let column = self.sleds.binary_search(&sled).ok()?;
        Some(self.cells[row * self.sleds.len() + column])
    }

    /// One artifact's row, by sled; empty if it is not wanted.
    pub fn row(&self, hash: &ArtifactHash) -> impl Iterator<Item = (SledId, Cell)> + '_ {
        let width = self.sleds.len();
        let cells = match self.hashes.binary_search(hash) {
            Ok(row) => &self.cells[row * width..(row + 1) * width],
            Err(_) => &[],
        };
        self.sleds.iter().copied().zip(cells.iter().copied())
    }

    /// How many pairs stand where. States without a pair are left out.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Cell, u64> {
        // A table by the state's number, because a map would be asked a million times.
        let mut counts = [(0_u64, None); Cell::STATES];
        for cell in &self.cells {
            let place = &mut counts[*cell as usize];
            *place = (place.0 + 1, Some(*cell));
        }
        counts.into_iter().filter_map(|(pairs, cell)| cell.map(|cell| (cell, pairs))).collect()
    }

    /// All of them, by artifact, then by sled.
    pub fn iter(&self) -> impl Iterator<Item = (SledId, ArtifactHash, Cell)> + '_ {
        self.hashes
            .iter()
            .flat_map(|hash| self.sleds.iter().map(move |sled| (*sled, *hash)))
            .zip(&self.cells)
            .map(|((sled, hash), cell)| (sled, hash, *cell))
    }
}
