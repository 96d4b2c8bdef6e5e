//! What a background task is: a name, and one pass. When passes run is the driver's business.

use futures::future::BoxFuture;
use serde_json::Value;
use std::{collections::BTreeSet, error::Error, fmt};

/// A piece of recurring work.
///
/// A pass looks at the world, does what is missing, and says what it did. It takes no input (see the crate's
/// documentation for why), and it may be cut off at any `.await` by its time limit or by shutdown: whatever must
/// survive that is durable before the next `.await`, exactly as for a crash.
pub trait BackgroundTask: Send + 'static {
    /// Its name in URLs and logs: snake case, unique.
    fn name(&self) -> &'static str;

    /// What it does, in a sentence.
    fn description(&self) -> &'static str;

    /// One pass: `Box::pin(async move { … })`. Answers with its report, in the task's own shape.
    fn run<'a>(&'a mut self, activation: &'a Activation) -> PassFuture<'a>;
}

/// One pass under way.
pub type PassFuture<'a> = BoxFuture<'a, Result<Value, TaskFailure>>;

/// Why a pass runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Activation {
    /// The pass's number; the first is 1.
    pub iteration: u64,
    /// What asked for it since the pass before started; never empty. For logs and reports: a pass does all the work
    /// whatever the reason.
    pub reasons: BTreeSet<Reason>,
}

impl Activation {
    /// The reasons in words: `operator, transfer_ended`.
    #[must_use]
    pub fn trigger(&self) -> String {
        self.reasons.iter().map(Reason::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// What asks for a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// The driver has started.
    Start,
    /// The period is over.
    Timer,
    /// The back-off after a failed pass is over.
    Retry,
    /// A person asked.
    Operator,
    /// A pass of this task, on which the one at hand depends, has ended, in whatever way.
    After(&'static str),
    /// Something changed on which the task depends; named in snake case.
    Changed(&'static str),
    /// Something happened; named in snake case. Names are a closed set, so that pending reasons are bounded.
    Event(&'static str),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Start => f.write_str("start"),
            Reason::Timer => f.write_str("timer"),
            Reason::Retry => f.write_str("retry"),
            Reason::Operator => f.write_str("operator"),
            Reason::After(task) => write!(f, "after {task}"),
            Reason::Changed(what) => write!(f, "changed {what}"),
            Reason::Event(name) => f.write_str(name),
        }
    }
}

/// A pass that failed as a whole. A pass that did most of its work and could not do some of it succeeds, and its
/// report says what is left.
#[derive(Debug)]
pub struct TaskFailure {
    cause: Box<dyn Error + Send + Sync>,
    report: Value,
}

impl TaskFailure {
    /// A failure with its cause, and no report.
    pub fn new(cause: impl Into<Box<dyn Error + Send + Sync>>) -> TaskFailure {
        TaskFailure { cause: cause.into(), report: Value::Null }
    }

    /// Adds what the pass did before it failed.
    #[must_use]
    pub fn with_report(self, report: Value) -> TaskFailure {
        TaskFailure { report, ..self }
    }

    /// The cause with its own causes (`cannot list the sleds: database is locked`), and the report.
    pub(crate) fn into_parts(self) -> (String, Value) {
        let mut words = self.cause.to_string();
        let mut source = self.cause.source();
        while let Some(error) = source {
            words.push_str(": ");
            words.push_str(&error.to_string());
            source = error.source();
        }
        (words, self.report)
    }
}
