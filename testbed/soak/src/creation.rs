//! Run A: clients create sagas while recovery is activated in a tight loop. Everything that it lists is somebody's; it must
//! take none of it.

use crate::{
    audit::Audit,
    ledger::{Counts, Finding},
    order::{CreationOrder, Progress, SoakSite},
    recovery::{self, RecoveryTotals},
    run::{Books, Run},
};
use anyhow::Result;
use serde::Serialize;

/// What run A saw.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CreationReport {
    /// The seed.
    pub seed: u64,
    /// Clients at once.
    pub clients: u32,
    /// Sagas that were acknowledged.
    pub acknowledged: u64,
    /// Sagas whose ends were seen, and whose effects were right.
    pub ended: u64,
    /// Nodes that ran more than once.
    pub repeated: u64,
    /// Passes of recovery that were asked for and waited for.
    pub activations: u64,
    /// Seconds that the creating took.
    pub seconds: f64,
    /// Recovery's own numbers at the end.
    pub totals: RecoveryTotals,
    /// The database afterwards.
    pub audit: Audit,
    /// What must not be.
    pub findings: Vec<Finding>,
}

/// Runs it.
///
/// # Errors
/// The run could not be made; what it finds wrong is in the report.
pub async fn run_creation(
    site: &SoakSite,
    order: &CreationOrder,
    progress: Progress<'_>,
) -> Result<CreationReport> {
    let mut run = Run::begin(site, "soak-creation", 0, order.clients, order.seed).await?;
    let mut activations = 0;
    while run.is_any_left()? {
        let (totals, findings) = recovery::pass(&run.operator).await?;
        activations += 1;
        // What one pass met, the next ones tell again.
        if run.ledger.findings().is_empty() {
            findings.into_iter().for_each(|finding| run.ledger.found(finding));
        }
        if totals.recovered > 0 && run.ledger.findings().is_empty() {
            run.ledger.found(Finding::of_all(format!("recovery took what was somebody's: {totals:?}")));
        }
        let counts = run.ledger.counts();
        progress(&format!("{} sagas, {activations} passes of recovery", counts.ended));
        if counts.acknowledged >= order.sagas && activations >= order.activations {
            run.ledger.close();
        }
    }
    let Books { counts, totals, audit, seconds, findings } = run.close(agree).await?;
    let Counts { acknowledged, ended, repeated, .. } = counts;
    Ok(CreationReport {
        seed: order.seed,
        clients: order.clients,
        acknowledged,
        ended,
        repeated,
        activations,
        seconds,
        totals,
        audit,
        findings,
    })
}

/// The books say the same.
fn agree(counts: Counts, totals: RecoveryTotals, audit: Audit) -> Vec<Finding> {
    let mut findings = Vec::new();
    let all = [counts.ended, totals.started, totals.finished, audit.rows.all, audit.rows.succeeded];
    if all.iter().any(|count| *count != counts.acknowledged) {
        let what = format!("{} were acknowledged, and the books say {all:?}", counts.acknowledged);
        findings.push(Finding::of_all(what));
    }
    let nothing = [
        ("nodes ran twice", counts.repeated),
        ("answers were lost", counts.lost_answers),
        ("sagas were given up", totals.given_up),
        ("sagas run although all have ended", totals.running),
        ("actions were undone", audit.events.undo_started),
    ];
    let there = nothing.into_iter().filter(|(_, count)| *count > 0);
    findings
        .extend(there.map(|(what, count)| Finding::of_all(format!("{count} {what}, and nobody was killed"))));
    findings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::RowCounts;

    #[test]
    fn every_book_that_says_otherwise_is_a_finding() {
        let counts = Counts { acknowledged: 5, ended: 5, ..Counts::default() };
        let totals = RecoveryTotals { started: 5, finished: 5, ..RecoveryTotals::default() };
        let rows = RowCounts { all: 5, succeeded: 5, ..RowCounts::default() };
        let audit = Audit { rows, ..Audit::default() };
        assert_eq!(agree(counts, totals, audit), []);
        assert_eq!(agree(Counts { ended: 4, ..counts }, totals, audit).len(), 1);
        assert_eq!(agree(Counts { repeated: 1, ..counts }, totals, audit).len(), 1);
        assert_eq!(agree(counts, RecoveryTotals { started: 6, running: 1, ..totals }, audit).len(), 2);
        let fewer = Audit { rows: RowCounts { all: 4, ..rows }, ..audit };
        assert_eq!(agree(counts, totals, fewer).len(), 1);
    }
}
