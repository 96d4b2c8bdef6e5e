//! Threads for work that waits for the disk, shared by all regions of a process. Owns how many there are.
//!
//! ```text
//!             ┌── somebody is idle ──► it takes the task
//!   task ─────┤
//!             └── nobody is ──► a new thread takes it ──► idle ──10 s without a task──► ends, but for one
//! ```
//!
//! A region has a sync, a checkpoint and [sixteen reads](crate::member) under way at most, so there are never more threads than that for each
//! region that is used just now; and none that a region keeps while nobody uses it. No task waits for one of another region: that one may be held up.

use std::{
    collections::VecDeque,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

/// A thread that has had nothing to do for so long ends.
const IDLE_MAX: Duration = Duration::from_secs(10);

type Task = Box<dyn FnOnce() + Send>;

/// The threads. They end with it.
#[derive(Debug)]
pub(crate) struct Workers {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    tasks: VecDeque<Task>,
    idle: usize,
    threads: usize,
    is_stopping: bool,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Queue { tasks, idle, threads, is_stopping } = self;
        write!(
            f,
            "Queue {{ {} tasks, {idle} of {threads} threads idle, is_stopping: {is_stopping} }}",
            tasks.len()
        )
    }
}

impl Workers {
    /// With the one thread that stays, so that a task is also done when the system gives no other.
    ///
    /// # Errors
    /// If it does not even give that.
    pub(crate) fn start() -> io::Result<Workers> {
        let workers = Workers { shared: Arc::default() };
        workers.add(Until::Stopped)?;
        Ok(workers)
    }

    /// Does it, soon, on another thread.
    pub(crate) fn run(&self, task: Task) {
        let mut queue = self.shared.queue();
        queue.tasks.push_back(task);
        let is_taken = queue.tasks.len() <= queue.idle;
        drop(queue);
        if is_taken {
            self.shared.changed.notify_one();
        } else if let Err(error) = self.add(Until::Idle) {
            tracing::warn!(%error, "there is no thread for the disk's work: it waits for others' to end");
        }
    }

    fn add(&self, until: Until) -> io::Result<()> {
        let shared = Arc::clone(&self.shared);
        shared.queue().threads += 1;
        let started = thread::Builder::new().name("work".to_owned()).spawn(move || shared.work(until));
        if started.is_err() {
            self.shared.queue().threads -= 1;
        }
        started.map(drop)
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.is_stopping = true;
        self.shared.changed.notify_all();
        while queue.threads > 0 {
            queue = self.shared.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// How long a thread works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    /// Until all end.
    Stopped,
    /// Until it has had nothing to do for a while.
    Idle,
}

impl Shared {
    fn work(&self, until: Until) {
        let mut queue = self.queue();
        loop {
            if let Some(task) = queue.tasks.pop_front() {
                drop(queue);
                // One that has panicked has said so; the next one is not its.
                let _ = catch_unwind(AssertUnwindSafe(task));
                queue = self.queue();
                continue;
            }
            if queue.is_stopping {
                break;
            }
            queue.idle += 1;
            let (woken, waited) =
                self.changed.wait_timeout(queue, IDLE_MAX).unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            queue.idle -= 1;
            if waited.timed_out() && queue.tasks.is_empty() && until == Until::Idle {
                break;
            }
        }
        queue.threads -= 1;
        self.changed.notify_all();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn wait_until_one_is_idle(workers: &Workers) {
        while workers.shared.queue().idle == 0 {
            thread::yield_now();
        }
    }

    #[test]
    fn a_task_that_hangs_holds_up_no_other() {
        let workers = Workers::start().expect("a thread");
        let (go, may_go) = channel::<()>();
        let (done, is_done) = channel();
        wait_until_one_is_idle(&workers);
        workers.run(Box::new(move || {
            may_go.recv().expect_err("nobody says go: the test ends");
        }));
        for number in 0..10 {
            let done = done.clone();
            workers.run(Box::new(move || done.send(number).expect("somebody waits")));
            assert_eq!(is_done.recv_timeout(Duration::from_secs(30)), Ok(number));
            // One hangs, and the other one is there for the next task, too.
            wait_until_one_is_idle(&workers);
            assert_eq!(workers.shared.queue().threads, 2, "{:?}", workers.shared);
        }
        drop(go);
    }

    #[test]
    fn a_task_that_panics_takes_no_thread_with_it() {
        let workers = Workers::start().expect("a thread");
        let before = workers.shared.queue().threads;
        let (done, is_done) = channel();
        workers.run(Box::new(|| panic!("this is a test")));
        workers.run(Box::new(move || done.send(()).expect("somebody waits")));
        assert_eq!(is_done.recv_timeout(Duration::from_secs(30)), Ok(()));
        assert!(workers.shared.queue().threads >= before);
    }

    #[test]
    fn what_was_given_before_the_end_is_done_before_the_end() {
        let workers = Workers::start().expect("a thread");
        let (done, is_done) = channel();
        for number in 0..100 {
            let done = done.clone();
            workers.run(Box::new(move || done.send(number).expect("somebody waits")));
        }
        let shared = Arc::clone(&workers.shared);
        drop(workers);
        drop(done);
        assert_eq!(is_done.iter().count(), 100);
        assert_eq!(shared.queue().threads, 0);
    }
}
