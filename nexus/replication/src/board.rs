//! The planner's working copy of its inputs: ids become indexes, maps become one dense table of cells, and the
//! limits become counters that starting a transfer uses up.
//!
//! Lays out what is; decides nothing. [`decide`](crate::decide) fills the cells that are left open here and calls
//! [`Board::start`].
//!
//! Cost: one merge of each sled's sorted copies with the sorted wanted set, so O(sleds × artifacts), plus a binary
//! search for each transfer, back-off and failed source.

use crate::{Cell, Holdings, How, Inputs, SledView, Start, WantedArtifact};
use ids::{ArtifactHash, SledId};
use std::collections::BTreeSet;

/// One wanted artifact: a row of the table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) hash: ArtifactHash,
    pub(crate) wanted: WantedArtifact,
    /// Columns of the sleds that can serve it, ascending.
    pub(crate) sources: Vec<usize>,
    /// Ready sleds that hold it, whether or not they can serve it.
    pub(crate) holders: usize,
    /// Transfers under way that will add a ready holder soon: not to a sled that is away, not lagging.
    pub(crate) coming: usize,
    /// PUTs of it that are under way or started.
    pub(crate) puts_in_flight: usize,
    /// PUTs of it that are under way to ready sleds: their bytes move, however slowly.
    pub(crate) puts_moving: usize,
    /// PUTs that may still be spent on it while some sled can serve it.
    pub(crate) puts_left: usize,
    /// Whether a sled that cannot serve now is known to hold it.
    pub(crate) held_out_of_reach: bool,
}

/// One sled in service: a column of the table.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) sled: SledId,
    pub(crate) ready: bool,
    /// Transfers that may still be started towards it.
    pub(crate) target_slots: usize,
    /// Copies whose first source it is.
    pub(crate) serving: usize,
    /// Bytes of the artifacts under way to it.
    pub(crate) bytes_coming: u64,
}

/// All that one pass knows while it decides.
#[derive(Debug)]
pub(crate) struct Board<'a> {
    pub(crate) inputs: &'a Inputs,
    pub(crate) rows: Vec<Row>,
    pub(crate) columns: Vec<Column>,
    /// By row, then by column; `None` is still to be decided.
    pub(crate) cells: Vec<Option<Cell>>,
    /// Transfers that may still be started in all.
    pub(crate) transfer_slots: usize,
    /// PUTs that may still be started.
    pub(crate) put_slots: usize,
    /// Whether some sled has never said what it holds.
    pub(crate) holdings_unknown: bool,
    /// What was started, in order.
    pub(crate) started: Vec<Start>,
}

/// Limits and counts are kept in the machine's own integer, so that they index and compare without casts.
pub(crate) fn count(limit: std::num::NonZeroU32) -> usize {
    usize::try_from(limit.get()).unwrap_or(usize::MAX)
}

