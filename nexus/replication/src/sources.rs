//! Which holder serves the next copy of one artifact: the one that serves the fewest now.

use crate::board::{Board, Row, count};
use ids::SledId;
use std::{
    cmp::Reverse,
    collections::{BTreeSet, BinaryHeap},
};

/// Sources named after the first: enough to survive two peers that vanish together. More would only lengthen the
/// request: a target that cannot reach four peers in a row has a problem of its own, and the next plan names others.
const FALLBACK_SOURCES_MAX: usize = 3;

/// The holders of one artifact, by how many copies they serve.
///
/// Loads change while other artifacts take their sources, so entries are checked when they come up and put back
/// with their current load: loads only grow within one plan, so what comes up current is the least.
#[derive(Debug)]
pub(crate) struct SourcePicker {
    /// `(copies served, tie-break, column)`; holders at their limit are left out.
    queue: BinaryHeap<Reverse<(usize, usize, usize)>>,
    /// Where in the list of holders the next copy's fallbacks begin.
    next_fallback: usize,
}

/// What [`SourcePicker::pick`] found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Picked {
    /// These columns, best first.
    Sources(Vec<usize>),
    /// Some holder has not failed for this target, but none of those is free.
    Busy,
    /// Every holder has failed for this target.
    AllFailed,
}

impl SourcePicker {
    pub(crate) fn new(board: &Board<'_>, row: &Row) -> SourcePicker {
        let limit = count(board.inputs.policy.limits.transfers_per_source);
        let turn = offset(board, row, row.sources.len());
        let queue = row
            .sources
            .iter()
            .enumerate()
            .filter(|(_, column)| board.columns[**column].serving < limit)
            .map(|(position, column)| {
                let tie = (position + row.sources.len() - turn) % row.sources.len();
                Reverse((board.columns[*column].serving, tie, *column))
            })
            .collect();
        SourcePicker { queue, next_fallback: turn }
    }

    /// The sources for a copy to a sled for which those in `failed` have failed.
    pub(crate) fn pick(
        &mut self,
        board: &mut Board<'_>,
        row: usize,
        failed: Option<&BTreeSet<SledId>>,
    ) -> Picked {
        let failed = FailedColumns::new(board, row, failed);
        if failed.columns.len() == board.rows[row].sources.len() {
            return Picked::AllFailed;
        }
        match self.least_loaded(board, &failed) {
            Some(first) => Picked::Sources(self.with_fallbacks(board, row, first, &failed)),
            None => Picked::Busy,
        }
    }

    /// The same when every holder has failed: the back-off is over, so they are tried again.
    pub(crate) fn pick_again(&mut self, board: &mut Board<'_>, row: usize) -> Option<Vec<usize>> {
        let none = FailedColumns { columns: BTreeSet::new() };
        let first = self.least_loaded(board, &none)?;
        Some(self.with_fallbacks(board, row, first, &none))
    }

    fn least_loaded(&mut self, board: &mut Board<'_>, failed: &FailedColumns) -> Option<usize> {
        let limit = count(board.inputs.policy.limits.transfers_per_source);
        let mut passed_over = Vec::new();
        let mut found = None;
        while let Some(Reverse((load, tie, column))) = self.queue.pop() {
            let serving = board.columns[column].serving;
            if serving >= limit {
                continue;
            }
            if serving != load {
                self.queue.push(Reverse((serving, tie, column)));
            } else if failed.columns.contains(&column) {
                passed_over.push(Reverse((load, tie, column)));
            } else {
                board.columns[column].serving += 1;
                self.queue.push(Reverse((serving + 1, tie, column)));
                found = Some(column);
                break;
            }
        }
        self.queue.extend(passed_over);
        found
    }

    fn with_fallbacks(
        &mut self,
        board: &Board<'_>,
        row: usize,
        first: usize,
        failed: &FailedColumns,
    ) -> Vec<usize> {
        let holders = &board.rows[row].sources;
        let start = self.next_fallback % holders.len();
        self.next_fallback = start + 1;
        let others = holders[start..].iter().chain(&holders[..start]).copied();
        let usable = others.filter(|column| *column != first && !failed.columns.contains(column));
        std::iter::once(first).chain(usable.take(FALLBACK_SOURCES_MAX)).collect()
    }
}

/// The holders that have failed for one target.
struct FailedColumns {
    columns: BTreeSet<usize>,
}

impl FailedColumns {
    fn new(board: &Board<'_>, row: usize, failed: Option<&BTreeSet<SledId>>) -> FailedColumns {
        let holders = &board.rows[row].sources;
        let columns = failed
            .into_iter()
            .flatten()
            .filter_map(|sled| board.column_of(*sled))
            .filter(|column| holders.binary_search(column).is_ok())
            .collect();
        FailedColumns { columns }
    }
}

/// Where in a list of `length` to begin: another place for each artifact and each pass, so that equals take turns.
pub(crate) fn offset(board: &Board<'_>, row: &Row, length: usize) -> usize {
    let [a, b, c, d, e, f, g, h, ..] = row.hash.0;
    let mixed = u64::from_le_bytes([a, b, c, d, e, f, g, h]).wrapping_add(board.inputs.rotation);
    let length = u64::try_from(length.max(1)).expect("a length fits into 64 bits");
    usize::try_from(mixed % length).expect("less than a length")
}
