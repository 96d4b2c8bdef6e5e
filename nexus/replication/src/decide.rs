//! The decisions, in the order of their urgency:
//!
//! ```text
//!  lay out          first copies               copies                        report
//! ┌─────────┐  ┌───────────────────────┐  ┌──────────────────────────┐  ┌──────────────────┐
//! │ Inputs  │  │ no sled can serve it: │  │ rarest first, then large │  │ cells, blocked,  │
//! │  → rows │─▶│ one PUT, largest      │─▶│ 1. up to min_replication │─▶│ releasable,      │
//! │ columns │  │ first, to the sled    │  │ 2. everybody else        │  │ summary          │
//! │  slots  │  │ with least coming     │  │ from the least busy      │  │                  │
//! └─────────┘  └───────────────────────┘  └──────────────────────────┘  └──────────────────┘
//! ```
//!
//! Each step closes cells: with `Starting`, or with the reason why not. At the end none is open.

use crate::{
    Blocked, Cell, CellTable, How, Inputs, Plan,
    board::{Board, count},
    report,
    sources::{Picked, SourcePicker, offset},
};
use ids::ArtifactHash;
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// Decides what to start now. Pure: equal inputs give equal plans.
///
/// What every plan keeps, whatever the inputs are:
///
/// - Transfers go to ready sleds only, to each at most one for an artifact, counting those in flight; and never to
///   one that has a verified copy, that backs off, or that has no dataset to write to.
/// - Each source is ready, serves its depot, and has a verified copy. Sources that failed for the target come up
///   only when nobody else can serve it, the coordinator included.
/// - A PUT is for an artifact that is staged here and that no sled can serve (or none from which the target can
///   fetch it).
/// - While some sled can serve it, a PUT is never the `min_replication + 1`st. While none can, what was spent on sleds
///   that are away does not count (the bytes are here, and somebody is to have them), and a further PUT starts only
///   when all that are under way lag, fewer than `min_replication` of them.
/// - All [`Limits`](crate::Limits) hold, counting what is in flight.
/// - Nothing that fewer than `min_replication` sleds can serve is releasable.
#[must_use]
pub fn plan(inputs: &Inputs) -> Plan {
    let mut board = Board::lay_out(inputs);
    let blocked = start_first_copies(&mut board);
    start_copies(&mut board);

    let Board { rows, columns, cells, started, .. } = board;
    let cells = cells.into_iter().map(|cell| cell.expect("every cell was decided")).collect();
    let cells = CellTable::new(
        rows.iter().map(|row| row.hash).collect(),
        columns.iter().map(|column| column.sled).collect(),
        cells,
    );
    let releasable = report::releasable(inputs, &rows);
    let summary = report::summary(inputs, &rows, &cells, &started, &blocked, &releasable);
    Plan { generation: inputs.wanted.generation, start: started, blocked, releasable, cells, summary }
}

/// Starts one PUT of each artifact that no sled can serve, as far as the limits allow, and closes those rows.
fn start_first_copies(board: &mut Board<'_>) -> BTreeMap<ArtifactHash, Blocked> {
    let mut blocked = BTreeMap::new();
    let mut order: Vec<usize> =
        (0..board.rows.len()).filter(|row| board.rows[*row].sources.is_empty()).collect();
    order.sort_by_key(|row| (Reverse(board.rows[*row].wanted.size), board.rows[*row].hash));
    let mut targets = PutTargets::new(board);
    for row in order {
        let reason = match why_no_put(board, row) {
            Err(why) => {
                blocked.insert(board.rows[row].hash, why);
                why.cell()
            }
            Ok(Some(wait)) => wait,
            Ok(None) if targets.start_put(board, row) => Cell::WaitingForFirstCopy,
            Ok(None) => Cell::WaitingForTargetSlot,
        };
        board.close_row(row, reason);
    }
    blocked
}

/// Why an artifact that no sled can serve is not sent now: it is blocked, or it waits for what the cell says.
fn why_no_put(board: &Board<'_>, row: usize) -> Result<Option<Cell>, Blocked> {
    let artifact = &board.rows[row];
    let wait = if artifact.coming > 0 {
        Cell::WaitingForFirstCopy
    } else if !artifact.wanted.staged_here {
        if artifact.wanted.staged_elsewhere {
            Cell::WaitingForOtherCoordinator
        } else if artifact.held_out_of_reach {
            return Err(Blocked::HoldersUnavailable);
        } else if board.holdings_unknown {
            return Err(Blocked::HoldersUnknown);
        } else {
            return Err(Blocked::NoSource);
        }
    } else if artifact.puts_moving >= count(board.inputs.policy.min_replication) {
        // One more would only make the others slower.
        Cell::WaitingForFirstCopy
    } else if board.put_slots == 0 {
        Cell::WaitingForPutSlot
    } else if board.transfer_slots == 0 {
        Cell::WaitingForTransferSlot
    } else {
        return Ok(None);
    };
    Ok(Some(wait))
}

