//! What recovery reports, read as anybody outside would, and the rules that its numbers keep.

use crate::{ledger::Finding, site::COORDINATOR};
use anyhow::{Context, Result};
use nexus_client::{OperatorClient, tasks::PassOutcome};
use serde::{Deserialize, Serialize};

const TASK: &str = "saga_recovery";

/// Since the coordinator started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryTotals {
    /// Sagas that were begun.
    pub started: u64,
    /// Sagas that were resumed.
    pub recovered: u64,
    /// Sagas that have ended.
    pub finished: u64,
    /// Sagas that were not created after all.
    pub given_up: u64,
    /// Sagas that another coordinator took over.
    pub fenced: u64,
    /// Sagas that are executed now.
    pub running: u64,
    /// Attempts to resume a saga that failed.
    pub failures: u64,
    /// Defects.
    pub missing: u64,
    /// Defects.
    pub bad_state: u64,
}

#[derive(Deserialize)]
struct PassReport {
    found: u64,
    recovered: u64,
    failed: u64,
    skipped: u64,
    deferred: u64,
    waiting_for_version: u64,
    #[serde(default)]
    unreadable: u64,
}

#[derive(Deserialize)]
struct Report {
    totals: RecoveryTotals,
    last_pass: PassReport,
}

/// One pass that was asked for and waited for: its totals, and what is wrong about it.
pub(crate) async fn pass(operator: &OperatorClient) -> Result<(RecoveryTotals, Vec<Finding>)> {
    let task =
        operator.task_activate(TASK, true).await.with_context(|| format!("{TASK} of {COORDINATOR}"))?;
    let pass = task.answer.context("an activation that is waited for is answered by a pass")?;
    if pass.outcome != PassOutcome::Succeeded {
        return Ok((RecoveryTotals::default(), vec![Finding::of_all(format!("recovery: {pass:?}"))]));
    }
    let report: Report = serde_json::from_value(pass.report.clone()).context("understanding its report")?;
    let wrong = wrong(&report).into_iter().map(|what| Finding::of_all(format!("{what}: {}", pass.report)));
    Ok((report.totals, wrong.collect()))
}

/// Rules that hold at every instant.
fn wrong(report: &Report) -> Vec<&'static str> {
    let RecoveryTotals {
        started,
        recovered,
        finished,
        given_up,
        fenced,
        running,
        failures,
        missing,
        bad_state,
    } = report.totals;
    let pass = &report.last_pass;
    let decided = pass.recovered
        + pass.failed
        + pass.skipped
        + pass.deferred
        + pass.waiting_for_version
        + pass.unreadable;
    let mut wrong = Vec::new();
    if started + recovered != finished + given_up + fenced + running {
        wrong.push("sagas are unaccounted for");
    }
    if pass.found != decided {
        wrong.push("what the pass found is unaccounted for");
    }
    if missing + bad_state + failures + pass.failed + fenced > 0 {
        wrong.push("recovery met what it never should");
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_broken_rule_of_a_report_is_told() {
        let sound = json!({
            "totals": {"started": 5, "recovered": 2, "finished": 3, "given_up": 1, "fenced": 0, "running": 3,
                       "resuming": 0, "failures": 0, "missing": 0, "bad_state": 0},
            "last_pass": {"outcome": "completed", "found": 4, "recovered": 1, "failed": 0, "skipped": 2,
                          "deferred": 1, "waiting_for_version": 0},
        });
        let judged = |pointer: &str| {
            let mut report = sound.clone();
            if !pointer.is_empty() {
                *report.pointer_mut(pointer).unwrap() = 9.into();
            }
            wrong(&serde_json::from_value(report).unwrap())
        };
        assert_eq!(judged(""), Vec::<&str>::new());
        assert_eq!(judged("/totals/finished"), ["sagas are unaccounted for"]);
        assert_eq!(judged("/last_pass/skipped"), ["what the pass found is unaccounted for"]);
        for never in ["/totals/missing", "/totals/bad_state", "/totals/failures"] {
            assert_eq!(judged(never), ["recovery met what it never should"], "{never}");
        }
    }
}
