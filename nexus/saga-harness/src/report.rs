//! What came of a case: counts, and each scenario in which something is wrong.

use std::{collections::BTreeSet, fmt};

/// The environment variable with the line of the one scenario that is to be run.
pub const REPLAY_VARIABLE: &str = "BOBSLED_SAGA_REPLAY";

/// Findings that [`Report::assert_proven`] shows with their traces; of the others, the line.
const TRACES_SHOWN: usize = 2;
/// Findings of which it shows the line.
const LINES_SHOWN: usize = 30;

/// What came of a case.
#[derive(Clone, Debug)]
pub struct Report {
    /// `kind/case`.
    pub case: String,
    /// The kind's name.
    pub kind: String,
    /// The version of its definition.
    pub version: u32,
    /// Where its sagas were durable.
    pub backend: String,
    /// Runs.
    pub scenarios: u64,
    /// How often the kind's own code has run, actions and undos.
    pub executions: u64,
    /// Writes to the store.
    pub writes: u64,
    /// It took, seconds.
    pub seconds: f64,
    /// (Action's name, whether its undo) whose own code has run to its end without a fault.
    pub executed: BTreeSet<(String, bool)>,
    /// What was found, simple scenarios first.
    pub findings: Vec<Finding>,
    /// Whether one scenario alone was asked for: then nothing is said about coverage.
    pub is_replay: bool,
}

/// A scenario in which something is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its line.
    pub scenario: String,
    /// The first thing that was found.
    pub words: String,
    /// Every write and every execution, in order.
    pub trace: Vec<String>,
}

impl Report {
    /// Nothing was found.
    ///
    /// # Panics
    /// Something was; with the traces, and how to replay them.
    #[allow(clippy::panic, reason = "a test fails by panicking")]
    pub fn assert_proven(&self) {
        if !self.findings.is_empty() {
            panic!("{}", self.account());
        }
    }

    /// What was found, for people.
    #[must_use]
    pub fn account(&self) -> String {
        let mut text = format!("{self}\n");
        for finding in self.findings.iter().take(TRACES_SHOWN) {
            text.push_str(&format!("\n{finding}"));
        }
        if self.findings.len() > TRACES_SHOWN {
            text.push_str("\nalso:\n");
        }
        for finding in self.findings.iter().skip(TRACES_SHOWN).take(LINES_SHOWN) {
            text.push_str(&format!("  {}\n    {}\n", finding.scenario, finding.words));
        }
        let left = self.findings.len().saturating_sub(TRACES_SHOWN + LINES_SHOWN);
        if left > 0 {
            text.push_str(&format!("  and {left} more\n"));
        }
        text
    }

    /// Whether a scenario of this line found something.
    #[must_use]
    pub fn has_found(&self, scenario: &str) -> bool {
        self.findings.iter().any(|finding| finding.scenario == scenario)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} version {} on {}: {} scenarios, {} executions, {} writes in {:.1} s: {}",
            self.case,
            self.version,
            self.backend,
            self.scenarios,
            self.executions,
            self.writes,
            self.seconds,
            match self.findings.len() {
                0 => "nothing found".to_owned(),
                1 => "1 scenario with a finding".to_owned(),
                many => format!("{many} scenarios with findings"),
            }
        )
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "found:    {}", self.words)?;
        writeln!(f, "scenario: {}", self.scenario)?;
        for line in &self.trace {
            writeln!(f, "  {line}")?;
        }
        writeln!(f, "replay:   {REPLAY_VARIABLE}='{}' cargo test", self.scenario)
    }
}
