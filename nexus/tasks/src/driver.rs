//! The driver's public face: which tasks there are, what they have done, asking for a pass, stopping.
//!
//! Order is in the types: tasks are added to a [`TaskSet`], [`TaskSet::start`] turns it into a [`Driver`], and a driver
//! takes no more tasks.

use crate::{
    activator::Activator,
    pass_loop::{PassLoop, Stop},
    settings::Settings,
    status::Record,
    task::{BackgroundTask, Reason},
};
use nexus_client::tasks::{BackgroundTask as TaskStatus, FinishedPass};
use rand::{SeedableRng, rngs::SmallRng};
use std::{collections::BTreeMap, time::Duration};
use thiserror::Error;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};

/// How much longer than the limit a shutdown waits for loops to record that their pass was cut off. Cutting off is
/// immediate unless a task blocks its thread.
const CUT_OFF_GRACE: Duration = Duration::from_secs(1);

/// A task that the driver does not have.
#[derive(Debug, Error)]
#[error("there is no background task {name:?}; there are: {}", known.join(", "))]
pub struct UnknownTask {
    /// What was asked for.
    pub name: String,
    /// What there is.
    pub known: Vec<&'static str>,
}

/// Why a pass could not be waited for.
#[derive(Debug, Error)]
pub enum ActivateError {
    /// There is no such task.
    #[error(transparent)]
    Unknown(#[from] UnknownTask),
    /// The driver stops; the pass that was asked for will not run in this life.
    #[error("background task {name:?} stops before the pass that was asked for has ended")]
    Stopped {
        /// The task.
        name: &'static str,
    },
}

/// Tasks that did not stop: they block their thread, so that their pass cannot be cut off.
#[derive(Debug, Error)]
#[error("background tasks still run after {waited:?}: {}", names.join(", "))]
pub struct StillRunning {
    /// The tasks.
    pub names: Vec<&'static str>,
    /// How long was waited for them in all.
    pub waited: Duration,
}

/// Tasks on their way into a driver.
#[derive(Default)]
pub struct TaskSet {
    tasks: BTreeMap<&'static str, Entry>,
}

struct Entry {
    task: Box<dyn BackgroundTask>,
    settings: Settings,
    activator: Activator,
}

impl TaskSet {
    /// No task yet.
    #[must_use]
    pub fn new() -> TaskSet {
        TaskSet::default()
    }

    /// Adds a task, its settings, and the activator that asks for its passes.
    ///
    /// # Panics
    ///
    /// If another task has that name or that activator: a mistake in the program, found at its start.
    pub fn add(
        &mut self,
        task: impl BackgroundTask,
        settings: Settings,
        activator: &Activator,
    ) -> &mut TaskSet {
        let name = task.name();
        assert!(activator.claim(), "the activator given with background task {name:?} has a task already");
        let entry = Entry { task: Box::new(task), settings, activator: activator.clone() };
        assert!(self.tasks.insert(name, entry).is_none(), "background task {name:?} was added twice");
        self
    }

    /// Starts every task with a first pass. Must be called within a tokio runtime.
    #[must_use = "dropping the driver stops it"]
    pub fn start(self) -> Driver {
        let (stop, stopping) = watch::channel(None);
        let start = |(name, Entry { task, settings, activator })| {
            let (record, history) = watch::channel(Record::new(name, task.description(), &settings));
            let handle = Handle { activator: activator.clone(), history };
            let jitter = SmallRng::from_os_rng();
            let pass_loop = PassLoop { task, settings, activator, record, stop: stopping.clone(), jitter };
            tokio::spawn(pass_loop.run());
            (name, handle)
        };
        let tasks = self.tasks.into_iter().map(start).collect();
        Driver { tasks, stop }
    }
}

/// Runs background tasks, each in a tokio task of its own, so that none waits for another. Dropping it stops them at
/// once; [`Driver::shutdown`] lets running passes end.
#[derive(Debug)]
pub struct Driver {
    tasks: BTreeMap<&'static str, Handle>,
    stop: watch::Sender<Stop>,
}

#[derive(Debug)]
struct Handle {
    activator: Activator,
    /// Closed when the task's loop has ended.
    history: watch::Receiver<Record>,
}

impl Driver {
    /// Every task, by name, with its last pass only. Never waits for a pass.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskStatus> {
        self.tasks.values().map(|handle| handle.history.borrow().to_wire(false)).collect()
    }

    /// One task with its last [`RECENT_PASSES_MAX`](crate::RECENT_PASSES_MAX) passes. Never waits for a pass.
    pub fn task(&self, name: &str) -> Result<TaskStatus, UnknownTask> {
        let (_, handle) = self.find(name)?;
        Ok(handle.history.borrow().to_wire(true))
    }

    /// Asks for a pass and does not wait for it.
    pub fn activate(&self, name: &str, reason: Reason) -> Result<(), UnknownTask> {
        let (_, handle) = self.find(name)?;
        handle.activator.activate(reason);
        Ok(())
    }

    /// Asks for a pass and waits for the end of one that started after this call. A pass that failed is an `Ok` with
    /// its `error` set. Dropping the future takes nothing back: the pass runs all the same.
    pub async fn activate_and_wait(&self, name: &str, reason: Reason) -> Result<FinishedPass, ActivateError> {
        let (name, handle) = self.find(name)?;
        let mut history = handle.history.clone();
        let ticket = handle.activator.request(reason);
        let answer = history.wait_for(|record| record.has_answered(ticket)).await;
        let record = answer.map_err(|_| ActivateError::Stopped { name })?;
        Ok(record.last().cloned().expect("a request is answered by a pass that has ended"))
    }

    /// Stops every task: none starts a further pass; a pass that runs may go on for `limit`, then it is cut off and
    /// recorded as failed. Answers when all have stopped. Calling it again is harmless; the first limit holds.
    pub async fn shutdown(&self, limit: Duration) -> Result<(), StillRunning> {
        let now = Instant::now();
        self.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            stop.get_or_insert(now + limit);
            first
        });
        let last_call = now + limit + CUT_OFF_GRACE;
        let mut names = Vec::new();
        for (name, handle) in &self.tasks {
            let mut history = handle.history.clone();
            let ended = async { while history.changed().await.is_ok() {} };
            if timeout_at(last_call, ended).await.is_err() {
                names.push(*name);
            }
        }
        if names.is_empty() { Ok(()) } else { Err(StillRunning { names, waited: now.elapsed() }) }
    }

    fn find(&self, name: &str) -> Result<(&'static str, &Handle), UnknownTask> {
        let found = self.tasks.get_key_value(name).map(|(name, handle)| (*name, handle));
        found
            .ok_or_else(|| UnknownTask { name: name.to_owned(), known: self.tasks.keys().copied().collect() })
    }
}
