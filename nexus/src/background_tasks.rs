//! The registry of background tasks: which ones this coordinator has, when each runs, what it runs after. What tasks do is
//! in files of their own, what a driver does in `nexus-tasks`.
//!
//! To add a task: its own file; here its name in [`NAMES`] and its line in [`start`]; its row in `docs/TASKS.md`. A name
//! that is missing in one of them fails a test or the first start.

use crate::{
    config::TaskSettings,
    releases::CleanUp,
    replication::ReplicationTask,
    sagas::{recovery::RecoveryTask, retention::RetentionTask},
};
use nexus_tasks::{Activator, Driver, Settings, TaskSet};
use std::{collections::BTreeMap, time::Duration};
use thiserror::Error;

/// Every background task of this coordinator, in order. Config keys are checked against them before anything starts.
pub const NAMES: &[&str] = &["artifact_replication", "saga_recovery", "saga_retention", "staging_cleanup"];

/// Between two looks for uploads that nothing needs. They only take up room, and are rare.
const CLEAN_UP_PERIOD: Duration = Duration::from_secs(60);

/// Between two looks for sagas that nobody executes. A pass that finds none costs a query of an index without rows.
const RECOVERY_PERIOD: Duration = Duration::from_secs(60);

/// Between two looks for sagas that ended long ago.
const RETENTION_PERIOD: Duration = Duration::from_secs(3_600);

/// A config that speaks of a task that is not there.
#[derive(Debug, Error)]
#[error("tasks.{name}: there is no background task of that name; there are: {}", NAMES.join(", "))]
pub struct UnknownTask {
    /// What the file says.
    pub name: String,
}

/// Checks that the config speaks only of tasks that there are.
pub fn verify(config: &BTreeMap<String, TaskSettings>) -> Result<(), UnknownTask> {
    match config.keys().find(|name| !NAMES.contains(&name.as_str())) {
        Some(name) => Err(UnknownTask { name: name.clone() }),
        None => Ok(()),
    }
}

/// Everything that tasks are made of.
pub(crate) struct Parts {
    pub(crate) replication: ReplicationTask,
    pub(crate) replication_activator: Activator,
    pub(crate) replication_period: Duration,
    pub(crate) recovery: RecoveryTask,
    pub(crate) recovery_activator: Activator,
    pub(crate) retention: RetentionTask,
    pub(crate) retention_activator: Activator,
    pub(crate) clean_up: CleanUp,
}

/// Starts every background task, with what the config says of each.
pub(crate) fn start(parts: Parts, config: &BTreeMap<String, TaskSettings>) -> Driver {
    let Parts {
        replication,
        replication_activator,
        replication_period,
        recovery,
        recovery_activator,
        retention,
        retention_activator,
        clean_up,
    } = parts;
    let mut tasks = TaskSet::new();
    let every = |name: &str, period| {
        let settings = Settings::every(period);
        config.get(name).map_or(settings, |config| config.applied_to(settings))
    };
    tasks.add(replication, every("artifact_replication", replication_period), &replication_activator);
    tasks.add(recovery, every("saga_recovery", RECOVERY_PERIOD), &recovery_activator);
    tasks.add(retention, every("saga_retention", RETENTION_PERIOD), &retention_activator);
    tasks.add(clean_up, every("staging_cleanup", CLEAN_UP_PERIOD), &Activator::new());
    assert!(tasks.names().eq(NAMES.iter().copied()), "NAMES is not what is registered");
    tasks.start()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../docs/TASKS.md");

    #[test]
    fn every_task_is_documented_and_every_documented_task_is_there() {
        let table = DOCUMENT.split("\n## The tasks\n").nth(1).expect("a chapter of the tasks");
        let table = table.split("\n## ").next().unwrap();
        let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
        let documented: Vec<&str> = rows.filter_map(|row| row.split('`').next()).collect();
        assert_eq!(documented, NAMES, "docs/TASKS.md has a row for each, in order");
    }
}
