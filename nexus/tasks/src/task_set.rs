//! Tasks on their way into a driver, and what they depend on. Mistakes in the program (a name twice, a circle of tasks that
//! wait for each other) end it here, at its start.

use crate::{
    activator::Activator,
    driver::{Driver, Handle},
    pass_loop::{PassLoop, Stop},
    settings::Settings,
    state::TaskState,
    task::{BackgroundTask, Reason},
};
use futures::future::BoxFuture;
use rand::{SeedableRng, rngs::SmallRng};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
};
use tokio::{sync::watch, time::Instant};

/// Tasks on their way into a driver.
#[derive(Default)]
pub struct TaskSet {
    tasks: BTreeMap<&'static str, Entry>,
}

struct Entry {
    task: Box<dyn BackgroundTask>,
    settings: Settings,
    activator: Activator,
    /// The tasks after whose passes it runs.
    after: Vec<Activator>,
    watched: Vec<Watched>,
}

/// Something that changes.
struct Watched {
    reason: Reason,
    /// Asks for a pass at each change, until there can be no further one.
    forward: BoxFuture<'static, ()>,
}

/// A task that has been added: what else activates it.
pub struct Added<'a> {
    entry: &'a mut Entry,
}

impl TaskSet {
    /// No task yet.
    #[must_use]
    pub fn new() -> TaskSet {
        TaskSet::default()
    }

    /// Adds a task, its settings, and the activator that asks for its passes. What else activates it is said of the
    /// answer.
    ///
    /// # Panics
    ///
    /// If another task has that name or that activator.
    pub fn add(&mut self, task: impl BackgroundTask, settings: Settings, activator: &Activator) -> Added<'_> {
        let name = task.name();
        let before = activator.claim(name);
        assert!(
            before.is_none(),
            "the activator given with background task {name:?} has a task already: {before:?}"
        );
        assert!(!self.tasks.contains_key(name), "background task {name:?} was added twice");
        let entry = Entry {
            task: Box::new(task),
            settings,
            activator: activator.clone(),
            after: Vec::new(),
            watched: Vec::new(),
        };
        Added { entry: self.tasks.entry(name).or_insert(entry) }
    }

    /// The names of all tasks, in order.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.tasks.keys().copied()
    }

    /// Starts every task with a first pass. Must be called within a tokio runtime.
    ///
    /// # Panics
    ///
    /// If a task runs after one that is not in the set, or, over however many others, after itself: that would be passes
    /// without end.
    #[must_use = "dropping the driver stops it"]
    pub fn start(self) -> Driver {
        let predecessors = self.predecessors();
        refuse_circles(&predecessors);
        let activators: BTreeMap<_, _> =
            self.tasks.iter().map(|(name, entry)| (*name, entry.activator.clone())).collect();
        let dependents_of = |name: &'static str| {
            let of_it = activators.iter().filter(|(other, _)| predecessors[*other].contains(name));
            of_it.map(|(_, activator)| activator.clone()).collect()
        };
        let (stop, stopping) = watch::channel(None);
        let start = |(name, entry): (&'static str, Entry)| {
            let dependents = dependents_of(name);
            (name, entry.start(&predecessors[name], dependents, &stopping))
        };
        let tasks = self.tasks.into_iter().map(start).collect();
        Driver::new(tasks, stop)
    }

    /// For each task those after which it runs.
    fn predecessors(&self) -> BTreeMap<&'static str, BTreeSet<&'static str>> {
        let names = |(name, entry): (&&'static str, &Entry)| {
            let known = |activator: &Activator| {
                let task = activator.task().filter(|task| self.tasks.contains_key(task));
                task.unwrap_or_else(|| panic!("background task {name:?} runs after one that was not added"))
            };
            (*name, entry.after.iter().map(known).collect())
        };
        self.tasks.iter().map(names).collect()
    }
}

impl Added<'_> {
    /// A pass runs after each pass of the task that has this activator, however that one ended: one that failed may have
    /// changed something too. The other may be added later.
    pub fn after(self, other: &Activator) -> Self {
        self.entry.after.push(other.clone());
        self
    }

    /// A pass runs when the value changes from now on; `what` is its name, in snake case. Any number of changes before a
    /// pass starts are one pass. Where there can be no further change, because the sender is gone, nothing more comes of it.
    pub fn when_changed<T: Send + Sync + 'static>(
        self,
        what: &'static str,
        mut value: watch::Receiver<T>,
    ) -> Self {
        let reason = Reason::Changed(what);
        let (task, activator) = (self.entry.task.name(), self.entry.activator.clone());
        value.mark_unchanged();
        let forward = async move {
            // An error is a sender that is gone: an end, not a change.
            while value.changed().await.is_ok() {
                activator.activate(reason);
            }
            tracing::debug!(task, what, "nothing changes this any more");
        };
        self.entry.watched.push(Watched { reason, forward: Box::pin(forward) });
        self
    }
}

impl Entry {
    fn start(
        self,
        after: &BTreeSet<&'static str>,
        dependents: Vec<Activator>,
        stopping: &watch::Receiver<Stop>,
    ) -> Handle {
        let Entry { task, settings, activator, watched, .. } = self;
        let reasons = after.iter().copied().map(Reason::After).chain(watched.iter().map(|it| it.reason));
        let dependencies = reasons.map(|reason| reason.to_string()).collect();
        let state = TaskState::new(task.name(), task.description(), dependencies, settings, Instant::now());
        let (state, changes) = watch::channel(state);
        let state = Arc::new(state);
        for Watched { forward, .. } in watched {
            let mut stop = stopping.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = forward => {}
                    // An error is a driver that was dropped, which is a stop, too.
                    _ = stop.wait_for(Option::is_some) => {}
                }
            });
        }
        let pass_loop = PassLoop {
            task,
            time_limit: settings.time_limit,
            activator: activator.clone(),
            dependents,
            state: Arc::clone(&state),
            changes,
            stop: stopping.clone(),
            jitter: SmallRng::from_os_rng(),
        };
        tokio::spawn(pass_loop.run());
        Handle { activator, state }
    }
}

impl fmt::Debug for Added<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Added").field("task", &self.entry.task.name()).finish_non_exhaustive()
    }
}

/// Takes away tasks that wait for none that is left, until there is none: what cannot be taken away is a circle.
fn refuse_circles(predecessors: &BTreeMap<&'static str, BTreeSet<&'static str>>) {
    let mut left = predecessors.clone();
    loop {
        let names: BTreeSet<&'static str> = left.keys().copied().collect();
        left.retain(|_, waits_for| !waits_for.is_disjoint(&names));
        if left.len() == names.len() {
            break;
        }
    }
    let circle: Vec<&str> = left.keys().copied().collect();
    assert!(circle.is_empty(), "background tasks run after each other in a circle: {}", circle.join(", "));
}
