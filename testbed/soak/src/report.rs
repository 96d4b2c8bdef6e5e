//! What is told when it is over: JSON for programs, a table for people, every finding with its evidence.

use crate::{creation::CreationReport, kills::KillReport, ledger::Finding};
use serde::Serialize;
use std::fmt;

/// Both runs, as far as they were made.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct SoakReport {
    /// Run A.
    pub creation: Option<CreationReport>,
    /// Run B.
    pub kills: Option<KillReport>,
}

impl SoakReport {
    /// Whether nothing was found wrong.
    #[must_use]
    pub fn is_well(&self) -> bool {
        self.findings().next().is_none()
    }

    fn findings(&self) -> impl Iterator<Item = (u64, &Finding)> {
        let creation = self.creation.iter().flat_map(|run| run.findings.iter().map(|it| (run.seed, it)));
        creation.chain(self.kills.iter().flat_map(|run| run.findings.iter().map(|it| (run.seed, it))))
    }
}

impl fmt::Display for SoakReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(run) = &self.creation {
            let rate = run.acknowledged as f64 / run.seconds.max(0.001);
            writeln!(f, "A  {} clients create sagas, recovery in a loop (seed {})", run.clients, run.seed)?;
            line(f, "sagas acknowledged", run.acknowledged)?;
            line(f, "ended, effects exactly once", run.ended - run.repeated.min(run.ended))?;
            line(f, "passes of recovery", run.activations)?;
            line(f, "recovered (wanted: 0)", run.totals.recovered)?;
            line(f, "rows in the database", run.audit.rows.all)?;
            line(f, "seconds", format!("{:.1} ({rate:.0} sagas/s)", run.seconds))?;
            line(f, "findings", run.findings.len())?;
        }
        if let Some(run) = &self.kills {
            let events = run.audit.events;
            writeln!(f, "B  {} clients, SIGKILL at random instants (seed {})", run.clients, run.seed)?;
            line(f, "kills", format!("{} ({} while starting)", run.kills, run.kills_while_starting))?;
            line(f, "sagas acknowledged", run.acknowledged)?;
            line(f, "ended as they should", run.ended)?;
            line(f, "succeeded, failed", format!("{}, {}", run.audit.rows.succeeded, run.audit.rows.failed))?;
            line(f, "nodes run again, in flight at a kill", run.repeated)?;
            line(f, "answers lost and asked again", run.lost_answers)?;
            let log = format!("{} = {} + {}", events.started, events.succeeded, events.failed);
            line(f, "log: started = succeeded + failed", log)?;
            line(f, "log: undone", format!("{} = {}", events.undo_started, events.undo_finished))?;
            line(f, "seconds", format!("{:.1}", run.seconds))?;
            line(f, "findings", run.findings.len())?;
        }
        for (seed, finding) in self.findings() {
            write!(f, "\nwrong (seed {seed}): {finding}")?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, what: &str, value: impl fmt::Display) -> fmt::Result {
    writeln!(f, "   {what:<38} {value:>12}")
}
