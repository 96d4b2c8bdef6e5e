//! What follows from the decisions: what staging may release, and the plan in numbers.

use crate::{
    Blocked, Cell, CellTable, How, Inputs, SledView, Start, Summary,
    board::{Row, count},
    summary::{ArtifactCounts, SledCounts, TransferCounts},
};
use ids::ArtifactHash;
use std::collections::{BTreeMap, BTreeSet};

/// Staged artifacts that enough sleds can serve. A copy behind a depot that nobody can reach does not count: it could
/// not replace the staged one. While a PUT still reads the staged bytes they stay.
pub(crate) fn releasable(inputs: &Inputs, rows: &[Row]) -> BTreeSet<ArtifactHash> {
    let enough = count(inputs.policy.min_replication);
    rows.iter()
        .filter(|row| row.wanted.staged_here && row.puts_in_flight == 0 && row.sources.len() >= enough)
        .map(|row| row.hash)
        .collect()
}

pub(crate) fn summary(
    inputs: &Inputs,
    rows: &[Row],
    cells: &CellTable,
    started: &[Start],
    blocked: &BTreeMap<ArtifactHash, Blocked>,
    releasable: &BTreeSet<ArtifactHash>,
) -> Summary {
    let cells = cells.counts();
    let incomplete: u64 =
        cells.iter().filter(|(cell, _)| **cell != Cell::Complete).map(|(_, pairs)| pairs).sum();
    let sleds = sleds(inputs);
    let in_service = number(inputs.sleds.len());
    Summary {
        generation: inputs.wanted.generation,
        sleds,
        artifacts: artifacts(inputs, rows, blocked, releasable),
        cells,
        transfers: transfers(inputs, started),
        fully_replicated: incomplete == 0 && (rows.is_empty() || sleds.ready == in_service),
    }
}

fn sleds(inputs: &Inputs) -> SledCounts {
    let mut counts = SledCounts::default();
    for view in inputs.sleds.values() {
        match view {
            SledView::Ready(_) => counts.ready += 1,
            SledView::Unreachable { .. } => counts.unreachable += 1,
            SledView::Refusing { .. } => counts.refusing += 1,
            SledView::Unknown => counts.unknown += 1,
        }
    }
    counts
}

fn artifacts(
    inputs: &Inputs,
    rows: &[Row],
    blocked: &BTreeMap<ArtifactHash, Blocked>,
    releasable: &BTreeSet<ArtifactHash>,
) -> ArtifactCounts {
    let enough = count(inputs.policy.min_replication);
    let mut blocked_by_reason = BTreeMap::new();
    for reason in blocked.values() {
        *blocked_by_reason.entry(*reason).or_insert(0) += 1;
    }
    ArtifactCounts {
        wanted: number(rows.len()),
        on_every_sled: number(rows.iter().filter(|row| row.holders == inputs.sleds.len()).count()),
        at_min_replication: number(rows.iter().filter(|row| row.holders >= enough).count()),
        staged_here: number(rows.iter().filter(|row| row.wanted.staged_here).count()),
        releasable: number(releasable.len()),
        blocked: blocked_by_reason,
    }
}

fn transfers(inputs: &Inputs, started: &[Start]) -> TransferCounts {
    let puts_in_flight = inputs.in_flight.iter().filter(|transfer| transfer.how == How::Put).count();
    let puts_started = started.iter().filter(|start| start.how == How::Put).count();
    TransferCounts {
        puts_in_flight: number(puts_in_flight),
        copies_in_flight: number(inputs.in_flight.len() - puts_in_flight),
        puts_started: number(puts_started),
        copies_started: number(started.len() - puts_started),
        bytes_started: started
            .iter()
            .filter_map(|start| inputs.wanted.artifacts.get(&start.hash))
            .fold(0, |sum, artifact| sum.saturating_add(artifact.size)),
    }
}

fn number(count: usize) -> u64 {
    u64::try_from(count).expect("a count fits into 64 bits")
}
