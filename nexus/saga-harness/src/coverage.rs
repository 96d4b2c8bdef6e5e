//! No kind without a proof: every kind that is registered has a report, of its version, in which each of its actions and
//! each undo has run.

use crate::report::Report;
use nexus_sagas::Kinds;
use thiserror::Error;

/// Kinds, actions or undos that nothing has proven.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the saga harness does not cover everything that is registered:\n{}", .missing.join("\n"))]
pub struct Uncovered {
    /// One line each.
    pub missing: Vec<String>,
}

/// Whether the reports cover all kinds, as the coordinator registers them.
///
/// # Errors
/// Something has no case, or no case that comes to it.
pub fn coverage(kinds: &Kinds, reports: &[Report]) -> Result<(), Uncovered> {
    if reports.iter().any(|report| report.is_replay) {
        return Ok(());
    }
    let mut missing = Vec::new();
    for (kind, version) in kinds.known() {
        let of_kind: Vec<_> =
            reports.iter().filter(|report| report.kind == kind && report.version == version).collect();
        if of_kind.is_empty() {
            missing.push(format!("  kind {kind} version {version} has no case: add one, see docs/SAGAS.md"));
            continue;
        }
        let has_run = |action: &str, undo: bool| {
            of_kind.iter().any(|report| report.executed.contains(&(action.to_owned(), undo)))
        };
        for action in kinds.actions_of(kind).unwrap_or_default() {
            if !has_run(&action.name, false) {
                missing.push(format!("  kind {kind}: no case has run the action {}", action.name));
            }
            if action.is_undone && !has_run(&action.name, true) {
                missing
                    .push(format!("  kind {kind}: no case has run the undo of the action {}", action.name));
            }
        }
    }
    if missing.is_empty() { Ok(()) } else { Err(Uncovered { missing }) }
}

/// [`coverage`], for a test.
///
/// # Panics
/// Something is not covered.
#[allow(clippy::panic, reason = "a test fails by panicking")]
pub fn assert_covered(kinds: &Kinds, reports: &[Report]) {
    if let Err(uncovered) = coverage(kinds, reports) {
        panic!("{uncovered}");
    }
}
