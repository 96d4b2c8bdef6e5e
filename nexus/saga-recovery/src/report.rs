//! Every number of recovery, and the rules that they obey. Serialised as it is into the task's report; one `Display`
//! prints it for everybody.
//!
//! - Of a pass: found = recovered + failed + skipped + deferred + waiting for version + unreadable.
//! - Since the start: started + recovered = finished + given up + fenced + running. At every instant, not only at rest:
//!   all of them are read under one lock.

use crate::types::SagaKey;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::VecDeque, fmt};
use utoipa::ToSchema;

/// Recoveries and failures that are kept, each.
const RECENT_MAX: usize = 128;

/// Since the coordinator started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Totals {
    /// Sagas that were begun here.
    pub started: u64,
    /// Sagas that were resumed here.
    pub recovered: u64,
    /// Sagas whose rows have ended.
    pub finished: u64,
    /// Sagas that were not created after all.
    pub given_up: u64,
    /// Sagas that another coordinator took over while they were executed here.
    pub fenced: u64,
    /// Sagas that are executed here now.
    pub running: u64,
    /// Sagas that are being resumed now; not yet counted as recovered.
    pub resuming: u64,
    /// Attempts to resume a saga that failed.
    pub failures: u64,
    /// Sagas that are claimed here and unknown to their executor: a defect, and never expected.
    pub missing: u64,
    /// Sagas whose executor says something else than their row: a defect, and never expected.
    pub bad_state: u64,
}

/// One pass that has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PassReport {
    /// Unfinished sagas that were listed.
    pub found: u64,
    /// Nobody executed them; now they are executed here.
    pub recovered: u64,
    /// They could not be resumed.
    pub failed: u64,
    /// They are executed here.
    pub skipped: u64,
    /// To be resumed, but not in this pass.
    pub deferred: u64,
    /// Of these, those that the pass had no time for; the next one follows at once.
    #[serde(default)]
    pub not_reached: u64,
    /// Of a kind or version that this build does not know.
    pub waiting_for_version: u64,
    /// Something of them cannot be read. Looked at again with the pauses of what failed, and counted here meanwhile.
    #[serde(default)]
    pub unreadable: u64,
}

/// One saga that was resumed, or could not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecentSaga {
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// Which.
    pub saga: SagaKey,
    /// Why it could not be resumed; none if it was.
    pub reason: Option<String>,
}

/// How the last pass ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum LastPass {
    /// There was none.
    #[default]
    NeverRun,
    /// The sagas could not be listed.
    ListingFailed {
        /// Why.
        reason: String,
    },
    /// Every listed saga was decided about.
    Completed(PassReport),
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RecoveryReport {
    /// Since the coordinator started.
    pub totals: Totals,
    /// The last pass.
    pub last_pass: LastPass,
    /// The sagas that were resumed last, newest last; at most 128.
    #[schema(value_type = Vec<RecentSaga>)]
    pub recent_recoveries: VecDeque<RecentSaga>,
    /// The failures to resume one, newest last; at most 128.
    #[schema(value_type = Vec<RecentSaga>)]
    pub recent_failures: VecDeque<RecentSaga>,
}

impl Totals {
    /// Whether the rule holds.
    #[must_use]
    pub fn add_up(&self) -> bool {
        self.started + self.recovered == self.finished + self.given_up + self.fenced + self.running
    }
}

impl PassReport {
    /// Whether the rule holds.
    #[must_use]
    pub fn adds_up(&self) -> bool {
        let apart = self.deferred + self.waiting_for_version + self.unreadable;
        self.found == self.recovered + self.failed + self.skipped + apart && self.not_reached <= self.deferred
    }
}

impl RecoveryReport {
    /// Keeps a recovery or a failure, and forgets the oldest one beyond the limit.
    pub fn note(&mut self, one: RecentSaga) {
        let kept = if one.reason.is_some() { &mut self.recent_failures } else { &mut self.recent_recoveries };
        if kept.len() == RECENT_MAX {
            kept.pop_front();
        }
        kept.push_back(one);
    }
}