impl<'a> Board<'a> {
    pub(crate) fn lay_out(inputs: &'a Inputs) -> Board<'a> {
        let limits = &inputs.policy.limits;
        let puts = inputs.in_flight.iter().filter(|transfer| transfer.how == How::Put).count();
        let rows = inputs.wanted.artifacts.iter().map(|(hash, wanted)| Row::new(*hash, *wanted)).collect();
        let columns = inputs
            .sleds
            .iter()
            .map(|(sled, view)| Column::new(*sled, view, count(limits.transfers_per_target)))
            .collect();
        let mut board = Board {
            inputs,
            rows,
            columns,
            cells: vec![None; inputs.wanted.artifacts.len() * inputs.sleds.len()],
            transfer_slots: count(limits.transfers_total).saturating_sub(inputs.in_flight.len()),
            put_slots: count(limits.puts_total).saturating_sub(puts),
            holdings_unknown: false,
            started: Vec::new(),
        };
        board.lay_out_sleds();
        board.lay_out_transfers();
        board.lay_out_back_off();
        board.lay_out_puts_left();
        board
    }

    fn lay_out_sleds(&mut self) {
        for (column, view) in self.inputs.sleds.values().enumerate() {
            let (absent, last) = match view {
                SledView::Ready(holdings) => {
                    self.lay_out_ready(column, holdings);
                    continue;
                }
                SledView::Unreachable { last } => (Cell::SledUnreachable, last.as_ref()),
                SledView::Refusing { last } => (Cell::SledRefusing, last.as_ref()),
                SledView::Unknown => (Cell::SledUnknown, None),
            };
            self.holdings_unknown |= last.is_none();
            for row in 0..self.rows.len() {
                self.set(row, column, absent);
            }
            for row in
                last.into_iter().flat_map(|holdings| rows_held(&self.rows, holdings)).collect::<Vec<_>>()
            {
                self.rows[row].held_out_of_reach = true;
            }
        }
    }

    fn lay_out_ready(&mut self, column: usize, holdings: &Holdings) {
        if holdings.datasets_writable == 0 {
            for row in 0..self.rows.len() {
                self.set(row, column, Cell::NoWritableDataset);
            }
        }
        for row in rows_held(&self.rows, holdings).collect::<Vec<_>>() {
            self.set(row, column, Cell::Complete);
            let held = &mut self.rows[row];
            held.holders += 1;
            if holdings.depot_reachable {
                held.sources.push(column);
            } else {
                held.held_out_of_reach = true;
            }
        }
    }

    fn lay_out_transfers(&mut self) {
        for transfer in &self.inputs.in_flight {
            let target = self.column_of(transfer.target);
            let row = self.row_of(&transfer.hash);
            if let How::Copy { sources } = &transfer.how
                && let Some(source) = sources.first().and_then(|source| self.column_of(*source))
            {
                self.columns[source].serving += 1;
            }
            if let Some(target) = target {
                let size = row.map_or(0, |row| self.rows[row].wanted.size);
                let target = &mut self.columns[target];
                target.target_slots = target.target_slots.saturating_sub(1);
                target.bytes_coming = target.bytes_coming.saturating_add(size);
            }
            if let Some(row) = row {
                self.rows[row].puts_in_flight += usize::from(transfer.how == How::Put);
                if let Some(target) = target {
                    let moves = transfer.how == How::Put && self.columns[target].ready;
                    self.rows[row].puts_moving += usize::from(moves);
                    self.lay_out_arrival(row, target, transfer.lagging);
                }
            }
        }
    }

    /// A transfer towards a ready sled that does not hold the artifact yet.
    fn lay_out_arrival(&mut self, row: usize, column: usize, lagging: bool) {
        if !self.columns[column].ready || self.cell(row, column) == Some(Cell::Complete) {
            return;
        }
        // A target twice for one hash never comes from a plan, but two lives of the coordinator can cause it.
        let first = self.cell(row, column) != Some(Cell::InFlight);
        self.set(row, column, Cell::InFlight);
        self.rows[row].coming += usize::from(first && !lagging);
    }

    fn lay_out_back_off(&mut self) {
        for (sled, hash) in &self.inputs.backing_off {
            if let (Some(row), Some(column)) = (self.row_of(hash), self.column_of(*sled))
                && self.cell(row, column).is_none()
            {
                self.set(row, column, Cell::BackingOff);
            }
        }
    }

    /// While some sled can serve, a PUT is spent for as long as its copy is there or may be there: its target is ready
    /// with the copy, or not ready, or the PUT is still under way.
    fn lay_out_puts_left(&mut self) {
        let allowed = count(self.inputs.policy.min_replication);
        for row in 0..self.rows.len() {
            let hash = self.rows[row].hash;
            let in_flight_to = if self.rows[row].puts_in_flight == 0 {
                BTreeSet::new()
            } else {
                let puts = self.inputs.in_flight.iter().filter(|it| it.hash == hash && it.how == How::Put);
                puts.map(|transfer| transfer.target).collect()
            };
            let arrived = self.inputs.sent_to.get(&hash).into_iter().flatten().filter(|sled| {
                let Some(column) = self.column_of(**sled) else { return false };
                let lost = self.columns[column].ready && self.cell(row, column) != Some(Cell::Complete);
                !lost && !in_flight_to.contains(sled)
            });
            let spent = arrived.count() + self.rows[row].puts_in_flight;
            self.rows[row].puts_left = allowed.saturating_sub(spent);
        }
    }

    /// Starts a transfer and uses up what it takes.
    pub(crate) fn start(&mut self, row: usize, column: usize, how: How) {
        assert!(self.cell(row, column).is_none(), "only an open cell can start");
        self.set(row, column, Cell::Starting);
        let artifact = &mut self.rows[row];
        let target = &mut self.columns[column];
        artifact.coming += 1;
        target.target_slots = take(target.target_slots, "transfers to one sled");
        target.bytes_coming = target.bytes_coming.saturating_add(artifact.wanted.size);
        self.transfer_slots = take(self.transfer_slots, "transfers in all");
        if how == How::Put {
            artifact.puts_in_flight += 1;
            artifact.puts_moving += 1;
            // A first copy is sent whatever was spent on sleds that are away now.
            artifact.puts_left = artifact.puts_left.saturating_sub(1);
            self.put_slots = take(self.put_slots, "PUTs in all");
        }
        self.started.push(Start { hash: artifact.hash, target: target.sled, how });
    }

    pub(crate) fn cell(&self, row: usize, column: usize) -> Option<Cell> {
        self.cells[row * self.columns.len() + column]
    }

    pub(crate) fn set(&mut self, row: usize, column: usize, cell: Cell) {
        let width = self.columns.len();
        self.cells[row * width + column] = Some(cell);
    }

    /// Gives every cell of the row that is still open the same reason.
    pub(crate) fn close_row(&mut self, row: usize, reason: Cell) {
        let width = self.columns.len();
        for cell in self.cells[row * width..(row + 1) * width].iter_mut().filter(|cell| cell.is_none()) {
            *cell = Some(reason);
        }
    }

    pub(crate) fn has_open_cells(&self, row: usize) -> bool {
        let width = self.columns.len();
        self.cells[row * width..(row + 1) * width].contains(&None)
    }

    pub(crate) fn column_of(&self, sled: SledId) -> Option<usize> {
        self.columns.binary_search_by_key(&sled, |column| column.sled).ok()
    }

    fn row_of(&self, hash: &ArtifactHash) -> Option<usize> {
        self.rows.binary_search_by_key(hash, |row| row.hash).ok()
    }
}

impl Row {
    fn new(hash: ArtifactHash, wanted: WantedArtifact) -> Row {
        Row {
            hash,
            wanted,
            sources: Vec::new(),
            holders: 0,
            coming: 0,
            puts_in_flight: 0,
            puts_moving: 0,
            puts_left: 0,
            held_out_of_reach: false,
        }
    }
}

impl Column {
    fn new(sled: SledId, view: &SledView, target_slots: usize) -> Column {
        Column { sled, ready: matches!(view, SledView::Ready(_)), target_slots, serving: 0, bytes_coming: 0 }
    }
}

/// The rows of which the sled holds at least one verified copy: a merge of two sorted sequences.
fn rows_held<'b>(rows: &'b [Row], holdings: &'b Holdings) -> impl Iterator<Item = usize> + use<'b> {
    let mut row = 0;
    holdings.copies.iter().filter(|(_, copies)| **copies > 0).filter_map(move |(hash, _)| {
        while row < rows.len() && rows[row].hash < *hash {
            row += 1;
        }
        (row < rows.len() && rows[row].hash == *hash).then_some(row)
    })
}

fn take(slots: usize, of_what: &str) -> usize {
    slots.checked_sub(1).unwrap_or_else(|| panic!("the limit on {of_what} was checked before the start"))
}