/// The ready sleds, the one with the fewest bytes coming first, so that different artifacts go to different sleds.
struct PutTargets {
    /// `(bytes coming, tie-break, column)`.
    queue: BTreeSet<(u64, usize, usize)>,
}

impl PutTargets {
    fn new(board: &Board<'_>) -> PutTargets {
        let width = board.columns.len();
        let length = u64::try_from(width.max(1)).expect("a length fits into 64 bits");
        let turn = usize::try_from(board.inputs.rotation % length).expect("less than a length");
        let open = board.columns.iter().enumerate().filter(|(_, it)| it.ready && it.target_slots > 0);
        let queue =
            open.map(|(column, it)| (it.bytes_coming, (column + width - turn) % width, column)).collect();
        PutTargets { queue }
    }

    fn start_put(&mut self, board: &mut Board<'_>, row: usize) -> bool {
        let Some(place) =
            self.queue.iter().copied().find(|(_, _, column)| board.cell(row, *column).is_none())
        else {
            return false;
        };
        let (_, tie, column) = place;
        board.start(row, column, How::Put);
        self.queue.remove(&place);
        let target = &board.columns[column];
        if target.target_slots > 0 {
            self.queue.insert((target.bytes_coming, tie, column));
        }
        true
    }
}

/// Starts copies of what some sled can serve, first up to `min_replication` sleds each, then to everybody; closes
/// all cells that are left.
fn start_copies(board: &mut Board<'_>) {
    let mut order: Vec<usize> =
        (0..board.rows.len()).filter(|row| !board.rows[*row].sources.is_empty()).collect();
    order.retain(|row| board.has_open_cells(*row));
    let reach = |board: &Board<'_>, row: usize| board.rows[row].holders + board.rows[row].coming;
    order.sort_by_key(|row| {
        let artifact = &board.rows[*row];
        (reach(board, *row), Reverse(artifact.wanted.size), artifact.hash)
    });
    for row in &order {
        let missing = count(board.inputs.policy.min_replication).saturating_sub(reach(board, *row));
        start_copies_of(board, *row, missing);
    }
    for row in &order {
        start_copies_of(board, *row, usize::MAX);
    }
}

/// Starts up to `most` copies of one artifact. Stops early only with `most` reached; a cell that it passes is closed,
/// because what it lacks (a slot) cannot come back within this plan.
fn start_copies_of(board: &mut Board<'_>, row: usize, most: usize) {
    if most == 0 {
        return;
    }
    let width = board.columns.len();
    let first = offset(board, &board.rows[row], width);
    let mut picker: Option<SourcePicker> = None;
    let mut started = 0;
    for column in (first..width).chain(0..first) {
        if board.cell(row, column).is_some() {
            continue;
        }
        let wait = if board.transfer_slots == 0 {
            Some(Cell::WaitingForTransferSlot)
        } else if board.columns[column].target_slots == 0 {
            Some(Cell::WaitingForTargetSlot)
        } else {
            let picker = picker.get_or_insert_with(|| SourcePicker::new(board, &board.rows[row]));
            start_one(board, row, column, picker)
        };
        match wait {
            Some(reason) => board.set(row, column, reason),
            None => {
                started += 1;
                if started == most {
                    return;
                }
            }
        }
    }
}

/// Starts one transfer to a sled that has a free slot; answers why, if none can start.
fn start_one(board: &mut Board<'_>, row: usize, column: usize, picker: &mut SourcePicker) -> Option<Cell> {
    let pair = (board.columns[column].sled, board.rows[row].hash);
    let failed = board.inputs.failed_sources.get(&pair);
    let sources = match picker.pick(board, row, failed) {
        Picked::Sources(sources) => sources,
        Picked::Busy => return Some(Cell::WaitingForSourceSlot),
        Picked::AllFailed => {
            let artifact = &board.rows[row];
            if artifact.wanted.staged_here && artifact.puts_left > 0 {
                if board.put_slots == 0 {
                    return Some(Cell::WaitingForPutSlot);
                }
                board.start(row, column, How::Put);
                return None;
            }
            let Some(sources) = picker.pick_again(board, row) else {
                return Some(Cell::WaitingForSourceSlot);
            };
            sources
        }
    };
    let sources = sources.into_iter().map(|source| board.columns[source].sled).collect();
    board.start(row, column, How::Copy { sources });
    None
}