impl fmt::Display for RecoveryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals {
            started,
            recovered,
            finished,
            given_up,
            fenced,
            running,
            resuming,
            failures,
            missing,
            bad_state,
        } = self.totals;
        writeln!(f, "since the coordinator started:")?;
        lines(
            f,
            &[
                ("sagas recovered", recovered),
                ("saga recovery errors", failures),
                ("sagas observed started", started),
                ("sagas finished", finished),
                ("sagas given up", given_up),
                ("sagas fenced", fenced),
                ("running now", running),
                ("being resumed now", resuming),
                ("missing from the executor", missing),
                ("bad state in the executor", bad_state),
            ],
        )?;
        match &self.last_pass {
            LastPass::NeverRun => writeln!(f, "last pass: never run")?,
            LastPass::ListingFailed { reason } => writeln!(f, "last pass: FAILED: {reason}")?,
            LastPass::Completed(pass) => {
                let PassReport { found, recovered, failed, skipped, deferred, .. } = *pass;
                writeln!(f, "last pass:")?;
                lines(
                    f,
                    &[
                        ("found sagas", found),
                        ("recovered", recovered),
                        ("failed", failed),
                        ("skipped (running here)", skipped),
                        ("deferred", deferred),
                        ("  of these, not reached", pass.not_reached),
                        ("waiting for a version", pass.waiting_for_version),
                        ("cannot be read", pass.unreadable),
                    ],
                )?;
            }
        }
        recent(f, "recovered sagas", &self.recent_recoveries)?;
        recent(f, "saga recovery failures", &self.recent_failures)
    }
}

fn lines(f: &mut fmt::Formatter<'_>, lines: &[(&str, u64)]) -> fmt::Result {
    lines.iter().try_for_each(|(what, count)| writeln!(f, "    {what:<26} {count:>6}"))
}

fn recent(f: &mut fmt::Formatter<'_>, what: &str, sagas: &VecDeque<RecentSaga>) -> fmt::Result {
    if sagas.is_empty() {
        return writeln!(f, "no {what}");
    }
    writeln!(f, "recent {what}:")?;
    sagas.iter().try_for_each(|one| {
        write!(f, "    {:.0}  {}", one.time, one.saga.id)?;
        writeln!(f, "{}", one.reason.as_ref().map(|reason| format!("  {reason}")).unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use ids::{AdoptionEpoch, SagaId};
    use uuid::Uuid;

    /// Every number is another one, so that a line that prints a wrong one shows.
    #[test]
    fn every_line_prints_its_own_number() {
        let totals = Totals {
            started: 11,
            recovered: 12,
            finished: 13,
            given_up: 14,
            fenced: 15,
            running: 16,
            resuming: 17,
            failures: 18,
            missing: 19,
            bad_state: 20,
        };
        let pass = PassReport {
            found: 21,
            recovered: 22,
            failed: 23,
            skipped: 24,
            deferred: 25,
            not_reached: 26,
            waiting_for_version: 27,
            unreadable: 28,
        };
        let mut report =
            RecoveryReport { totals, last_pass: LastPass::Completed(pass), ..RecoveryReport::default() };
        let saga = SagaKey { id: SagaId(Uuid::from_u128(7)), epoch: AdoptionEpoch(1) };
        report.note(RecentSaga {
            time: Timestamp::UNIX_EPOCH,
            saga,
            reason: Some("no such action".to_owned()),
        });
        let lines: Vec<String> = report
            .to_string()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "since the coordinator started:",
                "sagas recovered 12",
                "saga recovery errors 18",
                "sagas observed started 11",
                "sagas finished 13",
                "sagas given up 14",
                "sagas fenced 15",
                "running now 16",
                "being resumed now 17",
                "missing from the executor 19",
                "bad state in the executor 20",
                "last pass:",
                "found sagas 21",
                "recovered 22",
                "failed 23",
                "skipped (running here) 24",
                "deferred 25",
                "of these, not reached 26",
                "waiting for a version 27",
                "cannot be read 28",
                "no recovered sagas",
                "recent saga recovery failures:",
                "1970-01-01T00:00:00Z 00000000-0000-0000-0000-000000000007 no such action",
            ]
        );
    }

    #[test]
    fn only_the_newest_are_kept() {
        let mut report = RecoveryReport::default();
        for number in 0..200 {
            let saga = SagaKey { id: SagaId(Uuid::from_u128(number)), epoch: AdoptionEpoch(1) };
            report.note(RecentSaga { time: Timestamp::UNIX_EPOCH, saga, reason: None });
        }
        assert_eq!(report.recent_recoveries.len(), 128);
        assert_eq!(report.recent_recoveries[0].saga.id, SagaId(Uuid::from_u128(72)));
        assert!(report.recent_failures.is_empty());
    }
}
