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
    /// Seconds between two passes at most when nothing else activates it.
    pub period_seconds: f64,
    /// Whether the period activates it. Off, everything else still does: a person, an event, a dependency, and the
    /// back-off after a failed pass.
    #[serde(default = "yes")]
    pub periodic: bool,
    /// Seconds that a pass may take before it is cut off; none if there is no limit.
    #[serde(default)]
    pub time_limit_seconds: Option<f64>,
    /// What else activates it, as `trigger` of its passes says it: `after another_task`, `changed something`. Events
    /// and people, which may activate any task, are not listed.
    #[serde(default)]
    pub dependencies: Vec<String>,
    /// Set while the task is paused: no pass starts.
    #[serde(default)]
    pub paused: Option<Pause>,
    /// When its next pass starts if nothing activates it earlier; none while one runs, while it is paused without an
    /// end, and where only an activation starts the next.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub next_at: Option<Timestamp>,
    /// The pass that runs now.
    pub running: Option<RunningPass>,
    /// The pass that ended last.
    pub last: Option<FinishedPass>,
    /// When the last pass ended that ended well.
    #[serde(default)]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub last_success_at: Option<Timestamp>,
    /// Passes that ended well since the coordinator started.
    pub succeeded: u64,
    /// Passes that failed since the coordinator started, in whatever way.
    pub failed: u64,
    /// Of these, passes that panicked: mistakes in the program.
    #[serde(default)]
    pub panicked: u64,
    /// Of these, passes that were cut off by their time limit.
    #[serde(default)]
    pub timed_out: u64,
    /// Passes that failed since the last one that ended well; the task backs off while this grows.
    pub failed_in_a_row: u64,
    /// The last passes, newest first. Left out where tasks are listed.
    #[serde(default)]
    pub recent: Vec<FinishedPass>,
    /// Only in the answer to `activate?wait=true`: the pass that answers this activation, the first that started after
    /// it. Later ones may have ended since; `last` is the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<FinishedPass>,
}

/// A coordinator that does not say so knows no other way.
fn yes() -> bool {
    true
}

/// A task that is paused. It lasts until somebody resumes it, until its end, or until the coordinator restarts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Pause {
    /// Since when.
    #[schema(value_type = String, format = DateTime)]
    pub since: Timestamp,
    /// When it ends by itself; none if it does not.
    #[schema(value_type = Option<String>, format = DateTime)]
    pub until: Option<Timestamp>,
    /// Why, in the words of the person who paused it.
    pub reason: Option<String>,
}

/// A pass that runs now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RunningPass {
    /// Its number; the first is 1.
    pub iteration: u64,
    /// What activated it: `start`, `timer`, `retry`, `operator`, `after` a task, `changed` something, or the name of an
    /// event; several are joined by commas.
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
    /// How it ended.
    #[serde(default)]
    pub outcome: PassOutcome,
    /// Why it failed; none if it ended well.
    pub error: Option<String>,
    /// What it did; each task has its own shape.
    pub report: serde_json::Value,
}

/// How a pass ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum PassOutcome {
    /// Well.
    Succeeded,
    /// It said that it failed.
    Failed,
    /// It panicked.
    Panicked,
    /// It was cut off by its time limit.
    TimedOut,
    /// It was cut off because the coordinator stops.
    Stopped,
    /// A word that this program is too old to know; never sent.
    #[default]
    #[serde(other)]
    Unrecognized,
}

impl PassOutcome {
    /// Every outcome that a pass can have.
    pub const ALL: [PassOutcome; 5] = [
        PassOutcome::Succeeded,
        PassOutcome::Failed,
        PassOutcome::Panicked,
        PassOutcome::TimedOut,
        PassOutcome::Stopped,
    ];

    /// The word that stands for it on the wire.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            PassOutcome::Succeeded => "succeeded",
            PassOutcome::Failed => "failed",
            PassOutcome::Panicked => "panicked",
            PassOutcome::TimedOut => "timed_out",
            PassOutcome::Stopped => "stopped",
            PassOutcome::Unrecognized => "unrecognized",
        }
    }
}

/// Whether to wait for the pass.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct ActivateQuery {
    /// Wait for the end of a pass that starts after this call.
    #[serde(default)]
    pub wait: bool,
}

/// How to pause a task.
#[derive(Clone, Debug, Default, Serialize, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct PauseQuery {
    /// Seconds after which it goes on by itself, 1 to 31536000 (a year); without, somebody must resume it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(minimum = 1, maximum = 31_536_000)]
    pub for_seconds: Option<u32>,
    /// Why, for those who find it paused; at most 200 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(max_length = 200)]
    pub reason: Option<String>,
}

/// A change to when a task runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TaskUpdate {
    /// Whether the period activates it, from now on until the coordinator restarts.
    pub periodic: bool,
}
