//! What was found wrong, by whomever. One finding is enough: clients end, and the run does.

use serde::Serialize;
use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Findings beyond so many are only counted: one mistake in a volume is one in thousands of blocks.
const KEPT_MAX: usize = 20;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The round in which it was found, as the run counts them.
    pub round: String,
    /// The block of the volume, if it is about one.
    pub block: Option<u64>,
    /// What is wrong.
    pub what: String,
    /// What is known beside it: the history of the block, or the ends of logs.
    pub evidence: String,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pages: Mutex<Pages>,
}

#[derive(Debug, Default)]
struct Pages {
    round: String,
    all: Vec<Finding>,
    more: usize,
}

impl Findings {
    /// What is found from now on is of this round.
    pub(crate) fn begin_round(&self, round: &str) {
        round.clone_into(&mut self.lock().round);
    }

    pub(crate) fn add(&self, block: Option<u64>, what: impl Into<String>, evidence: impl Into<String>) {
        let mut pages = self.lock();
        if pages.all.len() == KEPT_MAX {
            pages.more += 1;
            return;
        }
        let round = pages.round.clone();
        pages.all.push(Finding { round, block, what: what.into(), evidence: evidence.into() });
    }

    pub(crate) fn are_there(&self) -> bool {
        !self.lock().all.is_empty()
    }

    pub(crate) fn take(&self) -> Vec<Finding> {
        let mut pages = self.lock();
        let mut all = std::mem::take(&mut pages.all);
        if pages.more > 0 {
            let what = format!("{} more", pages.more);
            all.push(Finding { round: pages.round.clone(), block: None, what, evidence: String::new() });
        }
        all
    }

    fn lock(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.block {
            Some(block) => writeln!(f, "{}: block {block}: {}", self.round, self.what)?,
            None => writeln!(f, "{}: {}", self.round, self.what)?,
        }
        self.evidence.lines().try_for_each(|line| writeln!(f, "    {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_of_its_round_and_many_are_counted() {
        let findings = Findings::default();
        assert!(!findings.are_there());
        findings.begin_round("round 3");
        (0..25).for_each(|block| findings.add(Some(block), "wrong", "sent 1\nread 2"));
        let all = findings.take();
        assert_eq!(all[0].to_string(), "round 3: block 0: wrong\n    sent 1\n    read 2\n");
        assert_eq!((all.len(), all[20].what.as_str()), (21, "5 more"));
    }
}
