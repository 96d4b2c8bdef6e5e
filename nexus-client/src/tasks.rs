//! Background tasks as an operator sees them.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// One background task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct BackgroundTask {
    /// Its name.
    pub name: String,
    /// What it does, in a sentence.
    pub description: String,
    /// Seconds between two passes when nothing else activates it.
    pub period_seconds: f64,
    /// The pass that runs now.
    pub running: Option<RunningPass>,
    /// The pass that ended last.
    pub last: Option<FinishedPass>,
    /// Passes that ended well since the coordinator started.
    pub succeeded: u64,
    /// Passes that failed since the coordinator started.
    pub failed: u64,
    /// Passes that failed since the last one that ended well; the task backs off while this grows.
    pub failed_in_a_row: u64,
    /// The last passes, newest first.
    #[serde(default)]
    pub recent: Vec<FinishedPass>,
}

/// A pass that runs now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunningPass {
    /// Its number; the first is 1.
    pub iteration: u64,
    /// What activated it: `start`, `timer`, `retry`, `operator`, or the name of an event; several
    /// are joined by commas.
    pub trigger: String,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
}

/// A pass that has ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct FinishedPass {
    /// Its number; the first is 1.
    pub iteration: u64,
    /// What activated it.
    pub trigger: String,
    /// When it started.
    #[schema(value_type = String, format = DateTime)]
    pub started_at: Timestamp,
    /// How long it took, in seconds.
    pub duration_seconds: f64,
    /// Why it failed; none if it ended well.
    pub error: Option<String>,
    /// What it did; each task has its own shape.
    pub report: serde_json::Value,
}

/// Whether to wait for the pass.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ActivateQuery {
    /// Wait for the end of a pass that starts after this call.
    #[serde(default)]
    pub wait: bool,
}
